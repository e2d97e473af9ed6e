"""Smoothing, and the taking away of background."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
from annotated_types import Interval, Unit

from openhcs.functions._checks import positive
from openhcs.functions._convert import to_dtype
from openhcs.functions._device import ARRAYS, tools_of
from openhcs.functions._finite import finite, with_unknown
from openhcs.functions._quantities import (  # noqa: TC001  # annotations are read when compiling
    PositivePx,
    PositiveUm,
)
from openhcs.functions._registry import Axes, function
from openhcs.functions._scale import enlarge, reduce_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import PlaneArray

__all__ = ["gaussian", "gaussian_px", "median", "subtract_background"]

OddPx: TypeAlias = Annotated[int, Interval(ge=3, le=31), Unit("px")]

_BALL_PX = 6
"""Radius of the disk that opens a plane, at the scale that the plane is reduced to for it."""

_REDUCED_SIGMA_PX = 5.0
"""A Gaussian of twice this or more is applied at a scale at which it is about this wide."""


@function(axes=Axes.PLANE, needs=frozenset({"pixel_um"}), gpu=ARRAYS)
def gaussian(
    plane: PlaneArray, *, pixel_um: tuple[float, float], sigma_um: PositiveUm = 0.5
) -> PlaneArray:
    """Smooth a plane by a Gaussian whose width is given in µm.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    pixel_um
        Size of a pixel (y, x) in µm.
    sigma_um
        Standard deviation in µm, above 0.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the plane; integers are rounded half to even.

    Raises
    ------
    ValueError
        If `sigma_um` is not above 0.

    Notes
    -----
    One of 10 px or more is applied to block means, at a scale at which it is 5 px wide: within
    0.5 % of the plane's range, and for 50 px in a twentieth of the time. Pixels that are not finite
    have no say in others, and are NaN in the result.
    """
    positive(sigma_um=sigma_um)
    return _smooth(plane, (sigma_um / pixel_um[0], sigma_um / pixel_um[1]))


@function(axes=Axes.PLANE, gpu=ARRAYS)
def gaussian_px(plane: PlaneArray, *, sigma_px: PositivePx = 1.0) -> PlaneArray:
    """Smooth a plane by a Gaussian whose width is given in pixels.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    sigma_px
        Standard deviation in px, above 0.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the plane; integers are rounded half to even.

    Raises
    ------
    ValueError
        If `sigma_px` is not above 0.

    Notes
    -----
    One of 10 px or more is applied to block means, at a scale at which it is 5 px wide: within
    0.5 % of the plane's range, and for 50 px in a twentieth of the time. Pixels that are not finite
    have no say in others, and are NaN in the result.
    """
    positive(sigma_px=sigma_px)
    return _smooth(plane, (sigma_px, sigma_px))


@function(axes=Axes.PLANE, gpu=ARRAYS)
def median(plane: PlaneArray, *, size_px: OddPx = 3) -> PlaneArray:
    """Replace each pixel by the median of the square around it, which removes hot pixels.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    size_px
        Side of the square in px: odd, 3 to 31.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the plane.

    Raises
    ------
    ValueError
        If `size_px` is not odd or out of range.

    Notes
    -----
    Pixels that are not finite have no say in others, and are NaN in the result.
    """
    if size_px % 2 == 0 or not 3 <= size_px <= 31:
        message = f"size_px is {size_px}, expected an odd number from 3 to 31"
        raise ValueError(message)
    median_filter = tools_of(plane).ndimage.median_filter
    return with_unknown(median_filter(finite(plane), size=size_px, mode="nearest"), plane)


@function(axes=Axes.PLANE, needs=frozenset({"pixel_um"}))
def subtract_background(
    plane: PlaneArray, *, pixel_um: tuple[float, float], radius_um: PositiveUm = 25.0
) -> PlaneArray:
    """Take away all that is wider than a disk: haze, gradients and the level between cells.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    pixel_um
        Size of a pixel (y, x) in µm.
    radius_um
        Radius of the disk in µm, above 0; larger than that of the largest object to keep.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the plane. Integers end at 0.

    Raises
    ------
    ValueError
        If `radius_um` is not above 0.

    Notes
    -----
    A white top-hat. The background is opened at a scale at which the radius is 6 px, where block
    means have averaged the noise, then smoothed and enlarged. Pixels that are not finite have no
    say in others, and are NaN in the result.
    """
    from scipy.ndimage import gaussian_filter, grey_opening

    positive(radius_um=radius_um)
    reduced_shape = tuple(
        max(1, min(size, math.ceil(size * step * _BALL_PX / radius_um)))
        for size, step in zip(plane.shape, pixel_um, strict=True)
    )
    known = finite(plane)
    reduced = reduce_mean(known, (reduced_shape[0], reduced_shape[1]))
    radii = [
        radius_um * small / (size * step)
        for small, size, step in zip(reduced.shape, plane.shape, pixel_um, strict=True)
    ]
    opened = grey_opening(reduced, footprint=_disk(radii[0], radii[1]), mode="nearest")
    smooth = gaussian_filter(opened, [radius / 3 for radius in radii], mode="nearest")
    background = enlarge(smooth, (plane.shape[0], plane.shape[1]), degree=1)
    np.subtract(known, background, out=background, dtype=np.float32)
    return with_unknown(to_dtype(background, plane.dtype).pixels, plane)


def _smooth(plane: PlaneArray, sigma_px: tuple[float, float]) -> PlaneArray:
    return with_unknown(_smooth_finite(finite(plane), sigma_px), plane)


def _smooth_finite(plane: PlaneArray, sigma_px: tuple[float, float]) -> PlaneArray:
    gaussian_filter = tools_of(plane).ndimage.gaussian_filter
    factors = [max(1, int(sigma / _REDUCED_SIGMA_PX)) for sigma in sigma_px]
    if max(factors) == 1:
        smooth = gaussian_filter(plane.astype(np.float32), sigma_px, mode="nearest")
        return to_dtype(smooth, plane.dtype).pixels
    height, width = (
        math.ceil(size / factor) for size, factor in zip(plane.shape, factors, strict=True)
    )
    reduced = reduce_mean(plane, (height, width))
    # The blocks have smoothed already, by the variance of a box.
    left = [
        math.sqrt((sigma**2 - (factor**2 - 1) / 12) / (size / count) ** 2)
        for sigma, factor, size, count in zip(
            sigma_px, factors, plane.shape, reduced.shape, strict=True
        )
    ]
    smooth = gaussian_filter(reduced, left, mode="nearest")
    smooth = enlarge(smooth, (plane.shape[0], plane.shape[1]))
    return to_dtype(smooth, plane.dtype).pixels


def _disk(radius_y: float, radius_x: float) -> NDArray[np.bool_]:
    """Give the pixels within an ellipse, of shape (2 * radius_y + 1, 2 * radius_x + 1)."""
    y = np.arange(-math.floor(radius_y), math.floor(radius_y) + 1) / max(radius_y, 0.5)
    x = np.arange(-math.floor(radius_x), math.floor(radius_x) + 1) / max(radius_x, 0.5)
    return np.asarray(np.add.outer(np.square(y), np.square(x)) <= 1)
