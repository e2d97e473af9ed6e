"""The illumination and dark level that explain best what many fields have in common.

A block of a field holds ``dark + profile * scene``. The scene is another in every field, but drawn
from one distribution wherever in the field the block lies: with the right profile the logarithms
of what is left are spread alike at all places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._scale import spline_matrix
from openhcs.functions._threshold import Histogram, otsu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Shading", "fit_shading", "smooth"]

_SMOOTHING = 6 / 128
"""Standard deviation of the profile's smoothing, in sides of the field."""
_ENOUGH = 1 << 18
"""Blocks of all fields together that a profile is fitted to."""
_ENOUGH_FOR_START = 1 << 15
_COARSE = 32
_BINS = 2048
_MARGIN = 0.3
"""By which bins go beyond all but 0.4 % of the logarithms."""
_BANDWIDTH = 0.02
"""Of the distribution of logarithms: finer than the background of a field is even."""
_SPANS = (0.3, 0.15, 0.06, 0.03)
"""How far, in logarithms, a profile may move in each round."""
_TRIED = 25
_DIMMEST = 0.1
"""A profile that is darker anywhere is not believed."""
_GROUPS = 8
"""Parts of the fields that are asked for the dark level one by one, to learn how far it errs."""
_DARK_ROUNDS = 7
_SURE_OF_DARK = 0.1
"""Greatest standard error of a dark level, as a share of the light above it, to be believed."""
_FEWEST = 32
"""Bright or dim blocks that tell a dark level."""


@dataclass(frozen=True, slots=True)
class Shading:
    """What fields have in common.

    Attributes
    ----------
    profile
        Relative illumination of each block, mean 1, shape (rows, columns).
    dark
        Level without light, in counts.
    dark_error
        Its standard error in counts; 0 where it was given, infinite where the fields do not tell
        and it is taken to be 0.
    """

    profile: NDArray[np.float32]
    dark: float
    dark_error: float


