"""Thresholds of two channels below which nothing correlates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import PlaneArray

__all__ = ["costes_thresholds"]

_STEPS = 1024


def costes_thresholds(a: PlaneArray, b: PlaneArray) -> tuple[float, float]:
    """Find the thresholds of two channels below which their pixels do not correlate.

    Parameters
    ----------
    a, b
        Planes of one shape.

    Returns
    -------
    tuple
        Thresholds of a and b in their own units; infinity where the planes do not go together at
        all, so that nothing is above.

    Notes
    -----
    Costes et al., Biophys. J. 86 (2004) 3993-4003: both thresholds move down along the line of
    orthogonal regression until the pixels with at least one channel below correlate no more. A
    pixel is above both thresholds where the lesser of a and of b, taken to a's scale along the
    line, is above that of a. So one histogram of that lesser value, with sums of the products,
    gives the correlation at all of 1024 thresholds at once.
    """
    first, second = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    known = np.isfinite(first) & np.isfinite(second)
    if not known.all():
        first, second = first[known], second[known]
    if first.size < 3:
        return math.inf, math.inf
    mean_a, mean_b = float(first.mean()), float(second.mean())
    first -= mean_a
    second -= mean_b
    products = (first * first, second * second, first * second)
    var_a, var_b, together = (float(product.mean()) for product in products)
    # A correlation of a hundred thousandth is that of rounding.
    if together <= 1e-5 * math.sqrt(var_a * var_b):
        return math.inf, math.inf
    slope = (var_b - var_a + math.hypot(var_b - var_a, 2 * together)) / (2 * together)
    lesser = np.minimum(first, second / slope)
    low, high = float(lesser.min()), float(lesser.max())
    width = (high - low) / _STEPS
    if width == 0:
        return math.inf, math.inf
    bins = np.minimum(((lesser - low) / width).astype(np.int64), _STEPS - 1)
    correlated = _correlated(bins, (first, second, *products))
    # From the top: the first threshold below which nothing correlates.
    least = np.flatnonzero(~correlated)
    edge = low + width * (float(least[-1]) + 1 if least.size else 0.0)
    return edge + mean_a, slope * edge + mean_b


def _correlated(
    bins: NDArray[np.int64], values: tuple[NDArray[np.float64], ...]
) -> NDArray[np.bool_]:
    """Say for each bin whether the pixels up to and with it correlate."""
    count = np.cumsum(np.bincount(bins, minlength=_STEPS)).astype(np.float64)
    a, b, _, _, ab = (
        np.cumsum(np.bincount(bins, weights=value, minlength=_STEPS)) for value in values
    )
    return np.asarray(count * ab - a * b > 0)
