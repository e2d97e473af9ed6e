"""Who holds more names on a sender's data socket than anybody needs is cut off, and nobody else.

Nor does anybody else get what is a reader's, whatever was sent to that socket before.
"""

from __future__ import annotations

import itertools
import os
import queue
import secrets
import socket
import threading
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq

from zmqruntime import (
    Credit,
    Deadline,
    Feed,
    FeedReader,
    GapReason,
    Item,
    LinkState,
    NotFoundError,
    Publisher,
    Subscriber,
    ZMQClient,
)
from zmqruntime.carriers import HostIdentity
from zmqruntime.data._flood_guard import FloodGuard, can_guard
from zmqruntime.data._listeners import Listeners
from zmqruntime.data._stream_messages import feed_topic, stream_topic
from zmqruntime.testing import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zmqruntime import Gap, Peer, Request, ZMQServer

SOON = 20.0  # seconds; far more than any of this takes
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"
tells = pytest.mark.skipif(not can_guard(), reason="the system does not tell what was sent")


class Lobby:
    """A listening socket, and connections to it as libzmq would have accepted them."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._listening = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.endpoint = f"tcp://127.0.0.1:{self._listening.getsockname()[1]}"

    def accept(self) -> tuple[int, socket.socket, socket.socket]:
        """Return the descriptor here, its socket, and the peer's end."""
        peer = self._open.enter_context(
            socket.create_connection(self._listening.getsockname(), SOON)
        )
        here = self._open.enter_context(self._listening.accept()[0])
        return here.fileno(), here, peer

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def lobby() -> Iterator[Lobby]:
    with closing(Lobby()) as lobby:
        yield lobby


