"""Coarser copies of a plane, each half as high and wide as the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from polystore._halving import halve_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["halve_labels", "halve_mean", "halved", "level_shapes"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


def level_shapes(height: int, width: int, *, coarsest_px: int = 512) -> list[tuple[int, int]]:
    """Sizes of all levels, the full one first.

    Halved, rounding up, until neither side is longer than `coarsest_px`.
    """
    shapes = [(height, width)]
    while max(shapes[-1]) > coarsest_px:
        shapes.append(halved(shapes[-1], 1))
    return shapes


def halved(sides: tuple[int, int], times: int) -> tuple[int, int]:
    """Height and width, halved so many times and rounded up."""
    height, width = sides
    return -(-height // 2**times), -(-width // 2**times)


def halve_labels(plane: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """One of each two by two pixels, so that no number appears that was not there.

    Parameters
    ----------
    plane
        Shape (y, x).

    Returns
    -------
    ndarray
        Shape (y, x), each half, rounded up.
    """
    return np.ascontiguousarray(plane[::2, ::2])
