"""Positions of tiles, and the graph that they are solved from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openhcs.functions._align import Pair, PairStatus, neighbours, solve

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPE = (100, 120)
NAN = float("nan")


def grid(rows: int, columns: int) -> NDArray[np.float64]:
    return np.array([(y * 85.0, x * 100.0) for y in range(rows) for x in range(columns)])


def pairs_of(
    stage: NDArray[np.float64],
    displacement: NDArray[np.float64],
    empty: frozenset[int] = frozenset(),
) -> list[Pair]:
    """Make the pairs that tiles so displaced would give; some of them without a measurement."""
    made = []
    for number, (first, second) in enumerate(neighbours(stage, SHAPE, 4)):
        shift = displacement[second] - displacement[first]
        blank = number in empty
        made.append(
            Pair(
                first=first,
                second=second,
                shift_px=(NAN, NAN) if blank else (float(shift[0]), float(shift[1])),
                ncc=NAN if blank else 0.9,
                status=PairStatus.EMPTY if blank else PairStatus.ACCEPTED,
            )
        )
    return made


sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, max_examples=40)
@given(size=sizes, seed=st.integers(0, 10**6))
def test_a_consistent_graph_is_recovered(size: tuple[int, int], seed: int) -> None:
    stage = grid(*size)
    truth = np.random.default_rng(seed).uniform(-8, 8, stage.shape)
    found = solve(pairs_of(stage, truth), stage)
    np.testing.assert_allclose(
        found.displacement_px, truth - truth.mean(axis=0) if len(stage) > 1 else 0, atol=1e-9
    )
    assert found.verdict == ("single" if len(stage) == 1 else "aligned")
    if len(stage) > 1:
        assert found.residual_95_px < 1e-9
        assert found.accepted_fraction == 1


@settings(deadline=None, max_examples=40)
@given(size=sizes, seed=st.integers(0, 10**6), data=st.data())
def test_the_order_of_tiles_does_not_matter(
    size: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    stage = grid(*size)
    rng = np.random.default_rng(seed)
    truth = rng.uniform(-8, 8, stage.shape)
    order = np.array(data.draw(st.permutations(range(len(stage)))))
    plain = neighbours(stage, SHAPE, 4)
    shuffled = neighbours(stage[order], SHAPE, 4)
    assert {(order[i], order[j]) for i, j in shuffled} == set(plain)
    empty = {pair for pair in plain if rng.random() < 0.3}
    noise = {pair: rng.normal(0, 2, 2) for pair in plain}

    def measured(names: NDArray[np.intp], found: list[tuple[int, int]]) -> list[Pair]:
        made = []
        for i, j in found:
            pair = (int(names[i]), int(names[j]))
            shift = truth[pair[1]] - truth[pair[0]] + noise[pair]
            status = PairStatus.EMPTY if pair in empty else PairStatus.ACCEPTED
            made.append(
                Pair(first=i, second=j, shift_px=(shift[0], shift[1]), ncc=0.8, status=status)
            )
        return made

    one = solve(measured(np.arange(len(stage)), plain), stage)
    other = solve(measured(order, shuffled), stage[order])
    np.testing.assert_allclose(other.displacement_px, one.displacement_px[order], atol=1e-6)
    assert other.verdict == one.verdict


def test_a_wrong_pair_is_outvoted() -> None:
    stage = grid(3, 3)
    truth = np.random.default_rng(0).uniform(-5, 5, stage.shape)
    pairs = pairs_of(stage, truth)
    wrong = pairs[4]
    pairs[4] = Pair(
        first=wrong.first,
        second=wrong.second,
        shift_px=(wrong.shift_px[0] + 20, wrong.shift_px[1]),
        ncc=0.5,
        status=PairStatus.ACCEPTED,
    )
    found = solve(pairs, stage)
    error = found.displacement_px - (truth - truth.mean(axis=0))
    assert np.abs(error).max() < 1
    assert found.residual_px[4] > 15
    assert np.argmax(found.residual_px) == 4


def test_empty_pairs_leave_tiles_where_the_stage_says() -> None:
    stage = grid(3, 3)
    count = len(neighbours(stage, SHAPE, 4))
    found = solve(pairs_of(stage, np.ones_like(stage), frozenset(range(count))), stage)
    np.testing.assert_array_equal(found.displacement_px, 0)
    assert found.verdict == "stage-only"
    assert found.accepted_fraction == 0
    assert math.isnan(found.residual_95_px)


def test_an_empty_pair_follows_the_others_of_its_direction() -> None:
    stage = grid(1, 4)
    scale = np.array([(0.0, 3.0 * x) for x in range(4)])  # a stage that steps 3 px too far
    found = solve(pairs_of(stage, scale, frozenset({2})), stage)
    np.testing.assert_allclose(found.displacement_px, scale - scale.mean(axis=0), atol=1e-6)
    assert found.verdict == "partly"
    assert found.aligned.tolist() == [True, True, True, False]


def test_parts_that_do_not_meet_keep_their_places() -> None:
    stage = np.array([(0.0, 0.0), (0, 100), (0, 900), (0, 1000)])
    truth = np.array([(0.0, 0.0), (2, 4), (0, 0), (-2, 6)])
    found = solve(pairs_of(stage, truth), stage)
    np.testing.assert_allclose(found.displacement_px[:2], [(-1, -2), (1, 2)], atol=1e-9)
    np.testing.assert_allclose(found.displacement_px[2:], [(1, -3), (-1, 3)], atol=1e-9)
    assert found.verdict == "partly"


def test_neighbours_follow_from_positions() -> None:
    assert neighbours(grid(1, 1), SHAPE, 4) == []
    assert neighbours(grid(1, 2), SHAPE, 4) == [(0, 1)]
    assert neighbours(grid(2, 2), SHAPE, 24) == [(0, 1), (0, 2), (1, 3), (2, 3)]
    corners = neighbours(grid(2, 2), SHAPE, 4)
    assert len(corners) == 6
    apart = np.array([(0.0, 0.0), (0, 500)])
    assert neighbours(apart, SHAPE, 4) == []
    hole = np.delete(grid(3, 3), 4, axis=0)
    assert len(neighbours(hole, SHAPE, 24)) == 8


@pytest.mark.parametrize("verdict", ["aligned", "partly"])
def test_verdict_says_whether_accepted_pairs_connect_all_tiles(verdict: str) -> None:
    stage = grid(2, 2)
    found_pairs = neighbours(stage, SHAPE, 24)
    assert len(found_pairs) == 4
    empty = frozenset({0}) if verdict == "aligned" else frozenset({0, 3})
    assert solve(pairs_of_pad(stage, empty), stage).verdict == verdict


def pairs_of_pad(stage: NDArray[np.float64], empty: frozenset[int]) -> list[Pair]:
    return [
        Pair(
            first=first,
            second=second,
            shift_px=(NAN, NAN) if n in empty else (0.0, 0.0),
            ncc=NAN if n in empty else 0.9,
            status=PairStatus.EMPTY if n in empty else PairStatus.ACCEPTED,
        )
        for n, (first, second) in enumerate(neighbours(stage, SHAPE, 24))
    ]