def is_open(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.req("S.9", "F.37")
def test_who_holds_too_many_names_is_cut_off_and_the_next_one_is_not(lobby: Lobby) -> None:
    listeners = Listeners(lobby.endpoint, most_names=3)
    (one, _, theirs), (other, _, others) = lobby.accept(), lobby.accept()
    for name in (b"a", b"b", b"c"):
        assert listeners.subscribed(one, name, invited=False)
        assert listeners.subscribed(other, name, invited=False)
    assert not listeners.subscribed(one, b"d", invited=False)
    assert listeners.cut == 1
    assert not is_open(theirs)
    assert not listeners.subscribed(one, b"e", invited=False), "it was still listened to"
    assert is_open(others)
    assert listeners.nbytes == 3


@pytest.mark.req("S.9")
def test_names_that_are_given_up_or_said_twice_do_not_count(lobby: Lobby) -> None:
    listeners = Listeners(lobby.endpoint, most_names=3, most_bytes=30)
    descriptor, _, peer = lobby.accept()
    listeners.subscribed(descriptor, b"early", invited=False)
    listeners.unsubscribed(descriptor, b"early")
    listeners.read_to_the_end()
    for number in range(100):
        name = b"name %d" % number
        assert listeners.subscribed(descriptor, name, invited=False)
        assert not listeners.subscribed(descriptor, name, invited=False)
        listeners.unsubscribed(descriptor, name)
        listeners.unsubscribed(descriptor, name)
    assert listeners.nbytes == listeners.cut == 0
    assert is_open(peer)


@pytest.mark.req("S.9")
def test_secret_words_of_readers_count_when_their_reader_is_gone(lobby: Lobby) -> None:
    listeners = Listeners(lobby.endpoint, most_names=3)
    descriptor, _, peer = lobby.accept()
    words = [b"word %d" % number for number in range(10)]
    for word in words:
        assert listeners.subscribed(descriptor, word, invited=True)
    listeners.unsubscribed(descriptor, words.pop())
    assert listeners.nbytes == 0
    for word in words[:3]:
        listeners.uninvite(word)
    assert is_open(peer)
    listeners.uninvite(words[3])
    assert not is_open(peer)


@pytest.mark.req("S.9")
def test_of_many_connections_the_one_that_holds_most_is_ended(lobby: Lobby) -> None:
    listeners = Listeners(lobby.endpoint, most_bytes=100, most_bytes_together=200)
    connections = [lobby.accept() for _ in range(4)]
    for (descriptor, _, _), size in zip(connections, (20, 90, 60, 40), strict=True):
        listeners.subscribed(descriptor, bytes(size), invited=False)
    assert [is_open(peer) for *_, peer in connections] == [True, False, True, True]
    assert listeners.nbytes == 120


@pytest.mark.req("S.9")
def test_a_descriptor_that_is_used_again_begins_anew(lobby: Lobby) -> None:
    listeners = Listeners(lobby.endpoint, most_names=3)
    (descriptor, here, _), (other, _, peer) = lobby.accept(), lobby.accept()
    for name in (b"a", b"b", b"c"):
        assert listeners.subscribed(descriptor, name, invited=False)
    assert listeners.subscribed(descriptor, b"a", invited=False), "it may be another's first"
    listeners.read_to_the_end()
    assert listeners.subscribed(descriptor, b"a", invited=False), "it is its own first"
    assert not listeners.subscribed(descriptor, b"a", invited=False)
    here.close()
    listeners.look()
    assert len(listeners) == listeners.nbytes == 0
    os.dup2(other, descriptor)
    try:
        for name in (b"a", b"b", b"c", b"d", b"e"):  # perhaps of who had the number before
            assert listeners.subscribed(descriptor, name, invited=False)
        assert listeners.nbytes == 5
        assert is_open(peer)
        assert listeners.subscribed(descriptor, b"a", invited=False), "it may be another's first"
        listeners.read_to_the_end()
        assert listeners.subscribed(descriptor, b"a", invited=False), "it is its own first"
        assert not listeners.subscribed(descriptor, b"a", invited=False)
        for name in (b"a", b"b"):
            listeners.unsubscribed(descriptor, name)
        assert listeners.nbytes == 3
        for name in (b"f", b"g", b"h"):
            assert listeners.subscribed(descriptor, name, invited=False)
        assert is_open(peer)
        assert not listeners.subscribed(descriptor, b"i", invited=False)
        assert not is_open(peer)
    finally:
        os.close(descriptor)


@pytest.mark.req("S.9", "S.15")
def test_a_descriptor_of_something_else_is_left_alone(lobby: Lobby, tmp_path: Path) -> None:
    listeners = Listeners(lobby.endpoint, most_names=1)
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "file").open("wb") as file, closing(Lobby()) as elsewhere:
        descriptor, _, peer = elsewhere.accept()
        for each in (ours.fileno(), file.fileno(), descriptor, -1, 10**6):
            for name in (b"a", b"b", b"c"):
                assert listeners.subscribed(each, name, invited=False)
        assert len(listeners) == listeners.cut == 0
        assert is_open(peer)
        assert is_open(theirs)
        before = os.dup(0)  # the lowest number that is free
        os.close(before)
        for number in range(20):
            listeners.subscribed(file.fileno(), b"%d" % number, invited=False)
        after = os.dup(0)
        os.close(after)
        assert after == before, "descriptors were left open"


@pytest.mark.req("S.9")
def test_who_is_dismissed_is_ended_unless_it_may_be_somebody_else(lobby: Lobby) -> None:
    listeners = Listeners(lobby.endpoint)
    (one, here, _), (other, _, peer) = lobby.accept(), lobby.accept()
    listeners.dismiss(-1, "is nobody")
    listeners.dismiss(one, "is not known, so that it may be another")
    assert listeners.cut == 0
    here.close()
    listeners.look()
    os.dup2(other, one)
    try:
        listeners.dismiss(one, "perhaps said something")
        assert is_open(peer)
        listeners.read_to_the_end()
        listeners.dismiss(one, "said something")
        assert not is_open(peer)
        listeners.dismiss(one, "is gone already")
        assert listeners.cut == 1
    finally:
        os.close(one)


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def frame_of(name: bytes) -> bytes:
    body = b"\x01" + name
    head = b"\0" + bytes([len(body)]) if len(body) < 256 else b"\2" + len(body).to_bytes(8, "big")
    return head + body


def visit(port: int) -> socket.socket:
    """Connect as a SUB socket does."""
    with ExitStack() as stack:
        visitor = stack.enter_context(socket.create_connection(("127.0.0.1", port), SOON))
        introduce(visitor)
        stack.pop_all()
    return visitor


