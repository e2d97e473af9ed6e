"""Plate statistics against numbers worked out by hand and effects that were planted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from openhcs.functions import (
    b_score,
    edge_effect,
    percent_of_control,
    robust_z,
    ssmd,
    z_prime,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

POSITIVE = [90.0, 100.0, 110.0]  # mean 100, standard deviation 10, MAD 10
NEGATIVE = [9.0, 10.0, 11.0, math.nan]  # mean 10, standard deviation 1, MAD 1


def test_z_prime_of_two_groups() -> None:
    assert z_prime(POSITIVE, NEGATIVE) == pytest.approx(1 - 3 * 11 / 90)
    assert z_prime(NEGATIVE, POSITIVE) == pytest.approx(1 - 3 * 11 / 90)
    assert z_prime(POSITIVE, NEGATIVE, robust=True) == pytest.approx(1 - 3 * 1.4826 * 11 / 90)


def test_ssmd_of_two_groups() -> None:
    assert ssmd(POSITIVE, NEGATIVE) == pytest.approx(90 / math.sqrt(101))
    assert ssmd(NEGATIVE, POSITIVE) == pytest.approx(-90 / math.sqrt(101))
    assert ssmd(POSITIVE, NEGATIVE, robust=True) == pytest.approx(90 / 1.4826 / math.sqrt(101))


def test_one_bad_control_well_moves_the_robust_form_little() -> None:
    spoiled = [*POSITIVE, 95.0, 105.0, 1000.0]
    assert z_prime(spoiled, NEGATIVE) < 0
    assert z_prime(spoiled, NEGATIVE, robust=True) > 0.4


@pytest.mark.parametrize(
    ("positive", "negative"),
    [([1.0, 2.0], NEGATIVE), (POSITIVE, [1.0, 2.0, math.nan]), ([], []), ([5.0] * 4, [5.0] * 4)],
)
def test_too_few_or_equal_controls_give_nan(positive: list[float], negative: list[float]) -> None:
    for robust in (False, True):
        assert math.isnan(z_prime(positive, negative, robust=robust))
        assert math.isnan(ssmd(positive, negative, robust=robust))


def test_statistics_of_samples_are_near_those_of_their_distribution() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(100, 8, 400), rng.normal(20, 4, 400)
    assert z_prime(positive, negative) == pytest.approx(1 - 3 * 12 / 80, abs=0.04)
    assert z_prime(positive, negative, robust=True) == pytest.approx(1 - 3 * 12 / 80, abs=0.06)
    assert ssmd(positive, negative) == pytest.approx(80 / math.sqrt(80), rel=0.08)


@pytest.mark.parametrize("call", [z_prime, ssmd])
def test_a_group_with_two_axes_is_refused(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match="one value per well"):
        call([[1.0, 2.0], [3.0, 4.0]], NEGATIVE)


def test_robust_z_is_the_distance_from_the_reference() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, math.nan]])
    assert robust_z(values)[0] == pytest.approx(np.array([-2, -1, 0]) / 1.4826)
    assert math.isnan(robust_z(values)[1, 2])
    assert robust_z([20.0], reference=NEGATIVE) == pytest.approx([10 / 1.4826])
    assert np.isnan(robust_z([1.0, 1.0, 1.0])).all()


def test_percent_of_control_is_0_at_the_negative_and_100_at_the_positive_controls() -> None:
    found = percent_of_control([10.0, 55.0, 100.0, 190.0], positive=POSITIVE, negative=NEGATIVE)
    assert found == pytest.approx([0, 50, 100, 200])
    assert np.isnan(percent_of_control([1.0], positive=[], negative=NEGATIVE)).all()
    assert np.isnan(percent_of_control([1.0], positive=POSITIVE, negative=POSITIVE)).all()


def _plate(seed: int, *, rows: int = 16, columns: int = 24) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(100, 3, (rows, columns))


def test_the_median_polish_is_tukeys() -> None:
    # Medians of rows 2, 5, 8 leave -1, 0, 1 in each row, whose columns leave nothing; the planted
    # 10 is all that remains, and without spread there is no score.
    plate = np.arange(1.0, 10.0).reshape(3, 3)
    assert np.isnan(b_score(plate).scores).all()
    plate[1, 1] += 10
    assert np.isnan(b_score(plate).scores).all()


def test_b_scores_take_planted_trends_off_and_keep_planted_hits() -> None:
    plate = _plate(0)
    plate += np.linspace(0, 30, 16)[:, None] - 2 * np.arange(24)[None, :]
    hits = [(2, 3), (9, 20), (15, 0)]
    for hit in hits:
        plate[hit] += 40
    scores = b_score(plate).scores
    assert {(int(y), int(x)) for y, x in np.argwhere(scores > 6)} == set(hits)
    rows, columns = np.indices(plate.shape)
    for place in (rows, columns):
        assert stats.spearmanr(place.ravel(), scores.ravel()).pvalue > 0.05
    assert 1.4826 * np.median(np.abs(scores)) == pytest.approx(1, rel=0.02)


def test_controls_do_not_shape_the_fit_and_get_scores() -> None:
    plate = _plate(1)
    controls = np.zeros(plate.shape, bool)
    controls[:, :2] = True
    lifted = plate.copy()
    lifted[:, 0] += 500
    without, with_ = (b_score(values, controls=controls) for values in (plate, lifted))
    assert np.array_equal(without.scores[:, 2:], with_.scores[:, 2:])
    assert (with_.scores[:, 0] > 50).all()
    assert with_.sparse_columns == (0, 1)
    assert with_.sparse_rows == ()


def test_missing_wells_stay_missing() -> None:
    plate = _plate(2)
    plate[3, :13] = math.nan
    plate[7, 7] = math.nan
    found = b_score(plate)
    assert np.array_equal(np.isnan(found.scores), np.isnan(plate))
    assert found.sparse_rows == (3,)


def test_a_plate_with_nothing_on_it() -> None:
    found = b_score(np.full((8, 12), math.nan))
    assert np.isnan(found.scores).all()
    assert found.sparse_rows == tuple(range(8))


@given(st.floats(-1e3, 1e3), st.floats(0.1, 100), st.integers(0, 1000))
def test_b_scores_do_not_depend_on_offset_or_scale(offset: float, scale: float, seed: int) -> None:
    plate = _plate(seed, rows=6, columns=8)
    moved = b_score(plate * scale + offset).scores
    assert moved == pytest.approx(b_score(plate).scores, rel=1e-6, abs=1e-6)


def test_an_edge_effect_is_found_when_planted_and_not_otherwise() -> None:
    plate = _plate(3)
    assert edge_effect(plate).p > 0.05
    assert abs(edge_effect(plate).difference) < 1
    plate[[0, -1], :] += 6
    plate[1:-1, [0, -1]] += 6
    found = edge_effect(plate)
    assert found.p < 1e-6
    assert found.difference == pytest.approx(6 / (3 / 1.4826), rel=0.3)


def test_trends_over_rows_and_columns_are_told_apart() -> None:
    plate = _plate(4) + np.arange(16)[:, None]
    found = edge_effect(plate)
    assert found.rows.rho > 0.7
    assert found.rows.p < 1e-6
    assert found.columns.p > 0.01


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 12)])
def test_a_plate_too_small_or_even_gives_nan(shape: tuple[int, int]) -> None:
    found = edge_effect(np.ones(shape))
    assert math.isnan(found.difference)
    assert math.isnan(found.rows.rho)
    assert math.isnan(edge_effect(np.full(shape, math.nan)).p)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_well_is_missing_and_decides_nothing(value: float) -> None:
    plate, lacking = _plate(5), _plate(5)
    plate[2, 3], lacking[2, 3] = value, math.nan
    assert np.array_equal(b_score(plate).scores, b_score(lacking).scores, equal_nan=True)
    assert np.isnan(b_score(plate).scores).sum() == 1
    assert edge_effect(plate) == edge_effect(lacking)
    assert np.array_equal(robust_z(plate), robust_z(lacking), equal_nan=True)
    spoiled = [*POSITIVE, value]
    for robust in (False, True):
        for call in (z_prime, ssmd):
            expected = call(POSITIVE, NEGATIVE, robust=robust)
            assert call(spoiled, NEGATIVE, robust=robust) == expected
    assert math.isnan(z_prime([1.0, 2.0, value], NEGATIVE))  # two are too few
    found = percent_of_control([55.0, value], positive=spoiled, negative=[*NEGATIVE, value])
    assert found == pytest.approx([50, math.nan], nan_ok=True)
    assert robust_z([20.0], reference=[*NEGATIVE, value]) == pytest.approx([10 / 1.4826])


@pytest.mark.parametrize("call", [b_score, edge_effect])
def test_a_plate_needs_rows_and_columns(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match="rows and columns"):
        call([1.0, 2.0])


def test_controls_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="controls have shape"):
        b_score(np.zeros((8, 12)), controls=np.zeros((12, 8), bool))
