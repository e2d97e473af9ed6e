"""A feed serves every reader at its own pace, and tells each what it misses."""

from __future__ import annotations

import queue
import random
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq

from zmqruntime import (
    BusyError,
    Credit,
    Deadline,
    EndpointInUse,
    Feed,
    FeedReader,
    ForbiddenError,
    Gap,
    GapReason,
    InvalidRequestError,
    Item,
    NotAttachedError,
    Subscriber,
    ZMQClient,
    ZMQServer,
)
from zmqruntime.carriers._negotiate import HostIdentity
from zmqruntime.data._stream_messages import TransportHeader, decode_header
from zmqruntime.testing import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 100_000
ROOM = Credit(8, 256 << 20)
BOTH = pytest.mark.parametrize("shared", [True, False], ids=["arena", "inline"])


class Bench:
    """A feed, and readers with a connection of their own each."""

    def __init__(self, server: ZMQServer, feed: Feed, shm: Path, stack: ExitStack) -> None:
        self.server = server
        self.feed = feed
        self.shm = shm
        self.stack = stack

    def reader(
        self,
        topic: str = "frames",
        mode: str = "reliable",
        *,
        credit: Credit = ROOM,
        name: str | None = None,
        shared: bool = True,
    ) -> FeedReader:
        client = self.stack.enter_context(ZMQClient(self.server.endpoint, app="viewer"))
        client.connect()
        reader = self.stack.enter_context(
            FeedReader(
                client, credit=credit, name=name, use_shared_memory=shared, directory=self.shm
            )
        )
        reader.subscribe(topic, mode)
        assert reader.wait_subscribed(topic)
        return reader

    def warm(self, *readers: FeedReader, topic: str = "frames") -> None:
        """Publish until every reader has opened the arena."""
        for _ in range(50):
            self.feed.publish(topic, b"", [bytes(LARGE)], key="warm")
            for reader in readers:
                for item in items(reader, 1):
                    item.lease.release()
            assert self.feed.flush(15)
            if all(lane.carrier == "arena" for lane in self.feed.lanes):
                with self.feed._changed:
                    lanes = tuple(self.feed._lanes.live.values())
                    if all(self.feed._lender.current in lane.announced for lane in lanes):
                        return
        raise AssertionError("no arena was agreed on")


@contextmanager
def bench(
    shm: Path, *, shared: bool = True, replay_bytes: int = 0, queue_bytes: int = 64 << 20
) -> Iterator[Bench]:
    with (
        serve_in_thread() as server,
        Feed(
            server,
            directory=shm,
            use_shared_memory=shared,
            replay_bytes=replay_bytes,
            queue_bytes=queue_bytes,
        ) as feed,
        ExitStack() as stack,
    ):
        yield Bench(server, feed, shm, stack)
    assert list(shm.iterdir()) == []


def receive(reader: FeedReader, count: int) -> list[Item | Gap]:
    found: list[Item | Gap] = []
    while len(found) < count:
        assert reader.wait(10), f"{len(found)} of {count} came: {found}"
        found += reader.receive(count - len(found))
    return found


def items(reader: FeedReader, count: int) -> list[Item]:
    found = receive(reader, count)
    assert all(isinstance(each, Item) for each in found), found
    return [each for each in found if isinstance(each, Item)]


def shown(found: list[Item | Gap]) -> list[object]:
    """Say what came: keys of items, numbers and reasons of gaps; items are released."""
    said: list[object] = []
    for each in found:
        if isinstance(each, Gap):
            said.append((each.first, each.last, str(each.reason)))
        else:
            each.lease.release()
            said.append(each.key)
    return said


def read(reader: FeedReader, count: int) -> list[object]:
    """Receive and release one after the other."""
    return [said for _ in range(count) for said in shown(receive(reader, 1))]


