from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore.testing import FakeClock
from polystore.tiles import Ladder, Reason, Rung

RUNGS = [
    Rung(name="low", codec="jpeg", quality=60, frame_bytes=40e3, level=1),
    Rung(name="mid", codec="jpeg", quality=75, frame_bytes=150e3),
    Rung(name="high", codec="jpeg", quality=85, frame_bytes=400e3),
]
FAST = 100e6


def ladder(**options: Any) -> tuple[Ladder, FakeClock]:
    clock = FakeClock()
    return Ladder(RUNGS, clock, **options), clock


@pytest.mark.req("001.13")
def test_a_queue_of_more_than_one_and_a_half_frames_leads_down_at_once() -> None:
    steps, clock = ladder(start="high")
    assert steps.measured(bytes_per_s=None, queue_s=1.4 / 30).rung.name == "high"
    clock.advance(0.01)
    choice = steps.measured(bytes_per_s=None, queue_s=1.6 / 30)
    assert choice.rung.name == steps.rung.name == "mid"
    assert choice.reason is Reason.QUEUE
    assert "53 ms" in choice.text


def test_a_rate_that_is_known_leads_down_to_what_fits() -> None:
    steps, _ = ladder(start="high")
    choice = steps.measured(bytes_per_s=3e6, queue_s=0.2)  # mid needs 4.5 MB/s
    assert choice.rung.name == "low"


def test_what_was_under_way_is_not_counted_twice() -> None:
    steps, clock = ladder(start="high")
    steps.measured(bytes_per_s=None, queue_s=0.3)
    clock.advance(0.1)
    assert steps.measured(bytes_per_s=None, queue_s=0.2).rung.name == "mid"
    clock.advance(0.05)
    # but a queue that grows does not drain
    assert steps.measured(bytes_per_s=None, queue_s=0.4).rung.name == "low"


def test_a_client_that_decodes_too_slowly_is_sent_less() -> None:
    steps, clock = ladder(start="high")
    choice = steps.measured(bytes_per_s=FAST, queue_s=0, decode_s=0.05)
    assert (choice.rung.name, choice.reason) == ("mid", Reason.DECODE)
    for _ in range(100):
        clock.advance(0.1)
        # 20 ms for a frame of mid are 53 ms for one of high
        assert steps.measured(bytes_per_s=FAST, queue_s=0, decode_s=0.02).rung.name == "mid"


def test_spare_rate_leads_up_after_two_seconds_without_a_break() -> None:
    steps, clock = ladder()
    for _ in range(20):
        assert steps.measured(bytes_per_s=FAST, queue_s=0).rung.name == "low"
        clock.advance(0.1)
    steps.measured(bytes_per_s=7e6, queue_s=0)  # 60 % are less than the 4.5 MB/s of mid
    clock.advance(0.1)
    for _ in range(20):
        assert steps.measured(bytes_per_s=FAST, queue_s=0).rung.name == "low"
        clock.advance(0.1)
    choice = steps.measured(bytes_per_s=FAST, queue_s=0)
    assert (choice.rung.name, choice.reason) == ("mid", Reason.SPARE)
    assert "4.50 MB/s are needed" in choice.text


def test_a_climb_that_failed_is_tried_again_after_twice_as_long() -> None:
    steps, clock = ladder(start="mid")
    climbs = []
    for _ in range(4):
        began = clock()
        while steps.rung.name == "mid":
            steps.measured(bytes_per_s=FAST, queue_s=0)
            clock.advance(0.1)
        climbs.append(clock() - began)
        steps.measured(bytes_per_s=FAST, queue_s=0.06)
        assert steps.rung.name == "mid"
        clock.advance(0.06)
    assert climbs == pytest.approx([2.1, 4.1, 8.1, 16.1], abs=0.25)


