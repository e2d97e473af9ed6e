"""Planes at a smaller scale, and smooth planes back at full size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._device import on_host, tools_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["block_of", "enlarge", "reduce_mean"]


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
    from scipy.interpolate import RectBivariateSpline

    tools = tools_of(plane)
    if plane.shape == shape:
        return plane.astype(np.float32)
    plane = on_host(plane)
    if min(plane.shape) < 2:
        repeated = np.ascontiguousarray(_repeat(plane, shape), dtype=np.float32)
        return tools.take(repeated)  # type: ignore[no-any-return]  # of the plane's own kind
    centres = []
    for full, small in zip(shape, plane.shape, strict=True):
        edges = _edges(full, small)
        centres.append((edges[:-1] + edges[1:] - 1) / 2)
    ky, kx = (min(degree, count - 1) for count in plane.shape)
    spline = RectBivariateSpline(centres[0], centres[1], plane, kx=ky, ky=kx, s=0)
    grid = [
        np.clip(np.arange(full, dtype=np.float64), centre[0], centre[-1])
        for full, centre in zip(shape, centres, strict=True)
    ]
    large = np.asarray(spline(grid[0], grid[1], grid=True), dtype=np.float32)
    return tools.take(large)  # type: ignore[no-any-return]  # of the plane's own kind


def block_of(size: int, count: int) -> NDArray[np.intp]:
    """Give the block, from 0, that each pixel of an axis goes into when `reduce_mean` reduces it.

    Parameters
    ----------
    size, count
        Pixels of the axis before and after.
    """
    return np.repeat(np.arange(min(size, count)), np.diff(_edges(size, count)))


def _edges(size: int, count: int) -> NDArray[np.intp]:
    """Give the first pixel of each block, and the end of the last one."""
    return np.rint(np.linspace(0, size, min(count, size) + 1)).astype(np.intp)


def _repeat(plane: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    rows, columns = (
        np.minimum(np.arange(full) * small // full, small - 1)
        for full, small in zip(shape, plane.shape, strict=True)
    )
    return plane[np.ix_(rows, columns)]
