"""Speed, as far as a busy machine can tell: what is copied, what is sent, and wide ratios.

Each ratio is of two roads of one run, in turn, and is met when one of several rounds meets it: so
noise passes, and what has become several times slower does not. Work is counted in seconds of a
processor, which does not depend on who else is busy. `hatch run bench:transport` prints the figures
themselves.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from zmqruntime import Credit, Endpoint, Feed, FeedReader, Item, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint, proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = Path(__file__).with_name("measure_program.py")
SOON = 60.0  # seconds; far more than any of this takes
MIB = 1 << 20
PLANE = 8 * MIB  # 2048 x 2048 uint16
CHUNK = 8 * MIB
UNDER_WAY = 2
ROUNDS = 5


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Program:
    """The other end, in a process of its own."""

    def __init__(self, stack: ExitStack, *arguments: str) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(PROGRAM), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        stack.callback(self._process.kill)
        self.said = self.listen()

    def listen(self) -> list[str]:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        assert line, "it ended: see its error above"
        return line.split()

    def cost(self) -> float:
        """Return the seconds of a processor that it has used."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self.listen()[0])


def times_as_fast(
    one: Callable[[], object], other: Callable[[], object], clock: Callable[[], float]
) -> list[float]:
    """Return, for each round, how many times as much the second takes as the first."""

    def taken(run: Callable[[], object]) -> float:
        start = clock()
        run()
        return clock() - start

    one()
    other()  # maps and warms what is reused
    return [(1 / taken(one)) * taken(other) for _ in range(ROUNDS)]


class Roads:
    """A feed whose reader is another process, and bare chunks to the same process."""

    def __init__(self, stack: ExitStack) -> None:
        server = stack.enter_context(ZMQServer("camera", free_endpoint(), bind_address="127.0.0.1"))
        self.feed = stack.enter_context(Feed(server))
        endpoint = server.endpoint
        ports = str(endpoint.port), str(endpoint.data_port)
        self.receiver = Program(stack, "receive", *ports)
        (port,) = self.receiver.said
        context = stack.enter_context(zmq.Context())
        self.socket = stack.enter_context(context.socket(zmq.PAIR))
        self.socket.setsockopt(zmq.RCVTIMEO, int(1000 * SOON))
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def cost(self) -> float:
        """Return the seconds of a processor that both ends have used."""
        return time.process_time() + self.receiver.cost()

    def publish(self, topic: str, payload: bytes | bytearray, count: int) -> None:
        for number in range(count):
            if number % UNDER_WAY == 0:  # or else the feed has to keep a copy of what waits
                assert self.feed.flush(SOON)
            assert self.feed.publish(topic, b"", [payload], timeout=SOON) == 1
        assert self.feed.flush(SOON)

    def chunks(self, payload: bytes, count: int) -> None:
        view, under_way = memoryview(payload), 0
        for _ in range(count):
            if under_way == UNDER_WAY:
                self.socket.recv()
                under_way -= 1
            parts = [view[first : first + CHUNK] for first in range(0, view.nbytes, CHUNK)]
            self.socket.send_multipart(parts, copy=False)
            under_way += 1
        for _ in range(under_way):
            self.socket.recv()


@pytest.mark.req("G.2")
def test_inline_payloads_take_little_more_work_than_bare_chunks(stack: ExitStack) -> None:
    """Usually 1 to 1.3 times as much, and as long."""
    roads = Roads(stack)
    payload = bytes(16 * MIB)

    def ours() -> None:
        roads.publish("inline", payload, 6)

    def bare() -> None:
        roads.chunks(payload, 6)

    work = times_as_fast(ours, bare, roads.cost)
    assert max(work) > 1 / 4, work
    time_ = times_as_fast(ours, bare, time.perf_counter)
    assert max(time_) > 1 / 10, time_


@pytest.mark.req("G.3")
def test_shared_memory_takes_less_work_than_tcp_between_the_same_two_processes(
    stack: ExitStack,
) -> None:
    """Usually a fifth or less, and of the time too."""
    roads = Roads(stack)
    plane = bytearray(PLANE)
    roads.publish("mapped", plane, 4)  # until the arena is there

    def mapped() -> None:
        roads.publish("mapped", plane, 16)

    def inline() -> None:
        roads.publish("inline", plane, 16)

    work = times_as_fast(mapped, inline, roads.cost)
    assert max(work) > 2, work
    time_ = times_as_fast(mapped, inline, time.perf_counter)
    assert max(time_) > 1, time_


