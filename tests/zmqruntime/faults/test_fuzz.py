"""Ten thousand wrong messages on every socket: each is answered or counted, and who got them lives.

A mutator makes them of right ones, so that most get past the first check. Hypothesis makes others,
which it can reduce to the one that matters. A fuzzer that is guided by coverage works on the
readers alone: `hatch run soak:fuzz`.
"""

from __future__ import annotations

import logging
import socket as stdlib_socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import (
    Credit,
    IOThread,
    Item,
    Publisher,
    RequestError,
    Subscriber,
    ZMQClient,
    ZMQServer,
)
from zmqruntime.carriers import HostIdentity
from zmqruntime.control._client import ControlClient
from zmqruntime.testing import Mutator, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Rounds = Callable[[int, int], int]

SOON = 20.0  # seconds; far more than any of this takes
HOST = msgspec.to_builtins(HostIdentity.mine())
HELLO = {
    "v_min": 1,
    "v_max": 1,
    "app": {"name": "fuzz", "version": "1"},
    "role": "client",
    "peer_id": "p",
    "incarnation": "i",
    "process": {"pid": 1, "start_time": 1, "uid": 0},
    "host_digest": "d",
}
ATTACH = {
    "topic": "images",
    "mode": "reliable",
    "producer": "fuzz",
    "host": HOST,
    "probe": "zr-0-1-1-0123456789abcdef",
    "challenge": "c",
}
REQUESTS: list[dict[str, Any]] = [
    {"v": 1, "id": "a", "type": type_, "body": body}
    for type_, body in {
        "ping": {},
        "hello": HELLO,
        "echo": {"n": 1},
        "slow": {"n": [1, 2, {"three": 3.0}]},
        "attach": ATTACH,
        "arena": {"epoch": "e" * 32, "name": "zr-0-1-1-0123456789abcdef"},
        "detach": {"epoch": "e" * 32},
        "submit": {"text": "x" * 100},
        "nothing of ours": {},
    }.items()
] + [{"v": 1, "id": "a", "type": "echo", "key": "k", "trace": "t", "deadline_ms": 5, "body": {}}]
REPLIES: list[dict[str, Any]] = [
    {"v": 1, "id": "a", "type": "ok", "body": {"n": 1}},
    {"v": 1, "id": "a", "type": "pong", "body": {"ready": True, "v_min": 1, "v_max": 1}},
    {"v": 1, "id": "a", "type": "error", "code": "busy", "message": "m", "retryable": True},
    {"v": 1, "id": "a", "type": "reject", "code": "forbidden", "message": "m", "details": {}},
    {"v": 1, "type": "touch"},
    {"v": 1, "type": "error", "code": "bad_frame", "message": "m"},
    {
        "v": 1,
        "type": "ack",
        "body": {
            "epoch": "e",
            "messages": 4,
            "nbytes": 1 << 20,
            "released": [1, 2],
            "received": [1],
            "displayed": [2],
            "failed": [[3, "code", "text"]],
        },
    },
]


