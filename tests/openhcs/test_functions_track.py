"""Objects followed through time, against walks that are known and against laptrack."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from openhcs.functions import Stack, Tracks, track_objects
from openhcs.functions._assign import assigned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.5)
SPACING_PX = 20
SIDE = 12 * SPACING_PX

Seen = dict[int, tuple[float, float]]
"""Place (y, x) in px of each walker that is there at one time point."""


def stack_of(times: Sequence[Seen], seed: int = 0, **drawn: Any) -> tuple[Stack, list[Any]]:
    """Draw walkers as disks whose numbers tell nothing; give the walker of each number too."""
    rng = np.random.default_rng(seed)
    planes, who = [], []
    for seen in times:
        walkers = list(seen)
        numbers = rng.permutation(len(walkers)) * 2 + 1
        planes.append(drawn_plane([seen[w] for w in walkers], numbers, drawn.get("radii", {}).get))
        who.append(dict(zip(numbers.tolist(), walkers, strict=True)))
    seconds = drawn.get("seconds", [60.0 * t for t in range(len(times))])
    numbers_t = drawn.get("numbers", range(len(times)))
    return Stack([lambda p=p: p for p in planes], seconds, tuple(numbers_t)), who  # type: ignore[misc]


def drawn_plane(
    places: Sequence[tuple[float, float]], numbers: NDArray[np.int_], radius: Any
) -> NDArray[np.int32]:
    plane = np.zeros((SIDE, SIDE), np.int32)
    y, x = np.mgrid[:SIDE, :SIDE]
    for (at_y, at_x), number in zip(places, numbers.tolist(), strict=True):
        size = radius((at_y, at_x), 4.0)
        box = np.s_[max(0, int(at_y) - 8) : int(at_y) + 9, max(0, int(at_x) - 8) : int(at_x) + 9]
        plane[box][(y[box] - at_y) ** 2 + (x[box] - at_x) ** 2 <= size**2] = number
    return plane


def walks(seed: int, times: int, step_px: float, count: int = 100) -> list[Seen]:
    """Let walkers on a jittered grid go a random way of exactly one step each time."""
    rng = np.random.default_rng(seed)
    grid = np.array([divmod(n, 10) for n in range(count)]) * SPACING_PX + 1.5 * SPACING_PX
    places = grid + rng.uniform(-2, 2, (count, 2))
    found = []
    for _ in range(times):
        found.append({n: (float(y), float(x)) for n, (y, x) in enumerate(places)})
        angle = rng.uniform(0, 2 * np.pi, count)
        # Back to where they came from now and then, so that neighbours stay apart.
        home = grid - places
        places = places + step_px * np.stack([np.sin(angle), np.cos(angle)], axis=1) + 0.3 * home
    return found


def pairs_of(found: Tracks, who: list[Any]) -> set[tuple[int, int, int, int]]:
    """Give every link as (walker, t, walker, t)."""
    tracks = found.tracks
    named = [
        (int(track), int(t), who[int(t)][int(number)])
        for track, t, number in zip(
            tracks["track"], tracks["t"], tracks["ObjectNumber"], strict=True
        )
    ]
    return {(a[2], a[1], b[2], b[1]) for a, b in pairwise(named) if a[0] == b[0]}


def followed(stack: Stack, **parameters: Any) -> Tracks:
    return track_objects(stack, labels=stack, pixel_um=PIXEL_UM, **parameters)


@pytest.mark.parametrize("seed", [1, 2])
def test_links_are_right_up_to_a_third_of_the_spacing(seed: int) -> None:
    times = walks(seed, 12, 0.25 * SPACING_PX)
    steps = [math.dist(one[n], two[n]) / SPACING_PX for one, two in pairwise(times) for n in one]
    assert 0.25 < np.mean(steps) < 0.35
    stack, who = stack_of(times, seed)
    found = pairs_of(followed(stack, max_distance_um=0.5 * SPACING_PX * PIXEL_UM[0]), who)
    true = {(n, t, n, t + 1) for t in range(11) for n in range(100)}
    assert len(found & true) >= 0.95 * len(true)
    assert len(found & true) >= 0.95 * len(found)


def test_small_steps_are_followed_without_an_error() -> None:
    stack, who = stack_of(walks(3, 8, 0.1 * SPACING_PX))
    found = followed(stack, max_distance_um=5.0)
    assert pairs_of(found, who) == {(n, t, n, t + 1) for t in range(7) for n in range(100)}
    assert found.tracking["tracks"] == 100
    assert found.tracking["linked_fraction"] == 1


def test_gaps_are_closed_up_to_the_length_that_is_allowed() -> None:
    times = walks(4, 9, 0.1 * SPACING_PX)
    for walker, missing in ((7, (3,)), (34, (4, 5)), (71, (2, 3, 4))):
        for t in missing:
            del times[t][walker]
    stack, who = stack_of(times)
    found = followed(stack, max_distance_um=5.0, max_missing=2)
    links = pairs_of(found, who)
    assert {(7, 2, 7, 4), (34, 3, 34, 6)} <= links
    assert found.tracking["gaps_closed"] == 2
    assert found.tracking["tracks"] == 101  # the longest gap begins a new one
    assert all(first == second for first, _, second, _ in links)
    assert sorted(found.track_summary["Missing"].tolist())[-3:] == [0, 1, 2]
    none = followed(stack, max_distance_um=5.0, max_missing=0)
    assert none.tracking["gaps_closed"] == 0


def dividing() -> list[Seen]:
    """Let walker 5 part into 200 and 201 at t 4."""
    times = walks(5, 8, 0.05 * SPACING_PX)
    y, x = times[3][5]
    for t in range(4, 8):
        del times[t][5]
        times[t][200] = (y + 1, x - 4.5 - 0.2 * t)
        times[t][201] = (y - 1, x + 4.5 + 0.2 * t)
    return times


def test_a_division_ends_the_mother_and_begins_two_daughters() -> None:
    times = dividing()
    radii = {times[t][n]: 2.9 for t in range(4, 8) for n in (200, 201)}
    stack, who = stack_of(times, radii=radii)
    found = followed(stack, max_distance_um=5.0)
    tracks, summary = found.tracks, found.track_summary
    walker = np.array(
        [who[t][n] for t, n in zip(tracks["t"].tolist(), tracks["ObjectNumber"], strict=True)]
    )
    mother = set(tracks["track"][walker == 5])
    daughters = {n: set(tracks["track"][walker == n]) for n in (200, 201)}
    assert [len(each) for each in (mother, *daughters.values())] == [1, 1, 1]
    assert len(mother | daughters[200] | daughters[201]) == 3
    assert set(tracks["parent"][walker >= 200]) == mother
    row = mother.pop() - 1
    assert (summary["Last_t"][row], summary["Children"][row]) == (3, 2)
    assert found.tracking["splits"] == 1
    without = followed(stack, max_distance_um=5.0, splits=False)
    assert without.tracking["splits"] == 0
    assert not without.tracks["parent"].any()


def test_who_comes_in_beside_another_as_large_is_no_daughter() -> None:
    times = walks(6, 6, 0.05 * SPACING_PX)
    y, x = times[3][44]
    for t in range(3, 6):
        times[t][300] = (y + 9.0, x)
    stack, _ = stack_of(times)
    assert followed(stack, max_distance_um=6.0).tracking["splits"] == 0


def test_way_and_speed_of_a_straight_walk() -> None:
    times = [{0: (60.0, 30.0 + 6 * t), 1: (150.0, 150.0)} for t in range(5)]
    stack, _ = stack_of(times, seconds=[0.0, 30.0, 60.0, 90.0, 120.0])
    summary = followed(stack, max_distance_um=5.0).track_summary
    row = int(np.argmax(summary["PathLength_um"]))
    assert summary["PathLength_um"][row] == pytest.approx(12)
    assert summary["Displacement_um"][row] == pytest.approx(12)
    assert summary["Straightness"][row] == pytest.approx(1)
    assert summary["Speed_um_per_s"][row] == pytest.approx(0.1)
    assert summary["Duration_s"][row] == 120
    still = 1 - row
    assert summary["Speed_um_per_s"][still] == 0
    assert math.isnan(summary["Straightness"][still])


def test_without_times_there_is_no_speed_and_left_out_times_count() -> None:
    times = [{0: (60.0, 30.0 + 6 * t)} for t in (0, 1, 4)]
    stack, _ = stack_of(times, seconds=[math.nan] * 3, numbers=(0, 1, 4))
    found = followed(stack, max_distance_um=6.0)
    assert found.tracks["t"].tolist() == [0, 1, 4]
    assert found.tracking["tracks"] == 1
    assert found.track_summary["Missing"].tolist() == [2]
    assert math.isnan(found.track_summary["Speed_um_per_s"][0])
    assert math.isnan(found.tracking["median_speed_um_per_s"])


@pytest.mark.parametrize("times", [[{}, {}, {}], [{}], [], [{}, {0: (50.0, 50.0)}, {}]])
def test_times_without_objects(times: list[Seen]) -> None:
    stack, _ = stack_of(times)
    found = followed(stack)
    count = sum(map(len, times))
    assert {len(column) for column in found.tracks.values()} == {count}
    assert {len(column) for column in found.track_summary.values()} == {count}
    assert found.tracking["tracks"] == count


def test_labels_of_one_time_are_refused() -> None:
    plane = np.zeros((20, 20), np.int32)
    with pytest.raises(TypeError, match="those of each time point"):
        track_objects(
            Stack([lambda: plane]),
            labels=plane,  # type: ignore[arg-type]  # what a projected t would give
            pixel_um=PIXEL_UM,
        )
    with pytest.raises(ValueError, match="max_distance_um is 0"):
        followed(Stack([lambda: plane]), max_distance_um=0)


def shifted(times: Sequence[Seen], seed: int, most_px: float) -> list[Seen]:
    """Let the stage jump between time points."""
    rng = np.random.default_rng(seed)
    jumps = np.cumsum(rng.uniform(-most_px, most_px, (len(times), 2)), axis=0)
    return [
        {n: (y + jump[0], x + jump[1]) for n, (y, x) in seen.items()}
        for seen, jump in zip(times, jumps, strict=True)
    ]


def test_a_stage_that_jumps_further_than_objects_go_does_no_harm() -> None:
    still = walks(9, 6, 0.1 * SPACING_PX, count=90)
    rng = np.random.default_rng(4)
    for seen in still:  # off the grid, on which a jump of one spacing would look like none
        for n, (y, x) in seen.items():
            seen[n] = (y + 3 * math.sin(7 * n), x + 3 * math.cos(5 * n))
    times = shifted(still, 1, 14.0)
    for seen in times:
        for n in rng.choice(list(seen), 3, replace=False).tolist():
            del seen[n]
    stack, who = stack_of(times)
    lost = followed(stack, max_distance_um=4.0)
    found = followed(stack, max_distance_um=4.0, max_drift_um=12.0)
    assert all(first == second for first, _, second, _ in pairs_of(found, who))
    assert found.tracking["linked_fraction"] > 0.97 > lost.tracking["linked_fraction"]
    assert found.tracking["largest_drift_um"] > 4
    calm, _ = stack_of(still)
    calm_ways = followed(calm, max_distance_um=4.0).track_summary["PathLength_um"]
    ways = found.track_summary["PathLength_um"]
    assert np.median(ways) == pytest.approx(np.median(calm_ways), rel=0.15)


def test_where_nothing_drifts_none_is_found() -> None:
    times = walks(10, 6, 0.1 * SPACING_PX)
    stack, who = stack_of(times)
    found = followed(stack, max_distance_um=5.0, max_drift_um=8.0)
    assert found.tracking["largest_drift_um"] < 0.5
    assert pairs_of(found, who) == {(n, t, n, t + 1) for t in range(5) for n in range(100)}
    few, _ = stack_of([{0: (50.0, 50.0)}, {0: (60.0, 50.0)}])
    assert followed(few, max_drift_um=9.0).tracking["largest_drift_um"] == 0


def test_images_of_unlike_size_are_followed() -> None:
    times = [{0: (60.0, 30.0 + 4 * t), 1: (150.0, 150.0)} for t in range(4)]
    stack, _ = stack_of(times)
    planes = [np.pad(plane, ((0, t), (0, 3 * t))) for t, plane in enumerate(stack)]
    loaders = [lambda plane=plane: plane for plane in planes]
    found = followed(Stack(loaders), max_distance_um=5.0)
    assert found.tracking["tracks"] == 2
    assert found.tracking["links"] == 6


@pytest.mark.timeout(300)  # loading scikit-learn for the first time takes long on a busy computer
def test_laptrack_finds_the_same_links() -> None:
    laptrack = pytest.importorskip("laptrack", reason="laptrack is not installed")
    times = walks(8, 6, 0.12 * SPACING_PX)
    del times[3][50]
    stack, who = stack_of(times)
    ours = followed(stack, max_distance_um=5.0, max_missing=1, splits=False)
    names = [list(seen) for seen in times]
    gate = (5.0 / PIXEL_UM[0]) ** 2
    tracker = laptrack.LapTrack(
        metric="sqeuclidean",
        cutoff=gate,
        gap_closing_metric="sqeuclidean",
        gap_closing_cutoff=2 * gate,
        gap_closing_max_frame_count=2,
        splitting_cutoff=False,
        merging_cutoff=False,
    )
    tree = tracker.predict([np.array(list(seen.values())) for seen in times])
    theirs = {
        (names[t][n], int(t), names[later][other], int(later))
        for (t, n), (later, other) in tree.edges
    }
    assert pairs_of(ours, who) == theirs
    assert (50, 2, 50, 4) in theirs


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(0, 14), max_size=7),
    reach=st.sampled_from([2.0, 10.0, 40.0]),
    missing=st.integers(0, 3),
)
def test_every_object_is_in_one_track_and_every_track_in_one_family(
    seed: int, counts: list[int], reach: float, missing: int
) -> None:
    rng = np.random.default_rng(seed)
    numbers_t = np.cumsum(rng.integers(1, 3, len(counts))).tolist()
    times = [
        {n: (float(y), float(x)) for n, (y, x) in enumerate(rng.uniform(8, SIDE - 8, (count, 2)))}
        for count in counts
    ]
    stack, _ = stack_of(times, seed, numbers=numbers_t)
    found = followed(stack, max_distance_um=reach, max_missing=missing, max_drift_um=5.0)
    tracks, summary = found.tracks, found.track_summary
    true = {
        (t, int(number))
        for t, plane in zip(stack.numbers, stack, strict=True)
        for number in np.unique(plane[plane > 0])
    }
    listed = list(zip(tracks["t"].tolist(), tracks["ObjectNumber"].tolist(), strict=True))
    assert len(listed) == len(true)
    assert set(listed) == true
    rows = list(zip(tracks["track"].tolist(), tracks["t"].tolist(), strict=True))
    assert len(set(rows)) == len(rows)  # a track is at one place at a time
    assert rows == sorted(rows)
    assert summary["Objects"].sum() == len(rows)
    for one, two in pairwise(rows):
        if one[0] == two[0] and numbers_t.index(two[1]) - numbers_t.index(one[1]) > 1:
            assert two[1] - one[1] - 1 <= missing
    for track, parent in zip(summary["track"], summary["parent"], strict=True):
        if parent:
            assert summary["Last_t"][parent - 1] < summary["First_t"][track - 1]
            assert summary["Children"][parent - 1] == 2
    steps = tracks["Step_um"]
    assert (np.isnan(steps)).sum() == len(summary["track"])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    density=st.floats(0.05, 1),
)
def test_the_assignment_is_the_cheapest(seed: int, shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.uniform(size=shape) < density)
    costs = rng.uniform(0, 2, rows.size)
    costs[rng.uniform(size=rows.size) < 0.1] = 0.0
    chosen = assigned(rows, columns, costs, 1.5)
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    # The same with a dense matrix: staying alone costs half the refusal on either side.
    dense = np.full((sum(shape), sum(shape)), 1e6)
    dense[rows, columns] = costs
    dense[np.arange(shape[0]), shape[1] + np.arange(shape[0])] = 0.75
    dense[shape[0] + np.arange(shape[1]), np.arange(shape[1])] = 0.75
    dense[shape[0] :, shape[1] :] = 0
    best = dense[linear_sum_assignment(dense)].sum()
    alone = sum(shape) - 2 * len(chosen)
    assert costs[chosen].sum() + 0.75 * alone == pytest.approx(best)


def test_thousands_of_objects_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    places = rng.uniform(0, 3000, (6000, 2))
    moved = places + rng.normal(0, 4, places.shape)
    pairs = cKDTree(places).sparse_distance_matrix(cKDTree(moved), 60.0, output_type="ndarray")
    chosen = assigned(pairs["i"], pairs["j"], pairs["v"] ** 2, 60.0**2)
    assert np.mean(pairs["i"][chosen] == pairs["j"][chosen]) > 0.95
