"""Planes at a smaller scale, and smooth planes back at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._device import on_host, tools_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["block_of", "enlarge", "reduce_mean", "spline_matrix"]

_ONE_POLYNOMIAL = 4
"""As many values have one cubic polynomial, or one of a lower degree, through all of them."""


def reduce_mean(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Reduce a plane to the means of its blocks.

    Parameters
    ----------
    plane
        Shape (y, x), any number type.
    shape
        Wanted (y, x); an axis that is smaller already stays as it is. Blocks differ by at most
        one pixel in size where the division leaves a remainder.
    """
    tools = tools_of(plane)
    edges = [_edges(size, count) for size, count in zip(plane.shape, shape, strict=True)]
    sums = tools.xp.add.reduceat(plane, tools.take(edges[1][:-1]), axis=1, dtype=np.float64)
    sums = tools.xp.add.reduceat(sums, tools.take(edges[0][:-1]), axis=0)
    sums /= tools.take(np.multiply.outer(np.diff(edges[0]), np.diff(edges[1])))
    means: NDArray[np.float32] = sums.astype(np.float32)
    return means


def enlarge(plane: NDArray[Any], shape: tuple[int, int], *, degree: int = 3) -> NDArray[np.float32]:
    """Enlarge a smooth plane of block means, by splines through the centres of its blocks.

    Parameters
    ----------
    plane
        Shape (y, x): what `reduce_mean` gave, or a plane made from it.
    shape
        The (y, x) that was reduced.
    degree
        3 for cubic, 1 for linear.

    Notes
    -----
    Beyond the centres of the outermost blocks the value at the centre is kept. Splines are made on
    the host.
    """
    tools = tools_of(plane)
    if plane.shape == shape:
        return plane.astype(np.float32)
    plane = on_host(plane)
    if min(plane.shape) < 2:
        repeated = np.ascontiguousarray(_repeat(plane, shape), dtype=np.float32)
        return tools.take(repeated)  # type: ignore[no-any-return]  # of the plane's own kind
    from scipy.interpolate import RectBivariateSpline

    centres = [_centres(full, small) for full, small in zip(shape, plane.shape, strict=True)]
    ky, kx = (min(degree, count - 1) for count in plane.shape)
    spline = RectBivariateSpline(centres[0], centres[1], plane, kx=ky, ky=kx, s=0)
    grid = [
        np.clip(np.arange(full, dtype=np.float64), centre[0], centre[-1])
        for full, centre in zip(shape, centres, strict=True)
    ]
    large = np.asarray(spline(grid[0], grid[1], grid=True), dtype=np.float32)
    return tools.take(large)  # type: ignore[no-any-return]  # of the plane's own kind


def spline_matrix(size: int, count: int) -> NDArray[np.float64]:
    """Give the matrix that enlarges `count` means of blocks to `size` values, as `enlarge` does.

    For planes that are enlarged over and over: two products of small matrices take a tenth of the
    time of `enlarge`.

    Parameters
    ----------
    size, count
        Values of the axis after and before.

    Returns
    -------
    NDArray[np.float64]
        Shape (size, count).

    Notes
    -----
    The cubic spline through the centres of the blocks whose third derivative is continuous at the
    second and the last but one of them ("not a knot"; de Boor, A Practical Guide to Splines,
    chapter IV); of up to four blocks, the polynomial through all of them.
    """
    if count >= size:
        return np.eye(size)
    if count < 2:
        return np.ones((size, count))
    centres = _centres(size, count)
    at = np.clip(np.arange(size, dtype=np.float64), centres[0], centres[-1])
    if count <= _ONE_POLYNOMIAL:
        powers = np.arange(count)
        scaled = (centres - centres[0]) / (centres[-1] - centres[0])
        wanted = (at - centres[0]) / (centres[-1] - centres[0])
        ends = np.linalg.inv(scaled[:, None] ** powers)
        return np.asarray(wanted[:, None] ** powers @ ends)
    gap = np.diff(centres)
    bend, value = np.zeros((count, count)), np.zeros((count, count))
    for n in range(1, count - 1):
        before, after = gap[n - 1], gap[n]
        bend[n, n - 1 : n + 2] = before, 2 * (before + after), after
        value[n, n - 1 : n + 2] = 6 / before, -6 / before - 6 / after, 6 / after
    bend[0, :3] = gap[1], -gap[0] - gap[1], gap[0]
    bend[-1, -3:] = gap[-1], -gap[-2] - gap[-1], gap[-2]
    second = np.linalg.solve(bend, value)
    place = np.clip(np.searchsorted(centres, at, side="right") - 1, 0, count - 2)
    width = gap[place]
    right = (at - centres[place]) / width
    left = 1 - right
    unit = np.eye(count)
    curved = (left**3 - left)[:, None] * second[place] + (right**3 - right)[:, None] * second[
        place + 1
    ]
    straight = left[:, None] * unit[place] + right[:, None] * unit[place + 1]
    return np.asarray(straight + curved * (width**2 / 6)[:, None])


def block_of(size: int, count: int) -> NDArray[np.intp]:
    """Give the block, from 0, that each pixel of an axis goes into when `reduce_mean` reduces it.

    Parameters
    ----------
    size, count
        Pixels of the axis before and after.
    """
    return np.repeat(np.arange(min(size, count)), np.diff(_edges(size, count)))


def _centres(size: int, count: int) -> NDArray[np.float64]:
    """Give the middle of each block, in pixels."""
    edges = _edges(size, count)
    return np.asarray((edges[:-1] + edges[1:] - 1) / 2)


def _edges(size: int, count: int) -> NDArray[np.intp]:
    """Give the first pixel of each block, and the end of the last one."""
    return np.rint(np.linspace(0, size, min(count, size) + 1)).astype(np.intp)


def _repeat(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    rows, columns = (
        np.minimum(np.arange(full) * small // full, small - 1)
        for full, small in zip(shape, plane.shape, strict=True)
    )
    return plane[np.ix_(rows, columns)]
