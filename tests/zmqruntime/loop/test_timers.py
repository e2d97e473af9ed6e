from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import TimerHandle
from zmqruntime.loop._timers import Timers


def plan(timers: Timers, due: float, seen: list[str], name: str) -> TimerHandle:
    handle = TimerHandle(due, lambda: seen.append(name))
    timers.add(handle)
    return handle


def make_all(timers: Timers, now: float) -> None:
    while (function := timers.take_due(now)) is not None:
        function()


def test_calls_are_due_in_the_order_of_their_times_and_then_of_their_planning() -> None:
    timers, seen = Timers(), []  # type: ignore[var-annotated]
    for due, name in ((2.0, "third"), (1.0, "first"), (1.0, "second"), (9.0, "never")):
        plan(timers, due, seen, name)
    make_all(timers, 2.0)
    assert seen == ["first", "second", "third"]
    assert (len(timers), timers.due) == (1, 9.0)


def test_a_call_is_not_due_before_its_time() -> None:
    timers = Timers()
    handle = TimerHandle(1.0, int)
    timers.add(handle)
    assert timers.take_due(0.999) is None
    assert not handle.cancelled
    assert timers.take_due(1.0) is int
    assert handle.cancelled, "which also says that it was made"


def test_a_cancelled_call_is_not_made_and_nobody_waits_for_it() -> None:
    timers, seen = Timers(), []  # type: ignore[var-annotated]
    plan(timers, 1.0, seen, "cancelled").cancel()
    plan(timers, 2.0, seen, "kept")
    assert timers.due == 1.0
    assert timers.patience_ms(0.0) == 2000
    assert timers.due == 2.0
    plan(timers, 1.5, seen, "cancelled too").cancel()
    make_all(timers, 3.0)
    assert seen == ["kept"]
    assert timers.patience_ms(3.0) is None


def test_patience_is_rounded_up_so_that_the_last_millisecond_is_slept_too() -> None:
    timers = Timers()
    timers.add(TimerHandle(1.0, int))
    nows = (0.0, 0.9985, 0.9999, 1.0, 2.0)
    assert [timers.patience_ms(now) for now in nows] == [1000, 2, 1, 0, 0]


def test_nothing_is_due_when_nothing_is_planned_or_all_was_forgotten() -> None:
    timers = Timers()
    assert (timers.due, timers.patience_ms(0.0), timers.take_due(1e9)) == (math.inf, None, None)
    timers.add(TimerHandle(1.0, int))
    timers.clear()
    assert (timers.due, len(timers), timers.take_due(1e9)) == (math.inf, 0, None)


def test_calls_that_were_cancelled_do_not_pile_up() -> None:
    timers = Timers()
    kept = TimerHandle(3600.0, int)
    timers.add(kept)
    for _ in range(10_000):
        handle = TimerHandle(3600.0, int)
        timers.add(handle)
        handle.cancel()
    assert len(timers) < 1000
    assert not kept.cancelled


@given(st.lists(st.tuples(st.floats(0.0, 100.0), st.booleans()), max_size=600))
def test_whatever_is_planned_each_is_made_once_and_in_order(
    calls: list[tuple[float, bool]],
) -> None:
    timers = Timers()
    made: list[int] = []
    for number, (due, cancelled) in enumerate(calls):
        handle = TimerHandle(due, lambda number=number: made.append(number))  # type: ignore[misc]
        timers.add(handle)
        if cancelled:
            handle.cancel()
    for now in (25.0, 50.0, 100.0):
        make_all(timers, now)
        assert timers.due > now
    kept = [(due, number) for number, (due, cancelled) in enumerate(calls) if not cancelled]
    assert made == [number for _, number in sorted(kept)]
