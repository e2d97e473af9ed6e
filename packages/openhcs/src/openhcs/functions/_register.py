"""Channels, and cycles of staining, laid upon one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from annotated_types import Gt, Unit

from openhcs.functions._convert import to_dtype
from openhcs.functions._device import ARRAYS, on_host, tools_of
from openhcs.functions._inputs import (  # noqa: TC001  # annotations are read when compiling
    ChannelPlanes,
    Columns,
    PlaneArray,
)
from openhcs.functions._match import LEAST_STRIP_PX, Strip, match
from openhcs.functions._quantities import Fraction  # noqa: TC001  # read when compiling
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Registered", "RegistrationVerdict", "register_channels"]

ShiftUm: TypeAlias = Annotated[float, Gt(0), Unit("µm")]
ByName: TypeAlias = dict[str, str] | None
Stated: TypeAlias = dict[str, tuple[float, ...]] | None

_LARGEST_PX = 2048
"""Sides of the part, from the middle of a plane, that is looked at."""
_TEXTURE = 1.15
_STILL_PX = 0.05
"""Smaller shifts are not worth what interpolation does to a plane."""
_UPSAMPLED = 50


class RegistrationVerdict(StrEnum):
    """Where the shift of a channel comes from, and why there may be none."""

    REFERENCE = "reference"
    MEASURED = "measured"
    """Found in the images, and applied."""
    FOLLOWS = "follows"
    """That of the channel that it was said to follow."""
    STATED = "stated"
    WEAK = "weak"
    """The images do not agree well enough at any shift; none is applied."""
    AMBIGUOUS = "ambiguous"
    """Two shifts fit nearly as well; none is applied."""
    BEYOND = "beyond"
    """The best shift is greater than believable; none is applied."""
    EMPTY = "empty"
    """One of the two images holds nothing but noise; no shift is applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What `register_channels` gives.

    Attributes
    ----------
    image
        The channels, each where it belongs; 0 where a shifted channel shows nothing.
    registration
        One row per channel: ``channel``; ``dy_px``, ``dx_px``, ``dy_um`` and ``dx_um``, how far it
        lay below and right of the reference (of a stated affine, in the middle of the plane), and
        was moved back; ``ncc``, how well it fits there, -1 to 1, NaN where it was not measured;
        ``least_ncc``, what it had to exceed; ``confidence``, 0 to 1: 0 where nothing was applied
        for want of it, 1 for what was stated; and ``verdict``.
    """

    image: Mapping[str, PlaneArray]
    registration: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shift:
    """How a channel lies on the reference."""

    offset_px: tuple[float, float] = (0.0, 0.0)
    verdict: RegistrationVerdict
    ncc: float = math.nan
    least: float = math.nan
    affine: NDArray[np.float64] | None = None

    @property
    def confidence(self) -> float:
        if self.verdict in (RegistrationVerdict.REFERENCE, RegistrationVerdict.STATED):
            return 1.0
        if self.verdict is RegistrationVerdict.FOLLOWS and math.isnan(self.least):
            return 1.0  # what was stated, or the reference
        if self.verdict in (RegistrationVerdict.MEASURED, RegistrationVerdict.FOLLOWS):
            return float(np.clip((self.ncc - self.least) / (1 - self.least), 0, 1))
        return 0.0


@function(
    axes=Axes.CHANNELS,
    collapses=frozenset(),
    needs=frozenset({"pixel_um", "guide"}),
    gpu=ARRAYS,
    outputs=(Output("image", Kind.IMAGE), Output("registration", Kind.TABLE)),
    version=2,
)
def register_channels(
    channels: ChannelPlanes,
    *,
    pixel_um: tuple[float, float],
    guide: ChannelPlanes | None = None,
    reference: str | None = None,
    follow: ByName = None,
    stated_um: Stated = None,
    max_shift_um: ShiftUm = 5.0,
    least_ncc: Fraction = 0.2,
) -> Registered:
    """Lay channels, or cycles of staining, upon a reference channel.

    Parameters
    ----------
    channels
        Planes by channel name, of one shape (y, x). The channels of later cycles are among them
        when a plan takes all acquisitions of a plate.
    pixel_um
        Size of a pixel (y, x) in µm.
    guide
        Planes of the middle of the stack, by which all of it is moved, so that no plane out of
        focus goes a way of its own; None, or without a channel, where that is its plane here.
    reference
        Channel that stays; None for the first one.
    follow
        Channels that are moved as another one is: ``{"Cy5 (2)": "DAPI (2)"}`` takes the shift of
        the second cycle from its nuclei, which look like those of the first.
    stated_um
        What is known, by channel: two numbers (y, x) are how far it lies below and right of the
        reference; six are the rows of a matrix that gives the place (y, x) in the channel of a
        place in the reference, in µm from the middle of the plane. It is applied as it is.
    max_shift_um
        Largest believable shift along either axis, above 0.
    least_ncc
        Correlation that a shift has to exceed to be believed, 0 to 1.

    Raises
    ------
    ValueError
        If a name is no channel, a channel both follows and is stated, planes differ in shape, or
        what is stated has neither two nor six numbers.

    Notes
    -----
    Candidates are the highest peaks of a cross-correlation with half whitened spectra, in the
    middle 2048 by 2048 px at most; the correlation of the planes without their background decides
    among them, and has to exceed what planes without anything in common reach by chance. The
    fraction of a pixel is that of an upsampled cross-correlation (Guizar-Sicairos, Thurman &
    Fienup, Opt. Lett. 33 (2008) 156-158): to 0.05 px where both show the same, to 0.3 px between
    nuclei and whole cells. Channels move by linear interpolation, once; one that
    lies within 0.05 px is left untouched. About 0.3 s for each channel of 1080 by 1080 px.
    """
    names = list(channels)
    first = _named(reference, names, "reference") if reference is not None else names[0]
    following, known = follow or {}, stated_um or {}
    _check(first, names, following, known)
    base = channels[first]
    told = {name: guide if guide and name in guide else channels for name in names}
    shown = told[first][first]
    strip = _strip(shown)
    limit = tuple(max_shift_um / size for size in pixel_um)
    shifts = {first: _Shift(verdict=RegistrationVerdict.REFERENCE, ncc=1.0)}
    for name in names:
        if name in known:
            shifts[name] = _stated(known[name], pixel_um)
        elif name not in following and name != first:
            plane = _like(told[name][name], shown, name, first)
            shifts[name] = _measured(strip, _strip(plane), (limit[0], limit[1]), least_ncc)
    for name, leader in following.items():
        shifts[name] = _following(shifts[leader])
    image = {
        name: _moved(_like(channels[name], base, name, first), shifts[name], pixel_um)
        for name in names
    }
    return Registered(image=image, registration=_table({n: shifts[n] for n in names}, pixel_um))


def _named(name: str, names: list[str], what: str) -> str:
    if name not in names:
        message = f"{what} {name!r} is no channel; there are {', '.join(names)}"
        raise ValueError(message)
    return name


def _check(
    first: str,
    names: list[str],
    following: Mapping[str, str],
    known: Mapping[str, tuple[float, ...]],
) -> None:
    for name, leader in following.items():
        _named(name, names, "the follower")
        _named(leader, names, f"{name} follows")
        if name in known or name == first:
            other = "stated" if name in known else "the reference"
            message = f"{name} follows {leader}, and is {other} too"
            raise ValueError(message)
        if leader in following:
            message = f"{name} follows {leader}, which follows {following[leader]} itself"
            raise ValueError(message)
    for name, numbers in known.items():
        _named(name, names, "the stated")
        if len(numbers) not in (2, 6) or not np.isfinite(numbers).all():
            message = f"stated_um of {name} is {numbers}, expected 2 or 6 finite numbers"
            raise ValueError(message)
        if name == first:
            message = f"{name} is the reference, and has no shift to be stated"
            raise ValueError(message)


def _like(plane: PlaneArray, base: PlaneArray, name: str, first: str) -> PlaneArray:
    if plane.shape != base.shape:
        message = f"channel {name} is {plane.shape} px, {first} is {base.shape} px"
        raise ValueError(message)
    return plane


def _strip(plane: PlaneArray) -> Strip | None:
    """Prepare the middle of a plane for matching, on a scale of its own; None if too small."""
    if min(plane.shape) < LEAST_STRIP_PX:
        return None
    cut = tuple(
        slice((size - min(size, _LARGEST_PX)) // 2, (size + min(size, _LARGEST_PX)) // 2)
        for size in plane.shape
    )
    pixels = tools_of(plane).xp.nan_to_num(plane[cut].astype(np.float32), posinf=0.0, neginf=0.0)
    pixels -= pixels.mean()
    spread = float(pixels.std())
    return Strip(pixels / np.float32(spread)) if spread > 0 else None


def _measured(
    first: Strip | None, second: Strip | None, limit: tuple[float, float], least_ncc: float
) -> _Shift:
    if first is None or second is None or min(first.texture, second.texture) < _TEXTURE:
        return _Shift(verdict=RegistrationVerdict.EMPTY)
    found = match(first, second, expected=(0.0, 0.0), limit=limit)
    if found is None:
        return _Shift(verdict=RegistrationVerdict.EMPTY)
    least = max(least_ncc, found.chance)
    if found.ncc <= least:
        return _Shift(verdict=RegistrationVerdict.WEAK, ncc=found.ncc, least=least)
    if any(abs(s) > reach for s, reach in zip(found.shift_px, limit, strict=True)):
        return _Shift(verdict=RegistrationVerdict.BEYOND, ncc=found.ncc, least=least)
    if not found.unique:
        return _Shift(verdict=RegistrationVerdict.AMBIGUOUS, ncc=found.ncc, least=least)
    y, x = _to_a_fraction(first, second, found.shift_px)
    return _Shift(
        offset_px=(-y, -x), verdict=RegistrationVerdict.MEASURED, ncc=found.ncc, least=least
    )


def _to_a_fraction(first: Strip, second: Strip, near: tuple[float, float]) -> tuple[float, float]:
    """Refine a shift by the cross-correlation of what both strips show, upsampled.

    Unlike a comparison of gradients it asks for no common scale of brightness.
    """
    from skimage.registration import phase_cross_correlation

    whole = [round(shift) for shift in near]
    ahead, behind = (
        tuple(
            slice(max(0, sign * step), size + min(0, sign * step))
            for step, size in zip(whole, first.curved.shape, strict=True)
        )
        for sign in (1, -1)
    )
    pictures = [_faded(on_host(first.curved[ahead])), _faded(on_host(second.curved[behind]))]
    left, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]  # scikit-image
        *pictures, upsample_factor=_UPSAMPLED, normalization=None
    )
    if np.abs(left).max() > 1.5:
        return near
    return whole[0] + float(left[0]), whole[1] + float(left[1])


def _faded(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    for axis, size in enumerate(picture.shape):
        window = np.ones(size, np.float32)
        ramp = max(2, size // 16)
        rise = np.hanning(2 * ramp + 1)[1 : ramp + 1].astype(np.float32)
        window[:ramp], window[-ramp:] = rise, rise[::-1]
        picture = picture * (window[:, None] if axis == 0 else window)
    return picture


def _stated(numbers: tuple[float, ...], pixel_um: tuple[float, float]) -> _Shift:
    if len(numbers) == 2:
        offset = numbers[0] / pixel_um[0], numbers[1] / pixel_um[1]
        return _Shift(offset_px=offset, verdict=RegistrationVerdict.STATED)
    affine = np.array(numbers, dtype=np.float64).reshape(2, 3)
    offset = affine[0, 2] / pixel_um[0], affine[1, 2] / pixel_um[1]
    return _Shift(offset_px=offset, verdict=RegistrationVerdict.STATED, affine=affine)


def _following(leader: _Shift) -> _Shift:
    """Give a follower the shift of its leader, or the reason why that has none."""
    verdict = leader.verdict
    if leader.confidence > 0:
        verdict = RegistrationVerdict.FOLLOWS
    return _Shift(
        offset_px=leader.offset_px,
        verdict=verdict,
        ncc=leader.ncc,
        least=leader.least,
        affine=leader.affine,
    )


def _moved(plane: PlaneArray, shift: _Shift, pixel_um: tuple[float, float]) -> PlaneArray:
    ndimage = tools_of(plane).ndimage
    if shift.affine is not None:
        size = np.array(pixel_um)
        middle = (np.array(plane.shape) - 1) / 2
        matrix = shift.affine[:, :2] * size / size[:, None]
        offset = middle + shift.affine[:, 2] / size - matrix @ middle
        moved = ndimage.affine_transform(
            plane.astype(np.float32),
            tools_of(plane).take(matrix),
            offset=offset.tolist(),
            order=1,
            mode="constant",
        )
        return to_dtype(moved, plane.dtype).pixels
    offset_px = np.round(shift.offset_px, 2)
    if np.all(np.abs(offset_px) < _STILL_PX):
        return plane
    moved = ndimage.shift(plane.astype(np.float32), (-offset_px).tolist(), order=1, mode="constant")
    return to_dtype(moved, plane.dtype).pixels


def _table(shifts: Mapping[str, _Shift], pixel_um: tuple[float, float]) -> Columns:
    offsets = np.array([shift.offset_px for shift in shifts.values()], dtype=np.float64)
    return {
        "channel": np.array(list(shifts), dtype=np.str_),
        "dy_px": offsets[:, 0],
        "dx_px": offsets[:, 1],
        "dy_um": offsets[:, 0] * pixel_um[0],
        "dx_um": offsets[:, 1] * pixel_um[1],
        "ncc": np.array([shift.ncc for shift in shifts.values()], dtype=np.float64),
        "least_ncc": np.array([shift.least for shift in shifts.values()], dtype=np.float64),
        "confidence": np.array([shift.confidence for shift in shifts.values()], dtype=np.float64),
        "verdict": np.array([str(shift.verdict) for shift in shifts.values()], dtype=np.str_),
    }
