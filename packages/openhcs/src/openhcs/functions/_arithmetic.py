"""Channels put together, divided by each other, and told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Gt, Unit

from openhcs.functions._checks import plane_like
from openhcs.functions._convert import to_dtype
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, PlaneArray

__all__ = ["Composite", "Ratio", "Unmixed", "composite", "ratio", "unmix"]

Level: TypeAlias = Annotated[float, Unit("counts")]
PositiveLevel: TypeAlias = Annotated[float, Gt(0), Unit("counts")]
ByChannel: TypeAlias = dict[str, float] | None
Matrix: TypeAlias = dict[str, dict[str, float]] | None

_WORST_CONDITION = 100.0
"""Beyond this, unmixing makes noise a hundred times as large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composite:
    """What `composite` gives.

    Attributes
    ----------
    image
        Shape (y, x), the pixel type of the channels.
    composite_pixels
        ``clipped_px``: pixels outside of the range of that type.
    """

    image: PlaneArray
    composite_pixels: Mapping[str, int]


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("image", Kind.IMAGE), Output("composite_pixels", Kind.RECORD)),
)
def composite(channels: ChannelPlanes, *, weights: ByChannel = None) -> Composite:
    """Add channels up to one image, each with a weight.

    Parameters
    ----------
    channels
        Planes by channel name, of one shape (y, x).
    weights
        Factor by channel name; channels that are not named are left out. None for the mean of all.

    Returns
    -------
    Composite
        One image without a channel. Integers are rounded half to even and clipped; channels of
        unlike pixel types give float32.

    Raises
    ------
    ValueError
        If a weight is for no channel or not finite, all are 0, or shapes differ.
    """
    names = tuple(channels)
    given = dict.fromkeys(names, 1 / max(len(names), 1)) if weights is None else weights
    if not any(given.values()) or not all(math.isfinite(weight) for weight in given.values()):
        raise ValueError(f"weights are {given}; they must be finite, and one of them not 0")
    total: NDArray[np.float32] | None = None
    types = set()
    for name, weight in given.items():
        plane = _plane(channels, name, None if total is None else total.shape)
        types.add(plane.dtype)
        if total is None:
            total = np.zeros(plane.shape, np.float32)
        with np.errstate(invalid="ignore"):  # of infinite pixels
            total += np.float32(weight) * plane
    assert total is not None  # one of the weights is not 0
    converted = to_dtype(total, types.pop() if len(types) == 1 else np.dtype(np.float32))
    return Composite(image=converted.pixels, composite_pixels={"clipped_px": converted.clipped_px})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What `ratio` gives.

    Attributes
    ----------
    image
        Shape (y, x), float32.
    ratio_pixels
        ``numerator`` and ``denominator``, names of the channels; ``guarded_fraction``, the share of
        pixels whose denominator is too small or not finite; ``median`` of the other pixels, NaN
        without any.
    """

    image: NDArray[np.float32]
    ratio_pixels: Mapping[str, float | str]


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("image", Kind.IMAGE), Output("ratio_pixels", Kind.RECORD)),
)
def ratio(
    channels: ChannelPlanes,
    *,
    numerator: str | None = None,
    denominator: str | None = None,
    numerator_offset: Level = 0.0,
    denominator_offset: Level = 0.0,
    least_denominator: PositiveLevel = 50.0,
    guarded: float = 0.0,
) -> Ratio:
    """Divide one channel by another, where there is enough of the other.

    Parameters
    ----------
    channels
        Planes by channel name, of one shape (y, x).
    numerator, denominator
        Names of the channels; None for the first and the second of exactly two.
    numerator_offset, denominator_offset
        Level of the background, in counts, that is taken away first. A ratio of channels with
        their offsets depends on brightness.
    least_denominator
        Where the denominator without its offset is less, in counts, there is no ratio; above 0.
    guarded
        Value of those pixels.

    Returns
    -------
    Ratio
        One image without a channel, and how much of it is guarded.

    Raises
    ------
    ValueError
        If a name is no channel, both are the same, shapes differ, or the least denominator is not
        above 0.
    """
    if not (math.isfinite(least_denominator) and least_denominator > 0):
        raise ValueError(f"least_denominator is {least_denominator}; it must be greater than 0")
    names = tuple(channels)
    if (numerator is None or denominator is None) and len(names) != 2:
        raise ValueError(
            f"there are {len(names)} channels, {', '.join(names)}: give numerator and denominator"
        )
    upper = names[0] if numerator is None else numerator
    lower = names[1] if denominator is None else denominator
    if upper == lower:
        raise ValueError(f"numerator and denominator are both {upper!r}")
    above = _plane(channels, upper, None).astype(np.float32) - np.float32(numerator_offset)
    below = _plane(channels, lower, above.shape).astype(np.float32)
    below -= np.float32(denominator_offset)
    enough = (below >= least_denominator) & np.isfinite(below)
    image = np.full(above.shape, guarded, np.float32)
    np.divide(above, below, out=image, where=enough)
    count = int(np.count_nonzero(enough))
    return Ratio(
        image=image,
        ratio_pixels={
            "numerator": upper,
            "denominator": lower,
            "guarded_fraction": 1 - count / max(image.size, 1),
            "median": float(np.median(image[enough])) if count else math.nan,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmixed:
    """What `unmix` gives.

    Attributes
    ----------
    image
        Shape (y, x) for each channel, the pixel type of that channel.
    unmixed_pixels
        ``condition``: how many times as large noise can become; ``clipped_px_CHANNEL``: pixels
        outside of the range of the pixel type.
    """

    image: Mapping[str, PlaneArray]
    unmixed_pixels: Mapping[str, float]


@function(
    axes=Axes.CHANNELS,
    collapses=frozenset(),
    outputs=(Output("image", Kind.IMAGE), Output("unmixed_pixels", Kind.RECORD)),
)
def unmix(
    channels: ChannelPlanes, *, matrix: Matrix = None, offset: Level | dict[str, float] = 0.0
) -> Unmixed:
    """Take out of each channel what the dyes of the other channels put into it.

    Parameters
    ----------
    channels
        Planes by channel name, of one shape (y, x). Each has one dye of its own.
    matrix
        By channel, and within it by the channel of the dye: which part of the dye's own brightness
        shows there, such as ``{"RFP": {"GFP": 0.08}}`` for 8 % of GFP in RFP. A dye shows fully
        in its own channel, and not at all where nothing is said. None changes nothing.
    offset
        Level without any dye, in counts, for all channels or by channel name. It is taken away
        first and added again, so that noise around it is not clipped.

    Returns
    -------
    Unmixed
        An image for each channel. Integers are rounded half to even and clipped.

    Raises
    ------
    ValueError
        If a name is no channel, a part is negative or not finite, shapes differ, or the channels
        are too much alike to be told apart.

    Notes
    -----
    Zimmermann, Adv. Biochem. Eng. Biotechnol. 95 (2005) 245-265: with as many channels as dyes the
    least-squares solution is the inverse of the matrix. Nothing holds results at 0 or above, which
    would make their mean too large.
    """
    names = tuple(channels)
    mixing = _mixing(names, matrix or {})
    condition = float(np.linalg.cond(mixing))
    if not condition <= _WORST_CONDITION:
        raise ValueError(
            f"the channels are too much alike: unmixing would make noise {condition:.0f} times as "
            "large. Look over matrix"
        )
    levels = [_level(offset, name) for name in names]
    planes: list[PlaneArray] = []
    for name in names:
        planes.append(_plane(channels, name, planes[0].shape if planes else None))
    inverse = np.linalg.inv(mixing)
    images: dict[str, PlaneArray] = {}
    record: dict[str, float] = {"condition": condition}
    for row, name in enumerate(names):
        total = np.full(planes[row].shape, levels[row] - inverse[row] @ levels, np.float32)
        for weight, plane in zip(inverse[row], planes, strict=True):
            if weight:
                with np.errstate(invalid="ignore"):  # of infinite pixels
                    total += np.float32(weight) * plane
        converted = to_dtype(total, planes[row].dtype)
        images[name] = converted.pixels
        record[f"clipped_px_{name}"] = converted.clipped_px
    return Unmixed(image=images, unmixed_pixels=record)


def _mixing(names: tuple[str, ...], matrix: Mapping[str, Mapping[str, float]]) -> NDArray[Any]:
    """Give the matrix that makes channels (rows) of dyes (columns)."""
    mixing = np.eye(len(names))
    for channel, parts in matrix.items():
        for dye, part in parts.items():
            for name in (channel, dye):
                if name not in names:
                    raise ValueError(f"matrix: {name!r} is no channel; there are {names}")
            if not (math.isfinite(part) and part >= 0):
                raise ValueError(f"matrix: {dye} shows as {part} in {channel}; 0 or more is due")
            if channel == dye and part != 1:
                raise ValueError(
                    f"matrix: {dye} shows as {part} in its own channel; parts of a dye are of what "
                    "shows there, so that this one is 1"
                )
            mixing[names.index(channel), names.index(dye)] = part
    return mixing


def _level(offset: float | Mapping[str, float], name: str) -> float:
    if not isinstance(offset, Mapping):
        return float(offset)
    if name not in offset:
        raise ValueError(f"offset has no level for channel {name!r}")
    return float(offset[name])


def _plane(channels: ChannelPlanes, name: str, shape: tuple[int, ...] | None) -> PlaneArray:
    if shape is not None:
        return plane_like(channels, name, shape, "others")
    if name not in channels:
        raise ValueError(f"{name!r} is no channel; there are {', '.join(channels)}")
    return np.asarray(channels[name])
