from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime.router import Schedule
from zmqruntime.testing import FakeClock

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

rates = st.floats(0.01, 1000.0)
waits = st.lists(st.floats(0.0, 3.0), max_size=60)


@pytest.mark.req("003.4")
@pytest.mark.req("F.25")
def test_thirty_hertz_with_twenty_milliseconds_of_work_stays_thirty_hertz() -> None:
    clock = FakeClock(1000.0)
    schedule = Schedule(30.0, start=clock())
    for _ in range(900):
        clock.advance(max(0.0, schedule.due - clock()))
        assert schedule.take(max(clock(), schedule.due)) == 0
        clock.advance(0.020)
    assert clock() == pytest.approx(1000.0 + 899 / 30 + 0.020)
    assert schedule.missed == 0


def test_work_longer_than_the_period_runs_back_to_back_and_misses_are_counted() -> None:
    clock = FakeClock()
    schedule = Schedule(30.0, start=clock())
    for _ in range(300):
        clock.advance(max(0.0, schedule.due - clock()))
        schedule.take(max(clock(), schedule.due))
        clock.advance(0.050)
    assert clock() < 300 * (0.050 + 1 / 30)
    assert schedule.taken == 300
    assert schedule.missed == pytest.approx(clock() * 30 - 300, abs=2)


def test_a_pause_is_never_made_up_for() -> None:
    schedule = Schedule(10.0, start=0.0)
    assert schedule.take(0.0) == 0
    assert schedule.take(60.05) == 599  # as after SIGSTOP
    assert schedule.due == pytest.approx(60.1)
    assert (schedule.taken, schedule.missed) == (2, 599)


@PATIENT
@given(rates, st.floats(0.0, 1e6), waits)
def test_ticks_are_due_at_multiples_of_the_period_and_none_is_taken_early(
    hz: float, start: float, late: list[float]
) -> None:
    schedule = Schedule(hz, start=start)
    previous = -math.inf
    for wait in late:
        due = schedule.due
        assert due > previous
        assert (due - start) * hz == pytest.approx(round((due - start) * hz), abs=1e-3)
        now = due + wait
        schedule.take(now)
        assert schedule.due > now or schedule.due == pytest.approx(now)
        assert schedule.due <= now + 1 / hz or schedule.due == pytest.approx(now + 1 / hz)
        previous = due
    assert schedule.taken == len(late)
    assert schedule.taken + schedule.missed == pytest.approx((schedule.due - start) * hz)


def test_a_tick_cannot_be_taken_before_it_is_due() -> None:
    schedule = Schedule(10.0, start=5.0)
    with pytest.raises(ValueError, match="is due in"):
        schedule.take(4.9)


@pytest.mark.parametrize("hz", [0.0, -1.0, math.inf, math.nan, 10_001.0])
def test_a_rate_that_is_none_is_refused(hz: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Schedule(hz, start=0.0)
