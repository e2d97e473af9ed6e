"""Where a stored image of a field lies: said by the planes that it was made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.pipeline import GroupKey

__all__ = ["NOWHERE", "Placed", "Placing", "canvas_placing", "placing"]

_UNEVEN = 0.02
"""Distances of planes, or of time points, that differ by less are those of one step."""


class Placed(Protocol):
    """The planes of a well; asked when the first plane of an image is stored."""

    def fields(self) -> frozenset[int]:
        """Give the fields that have planes which take part."""
        ...

    def place(self, key: GroupKey, axis: str) -> float:
        """Give where a key lies along ``x``, ``y`` or ``z`` in µm or ``t`` in s; NaN if unknown."""
        ...

    def size(self, key: GroupKey) -> tuple[int, int] | None:
        """Give height and width of the plane of a key in pixels; None if unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Where an image lies, as far as it is known.

    Attributes
    ----------
    origin_um
        Centre (y, x) of the first pixel of the first plane.
    moved_um
        That of planes that begin elsewhere, by their places along t and z.
    origin_z_um, z_um
        Place of the first plane, and distance of planes.
    t_s
        Distance of time points.
    """

    origin_um: tuple[float, float] | None = None
    moved_um: Mapping[tuple[int, int], tuple[float, float]]
    origin_z_um: float | None = None
    z_um: float | None = None
    t_s: float | None = None


NOWHERE = Placing(moved_um={})
"""That of an image of the whole well, which no plane says."""


def placing(
    planes: Placed,
    keys: Mapping[tuple[int, int], GroupKey],
    size: tuple[int, ...],
    pixel_um: tuple[float, float] | None,
) -> Placing:
    """Say where an image of a field lies.

    Parameters
    ----------
    planes
        Of its well.
    keys
        What the image is made of: a key for each place along t and z, from (0, 0) on.
    size
        Height and width of the image in pixels.
    pixel_um
        Size of a pixel (y, x).

    Notes
    -----
    A stage says where the middle of a tile is. Of an image of another size than its tile nobody
    knows which part of the tile it shows: its place is not known.
    """
    z_um, origin_z_um = None, None
    stack = {m: key for (_, m), key in keys.items() if key.z is not None}
    if (depths := _steps([planes.place(stack[m], "z") for m in sorted(stack)])) is not None:
        origin_z_um, z_um = depths
    series = {n: key for (n, _), key in keys.items() if key.t is not None}
    times = _steps([planes.place(series[n], "t") for n in sorted(series)])
    t_s = None if times is None else times[1]
    corners: dict[tuple[int, int], tuple[float, float]] = {}
    if pixel_um is not None:
        for place, key in keys.items():
            if planes.size(key) == size:
                y = planes.place(key, "y") - (size[0] - 1) / 2 * pixel_um[0]
                x = planes.place(key, "x") - (size[1] - 1) / 2 * pixel_um[1]
                corners[place] = (y, x)
    known = len(corners) == len(keys) and all(math.isfinite(y + x) for y, x in corners.values())
    origin = corners[min(keys)] if known else None
    return Placing(
        origin_um=origin,
        moved_um={place: at for place, at in corners.items() if known and at != origin},
        origin_z_um=origin_z_um,
        z_um=z_um,
        t_s=t_s,
    )


def canvas_placing(
    origins: Mapping[tuple[int | None, int | None], tuple[float, float]],
    keys: Mapping[tuple[int, int], GroupKey],
) -> Placing:
    """Say where an image lies that has the size of a canvas on which fields were put together.

    Parameters
    ----------
    origins
        Centre (y, x) of the first pixel of each canvas from the middle of the well in µm, by t and
        z.
    keys
        What the image is made of, as for `placing`.
    """
    found = {place: origins.get((key.t, key.z)) for place, key in keys.items()}
    corners = {place: at for place, at in found.items() if at is not None}
    if not corners or len(corners) < len(found):
        return NOWHERE
    origin = corners[min(corners)]
    return Placing(
        origin_um=origin,
        moved_um={place: at for place, at in corners.items() if at != origin},
    )


def _steps(places: Sequence[float]) -> tuple[float, float] | None:
    """Give the first of evenly spaced places and their distance; None where they are no such."""
    if len(places) < 2 or not all(map(math.isfinite, places)):
        return None
    step = (places[-1] - places[0]) / (len(places) - 1)
    between = [after - before for before, after in pairwise(places)]
    if step <= 0 or any(abs(each - step) > _UNEVEN * step for each in between):
        return None
    return places[0], step
