"""How measures answer to the doses of each compound, as a platemap names them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from openhcs.functions import DoseResponse, DoseVerdict, dose_response
from openhcs.plates import Role, roles_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from openhcs.plates import Platemap
    from openhcs.report._measures import Measure

__all__ = ["DoseCurve", "DoseView", "dose_views"]

_UM: Final = {"pm": 1e-6, "nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3, "m": 1e6}
_NAMED: Final = re.compile(r"(?:dose|conc|concentration)_(pm|nm|um|mm|m)")
_COMPOUNDS: Final = ("compound", "drug", "treatment")
_FEWEST: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseCurve:
    """One compound: its wells, and the curve through them.

    Attributes
    ----------
    compound
        As the platemap calls it.
    doses_um, values
        Of its wells, and of negative controls as dose 0.
    wells
        How many wells of them are the compound's own.
    fit
        The curve.
    """

    compound: str
    doses_um: tuple[float, ...]
    values: tuple[float, ...]
    wells: int
    fit: DoseResponse

    @property
    def believed(self) -> bool:
        """Whether the curve may be believed as a whole."""
        return self.fit.verdict is DoseVerdict.FITTED


@dataclass(frozen=True, slots=True, kw_only=True)
class DoseView:
    """One measure over the doses of all compounds.

    Attributes
    ----------
    measure
        The measure.
    column
        The platemap's column of doses.
    curves
        By compound, in the order of the platemap's wells.
    """

    measure: Measure
    column: str
    curves: tuple[DoseCurve, ...]


def dose_views(
    platemap: Platemap,
    values: Mapping[str, Mapping[str, float]],
    measures: Sequence[Measure],
) -> tuple[DoseView, ...]:
    """Fit the doses of each compound.

    Parameters
    ----------
    platemap
        With a column ``compound``, ``drug`` or ``treatment``, and one of doses: its name ends in a
        unit of concentration, as ``dose (nM)``, or is ``dose_um`` or alike.
    values
        Finite numbers by measure, for each well that has a result.
    measures
        To look at.

    Returns
    -------
    tuple
        One for each measure; empty where the platemap names no doses, or no compound has four.
    """
    series = dict(_series(platemap, values))
    negative = [
        well
        for well, role in roles_of(platemap).items()
        if role is Role.NEGATIVE and well in values
    ]
    if not series:
        return ()
    column = _doses(platemap)
    assert column is not None  # there is no series without
    return tuple(
        DoseView(
            measure=measure,
            column=column[0],
            curves=tuple(
                _curve(compound, doses, negative, values, measure)
                for compound, doses in series.items()
            ),
        )
        for measure in measures
    )


def _doses(platemap: Platemap) -> tuple[str, float] | None:
    """Give the column of doses, and what makes µmol/l of its numbers."""
    for column in platemap.columns:
        unit = platemap.units.get(column, "").replace("mol/l", "M").lower()
        named = _NAMED.fullmatch(column.lower())
        factor = _UM.get(unit or (named[1] if named else ""))
        if factor is not None:
            return column, factor
    return None


def _series(
    platemap: Platemap, values: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Give the doses of the wells of each compound that has four or more of them."""
    found = _doses(platemap)
    lower = {name.lower(): name for name in platemap.columns}
    compound = next((lower[name] for name in _COMPOUNDS if name in lower), None)
    if found is None or compound is None:
        return
    column, factor = found
    roles = roles_of(platemap)
    names = platemap.values(compound)
    doses: dict[str, dict[str, float]] = defaultdict(dict)
    for well, dose in platemap.values(column).items():
        sample = roles.get(well, Role.SAMPLE) is Role.SAMPLE
        if not sample or well not in values or names[well] is None:
            continue
        if isinstance(dose, int | float) and dose >= 0:
            doses[str(names[well])][well] = dose * factor
    for name, wells in doses.items():
        if len({dose for dose in wells.values() if dose > 0}) >= _FEWEST:
            yield name, wells


def _curve(
    compound: str,
    doses: Mapping[str, float],
    negative: Sequence[str],
    values: Mapping[str, Mapping[str, float]],
    measure: Measure,
) -> DoseCurve:
    pairs = [
        (dose, value)
        for well, dose in (*doses.items(), *((well, 0.0) for well in negative))
        if (value := values[well].get(measure.name)) is not None and math.isfinite(value)
    ]
    return DoseCurve(
        compound=compound,
        doses_um=tuple(dose for dose, _ in pairs),
        values=tuple(value for _, value in pairs),
        wells=sum(measure.name in values[well] for well in doses),
        fit=dose_response([dose for dose, _ in pairs], [value for _, value in pairs]),
    )
