"""Thresholds of two channels below which nothing correlates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import PlaneArray

__all__ = ["costes_thresholds"]

_STEPS = 1024
_AT_ONCE = 1 << 18
"""Pixels that are worked on at a time, so that they stay in the processor's cache."""


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
    parts = [slice(start, start + _AT_ONCE) for start in range(0, a.size, _AT_ONCE)]
    a, b = a.ravel(), b.ravel()
    count, sums = 0, np.zeros(2)
    for part in parts:
        first, second = _known(a[part], b[part])
        count += first.size
        sums += first.sum(), second.sum()
    if count < 3:
        return math.inf, math.inf
    mean_a, mean_b = sums / count
    products = np.zeros(3)
    for part in parts:
        first, second = _known(a[part], b[part], (mean_a, mean_b))
        products += (first * first).sum(), (second * second).sum(), (first * second).sum()
    var_a, var_b, together = (float(product) / count for product in products)
    # A correlation of a hundred thousandth is that of rounding.
    if together <= 1e-5 * math.sqrt(var_a * var_b):
        return math.inf, math.inf
    slope = (var_b - var_a + math.hypot(var_b - var_a, 2 * together)) / (2 * together)
    low, high = math.inf, -math.inf
    lowest = [math.inf, math.inf]
    for part in parts:
        first, second = _known(a[part], b[part], (mean_a, mean_b))
        if first.size:
            lesser = np.minimum(first, second / slope)
            low, high = min(low, float(lesser.min())), max(high, float(lesser.max()))
            lowest = [min(lowest[0], float(first.min())), min(lowest[1], float(second.min()))]
    width = (high - low) / _STEPS
    if width == 0:
        return math.inf, math.inf
    histogram = np.zeros((4, _STEPS))
    for part in parts:
        first, second = _known(a[part], b[part], (mean_a, mean_b))
        lesser = np.minimum(first, second / slope)
        bins = np.minimum(((lesser - low) / width).astype(np.int64), _STEPS - 1)
        histogram[0] += np.bincount(bins, minlength=_STEPS)
        for row, values in enumerate((first, second, first * second), 1):
            histogram[row] += np.bincount(bins, weights=values, minlength=_STEPS)
    number, sum_a, sum_b, sum_ab = np.cumsum(histogram, axis=1)
    # From the top: the first threshold below which nothing correlates.
    least = np.flatnonzero(number * sum_ab <= sum_a * sum_b)
    edge = low + width * (float(least[-1]) + 1 if least.size else 0.0)
    # Down the line one channel may leave its own range before the other does.
    return (
        max(edge, lowest[0]) + float(mean_a),
        max(slope * edge, lowest[1]) + float(mean_b),
    )


def _known(
    a: NDArray[Any], b: NDArray[Any], means: tuple[float, float] = (0.0, 0.0)
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the pixels that are finite in both, without the means."""
    first, second = a.astype(np.float64), b.astype(np.float64)
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        known = np.isfinite(first) & np.isfinite(second)
        first, second = first[known], second[known]
    return first - means[0], second - means[1]
