"""What the place of a well on the plate does to its values: edge effects and trends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from openhcs.functions import edge_effect
from openhcs.report._grid import grid_of, values_of
from openhcs.report._measures import tells_of_the_assay
from openhcs.report._quality import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.functions import EdgeEffect
    from openhcs.report._measures import Measure
    from openhcs.report._plate import PlateView

__all__ = ["LayoutView", "PlaceEffect", "layout_view"]

# A few wells are mostly chosen, as a row of doses or a diagonal, and show that choice.
_FEWEST: Final = 24
_CHANCE: Final = 0.001
_LEAST_DIFFERENCE: Final = 0.5
_LEAST_RHO: Final = 0.2
_KINDS: Final = {"edge": "an edge effect", "rows": "rows", "columns": "columns"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceEffect:
    """How one measure depends on the place of a well.

    Attributes
    ----------
    measure
        The measure.
    found
        Outer ring beside the inside, and trends over rows and columns, of samples.
    edge, rows, columns
        Whether that is more than chance, over all measures, and large enough to matter.
    """

    measure: Measure
    found: EdgeEffect
    edge: bool
    rows: bool
    columns: bool

    @property
    def least_p(self) -> float:
        """The smallest of the three probabilities; 1 where none is known."""
        known = [p for p in _ps(self.found) if math.isfinite(p)]
        return min(known, default=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutView:
    """What the page says of the places of wells.

    Attributes
    ----------
    wells
        Samples that have a result.
    left_out
        Wells with a result that are no samples, and take no part.
    effects
        Of each measure that 24 samples have, the most certain first.
    """

    wells: int
    left_out: int
    effects: tuple[PlaceEffect, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found of the edge, the rows and the columns, in a sentence each."""
        return (
            self._sentence(
                "edge", "The outer ring of wells differs from the inside", "No edge effect"
            ),
            self._sentence("rows", "There is a trend from row to row", "No trend from row to row"),
            self._sentence(
                "columns",
                "There is a trend from column to column",
                "No trend from column to column",
            ),
        )

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What should be looked at: an effect of any kind."""
        words = {
            "edge": "edge effect: the outer ring of wells differs",
            "rows": "trend from row to row",
            "columns": "trend from column to column",
        }
        return tuple(
            Flag(
                well=None,
                what=f"{words[kind]} in {len(hit)} of {len(self._known(kind))} measures, most in "
                f"{_named(hit[0].measure)}",
            )
            for kind in words
            if (hit := self._with(kind))
        )

    def _known(self, kind: str) -> list[PlaceEffect]:
        return [each for each in self.effects if math.isfinite(_p(each.found, kind))]

    def _with(self, kind: str) -> list[PlaceEffect]:
        """Give the effects of a kind, the largest first."""
        sizes = {
            "edge": lambda each: each.found.difference,
            "rows": lambda each: each.found.rows.rho,
            "columns": lambda each: each.found.columns.rho,
        }
        hit = [each for each in self.effects if getattr(each, kind)]
        return sorted(hit, key=lambda each: -abs(sizes[kind](each)))

    def _sentence(self, kind: str, there: str, none: str) -> str:
        known = self._known(kind)
        if not known:
            return f"There are too few wells to tell of {_KINDS[kind]}."
        hit = self._with(kind)
        if not hit:
            return f"{none} in any of {len(known)} measures."
        first = hit[0].found
        if kind == "edge":
            side = "higher" if first.difference > 0 else "lower"
            size = f"{side} by {abs(first.difference):.1f} MADs, p {_spelled(first.p)}"
        else:
            trend = first.rows if kind == "rows" else first.columns
            size = f"Spearman's rho {trend.rho:+.2f}, p {_spelled(trend.p)}"
        most = f"most in {_named(hit[0].measure)}: {size}"
        return f"{there} in {len(hit)} of {len(known)} measures, {most}."


def layout_view(view: PlateView) -> LayoutView:
    """Look for effects of the place of wells, in every measure of the assay.

    Parameters
    ----------
    view
        The run. Wells that its platemap calls anything but samples are left out; without a
        platemap all wells take part.
    """
    grid = grid_of(view)
    results = np.array([bool(well.values) for well in view.wells], np.bool_)
    chosen: list[tuple[Measure, EdgeEffect]] = []
    for measure in view.measures:
        if tells_of_the_assay(measure):
            values = np.where(grid.samples, values_of(view, measure), math.nan)
            if np.isfinite(values).sum() < _FEWEST:
                continue
            found = edge_effect(grid.plate(values))
            if any(math.isfinite(p) for p in _ps(found)):
                chosen.append((measure, found))
    real = {kind: _beyond_chance([_p(found, kind) for _, found in chosen]) for kind in _KINDS}
    effects = [
        PlaceEffect(
            measure=measure,
            found=found,
            edge=real["edge"][i] and abs(found.difference) >= _LEAST_DIFFERENCE,
            rows=real["rows"][i] and abs(found.rows.rho) >= _LEAST_RHO,
            columns=real["columns"][i] and abs(found.columns.rho) >= _LEAST_RHO,
        )
        for i, (measure, found) in enumerate(chosen)
    ]
    return LayoutView(
        wells=int((results & grid.samples).sum()),
        left_out=int((results & ~grid.samples).sum()),
        effects=tuple(sorted(effects, key=lambda each: each.least_p)),
    )


def _ps(found: EdgeEffect) -> tuple[float, float, float]:
    return found.p, found.rows.p, found.columns.p


def _p(found: EdgeEffect, kind: str) -> float:
    return dict(zip(_KINDS, _ps(found), strict=True))[kind]


def _beyond_chance(ps: Sequence[float]) -> list[bool]:
    """Say which are real, so that one in a thousand of those is expected not to be."""
    from scipy import stats

    known = [p for p in ps if math.isfinite(p)]
    adjusted = iter(stats.false_discovery_control(known) if known else ())
    return [math.isfinite(p) and bool(next(adjusted) < _CHANCE) for p in ps]


def _named(measure: Measure) -> str:
    return f"{measure.label} ({measure.group})"


def _spelled(p: float) -> str:
    return "below 1e-16" if p < 1e-16 else f"{p:.2g}"
