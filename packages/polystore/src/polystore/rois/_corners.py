"""Corners as ImageJ counts them, with what has to be known of each region's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from polystore.regions._region import KIND_CODES, RegionKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from polystore.regions._regions import Regions

__all__ = ["AREA_SHIFT", "Corners", "corners_of"]

AREA_SHIFT = 0.5
"""ImageJ counts areas from the corner of the first pixel, points and lines from its centre."""

_INTEGER_MOST = 2**15 - 1
_FROM_CENTRES = [KIND_CODES.index(kind) for kind in (RegionKind.POINT, RegionKind.LINE)]


@dataclass(frozen=True, slots=True)
class Corners:
    """Corners of one region.

    Attributes
    ----------
    rings
        Those with a corner: x and y, float32, each of shape (corners, 2).
    low, high
        Least and largest x and y; 0 without a corner.
    are_whole
        Whether all are integers that the format holds.
    """

    rings: list[NDArray[np.float32]]
    low: list[float]
    high: list[float]
    are_whole: bool

    @property
    def joined(self) -> NDArray[np.float32]:
        """All of them."""
        return self.rings[0] if len(self.rings) == 1 else np.concatenate(self.rings)


def corners_of(regions: Regions) -> Iterator[Corners]:
    """Give the corners of each region: for all at once, which is ten times as quick."""
    starts = regions.offsets[regions.rings]  # of regions among the corners
    counts = np.diff(starts)
    shift = np.where(np.isin(regions.kinds, _FROM_CENTRES), 0, AREA_SHIFT).astype(np.float32)
    xy = regions.vertices[:, ::-1] + np.repeat(shift, counts)[:, None]
    low, high = np.zeros((2, len(regions), 2), np.float32)
    whole = np.zeros(len(regions), np.bool_)
    some = np.flatnonzero(counts)
    if len(some):
        first = starts[some]
        low[some] = np.minimum.reduceat(xy, first, axis=0)
        high[some] = np.maximum.reduceat(xy, first, axis=0)
        fitting = (np.floor(xy) == xy).all(axis=1)
        whole[some] = np.logical_and.reduceat(fitting, first)
        whole &= (low >= 0).all(axis=1) & (high <= _INTEGER_MOST).all(axis=1)
    edges, rings = regions.offsets.tolist(), regions.rings.tolist()
    lows, highs, wholes = low.tolist(), high.tolist(), whole.tolist()
    for number in range(len(regions)):
        own = [
            xy[edges[ring] : edges[ring + 1]]
            for ring in range(rings[number], rings[number + 1])
            if edges[ring] < edges[ring + 1]
        ]
        yield Corners(own, lows[number], highs[number], wholes[number])
