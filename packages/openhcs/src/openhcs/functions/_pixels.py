"""Pixels that belong to objects, listed once and shared by all that is measured of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ObjectPixels", "in_order", "quantile"]


@dataclass(frozen=True, slots=True)
class ObjectPixels:
    """Pixels that belong to objects.

    Attributes
    ----------
    numbers
        Numbers of the objects, ascending; shape (objects,).
    flat
        Place of each pixel in the flattened plane; shape (pixels,).
    objects
        Row of the object of each pixel; shape (pixels,).
    areas
        Pixels of each object; shape (objects,).
    """

    numbers: NDArray[np.int64]
    flat: NDArray[np.intp]
    objects: NDArray[np.intp]
    areas: NDArray[np.intp]

    @classmethod
    def of(cls, labels: NDArray[Any]) -> ObjectPixels:
        flat = np.flatnonzero(labels != 0)
        labelled = labels.ravel()[flat].astype(np.int64)
        numbers, objects = _ranks(labelled)
        areas = np.bincount(objects, minlength=numbers.size)
        return cls(numbers, flat, objects, areas)

    @property
    def number_dtype(self) -> np.dtype[Any]:
        """The smallest type that holds the row of an object + 1."""
        return np.min_scalar_type(self.numbers.size)

    def total(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values (one per pixel) over each object."""
        sums = np.bincount(self.objects, weights=values, minlength=self.numbers.size)
        return sums.astype(np.float64, copy=False)


def _ranks(labelled: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the distinct numbers, ascending, and for each entry the row of its number."""
    if labelled.size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    low, high = int(labelled.min()), int(labelled.max())
    if low < 0 or high > 4 * labelled.size + (1 << 16):
        numbers, objects = np.unique(labelled, return_inverse=True)
        return numbers.astype(np.int64), objects.astype(np.int64)
    present = np.bincount(labelled, minlength=high + 1) > 0
    rank = np.cumsum(present) - 1
    return np.flatnonzero(present).astype(np.int64), rank[labelled]


def in_order(values: NDArray[Any], pixels: ObjectPixels) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sort values by object, then size; give them and where each object starts."""
    starts = np.cumsum(pixels.areas) - pixels.areas
    if values.dtype in (np.uint8, np.uint16):
        # One sort of one integer is four times as fast as a sort by two keys.
        keys = (pixels.objects << 16) | values
        keys.sort()
        return keys & 0xFFFF, starts
    return values[np.lexsort((values, pixels.objects))], starts


def quantile(
    ordered: NDArray[Any], starts: NDArray[np.int64], counts: NDArray[np.int64], q: float
) -> NDArray[np.float64]:
    """Interpolate between the two values nearest to a quantile.

    NaN for objects without any value, and for those with a NaN.
    """
    result = np.full(counts.size, np.nan)
    some = counts > 0
    place = q * (counts[some] - 1)
    below = place.astype(np.int64)
    above = np.minimum(below + 1, counts[some] - 1)
    low = ordered[starts[some] + below].astype(np.float64)
    high = ordered[starts[some] + above].astype(np.float64)
    with np.errstate(invalid="ignore"):  # between infinite values there is nothing
        result[some] = low + (place - below) * (high - low)
    if ordered.dtype.kind == "f":
        # A NaN comes last: what lies before it is no quantile of all.
        last = ordered[starts[some] + counts[some] - 1]
        result[some] = np.where(np.isnan(last), np.nan, result[some])
    return result