@BOTH
@pytest.mark.req("000.9")
@pytest.mark.req("000.10")
def test_every_reader_of_a_topic_gets_what_is_published_and_no_other(
    shm: Path, shared: bool
) -> None:
    with bench(shm, shared=shared) as ends:
        one, two = ends.reader(), ends.reader()
        other = ends.reader("other")
        for number in range(5):
            pixels = bytes([number]) * LARGE
            count = ends.feed.publish("frames", b"header", [pixels, b"", b"xyz"], key=str(number))
            assert count == 2
            for reader in (one, two):
                (item,) = items(reader, 1)
                assert (item.topic, item.key, item.sequence) == ("frames", str(number), number + 1)
                assert item.header == b"header"
                assert item.lease.copy() == (pixels, b"", b"xyz")
        assert ends.feed.publish("nobody", b"") == 0
        assert other.receive() == []
        assert ends.feed.flush(15)
        assert ends.feed.topics == ("frames", "nobody", "other")
        assert [each.topic for each in ends.feed.subscribers("frames")] == ["frames"] * 2


def test_who_asks_late_hears_of_each_reader_once(shm: Path) -> None:
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()
    with bench(shm) as ends:
        ends.reader(name="before")
        ends.feed.on_subscribed(lambda each: heard.put(each.name))
        assert heard.get(timeout=10) == "before"
        ends.reader(name="after")
        assert heard.get(timeout=10) == "after"
    assert heard.empty()


