"""A publisher sends when there is room, waits a bounded time, and names what was lost."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zmqruntime import (
    Ack,
    Credit,
    Deadline,
    Endpoint,
    Gap,
    GapReason,
    InlineLimits,
    Item,
    LinkState,
    NotAttachedError,
    PayloadTooLargeError,
    Publisher,
    PublisherPool,
    PublishTimeoutError,
    Subscriber,
    ZMQClient,
)
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("stream_program.py")
LARGE = 100_000
ROOM = Credit(8, 256 << 20)
WHOLE = InlineLimits()
BOTH = pytest.mark.parametrize("shared", [True, False], ids=["arena", "inline"])


class Receiver:
    """A receiver in another process."""

    def __init__(self, endpoint: Endpoint, shm: Path, behaviour: str = "") -> None:
        words = [sys.executable, str(PROGRAM), "receive", str(endpoint.port), str(shm), behaviour]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.expect("ready")

    def line(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        return line.rstrip("\n")

    def expect(self, *lines: str) -> None:
        assert [self.line() for _ in lines] == list(lines)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


class Wire:
    """A publisher and a subscriber in this process."""

    def __init__(self, publisher: Publisher, subscriber: Subscriber) -> None:
        self.publisher = publisher
        self.subscriber = subscriber

    def receive(self, count: int) -> list[Item | Gap]:
        found: list[Item | Gap] = []
        while len(found) < count:
            assert self.subscriber.wait(10), f"{len(found)} of {count} came"
            found += self.subscriber.receive(count - len(found))
        return found

    def items(self, count: int) -> list[Item]:
        found = self.receive(count)
        assert all(isinstance(each, Item) for each in found), found
        return [each for each in found if isinstance(each, Item)]


@contextmanager
def wire(
    shm: Path,
    *,
    credit: Credit = ROOM,
    mode: str = "reliable",
    until: str = "received",
    shared: bool = True,
    limits: InlineLimits = WHOLE,
    lease_ttl: float = 30.0,
    arena_bytes: int = 256 << 20,
) -> Iterator[Wire]:
    with (
        serve_in_thread() as server,
        Subscriber(server, credit=credit, directory=shm, limits=limits) as subscriber,
        ZMQClient(server.endpoint, app="microscope") as client,
    ):
        client.connect()
        with Publisher(
            client,
            "images",
            mode=mode,
            until=until,
            use_shared_memory=shared,
            directory=shm,
            limits=limits,
            lease_ttl=lease_ttl,
            arena_bytes=arena_bytes,
        ) as publisher:
            assert publisher.wait_attached(5)
            yield Wire(publisher, subscriber)
    assert list(shm.iterdir()) == []


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def publisher_to(endpoint: Endpoint, shm: Path, stack: ExitStack) -> Publisher:
    client = stack.enter_context(ZMQClient(endpoint, app="microscope"))
    client.connect(10)
    return stack.enter_context(Publisher(client, "images", directory=shm))


@BOTH
@pytest.mark.req("000.10")
@pytest.mark.req("F.36")
def test_what_is_published_arrives_as_it_was(shm: Path, shared: bool) -> None:
    buffers = [os.urandom(LARGE), b"", b"xyz"]
    with wire(shm, shared=shared) as ends:
        assert ends.publisher.publish(b"header", buffers, key="A01", timeout=15) == 1
        assert ends.publisher.publish(b"", [b"small"], key="A02", timeout=15) == 2
        first, second = ends.items(2)
        assert (first.topic, first.key, first.sequence) == ("images", "A01", 1)
        assert first.header == b"header"
        assert "microscope" in first.producer
        with first.lease as lease:
            assert [bytes(view) for view in lease.map()] == buffers
        assert second.lease.copy() == (b"small",)
        assert ends.publisher.flush(15) == ()
        counters = ends.publisher.counters
        assert (counters["arena"], counters["inline"]) == ((1, 1) if shared else (0, 2))
        assert counters["bytes"] == LARGE + 3 + 5
        assert ends.subscriber.counters["bytes_copied"] == 5


@BOTH
def test_buffers_may_be_changed_when_publish_has_returned(shm: Path, shared: bool) -> None:
    with wire(shm, shared=shared) as ends:
        for number in range(20):
            buffer = bytearray([number]) * LARGE
            ends.publisher.publish(b"", [buffer], key=str(number), timeout=15)
            buffer[:] = b"\xff" * LARGE
            (item,) = ends.items(1)
            assert item.lease.copy() == (bytes([number]) * LARGE,)


def test_a_large_payload_travels_in_parts_that_each_need_room(shm: Path) -> None:
    limits = InlineLimits(chunk_bytes=1000, part_bytes=4000, payload_bytes=1 << 20)
    buffers = [os.urandom(9000), os.urandom(1), os.urandom(6999)]
    with wire(shm, shared=False, limits=limits, credit=Credit(2, 5000)) as ends:
        ends.publisher.publish(b"h", buffers, key="A01", timeout=15)
        (item,) = ends.items(1)
        assert item.header == b"h"
        assert list(item.lease.copy()) == buffers
        assert ends.publisher.flush(15) == ()
        assert ends.publisher.state.under_way == Credit(0, 0)


@BOTH
@pytest.mark.req("B.4")
def test_without_room_publish_waits_a_bounded_time_and_sends_nothing(
    shm: Path, shared: bool
) -> None:
    with wire(shm, shared=shared, credit=Credit(2, 1 << 20)) as ends:
        for key in ("A01", "A02"):
            ends.publisher.publish(b"", [bytes(LARGE)], key=key, timeout=15)
        with pytest.raises(PublishTimeoutError, match="2 of 2 messages"):
            ends.publisher.publish(b"", [bytes(LARGE)], key="A03", timeout=0.05)
        first, second = ends.items(2)
        first.lease.release()
        assert ends.publisher.publish(b"", [bytes(LARGE)], key="A04", timeout=15) == 3
        (third,) = ends.items(1)
        assert third.key == "A04"
        for item in (second, third):
            item.lease.release()
        assert ends.publisher.flush(15) == ()
        assert ends.publisher.gaps == ()


def test_room_that_comes_back_wakes_who_waits(shm: Path) -> None:
    with wire(shm, credit=Credit(1, 1 << 20)) as ends:
        ends.publisher.publish(b"", [b"1"], key="A01", timeout=15)
        (item,) = ends.items(1)
        sent = threading.Thread(
            target=ends.publisher.publish, args=(b"", [b"2"]), kwargs={"key": "A02", "timeout": 10}
        )
        sent.start()
        item.lease.release()
        sent.join(10)
        assert not sent.is_alive()
        ends.items(1)[0].lease.release()


def test_acknowledgements_come_with_key_and_status(shm: Path) -> None:
    with wire(shm, until="displayed") as ends:
        told: list[tuple[str, Ack]] = []
        done = threading.Event()

        def note(key: str, ack: Ack) -> None:
            told.append((key, ack))
            if ack.status == "failed":
                done.set()

        ends.publisher.on_ack(note)
        for key in ("A01", "A02"):
            ends.publisher.publish(b"", [b"x"], key=key, timeout=15)
        first, second = ends.items(2)
        first.lease.release()
        assert ends.publisher.flush(0.05) == ("A01", "A02")
        first.ack("displayed")
        first.ack("received")
        second.fail("kind", "tables have no pixels; send images")
        second.ack("displayed")
        second.lease.release()
        assert done.wait(15)
        assert ends.publisher.flush(15) == ()
        statuses = {key: [str(ack.status) for of, ack in told if of == key] for key, _ in told}
        assert statuses == {"A01": ["received", "displayed"], "A02": ["failed"]}
        (failure,) = (ack for _, ack in told if ack.status == "failed")
        assert failure.code == "kind"
        assert "no pixels" in failure.text
        with pytest.raises(ValueError, match="fail"):
            first.ack("failed")


@pytest.mark.req("B.5")
def test_in_mode_latest_a_newer_payload_takes_the_place_before_it_is_encoded(shm: Path) -> None:
    encoded: list[int] = []

    def encode(number: int) -> tuple[bytes, list[bytes]]:
        encoded.append(number)
        return str(number).encode(), [bytes(LARGE)]

    with wire(shm, mode="latest", credit=Credit(2, 1 << 30)) as ends:
        shown = []
        for number in range(1, 3):
            ends.publisher.offer(partial(encode, number), key=str(number))
            shown += ends.items(1)
        for number in range(3, 50):
            ends.publisher.offer(partial(encode, number), key=str(number))
        for item in shown:
            item.lease.release()
        gap, last = ends.receive(2)
        assert isinstance(gap, Gap)
        assert (gap.first, gap.last, gap.reason) == (3, 48, GapReason.SUPERSEDED)
        assert isinstance(last, Item)
        assert (last.header, last.sequence) == (b"49", 49)
        last.lease.release()
        assert ends.publisher.flush(15) == ()
        assert encoded == [1, 2, 49]
        assert ends.publisher.counters["superseded"] == 46


def test_a_payload_that_cannot_be_encoded_is_a_gap(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> tuple[bytes, list[bytes]]:
        raise ArithmeticError("no such level")

    with wire(shm, mode="latest") as ends:
        ends.publisher.offer(broken, key="A01")
        (gap,) = ends.receive(1)
        assert isinstance(gap, Gap)
        assert gap.reason is GapReason.REFUSED
        assert "no such level" in caplog.text
        with pytest.raises(PayloadTooLargeError):
            ends.publisher.offer(broken, key="k" * 1025)
    with wire(shm) as ends, pytest.raises(ValueError, match="mode 'latest'"):
        ends.publisher.offer(broken, key="A01")


@BOTH
@pytest.mark.req("G.7")
@pytest.mark.req("F.6")
def test_a_killed_receiver_is_reported_and_its_successor_gets_what_was_lost(
    shm: Path, shared: bool, stack: ExitStack
) -> None:
    endpoint = free_endpoint()
    receiver = Receiver(endpoint, shm, "hold")
    client = stack.enter_context(ZMQClient(endpoint, app="microscope"))
    client.connect(10)
    publisher = stack.enter_context(
        Publisher(client, "images", use_shared_memory=shared, directory=shm)
    )
    replay: list[str] = []
    told = threading.Event()

    def note(keys: tuple[str, ...]) -> None:
        replay.extend(keys)
        told.set()

    publisher.on_replay(note)
    store = {f"A{number:02}": bytes([number]) * LARGE for number in range(1, 9)}
    for key, pixels in store.items():
        publisher.publish(b"", [pixels], key=key, timeout=10)
    for key in store:
        receiver.expect(f"got {key}")
    receiver.kill()
    with pytest.raises((PublishTimeoutError, NotAttachedError)):
        publisher.publish(b"", [bytes(LARGE)], key="A09", timeout=0.3)
    assert publisher.flush(15) == tuple(store)  # which ends when the receiver is seen to be lost
    assert publisher.state.link is LinkState.LOST
    assert [(gap.first, gap.last, gap.reason, gap.recover) for gap in publisher.gaps] == [
        (1, 8, publisher.gaps[0].reason, "replay")
    ]
    assert publisher.gaps[0].reason in (GapReason.RECEIVER_LOST, GapReason.LINK)
    successor = Receiver(endpoint, shm)
    stack.callback(successor.kill)
    assert publisher.wait_attached(10)
    assert told.wait(15)
    assert replay == list(store)
    for key in replay:
        publisher.publish(b"", [store[key]], key=key, timeout=10)
    assert publisher.flush(10) == ()
    for key in store:
        successor.expect(f"got {key} {LARGE}")
    if shared:
        assert len(list(shm.iterdir())) == 1  # slots of the dead one were taken back


@BOTH
@pytest.mark.req("F.6")
@pytest.mark.req("G.7")
def test_a_restarted_receiver_gets_what_was_kept_again_in_order_and_then_what_is_new(
    shm: Path, shared: bool, stack: ExitStack
) -> None:
    endpoint = free_endpoint()
    receiver = Receiver(endpoint, shm, "hold")
    client = stack.enter_context(ZMQClient(endpoint, app="microscope"))
    client.connect(10)
    publisher = stack.enter_context(
        Publisher(client, "images", use_shared_memory=shared, directory=shm, replay_bytes=64 << 20)
    )
    keys = [f"A{number:02}" for number in range(1, 9)]
    for key in keys:
        pixels = bytearray(key.encode() * LARGE)
        publisher.publish(b"", [pixels], key=key, timeout=10)
        pixels[:] = bytes(len(pixels))  # it is the caller's again
    receiver.expect(*(f"got {key}" for key in keys))
    receiver.kill()
    asked: list[str] = []
    publisher.on_replay(asked.extend)
    successor = Receiver(endpoint, shm, "sum")
    stack.callback(successor.kill)
    publisher.publish(b"", [b"new" * LARGE], key="B01", timeout=10)
    assert publisher.flush(10) == ()
    sums = {key: sum(key.encode()) * LARGE for key in keys}
    for number, key in enumerate(keys, 1):
        successor.expect(f"got {key} {sums[key]} again {number}")
    successor.expect(f"got B01 {sum(b'new') * LARGE} again 0")
    assert asked == []
    assert publisher.counters["lost"] == 0


def test_what_is_no_longer_kept_is_a_gap_or_asked_for(shm: Path, stack: ExitStack) -> None:
    endpoint = free_endpoint()
    receiver = Receiver(endpoint, shm, "hold")
    client = stack.enter_context(ZMQClient(endpoint, app="microscope"))
    client.connect(10)
    publisher = stack.enter_context(
        Publisher(client, "images", directory=shm, replay_bytes=3 * LARGE)
    )
    keys = [f"A{number:02}" for number in range(1, 6)]
    for key in keys:
        publisher.publish(b"", [bytes(LARGE)], key=key, timeout=10)
    receiver.expect(*(f"got {key}" for key in keys))
    receiver.kill()
    successor = Receiver(endpoint, shm, "hold")
    successor.expect("gap 1 3 evicted", "got A04", "got A05")
    assert publisher.counters["lost"] == 3
    successor.kill()
    asked: list[str] = []
    told = threading.Event()
    publisher.on_replay(asked.extend)
    publisher.on_replay(lambda _: told.set())
    third = Receiver(endpoint, shm, "hold")
    stack.callback(third.kill)
    third.expect("got A04", "got A05")
    assert told.wait(15)
    assert asked == ["A01", "A02", "A03"]


def test_a_subscriber_can_ask_for_what_it_misses(shm: Path) -> None:
    with (
        serve_in_thread() as server,
        Subscriber(server, directory=shm) as subscriber,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect()
        with Publisher(client, "images", directory=shm, replay_bytes=1 << 20) as publisher:
            ends = Wire(publisher, subscriber)
            publisher.publish(b"", [b"x"], key="A01", timeout=15)
            # as if the second one did not arrive
            (first,) = ends.items(1)
            dispatch = publisher._dispatch
            sent, dispatch._transport = dispatch._transport, lambda *_: None
            publisher.publish(b"", [bytes(LARGE)], key="A02", timeout=15)
            client.loop.submit(lambda: None).result()
            dispatch._transport = sent
            publisher.publish(b"", [b"z"], key="A03", timeout=15)
            gap, third = ends.receive(2)
            assert isinstance(gap, Gap)
            assert (gap.first, gap.last, gap.reason, gap.recover) == (2, 2, "link", "replay")
            subscriber.resend(gap)
            (again,) = ends.items(1)
            assert (again.key, again.sequence, again.again) == ("A02", 4, 2)
            for item in (first, third, again):
                assert isinstance(item, Item)
                item.lease.release()
            assert publisher.flush(15) == ()
            assert publisher.state.under_way == Credit(0, 0)


@pytest.mark.req("000.16")
def test_nothing_is_sent_before_a_receiver_takes_part(shm: Path, stack: ExitStack) -> None:
    server = stack.enter_context(serve_in_thread())
    publisher = publisher_to(server.endpoint, shm, stack)
    deadline = Deadline(15)
    while "did not let us take part" not in publisher.state.detail:  # until it was told so
        assert not deadline.expired
        with pytest.raises(NotAttachedError):
            publisher.publish(b"", [b"x"], key="A01", timeout=0.05)
    with pytest.raises(NotAttachedError, match="did not let us take part"):
        publisher.publish(b"", [b"x"], key="A01", timeout=0.05)
    assert publisher.state.link is LinkState.WAITING
    assert not publisher.wait_attached(0.01)
    subscriber = stack.enter_context(Subscriber(server, directory=shm))
    publisher.publish(b"", [b"x"], key="A02", timeout=10)
    assert subscriber.wait(15)
    (item,) = subscriber.receive()
    assert isinstance(item, Item)
    assert (item.key, item.sequence) == ("A02", 1)
    item.lease.release()


def test_a_stopped_receiver_costs_a_bounded_wait_and_goes_on_where_it_was(
    shm: Path, stack: ExitStack
) -> None:
    endpoint = free_endpoint()
    receiver = Receiver(endpoint, shm)
    stack.callback(receiver.kill)
    publisher = publisher_to(endpoint, shm, stack)
    publisher.publish(b"", [bytes(LARGE)], key="0", timeout=10)
    receiver.expect(f"got 0 {LARGE}")
    assert publisher.flush(10) == ()
    os.kill(receiver.process.pid, signal.SIGSTOP)
    sent = [str(number) for number in range(1, 9)]
    for key in sent:
        publisher.publish(b"", [bytes(LARGE)], key=key, timeout=10)
    with pytest.raises(PublishTimeoutError, match="busy or stopped"):
        publisher.publish(b"", [bytes(LARGE)], key="9", timeout=0.2)
    os.kill(receiver.process.pid, signal.SIGCONT)
    assert publisher.flush(10) == ()
    receiver.expect(*(f"got {key} {LARGE}" for key in sent))


def test_a_receiver_that_stays_stopped_is_lost_and_welcome_again(
    shm: Path, stack: ExitStack
) -> None:
    endpoint = free_endpoint()
    receiver = Receiver(endpoint, shm)
    stack.callback(receiver.kill)
    publisher = publisher_to(endpoint, shm, stack)
    publisher.publish(b"", [bytes(LARGE)], key="A01", timeout=10)
    receiver.expect(f"got A01 {LARGE}")
    assert publisher.flush(10) == ()
    lost, replay = threading.Event(), threading.Event()
    publisher.on_gap(lambda _: lost.set())
    publisher.on_replay(lambda _: replay.set())
    os.kill(receiver.process.pid, signal.SIGSTOP)
    publisher.publish(b"", [bytes(LARGE)], key="A02", timeout=10)
    assert lost.wait(20)  # its heartbeat is missed for 3 s
    assert publisher.state.link is LinkState.LOST
    assert publisher.flush(15) == ("A02",)
    os.kill(receiver.process.pid, signal.SIGCONT)
    assert publisher.wait_attached(20)
    assert replay.wait(15)
    publisher.publish(b"", [bytes(LARGE)], key="A02", timeout=10)
    publisher.publish(b"", [b"x"], key="A03", timeout=10)
    assert publisher.flush(10) == ()
    lines = [receiver.line()]
    while lines[-1] != "got A03 1":
        lines.append(receiver.line())
    assert f"got A02 {LARGE}" in lines


def test_memory_of_a_silent_receiver_is_used_again_and_the_loss_is_seen_at_both_ends(
    shm: Path, stack: ExitStack
) -> None:
    endpoint = free_endpoint()
    receiver = Receiver(endpoint, shm)
    stack.callback(receiver.kill)
    client = stack.enter_context(ZMQClient(endpoint, app="microscope"))
    client.connect(10)
    publisher = stack.enter_context(
        Publisher(client, "images", directory=shm, lease_ttl=1.0, arena_bytes=2 << 20)
    )
    publisher.publish(b"", [bytes(1 << 20)], key="0", timeout=10)
    receiver.expect(f"got 0 {1 << 20}")
    publisher.flush(10)
    os.kill(receiver.process.pid, signal.SIGSTOP)
    for key in ("1", "2", "3"):  # two slots: the third waits until a lease has run out
        publisher.publish(b"", [bytes(1 << 20)], key=key, timeout=10)
    assert {gap.reason for gap in publisher.gaps} == {GapReason.LEASE_EXPIRED}
    assert {"1", "2"} <= set(publisher.unacknowledged)
    os.kill(receiver.process.pid, signal.SIGCONT)
    lines = [receiver.line() for _ in range(3)]
    # one of the two slots was written again, the other could still be read
    assert {"gap 2 2 lease_expired", "gap 3 3 lease_expired"} & set(lines)
    assert f"got 3 {1 << 20}" in lines


@pytest.mark.req("F.9")
def test_without_shared_memory_payloads_go_inline_with_one_warning(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shm / "full"
    folder.mkdir()
    with wire(folder) as ends:
        shutil.rmtree(folder)  # as with ENOSPC: no segment can be made any more
        for key in ("A01", "A02"):
            ends.publisher.publish(b"", [bytes(LARGE)], key=key, timeout=15)
            ends.items(1)[0].lease.release()
        assert ends.publisher.counters["inline"] == 2
        assert ends.publisher.state.carrier_reason == "no_room"
        folder.mkdir()
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "sent inline" in warnings[0].getMessage()


@pytest.mark.req("F.10")
def test_a_payload_that_cannot_be_sent_costs_no_room(shm: Path) -> None:
    with wire(shm, credit=Credit(1, 1 << 20)) as ends:
        for _ in range(20):
            with pytest.raises(ValueError, match="contiguous"):
                ends.publisher.publish(b"", [memoryview(bytes(LARGE))[::2]], key="A01")
            with pytest.raises(PayloadTooLargeError):
                ends.publisher.publish(bytes(70_000), [], key="A01")
            with pytest.raises(PayloadTooLargeError):
                ends.publisher.publish(b"", [], key="k" * 2000)
        assert ends.publisher.publish(b"", [bytes(LARGE)], key="A01", timeout=15) == 1
        ends.items(1)[0].lease.release()


def test_many_threads_publish_and_every_payload_arrives_in_order(shm: Path) -> None:
    with wire(shm, credit=Credit(4, 1 << 30)) as ends:

        def publish(worker: int) -> None:
            for number in range(25):
                size = LARGE if number % 2 else 10
                ends.publisher.publish(b"", [bytes(size)], key=f"{worker}-{number}", timeout=20)

        workers = [threading.Thread(target=publish, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        items = []
        for _ in range(100):
            (item,) = ends.items(1)
            item.lease.copy()
            items.append(item)
        for worker in workers:
            worker.join(10)
        assert [item.sequence for item in items] == list(range(1, 101))
        assert len({item.key for item in items}) == 100
        assert ends.publisher.flush(15) == ()


@pytest.mark.req("F.7")
def test_a_killed_sender_leaves_nothing_after_the_next_start(shm: Path, stack: ExitStack) -> None:
    server = stack.enter_context(serve_in_thread())
    subscriber = stack.enter_context(Subscriber(server, directory=shm))
    words = [sys.executable, str(PROGRAM), "send", str(server.endpoint.port), str(shm), "fork"]
    sender = stack.enter_context(
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    )
    assert sender.stdout is not None
    assert [sender.stdout.readline() for _ in range(2)] == ["ready\n", "forked\n"]
    assert subscriber.wait(15)
    (item,) = subscriber.receive()
    assert isinstance(item, Item)
    assert len(list(shm.iterdir())) == 1  # the child that ended took nothing along
    sender.kill()
    sender.wait()
    with item.lease as lease:
        assert bytes(lease.map()[0]) == b"p" * 200_000  # what was mapped stays
    assert publisher_to(server.endpoint, shm, stack).wait_attached(5)
    assert list(shm.iterdir()) == []


@pytest.mark.req("000.1")
@pytest.mark.req("000.3")
@pytest.mark.req("000.4")
def test_a_pool_keeps_one_publisher_per_host_and_port(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with (
        serve_in_thread() as one,
        serve_in_thread() as two,
        Subscriber(one, directory=shm),
        Subscriber(two, directory=shm),
    ):
        with PublisherPool("images", use_shared_memory=False) as pool:
            assert not pool.keys
            first = pool.get("localhost", one.endpoint.port)
            assert pool.get("localhost", one.endpoint.port) is first
            assert pool.get("127.0.0.1", one.endpoint.port) is not first
            assert pool.get("localhost", two.endpoint.port) is not first
            key = next(iter(pool.keys))
            assert key == f"localhost:{one.endpoint.port}"
            assert first.wait_attached(5)
            first.publish(b"", [b"x"], key="A01", timeout=15)
            assert pool.flush(0.05) == {key: ("A01",)}
        pool.close()
        with pytest.raises(NotAttachedError, match="is closed"):
            pool.get("localhost", one.endpoint.port)
    assert f"publishing 'images' to localhost:{one.endpoint.port}" in caplog.text
    assert f"closed the connection to localhost:{one.endpoint.port}" in caplog.text


def test_a_closed_publisher_says_so(shm: Path) -> None:
    with wire(shm) as ends:
        ends.publisher.close()
        ends.publisher.close()
        assert ends.publisher.state.link is LinkState.CLOSED
        with pytest.raises(NotAttachedError, match="closed"):
            ends.publisher.publish(b"", [b"x"], key="A01", timeout=15)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that is the point
def test_a_forked_worker_is_told_to_make_its_own(shm: Path) -> None:
    with wire(shm) as ends:
        child = os.fork()
        if child == 0:
            try:
                ends.publisher.publish(b"", [b"x"], key="A01", timeout=15)
            except NotAttachedError as error:
                os._exit(7 if "makes its own" in str(error) else 1)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        ends.publisher.publish(b"", [b"x"], key="A02", timeout=15)
        ends.items(1)[0].lease.release()


def test_the_loop_does_not_wait_for_itself(shm: Path) -> None:
    with wire(shm) as ends:
        loop = ends.publisher._loop
        waiting = loop.submit(ends.publisher.publish, b"", [b"x"], key="A01", timeout=15)
        with pytest.raises(RuntimeError, match="use another thread"):
            waiting.result(5)


@pytest.mark.parametrize("topic", ["", "a\0b", "t" * 257])
def test_a_topic_is_a_word(topic: str) -> None:
    with ZMQClient(free_endpoint()) as client, pytest.raises(ValueError, match="a topic has"):
        Publisher(client, topic)


def test_a_callback_for_acknowledgements_that_fails_keeps_nothing_waiting(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError("nobody counts like that")

    with wire(shm, mode="latest", credit=Credit(1, 1 << 20)) as ends:
        ends.publisher.on_ack(broken)
        for number in range(3):
            ends.publisher.publish(b"", [b"x"], key=str(number))
            if not number:
                (first,) = ends.items(1)
        first.lease.release()
        gap, last = ends.receive(2)
        assert isinstance(gap, Gap)
        assert isinstance(last, Item)
        assert last.key == "2"
        last.lease.release()
        assert ends.publisher.flush(5) == ()
    assert "nobody counts like that" in caplog.text