@pytest.mark.req("G.3")
@pytest.mark.parametrize("batch", [1, 16])
def test_of_a_payload_in_shared_memory_a_line_is_sent_and_nothing_is_copied_twice(
    stack: ExitStack, batch: int
) -> None:
    """Of a single plane, and of a batch of small ones, which is one message."""
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server))
    proxy = stack.enter_context(proxy_endpoint(server.endpoint))
    client = stack.enter_context(ZMQClient(proxy.endpoint))
    client.connect(SOON)
    reader = stack.enter_context(FeedReader(client, credit=Credit(4, 1 << 30)))
    reader.subscribe("planes")
    assert reader.wait_subscribed("planes", SOON)
    planes = [bytearray(PLANE // batch) for _ in range(batch)]

    def pass_on(count: int) -> None:
        for _ in range(count):
            feed.publish("planes", b"", planes, timeout=SOON)
            assert reader.wait(SOON)
            for entry in reader.receive():
                assert isinstance(entry, Item)
                assert len(entry.lease.map()) == batch
                entry.lease.release()
        assert feed.flush(SOON)

    pass_on(3)  # until the arena is agreed on
    (before,) = feed.lanes
    said = proxy.data.counters["to_client"]
    asked = proxy.control.counters["to_server"]
    count = 20
    pass_on(count)
    (lane,) = feed.lanes
    assert lane.carrier == "arena"
    assert lane.sent - before.sent == count
    assert lane.bytes_copied - before.bytes_copied == count * PLANE  # once, into the arena
    assert lane.peer_copied == before.peer_copied
    assert reader.lanes[0].bytes_copied == before.peer_copied
    assert proxy.data.counters["to_client"] - said < count * 1000
    assert proxy.control.counters["to_server"] - asked < count * 1000


@pytest.mark.req("G.2")
@pytest.mark.parametrize(("mib", "copies"), [(16, 0), (24, 1)])  # one chunk, and two to be joined
def test_of_an_inline_payload_nothing_is_copied_here_and_each_byte_once_there_at_most(
    stack: ExitStack, mib: int, copies: int
) -> None:
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server))
    proxy = stack.enter_context(proxy_endpoint(server.endpoint))
    client = stack.enter_context(ZMQClient(proxy.endpoint))
    client.connect(SOON)
    reader = stack.enter_context(FeedReader(client, use_shared_memory=False))
    reader.subscribe("planes")
    assert reader.wait_subscribed("planes", SOON)
    payload = bytes(mib * MIB)
    said = proxy.data.counters["to_client"]
    for _ in range(4):
        feed.publish("planes", b"", [payload], timeout=SOON)
        assert reader.wait(SOON)
        (entry,) = reader.receive()
        assert isinstance(entry, Item)
        assert entry.lease.map()[0].nbytes == len(payload)
        entry.lease.release()
    assert feed.flush(SOON)
    (lane,) = feed.lanes
    assert lane.bytes_copied == 0
    assert lane.peer_copied == copies * 4 * len(payload)
    extra = proxy.data.counters["to_client"] - said - 4 * len(payload)
    assert 0 < extra < 4 * 1000


@pytest.mark.req("G.4")
def test_connecting_with_keys_takes_little_more_than_a_bare_encrypted_request(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usually three to five times as long: a thread, two sockets and a hello."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    ours, bare, key = Program(stack, "serve", str(tmp_path / "keys")).said
    endpoint = Endpoint(port=int(ours))
    public, secret = zmq.curve_keypair()

    def connect() -> None:
        with ZMQClient(endpoint, app="desk") as client:
            client.connect(SOON)
            assert client.keys is not None

    def ask() -> None:
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.curve_publickey, socket.curve_secretkey = public, secret
            socket.curve_serverkey = key.encode()
            socket.setsockopt(zmq.RCVTIMEO, int(1000 * SOON))
            socket.connect(f"tcp://127.0.0.1:{bare}")
            socket.send(b"hello")
            assert socket.recv() == b"hello"

    def ten_times(run: Callable[[], None]) -> None:
        for _ in range(10):
            run()

    found = times_as_fast(lambda: ten_times(connect), lambda: ten_times(ask), time.perf_counter)
    assert max(found) > 1 / 20, found
