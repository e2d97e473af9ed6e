"""A feed whose links break, whose peers have keys, and whose memory is held by the silent."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import msgspec
import pytest

from zmqruntime import (
    ConflictError,
    Credit,
    Deadline,
    Feed,
    FeedReader,
    Gap,
    GapReason,
    Item,
    StaleSlotError,
    ZMQClient,
)
from zmqruntime.carriers import HostIdentity
from zmqruntime.testing import proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from pathlib import Path

LARGE = 100_000


def read_until(reader: FeedReader, key: str) -> list[Item | Gap]:
    """Receive and release up to a key."""
    found: list[Item | Gap] = []
    while not (found and isinstance(found[-1], Item) and found[-1].key == key):
        assert reader.wait(15), found
        for entry in reader.receive(1):
            found.append(entry)
            if isinstance(entry, Item):
                entry.lease.release()
    return found


@pytest.mark.req("G.7")
@pytest.mark.parametrize("data_only", [False, True], ids=["both", "data"])
def test_a_link_that_was_cut_loses_nothing_that_was_kept(shm: Path, data_only: bool) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, replay_bytes=64 << 20) as feed,
        proxy_endpoint(server.endpoint) as proxy,
        ZMQClient(proxy.endpoint) as client,
        FeedReader(client, directory=shm) as reader,
    ):
        gone, came = threading.Event(), threading.Event()
        feed.on_unsubscribed(lambda _: gone.set())
        feed.on_subscribed(lambda _: came.set())
        client.connect(10)
        reader.subscribe("frames")
        assert came.wait(10)
        number = 0
        for _ in range(3):
            for _ in range(5):
                number += 1
                feed.publish("frames", b"", [bytes(LARGE)], key=str(number))
            gone.clear()
            came.clear()
            (proxy.data if data_only else proxy).break_connections()
            assert gone.wait(10)
            for _ in range(5):
                number += 1
                feed.publish("frames", b"", [bytes(LARGE)], key=str(number))
            assert came.wait(15)
        feed.publish("frames", b"", [bytes(LARGE)], key="last")
        found = read_until(reader, "last")
        keys = [int(each.key) for each in found if isinstance(each, Item) and each.key != "last"]
        assert sorted(set(keys)) == list(range(1, number + 1))
        assert [each for each in found if isinstance(each, Gap)] == []
        # what was acknowledged and not heard of comes twice, and says so
        again = [each for each in found if isinstance(each, Item) and each.again]
        assert len(keys) - number <= len(again)


def test_news_of_a_loss_that_comes_after_the_next_welcome_does_not_end_the_reading(
    shm: Path,
) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm) as reader,
    ):
        came: queue.SimpleQueue[object] = queue.SimpleQueue()
        feed.on_subscribed(came.put)
        client.connect()
        reader.subscribe("frames")
        came.get(timeout=10)

        def late() -> None:
            reader._orders._on_lost("the connection broke")
            reader._orders._on_welcome(client.welcome)

        client.loop.submit(late).result()
        came.get(timeout=10)
        assert feed.publish("frames", b"", key="A01") == 1
        assert isinstance(read_until(reader, "A01")[-1], Item)


def test_a_reader_can_ask_for_what_it_misses(shm: Path) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, replay_bytes=1 << 20) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm) as reader,
    ):
        client.connect()
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames")
        dispatch = feed._dispatch
        sent, dispatch._transport = dispatch._transport, lambda *_: None  # as if it got lost
        feed.publish("frames", b"", [bytes(LARGE)], key="A01")
        server.loop.submit(lambda: None).result()
        dispatch._transport = sent
        feed.publish("frames", b"", key="A02")
        assert reader.wait(15)
        gap, second = reader.receive()
        assert isinstance(gap, Gap)
        assert (gap.first, gap.last, gap.reason, gap.recover) == (1, 1, "link", "replay")
        assert isinstance(second, Item)
        second.lease.release()
        assert reader.resend(gap) == (1,)
        (again,) = read_until(reader, "A01")
        assert isinstance(again, Item)
        assert (again.sequence, again.again) == (3, 1)
        assert feed.flush(15)
        assert reader.resend(gap) == ()
        (lane,) = feed.lanes
        assert lane.used == Credit(0, 0)
        with pytest.raises(LookupError):
            reader.resend(replace(gap, epoch="another"))


@pytest.mark.req("B.3")
def test_memory_of_a_silent_reader_is_used_again_and_that_is_a_gap_of_it_alone(shm: Path) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, lease_ttl=3.0, arena_bytes=1 << 20) as feed,
        ZMQClient(server.endpoint) as one,
        ZMQClient(server.endpoint) as two,
        FeedReader(one, directory=shm) as silent,
        FeedReader(two, directory=shm) as lively,
    ):
        for client, reader in ((one, silent), (two, lively)):
            client.connect()
            reader.subscribe("frames")
            assert reader.wait_subscribed("frames")
        keys = map(str, count())
        deadline = Deadline(40)
        held: Item | None = None
        while held is None:
            assert not deadline.expired
            written = feed.lanes[0].bytes_copied
            feed.publish("frames", b"", [bytes(1 << 20)], key=(key := next(keys)))
            read_until(lively, key)
            assert silent.wait(15)
            (item,) = silent.receive(1)
            assert isinstance(item, Item)
            if feed.lanes[0].bytes_copied > written:
                held = item  # the one slot that there is
            else:
                item.lease.release()  # it came inline: the slot is not open to it yet, or not free
        deadline = Deadline(40)
        while not feed.gaps:
            assert not deadline.expired
            feed.publish("frames", b"", [b"\1" * (1 << 20)], key=(key := next(keys)))
            read_until(lively, key)
        (gap, *_) = feed.gaps
        assert (gap.reason, gap.first) == (GapReason.LEASE_EXPIRED, held.sequence)
        assert {lane.lost > 0 for lane in feed.lanes} == {True, False}
        feed.publish("frames", b"", [bytes(1 << 20)], key="over")
        read_until(lively, "over")
        with pytest.raises(StaleSlotError, match="overwritten"):
            held.lease.map()
        with pytest.raises(StaleSlotError):
            held.lease.release()
        found = silent.receive()
        assert any(
            isinstance(each, Gap) and each.reason is GapReason.LEASE_EXPIRED for each in found
        )
        for each in found:
            if isinstance(each, Item):
                assert each.lease.copy() == (b"\1" * (1 << 20),)  # what came inline


def test_bytes_that_somebody_else_wrote_are_found_where_a_checksum_was_asked_for(
    shm: Path,
) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, checksums=True) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm) as reader,
    ):
        client.connect()
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames")
        verified = False
        for number in range(50):  # the first ones go inline, until the arena is opened
            feed.publish("frames", b"", [bytes(LARGE), b"tail"], key=str(number))
            assert reader.wait(15)
            item = reader.receive()[0]
            assert isinstance(item, Item)
            verified = item.lease.verify()
            if verified:
                break
            item.lease.release()
        assert verified
        assert isinstance(item, Item)
        (segment,) = shm.iterdir()
        at = segment.read_bytes().index(b"tail")
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(b"fail")
        with pytest.raises(StaleSlotError, match="other bytes than its owner wrote"):
            item.lease.verify()
        item.lease.release()


@pytest.mark.timeout(150)
@pytest.mark.req("F.13")
def test_a_burst_of_progress_loses_nothing_in_silence(shm: Path) -> None:
    """20 000 events for a reader that is busy: each arrives, or is named as missing."""
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, queue_bytes=4 << 20) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client, directory=shm, credit=Credit(64, 1 << 20)) as reader,
    ):
        client.connect()
        reader.subscribe("progress")
        assert reader.wait_subscribed("progress")
        for number in range(20_000):
            feed.publish("progress", b"%d" % number, key=str(number))
        found: list[Item | Gap] = []
        looks = threading.Thread(target=lambda: found.extend(read_until(reader, "done")))
        looks.start()
        assert feed.publish("progress", b"done", key="done", timeout=60) == 1
        looks.join(60)
        came, missing, last = 0, 0, 0
        for entry in found:
            if isinstance(entry, Gap):
                assert (entry.first, entry.reason) == (last + 1, "no_credit")
                missing += len(entry)
                last = entry.last
            else:
                assert entry.sequence == last + 1
                came, last = came + 1, entry.sequence
        assert came + missing == 20_001
        assert missing > 0  # a queue of 4 MB does not hold them
        assert feed.counters["lost"] == missing


def order_of(reader: FeedReader, client: ZMQClient, **more: object) -> dict[str, object]:
    """Say what a subscription of that reader looks like, in the hand of another program."""
    return {
        "topic": "frames",
        "mode": "reliable",
        "reader": "another",
        "name": reader.name,
        "incarnation": client.incarnation,
        "host": msgspec.to_builtins(HostIdentity.mine()),
        "messages": 8,
        "nbytes": 1 << 20,
        **more,
    }


@pytest.mark.req("S.8", "S.10")
def test_who_knows_the_name_and_start_of_a_reader_does_not_get_its_place(shm: Path) -> None:
    with (
        serve_in_thread() as server,
        Feed(server, directory=shm, replay_bytes=1 << 20) as feed,
        ZMQClient(server.endpoint) as client,
        ZMQClient(server.endpoint) as other,
        FeedReader(client, directory=shm) as reader,
    ):
        left: list[object] = []
        feed.on_unsubscribed(left.append)
        client.connect(10)
        other.connect(10)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", 10)
        for guess in ("", "0" * 32, "e\u00e9"):
            with pytest.raises(ConflictError):
                other.control.request(
                    "subscribe", order_of(reader, client, before=guess), timeout=0.2
                )
        assert left == []
        feed.publish("frames", b"", [b"whole"], key="mine")
        assert isinstance(read_until(reader, "mine")[-1], Item)
        # who was told the name of the run is that reader, on another connection
        (order,) = reader._orders.all()
        body = other.control.request("subscribe", order_of(reader, client, before=order.epoch))
        assert body["epoch"] != order.epoch
