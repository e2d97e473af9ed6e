"""Filters that keep what is small and bright."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._checks import checked_plane, positive
from openhcs.functions._convert import to_dtype
from openhcs.functions._device import ARRAYS, tools_of
from openhcs.functions._finite import finite, with_unknown
from openhcs.functions._morphology import opened
from openhcs.functions._quantities import PositiveUm  # noqa: TC001  # read when compiling
from openhcs.functions._registry import Axes, function
from openhcs.functions._scale import enlarge, reduce_mean

if TYPE_CHECKING:
    from openhcs.functions._inputs import PlaneArray

__all__ = ["difference_of_gaussians", "white_top_hat"]

_LARGEST_PX = 12
"""Radius beyond which a plane is opened at a smaller scale."""


@function(axes=Axes.PLANE, needs=frozenset({"pixel_um"}), gpu=ARRAYS)
def difference_of_gaussians(
    plane: PlaneArray,
    *,
    pixel_um: tuple[float, float],
    small_sigma_um: PositiveUm = 0.5,
    large_sigma_um: PositiveUm = 2.0,
) -> PlaneArray:
    """Keep structures between two widths: smooth a plane twice and take the difference.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    pixel_um
        Size of a pixel (y, x) in µm.
    small_sigma_um, large_sigma_um
        Standard deviations in µm, above 0, the second greater than the first.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the plane. Integers are rounded half to even and end at 0:
        what is darker than its surroundings is kept by floats alone.

    Raises
    ------
    ValueError
        If a width is out of its range.

    Notes
    -----
    Marr & Hildreth, Proc. R. Soc. Lond. B 207 (1980) 187-217: with a ratio of 1.6 the difference is
    close to a Laplacian of a Gaussian. Pixels that are not finite have no say in others, and are
    NaN in the result.
    """
    positive(small_sigma_um=small_sigma_um, large_sigma_um=large_sigma_um)
    if small_sigma_um >= large_sigma_um:
        raise ValueError(
            f"small_sigma_um is {small_sigma_um} and large_sigma_um {large_sigma_um}; the first "
            "must be the smaller one"
        )
    tools = tools_of(plane)
    gaussian_filter = tools.ndimage.gaussian_filter
    pixels = finite(checked_plane(plane)).astype(np.float32)
    wide = gaussian_filter(pixels, [large_sigma_um / size for size in pixel_um], mode="nearest")
    narrow = gaussian_filter(pixels, [small_sigma_um / size for size in pixel_um], mode="nearest")
    band = tools.xp.subtract(narrow, wide, out=narrow)
    return with_unknown(to_dtype(band, plane.dtype).pixels, plane)


@function(axes=Axes.PLANE, needs=frozenset({"pixel_um"}), gpu=ARRAYS)
def white_top_hat(
    plane: PlaneArray, *, pixel_um: tuple[float, float], radius_um: PositiveUm = 1.0
) -> PlaneArray:
    """Keep bright structures that are narrower than a disk, such as spots and thin fibres.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    pixel_um
        Size of a pixel (y, x) in µm.
    radius_um
        Radius of the disk in µm, above 0; at least one pixel is taken.

    Returns
    -------
    ndarray
        Shape (y, x), the pixel type of the plane: the plane without its opening, 0 or more.

    Raises
    ------
    ValueError
        If `radius_um` is not above 0.

    Notes
    -----
    Meyer, Contrast features extraction, in Quantitative analysis of microstructures (1979). The
    disk is an octagon. Beyond a radius of 12 px the opening is made of block means and enlarged;
    `subtract_background` does so always, and smooths it, which is for backgrounds. Pixels that are
    not finite have no say in others, and are NaN in the result.
    """
    positive(radius_um=radius_um)
    known = finite(checked_plane(plane))
    return with_unknown(_top_hat(known, radius_um, pixel_um), plane)


def _top_hat(plane: PlaneArray, radius_um: float, pixel_um: tuple[float, float]) -> PlaneArray:
    xp = tools_of(plane).xp
    radius = _radius_px(radius_um, pixel_um)
    factor = max(1, math.ceil(max(radius) / _LARGEST_PX))
    if factor == 1:
        small: PlaneArray = xp.subtract(plane, opened(plane, radius), dtype=plane.dtype)
        return small
    reduced = reduce_mean(plane, (-(-plane.shape[0] // factor), -(-plane.shape[1] // factor)))
    coarse = opened(reduced, _radius_px(radius_um, (pixel_um[0] * factor, pixel_um[1] * factor)))
    background = xp.minimum(enlarge(coarse, (plane.shape[0], plane.shape[1]), degree=1), plane)
    return to_dtype(xp.subtract(plane, background, dtype=np.float32), plane.dtype).pixels


def _radius_px(radius_um: float, pixel_um: tuple[float, float]) -> tuple[int, int]:
    return max(1, round(radius_um / pixel_um[0])), max(1, round(radius_um / pixel_um[1]))
