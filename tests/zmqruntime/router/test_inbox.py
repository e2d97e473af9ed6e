from __future__ import annotations

from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import Gap, GapReason
from zmqruntime.router import Storage
from zmqruntime.router._inbox import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOON = 15.0


def inbox(storage: Storage, limit: int = 1000) -> tuple[Inbox[int], list[int]]:
    dropped: list[int] = []
    return Inbox("frame", storage, limit=limit, on_drop=dropped.append), dropped


@pytest.mark.req("003.8")
def test_a_cache_keeps_the_newest_alone() -> None:
    box, dropped = inbox(Storage.CACHE)
    for number in range(1, 6):
        box.put(number, epoch="e", sequence=number)
    assert (box.take(), box.take()) == (5, None)
    assert dropped == [1, 2, 3, 4]
    assert box.superseded == 4
    assert box.take_gaps() == []


@pytest.mark.req("003.8")
@pytest.mark.req("F.27")
@PATIENT
@given(st.integers(1, 10), st.lists(st.booleans(), max_size=60))
def test_a_queue_keeps_order_and_reports_every_overflow(limit: int, puts: list[bool]) -> None:
    box, dropped = inbox(Storage.QUEUE, limit)
    put = 0
    read: list[int] = []
    for is_put in puts:
        if is_put:
            put += 1
            box.put(put, epoch="e", sequence=put)
        elif (entry := box.take()) is not None:
            read.append(entry)
        assert len(box) <= limit
    while (entry := box.take()) is not None:
        read.append(entry)
    gaps = box.take_gaps()
    missing = [number for gap in gaps for number in range(gap.first, gap.last + 1)]
    assert sorted(read + missing) == list(range(1, put + 1))
    assert read == sorted(read)
    assert missing == dropped
    assert box.missing == len(missing)
    assert all(gap.reason is GapReason.EVICTED for gap in gaps)


def test_gaps_beyond_a_thousand_are_still_counted() -> None:
    box, _ = inbox(Storage.QUEUE)
    for number in range(0, 4000, 2):
        box.report(Gap(topic="t", epoch="e", first=number, last=number, reason=GapReason.LINK))
    assert (len(box.take_gaps()), box.missing, box.take_gaps()) == (1000, 2000, [])


def _put(box: Inbox[int]) -> None:
    box.put(7, epoch="e", sequence=1)


@pytest.mark.parametrize(
    ("wake", "found"), [(_put, 7), (Inbox[int].alarm, None), (Inbox[int].close, None)]
)
def test_who_waits_is_woken_by_data_by_an_alarm_and_by_the_end(
    wake: Callable[[Inbox[int]], None], found: int | None
) -> None:
    box, _ = inbox(Storage.QUEUE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(box.wait, SOON)
        while not waiting.done():
            wake(box)
            futures.wait([waiting], 0.01)
    assert waiting.result() == found


def test_an_alarm_before_the_wait_is_not_missed() -> None:
    box, _ = inbox(Storage.QUEUE)
    seen = box.alarms
    box.alarm()
    assert box.wait(None, alarms=seen) is None


def test_what_comes_after_the_end_is_given_back() -> None:
    box, dropped = inbox(Storage.QUEUE)
    box.put(1, epoch="e", sequence=1)
    box.close()
    box.put(2, epoch="e", sequence=2)
    assert (dropped, box.take()) == ([1, 2], None)


def test_a_queue_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Inbox("frame", Storage.QUEUE, limit=0)
