"""Canvases on which the fields of a well were put together: their sizes, and where they lie."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from openhcs.execution._tables import read_rows
from openhcs.functions import Kind, laid_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import GroupKey, PlannedStep

__all__ = ["Canvases", "Laid"]

_SIZE = ("height_px", "width_px")
_ORIGIN = ("origin_y_um", "origin_x_um")
_TILE = ("tile_height_px", "tile_width_px")
_TILES = ("y_px", "x_px", "channels")
_Place: TypeAlias = "tuple[int | None, int | None]"


@dataclass(frozen=True, slots=True)
class Laid:
    """Tiles of one size on a canvas: (y, x) of their first pixels, shape (n, 2), and their size."""

    at_px: NDArray[np.float64]
    tile: tuple[int, int]

    def mask(self, canvas: tuple[int, int]) -> NDArray[np.bool_]:
        """Say where a canvas of this height and width has tiles."""
        return laid_out(self.at_px, shape=self.tile, canvas=canvas)


class Canvases:
    """What the steps of a well say in their records, taken in one after the other.

    A step that puts fields together has a record with ``height_px``, ``width_px``, ``origin_y_um``
    and ``origin_x_um``: the centre of the first pixel from the middle of the well. Images of the
    whole well that it or later steps make in this size show the same canvas. If the record also has
    ``tile_height_px`` and ``tile_width_px``, and there is a table of tiles with ``y_px``, ``x_px``
    and ``channels``, the number of channels that have them, these say what of it is covered.

    Parameters
    ----------
    folder
        The results.
    well
        Name of the well.
    """

    def __init__(self, folder: ResultFolder, well: str) -> None:
        self._folder = folder
        self._well = well
        self._size = (0, 0)
        self._origins: dict[_Place, tuple[float, float]] = {}
        self._laid: dict[_Place, Laid] = {}

    def see(
        self,
        step: PlannedStep,
        groups: Mapping[str, Sequence[tuple[GroupKey, Mapping[str, Any]]]],
    ) -> None:
        """Take in a step.

        Parameters
        ----------
        step
            The next one.
        groups
            Records of this run, by their names in the results; others are looked up there.
        """
        for output in step.outputs:
            if output.kind is not Kind.RECORD:
                continue
            rows = self._rows(output.stored, groups)
            if rows and all({*_SIZE, *_ORIGIN} <= row.keys() for _, _, row in rows):
                sizes = [(row["height_px"], row["width_px"]) for _, _, row in rows]
                self._size = max(height for height, _ in sizes), max(width for _, width in sizes)
                places = {(t, z): (row["origin_y_um"], row["origin_x_um"]) for t, z, row in rows}
                known = all(math.isfinite(y + x) for y, x in places.values())
                self._origins = places if known else {}
                sides = {
                    (t, z): (row[_TILE[0]], row[_TILE[1]])
                    for t, z, row in rows
                    if {*_TILE} <= row.keys()
                }
                self._laid = self._tiles(step, groups, sides)

    def of_size(self, size: tuple[int, ...]) -> Mapping[_Place, tuple[float, float]]:
        """Give the origins of the newest canvas, by t and z, if it has this height and width."""
        return self._origins if size == self._size else {}

    def laid_on(
        self, size: tuple[int, ...], keys: Mapping[tuple[int, int], GroupKey]
    ) -> Mapping[tuple[int, int], Laid]:
        """Give the tiles of an image, by place, if it has the height and width of the canvas.

        Parameters
        ----------
        size
            Of the image.
        keys
            What it is made of, by place along t and z. A place without z shows all z.
        """
        if size != self._size:
            return {}
        whole = {t: laid for (t, _), laid in self._laid.items()}
        found = {
            place: whole.get(key.t) if key.z is None else self._laid.get((key.t, key.z))
            for place, key in keys.items()
        }
        return {place: laid for place, laid in found.items() if laid is not None}

    def _tiles(
        self,
        step: PlannedStep,
        groups: Mapping[str, Sequence[tuple[GroupKey, Mapping[str, Any]]]],
        sides: Mapping[_Place, tuple[int, int]],
    ) -> dict[_Place, Laid]:
        places: dict[_Place, list[tuple[float, float]]] = defaultdict(list)
        for output in step.outputs:
            if output.kind is not Kind.TABLE:
                continue
            for t, z, row in self._rows(output.stored, groups):
                if {*_TILES} <= row.keys():
                    y, x, channels = (np.atleast_1d(row[name]) for name in _TILES)
                    places[t, z] += np.stack([y, x], axis=1)[channels > 0].tolist()
        return {
            place: Laid(np.array(places[place], dtype=np.float64).reshape(-1, 2), side)
            for place, side in sides.items()
            if place in places
        }

    def _rows(
        self,
        stored: str,
        groups: Mapping[str, Sequence[tuple[GroupKey, Mapping[str, Any]]]],
    ) -> list[tuple[int | None, int | None, Mapping[str, Any]]]:
        """Give an output by t and z: as it came, or a row at a time as it was stored."""
        if stored in groups:
            return [(key.t, key.z, row) for key, row in groups[stored]]
        table = read_rows(self._folder.table(stored, self._well))
        return [(row.get("t"), row.get("z"), row) for row in table]
