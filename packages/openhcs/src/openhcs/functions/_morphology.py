"""Erosion, dilation and opening by octagons, which are near enough to disks.

A filter over a footprint costs by its pixels. An octagon is a sequence of crosses and squares of
3 by 3, and each of those a few comparisons of the plane with itself, shifted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs.functions._device import tools_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["dilated", "eroded", "erosions", "octagon_steps", "opened"]

_SQUARES = 0.4142
"""Share of squares among crosses and squares, at which an octagon is as wide along the diagonal."""


def octagon_steps(radius_px: tuple[int, int]) -> tuple[tuple[bool, bool, bool], ...]:
    """Give the steps that make an octagon: whether each goes along y, along x and diagonally.

    Parameters
    ----------
    radius_px
        Along y and x; where they differ, the rest goes along the longer one.
    """
    both = min(radius_px)
    steps = [
        (True, True, int((number + 1) * _SQUARES + 0.5) > int(number * _SQUARES + 0.5))
        for number in range(both)
    ]
    rest = max(radius_px) - both
    along_y = radius_px[0] > radius_px[1]
    return (*steps, *(((along_y, not along_y, False),) * rest))


def eroded(plane: NDArray[Any], radius_px: tuple[int, int]) -> NDArray[Any]:
    """Give the least of each pixel's surroundings; what lies outside has no say."""
    *_, last = erosions(plane, radius_px)
    return last


def erosions(plane: NDArray[Any], radius_px: tuple[int, int]) -> Iterator[NDArray[Any]]:
    """Give the plane, and then the erosion after each step of an octagon."""
    yield plane
    for step in octagon_steps(radius_px):
        plane = _extreme(plane, step, tools_of(plane).xp.minimum)
        yield plane


def dilated(plane: NDArray[Any], radius_px: tuple[int, int]) -> NDArray[Any]:
    """Give the most of each pixel's surroundings; what lies outside has no say."""
    for step in octagon_steps(radius_px):
        plane = _extreme(plane, step, tools_of(plane).xp.maximum)
    return plane


def opened(plane: NDArray[Any], radius_px: tuple[int, int]) -> NDArray[Any]:
    """Take away what is bright and no octagon fits into."""
    return dilated(eroded(plane, radius_px), radius_px)


def _extreme(plane: NDArray[Any], step: tuple[bool, bool, bool], of: np.ufunc) -> NDArray[Any]:
    along_y, along_x, diagonal = step
    result = plane.copy()
    if along_y:
        of(result[1:], plane[:-1], out=result[1:])
        of(result[:-1], plane[1:], out=result[:-1])
    if along_x:
        # A square is a row of three along one axis, and then along the other.
        rows = result.copy() if diagonal else plane
        of(result[:, 1:], rows[:, :-1], out=result[:, 1:])
        of(result[:, :-1], rows[:, 1:], out=result[:, :-1])
    return result