def fit_shading(means: NDArray[np.float32], *, dark: float | None) -> Shading:
    """Fit profile and dark level to the block means of many fields.

    Parameters
    ----------
    means
        Shape (fields, rows, columns), in counts; 10 fields or more.
    dark
        Counts of a pixel without light; None to find it.

    Notes
    -----
    The profile is where the distribution of all blocks, taken over the whole field, makes the
    blocks around each place likeliest. So every class of blocks counts by how sharply it is
    defined: the background where cells are sparse or uneven, cells where they leave little of it.
    A percentile over fields is the start, and their mean another; the one wins after which the
    logarithms have less entropy.

    The dark level is found where bright and dim blocks agree on the profile: with too low a level
    the background looks evener lit than cells do. Fields without anything bright cannot tell it.
    Then it is taken to be 0, which evens less than there is but never makes corners too bright.
    About 0.5 s for 64 fields, and as much again for the dark level.
    """
    if dark is not None:
        return Shading(_profile(means - np.float32(dark)), dark, 0.0)
    found, error = _find_dark(means)
    return Shading(_profile(means - np.float32(found)), found, error)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Logarithms of profile, shape (rows, columns), and level of each field, shape (fields,)."""

    profile: NDArray[np.float64]
    level: NDArray[np.float64]


class _Blocks:
    """Some blocks of each field, all blocks over as many fields as there are offsets."""

    def __init__(self, light: NDArray[np.float32], enough: int) -> None:
        self._shape = light.shape[1:]
        self._fields = len(light)
        step = max(1, math.isqrt(light.size // enough))
        looked_at = np.zeros(light.shape, dtype=bool)
        for number in range(self._fields):
            y, x = divmod(number % step**2, step)
            looked_at[number, y::step, x::step] = True
        self._field, self._place = np.divmod(np.flatnonzero(looked_at), math.prod(self._shape))
        self._first = np.searchsorted(self._field, np.arange(self._fields))
        # Moves are found on a grid that does for their smoothness; so small products of matrices
        # are not divided among threads either, which would cost more than they do.
        self._coarse = (min(_COARSE, self._shape[0]), min(_COARSE, self._shape[1]))
        down, across = (
            _cells(size, count) for size, count in zip(self._shape, self._coarse, strict=True)
        )
        self._cell = (down[:, None] * self._coarse[1] + across).ravel()[self._place]
        floor = 0.01 * max(float(np.median(light)), float(np.finfo(np.float32).tiny))
        self._logarithms = np.log(np.maximum(light[looked_at], np.float32(floor)))
        self._rows, self._columns = (_local_lines(count) for count in self._coarse)
        self._down, self._across = (
            spline_matrix(size, count)
            for size, count in zip(self._shape, self._coarse, strict=True)
        )

    def fitted(self, fit: _Fit, spans: Sequence[float]) -> tuple[_Fit, float]:
        """Move profile and levels to where blocks are likeliest; give them and the entropy left."""
        for span in spans:
            spread = _Spread.of(self._left_over(fit))
            reach = max(1, round(span / (_TRIED // 2 * spread.width)))
            moves = reach * np.arange(-(_TRIED // 2), _TRIED // 2 + 1)
            likely = np.empty((_TRIED, *self._coarse))
            by_field = np.empty((_TRIED, self._fields))
            for n, move in enumerate(moves):
                scores = spread.scores(int(move))
                by_cell = np.bincount(self._cell, scores, minlength=likely[n].size)
                likely[n] = self._rows @ by_cell.reshape(self._coarse) @ self._columns.T
                by_field[n] = np.add.reduceat(scores, self._first)
            moved = self._down @ _best(likely) @ self._across.T
            profile = fit.profile + spread.width * reach * moved
            profile = np.maximum(profile - math.log(np.exp(profile).mean()), math.log(_DIMMEST))
            fit = _Fit(profile, fit.level + spread.width * moves[by_field.argmax(axis=0)])
        return fit, _Spread.of(self._left_over(fit)).entropy

    def _left_over(self, fit: _Fit) -> NDArray[np.float64]:
        explained = fit.profile.ravel()[self._place] + fit.level[self._field]
        return np.asarray(self._logarithms - explained)


def _cells(size: int, count: int) -> NDArray[np.intp]:
    """Give the cell, of so many, that each block along an axis lies in."""
    edges = np.rint(np.linspace(0, size, count + 1)).astype(np.intp)
    return np.repeat(np.arange(count), np.diff(edges))


def _best(likely: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the likeliest of an odd number of moves, from the middle one, by a parabola."""
    best = np.clip(likely.argmax(axis=0), 1, len(likely) - 2)
    before, at, after = (
        np.take_along_axis(likely, (best + n)[None], axis=0)[0] for n in (-1, 0, 1)
    )
    curvature = before - 2 * at + after
    between = np.divide((before - after) / 2, curvature, out=np.zeros_like(at), where=curvature < 0)
    return np.asarray(best - len(likely) // 2 + np.clip(between, -1, 1))


@dataclass(frozen=True, slots=True)
class _Spread:
    """How values are spread over bins of one width, and the bin of each."""

    logarithms: NDArray[np.float64]
    bins: NDArray[np.intp]
    width: float
    entropy: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> _Spread:
        from scipy.ndimage import gaussian_filter1d

        low, high = np.quantile(values[:: 1 + len(values) // 50_000], (0.002, 0.998))
        low, high = low - _MARGIN, high + _MARGIN
        width = float(high - low) / _BINS
        bins = np.clip((values - low) / width, 0, _BINS - 1).astype(np.intp)
        counts = np.bincount(bins, minlength=_BINS).astype(np.float64)
        counts[[0, -1]] = 0  # what lies beyond
        counts = gaussian_filter1d(counts, max(1.0, _BANDWIDTH / width))
        share = counts / counts.sum()
        some = share[share > 0]
        entropy = float(-np.sum(some * np.log(some))) + math.log(width)
        # What is rare is no reason to move: debris and dead corners are left where they are.
        return cls(np.log(share + 1e-3 * share.max()), bins, width, entropy)

    def scores(self, move: int) -> NDArray[np.float64]:
        """Give the logarithm of the density of each value, moved down by so many bins."""
        moved = self.logarithms.take(np.arange(_BINS) - move, mode="clip")
        return moved.take(self.bins, mode="clip")  # they are within; to check that takes longer


def _profile(
    light: NDArray[np.float32], start: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Fit a profile of mean 1 to the light of fields without their dark level.

    From one that is nearly right it is fitted to fewer blocks.
    """
    lit = light.mean(axis=(1, 2)) > 0
    if not lit.any():
        return np.ones(light.shape[1:], dtype=np.float32)
    light = light[lit]
    rough = _Blocks(light, _ENOUGH_FOR_START)
    if start is not None:
        return _linear(rough.fitted(_start(light, start), _SPANS[1:3])[0])
    relative = light / light.mean(axis=(1, 2), keepdims=True)
    starts = (np.percentile(relative, 25, axis=0), relative.mean(axis=0))
    fits = [rough.fitted(_start(light, smooth(common)), _SPANS) for common in starts]
    best = min(fits, key=lambda fit: fit[1])[0]
    return _linear(_Blocks(light, _ENOUGH).fitted(best, _SPANS[2:])[0])


def _start(light: NDArray[np.float32], profile: NDArray[np.float32]) -> _Fit:
    common = np.maximum(profile / profile.mean(), _DIMMEST).astype(np.float64)
    level = np.log(light.mean(axis=(1, 2), dtype=np.float64))
    return _Fit(np.log(common / common.mean()), level)


def _linear(fit: _Fit) -> NDArray[np.float32]:
    profile = np.exp(fit.profile)
    profile /= profile.mean()
    return profile.astype(np.float32)


def _find_dark(means: NDArray[np.float32]) -> tuple[float, float]:
    """Give the dark level and its standard error, both in counts."""
    unknown = 0.0, math.inf
    dim = smooth(np.percentile(means, 25, axis=0))
    highest = (float(dim.min()) - _DIMMEST * float(dim.mean())) / (1 - _DIMMEST)
    if not highest > 0:
        return unknown
    tried: dict[float, NDArray[np.float64]] = {}
    start = None
    low, high = 0.0, highest
    for level in (low, high):
        found = _tilts(means, level, start)
        if found is None:
            return unknown
        tried[level], start = found
    for _ in range(_DARK_ROUNDS):
        if not tried[low][0] > 0 > tried[high][0]:
            break  # there is no dark level, or it lies as high as it can
        middle = (low + high) / 2
        found = _tilts(means, middle, start)
        if found is None:
            return unknown
        tried[middle], start = found
        low, high = (middle, high) if tried[middle][0] > 0 else (low, middle)
    levels = np.array(sorted(tried))
    tilts = np.array([tried[level] for level in levels])
    falling = np.minimum.accumulate(tilts[:, 0])
    dark = _where(0.0, levels, falling)
    nearest = tilts[np.argmin(np.abs(levels - dark))]
    error = math.sqrt((_GROUPS - 1) * float(np.var(nearest[1:])))
    # The tilt falls ever faster: what is too low by chance is farther off than what is too high.
    below = dark - _where(error, levels, falling)
    known = falling[0] > error and below <= _SURE_OF_DARK * (float(dim.mean()) - dark)
    return (dark, below) if known else unknown


def _where(wanted: float, levels: NDArray[np.float64], falling: NDArray[np.float64]) -> float:
    return float(np.interp(-wanted, -falling, levels))


def _tilts(
    means: NDArray[np.float32], dark: float, start: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float32]] | None:
    """Say how much more bright blocks follow a profile than dim ones do.

    Returns
    -------
    tuple or None
        With all fields, then without each group of them, shape (1 + groups,): 0 on average with
        the right dark level; and the profile. None where too few blocks are bright or dim.
    """
    light = means - np.float32(dark)
    profile = _profile(light, start)
    every = max(1, math.isqrt(light.size // _ENOUGH))
    even = light[:, ::every, ::every] / profile[::every, ::every]
    histogram = Histogram.of(even, integer=False)
    if histogram is None:
        return None
    bright = even > otsu(histogram).value
    x = np.log(profile[::every, ::every], dtype=np.float64)
    y = np.log(np.maximum(even, np.finfo(np.float32).tiny), dtype=np.float64)
    group = np.arange(len(even)) % _GROUPS
    slopes = []
    for some in (bright, ~bright):
        if np.count_nonzero(some) < _FEWEST:
            return None
        values = np.where(some, y, 0.0)
        sums = np.stack(
            [
                np.einsum("fyx,yx->f", some, np.ones_like(x)),
                np.einsum("fyx,yx->f", some, x),
                np.einsum("fyx,yx->f", some, x * x),
                np.einsum("fyx->f", values),
                np.einsum("fyx,yx->f", values, x),
            ]
        )
        count, sx, sxx, sy, sxy = sums
        # Within each field: wells differ in brightness by what they were treated with.
        share = np.divide(sx, count, out=np.zeros_like(sx), where=count > 0)
        within = np.array([sxy - share * sy, sxx - share * sx])
        kept = [within.sum(axis=1), *(within[:, group != n].sum(axis=1) for n in range(_GROUPS))]
        together, spread = np.array(kept).T
        if not np.all(spread > 0):
            return None
        slopes.append(together / spread)
    return slopes[0] - slopes[1], profile


def smooth(plane: NDArray[np.floating]) -> NDArray[np.float32]:
    """Smooth by a Gaussian along y, then x."""
    rows, columns = (_local_lines(size) for size in plane.shape)
    return np.asarray(rows @ plane @ columns.T, dtype=np.float32)


def _local_lines(size: int) -> NDArray[np.float64]:
    """Give the matrix that smooths `size` values by fitting a line around each of them.

    In the middle that is a Gaussian mean. At the ends, where a mean would flatten the slope
    and brighten dark corners, the line follows it.

    Notes
    -----
    Fan & Gijbels, Local Polynomial Modelling and Its Applications (1996), section 2.3.
    """
    distance = np.subtract.outer(np.arange(size), np.arange(size)).astype(np.float64)
    weight = np.exp(-0.5 * np.square(distance / max(1.0, _SMOOTHING * size)))
    zeroth, first, second = (
        np.sum(weight * distance**power, axis=1, keepdims=True) for power in range(3)
    )
    spread = zeroth * second - np.square(first)
    line = weight * (second - first * distance)
    return np.asarray(np.divide(line, spread, out=np.eye(size), where=spread > 0))