@pytest.mark.req("001.13")
def test_where_the_rate_is_not_known_the_next_rung_is_tried_ever_more_rarely() -> None:
    steps, clock = ladder()

    def quiet_s() -> float:
        since = clock()
        while steps.rung.name == "low":
            clock.advance(0.5)
            steps.measured(bytes_per_s=None, queue_s=0)
        return clock() - since

    waits = []
    for _ in range(8):
        waits.append(quiet_s())
        assert steps.choice.reason is Reason.TRIED
        assert "not known" in steps.choice.text
        clock.advance(1)
        assert steps.measured(bytes_per_s=0.2e6, queue_s=0.9).rung.name == "low"
        clock.advance(1)
        assert steps.measured(bytes_per_s=0.2e6, queue_s=0).rung.name == "low"
    assert waits == pytest.approx([8, 16, 32, 64, 128, 256, 300, 300], abs=1.5)
    quiet_s()
    assert steps.measured(bytes_per_s=FAST, queue_s=0).rung.name == "mid"  # and stays


def test_a_rate_that_becomes_known_begins_another_wait() -> None:
    steps, clock = ladder()
    for _ in range(70):
        clock.advance(0.1)
        steps.measured(bytes_per_s=None, queue_s=0)
    for _ in range(20):
        clock.advance(0.1)
        assert steps.measured(bytes_per_s=FAST, queue_s=0).rung.name == "low"
    clock.advance(0.1)
    assert steps.measured(bytes_per_s=FAST, queue_s=0).reason is Reason.SPARE


def test_what_was_sent_corrects_what_is_expected() -> None:
    steps, _ = ladder(start="mid")
    for _ in range(40):
        steps.sent(75_000)
    assert steps.expected_bytes_per_s(RUNGS[1]) == pytest.approx(75_000 * 30, rel=0.01)
    assert steps.expected_bytes_per_s(RUNGS[2]) == pytest.approx(200_000 * 30, rel=0.01)
    # a stroke of few tiles says as little as it is
    steps.sent(75_000, share=0.02)
    assert steps.expected_bytes_per_s(RUNGS[1]) < 150_000 * 30


def test_choices_can_be_read_back() -> None:
    steps, clock = ladder(start="high")
    steps.measured(bytes_per_s=None, queue_s=0.2, decode_s=0.01)
    clock.advance(1)
    steps.measured(bytes_per_s=None, queue_s=0.2)
    assert [each.rung.name for each in steps.history] == ["high", "mid", "low"]
    assert steps.history[0].reason is Reason.START
    assert steps.history[1].queue_s == 0.2
    assert steps.history[1].decode_s == 0.01
    assert steps.choice is steps.history[-1]
    assert all(each.text.startswith(each.rung.name) for each in steps.history)


@settings(max_examples=60)
@given(
    events=st.lists(
        st.tuples(
            st.floats(0, 3),
            st.none() | st.floats(1e3, 1e9),
            st.floats(0, 1),
            st.none() | st.floats(0, 0.2),
            st.integers(1, 10**6),
        ),
        max_size=60,
    )
)
def test_it_moves_by_the_rules_whatever_is_measured(events: list[tuple[Any, ...]]) -> None:
    steps, clock = ladder(start="mid")
    spare_since: float | None = None
    for pause, rate, queue_s, decode_s, nbytes in events:
        clock.advance(pause)
        before = steps.rung
        at = RUNGS.index(before)
        above = RUNGS[min(at + 1, 2)]
        fits = rate is not None and steps.expected_bytes_per_s(above) <= 0.6 * rate
        choice = steps.measured(bytes_per_s=rate, queue_s=queue_s, decode_s=decode_s)
        to = RUNGS.index(choice.rung)
        congested = queue_s > 1.5 / 30 or (decode_s or 0) > 1 / 30
        if to > at:
            assert to == at + 1
            assert fits
            assert not congested
            assert spare_since is not None
            assert clock() - spare_since >= 2
        if to < at:
            assert congested
        if not fits or congested or to != at:
            spare_since = None
        elif spare_since is None:
            spare_since = clock()
        steps.sent(nbytes)


@pytest.mark.parametrize(
    ("rungs", "options"),
    [
        ([], {}),
        ([RUNGS[0], RUNGS[0]], {}),
        ([RUNGS[1], RUNGS[0]], {}),
        (RUNGS, {"start": "none"}),
        (RUNGS, {"fps": 0}),
    ],
)
def test_a_ladder_that_cannot_be_is_refused(rungs: list[Rung], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rung|above 0"):
        Ladder(rungs, FakeClock(), **options)


def test_a_rung_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="rung 'x'"):
        Rung(name="x", codec="jpeg", quality=101, frame_bytes=1)