@contextmanager
def stranger(kind: int, url: str) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(kind) as socket:
        for option in (zmq.RCVHWM, zmq.SNDHWM, zmq.LINGER):
            socket.setsockopt(option, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        socket.connect(url)
        yield socket


@contextmanager
def served() -> Iterator[ZMQServer]:
    with serve_in_thread(
        {"echo": lambda request, _: request.body, "slow": lambda request, _: request.body}
    ) as server:
        server.control.handle("echo", lambda request, _: request.body, on_loop=True)
        yield server


def token_of(server: ZMQServer) -> str:
    return server._token


def assert_alive(server: ZMQServer, caplog: pytest.LogCaptureFixture) -> None:
    with ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        assert client.control.request("ping", timeout=SOON)["ready"]
        assert client.control.request("slow", {"n": 1}, timeout=SOON) == {"n": 1}
    assert server.control.counters["refused.internal"] == 0
    assert not [each for each in caplog.records if each.exc_info]


def release(subscriber: Subscriber) -> None:
    """Take what has come: a stream is kept until its last item was given back."""
    for entry in subscriber.receive():
        if isinstance(entry, Item):
            entry.lease.release()


def assert_receiving(subscriber: Subscriber, server: ZMQServer, shm: Path) -> None:
    with ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        with Publisher(client, "images", directory=shm) as publisher:
            publisher.publish(b"h", [b"whole"], key="the right one", timeout=SOON)
            keys: list[str] = []
            while "the right one" not in keys:
                assert subscriber.wait(SOON)
                for entry in subscriber.receive():
                    if isinstance(entry, Item):
                        keys.append(entry.key)
                        entry.lease.release()
            assert publisher.flush(SOON) == ()


def control_frames(mutator: Mutator, token: str) -> list[bytes]:
    request = dict(mutator.choice(REQUESTS))
    if mutator.choice((True, True, False)):
        request["token"] = token
    frames = [b"", mutator.message(request), *mutator.choice(((), (b"attached",)))]
    return mutator.frames(frames) if mutator.choice((True, False, False)) else frames


@pytest.mark.req("F.1")
@pytest.mark.req("G.8")
@pytest.mark.req("S.9")
@pytest.mark.timeout(900)
def test_ten_thousand_wrong_requests_are_answered_or_counted(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    caplog.set_level(logging.WARNING)
    count = rounds(10_000, 300_000)
    mutator = Mutator(1)
    with served() as server, Subscriber(server, directory=shm) as subscriber:
        token = token_of(server)
        with stranger(zmq.DEALER, server.endpoint.control_url) as socket:
            for number in range(count):
                socket.send_multipart(control_frames(mutator, token))
                while number % 50 == 0 and socket.poll(0):
                    socket.recv_multipart()
            last = {"v": 1, "id": "the last one", "type": "echo", "token": token, "body": {}}
            socket.send_multipart([b"", msgspec.msgpack.encode(last)])
            while b"the last one" not in socket.recv_multipart()[-1]:
                pass
        counters = server.control.counters
        assert counters["received"] == count + 1
        assert counters["refused.bad_frame"] > count / 10
        assert counters["refused.unauthenticated"]  # until a hello with the token gets through
        assert counters["answered"] > count / 100
        assert_alive(server, caplog)
        assert_receiving(subscriber, server, shm)
    assert not [*shm.iterdir()]


@pytest.mark.req("F.1")
@pytest.mark.req("G.8")
@pytest.mark.timeout(900)
def test_ten_thousand_wrong_answers_leave_a_client_able_to_ask(
    caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    def read_epoch(body: dict[str, Any]) -> object:
        return body["epoch"]  # which may raise

    count = rounds(10_000, 300_000)
    mutator = Mutator(2)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as liar:
        liar.setsockopt(zmq.LINGER, 0)
        liar.setsockopt(zmq.SNDHWM, 0)
        liar.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        port = liar.bind_to_random_port("tcp://127.0.0.1")
        with IOThread("client") as loop:
            client = ControlClient(loop, f"tcp://127.0.0.1:{port}")
            client.on_push("ack", read_epoch)
            client.open()
            asked = [client.request_nowait("echo", timeout=600) for _ in range(1000)]
            requests = [liar.recv_multipart() for _ in asked]
            ids = [msgspec.msgpack.decode(request[-1])["id"] for request in requests]

            def answer_one() -> bytes:
                """Answer rightly, and say which connection asked: a lost one was made anew."""
                asks = client.request_nowait("echo", {"n": "end"}, timeout=SOON)
                identity, delimiter, request = liar.recv_multipart()
                answer = {"v": 1, "id": msgspec.msgpack.decode(request)["id"], "type": "ok"}
                liar.send_multipart([identity, delimiter, msgspec.msgpack.encode(answer)])
                assert asks.result(SOON).body == {}
                return identity

            for number in range(count):
                if number % 1000 == 0:  # so that all is read before heartbeats are missed
                    peer = answer_one()
                reply = {**mutator.choice(REPLIES)}
                if "id" in reply:
                    reply["id"] = ids[number % len(ids)]
                frames = [b"", mutator.message(reply)]
                liar.send_multipart([peer, *mutator.frames(frames)])
            answer_one()
            assert client.counters["bad_frame"] > count / 4
            refused = sum(isinstance(e.exception(0), RequestError) for e in asked if e.done())
            assert refused
            client.close()
    raised = [each for each in caplog.records if each.exc_info]
    assert all("read_epoch" in each.getMessage() for each in raised)
    assert len(raised) == client.counters["failed_callbacks"] > 0


@pytest.mark.req("F.11")
@pytest.mark.req("G.8")
@pytest.mark.timeout(900)
def test_ten_thousand_wrong_data_messages_are_dropped_and_counted(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    count = rounds(10_000, 300_000)
    mutator = Mutator(3)
    with (
        served() as server,
        Subscriber(server, directory=shm, credit=Credit(messages=64, nbytes=1 << 24)) as subscriber,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect(SOON)
        attach = {**ATTACH, "probe": ""}
        with stranger(zmq.XPUB, server.endpoint.data_url) as socket:
            agreed: dict[str, Any] = {}
            for number in range(count):
                if number % 500 == 0:  # a stream that was misused may have been given up
                    if agreed:
                        client.control.request("detach", {"epoch": agreed["epoch"]})
                        release(subscriber)
                    agreed = client.control.request("attach", attach)
                    topic = socket.recv()
                    while topic[:1] != b"\1":
                        topic = socket.recv()
                header = {
                    "v": 1,
                    "epoch": agreed["epoch"],
                    "target": agreed["incarnation"],
                    "seq": number % 500 + 1,
                    "sizes": [4],
                    "key": "k",
                    "part": [0, 1],
                    "lost": [[1, 1, "superseded"]],
                    "ref": mutator.choice((None, ["zr-0-1-1-0123456789abcdef", 0, 1, [[4096, 4]]])),
                }
                frames = [mutator.message(header), b"header", b"data"]
                if mutator.choice((True, False)):
                    frames = mutator.frames(frames)
                socket.send_multipart([topic[1:], *frames])
            client.control.request("detach", {"epoch": agreed["epoch"]})
        assert_receiving(subscriber, server, shm)
        counters = subscriber.counters
        assert counters["foreign"] > count / 4  # unreadable headers and foreign streams
        assert counters["dropped"] > 0
        assert_alive(server, caplog)


@pytest.mark.req("F.1")
@pytest.mark.req("G.8")
@pytest.mark.timeout(900)
def test_ten_thousand_wrong_acknowledgements_leave_a_publisher_able_to_publish(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    count = rounds(10_000, 300_000)
    mutator = Mutator(4)
    with (
        served() as server,
        Subscriber(server, directory=shm) as subscriber,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect(SOON)
        with Publisher(client, "images", directory=shm) as publisher:
            publisher.publish(b"h", [b"one"], key="one", timeout=SOON)
            (peer,) = server.control.peers
            (producer,) = subscriber.producers
            body = {**REPLIES[-1]["body"], "epoch": producer.epoch}
            for number in range(count):
                wrong = mutator.value(mutator.value(body))
                if isinstance(wrong, dict):
                    kind = mutator.choice(("ack", "ack", "ack", "resend"))
                    server.control.push(peer.id, kind, wrong)
                if number % 500 == 0:
                    client.control.request("ping", timeout=SOON)
            assert client.control.request("ping", timeout=SOON)["ready"]
            assert client.control.counters["bad_frame"] > count / 4
            assert not [each for each in caplog.records if each.exc_info]
        # what the acknowledgements claimed may have been believed: it was the peer's own stream
        with Publisher(client, "more", directory=shm) as publisher:
            publisher.publish(b"h", [b"two"], key="two", timeout=SOON)
        assert_alive(server, caplog)


@pytest.mark.req("F.1")
@pytest.mark.req("G.8")
def test_bytes_that_are_no_zmtp_close_their_own_connection_only(
    shm: Path, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    mutator = Mutator(5)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\0" + bytes(31)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    with served() as server, Subscriber(server, directory=shm):
        for number in range(rounds(300, 10_000)):
            port = (server.endpoint.port, server.endpoint.data_port)[number % 2]
            with stdlib_socket.create_connection(("127.0.0.1", port), timeout=SOON) as visitor:
                visitor.sendall(mutator.data(greeting + ready))
        assert_alive(server, caplog)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["v", "id", "type", "body", "token", "key", "trace", "deadline_ms"])


@st.composite
def changed_requests(draw: st.DrawFn) -> bytes:
    """A request with some fields changed, some left out, some of its body changed."""
    request = dict(draw(st.sampled_from(REQUESTS)))
    request["body"] = dict(request["body"])
    request |= draw(st.dictionaries(FIELDS, PLAIN, max_size=2))
    for field in draw(st.sets(FIELDS, max_size=1)):
        request.pop(field, None)
    if isinstance(request.get("body"), dict) and request["body"]:
        key = draw(st.sampled_from(sorted(request["body"])))
        request["body"][key] = draw(PLAIN)
    return msgspec.msgpack.encode(request)


@pytest.mark.req("F.1")
@pytest.mark.req("G.8")
def test_requests_made_by_hypothesis_are_each_answered_once(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        served() as server,
        Subscriber(server, directory=shm),
        stranger(zmq.DEALER, server.endpoint.control_url) as socket,
    ):
        token = token_of(server)

        @settings(
            max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(st.lists(changed_requests(), min_size=1, max_size=10))
        def check(messages: list[bytes]) -> None:
            for message in messages:
                socket.send_multipart([b"", message])
            last = {"v": 1, "id": "last", "type": "ping", "token": token}
            socket.send_multipart([b"", msgspec.msgpack.encode(last)])
            answers: list[bytes] = []
            while not answers or msgspec.msgpack.decode(answers[-1]).get("id") != "last":
                answers.append(socket.recv_multipart()[-1])
            assert server.control.counters["refused.internal"] == 0

        check()
        assert_alive(server, caplog)
