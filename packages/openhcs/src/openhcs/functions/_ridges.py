"""Bright ridges of stated widths, such as neurites and other fibres."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["ridge_mask", "ridge_strength"]

_NOISE_ROWS = 4
"""Every so many rows the noise is looked at."""


def ridge_strength(
    pixels: NDArray[np.float32], sigmas_px: Sequence[tuple[float, float]]
) -> NDArray[np.float32]:
    """Give how high each pixel stands as a ridge above what is on both of its sides.

    Parameters
    ----------
    pixels
        Shape (y, x), finite.
    sigmas_px
        Scales (y, x) in px; the strongest answer counts.

    Returns
    -------
    NDArray[np.float32]
        Shape (y, x): a ridge with a Gaussian profile of one of the scales gives its own height;
        negative in troughs.

    Notes
    -----
    The lesser eigenvalue of the matrix of second derivatives of a Gaussian (Lindeberg, Int. J.
    Comput. Vis. 30 (1998) 117-156), normalised by its scale.
    """
    strongest: NDArray[np.float32] | None = None
    for sigma in sigmas_px:
        strength = _at_scale(pixels, sigma)
        if strongest is None:
            strongest = strength
        else:
            np.maximum(strongest, strength, out=strongest)
    assert strongest is not None  # the caller has one scale or more
    return strongest


def ridge_mask(
    strength: NDArray[np.float32],
    low_sd: float,
    high_sd: float,
    least: float,
    bare: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.bool_], float, float]:
    """Give the pixels of ridges; what is weak is kept where it goes on from what is strong.

    Parameters
    ----------
    strength
        As `ridge_strength` gives it.
    low_sd, high_sd
        Both thresholds, above the median, in robust standard deviations of the strength.
    least
        What both are at least.
    bare
        Canvas that no tile covers; None for none.

    Returns
    -------
    tuple
        The mask, the standard deviation, and the lower threshold.
    """
    from scipy import ndimage

    rows = strength[::_NOISE_ROWS]
    if bare is not None:
        rows = rows[~bare[::_NOISE_ROWS]]
    middle = float(np.median(rows)) if rows.size else 0.0
    noise = 1.4826 * float(np.median(np.abs(rows - middle))) if rows.size else 0.0
    low, high = (max(middle + sd * noise, least) for sd in (low_sd, high_sd))
    # Where nothing is noisy a threshold of 0 would take everything.
    weak = strength > max(low, 0.0)
    if bare is not None:
        weak &= ~bare
    pieces, count = ndimage.label(weak, structure=np.ones((3, 3), bool))
    strong = np.zeros(count + 1, bool)
    strong[pieces[weak & (strength > max(high, 0.0))]] = True
    strong[0] = False
    return strong[pieces], noise, low


def _at_scale(pixels: NDArray[np.float32], sigma: tuple[float, float]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter1d

    def along(values: NDArray[np.float32], axis: int, order: int) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = gaussian_filter1d(
            values, sigma[axis], axis=axis, order=order, mode="nearest"
        )
        scaled *= np.float32(sigma[axis] ** order)
        return scaled

    yy = along(along(pixels, 1, 0), 0, 2)
    yx = along(along(pixels, 1, 1), 0, 1)
    xx = along(along(pixels, 1, 2), 0, 0)
    half_sum = (yy + xx) * np.float32(0.5)
    strength: NDArray[np.float32] = np.hypot((yy - xx) * np.float32(0.5), yx)
    strength -= half_sum
    strength *= np.float32(2 * math.sqrt(2))
    return strength
