"""Ten thousand wrong messages to each end of a feed; whoever else takes part reads on."""

from __future__ import annotations

import logging
import queue
import socket as stdlib_socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq

from zmqruntime import Credit, Deadline, Feed, FeedReader, Item, ZMQClient, ZMQServer
from zmqruntime.carriers import HostIdentity
from zmqruntime.data._stream_messages import feed_topic
from zmqruntime.testing import Mutator, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zmqruntime import Peer, Request

    Rounds = Callable[[int, int], int]

SOON = 20.0  # seconds; far more than any of this takes
TOGETHER = 100
SUBSCRIPTIONS = (b"\x01", b"\x01", b"\x01", b"\x00")
HOST = msgspec.to_builtins(HostIdentity.mine())
SUBSCRIBE = {
    "topic": "frames",
    "mode": "reliable",
    "reader": "fuzz (pid 1)",
    "name": "fuzz",
    "incarnation": "i",
    "host": HOST,
    "messages": 64,
    "nbytes": 1 << 24,
    "shared_memory": False,
}


def quiet(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    for option in (zmq.RCVHWM, zmq.SNDHWM, zmq.LINGER):
        socket.setsockopt(option, 0)
    socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
    return socket


def read_one(reader: FeedReader, key: str) -> Item:
    """Receive and release up to a key."""
    while True:
        assert reader.wait(SOON), f"{key} did not come"
        for entry in reader.receive():
            if isinstance(entry, Item):
                entry.lease.release()
                if entry.key == key:
                    return entry


@contextmanager
def feeding(shm: Path) -> Iterator[tuple[ZMQServer, Feed, FeedReader]]:
    """A feed with a reader that was there before, and must go on as if it were alone."""
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, replay_bytes=1 << 20) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm, name="bystander") as reader,
    ):
        left: list[object] = []
        feed.on_unsubscribed(lambda who: left.append(who) if who.name == "bystander" else None)
        feed.broadcast("told", interval=0.0)
        feed.retain("frames")
        client.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)
        yield server, feed, reader
        assert feed.publish("frames", b"", [b"whole"], key="to the bystander", timeout=SOON)
        assert read_one(reader, "to the bystander").again == 0
        assert left == []
        assert reader.counters["gaps"] == reader.counters["dropped"] == 0


