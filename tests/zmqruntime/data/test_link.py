"""What a producer measures of its links, and what an application can do with it."""

from __future__ import annotations

import hashlib
import queue
import random
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqruntime import (
    Credit,
    Deadline,
    Feed,
    FeedReader,
    Item,
    LinkStats,
    Publisher,
    Subscriber,
    ZMQClient,
)
from zmqruntime.carriers import LinkMeter
from zmqruntime.data._outbox import Outbox
from zmqruntime.data._stream_messages import Acks
from zmqruntime.testing import proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 60.0  # seconds; far more than any of this takes
NARROW = 400_000  # bytes/s
KIB = 1 << 10


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_payloads_that_follow_one_another_tell_the_width_of_a_link_whatever_its_length() -> None:
    meter = LinkMeter()
    assert meter.stats == LinkStats()
    for number in range(8):  # 100 KiB each, all at once, on a link of 1 MiB/s and 0.3 s
        through = 0.3 + (number + 1) * 100 / 1024
        meter.arrived(number + 1, 100 * KIB, sent=0.0, heard=through + number, held=float(number))
    stats = meter.stats
    assert stats.bytes_per_s is not None
    assert stats.bytes_per_s == pytest.approx(1 << 20, rel=0.3)
    assert stats.delay_s == pytest.approx(0.3 + 100 / 1024)
    assert stats.latency_s is not None
    assert stats.delay_s is not None
    assert stats.latency_s > stats.delay_s  # they wait for one another
    assert stats.payloads == 8


def test_small_payloads_tell_the_delay_only_and_pauses_count_for_nothing() -> None:
    meter = LinkMeter()
    for number in range(1, 5):
        meter.arrived(number, 100, sent=10.0 * number, heard=10.0 * number + 0.02, held=0.0)
    assert meter.stats.bytes_per_s is None
    assert meter.stats.delay_s == pytest.approx(0.02)
    for number in range(5, 9):
        meter.arrived(number, 1000_000, sent=10.0 * number, heard=10.0 * number + 0.5, held=0.0)
    assert meter.stats.bytes_per_s == pytest.approx(2e6, rel=0.01)


def test_a_link_that_changes_is_followed_and_an_old_delay_is_forgotten() -> None:
    meter = LinkMeter()
    now = 0.0
    number = 0

    def carry(count: int, seconds: float) -> float:
        nonlocal now, number
        for _ in range(count):
            number += 1
            meter.arrived(number, 100_000, sent=now, heard=now + seconds, held=0.0)
            now += seconds
        found = meter.stats.bytes_per_s
        assert found is not None
        return found

    assert carry(50, 0.01) == pytest.approx(1e7, rel=0.01)
    assert carry(5, 0.5) == pytest.approx(2e5, rel=0.3)
    assert carry(100, 0.01) == pytest.approx(1e7, rel=0.2)
    assert meter.stats.delay_s == pytest.approx(0.01)
    carry(80, 0.5)
    assert meter.stats.delay_s == pytest.approx(0.5)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 50),
            st.integers(0, 1 << 40),
            st.floats(0, 1e6),
            st.floats(-1e6, 1e6),
            st.floats(-1e9, 1e9),
        ),
        max_size=40,
    )
)
@settings(max_examples=50, deadline=None)
def test_whatever_a_receiver_says_of_itself_gives_numbers_that_can_be_used(
    said: list[tuple[int, int, float, float, float]],
) -> None:
    meter = LinkMeter()
    for sequence, nbytes, sent, later, held in said:
        meter.arrived(sequence, nbytes, sent=sent, heard=sent + later, held=held)
        stats = meter.stats
        assert stats.bytes_per_s is None or stats.bytes_per_s >= 0
        assert stats.delay_s is None or stats.delay_s >= 0
        assert stats.latency_s is None or stats.latency_s >= 0


def test_what_is_released_out_of_turn_or_twice_is_left_out() -> None:
    meter = LinkMeter()
    meter.arrived(2, 100_000, sent=0.0, heard=0.1, held=0.0)
    seen = meter.stats
    meter.arrived(1, 100_000, sent=0.0, heard=9.0, held=0.0)
    meter.arrived(2, 100_000, sent=0.0, heard=9.0, held=0.0)
    assert meter.stats == seen


@pytest.mark.req("001.13")
def test_a_receiver_that_does_not_say_how_long_it_kept_a_payload_is_understood() -> None:
    older = msgspec.convert({"epoch": "e", "released": [1], "received": [1]}, Acks)
    box = Outbox(topic="images", epoch="e", credit=Credit(8, 1 << 20))
    box.sent(box.number(), "A01", at=1.0, nbytes=100_000)
    box.heard(older, now=1.5)
    assert box.link.stats.delay_s == pytest.approx(0.5)
    box.sent(box.number(), "A02", at=2.0, nbytes=100_000)
    newer = msgspec.convert({"epoch": "e", "released": [2], "held_us": [400_000, 7]}, Acks)
    box.heard(newer, now=2.5)
    assert box.link.stats.delay_s == pytest.approx(0.1)