def test_callbacks_that_fail_are_counted_at_both_ends_and_the_stream_goes_on(shm: Path) -> None:
    def refuse(*_: object) -> None:
        raise ForbiddenError("not this one")

    with bench(shm) as ends:
        reader = ends.reader()
        told: queue.SimpleQueue[object] = queue.SimpleQueue()
        ends.feed.on_ack(lambda *_: 1 // 0)
        ends.feed.on_ack(lambda *_: told.put("ack"))
        assert ends.feed.publish("frames", b"", key="first") == 1
        assert read(reader, 1) == ["first"]
        assert told.get(timeout=10) == "ack"
        assert ends.feed.flush(10)
        acks = ends.server.loop.submit(lambda: 1 + told.qsize()).result(10)
        assert ends.feed.counters["failed_callbacks"] == acks
        assert ends.feed.offer("frames", lambda: (b"", [bytes(1 // 0)]), key="broken") == 1
        assert shown(receive(reader, 1)) == [(2, 2, "refused")]
        assert ends.feed.counters["failed_callbacks"] == acks + 1
        assert ends.server.control.counters["failed_callbacks"] == acks + 1, "on the same thread"
        ends.server.control.handle("subscribe", refuse, on_loop=True)
        reader.on_refused(lambda *_: 1 // 0)
        reader.on_refused(lambda *_: told.put("refused"))
        assert reader.counters["failed_callbacks"] == 0
        reader.subscribe("others")
        while told.get(timeout=10) != "refused":
            pass
        assert reader.counters["failed_callbacks"] == 1
        assert ends.feed.publish("frames", b"", key="last") == 1
        assert read(reader, 1) == ["last"]


@pytest.mark.req("B.3")
def test_a_payload_for_several_readers_is_written_once_and_its_slot_is_free_when_all_are_done(
    shm: Path,
) -> None:
    with bench(shm) as ends:
        readers = [ends.reader() for _ in range(3)]
        ends.warm(*readers)
        book = ends.feed._lender._current
        assert book is not None
        free = book.book.free
        ends.feed.publish("frames", b"", [bytes(LARGE)], key="A01")
        held = [items(reader, 1)[0] for reader in readers]
        assert book.book.free == free - 1
        first = held[0].lease.map()[0]
        assert bytes(first) == bytes(LARGE)
        del first
        for item in held[:2]:
            item.lease.release()
        assert not ends.feed.flush(0.05)
        assert book.book.free == free - 1
        held[2].lease.release()
        assert ends.feed.flush(15)
        assert book.book.free == free
        assert len(list(shm.iterdir())) == 1


@BOTH
@pytest.mark.req("000.18")
def test_without_shared_memory_no_arena_is_made(shm: Path, shared: bool) -> None:
    # the reader alone may refuse it, or the feed
    with bench(shm, shared=shared) as ends:
        reader = ends.reader(shared=not shared)
        for _ in range(3):
            ends.feed.publish("frames", b"", [bytes(LARGE)])
            (item,) = items(reader, 1)
            assert item.lease.copy() == (bytes(LARGE),)
        assert list(shm.iterdir()) == []
        (lane,) = ends.feed.lanes
        assert (lane.carrier, lane.reason) == ("inline", "disabled")


@BOTH
@pytest.mark.req("B.4")
@pytest.mark.req("F.22")
def test_a_reader_without_room_costs_nobody_anything_and_sees_its_gaps(
    shm: Path, shared: bool
) -> None:
    with bench(shm, shared=shared, queue_bytes=0) as ends:
        fast = ends.reader()
        slow = ends.reader(credit=Credit(2, 256 << 20))
        for number in range(50):
            assert ends.feed.publish("frames", b"", [bytes(LARGE)], key=str(number)) >= 1
            assert shown(receive(fast, 1)) == [str(number)]
        assert shown(receive(slow, 2)) == ["0", "1"]
        assert shown(receive(slow, 1)) == [(3, 50, "no_credit")]
        assert ends.feed.publish("frames", b"", [bytes(LARGE)], key="50") == 2
        assert shown(receive(slow, 1)) == ["50"]
        lanes = {lane.granted.messages: lane for lane in ends.feed.lanes}
        assert (lanes[2].sent, lanes[2].lost) == (3, 48)
        assert (lanes[8].sent, lanes[8].lost) == (51, 0)


def test_what_waits_for_a_reliable_reader_goes_in_order_when_it_makes_room(shm: Path) -> None:
    with bench(shm) as ends:
        reader = ends.reader(credit=Credit(1, 1 << 20))
        for number in range(100):
            ends.feed.publish("frames", b"", [b"x"], key=str(number))
        assert read(reader, 100) == [str(number) for number in range(100)]
        assert ends.feed.flush(15)
        assert ends.feed.gaps == ()


def test_publish_waits_for_a_full_queue_as_long_as_it_was_told_and_only_once(shm: Path) -> None:
    with bench(shm, queue_bytes=0) as ends:
        reader = ends.reader(credit=Credit(1, 1 << 20))
        assert ends.feed.publish("frames", b"", key="0") == 1
        assert ends.feed.publish("frames", b"", key="1", timeout=0.05) == 0
        # it has let a timeout pass: without this rule the next one would take an hour
        assert ends.feed.publish("frames", b"", key="2", timeout=3600) == 0
        assert shown(receive(reader, 1)) == ["0"]
        assert shown(receive(reader, 1)) == [(2, 3, "no_credit")]
        assert ends.feed.flush(15)
        assert ends.feed.publish("frames", b"", key="3", timeout=15) == 1
        done = threading.Event()

        def publish() -> None:
            ends.feed.publish("frames", b"", key="4", timeout=60)
            done.set()

        thread = threading.Thread(target=publish)
        thread.start()
        assert read(reader, 2) == ["3", "4"]
        assert done.wait(10)
        thread.join()


@BOTH
@pytest.mark.req("B.4")
def test_in_mode_latest_the_newest_waits_and_is_encoded_once_for_all(
    shm: Path, shared: bool
) -> None:
    encoded: list[int] = []

    def encode(number: int) -> tuple[bytes, list[bytes]]:
        encoded.append(number)
        return str(number).encode(), [bytes(LARGE)]

    with bench(shm, shared=shared) as ends:
        ends.feed.offer("frames", lambda: encode(-1))
        readers = [ends.reader(mode="latest", credit=Credit(1, 1 << 30)) for _ in range(3)]
        for number in range(20):
            assert ends.feed.offer("frames", partial(encode, number)) == 3
            if not number:
                held = [items(reader, 1)[0] for reader in readers]
        for each in held:
            each.lease.release()
        for reader in readers:
            gap, item = receive(reader, 2)
            assert isinstance(gap, Gap)
            assert (gap.first, gap.last, gap.reason) == (2, 19, GapReason.SUPERSEDED)
            assert isinstance(item, Item)
            assert (item.header, item.sequence) == (b"19", 20)
            item.lease.release()
        assert encoded == [0, 19]
        assert ends.feed.flush(15)
        assert {lane.superseded for lane in ends.feed.lanes} == {18}


def test_a_payload_that_cannot_be_encoded_is_a_gap_of_each_reader(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> tuple[bytes, list[bytes]]:
        raise ArithmeticError("no such level")

    with bench(shm) as ends:
        latest, reliable = ends.reader(mode="latest"), ends.reader()
        ends.feed.offer("frames", broken, key="A01")
        for reader in (latest, reliable):
            assert read(reader, 1) == [(1, 1, "refused")]
        ends.feed.publish("frames", b"", key="A02")
        for reader in (latest, reliable):
            assert read(reader, 1) == ["A02"]
        assert "no such level" in caplog.text


def test_a_late_reader_begins_with_the_last_value_that_was_kept(shm: Path) -> None:
    with bench(shm) as ends:
        ends.feed.retain("state")
        ends.feed.publish("state", b"1")
        ends.feed.publish("state", b"2", key="second")
        ends.feed.publish("frames", b"3")
        for mode in ("reliable", "latest"):
            late = ends.reader("state", mode)
            (item,) = items(late, 1)
            assert (item.header, item.key, item.sequence) == (b"2", "second", 1)
            assert item.retained
            item.lease.release()
        assert ends.reader("frames").receive() == []
        ends.feed.offer("state", lambda: (b"4", []))
        (item,) = items(late, 1)
        assert (item.header, item.retained) == (b"4", False)
        item.lease.release()
        (item,) = items(ends.reader("state", "latest"), 1)
        assert (item.header, item.retained) == (b"4", True)
        item.lease.release()


@pytest.mark.req("000.9")
def test_a_plain_subscriber_gets_what_is_broadcast_and_nobodys_own_messages(shm: Path) -> None:
    context = zmq.Context()
    with bench(shm) as ends:
        ends.feed.broadcast("progress", interval=0.0)
        ends.feed.retain("progress")
        ends.feed.publish("progress", b"kept")
        reader = ends.reader("progress")
        plain, nosy = context.socket(zmq.SUB), context.socket(zmq.SUB)
        for socket, wanted in ((plain, b"progress\0"), (nosy, b"")):
            socket.setsockopt(zmq.RCVTIMEO, 10_000)
            socket.connect(ends.server.endpoint.data_url)
            socket.subscribe(wanted)
        nosy.subscribe(b"progress")
        nosy.subscribe(b"\0progress\0")
        topic, frame, header = plain.recv_multipart()
        assert (topic, header) == (b"progress\0", b"kept")
        known: TransportHeader = decode_header(frame)
        assert (known.seq, known.retained) == (1, True)
        ends.feed.publish("progress", b"half", [b"50"], key="job")
        topic, frame, header, chunk = plain.recv_multipart()
        assert (topic, header, chunk) == (b"progress\0", b"half", b"50")
        assert decode_header(frame).seq == 2
        assert read(reader, 2) == ["", "job"]
        nosy.setsockopt(zmq.RCVTIMEO, 0)
        with pytest.raises(zmq.Again):
            nosy.recv()
        assert ends.feed.counters["refused"] == 3
    context.destroy(linger=0)


def test_broadcasts_are_coalesced_and_large_ones_left_out(shm: Path) -> None:
    context = zmq.Context()
    with bench(shm) as ends:
        ends.feed.broadcast("progress", interval=0.05)
        plain = context.socket(zmq.SUB)
        plain.setsockopt(zmq.RCVTIMEO, 10_000)
        plain.connect(ends.server.endpoint.data_url)
        plain.subscribe(b"progress\0")
        number = 0
        while not plain.poll(20):  # until the subscription is there
            number += 1
            ends.feed.publish("progress", str(number).encode(), key="job")
        ends.feed.publish("progress", b"large", [bytes(LARGE)], key="job")
        for number in range(10_000, 20_000):
            ends.feed.publish("progress", str(number).encode(), key="job")
        seen = [plain.recv_multipart()[2]]
        while seen[-1] != b"19999":
            seen.append(plain.recv_multipart()[2])
        assert b"large" not in seen
        assert len(seen) < 5000
    context.destroy(linger=0)


def test_readers_are_told_of_and_lanes_say_how_they_stand(shm: Path) -> None:
    with bench(shm) as ends:
        came: list[str] = []
        gone = threading.Event()
        ends.feed.on_subscribed(lambda each: came.append(each.name))
        ends.feed.on_unsubscribed(lambda _: gone.set())
        reader = ends.reader(name="viewer")
        ends.feed.publish("frames", b"", [bytes(LARGE)])
        (item,) = items(reader, 1)
        (out,), (into,) = ends.feed.lanes, reader.lanes
        assert (out.topic, out.direction, out.sent, out.used.messages) == ("frames", "out", 1, 1)
        assert (into.topic, into.direction, into.sent, into.used.messages) == ("frames", "in", 1, 1)
        assert out.lag_s > 0
        assert out.granted == into.granted == ROOM
        client = ends.stack.enter_context(ZMQClient(ends.server.endpoint))
        client.connect()
        (told,) = client.control.request("lanes")["lanes"]
        assert (told["topic"], told["sent"], told["carrier"]) == ("frames", 1, "arena")
        assert "epoch" not in told
        item.lease.copy()
        assert ends.feed.flush(15)
        assert ends.feed.lanes[0].peer_copied == LARGE
        assert came == ["viewer"]
        reader.unsubscribe("frames")
        assert gone.wait(15)
        assert ends.feed.subscribers("frames") == ()
        assert reader.topics == ()


@pytest.mark.req("002.24")
def test_nothing_is_sent_to_a_reader_before_it_listens(shm: Path) -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        client.connect()
        with FeedReader(client, directory=shm) as reader:
            reader.subscribe("frames")
            assert not reader.wait_subscribed("frames", 0.1)
            with Feed(server, directory=shm) as feed:
                assert feed.publish("frames", b"before") == 0
                assert reader.wait_subscribed("frames", 10)
                assert feed.publish("frames", b"after") == 1
                (item,) = items(reader, 1)
                assert (item.header, item.sequence) == (b"after", 1)
                item.lease.release()


def test_a_topic_that_is_asked_for_while_the_welcome_comes_is_asked_for_once(shm: Path) -> None:
    with serve_in_thread() as server, Feed(server, directory=shm) as feed:
        gone: list[str] = []
        feed.on_unsubscribed(lambda each: gone.append(each.name))
        for _ in range(10):
            with ZMQClient(server.endpoint) as client, FeedReader(client, directory=shm) as reader:
                for topic in ("a", "b", "c"):
                    reader.subscribe(topic)
                client.connect()
                reader.subscribe("d")
                for topic in reader.topics:
                    assert reader.wait_subscribed(topic)
                client.loop.submit(lambda: None).result()
                for topic in reader.topics:
                    assert feed.publish(topic, b"") == 1
                assert read(reader, 4) == [""] * 4
                assert reader.name not in gone


def test_on_an_open_server_everybody_may_read_and_nobody_inspects(shm: Path) -> None:
    with (
        serve_in_thread(insecure=True) as server,
        Feed(server, directory=shm) as feed,
        ZMQClient(server.endpoint, token="") as client,
        FeedReader(client, directory=shm) as reader,
    ):
        client.connect()
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames")
        with pytest.raises(ValueError, match="read already"):
            reader.subscribe("frames")
        with pytest.raises(ForbiddenError, match="service:inspect"):
            client.control.request("lanes")
        with pytest.raises(InvalidRequestError):
            client.control.request("subscribe", {"topic": "a\0b"})
        assert feed.topics == ("frames",)


def test_topics_that_were_only_asked_for_are_forgotten(shm: Path) -> None:
    with bench(shm) as ends:
        client = ends.stack.enter_context(ZMQClient(ends.server.endpoint))
        client.connect()
        with FeedReader(client, directory=shm) as reader:
            for number in range(50):
                reader.subscribe(str(number))
                assert reader.wait_subscribed(str(number))
                reader.unsubscribe(str(number))
            reader.subscribe("last")
            assert reader.wait_subscribed("last")
            assert ends.feed.topics == ("last",)


@pytest.mark.req("G.8")
def test_strange_frames_on_the_data_port_change_nothing(shm: Path) -> None:
    chance = random.Random(7)
    with bench(shm) as ends, zmq.Context() as context, context.socket(zmq.XSUB) as stranger:
        reader = ends.reader()
        filters = [each.filter for each in reader._orders.intake.receptions]
        stranger.linger = 0
        stranger.connect(ends.server.endpoint.data_url)
        deadline = Deadline(60)
        number = 0
        # it is cut off now and then, and what it sends meanwhile arrives nowhere
        while number < 3000 or ends.feed.counters["refused"] < 1000:
            assert not deadline.expired
            kind = chance.choice([b"\0", b"\1", b"\1", b"\2", b""])
            known = chance.choice([b"", b"frames\0", filters[0][:-1], filters[0][1:], b"\xff\0"])
            frames = [kind + known + chance.randbytes(chance.randrange(40)) for _ in range(2)]
            stranger.send_multipart(frames[: chance.choice([1, 1, 2])])
            if number % 1000 == 0:
                assert ends.feed.publish("frames", b"", key=str(number)) == 1
                assert read(reader, 1) == [str(number)]
            number += 1
        assert ends.feed.publish("frames", b"", key="still") == 1
        assert read(reader, 1) == ["still"]
        assert ends.feed.gaps == ()


def test_a_server_has_a_feed_or_a_subscriber(shm: Path) -> None:
    with bench(shm) as ends, pytest.raises(EndpointInUse):
        Subscriber(ends.server, directory=shm)


def next_feed(server: ZMQServer, shm: Path) -> Feed:
    """Make a feed as soon as libzmq has let go of the port."""
    deadline = Deadline(10)
    while True:
        try:
            return Feed(server, directory=shm)
        except EndpointInUse:
            assert not deadline.expired


def test_a_closed_feed_says_so_and_its_readers_wait_for_the_next_one(shm: Path) -> None:
    with bench(shm) as ends:
        reader = ends.reader()
        ends.feed.close()
        ends.feed.close()
        with pytest.raises(NotAttachedError, match="closed"):
            ends.feed.publish("frames", b"")
        with next_feed(ends.server, shm) as again:
            (gap,) = receive(reader, 1)  # until then it takes the closed one for the one it reads
            assert isinstance(gap, Gap)
            assert gap.detail
            assert reader.wait_subscribed("frames", 10)
            again.publish("frames", b"new")
            (item,) = receive(reader, 1)
            assert isinstance(item, Item)
            item.lease.release()


def test_what_a_stranger_says_about_a_stream_is_refused(shm: Path) -> None:
    with bench(shm) as ends:
        reader = ends.reader()
        (epoch,) = (each.epoch for each in reader._orders.intake.receptions)
        client = ends.stack.enter_context(ZMQClient(ends.server.endpoint))
        client.connect()
        for type_, body in (
            ("unsubscribe", {"epoch": epoch}),
            ("host_proof", {"epoch": epoch}),
            ("arena_opened", {"epoch": epoch, "name": "x"}),
            ("resend", {"epoch": epoch, "first": 1, "last": 2}),
            ("ack", msgspec.to_builtins({"epoch": epoch, "messages": 5})),
        ):
            with pytest.raises(LookupError, match="no such stream of yours"):
                client.control.request(type_, body)
        assert len(ends.feed.subscribers("frames")) == 1


def test_a_reader_that_begins_to_listen_while_something_is_published_gets_it(shm: Path) -> None:
    with bench(shm) as ends:
        readers = ends.reader("other"), ends.reader("other", "latest")
        for number in range(60):
            topic = f"topic {number}"
            for reader, mode in zip(readers, ("reliable", "latest"), strict=True):
                reader.subscribe(topic, mode)
            ends.feed.retain(topic)
            ends.feed.publish(topic, b"header", [b"x" * 100], key=topic)
            for reader in readers:
                assert read(reader, 1) == [topic]
                reader.unsubscribe(topic)
                assert reader.receive() == []


def test_what_is_forgotten_is_not_kept_for_those_who_come_later(shm: Path) -> None:
    with bench(shm) as ends:
        ends.feed.retain("frames")
        ends.feed.publish("frames", b"header", key="old")
        ends.feed.forget("frames")
        ends.feed.forget("unknown")
        reader = ends.reader()
        ends.feed.publish("frames", b"header", key="new")
        assert read(reader, 1) == ["new"]


def wish(number: int, **more: object) -> dict[str, object]:
    """Compose what a reader asks for that follows no rule but the form."""
    host = msgspec.to_builtins(HostIdentity.mine())
    room = {"messages": 8, "nbytes": 1 << 20}
    names = {"reader": "greedy", "name": f"greedy {number}", "incarnation": "first"}
    return {"topic": "frames", "mode": "reliable", "host": host, **names, **room, **more}


def test_a_reader_that_counts_too_far_does_not_hide_the_lanes_of_all(shm: Path) -> None:
    with bench(shm) as ends:
        reader = ends.reader()
        (lane,) = ends.feed._lanes.live.values()
        for _ in range(3):
            reader._control.request("ack", {"epoch": lane.epoch, "copied": 2**64 - 1})
        other = ends.stack.enter_context(ZMQClient(ends.server.endpoint))
        other.connect()
        assert len(other.control.request("lanes")["lanes"]) == 1


def test_no_reader_is_given_room_without_end(shm: Path) -> None:
    with bench(shm) as ends:
        reader = ends.reader()
        wanted = wish(1, messages=2**64 - 1, nbytes=2**64 - 1)
        granted = reader._control.request("subscribe", wanted)
        assert (granted["messages"], granted["nbytes"]) == (512, 1 << 30)


def test_one_connection_cannot_take_the_places_of_all_readers(shm: Path) -> None:
    with bench(shm) as ends:
        greedy = ends.reader()
        for number in range(255):
            greedy._control.request("subscribe", wish(number))
        with pytest.raises(BusyError, match="of this connection"):
            greedy._control.request("subscribe", wish(255))
        ends.feed.publish("frames", b"", key="one")
        assert read(greedy, 1) == ["one"]
        other = ends.reader()
        ends.feed.publish("frames", b"", key="two")
        assert read(other, 1) == ["two"]


def test_a_callback_for_acknowledgements_that_fails_keeps_nobody_waiting(
    shm: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(*_: object) -> None:
        raise ArithmeticError("nobody counts like that")

    with bench(shm) as ends:
        reader = ends.reader(credit=Credit(1, 1 << 20))
        ends.feed.on_ack(broken)
        ends.feed.on_ack(lambda _subscription, ack: heard.append(ack.key))
        for number in range(5):
            ends.feed.publish("frames", b"", [b"x"], key=str(number))
        assert read(reader, 5) == ["0", "1", "2", "3", "4"]
        assert ends.feed.flush(5)
        ends.server.loop.submit(list).result()  # what was called before has been called
        assert heard == ["0", "1", "2", "3", "4"]
        assert caplog.text.count("nobody counts like that") >= 5
