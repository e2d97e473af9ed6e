"""What functions hold their arguments against before they begin."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, PlaneArray

__all__ = ["at_least", "checked_labels", "checked_plane", "plane_like", "positive"]


def positive(**values: float) -> None:
    """Refuse values, by the names of their parameters, that are not above 0.

    Raises
    ------
    ValueError
        If one is 0, negative or not finite.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it must be greater than 0")


def at_least(least: float, **values: float) -> None:
    """Refuse values, by the names of their parameters, below a limit.

    Raises
    ------
    ValueError
        If one is less, or not finite.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= least):
            raise ValueError(f"{name} is {value}; it must be {least:g} or more")


def checked_plane(plane: PlaneArray) -> PlaneArray:
    """Give a plane, once it is one.

    Raises
    ------
    ValueError
        If it is not of shape (y, x).
    """
    if plane.ndim != 2:
        raise ValueError(f"a plane has two axes (y, x); this one has shape {plane.shape}")
    return plane


def checked_labels(labels: NDArray[Any], pixel_um: tuple[float, float]) -> NDArray[Any]:
    """Give labels, once they are integers of shape (y, x) whose pixels have a size.

    Raises
    ------
    ValueError
        If they are not.
    """
    if not (pixel_um[0] > 0 and pixel_um[1] > 0):
        raise ValueError(f"pixel_um is {pixel_um}; both sizes must be greater than 0")
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers of shape (y, x); these are {labels.dtype} {labels.shape}"
        )
    return labels


def plane_like(channels: ChannelPlanes, name: str, shape: tuple[int, ...], what: str) -> PlaneArray:
    """Load the plane of a channel, which has to have the shape of something else.

    Parameters
    ----------
    channels
        Planes by channel name.
    name
        The channel.
    shape
        What it has to be.
    what
        What has that shape, for the message.

    Raises
    ------
    ValueError
        If there is no such channel, or it has another shape.
    """
    if name not in channels:
        raise ValueError(f"{name!r} is no channel; there are {', '.join(channels)}")
    plane = np.asarray(channels[name])
    if plane.shape != shape:
        raise ValueError(f"channel {name!r} has shape {plane.shape}, {what} {shape}")
    return plane
