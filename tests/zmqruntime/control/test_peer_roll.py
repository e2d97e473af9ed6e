from __future__ import annotations

import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest

from zmqruntime import App, BusyError, Hello, IOThread, Peer, ProcessInfo
from zmqruntime.control._codec import Encoding
from zmqruntime.control._messages import PushMessage
from zmqruntime.control._peer import Source
from zmqruntime.control._peer_roll import PeerRoll

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOON = 15.0  # seconds; far more than any of this takes
HELLO = Hello(
    v_min=1,
    v_max=1,
    app=App(name="tests"),
    peer_id="peer",
    incarnation="first",
    process=ProcessInfo(pid=1, start_time=1, uid=1),
)
NEWS = PushMessage(v=1, type="news")


def peer(name: bytes, key: str = "") -> Peer:
    return Peer(
        id=name, owner=False, permitted=True, encoding=Encoding.MSGPACK, source=Source(key=key)
    )


class Lobby:
    """A roll whose socket is a list, and who of it is there."""

    def __init__(self, loop: IOThread) -> None:
        self.loop = loop
        self.counters: Counter[str] = Counter()
        self.sent: list[tuple[bytes, str]] = []
        self.gone: set[bytes] = set()
        self.open = True
        self.roll = PeerRoll(loop, self.counters, send=self.send, see_ends=lambda: self.open)
        self.lost: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.roll.on_lost(lambda each: self.lost.put(each.id))

    def send(self, frames: Sequence[bytes]) -> bool:
        if frames[0] in self.gone:
            self.roll.forget(frames[0])
            return False
        self.sent.append((frames[0], msgspec.msgpack.decode(frames[2])["type"]))
        return True

    def admit(self, *peers: Peer) -> None:
        for each in peers:
            self.loop.submit(self.roll.admit, each, HELLO).result(SOON)


@pytest.fixture
def lobby() -> Iterator[Lobby]:
    with IOThread("lobby") as loop:
        yield Lobby(loop)


def test_who_said_hello_is_known_until_it_is_gone(lobby: Lobby) -> None:
    lobby.admit(peer(b"a"))
    known = lobby.roll.peers[b"a"]
    assert known.hello == HELLO
    lobby.loop.submit(lobby.roll.forget, b"a").result(SOON)
    lobby.loop.submit(lobby.roll.forget, b"a").result(SOON)
    assert lobby.lost.get(timeout=SOON) == b"a"
    lobby.loop.submit(int).result(SOON)
    assert lobby.lost.empty()
    assert lobby.roll.peers == {}


def test_a_push_to_somebody_unknown_is_a_counted_drop(lobby: Lobby) -> None:
    lobby.admit(peer(b"a"))
    for name in (b"a", b"b"):
        lobby.loop.submit(lobby.roll.push, name, NEWS).result(SOON)
    assert lobby.sent == [(b"a", "news")]
    assert lobby.counters == {"pushed": 1, "dropped": 1}


def test_when_a_connection_ends_every_peer_is_touched_once_and_who_is_gone_is_told(
    lobby: Lobby,
) -> None:
    lobby.admit(peer(b"a"), peer(b"b"), peer(b"c"))
    looked = threading.Event()
    lobby.roll.on_disconnected(looked.set)
    lobby.gone = {b"b"}

    def end() -> None:
        for _ in range(3):  # several connections end at one time
            lobby.roll.disconnected()

    lobby.loop.submit(end).result(SOON)
    assert looked.wait(SOON)
    assert lobby.lost.get(timeout=SOON) == b"b"
    assert lobby.sent == [(b"a", "touch"), (b"c", "touch")]
    assert set(lobby.roll.peers) == {b"a", b"c"}


def test_nobody_is_looked_for_on_a_socket_that_is_closed_meanwhile(lobby: Lobby) -> None:
    lobby.admit(peer(b"a"))
    lobby.open = False
    looked = threading.Event()

    def look() -> None:
        lobby.roll.disconnected()
        lobby.loop.call_later(0.1, looked.set)  # which is after the roll has looked

    lobby.loop.submit(look).result(SOON)
    assert looked.wait(SOON)
    assert not lobby.sent
    assert not lobby.counters


def test_who_has_a_key_is_told_why_it_parts_and_others_stay(lobby: Lobby) -> None:
    lobby.admit(peer(b"a", "one"), peer(b"b", "two"), peer(b"c", "one"))
    lobby.loop.submit(lobby.roll.part, "one", "it was revoked").result(SOON)
    assert lobby.sent == [(b"a", "revoked"), (b"c", "revoked")]
    assert [lobby.lost.get(timeout=SOON) for _ in range(2)] == [b"a", b"c"]
    assert set(lobby.roll.peers) == {b"b"}


def test_no_more_are_known_than_there_is_room_for_but_whoever_is_known_may_come_again(
    lobby: Lobby,
) -> None:
    def fill() -> None:
        for number in range(1024):
            lobby.roll.admit(peer(b"%d" % number), HELLO)

    lobby.loop.submit(fill).result(SOON)
    with pytest.raises(BusyError, match="1024 peers") as caught:
        lobby.admit(peer(b"one more"))
    assert caught.value.retryable
    lobby.admit(peer(b"0"))
