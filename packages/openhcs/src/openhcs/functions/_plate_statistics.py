"""How well a plate separates its controls, which wells are hits, and what its layout did to it.

Which wells are controls is always said by the caller; nothing follows from a row or a column. What
is not finite, NaN or infinite, is no value: it decides nothing, and its own score is NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BScores",
    "EdgeEffect",
    "Trend",
    "b_score",
    "edge_effect",
    "percent_of_control",
    "robust_z",
    "ssmd",
    "z_prime",
]

_SCALE = 1.4826  # MAD of a normal distribution -> standard deviation
_FEWEST = 3
_ROUNDS = 20
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class BScores:
    """Wells without the trends of their rows and columns.

    Attributes
    ----------
    scores
        Residuals in robust standard deviations, shape (rows, columns); NaN where there is no value.
    sparse_rows, sparse_columns
        Rows and columns, from 0, in which fewer than half of the wells are samples: what was taken
        off there is not to be trusted.
    """

    scores: NDArray[np.float64]
    sparse_rows: tuple[int, ...]
    sparse_columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """Rank correlation of wells with their row or column.

    Attributes
    ----------
    rho
        Spearman's coefficient, -1 to 1.
    p
        Probability of one as far from 0 without a trend, two-sided.
    """

    rho: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeEffect:
    """How the outer ring of wells differs from the wells inside.

    Attributes
    ----------
    difference
        Median of the ring minus median of the inside, in pooled MADs of the two.
    p
        Probability of ranks as different without an effect (Mann-Whitney, two-sided).
    rows, columns
        Trends over the whole plate.
    """

    difference: float
    p: float
    rows: Trend
    columns: Trend


def z_prime(positive: ArrayLike, negative: ArrayLike, *, robust: bool = False) -> float:
    """Say how far apart two groups of control wells are.

    Parameters
    ----------
    positive, negative
        One value per control well, in the units of the feature; shape (wells,). What is not finite
        is left out.
    robust
        Use median and 1.4826 MAD in place of mean and standard deviation.

    Returns
    -------
    float
        At most 1; above 0.5 an assay separates well. NaN with fewer than three wells in a group or
        without any difference between the groups.

    Raises
    ------
    ValueError
        If a group is not one-dimensional.

    Notes
    -----
    Zhang, Chung & Oldenburg, J. Biomol. Screen. 4 (1999) 67-73, with standard deviations of ddof 1.
    """
    (high, wide), (low, narrow) = _moments(positive, robust), _moments(negative, robust)
    if math.isnan(high + low) or high == low:
        return math.nan
    return 1 - 3 * (wide + narrow) / abs(high - low)


def ssmd(positive: ArrayLike, negative: ArrayLike, *, robust: bool = False) -> float:
    """Give the strictly standardised mean difference of two groups of control wells.

    Parameters
    ----------
    positive, negative
        One value per control well, in the units of the feature; shape (wells,). What is not finite
        is left out.
    robust
        Use median and 1.4826 MAD in place of mean and standard deviation.

    Returns
    -------
    float
        Positive when the positive controls are higher; beyond 3 or -3 an effect is strong. NaN
        with fewer than three wells in a group or without any spread.

    Raises
    ------
    ValueError
        If a group is not one-dimensional.

    Notes
    -----
    Zhang, Genomics 89 (2007) 552-561, for independent groups, standard deviations of ddof 1.
    """
    (high, wide), (low, narrow) = _moments(positive, robust), _moments(negative, robust)
    spread = math.hypot(wide, narrow)
    return (high - low) / spread if spread > 0 else math.nan


def robust_z(values: ArrayLike, *, reference: ArrayLike | None = None) -> NDArray[np.float64]:
    """Give each value's distance from the reference in robust standard deviations.

    Parameters
    ----------
    values
        In the units of the feature, any shape.
    reference
        Values that say what is usual, any shape: the negative controls, or by default all values.
        What is not finite is left out.

    Returns
    -------
    NDArray[np.float64]
        Shape of ``values``. NaN where a value is not finite, and everywhere if the reference has no
        spread.
    """
    numbers = _finite(values)
    usual = numbers if reference is None else np.asarray(reference, np.float64)
    centre, mad = _median_mad(usual)
    if not mad > 0:
        return np.full(numbers.shape, math.nan)
    scores: NDArray[np.float64] = (numbers - centre) / (_SCALE * mad)
    return scores


def percent_of_control(
    values: ArrayLike, *, positive: ArrayLike, negative: ArrayLike
) -> NDArray[np.float64]:
    """Place each value between the negative controls (0) and the positive ones (100).

    Parameters
    ----------
    values
        In the units of the feature, any shape.
    positive, negative
        One value per control well; shape (wells,). What is not finite is left out.

    Returns
    -------
    NDArray[np.float64]
        Per cent, shape of ``values``. NaN where a value is not finite, and everywhere if a group is
        empty or their means are equal.

    Raises
    ------
    ValueError
        If a group is not one-dimensional.
    """
    numbers = _finite(values)
    ends = [_known(group) for group in (positive, negative)]
    if any(group.size == 0 for group in ends):
        return np.full(numbers.shape, math.nan)
    top, bottom = (float(group.mean()) for group in ends)
    if top == bottom:
        return np.full(numbers.shape, math.nan)
    percent: NDArray[np.float64] = 100 * (numbers - bottom) / (top - bottom)
    return percent


def b_score(plate: ArrayLike, *, controls: ArrayLike | None = None) -> BScores:
    """Take the trends of rows and columns off a plate.

    Parameters
    ----------
    plate
        One value per well, shape (rows, columns); not finite where there is none.
    controls
        True at control wells, same shape: they do not shape the trends and get scores all the
        same. None of them by default.

    Returns
    -------
    BScores
        All scores are NaN if the residuals of the samples have no spread.

    Raises
    ------
    ValueError
        If the plate is not two-dimensional or the controls have another shape.

    Notes
    -----
    Malo et al., Nat. Biotechnol. 24 (2006) 167-175: residuals of Tukey's two-way median polish over
    1.4826 times their MAD. At most 20 rounds, until no median moves by more than 1e-4 of the MAD.
    """
    values = _plate(plate)
    samples = ~np.isnan(values)
    if controls is not None:
        mask = np.asarray(controls, bool)
        if mask.shape != values.shape:
            raise ValueError(f"controls have shape {mask.shape}, the plate {values.shape}")
        samples &= ~mask
    fitted = np.where(samples, values, math.nan)
    residuals = values.copy()
    for _ in range(_ROUNDS):
        moved = 0.0
        for axis in (1, 0):
            middle = _medians(fitted, axis)
            fitted = fitted - middle
            residuals = residuals - middle
            moved = max(moved, float(np.abs(middle).max(initial=0.0)))
        if moved <= _TOLERANCE * _median_mad(fitted)[1]:
            break
    _, mad = _median_mad(fitted)
    # Rounding leaves residuals of a perfect fit that are not quite 0.
    noise = 1e-12 * float(np.nanmax(np.abs(values), initial=0.0))
    scores = residuals / (_SCALE * mad) if mad > noise else np.full(values.shape, math.nan)
    return BScores(
        scores,
        tuple(int(i) for i in np.flatnonzero(samples.mean(axis=1) < 0.5)),
        tuple(int(i) for i in np.flatnonzero(samples.mean(axis=0) < 0.5)),
    )


def edge_effect(plate: ArrayLike) -> EdgeEffect:
    """Compare the outer ring of wells with the inside, and look for trends.

    Parameters
    ----------
    plate
        One value per well, shape (rows, columns); NaN where there is none and at wells, such as
        controls, that are to be left out.

    Returns
    -------
    EdgeEffect
        NaN where there are fewer than three wells to compare or no spread.

    Raises
    ------
    ValueError
        If the plate is not two-dimensional.
    """
    values = _plate(plate)
    ring = np.ones(values.shape, bool)
    ring[1:-1, 1:-1] = False
    outer, inner = (_known(values[part]) for part in (ring, ~ring))
    difference = p = math.nan
    if min(outer.size, inner.size) >= _FEWEST:
        from scipy import stats  # a second, where there is something to compare

        centres = [float(np.median(group)) for group in (outer, inner)]
        away = np.concatenate(
            [np.abs(group - centre) for group, centre in zip((outer, inner), centres, strict=True)]
        )
        pooled = float(np.median(away))
        difference = (centres[0] - centres[1]) / pooled if pooled > 0 else math.nan
        p = float(stats.mannwhitneyu(outer, inner, alternative="two-sided").pvalue)
    places = np.indices(values.shape)
    rows, columns = (_trend(places[axis], values) for axis in (0, 1))
    return EdgeEffect(difference=difference, p=p, rows=rows, columns=columns)


def _trend(places: NDArray[Any], values: NDArray[np.float64]) -> Trend:
    there = ~np.isnan(values)
    x, y = places[there], values[there]
    if np.unique(x).size < _FEWEST or np.unique(y).size < 2:
        return Trend(math.nan, math.nan)
    from scipy import stats

    found = stats.spearmanr(x, y)
    return Trend(float(found.statistic), float(found.pvalue))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    """Give numbers with NaN for what is not finite."""
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers), numbers, math.nan)


def _plate(plate: ArrayLike) -> NDArray[np.float64]:
    values = _finite(plate)
    if values.ndim != 2:
        raise ValueError(f"a plate has rows and columns; this one has shape {values.shape}")
    return values


def _known(group: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(group, np.float64)
    if values.ndim != 1:
        raise ValueError(f"a group has one value per well; this one has shape {values.shape}")
    return values[np.isfinite(values)]


def _moments(group: ArrayLike, robust: bool) -> tuple[float, float]:
    """Give centre and spread; NaN with fewer than three wells."""
    values = _known(group)
    if values.size < _FEWEST:
        return math.nan, math.nan
    if robust:
        centre, mad = _median_mad(values)
        return centre, _SCALE * mad
    return float(values.mean()), float(values.std(ddof=1))


def _median_mad(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if known.size == 0:
        return math.nan, math.nan
    centre = float(np.median(known))
    return centre, float(np.median(np.abs(known - centre)))


def _medians(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Give the median along an axis, which is kept; 0 where there is nothing."""
    ordered = np.sort(values, axis=axis)  # NaN comes last
    count = (~np.isnan(values)).sum(axis=axis, keepdims=True)
    below, above = (
        np.take_along_axis(ordered, np.maximum(place, 0), axis)
        for place in ((count - 1) // 2, np.minimum(count // 2, values.shape[axis] - 1))
    )
    return np.where(count > 0, (below + above) / 2, 0.0)
