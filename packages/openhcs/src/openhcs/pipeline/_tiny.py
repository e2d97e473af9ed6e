"""Tiny images that stand for a well's planes before one of them is read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.pipeline._groups import GroupKey

__all__ = ["SIDE_PX", "Prepared", "TinyWell", "tiny_plane"]

SIDE_PX = 64
"""Side of a tiny plane, when nothing speaks for another one."""

Prepared = Mapping[str, Mapping[str, Mapping[str, NDArray[Any]]]]
"""What steps would have learned from the plate: by step, channel and name."""

_SPOT_PX = 4.0
_REACH_PX = 12
_SPOT_EVERY_PX2 = 1024


def tiny_plane(dtype: np.dtype[Any], seed: int, side_px: int = SIDE_PX) -> NDArray[Any]:
    """Make a plane with a background, noise, and spots as large and as dense as nuclei.

    Parameters
    ----------
    dtype
        Pixel type.
    seed
        Of the noise.
    side_px
        Of the plane.

    Returns
    -------
    NDArray
        Shape (side_px, side_px).
    """
    random = np.random.default_rng(seed)
    plane = random.normal(0.1, 0.01, (side_px, side_px))
    y, x = np.mgrid[-_REACH_PX : _REACH_PX + 1, -_REACH_PX : _REACH_PX + 1]
    spot = 0.5 * np.exp(-(y**2 + x**2) / (2 * _SPOT_PX**2))
    # At random, so that no two planes fit together anywhere.
    for row, column in random.integers(0, side_px, (max(1, side_px**2 // _SPOT_EVERY_PX2), 2)):
        top, left = max(0, row - _REACH_PX), max(0, column - _REACH_PX)
        inside = plane[top : row + _REACH_PX + 1, left : column + _REACH_PX + 1]
        below, right = top - (row - _REACH_PX), left - (column - _REACH_PX)
        inside += spot[below : below + inside.shape[0], right : right + inside.shape[1]]
    # A camera fills some thousand counts; floats are left between 0 and 1.
    full = min(4095, np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0
    return np.clip(plane * full, 0, full).astype(dtype)


class TinyWell:
    """The planes of a well, tiny.

    Parameters
    ----------
    keys
        The planes.
    dtype
        Of the planes.
    pixel_um
        Pixel size (y, x) in µm; None when unknown.
    prepared
        What steps would have learned from the plate.
    places
        Where the fields lie, (x, y) in µm; in a row of overlapping ones by default.
    side_px
        Of each plane.
    """

    def __init__(
        self,
        keys: Sequence[GroupKey],
        dtype: np.dtype[Any],
        pixel_um: tuple[float, float] | None,
        prepared: Prepared,
        *,
        places: Mapping[int, tuple[float, float]] | None = None,
        side_px: int = SIDE_PX,
    ) -> None:
        self._keys = tuple(keys)
        self._dtype = dtype
        self._prepared = prepared
        self._places = places or {}
        self._side_px = side_px
        self.pixel_um = pixel_um

    def keys(self) -> Sequence[GroupKey]:
        """Give the key of every plane."""
        return self._keys

    def read(self, key: GroupKey) -> NDArray[Any]:
        """Make the pixels of a plane; the same ones each time."""
        return tiny_plane(self._dtype, zlib.crc32(str(key).encode()), self._side_px)

    def place(self, key: GroupKey, axis: str) -> float:
        """Give where a key lies along an axis."""
        size = self.pixel_um or (1.0, 1.0)
        field = key.field or 0
        x, y = self._places.get(field, (0.75 * self._side_px * size[1] * field, 0.0))
        return {"x": x, "y": y, "z": 2.0 * (key.z or 0), "t": 60.0 * (key.t or 0)}[axis]

    def prepared(self, step: str, channel: str | None) -> Mapping[str, NDArray[Any]]:
        """Give what a step would have learned for a channel."""
        return self._prepared[step][str(channel)]
