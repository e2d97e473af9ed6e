from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqruntime import FrameError, FrameTooLargeError
from zmqruntime.gateway import LaneReader, TicketOffice, pack_frame
from zmqruntime.testing import FakeClock

SECRET = bytes(range(32))
PARTS = st.lists(st.binary(max_size=100), min_size=1, max_size=5)


def packed(parts: list[bytes], seq: int = 1, secret: bytes = SECRET) -> bytes:
    return pack_frame(
        parts, topic="pixels", seq=seq, time_ns=1, monotonic_ns=2, secret=secret, key="k"
    )


@given(PARTS, st.integers(1, 2**62))
def test_a_frame_is_read_as_it_was_written(parts: list[bytes], seq: int) -> None:
    frame = LaneReader(SECRET).read(packed(parts, seq))
    assert [bytes(frame.header), *map(bytes, frame.parts)] == parts
    assert (frame.topic, frame.seq, frame.key, frame.skipped) == ("pixels", seq, "k", seq - 1)


@pytest.mark.req("S.12")
@given(PARTS, st.data())
@settings(max_examples=150)
def test_a_changed_byte_anywhere_is_noticed(parts: list[bytes], data: st.DataObject) -> None:
    message = bytearray(packed(parts))
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FrameError):
        LaneReader(SECRET).read(bytes(message))


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_other_bytes_are_no_frame(data: bytes) -> None:
    with pytest.raises(FrameError):
        LaneReader(SECRET).read(data)


@pytest.mark.req("S.12")
def test_a_repeat_and_a_frame_of_another_lane_are_refused() -> None:
    reader = LaneReader(SECRET)
    reader.read(packed([b"a"], 3))
    assert reader.read(packed([b"b"], 7)).skipped == 3
    for message in (packed([b"a"], 3), packed([b"b"], 7), packed([b"c"], 8, bytes(32))):
        with pytest.raises(FrameError):
            reader.read(message)


def test_a_frame_has_limits() -> None:
    for parts in ([], [b""] * 63):
        with pytest.raises(FrameTooLargeError):
            packed(parts)
    with pytest.raises(FrameTooLargeError, match="header"):
        pack_frame([b""], topic="t" * 70_000, seq=1, time_ns=1, monotonic_ns=1, secret=SECRET)


@pytest.mark.req("F.28")
def test_a_ticket_is_good_once_soon_and_while_its_session_lasts() -> None:
    clock = FakeClock()
    office = TicketOffice(clock=clock, most=3)
    first, second, third = (office.issue("srv-1") for _ in range(3))
    assert office.redeem(first) == "srv-1"
    assert office.redeem(first) is None
    office.void("srv-1")
    assert office.redeem(second) is None
    late = office.issue("srv-2")
    clock.advance(30.0)
    assert office.redeem(late) is None
    assert office.redeem(third) is None
    tickets = [office.issue(f"srv-{number}") for number in range(4)]
    assert [office.redeem(ticket) for ticket in tickets] == [None, "srv-1", "srv-2", "srv-3"]