class Camera:
    """A producer that sends as much detail as the link carries at ten frames per second."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.whole = random.Random(3).randbytes(256 * KIB)
        self.sizes: list[int] = []

    def draw(self) -> tuple[bytes, list[bytes]]:
        (reader,) = self.feed.subscribers("view")
        width = self.feed.link(reader).bytes_per_s
        size = len(self.whole) if width is None else min(len(self.whole), int(width / 10))
        self.sizes.append(max(17 * KIB, size))
        return b"detail", [self.whole[: self.sizes[-1]]]

    def settle(self) -> tuple[bytes, list[bytes]]:
        return hashlib.sha256(self.whole).digest(), [self.whole]


@pytest.mark.req("001.13", "002.18")
def test_a_sender_gives_less_to_a_narrow_link_more_to_a_wide_one_and_settles_on_all(
    stack: ExitStack,
) -> None:
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server, use_shared_memory=False))
    proxy = stack.enter_context(proxy_endpoint(server.endpoint, buffer_bytes=64 * KIB))
    client = stack.enter_context(ZMQClient(proxy.endpoint))
    client.connect(SOON)
    reader = stack.enter_context(FeedReader(client, credit=Credit(2, 1 << 20)))
    reader.subscribe("view", "latest")
    assert reader.wait_subscribed("view", SOON)
    (subscription,) = feed.subscribers("view")
    assert feed.link(subscription) == LinkStats()
    camera = Camera(feed)
    acks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed.on_ack(lambda _subscription, ack: acks.put(ack))

    def next_frame(encode: Any) -> Item:
        """Have a frame shown, and wait until the sender knows."""
        feed.offer("view", encode)
        while True:
            assert reader.wait(SOON)
            for entry in reader.receive(1):
                if isinstance(entry, Item):
                    return entry

    def done(item: Item) -> None:
        item.lease.release()
        assert acks.get(timeout=SOON).sequence == item.sequence

    def width() -> float:
        found = feed.link(subscription).bytes_per_s
        assert found is not None
        return found

    for _ in range(10):
        done(next_frame(camera.draw))
    deadline = Deadline(SOON)
    proxy.data.limit(NARROW)
    while width() > 2 * NARROW or camera.sizes[-1] > NARROW / 5:
        assert not deadline.expired, feed.link(subscription)
        done(next_frame(camera.draw))
    narrow = feed.link(subscription)
    assert narrow.latency_s is not None
    assert narrow.delay_s is not None
    assert narrow.latency_s > narrow.delay_s
    (lane,) = feed.lanes
    assert lane.link.bytes_per_s == narrow.bytes_per_s
    last = next_frame(camera.settle)  # whole, although the link is narrow
    with last.lease as lease:
        assert hashlib.sha256(lease.copy()[0]).digest() == last.header
    assert acks.get(timeout=SOON).sequence == last.sequence
    assert feed.flush(SOON)
    proxy.data.limit(None)
    while width() < 5 * NARROW or camera.sizes[-1] < len(camera.whole) // 2:
        assert not deadline.expired, feed.link(subscription)
        done(next_frame(camera.draw))
    assert feed.gaps == ()
    left = threading.Event()
    feed.on_unsubscribed(lambda _subscription: left.set())
    reader.unsubscribe("view")
    assert left.wait(SOON)
    assert feed.link(subscription) == LinkStats()


@pytest.mark.req("001.13")
def test_an_application_that_keeps_payloads_does_not_make_its_link_a_slow_one(
    stack: ExitStack, shm: Path
) -> None:
    server = stack.enter_context(serve_in_thread())
    subscriber = stack.enter_context(Subscriber(server, credit=Credit(2, 1 << 24), directory=shm))
    client = stack.enter_context(ZMQClient(server.endpoint))
    client.connect(SOON)
    publisher = stack.enter_context(Publisher(client, "images", directory=shm))
    assert publisher.link == LinkStats()
    acked: queue.SimpleQueue[str] = queue.SimpleQueue()
    publisher.on_ack(lambda key, _ack: acked.put(key))
    kept = 0.0
    for number in range(4):
        publisher.publish(b"", [bytes(100 * KIB)], key=str(number), timeout=SOON)
        assert subscriber.wait(SOON)
        (item,) = subscriber.receive()
        assert isinstance(item, Item)
        assert not threading.Event().wait(0.2)  # it looks at it
        kept += 0.2
        item.lease.release()
        assert acked.get(timeout=SOON) == str(number)
    stats = publisher.link
    assert stats.payloads == 4
    assert stats.latency_s is not None
    assert stats.bytes_per_s is not None
    assert 4 * stats.latency_s < kept, stats
    assert 400 * KIB / stats.bytes_per_s < kept, stats
    assert publisher.lanes[0].link == stats
    assert subscriber.lanes[0].link == LinkStats()
