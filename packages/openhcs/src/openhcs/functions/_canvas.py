"""Canvas that no tile covers: the corners of a stitched well, which are 0 and no signal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs.functions._device import tools_of
from openhcs.functions._morphology import dilated, eroded

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bare_canvas", "filled"]

_REACH_PX = 3
"""A square of 7 by 7 zeros is canvas; fewer may be dark pixels of a camera."""


def bare_canvas(planes: Iterable[NDArray[Any]]) -> NDArray[np.bool_] | None:
    """Say which pixels no tile covers; None where there are none.

    Parameters
    ----------
    planes
        Of one shape (y, x), from one place; canvas is 0 in all of them.

    Notes
    -----
    Canvas is the lesser part of a plane, and lies at its border. Where a background was taken away
    there are zeros as well; that those may look like canvas is no loss, since nothing is there.
    """
    zero: NDArray[np.bool_] | None = None
    for plane in planes:
        dark = plane == 0
        zero = dark if zero is None else zero & dark
        if not zero.any():
            return None
    if zero is None:
        return None
    reach = (_REACH_PX, _REACH_PX)
    bare: NDArray[np.bool_] = dilated(eroded(zero, reach), reach)
    bare &= zero
    tools = tools_of(bare)
    if not 0 < int(tools.xp.count_nonzero(bare)) < bare.size / 2:
        return None
    pieces, count = tools.ndimage.label(bare)
    outer = tools.xp.zeros(int(count) + 1, bool)
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        outer[edge] = True
    outer[0] = False
    found: NDArray[np.bool_] | None = outer[pieces] if outer.any() else None
    return found


def filled(plane: NDArray[Any], bare: NDArray[np.bool_]) -> NDArray[Any]:
    """Give a plane whose canvas has the value of the nearest covered pixel.

    A filter then sees no edge where tiles end.
    """
    y, x = tools_of(bare).ndimage.distance_transform_edt(
        bare, return_distances=False, return_indices=True
    )
    nearest: NDArray[Any] = plane[y, x]
    return nearest
