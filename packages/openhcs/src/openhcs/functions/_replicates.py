"""How well replicates of a plate agree, and which wells hold too few cells to be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.functions._plate_statistics import robust_z

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CellCounts", "Replicates", "cell_counts", "replicate_correlation"]

_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Agreement of plates that hold the same in the same wells.

    Attributes
    ----------
    pearson, spearman
        Correlation of each two plates over the wells that both have, -1 to 1, shape (plates,
        plates); NaN with fewer than three wells in common or without any spread.
    wells
        How many wells each two plates have in common, shape (plates, plates).
    """

    pearson: NDArray[np.float64]
    spearman: NDArray[np.float64]
    wells: NDArray[np.int64]

    @property
    def median_pearson(self) -> float:
        """Median over the pairs of different plates; NaN where no pair has a correlation."""
        return _median_of_pairs(self.pearson)

    @property
    def median_spearman(self) -> float:
        """Median over the pairs of different plates; NaN where no pair has a correlation."""
        return _median_of_pairs(self.spearman)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCounts:
    """What numbers of cells say about wells.

    Attributes
    ----------
    robust_z
        Distance of each count from the median in robust standard deviations; NaN where there is
        no count, or no spread.
    outlier
        Whether that is more than the limit, either way.
    too_few
        Whether features of so few cells are not to be compared; also where there is no count.
    """

    robust_z: NDArray[np.float64]
    outlier: NDArray[np.bool_]
    too_few: NDArray[np.bool_]


def replicate_correlation(plates: ArrayLike) -> Replicates:
    """Correlate wells across replicates of a plate.

    Parameters
    ----------
    plates
        One value per plate and well, in the units of the feature; shape (plates, wells). A column
        is one well, or one condition, on all plates. NaN where there is no value. Leave controls
        out: strong ones correlate by themselves.

    Raises
    ------
    ValueError
        If it is not two-dimensional.
    """
    values = np.asarray(plates, np.float64)
    if values.ndim != 2:
        raise ValueError(f"expected values of shape (plates, wells); these have {values.shape}")
    known = np.isfinite(values)
    count = len(values)
    pearson, spearman = (np.full((count, count), math.nan) for _ in range(2))
    for i in range(count):
        for j in range(i, count):
            both = known[i] & known[j]
            pair = values[i, both], values[j, both]
            pearson[i, j] = pearson[j, i] = _correlation(*pair)
            spearman[i, j] = spearman[j, i] = _correlation(*(_ranks(each) for each in pair))
    return Replicates(
        pearson=pearson,
        spearman=spearman,
        wells=known.astype(np.int64) @ known.T.astype(np.int64),
    )


def cell_counts(counts: ArrayLike, *, fewest: int = 50, limit: float = 5.0) -> CellCounts:
    """Say which wells have unusual numbers of cells, and which too few to be compared.

    Parameters
    ----------
    counts
        Cells per well, any shape; not finite where there is no well.
    fewest
        Wells with fewer cells than that are marked, 0 or more.
    limit
        Robust standard deviations beyond which a count is an outlier, above 0.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """
    if fewest < 0 or not limit > 0:
        raise ValueError(
            f"fewest is {fewest} and limit {limit}; the first is 0 or more, the second above 0"
        )
    numbers = np.asarray(counts, np.float64)
    scores = robust_z(numbers)
    outlier = np.abs(scores) > limit
    enough = np.isfinite(numbers) & (numbers >= fewest)
    return CellCounts(robust_z=scores, outlier=outlier, too_few=~enough)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if one.size < _FEWEST:
        return math.nan
    first, second = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / scale if scale > 0 else math.nan


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy import stats

    return np.asarray(stats.rankdata(values), np.float64)


def _median_of_pairs(correlations: NDArray[np.float64]) -> float:
    pairs = correlations[np.triu_indices(len(correlations), 1)]
    known = pairs[np.isfinite(pairs)]
    return float(np.median(known)) if known.size else math.nan
