from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore.testing import FakeClock
from polystore.tiles import Motion, Rect, Tile, TileGrid

GRID = TileGrid(height=256 * 40, width=256 * 40)
VIEW = Rect(y=256 * 20, x=256 * 20, height=512, width=512)


def swept(
    speed: float, axis: str = "z", seconds: float = 3.0, begin: float = 0.0
) -> tuple[Motion, FakeClock]:
    clock = FakeClock()
    motion = Motion(clock)
    motion.moved(axis, begin)
    for step in range(1, int(seconds * 50) + 1):
        clock.advance(0.02)
        motion.moved(axis, begin + speed * step * 0.02)
    return motion, clock


@pytest.mark.req("001.11", "B.10")
def test_a_sweep_wants_the_planes_ahead_the_nearest_first() -> None:
    motion, _ = swept(10)
    wanted = motion.planes("z", 1000)
    assert [each.index for each in wanted] == list(range(31, 31 + len(wanted)))
    assert 15 <= len(wanted) <= 20  # 10 per s for 2 s
    likelihoods = [each.likelihood for each in wanted]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert all(0.05 <= each <= 1 for each in likelihoods)


def test_a_fast_sweep_wants_no_more_than_thirty_two_in_its_direction() -> None:
    motion, _ = swept(100)
    assert [each.index for each in motion.planes("z", 10_000)] == list(range(301, 333))
    assert [each.index for each in motion.planes("z", 310)] == list(range(301, 310))


@pytest.mark.req("B.10")
def test_a_turn_is_followed_within_a_moment_and_the_way_before_is_not_forgotten() -> None:
    motion, clock = swept(20)
    for step in range(1, 6):  # a tenth of a second back
        clock.advance(0.02)
        motion.moved("z", 60 - 0.4 * step)
    fast, slow = motion.velocities("z")
    assert fast < 0 < slow
    wanted = motion.planes("z", 1000)
    assert any(each.index < 58 for each in wanted)
    assert any(each.index > 58 for each in wanted)


def test_after_a_rest_nothing_is_wanted() -> None:
    motion, clock = swept(20)
    clock.advance(10)
    assert motion.planes("z", 1000) == ()
    assert motion.tiles(GRID, VIEW) == ()


def test_a_jump_is_no_motion() -> None:
    motion, clock = swept(20)
    clock.advance(0.02)
    motion.jumped("z", 500)
    assert motion.velocities("z") == (0, 0)
    assert motion.planes("z", 1000) == ()


def test_a_pan_wants_the_tiles_ahead_and_not_those_in_view_or_behind() -> None:
    motion, _ = swept(1000, "x", begin=VIEW.x - 3000)
    wanted = motion.tiles(GRID, VIEW)
    assert wanted
    assert all(each.tile.column >= 22 for each in wanted)
    assert all(each.tile.row in {20, 21} for each in wanted)
    assert wanted[0].tile == Tile(0, 20, 22)
    likelihoods = [each.likelihood for each in wanted]
    assert likelihoods == sorted(likelihoods, reverse=True)


def test_a_pan_aslant_wants_the_corner_less_than_the_sides() -> None:
    clock = FakeClock()
    motion = Motion(clock)
    for step in range(100):
        clock.advance(0.02)
        motion.moved("x", VIEW.x + 20 * step)
        motion.moved("y", VIEW.y + 20 * step)
    wanted = {each.tile: each.likelihood for each in motion.tiles(GRID, VIEW)}
    assert wanted[Tile(0, 22, 22)] < wanted[Tile(0, 21, 22)]
    assert wanted[Tile(0, 22, 22)] < wanted[Tile(0, 22, 21)]
    assert len(wanted) <= 2 * 32


@settings(max_examples=60)
@given(
    moves=st.lists(
        st.tuples(st.floats(0.001, 1), st.floats(-3000, 3000), st.floats(-3000, 3000)),
        min_size=1,
        max_size=20,
    ),
    most=st.integers(1, 6),
)
def test_what_is_wanted_is_bounded_ordered_and_not_in_view(
    moves: list[tuple[float, float, float]], most: int
) -> None:
    clock = FakeClock()
    motion = Motion(clock, most=most)
    y = x = 256.0 * 20
    for pause, down, across in moves:
        motion.moved("y", y)
        motion.moved("x", x)
        clock.advance(pause)
        y, x = y + down * pause, x + across * pause
    motion.moved("y", y)
    motion.moved("x", x)
    wanted = motion.tiles(GRID, VIEW)
    assert len(wanted) <= 4 * most
    assert len({each.tile for each in wanted}) == len(wanted)
    likelihoods = [each.likelihood for each in wanted]
    assert likelihoods == sorted(likelihoods, reverse=True)
    assert all(0.05 <= each <= 1 for each in likelihoods)
    assert all(not (20 <= each.tile.row < 22 and 20 <= each.tile.column < 22) for each in wanted)


@settings(max_examples=60)
@given(
    pause=st.floats(0.001, 2),
    between=st.floats(0.01, 0.99),
    speed=st.floats(-100, 100),
)
def test_saying_that_it_has_not_moved_changes_nothing(
    pause: float, between: float, speed: float
) -> None:
    (one, clock), (other, other_clock) = swept(speed), swept(speed)
    clock.advance(pause)
    other_clock.advance(pause * between)
    other.moved("z", speed * 3)
    other_clock.advance(pause - pause * between)
    assert one.velocities("z") == pytest.approx(other.velocities("z"), rel=1e-6, abs=1e-6)


def test_two_positions_at_one_time_make_no_infinite_velocity() -> None:
    motion, _ = swept(10)
    before = motion.velocities("z")
    motion.moved("z", 500.0)
    assert motion.velocities("z") == before
    with pytest.raises(ValueError, match="finite"):
        motion.moved("z", float("nan"))
    with pytest.raises(ValueError, match="above 0"):
        Motion(FakeClock(), most=0)
