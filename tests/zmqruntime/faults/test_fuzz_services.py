"""Ten thousand wrong requests to each kind of service, which goes on doing what it is for."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq

from zmqruntime import Feed, FeedReader, Item, ZMQClient, ZMQServer
from zmqruntime.carriers import HostIdentity
from zmqruntime.execution import ExecutionServer, ZMQExecutionClient
from zmqruntime.router import RouterClient, RouterServer
from zmqruntime.testing import Mutator, free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Rounds = Callable[[int, int], int]

SOON = 30.0  # seconds; far more than any of this takes
HOST = msgspec.to_builtins(HostIdentity.mine())
EPOCH = "e" * 32


@dataclass(frozen=True)
class Service:
    """A service: its server, right requests of each type, and a look at whether it works."""

    server: ZMQServer
    requests: dict[str, dict[str, Any]]
    works: Callable[[], object]


class Lamp:
    """An object to be called."""

    def __init__(self) -> None:
        self.level = 0.0

    def set_level(self, level: float = 1.0) -> float:
        self.level = float(level)
        return self.level


def make_feed(stack: ExitStack, shm: Path, tmp_path: Path) -> Service:  # noqa: ARG001 - one shape
    server = stack.enter_context(ZMQServer("fuzzed", free_endpoint(), bind_address="127.0.0.1"))
    feed = stack.enter_context(Feed(server, directory=shm, replay_bytes=1 << 20))
    feed.broadcast("progress")
    feed.retain("frames")
    feed.publish("frames", b"", [b"retained"])

    def works() -> None:
        with ZMQClient(server.endpoint) as client, FeedReader(client, directory=shm) as reader:
            client.connect(SOON)
            reader.subscribe("right")
            assert reader.wait_subscribed("right", SOON)
            feed.publish("right", b"", [b"whole"], timeout=SOON)
            assert reader.wait(SOON)
            (item,) = reader.receive()
            assert isinstance(item, Item)
            assert item.lease.copy() == (b"whole",)

    requests: dict[str, dict[str, Any]] = {
        "subscribe": {
            "topic": "frames",
            "mode": "reliable",
            "reader": "r",
            "name": "n",
            "incarnation": "i",
            "host": HOST,
            "messages": 4,
            "nbytes": 1 << 20,
            "shared_memory": True,
        },
        "host_proof": {"epoch": EPOCH, "answer": "a"},
        "arena_opened": {"epoch": EPOCH, "name": "zr-0-1-1-0123456789abcdef"},
        "ack": {"epoch": EPOCH, "messages": 1, "nbytes": 1, "released": [1], "received": [1]},
        "resend": {"epoch": EPOCH, "first": 1, "last": 2},
        "unsubscribe": {"epoch": EPOCH},
        "lanes": {},
    }
    return Service(server, requests, works)


def make_router(stack: ExitStack, shm: Path, tmp_path: Path) -> Service:  # noqa: ARG001 - one shape
    router = RouterServer(free_endpoint(), app="fuzzed")
    lamp = Lamp()
    router.expose("lamp", lamp, ["level", "set_level"])
    router.add_named_call("on", "lamp", "set_level", [1.0])
    router.add_stream("levels", 20.0, "lamp", "level")
    stack.enter_context(router)

    def works() -> None:
        with RouterClient(router.endpoint) as client:
            client.connect(SOON)
            assert client.call("lamp", "set_level", [0.25]) == 0.25
            # calls that were made right by chance may still be carried out meanwhile
            assert isinstance(client.call("lamp", "level"), float)

    requests: dict[str, dict[str, Any]] = {
        "call": {"obj": "lamp", "attr": "set_level", "args": [0.5], "kwargs": {}},
        "call_named": {"name": "on", "args": {"0": 0.5}, "kwargs": {"level": 1}},
        "get_router": {},
        "get_exposed": {},
        "get_streams": {},
        "get_route": {"name": "levels", "via": ["s1"]},
        "enable_stream": {"name": "levels"},
        "disable_stream": {"name": "levels"},
    }
    return Service(router.service, requests, works)


def make_execution(stack: ExitStack, shm: Path, tmp_path: Path) -> Service:  # noqa: ARG001
    execution = ExecutionServer(
        ZMQServer("execution", free_endpoint(), bind_address="127.0.0.1"),
        journal=tmp_path / "jobs.db",
        functions={"noop": "zmqruntime.testing:free_endpoint"},
    )
    stack.enter_context(execution)
    server = execution.server

    def works() -> None:
        with ZMQExecutionClient(server.endpoint) as client:
            assert client.connect(SOON), client.last_error
            job = client.submit("noop", {}, priority=1000)
            client.cancel(job)
            assert client.wait(job, SOON).state.terminal

    requests: dict[str, dict[str, Any]] = {
        "submit": {"kind": "noop", "payload": {}, "retryable": False, "priority": 0},
        "cancel": {"id": "job"},
        "status": {"id": "job", "after": 0},
        "list": {"limit": 5, "mine": True},
        "result": {"id": "job", "after": 0, "limit": 5},
        "events": {"id": "job", "after": 0, "limit": 5},
        "logs": {"id": "job"},
        "follow": {"id": "", "after": 0},
        "unfollow": {"id": ""},
        "follow_ack": {"n": 1},
    }
    return Service(server, requests, works)


@pytest.mark.req("F.1")
@pytest.mark.req("G.8")
@pytest.mark.req("S.9")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("make", [make_feed, make_router, make_execution])
def test_ten_thousand_wrong_requests_leave_a_service_at_work(
    make: Callable[[ExitStack, Path, Path], Service],
    shm: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    rounds: Rounds,
) -> None:
    caplog.set_level(logging.WARNING)
    count = rounds(10_000, 200_000)
    mutator = Mutator(21)
    with ExitStack() as stack:
        service = make(stack, shm, tmp_path)
        assert {*service.requests} <= {*service.server.control.types}
        service.works()
        context = stack.enter_context(zmq.Context())
        socket = stack.enter_context(context.socket(zmq.DEALER))
        for option in (zmq.RCVHWM, zmq.SNDHWM, zmq.LINGER):
            socket.setsockopt(option, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        socket.connect(service.server.endpoint.control_url)
        right = {"v": 1, "id": "a", "token": service.server._token}
        hello = {
            "v_min": 1,
            "v_max": 1,
            "app": {"name": "fuzz"},
            "peer_id": "p",
            "incarnation": "i",
            "process": {"pid": 1, "start_time": 1, "uid": 0},
        }
        first = {**right, "type": "hello", "body": hello}
        socket.send_multipart([b"", msgspec.msgpack.encode(first)])
        assert msgspec.msgpack.decode(socket.recv_multipart()[1])["type"] == "welcome"
        kinds = sorted(service.requests)
        before = service.server.control.counters["received"]
        for number in range(count):
            kind = mutator.choice(kinds)
            body = service.requests[kind]
            for _ in range(mutator.choice((0, 1, 1, 2, 3))):
                body = mutator.value(body)
            request = {**right, "type": kind, "body": body}
            attached = mutator.choice(((), (), (b"attached",), (b"", b"x" * 300)))
            socket.send_multipart([b"", msgspec.msgpack.encode(request), *attached])
            if number % 100 == 0:  # a peer that reads and waits now and then
                ping = {**right, "id": f"ping {number}", "type": "ping"}
                socket.send_multipart([b"", msgspec.msgpack.encode(ping)])
                while f"ping {number}".encode() not in socket.recv_multipart()[-1]:
                    pass
        counters = service.server.control.counters
        assert counters["received"] - before >= count
        assert counters["refused.invalid"] > count / 20
        assert counters["refused.internal"] == 0, [
            (each.getMessage(), each.exc_info) for each in caplog.records if each.exc_info
        ][:2]
        service.works()
    assert not [each for each in caplog.records if each.exc_info]
    assert not [*shm.iterdir()]