def introduce(connection: socket.socket) -> None:
    """Say what a SUB socket says first, and hear the other end out."""
    connection.sendall(GREETING + b"\x04" + bytes([len(READY)]) + READY)
    heard = b""
    while b"READY" not in heard:
        heard += (more := connection.recv(4096))
        if not more:
            raise ConnectionAbortedError("it was sent away before it said anything")


def flood(port: int, names: bytes) -> None:
    """Subscribe to names on one connection, as fast as it takes them, until it is ended."""
    deadline = Deadline(SOON)
    while not deadline.expired:
        # What the last flood said may be taken for that of who comes next with its descriptor,
        # which is ended then, and comes again as SUB sockets do.
        with suppress(ConnectionAbortedError), visit(port) as visitor:
            pour(visitor, names)
            return
    raise AssertionError("nobody is let in after a flood")


def pour(connection: socket.socket, names: bytes) -> None:
    """Subscribe to names, until the connection is ended; that it is not is an error."""
    with suppress(ConnectionError):
        connection.sendall(names)
        while connection.recv(4096):
            pass


@contextmanager
def reading(shm: Path) -> Iterator[tuple[Feed, int]]:
    """A feed whose reader gets every payload while the test runs, and is asked in the end."""
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm, credit=Credit(64, 1 << 24)) as reader,
    ):
        left: list[object] = []
        feed.on_unsubscribed(left.append)
        client.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)
        over = threading.Event()
        sent: list[int] = []

        def publish() -> None:
            for number in itertools.count(1):
                feed.publish("frames", b"", [b"whole"], key=str(number), timeout=SOON)
                sent.append(number)
                if over.wait(0.002):
                    return

        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            yield feed, server.endpoint.data_port
        finally:
            over.set()
            publishing.join(SOON)
        keys: list[int] = []
        while not keys or keys[-1] < sent[-1]:
            assert reader.wait(SOON), "the reader gets no more"
            for entry in reader.receive():
                assert isinstance(entry, Item), entry
                keys.append(int(entry.key))
                entry.lease.release()
        assert keys == sent
        assert left == []


