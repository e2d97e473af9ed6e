"""A plane at half its height and width, as pyramids are stored and coarse tiles are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["halve_mean"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_BAND_ROWS = 128
_WIDE = {"u1": "u4", "u2": "u4", "u4": "u8", "i1": "i4", "i2": "i4", "i4": "i8"}


def halve_mean(plane: NDArray[_Scalar], out: NDArray[_Scalar] | None = None) -> NDArray[_Scalar]:
    """Mean of each two by two pixels, rounded half up where integers.

    Parameters
    ----------
    plane
        Shape (y, x). The last row and column of an odd size are taken twice.
    out
        Where to put it; new memory if not given.

    Returns
    -------
    ndarray
        Shape (y, x), each half, rounded up; the type of `plane`.

    Raises
    ------
    TypeError
        If the mean of four elements of this type cannot be computed exactly enough.
    """
    plane = _even(plane)
    kind = plane.dtype.kind + str(plane.dtype.itemsize)
    sides = (plane.shape[0] // 2, plane.shape[1] // 2)
    small: NDArray[Any] = np.empty(sides, plane.dtype) if out is None else out
    if kind == "u2" and plane.flags.c_contiguous and plane.dtype.isnative and plane.max() < 2**14:
        _halve_packed(plane.view(np.uint32), small)
        return small
    if plane.dtype.kind == "f" and plane.dtype.itemsize in {4, 8}:
        wide, exact = plane.dtype.newbyteorder("="), False
    elif kind in _WIDE:
        wide, exact = np.dtype(_WIDE[kind]), True
    else:
        raise TypeError(f"there is no mean of four elements of type {plane.dtype}")
    # in bands that stay in the cache, without new memory for each
    height, width = plane.shape
    sums: NDArray[Any] = np.empty((_BAND_ROWS // 2, width), wide)
    totals: NDArray[Any] = np.empty((_BAND_ROWS // 2, width // 2), wide)
    for top in range(0, height, _BAND_ROWS):
        band = plane[top : top + _BAND_ROWS]
        rows = np.add(band[0::2], band[1::2], out=sums[: len(band) // 2], dtype=wide)
        total = np.add(rows[:, 0::2], rows[:, 1::2], out=totals[: len(rows)])
        into = small[top // 2 : top // 2 + len(total)]
        if exact:
            total += 2
            np.right_shift(total, 2, out=into, casting="unsafe")
        else:
            np.multiply(total, 0.25, out=into)
    return small


def _halve_packed(pairs: NDArray[np.uint32], small: NDArray[Any]) -> None:
    # two pixels side by side in one number: four of 14 bits have a sum of 16, so that what their
    # neighbours add up to stays in the upper half, which is cut off
    sums, others = np.empty((2, _BAND_ROWS // 2, pairs.shape[1]), np.uint32)
    for top in range(0, len(pairs), _BAND_ROWS):
        band = pairs[top : top + _BAND_ROWS]
        total = np.add(band[0::2], band[1::2], out=sums[: len(band) // 2])
        total += np.right_shift(total, 16, out=others[: len(total)])
        into = small[top // 2 : top // 2 + len(total)]
        into[...] = total
        into += 2
        into >>= 2


def _even(plane: NDArray[_Scalar]) -> NDArray[_Scalar]:
    height, width = plane.shape
    if height % 2 or width % 2:
        return np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    return plane
