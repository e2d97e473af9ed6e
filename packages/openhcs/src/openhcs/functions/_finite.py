"""Pixels that are no numbers, such as those of a dead detector or of a ratio of nothing to nothing.

One of them, handed to a filter, makes all that the filter reaches no number either. So filters
work on a plane without them, and put them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs.functions._device import tools_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["finite", "with_unknown"]


def finite(plane: NDArray[Any]) -> NDArray[Any]:
    """Give a plane whose pixels are all finite.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats, on the host or a GPU.

    Returns
    -------
    NDArray
        The plane itself where nothing is to be done; otherwise NaN and infinite pixels have the
        median of the others, or 0 where there are none.
    """
    if plane.dtype.kind != "f":
        return plane
    xp = tools_of(plane).xp
    known = xp.isfinite(plane)
    if known.all():
        return plane
    some = plane[known]
    middle = xp.median(some).astype(plane.dtype) if some.size else plane.dtype.type(0)
    filled: NDArray[Any] = xp.where(known, plane, middle)
    return filled


def with_unknown(result: NDArray[Any], plane: NDArray[Any]) -> NDArray[Any]:
    """Give what a filter made of `finite`, with NaN where the plane has no finite pixel.

    Parameters
    ----------
    result
        Shape and pixel type of the plane; floats may be written to.
    plane
        What the filter was handed.
    """
    if plane.dtype.kind == "f":
        xp = tools_of(plane).xp
        unknown = ~xp.isfinite(plane)
        if unknown.any():
            result[unknown] = xp.nan
    return result