@tells
@pytest.mark.req("S.9", "F.12", "F.37", "G.8")
@pytest.mark.parametrize("length", [100, 1000])
def test_a_flood_of_names_takes_less_memory_than_was_sent_and_disturbs_no_reader(
    shm: Path, length: int
) -> None:
    names = b"".join(frame_of(secrets.token_bytes(length)) for _ in range(6_000_000 // length))
    with reading(shm) as (feed, port):
        flood(port, names[: 1 << 20])  # what libzmq and Python take once
        before = memory()
        offered = 0
        for _ in range(10):
            flood(port, names)
            offered += len(names)
        growth = memory() - before
        assert feed.counters["cut"] >= 11
        # what libzmq keeps of names that nobody cuts off is some fifty times their length
        assert growth < offered, f"{growth / offered:.2f} bytes for each that was sent"


@pytest.mark.req("S.9", "G.8")
def test_a_plain_subscriber_with_too_many_names_is_cut_off_and_one_with_many_is_not(
    shm: Path,
) -> None:
    with reading(shm) as (feed, port), zmq.Context() as context:
        feed.broadcast("told")
        url = f"tcp://127.0.0.1:{port}"
        modest, greedy = context.socket(zmq.SUB), context.socket(zmq.SUB)
        events = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        for each in (modest, greedy):
            each.setsockopt(zmq.SNDHWM, 0)
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RECONNECT_IVL, -1)
            each.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
            each.connect(url)
        for number in range(1000):
            modest.subscribe(b"%d\0" % number)
        for number in range(1200):
            greedy.subscribe(b"%d\0" % number)
        assert events.poll(int(SOON * 1000)), "it was not cut off"
        modest.subscribe(b"told\0")
        heard = threading.Event()

        def tell() -> None:
            while not heard.wait(0.02):
                feed.publish("told", b"", [b"all"], key="k")

        telling = threading.Thread(target=tell)
        telling.start()
        try:
            assert modest.recv_multipart()[0] == b"told\0"
        finally:
            heard.set()
            telling.join(SOON)
        assert feed.counters["cut"] == 1
        for each in (modest, greedy, events):
            each.close(linger=0)


class SlowGuest:
    """A reader whose subscription comes when the test says so."""

    def __init__(self, client: ZMQClient, port: int) -> None:
        self.control = client.control
        self.data = visit(port)
        self.ends: list[str] = []
        self._told = threading.Condition()
        self._news: list[tuple[str, str]] = []
        self.control.on_push("began", lambda body: self._note("began", body))
        self.control.on_push("ended", lambda body: self._note("ended", body))

    def _note(self, kind: str, body: dict[str, str]) -> None:
        with self._told:
            self._news.append((kind, body["epoch"]))
            if kind == "ended":
                self.ends.append(body["reason"])
            self._told.notify_all()

    def agree(self) -> bytes:
        """Ask to take part, and return the frame that subscribes."""
        order = {
            "topic": "frames",
            "mode": "reliable",
            "reader": "guest",
            "name": "guest",
            "incarnation": "i",
            "host": msgspec.to_builtins(HostIdentity.mine()),
            "messages": 8,
            "nbytes": 1 << 20,
        }
        agreed = self.control.request("subscribe", order, timeout=SOON)
        self.epoch = agreed["epoch"]
        return frame_of(feed_topic("frames", agreed["subscriber"]))

    def hears(self) -> str:
        """Return whether its run has begun or ended."""
        with suppress(NotFoundError):  # it has ended already
            self.control.request("host_proof", {"epoch": self.epoch}, timeout=SOON)
        with self._told:

            def news() -> list[str]:
                return [kind for kind, epoch in self._news if epoch == self.epoch]

            assert self._told.wait_for(news, SOON)
            return news()[-1]


@pytest.mark.req("F.1", "S.9", "S.15", "G.8")
def test_what_is_no_subscription_gives_nobody_what_is_anothers(shm: Path) -> None:
    """libzmq counts wrongly from there on, and takes the next connections for one another."""
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, use_shared_memory=False) as feed,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect(SOON)
        port = server.endpoint.data_port
        guest = SlowGuest(client, port)
        with guest.data, visit(port) as curious:
            for number in range(12):
                secret = guest.agree()
                with visit(port) as babbler:
                    held, go = threading.Event(), threading.Event()

                    def hold(held: threading.Event = held, go: threading.Event = go) -> None:
                        held.set()
                        go.wait(SOON)

                    server.loop.call_soon(hold)
                    assert held.wait(SOON)
                    for visitor, said in (
                        (babbler, b"\0\1\2" if number % 4 else b""),
                        (guest.data, secret),
                        (curious, frame_of(b"")),
                    ):
                        visitor.sendall(said)
                        threading.Event().wait(0.01)  # so that libzmq reads them in this order
                    go.set()
                    heard = guest.hears()
                    if number % 4 == 0:
                        assert heard == "began"
                    if heard == "began":
                        assert feed.publish("frames", b"", [b"secret"], key=str(number))
                        news = b""
                        while b"secret" not in news:
                            news += guest.data.recv(4096)
                            assert news, "it was cut off"
                    if number % 4:
                        assert is_cut_off(babbler)
            assert len(guest.ends) > 2, "it was not seen"
            assert {*guest.ends} == {"link"}
            assert is_open(curious), "it got something, or was cut off"
        assert feed.counters["cut"] == 9


def is_cut_off(babbler: socket.socket) -> bool:
    """Go on until it is ended, which it is when it is sure who sent that."""
    babbler.settimeout(0.05)
    deadline = Deadline(SOON)
    with suppress(ConnectionError):
        while not deadline.expired:
            babbler.sendall(b"\0\1\2")
            with suppress(TimeoutError):
                if not babbler.recv(4096):
                    break
    return not deadline.expired


