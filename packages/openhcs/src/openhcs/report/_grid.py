"""Values of wells laid out as their plate, and what the wells are to the assay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.plates import Role, roles_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.report._measures import Measure
    from openhcs.report._plate import PlateView

__all__ = ["Grid", "grid_of", "values_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Wells of a run, in the order of its view, by their place.

    Attributes
    ----------
    size
        Rows and columns of the plate.
    rows, columns
        Place of each well, from 0, shape (wells,).
    roles
        What each well is; a sample where nobody says anything else.
    """

    size: tuple[int, int]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    roles: tuple[Role, ...]

    def of(self, *roles: Role) -> NDArray[np.bool_]:
        """Say which wells have one of the roles, shape (wells,)."""
        return np.array([role in roles for role in self.roles], np.bool_)

    @property
    def samples(self) -> NDArray[np.bool_]:
        """Which wells are samples, shape (wells,)."""
        return self.of(Role.SAMPLE)

    @property
    def others(self) -> NDArray[np.bool_]:
        """Places of wells that are no samples, shape (rows, columns)."""
        places = np.zeros(self.size, np.bool_)
        places[self.rows, self.columns] = ~self.samples
        return places

    def plate(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lay values of shape (wells,) out as (rows, columns), with NaN where no well is."""
        laid = np.full(self.size, math.nan)
        laid[self.rows, self.columns] = values
        return laid


def grid_of(view: PlateView) -> Grid:
    """Give the places and the roles of the wells of a run.

    Parameters
    ----------
    view
        The run; roles come from its platemap alone.
    """
    roles = {} if view.platemap is None else roles_of(view.platemap)
    return Grid(
        size=(view.rows, view.columns),
        rows=np.array([well.row for well in view.wells], np.intp),
        columns=np.array([well.col for well in view.wells], np.intp),
        roles=tuple(roles.get(well.well, Role.SAMPLE) for well in view.wells),
    )


def values_of(view: PlateView, measure: Measure) -> NDArray[np.float64]:
    """Give a measure of each well, shape (wells,); NaN where there is none."""
    return np.array([well.values.get(measure.name, math.nan) for well in view.wells], np.float64)
