"""Canvases on which the fields of a well were put together: their sizes, and where they lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from openhcs.execution._tables import read_rows
from openhcs.functions import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import GroupKey, PlannedStep

__all__ = ["Canvases"]

_SIZE = ("height_px", "width_px")
_ORIGIN = ("origin_y_um", "origin_x_um")
_Place: TypeAlias = "tuple[int | None, int | None]"


class Canvases:
    """What the steps of a well say in their records, taken in one after the other.

    A step that puts fields together has a record with ``height_px``, ``width_px``, ``origin_y_um``
    and ``origin_x_um``: the centre of the first pixel from the middle of the well. Images of the
    whole well that it or later steps make in this size show the same canvas.

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
            if output.stored in groups:
                rows = [(key.t, key.z, row) for key, row in groups[output.stored]]
            else:
                table = read_rows(self._folder.table(output.stored, self._well))
                rows = [(row.get("t"), row.get("z"), row) for row in table]
            if rows and all({*_SIZE, *_ORIGIN} <= row.keys() for _, _, row in rows):
                sizes = [(row["height_px"], row["width_px"]) for _, _, row in rows]
                self._size = max(height for height, _ in sizes), max(width for _, width in sizes)
                places = {(t, z): (row["origin_y_um"], row["origin_x_um"]) for t, z, row in rows}
                known = all(math.isfinite(y + x) for y, x in places.values())
                self._origins = places if known else {}

    def of_size(self, size: tuple[int, ...]) -> Mapping[_Place, tuple[float, float]]:
        """Give the origins of the newest canvas, by t and z, if it has this height and width."""
        return self._origins if size == self._size else {}