@pytest.mark.req("F.1", "S.9", "F.37", "G.8")
def test_readers_and_plain_subscribers_come_in_while_somebody_babbles(shm: Path) -> None:
    over = threading.Event()
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, use_shared_memory=False) as feed,
        ZMQClient(server.endpoint) as client,
        zmq.Context() as context,
    ):
        feed.broadcast("frames", interval=0.0)
        client.connect(SOON)
        port = server.endpoint.data_port

        def babble() -> None:
            while not over.wait(0.005):  # who leaves no pause at all lets nobody in
                with suppress(ConnectionError), visit(port) as visitor:
                    for _ in range(5):
                        visitor.sendall(b"\0\1\2" + frame_of(b"told"))

        babbling = threading.Thread(target=babble)
        with visit(port) as curious:
            curious.sendall(frame_of(b""))
            babbling.start()
            try:
                for number in range(10):
                    with (
                        context.socket(zmq.SUB) as plain,
                        FeedReader(client, directory=shm, use_shared_memory=False) as reader,
                    ):
                        plain.setsockopt(zmq.LINGER, 0)
                        plain.setsockopt(zmq.RECONNECT_IVL, 10)
                        plain.connect(f"tcp://127.0.0.1:{port}")
                        plain.subscribe(b"frames\0")
                        reader.subscribe("frames")
                        assert reader.wait_subscribed("frames", SOON)
                        deadline = Deadline(SOON)
                        while not plain.poll(20):
                            assert not deadline.expired, f"the plain one hears nothing ({number})"
                            feed.publish("frames", b"", [b"whole"], key="k", timeout=SOON)
                            assert [each.key for each in receive_one(reader)] == ["k"]
                        assert plain.recv_multipart()[0] == b"frames\0"
            finally:
                over.set()
                babbling.join(SOON)
            assert is_open(curious), "it got something"
        assert feed.counters["refused"]


@tells
@pytest.mark.req("S.9")
def test_a_guard_ends_who_is_far_ahead_and_nobody_who_was_read() -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as watched:
        heard: list[int] = []
        guard = FloodGuard(
            watched, most_ahead=64 << 10, on_event=lambda event, _: heard.append(event)
        )
        try:
            port = watched.bind_to_random_port("tcp://127.0.0.1")
            watched.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
            with visit(port) as modest:
                for _ in range(8):  # together twice as much as is allowed unread
                    for _ in range(16):
                        modest.sendall(frame_of(secrets.token_bytes(1000)))
                    for _ in range(16):
                        assert len(watched.recv()) == 1001
                    guard.turns += 1
                assert is_open(modest)
                names = b"".join(frame_of(secrets.token_bytes(1000)) for _ in range(5000))
                flooding = threading.Thread(target=flood, args=(port, names))
                flooding.start()
                while flooding.is_alive():  # it is read, but never to the end
                    if watched.poll(20):
                        watched.recv(zmq.NOBLOCK)
                assert guard.cut == 1
                assert is_open(modest)
            assert zmq.EVENT_ACCEPTED in heard
        finally:
            guard.close()
        assert guard.cut == 1


class LyingReader:
    """A reader that says it has received what it never reads."""

    def __init__(self, client: ZMQClient, port: int, credit: Credit) -> None:
        self.control = client.control
        self.ended = threading.Event()
        self.began = threading.Event()
        self.control.on_push("began", lambda _: self.began.set())
        self.control.on_push("ended", lambda _: self.ended.set())
        order = {
            "topic": "frames",
            "mode": "reliable",
            "reader": "liar",
            "name": "liar",
            "incarnation": "i",
            "host": msgspec.to_builtins(HostIdentity.mine()),
            "messages": credit.messages,
            "nbytes": credit.nbytes,
        }
        agreed = self.control.request("subscribe", order, timeout=SOON)
        self.epoch = agreed["epoch"]
        self.data = visit(port)
        self.data.sendall(frame_of(feed_topic("frames", agreed["subscriber"])))
        self.control.request("host_proof", {"epoch": self.epoch}, timeout=SOON)
        assert self.began.wait(SOON)

    def acknowledge(self, sequence: int, messages: int, nbytes: int) -> None:
        news = {"epoch": self.epoch, "messages": messages, "nbytes": nbytes}
        with suppress(NotFoundError):  # its run is over by now
            self.control.request("ack", {**news, "received": [sequence]}, timeout=SOON)

    def close(self) -> None:
        self.data.close()


