from __future__ import annotations

import pytest

from zmqruntime.session._outbox import Outbox


class Pipe:
    """A carrier that takes so many more envelopes."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.got: list[bytes] = []

    def send(self, data: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.got.append(data)
        return True


def test_envelopes_go_at_once_while_there_is_room() -> None:
    pipe = Pipe(room=2)
    outbox = Outbox(pipe.send)
    for data in (b"a", b"b", b"c"):
        outbox.put(data)
    assert (pipe.got, len(outbox)) == ([b"a", b"b"], 1)
    pipe.room = 5
    assert outbox.flush()
    assert pipe.got == [b"a", b"b", b"c"]


def test_only_the_newest_of_a_key_waits_in_the_place_of_its_time() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe.send)
    outbox.put(b"x1", key=("x",), lossy=True)
    outbox.put(b"ack")
    outbox.put(b"x2", key=("x",), lossy=True)
    pipe.room = 9
    outbox.flush()
    assert pipe.got == [b"ack", b"x2"]
    assert outbox.counters["superseded"] == 1


@pytest.mark.req("F.32")
def test_a_client_that_does_not_read_loses_notifications_and_no_answers() -> None:
    pipe = Pipe()
    outbox = Outbox(pipe.send, entries=10)
    outbox.put(b"answer")
    for number in range(20):
        outbox.put(b"%d" % number, lossy=True)
    assert outbox.lagging
    assert not outbox.overrun
    assert outbox.counters["dropped"] == 20
    pipe.room = 100
    outbox.flush()
    assert pipe.got == [b"answer"]
    outbox.put(b"late", lossy=True)
    assert pipe.got == [b"answer"], "the client is due a baseline first"
    outbox.caught_up()
    outbox.put(b"again", lossy=True)
    assert pipe.got[-1] == b"again"


def test_too_many_answers_are_too_many() -> None:
    outbox = Outbox(Pipe().send, entries=10)
    for _ in range(11):
        outbox.put(b"answer")
    assert outbox.overrun


def test_bytes_count_too() -> None:
    outbox = Outbox(Pipe().send, nbytes=100)
    outbox.put(b"x" * 101, lossy=True)
    assert outbox.lagging
    assert len(outbox) == 0
