"""Positions of fields in a well: µm from its centre, x to the right, y downward."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.plates._rows import Row

__all__ = ["PositionGrid", "forget_common_places", "outliers", "position_grid"]

_FAR = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionGrid:
    """Fields of a well, sorted into rows and columns.

    Parameters
    ----------
    rows, columns
        Extent of the grid.
    cells
        Row and column of each field, 0-based from the upper left.
    step_um
        Mean distance of neighbouring rows and columns (y, x); NaN where there is only one.
    regular
        Whether no two fields share a cell.
    """

    rows: int
    columns: int
    cells: Mapping[int, tuple[int, int]]
    step_um: tuple[float, float]
    regular: bool


def position_grid(places: Mapping[int, tuple[float, float]], tile_um: float) -> PositionGrid | None:
    """Find the grid that the fields of a well form, from their positions alone.

    Parameters
    ----------
    places
        x and y of each field, µm.
    tile_um
        Extent of a tile, µm; NaN when unknown.

    Returns
    -------
    PositionGrid | None
        None when no field has a position.

    Notes
    -----
    Coordinates closer than a quarter of a tile belong to one row or column; without a tile size,
    closer than a quarter of the median distance of a field to its nearest neighbour. Field numbers
    are not used: vendors number in rasters, snakes and spirals.
    """
    known = {field: place for field, place in places.items() if not math.isnan(sum(place))}
    if not known:
        return None
    tolerance = tile_um
    if not tile_um > 0:
        nearest = _nearest(list(known.values()))
        tolerance = float(np.median(nearest)) if len(known) > 1 else 1.0
    tolerance /= 4
    columns, x_step = _clusters([x for x, _ in known.values()], tolerance)
    rows, y_step = _clusters([y for _, y in known.values()], tolerance)
    cells = dict(zip(known, zip(rows, columns, strict=True), strict=True))
    return PositionGrid(
        rows=max(rows) + 1,
        columns=max(columns) + 1,
        cells=cells,
        step_um=(y_step, x_step),
        regular=len(set(cells.values())) == len(cells),
    )


def outliers(places: Mapping[int, tuple[float, float]], tile_um: float) -> tuple[int, ...]:
    """Name the fields that lie far from all others of their well.

    Parameters
    ----------
    places
        x and y of each field, µm.
    tile_um
        Extent of a tile, µm; NaN when unknown.

    Returns
    -------
    tuple
        Fields whose nearest neighbour is over four times as far as is usual in the well, and over
        four tiles away. None with fewer than four fields.
    """
    if len(places) < 4:
        return ()
    nearest = _nearest(list(places.values()))
    limit = _FAR * max(float(np.median(nearest)), tile_um if tile_um > 0 else 0.0)
    return tuple(
        field for field, far in zip(places, nearest, strict=True) if limit > 0 and far > limit
    )


def forget_common_places(rows: Sequence[Row]) -> None:
    """Take the positions of a well away where all its fields have the same: nobody knew them.

    Parameters
    ----------
    rows
        All rows of the plate.
    """
    wells: dict[tuple[int, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        if not math.isnan(row.x_um):
            wells[row.acquisition, row.well][row.field] = row.x_um, row.y_um
    alike = {well for well, at in wells.items() if len(at) > 1 and len(set(at.values())) == 1}
    for row in rows:
        if (row.acquisition, row.well) in alike:
            row.x_um = row.y_um = math.nan


def _nearest(places: Sequence[tuple[float, float]]) -> list[float]:
    points = np.array(places, np.float64)
    nearest = []
    for place in range(len(points)):
        far = np.hypot(*(points - points[place]).T)
        far[place] = math.inf
        nearest.append(float(far.min()))
    return nearest


def _clusters(values: Sequence[float], tolerance: float) -> tuple[list[int], float]:
    order = np.argsort(values, kind="stable")
    ordered = np.asarray(values, np.float64)[order]
    number = np.concatenate([[0], np.cumsum(np.diff(ordered) > tolerance)])
    groups = np.empty(len(ordered), np.int64)
    groups[order] = number
    count = int(number[-1]) + 1
    step = math.nan
    if count > 1:
        first, last = ordered[number == 0].mean(), ordered[number == count - 1].mean()
        step = float(last - first) / (count - 1)
    return groups.tolist(), step