@tells
@pytest.mark.req("S.9", "G.5", "F.37")
@pytest.mark.parametrize("tells_bytes", [True, False], ids=["bytes", "messages"])
def test_a_reader_that_acknowledges_what_it_does_not_read_pins_no_more_than_its_credit(
    shm: Path, tells_bytes: bool
) -> None:
    size, credit = 1 << 20, Credit(4, 4 << 20)
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, use_shared_memory=False) as feed,
        ZMQClient(server.endpoint) as client,
        ZMQClient(server.endpoint) as other,
        FeedReader(other, directory=shm, credit=Credit(8, 64 << 20)) as reader,
    ):
        client.connect(SOON)
        other.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)
        liar = LyingReader(client, server.endpoint.data_port, credit)
        payload, count = bytes(size), 0
        while not liar.ended.is_set() and count < 200:
            count += 1
            assert feed.publish("frames", b"", [payload], key=str(count), timeout=SOON)
            liar.acknowledge(count, 1, size if tells_bytes else 0)
            (item,) = receive_one(reader)
            assert item.key == str(count), "the other reader was disturbed"
        # what the kernel of either side holds has reached it; beyond that its word is not taken
        buffers = 2 * (16 << 20)
        assert count * size < credit.nbytes + (16 << 20) + buffers
        assert liar.ended.wait(SOON)
        assert feed.counters["cut"] == 1
        assert [each.name for each in feed.subscribers("frames")] == [reader.name]
        liar.close()


def receive_one(reader: FeedReader) -> list[Item]:
    assert reader.wait(SOON)
    found = []
    for entry in reader.receive():
        assert isinstance(entry, Item), entry
        entry.lease.release()
        found.append(entry)
    return found


@tells
@pytest.mark.req("G.5")
def test_a_reader_that_reads_is_believed_however_much_it_was_sent(shm: Path) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, use_shared_memory=False) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm, credit=Credit(8, 64 << 20)) as reader,
    ):
        client.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)
        payload = bytes(8 << 20)
        for number in range(12):
            assert feed.publish("frames", b"", [payload], key=str(number), timeout=SOON)
            assert [each.key for each in receive_one(reader)] == [str(number)]
        assert feed.flush(SOON)
        assert feed.counters["cut"] == 0


class FloodingViewer:
    """Listens where a viewer would, and floods whoever connects, once or until that ends it."""

    def __init__(self, port: int, names: bytes, *, insists: bool = False) -> None:
        self.offered = 0
        self._insists = insists
        self.ended: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
        """An entry for each connection that was ended."""
        self._names = names
        self._listening = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            with connection:
                connection.settimeout(SOON)
                try:
                    introduce(connection)
                    self.offered += len(self._names)
                    with suppress(ConnectionError):
                        while self._insists:
                            connection.sendall(self._names)
                    pour(connection, self._names)
                    self.ended.put(None)
                except ConnectionError:
                    continue  # ended before it could do harm
                except OSError as error:  # nobody ended it in time
                    self.ended.put(error)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(SOON)
        assert not self._thread.is_alive()