@pytest.mark.req("F.1", "F.11", "G.8", "S.9")
@pytest.mark.timeout(900)
def test_wrong_subscription_frames_let_nobody_in(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    """Visitors stay for a hundred messages each: a thousand names are more than one may hold."""
    count = rounds(10_000, 30_000)
    mutator = Mutator(51)
    secret = feed_topic("frames", "0" * 32)
    names = (secret, b"told\0", b"frames\0", b"", b"\0", b"told", b"\0frames\0", b"\xff\xfe\0")
    with feeding(shm) as (server, feed, reader), zmq.Context() as context:
        for sent in range(0, count, TOGETHER):
            rude = sent % (5 * TOGETHER) == 0
            kinds = (*SUBSCRIPTIONS, b"", b"\x02", b"\xff") if rude else SUBSCRIPTIONS
            more = (b"", b"\x01more") if rude else (b"\x00more", b"\x01more")
            with quiet(context.socket(zmq.XSUB)) as pushy:
                events = pushy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
                pushy.setsockopt(zmq.RECONNECT_IVL, -1 if rude else 1)
                pushy.connect(server.endpoint.data_url)
                for _ in range(TOGETHER):
                    frame = mutator.choice(kinds) + mutator.data(mutator.choice(names))
                    pushy.send_multipart([frame, *mutator.choice(((), (), (), more))])
                feed.publish("frames", b"", [b"whole"], key=str(sent), timeout=SOON)
                assert read_one(reader, str(sent)).again == 0
                if rude:
                    cut_off(pushy, events)
                else:
                    hear(pushy, feed)
                pushy.disable_monitor()
                events.close()
        assert feed.counters["refused"] > count / 10
        assert feed.counters["cut"] >= count / (5 * TOGETHER)
    assert not [each for each in caplog.records if each.exc_info]


def hear(pushy: zmq.Socket[bytes], feed: Feed) -> None:
    """See that all was read, and that nothing comes but what is told to everybody."""
    deadline = Deadline(SOON)
    pushy.send(b"\x01told\0")
    while not pushy.poll(5):
        assert not deadline.expired, "it is not heard"
        feed.publish("told", b"", [b"all"], key="told", timeout=SOON)
    while pushy.poll(0):
        heard = pushy.recv_multipart()
        assert heard[0] == b"told\0", "what is for one reader went to everybody"


def cut_off(pushy: zmq.Socket[bytes], events: zmq.Socket[bytes]) -> None:
    """Go on with what is no subscription until it is ended, and see that nothing else has come."""
    deadline = Deadline(SOON)
    while not events.poll(5):
        assert not deadline.expired, "it is not cut off"
        pushy.send(b"\x02")
    while pushy.poll(0):
        assert pushy.recv_multipart()[0] == b"told\0", "what is for one reader went to everybody"


@pytest.mark.req("F.1", "G.8")
@pytest.mark.timeout(900)
def test_wrong_zmtp_frames_on_the_data_port_close_their_own_connection_only(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    mutator = Mutator(53)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
    ready = b"\x04\x16\x05READY\x0bSocket-Type\0\0\0\x03SUB"
    commands = (
        b"\x04\x0e\x09SUBSCRIBEtold\0"[:16],
        b"\x04\x0b\x06CANCELtold",
        b"\x00\x06\x01told\0",
        b"\x01\x03\x01to\x00\x02ld",
        b"\x04\x09\x04PING\0\0hi",
        b"\x02\0\0\0\0\0\0\x02\0\x01" + bytes(511),
    )
    with feeding(shm) as (server, _, _):
        for _ in range(rounds(1_000, 10_000)):
            said = greeting + ready
            said += b"".join(mutator.data(mutator.choice(commands)) for _ in range(4))
            with stdlib_socket.create_connection(
                ("127.0.0.1", server.endpoint.data_port), SOON
            ) as visitor:
                visitor.sendall(said)
    assert not [each for each in caplog.records if each.exc_info]


class RawReader:
    """A reader that says what it likes: right words about a run of its own, and wrong ones."""

    def __init__(self, server: ZMQServer, stack: ExitStack) -> None:
        context = stack.enter_context(zmq.Context())
        self.control = stack.enter_context(quiet(context.socket(zmq.DEALER)))
        self.control.connect(server.endpoint.control_url)
        self.data = stack.enter_context(quiet(context.socket(zmq.SUB)))
        self.data.connect(server.endpoint.data_url)
        self._token = server._token
        self._asked = 0
        self.pushed: list[dict[str, Any]] = []
        self.epoch = ""
        hello = {
            "v_min": 1,
            "v_max": 1,
            "app": {"name": "fuzz"},
            "peer_id": "p",
            "incarnation": "i",
            "process": {"pid": 1, "start_time": 1, "uid": 0},
        }
        assert self.ask("hello", hello)["type"] == "welcome"

    def send(self, type_: str, body: Any) -> str:
        self._asked += 1
        name = f"{type_} {self._asked}"
        message = {"v": 1, "id": name, "token": self._token, "type": type_, "body": body}
        self.control.send_multipart([b"", msgspec.msgpack.encode(message)])
        return name

    def ask(self, type_: str, body: Any) -> dict[str, Any]:
        """Ask, and read on to the answer."""
        name = self.send(type_, body)
        while True:
            answer: dict[str, Any] = msgspec.msgpack.decode(self.control.recv_multipart()[1])
            if answer.get("id") == name:
                return answer
            self.pushed.append(answer)

    def join(self) -> None:
        """Begin a run, as a reader does it; what was before is over."""
        agreed = self.ask("subscribe", SUBSCRIBE)
        assert agreed["type"] == "ok", agreed
        self.epoch = agreed["body"]["epoch"]
        self.data.subscribe(feed_topic("frames", agreed["body"]["subscriber"]))
        assert self.ask("host_proof", {"epoch": self.epoch, "answer": ""})["type"] == "ok"
        began = {"type": "began", "body": {"epoch": self.epoch}, "v": 1}
        while began not in self.pushed:
            self.pushed.append(msgspec.msgpack.decode(self.control.recv_multipart()[1]))
        self.pushed.clear()


@pytest.mark.req("F.1", "F.11", "G.8", "S.9")
@pytest.mark.timeout(900)
def test_wrong_words_about_a_run_of_their_own_harm_nobody_else(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    caplog.set_level(logging.WARNING)
    count = rounds(10_000, 30_000)
    mutator = Mutator(55)
    with ExitStack() as stack:
        server, feed, _ = stack.enter_context(feeding(shm))
        raw = RawReader(server, stack)
        acks = {
            "messages": 1,
            "nbytes": 9,
            "released": [1, 2, 3],
            "received": [1, 2],
            "displayed": [2, 3],
            "failed": [[3, "code", "text"]],
            "copied": 4,
        }
        runs = 0
        before = server.control.counters["received"]
        for number in range(count):
            if number % 100 == 0:
                for sent in range(5):
                    feed.publish("frames", b"", [bytes(100)], key=f"{number}.{sent}")
                if not any(each.name == "fuzz" for each in feed.subscribers("frames")):
                    raw.join()
                    runs += 1
            kind, body = mutator.choice(
                (
                    ("ack", acks),
                    ("ack", acks),
                    ("resend", {"first": 1, "last": 2}),
                    ("arena_opened", {"name": "zr-0-1-1-0123456789abcdef", "error": ""}),
                    ("host_proof", {"answer": "a" * 128}),
                    ("subscribe", SUBSCRIBE),
                )
            )
            body = {**body, "epoch": raw.epoch}
            if kind != "subscribe" or number % 10 == 0:
                for _ in range(mutator.choice((0, 1, 1, 2))):
                    body = mutator.value(body)
            raw.send(kind, body)
            if number % 50 == 0:
                raw.ask("ping", {})
                while raw.data.poll(0):
                    raw.data.recv_multipart()
        raw.ask("ping", {})
        assert server.control.counters["received"] - before >= count
        assert server.control.counters["refused.internal"] == 0
        assert server.control.counters["refused.invalid"] > count / 20
        assert runs
    assert not [each for each in caplog.records if each.exc_info]
    assert not [*shm.iterdir()]


@pytest.mark.req("F.1", "F.11", "G.8", "S.9")
@pytest.mark.timeout(900)
def test_a_feed_that_sends_nonsense_leaves_its_reader_able_to_read(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    count = rounds(10_000, 30_000)
    mutator = Mutator(57)
    orders: queue.SimpleQueue[tuple[dict[str, Any], Peer]] = queue.SimpleQueue()
    agreed = {
        "incarnation": "f",
        "producer": "liar (pid 1)",
        "host": HOST,
        "messages": 64,
        "nbytes": 1 << 24,
        "shared_memory": False,
        "probe": "",
        "challenge": "",
        "resumed": False,
    }
    runs = 0

    def on_subscribe(request: Request, peer: Peer) -> dict[str, Any]:
        nonlocal runs
        runs += 1
        answer = {**agreed, "epoch": f"{runs:032}", "subscriber": f"{runs:032}"}
        orders.put(({**request.body, **answer}, peer))
        return answer

    with ExitStack() as stack:
        server = stack.enter_context(serve_in_thread())
        for type_, handler in (
            ("subscribe", on_subscribe),
            ("host_proof", lambda _request, _peer: {"reason": "disabled"}),
            ("ack", lambda _request, _peer: None),
            ("unsubscribe", lambda _request, _peer: None),
            ("arena_opened", lambda _request, _peer: None),
        ):
            server.control.handle(type_, handler, on_loop=True)
        context = stack.enter_context(zmq.Context())
        liar = stack.enter_context(quiet(context.socket(zmq.XPUB)))
        liar.bind(server.endpoint.data_bind_url("127.0.0.1"))
        client = stack.enter_context(ZMQClient(server.endpoint))
        reader = stack.enter_context(
            FeedReader(client, directory=shm, credit=Credit(messages=64, nbytes=1 << 24))
        )
        client.connect(SOON)
        reader.subscribe("frames")

        def next_run() -> tuple[dict[str, Any], Peer, bytes]:
            order, peer = orders.get(timeout=SOON)
            topic = feed_topic("frames", order["subscriber"])
            while liar.recv() != b"\x01" + topic:
                pass
            return order, peer, topic

        order, peer, topic = next_run()
        sent = 0
        for number in range(count):
            if number and number % 500 == 0:
                server.control.push(peer.id, "ended", {"epoch": order["epoch"], "reason": "link"})
                order, peer, topic = next_run()
                sent = 0
            sent += 1
            header = {
                "v": 1,
                "epoch": order["epoch"],
                "target": client.incarnation,
                "seq": sent,
                "sizes": [4],
                "key": "k",
                "part": mutator.choice(([0, 1], [0, 1], [0, 2], [1, 2])),
                "lost": mutator.choice(([], [], [[sent, sent, "superseded"]])),
                "ref": mutator.choice((None, ["zr-0-1-1-0123456789abcdef", 0, 1, [[4096, 4]]])),
                "again": 0,
                "retained": False,
            }
            frames = [mutator.message(header), b"header", b"data"]
            if mutator.choice((True, False)):
                frames = mutator.frames(frames)
            liar.send_multipart([topic, *frames])
            if number % 5 == 0:
                kind, body = mutator.choice(
                    (
                        ("arena", {"name": "zr-0-1-1-0123456789abcdef"}),
                        ("began", {}),
                        ("ended", {"reason": "link"}),
                    )
                )
                wrong = mutator.value(mutator.value({**body, "epoch": order["epoch"] + "x"}))
                if isinstance(wrong, dict):
                    server.control.push(peer.id, kind, wrong)
            if number % 100 == 0:  # it reads, and is alive
                client.control.request("ping", timeout=SOON)
                for entry in reader.receive():
                    if isinstance(entry, Item):
                        entry.lease.release()
        server.control.push(peer.id, "ended", {"epoch": order["epoch"], "reason": "link"})
        order, peer, topic = next_run()
        right = {"v": 1, "epoch": order["epoch"], "target": client.incarnation, "seq": 1}
        right |= {"sizes": [5], "key": "right"}
        liar.send_multipart([topic, msgspec.msgpack.encode(right), b"header", b"whole"])
        assert read_one(reader, "right").header == b"header"
        counters = reader.counters
        assert counters["foreign"] > count / 4
        assert counters["dropped"]
        assert counters["gaps"]
        assert client.control.counters["bad_frame"] > count / 50
    assert not [each for each in caplog.records if each.exc_info], caplog.text[-3000:]
