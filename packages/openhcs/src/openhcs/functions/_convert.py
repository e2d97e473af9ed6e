"""Conversion between pixel types that keeps values as they are: no stretch, no wrap-around."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions._device import tools_of

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["Converted", "to_dtype"]


@dataclass(frozen=True, slots=True)
class Converted:
    """Pixels of the wanted type.

    Attributes
    ----------
    pixels
        Same shape as the image that was given.
    clipped_px
        How many values lay outside the range of the wanted type.
    """

    pixels: NDArray[Any]
    clipped_px: int


def to_dtype(image: NDArray[Any], dtype: DTypeLike) -> Converted:
    """Convert an image to another pixel type without changing its scale.

    Floats become integers by rounding half to even; what lies outside the range of the wanted type
    is clipped to it and counted. NaN becomes 0 in an integer type and is counted too.

    Parameters
    ----------
    image
        Integers or floats of any shape, on the host or a GPU, where the result lies then. Float
        pixels may be overwritten.
    dtype
        Integer or float type.

    Raises
    ------
    TypeError
        If either type is neither integer nor float.

    Notes
    -----
    A pixel that is within range after rounding is not clipped: 65535.4 becomes 65535.
    """
    wanted = np.dtype(dtype)
    for kind in (image.dtype.kind, wanted.kind):
        if kind not in "iuf":
            message = (
                f"cannot convert {image.dtype} pixels to {wanted}: images hold integers or floats"
            )
            raise TypeError(message)
    if image.dtype == wanted:
        return Converted(image, 0)
    if wanted.kind == "f":
        return _to_float(image, wanted)
    if image.dtype.kind == "f":
        return _float_to_integer(image, wanted)
    return _integer_to_integer(image, wanted)


def _to_float(image: NDArray[Any], wanted: np.dtype[Any]) -> Converted:
    if image.dtype.kind == "f" and image.dtype.itemsize > wanted.itemsize:
        xp = tools_of(image).xp
        top = float(np.finfo(wanted).max)
        beyond = xp.isfinite(image) & (xp.abs(image) > top)
        clipped = int(xp.count_nonzero(beyond))
        if clipped:
            limited = xp.where(beyond, xp.copysign(top, image), image)
            return Converted(limited.astype(wanted), clipped)
    if wanted == np.float16 and image.dtype.kind in "iu":
        return _to_float(image.astype(np.float64), wanted)
    return Converted(image.astype(wanted), 0)


def _float_to_integer(image: NDArray[Any], wanted: np.dtype[Any]) -> Converted:
    if image.size == 0:
        return Converted(image.astype(wanted), 0)
    if image.dtype == np.float16:  # its range ends below that of most integers
        image = image.astype(np.float32)
    xp = tools_of(image).xp
    limits = np.iinfo(wanted)
    low, top = _within(limits, image.dtype)
    # What lies on a GPU was sent for this call, and may be written to.
    rounded = xp.rint(image, out=image if getattr(image.flags, "writeable", True) else None)
    if rounded.min() >= low and rounded.max() <= top:  # false where there is a NaN
        return Converted(rounded.astype(wanted), 0)
    unknown = xp.isnan(rounded)
    above = rounded > top
    clipped = int(xp.count_nonzero(unknown)) + int(xp.count_nonzero(above))
    clipped += int(xp.count_nonzero(rounded < low))
    rounded[unknown] = 0
    pixels = xp.clip(rounded, low, top, out=rounded).astype(wanted)
    pixels[above] = limits.max
    return Converted(pixels, clipped)


def _within(limits: np.iinfo[Any], dtype: np.dtype[Any]) -> tuple[np.floating, np.floating]:
    """Give the outermost floats that an integer type can hold."""
    low, top = dtype.type(limits.min), dtype.type(limits.max)
    if int(top) > limits.max:
        top = np.nextafter(top, dtype.type(0))
    return low, top


def _integer_to_integer(image: NDArray[Any], wanted: np.dtype[Any]) -> Converted:
    if image.size == 0 or np.can_cast(image.dtype, wanted):
        return Converted(image.astype(wanted), 0)
    limits, own = np.iinfo(wanted), np.iinfo(image.dtype)
    low, top = max(limits.min, own.min), min(limits.max, own.max)
    if int(image.min()) >= low and int(image.max()) <= top:
        return Converted(image.astype(wanted), 0)
    xp = tools_of(image).xp
    clipped = int(xp.count_nonzero(image < low)) + int(xp.count_nonzero(image > top))
    return Converted(xp.clip(image, low, top).astype(wanted), clipped)