@tells
@pytest.mark.req("S.9", "F.12", "F.37", "G.8")
@pytest.mark.parametrize("length", [100, 1000])
def test_a_viewer_that_floods_a_publisher_is_left_alone_for_a_while_and_costs_little(
    shm: Path, length: int
) -> None:
    names = b"".join(frame_of(secrets.token_bytes(length)) for _ in range(6_000_000 // length))
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        flooding = FloodingViewer(server.endpoint.data_port, names)
        with Publisher(client, "frames", directory=shm) as publisher:
            try:
                assert flooding.ended.get(timeout=SOON) is None  # what is taken once
                before, offered = memory(), flooding.offered
                for _ in range(2):
                    assert flooding.ended.get(timeout=SOON) is None
                    assert client.control.request("ping", {}, timeout=SOON)
                growth, offered = memory() - before, flooding.offered - offered
                # what libzmq keeps of names that nobody cuts off is some fifty times their length
                assert growth < 10 * offered, f"{growth / offered:.2f} bytes for each offered"
                assert publisher.counters["cut"]
                assert publisher.state.link is LinkState.WAITING
            finally:
                flooding.close()
            # whoever behaves in its place is found
            with Subscriber(server, directory=shm) as subscriber:
                assert publisher.wait_attached(SOON)
                publisher.publish(b"", [b"whole"], key="A01", timeout=SOON)
                assert subscriber.wait(SOON)
                (item,) = subscriber.receive()
                assert isinstance(item, Item)
                assert item.key == "A01"
                item.lease.release()
                assert publisher.flush(SOON) == ()


@pytest.mark.req("S.9", "G.8")
def test_a_viewer_that_goes_on_sending_a_publisher_what_is_no_subscription_is_cut_off(
    shm: Path,
) -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        talking = FloodingViewer(server.endpoint.data_port, b"\0\5hello" * 1000, insists=True)
        with closing(talking), Publisher(client, "frames", directory=shm) as publisher:
            assert talking.ended.get(timeout=SOON) is None
            assert publisher.counters["cut"]


class OtherViewer:
    """A viewer in another language: it lets a publisher take part, and subscribes by itself."""

    def __init__(self, server: ZMQServer, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.bind(f"tcp://127.0.0.1:{server.endpoint.data_port}")
        self._runs = itertools.count(1)
        self.attached: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        """What to subscribe to, for each time that the publisher took part."""
        server.control.handle("attach", self._attach)
        server.control.handle("detach", lambda _request, _peer: None)

    def close(self) -> None:
        self.socket.close(linger=0)

    def receive_one(self, publisher: Publisher) -> None:
        """Have a payload published, and receive it."""
        self.socket.subscribe(self.attached.get(timeout=SOON))
        publish = partial(publisher.publish, b"", [b"whole"], key="A01", timeout=SOON)
        publishing = threading.Thread(target=publish)
        publishing.start()
        # libzmq greets who connects to this socket while something is done with it
        assert self.socket.recv_multipart()[3] == b"whole"
        publishing.join(SOON)

    def _attach(self, request: Request, peer: Peer) -> dict[str, object]:  # noqa: ARG002 - a handler
        run = f"r-{next(self._runs)}"
        self.attached.put(stream_topic(request.body["topic"], run))
        return {
            "epoch": secrets.token_hex(8),
            "subscriber": run,
            "incarnation": "i",
            "host": msgspec.to_builtins(HostIdentity.mine()),
            "messages": 8,
            "nbytes": 1 << 20,
            "shared_memory": False,
            "probe_answer": "",
        }


@pytest.mark.req("S.9", "G.8")
def test_a_viewer_of_as_many_streams_as_there_can_be_is_not_cut_off(shm: Path) -> None:
    topic = "x" * 1000
    with (
        serve_in_thread() as server,
        zmq.Context() as context,
        closing(OtherViewer(server, context)) as viewer,
        ZMQClient(server.endpoint) as client,
    ):
        for number in range(255):
            viewer.socket.subscribe(stream_topic(topic, f"other-{number}"))
        client.connect(SOON)
        with Publisher(client, "frames", directory=shm) as publisher:
            viewer.receive_one(publisher)
            assert publisher.counters["cut"] == 0


@pytest.mark.req("S.9", "G.8")
def test_a_viewer_that_subscribes_slowly_to_too_much_is_cut_off_and_its_run_ends(
    shm: Path,
) -> None:
    with (
        serve_in_thread() as server,
        zmq.Context() as context,
        closing(OtherViewer(server, context)) as viewer,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect(SOON)
        with Publisher(client, "frames", directory=shm) as publisher:
            lost: queue.SimpleQueue[Gap] = queue.SimpleQueue()
            publisher.on_gap(lost.put)
            viewer.receive_one(publisher)
            for number in range(1100):
                viewer.socket.subscribe(b"%d" % number)
            gap = lost.get(timeout=SOON)
            assert (gap.first, gap.reason) == (1, GapReason.LINK)
            assert publisher.counters["cut"] == 1
            assert publisher.unacknowledged == ("A01",)
