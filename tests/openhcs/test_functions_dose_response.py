"""Dose-response curves, replicates and cell counts against truth and independent libraries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import curve_fit

from openhcs.functions import DoseVerdict, cell_counts, dose_response, replicate_correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOSES = np.repeat(0.01 * 3.0 ** np.arange(10), 3)


def curve(
    dose: NDArray[np.float64], low: float, high: float, half: float, hill: float
) -> NDArray[np.float64]:
    return np.asarray(low + (high - low) / (1 + (half / dose) ** hill))


@settings(deadline=None, max_examples=25)
@given(
    low=st.floats(-50, 500),
    effect=st.floats(20, 900),
    rises=st.booleans(),
    half=st.floats(0.05, 40),
    hill=st.floats(0.6, 3),
)
def test_a_curve_without_noise_is_found_exactly(
    low: float, effect: float, rises: bool, half: float, hill: float
) -> None:
    high = low + effect if rises else low - effect
    found = dose_response(DOSES, curve(DOSES, low, high, half, hill))
    assert found.verdict is DoseVerdict.FITTED
    assert found.half_dose_um == pytest.approx(half, rel=1e-3)
    assert found.hill == pytest.approx(hill, rel=1e-3)
    assert found.low == pytest.approx(low, abs=1e-3 * effect)
    assert found.high == pytest.approx(high, abs=1e-3 * effect)
    assert found.r_squared == pytest.approx(1, abs=1e-9)
    assert found.trend.rho == pytest.approx(1 if rises else -1, abs=0.05)
    np.testing.assert_allclose(
        found.at(DOSES), curve(DOSES, low, high, half, hill), atol=1e-3 * effect
    )


def test_a_noisy_curve_is_that_of_another_library() -> None:
    rng = np.random.default_rng(0)
    response = curve(DOSES, 100, 300, 1.5, 1.2) + rng.normal(0, 8, DOSES.size)
    found = dose_response(DOSES, response)
    theirs, covariance = curve_fit(curve, DOSES, response, p0=[100, 300, 1, 1])
    mine = [found.low, found.high, found.half_dose_um, found.hill]
    np.testing.assert_allclose(mine, theirs, rtol=1e-4)
    below, above = found.half_dose_interval_um
    reach = stats.t.ppf(0.975, DOSES.size - 4) * math.sqrt(covariance[2, 2]) / theirs[2]
    assert math.log(above / below) / 2 == pytest.approx(reach, rel=0.02)
    ranks = stats.spearmanr(DOSES, response)
    assert (found.trend.rho, found.trend.p) == pytest.approx((ranks.statistic, ranks.pvalue))


def test_half_doses_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        found = dose_response(DOSES, curve(DOSES, 1, 2, 0.7, 1.0) + rng.normal(0, 0.05, DOSES.size))
        below, above = found.half_dose_interval_um
        covered += below <= 0.7 <= above
    assert covered >= 51  # of 57 expected; 3 standard deviations below


def test_wells_without_a_dose_hold_the_lower_level() -> None:
    doses = np.concatenate([np.zeros(6), DOSES[3:]])
    found = dose_response(doses, np.where(doses > 0, 80 + 0 * doses, 10.0))
    assert found.low == pytest.approx(10, abs=1)


def test_no_response_is_flat() -> None:
    rng = np.random.default_rng(2)
    flat = [
        dose_response(DOSES, rng.normal(100, 5, DOSES.size)).verdict is DoseVerdict.FLAT
        for _ in range(40)
    ]
    assert sum(flat) >= 33  # 5 % are curves by chance
    assert dose_response(DOSES, np.full(DOSES.size, 7.0)).verdict is DoseVerdict.FLAT


def test_an_effect_that_only_begins_is_said_to_lie_outside() -> None:
    found = dose_response(DOSES, curve(DOSES, 100, 300, 900.0, 1.0))
    assert found.verdict is DoseVerdict.OUTSIDE


@pytest.mark.parametrize(
    ("doses", "response"),
    [
        ([1, 2, 4, 4], [1, 2, 3, 3]),
        ([1, 1, 1, 2, 2, 2, 4, 4, 4], [1, 1, 1, 2, 2, 2, 3, 3, 3]),
        ([], []),
        ([math.nan] * 8, list(range(8))),
    ],
)
def test_too_few_doses_give_no_curve(doses: list[float], response: list[float]) -> None:
    found = dose_response(doses, response)
    assert found.verdict is DoseVerdict.TOO_FEW
    assert math.isnan(found.half_dose_um)
    assert np.isnan(found.at([1.0])).all()


@pytest.mark.parametrize(
    ("doses", "response", "message"),
    [
        ([1.0, 2.0], [1.0], "shapes"),
        ([[1.0]], [[1.0]], "shapes"),
        ([-1.0, 1, 2, 3, 4], [1.0, 1, 2, 3, 4], "0 or more"),
    ],
)
def test_what_is_no_dose_is_refused(doses: Any, response: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dose_response(doses, response)


def test_replicates_agree_as_numpy_and_scipy_say() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 2, 300)
    plates = truth + rng.normal(0, 1, (3, 300))
    plates[1, ::7] = np.nan
    found = replicate_correlation(plates)
    assert found.wells[0, 2] == 300
    assert found.wells[0, 1] == 300 - 43
    assert found.pearson[0, 2] == pytest.approx(np.corrcoef(plates[0], plates[2])[0, 1])
    both = ~np.isnan(plates[1])
    ranks = stats.spearmanr(plates[0, both], plates[1, both]).statistic
    assert found.spearman[0, 1] == found.spearman[1, 0] == pytest.approx(ranks)
    # Signal of variance 4 under noise of variance 1 correlates by 4 / 5.
    assert found.median_pearson == pytest.approx(0.8, abs=0.06)
    assert found.median_spearman == pytest.approx(0.79, abs=0.07)


def test_plates_without_common_wells_have_no_correlation() -> None:
    nan = math.nan
    plates: list[list[float]] = [[1, 2, 3, nan], [nan, nan, 1, 2], [5, 5, 5, 5]]
    found = replicate_correlation(plates)
    assert np.isnan(found.pearson[0, 1:]).all()
    assert found.wells.tolist() == [[3, 1, 3], [1, 2, 2], [3, 2, 4]]
    assert math.isnan(found.median_pearson)
    with pytest.raises(ValueError, match="plates, wells"):
        replicate_correlation([1.0, 2.0])


def test_unusual_counts_are_outliers_and_few_cells_are_said_to_be_few() -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(400, (8, 12)).astype(float)
    counts[0, 0], counts[3, 3], counts[5, 5] = 10, 1200, 0
    counts[6, 6], counts[7, 7] = math.inf, math.nan
    found = cell_counts(counts, fewest=50)
    assert np.argwhere(found.outlier).tolist() == [[0, 0], [3, 3], [5, 5]]
    assert np.argwhere(found.too_few).tolist() == [[0, 0], [5, 5], [6, 6], [7, 7]]
    counts[6, 6] = math.nan
    middle = np.nanmedian(counts)
    mad = 1.4826 * np.nanmedian(np.abs(counts - middle))
    assert found.robust_z[3, 3] == pytest.approx((1200 - middle) / mad)
    with pytest.raises(ValueError, match="fewest"):
        cell_counts(counts, fewest=-1)
