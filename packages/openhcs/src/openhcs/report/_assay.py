"""How well an assay works: what controls and replicates say of each measure."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from openhcs.functions import replicate_correlation, ssmd, z_prime
from openhcs.plates import Role, roles_of
from openhcs.report._measures import tells_of_the_assay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.plates import Platemap
    from openhcs.report._measures import Measure

__all__ = ["AssayView", "Separation", "assay_view"]

_SEPARATES: Final = 0.5
_FEWEST_CONDITIONS: Final = 3

Values = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """What controls and replicates say of one measure; NaN where they say nothing.

    Attributes
    ----------
    measure
        The measure.
    z_prime, robust_z_prime
        Of positive and negative controls.
    ssmd
        Above 0 where positive controls are higher.
    positive, negative
        Means of the controls.
    agreement
        Median of Pearson's correlations of replicates over the conditions of samples.
    """

    measure: Measure
    z_prime: float
    robust_z_prime: float
    ssmd: float
    positive: float
    negative: float
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AssayView:
    """What a platemap lets the page say of the assay.

    Attributes
    ----------
    positive, negative
        Wells of the controls that have a result.
    replicates, conditions
        Wells per condition, at most, and conditions with more than one of them.
    separations
        Of each measure, the clearest first.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    replicates: int
    conditions: int
    separations: tuple[Separation, ...]

    @property
    def controlled(self) -> bool:
        """Whether there are controls of both kinds that tell something."""
        return any(math.isfinite(each.ssmd) for each in self.separations)

    @property
    def replicated(self) -> bool:
        """Whether there are replicates that tell something."""
        return any(math.isfinite(each.agreement) for each in self.separations)

    @property
    def separating(self) -> int:
        """How many measures separate the controls well."""
        return sum(each.z_prime > _SEPARATES for each in self.separations)


def assay_view(
    platemap: Platemap, values: Mapping[str, Mapping[str, float]], measures: Sequence[Measure]
) -> AssayView:
    """Compare controls with each other, and replicates with their like.

    Parameters
    ----------
    platemap
        Its column ``role`` names the controls; wells with the same entry in every column are
        replicates.
    values
        Finite numbers by measure, for each well that has a result.
    measures
        To compare by; how long a well took and what was put into it are left out.
    """
    roles = roles_of(platemap)
    positive, negative = (
        tuple(well for well in values if roles.get(well) is role)
        for role in (Role.POSITIVE, Role.NEGATIVE)
    )
    alike = _replicates(platemap, values, roles)
    found = [
        _separation(measure, values, positive, negative, alike)
        for measure in measures
        if tells_of_the_assay(measure)
    ]
    return AssayView(
        positive=positive,
        negative=negative,
        replicates=max(map(len, alike), default=0),
        conditions=len(alike),
        separations=tuple(sorted(found, key=_clearness)),
    )


def _replicates(
    platemap: Platemap,
    values: Mapping[str, Mapping[str, float]],
    roles: Mapping[str, Role],
) -> list[tuple[str, ...]]:
    """Give wells with the same in them; controls agree by themselves, and are left out."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for well in values:
        cells = platemap.wells.get(well)
        if cells and any(cells) and roles.get(well, Role.SAMPLE) is Role.SAMPLE:
            groups[cells].append(well)
    return [tuple(wells) for wells in groups.values() if len(wells) > 1]


def _separation(
    measure: Measure,
    values: Mapping[str, Mapping[str, float]],
    positive: Sequence[str],
    negative: Sequence[str],
    alike: Sequence[Sequence[str]],
) -> Separation:
    def of(wells: Sequence[str]) -> list[float]:
        return [values[well].get(measure.name, math.nan) for well in wells]

    high, low = of(positive), of(negative)
    agreement = math.nan
    if len(alike) >= _FEWEST_CONDITIONS:
        most = max(map(len, alike))
        table = np.full((most, len(alike)), math.nan)
        for column, wells in enumerate(alike):
            table[: len(wells), column] = of(wells)
        agreement = replicate_correlation(table).median_pearson
    return Separation(
        measure=measure,
        z_prime=z_prime(high, low),
        robust_z_prime=z_prime(high, low, robust=True),
        ssmd=ssmd(high, low),
        positive=_mean(high),
        negative=_mean(low),
        agreement=agreement,
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _clearness(separation: Separation) -> tuple[float, float]:
    """Sort by Z', then by agreement; what is not known comes last."""
    return tuple(  # type: ignore[return-value]  # of two
        math.inf if math.isnan(value) else -value
        for value in (separation.z_prime, separation.agreement)
    )
