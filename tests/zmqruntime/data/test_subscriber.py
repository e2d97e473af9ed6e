"""A subscriber hands on what is whole, names what is not, and believes no stranger."""

from __future__ import annotations

import select
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import (
    ControlClient,
    Credit,
    DescriptorError,
    Gap,
    GapReason,
    InvalidRequestError,
    IOThread,
    Item,
    NotFoundError,
    Publisher,
    StaleSlotError,
    Subscriber,
    UnavailableError,
    ZMQClient,
    ZMQServer,
)
from zmqruntime.carriers import Arena, HostIdentity, Probe, SegmentName, SlotReference
from zmqruntime.data._stream_messages import (
    Announce,
    Attach,
    Attached,
    Detach,
    LossNote,
    Mode,
    Part,
    TransportHeader,
    decode_header,
    stream_topic,
)
from zmqruntime.processes._lock_record import read_token
from zmqruntime.testing import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


LARGE = 100_000


class HandMade:
    """A producer made by hand, which can send what no publisher would."""

    def __init__(self, client: ZMQClient, shm: Path) -> None:
        self.client = client
        self.control = client.control
        self.shm = shm
        self.acks: list[dict[str, object]] = []
        self.heard = threading.Condition()
        client.control.on_push("ack", self.note)
        with Probe(directory=shm) as probe:
            attach = Attach(
                topic="images",
                mode=Mode.RELIABLE,
                producer="hand-made",
                host=HostIdentity.mine(),
                probe=probe.name,
                challenge=probe.challenge,
            )
            body = self.control.request("attach", msgspec.to_builtins(attach))
            self.attached = msgspec.convert(body, Attached)
            assert probe.verify(self.attached.probe_answer)
        self.topic = stream_topic("images", self.attached.subscriber)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.RCVTIMEO, 5000)
        self.socket.connect(client.endpoint.data_url)
        assert self.socket.recv() == b"\x01" + self.topic

    def note(self, body: dict[str, object]) -> None:
        with self.heard:
            self.acks.append(body)
            self.heard.notify_all()

    def wait_for_acks(self, field: str, count: int) -> list[object]:
        def found() -> list[object]:
            return [each for body in self.acks for each in body.get(field, ())]  # type: ignore[attr-defined]

        with self.heard:
            assert self.heard.wait_for(lambda: len(found()) >= count, 5), self.acks
            return found()

    def header(self, seq: int, **fields: object) -> TransportHeader:
        known = {"v": 1, "epoch": self.attached.epoch, "target": self.attached.incarnation}
        return msgspec.convert({**known, "seq": seq, **fields}, TransportHeader)

    def send(self, header: TransportHeader, *chunks: bytes, topic: bytes | None = None) -> None:
        frame = msgspec.msgpack.encode(header)
        self.socket.send_multipart([self.topic if topic is None else topic, frame, b"", *chunks])

    def say(self, seq: int, text: bytes, **fields: object) -> None:
        known = {"sizes": [len(text)], "key": str(seq)}
        self.send(self.header(seq, **{**known, **fields}), text)

    def close(self) -> None:
        self.context.destroy(linger=0)


class Bench:
    """A subscriber and a hand-made producer."""

    def __init__(self, server: ZMQServer, subscriber: Subscriber, producer: HandMade) -> None:
        self.server = server
        self.subscriber = subscriber
        self.producer = producer

    def receive(self, count: int) -> list[Item | Gap]:
        found: list[Item | Gap] = []
        while len(found) < count:
            assert self.subscriber.wait(15), f"only {found}"
            found += self.subscriber.receive(count - len(found))
        return found

    def shown(self, count: int) -> list[object]:
        """Say what came: the bytes of items, numbers and reason of gaps."""
        return [
            (each.first, each.last, str(each.reason))
            if isinstance(each, Gap)
            else b"".join(each.lease.copy())
            for each in self.receive(count)
        ]


@contextmanager
def bench(shm: Path) -> Iterator[Bench]:
    with (
        serve_in_thread() as server,
        Subscriber(server, directory=shm, credit=Credit(8, 1 << 30)) as subscriber,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect()
        producer = HandMade(client, shm)
        try:
            yield Bench(server, subscriber, producer)
        finally:
            producer.close()


def test_the_descriptor_is_readable_while_something_can_be_received(shm: Path) -> None:
    with bench(shm) as ends:
        watched = ends.subscriber.fileno()
        assert ends.subscriber.fileno() == watched
        assert select.select([watched], [], [], 0)[0] == []
        for number in (1, 2, 3):
            ends.producer.say(number, b"x")
        for left in (2, 1, 0):
            assert select.select([watched], [], [], 5)[0] == [watched]
            (item,) = ends.receive(1)
            assert isinstance(item, Item)
            item.lease.release()
            if not left:
                assert select.select([watched], [], [], 0)[0] == []
        assert ends.subscriber.receive() == []
        assert not ends.subscriber.wait(0.01)
    with pytest.raises(ValueError, match="closed"):
        ends.subscriber.fileno()


def test_a_descriptor_asked_for_late_knows_what_waits(shm: Path) -> None:
    with bench(shm) as ends:
        ends.producer.say(1, b"x")
        assert ends.subscriber.wait(15)
        watched = ends.subscriber.fileno()
        assert select.select([watched], [], [], 0)[0] == [watched]


@pytest.mark.req("B.4")
def test_skipped_and_announced_numbers_are_gaps_in_their_place(shm: Path) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        producer.say(1, b"one")
        producer.say(4, b"four")
        producer.say(4, b"again")
        producer.say(8, b"eight", lost=[LossNote(5, 6, GapReason.SUPERSEDED)])
        producer.send(producer.header(0, lost=[LossNote(9, 10, GapReason.NO_CREDIT)]))
        assert ends.shown(6) == [
            b"one",
            (2, 3, "link"),
            b"four",
            (5, 6, "superseded"),
            (7, 7, "link"),
            b"eight",
        ]
        assert ends.shown(1) == [(9, 10, "no_credit")]
        assert ends.subscriber.counters["gaps"] == 7
        (status,) = ends.subscriber.producers
        assert (status.items, status.gaps, status.dropped) == (3, 7, 1)
        assert status.producer == "hand-made"


def test_a_payload_that_is_cut_off_is_a_gap(shm: Path) -> None:
    size = 64 << 20
    with bench(shm) as ends:
        producer = ends.producer
        part = [bytes(8 << 20)] * 8
        header = producer.header(1, sizes=[size + 4], part=Part(0, 2), key="A01")
        producer.send(header, *part)
        assert producer.wait_for_acks("epoch", 1)
        producer.say(2, b"two")
        assert ends.shown(2) == [(1, 1, "link"), b"two"]
        late = producer.header(1, sizes=[size + 4], part=Part(1, 2), key="A01")
        producer.send(late, b"rest")
        producer.say(3, b"three")
        assert ends.shown(1) == [b"three"]


@pytest.mark.req("F.11")
def test_refused_payloads_are_gaps_with_a_reason_and_their_room_comes_back(shm: Path) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        arena = Arena(slot_bytes=8192, slots=2, directory=shm)
        reference = arena.fill(0, 1, [memoryview(b"secret")], sequence=1)
        producer.send(producer.header(1, sizes=[6], ref=reference))  # not announced
        producer.wait_for_acks("failed", 1)
        announce = Announce(epoch=producer.attached.epoch, name=arena.name)
        producer.control.request("arena", msgspec.to_builtins(announce))
        hostile = [
            SlotReference(arena.name, 0, 1, ((0, 4096),)),
            SlotReference(arena.name, 9, 1, ((8192, 6),)),
            SlotReference(arena.name, 0, 1, ((8192, 1 << 62),)),
            SlotReference("/etc/passwd", 0, 1, ((8192, 6),)),
        ]
        for number, each in enumerate(hostile, 2):
            sizes = [length for _, length in each.spans]
            producer.send(producer.header(number, sizes=sizes, ref=each))
        producer.send(producer.header(6, sizes=[6], ref=reference), b"and a frame")
        producer.send(producer.header(7, sizes=[100]), b"short")
        producer.send(producer.header(8, sizes=[1 << 40]), b"promises")
        arena.fill(1, 4, [memoryview(b"newer")], sequence=9)
        producer.send(
            producer.header(9, sizes=[5], ref=SlotReference(arena.name, 1, 3, ((16384, 5),)))
        )
        producer.send(producer.header(10, sizes=[6], ref=reference))
        found = ends.receive(10)
        gaps = [each for each in found if isinstance(each, Gap)]
        assert [gap.first for gap in gaps] == list(range(1, 10))
        assert [str(gap.reason) for gap in gaps] == ["refused"] * 8 + ["lease_expired"]
        assert all(gap.detail for gap in gaps)
        (item,) = (each for each in found if isinstance(each, Item))
        assert item.lease.copy() == (b"secret",)
        assert len(producer.wait_for_acks("failed", 9)) == 9
        producer.wait_for_acks("released", 10)
        assert sum(int(str(body.get("messages", 0))) for body in producer.acks) == 10
        assert (shm / arena.name).exists()
        arena.close()


def test_a_peer_that_has_not_said_hello_cannot_attach(shm: Path) -> None:
    with bench(shm) as ends, IOThread("stranger") as loop:
        attach = Attach(topic="t", mode=Mode.LATEST, producer="p", host=HostIdentity.mine())
        url, token = ends.server.endpoint.control_url, read_token(ends.server.endpoint.port)
        stranger = ControlClient(loop, url, token=token)
        stranger.open()
        with pytest.raises(InvalidRequestError, match="hello"):
            stranger.request("attach", msgspec.to_builtins(attach))
        stranger.close()


def test_what_comes_beyond_the_room_that_was_granted_is_refused(shm: Path) -> None:
    with bench(shm) as ends:
        for number in range(1, 10):
            ends.producer.say(number, b"x")
        *items, gap = ends.receive(9)
        assert isinstance(gap, Gap)
        assert (gap.first, gap.reason) == (9, GapReason.REFUSED)
        assert "more than it was granted" in gap.detail
        for item in items:
            assert isinstance(item, Item)
            item.lease.release()
        ends.producer.say(10, b"again")
        assert ends.shown(1) == [b"again"]


def test_memory_that_is_overwritten_under_a_lease_is_an_error_and_a_gap(shm: Path) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        arena = Arena(slot_bytes=8192, slots=1, directory=shm)
        announce = Announce(epoch=producer.attached.epoch, name=arena.name)
        producer.control.request("arena", msgspec.to_builtins(announce))
        reference = arena.fill(0, 1, [memoryview(b"old")], sequence=1)
        producer.send(producer.header(1, sizes=[3], ref=reference))
        (item,) = ends.receive(1)
        assert isinstance(item, Item)
        arena.fill(0, 2, [memoryview(b"new")], sequence=2)
        with pytest.raises(StaleSlotError):
            item.lease.copy()
        assert ends.shown(1) == [(1, 1, "lease_expired")]
        producer.wait_for_acks("released", 1)
        arena.close()


@pytest.mark.parametrize(
    "frames",
    [
        [b"images\0"],
        [b"images\0", b""],
        [b"images\0", b"\xc1 no msgpack", b"", b"x"],
        [b"images\0", msgspec.msgpack.encode({"v": 2, "epoch": "e", "seq": 1, "target": ""}), b""],
        [b"images\0", bytes(70_000), b""],
        [b"images\0", msgspec.msgpack.encode({"v": 1, "epoch": "e", "seq": 1, "target": ""}), b""],
    ],
)
def test_strangers_on_the_data_channel_are_counted_and_dropped(
    shm: Path, frames: list[bytes]
) -> None:
    with bench(shm) as ends:
        ends.producer.socket.send_multipart([ends.producer.topic, *frames[1:]])
        ends.producer.say(1, b"one")
        assert ends.shown(1) == [b"one"]
        assert ends.subscriber.counters["foreign"] == 1


def test_messages_for_another_incarnation_or_topic_are_dropped(shm: Path) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        header = producer.header(1, sizes=[1])
        producer.send(msgspec.structs.replace(header, target="an earlier start"), b"x")
        producer.send(header, b"x", topic=producer.topic + b"more\0")
        producer.say(1, b"one")
        assert ends.shown(1) == [b"one"]
        assert ends.subscriber.counters["dropped"] == 2


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_header_is_read_or_refused(frame: bytes) -> None:
    with pytest.raises(DescriptorError):
        decode_header(frame)


@pytest.mark.req("S.9", "F.11")
@pytest.mark.parametrize("changes", [{"seq": 1 << 63}, {"lost": [[1, 1 << 63, "link"]]}])
def test_numbers_whose_count_could_not_be_written_are_refused(changes: dict[str, object]) -> None:
    header = {"v": 1, "epoch": "e", "seq": 1, "target": "t"}
    assert decode_header(msgspec.msgpack.encode(header)).seq == 1
    with pytest.raises(DescriptorError):
        decode_header(msgspec.msgpack.encode({**header, **changes}))


def test_a_payload_of_any_size_is_refused_with_room_that_can_be_told(shm: Path) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        sizes = [1 << 63] * 3
        producer.send(producer.header(1, sizes=sizes, ref=["zr-0-1-1-0", 0, 1, []]))
        assert ends.shown(1) == [(1, 1, "refused")]
        assert producer.wait_for_acks("failed", 1)
        producer.say(2, b"two")
        assert ends.shown(1) == [b"two"]


HEADERS = st.builds(
    TransportHeader,
    v=st.just(1),
    epoch=st.text(max_size=8),
    seq=st.integers(0, 1 << 62),
    target=st.text(max_size=8),
    key=st.text(max_size=8),
    sizes=st.lists(st.integers(0, 1 << 62), max_size=4).map(tuple),
    ref=st.none()
    | st.builds(
        SlotReference,
        shm_name=st.text(max_size=8),
        slot=st.integers(-4, 100),
        generation=st.integers(0, 1 << 62),
        spans=st.lists(st.tuples(st.integers(-9, 1 << 62), st.integers(-9, 9)), max_size=3).map(
            tuple
        ),
    ),
    part=st.builds(Part, st.integers(0, 9), st.integers(1, 9)),
    lost=st.lists(
        st.builds(LossNote, st.integers(1, 9), st.integers(1, 9), st.sampled_from(GapReason)),
        max_size=3,
    ).map(tuple),
    state_version=st.none() | st.integers(0, (1 << 63) - 1),
)


@given(HEADERS)
@settings(max_examples=100, deadline=None)
def test_headers_come_back_as_they_were(header: TransportHeader) -> None:
    assert decode_header(msgspec.msgpack.encode(header)) == header


class OlderHeader(msgspec.Struct, kw_only=True):
    """What a reader knows of a header that was made before frames named their state."""

    v: int
    epoch: str
    seq: int
    target: str
    key: str = ""


@pytest.mark.req("B.1")
def test_a_reader_that_knows_no_states_and_a_sender_that_names_none_are_understood() -> None:
    header = TransportHeader(v=1, epoch="e", seq=3, target="t", key="k", state_version=7)
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(header), type=OlderHeader)
    assert (older.seq, older.key) == (3, "k")
    assert decode_header(msgspec.msgpack.encode(older)).state_version is None
    for version in (-1, 1 << 63, 1 << 64, "7", 7.5, True):
        frame = msgspec.msgpack.encode({"v": 1, "epoch": "", "seq": 1, "target": ""})
        forged = msgspec.msgpack.decode(frame) | {"state_version": version}
        with pytest.raises((DescriptorError, OverflowError)):
            decode_header(msgspec.msgpack.encode(forged))


@given(st.lists(st.tuples(HEADERS, st.lists(st.binary(max_size=9), max_size=3)), max_size=12))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_message_of_a_producer_ends_the_subscriber(
    shm: Path, messages: list[tuple[TransportHeader, list[bytes]]]
) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        for header, chunks in messages:
            mine = msgspec.structs.replace(
                header, epoch=producer.attached.epoch, target=producer.attached.incarnation
            )
            producer.send(mine, *chunks)
        producer.say((1 << 63) - 1, b"still here")
        found: list[object] = []
        while not found or found[-1] != b"still here":
            found += ends.shown(1)


def test_only_the_owner_of_a_stream_may_announce_and_leave(shm: Path) -> None:
    with bench(shm) as ends, ZMQClient(ends.server.endpoint) as other:
        other.connect()
        epoch = ends.producer.attached.epoch
        name = str(SegmentName.mine())
        with pytest.raises(NotFoundError, match="attach first"):
            other.control.request("arena", msgspec.to_builtins(Announce(epoch=epoch, name=name)))
        with pytest.raises(NotFoundError, match="attach first"):
            other.control.request("detach", msgspec.to_builtins(Detach(epoch=epoch)))
        for bad in (name, "/etc/passwd"):
            with pytest.raises(InvalidRequestError, match="refused"):
                ends.producer.control.request(
                    "arena", msgspec.to_builtins(Announce(epoch=epoch, name=bad))
                )
        with pytest.raises(InvalidRequestError, match="attach"):
            other.control.request("attach", {"topic": "a\0b"})
        assert len(ends.subscriber.producers) == 1


def test_a_producer_that_left_still_learns_what_is_released(shm: Path) -> None:
    with bench(shm) as ends:
        producer = ends.producer
        producer.say(1, b"kept")
        (item,) = ends.receive(1)
        assert isinstance(item, Item)
        detach = Detach(epoch=producer.attached.epoch)
        producer.control.request("detach", msgspec.to_builtins(detach))
        assert ends.subscriber.producers == ()
        assert item.lease.copy() == (b"kept",)
        assert producer.wait_for_acks("released", 1) == [1]
        assert ends.subscriber.counters["items"] == 1


def test_a_producer_whose_connection_ends_is_gone(shm: Path) -> None:
    with serve_in_thread() as server, Subscriber(server, directory=shm) as subscriber:
        with ZMQClient(server.endpoint) as client:
            client.connect()
            with Publisher(client, "images", directory=shm) as publisher:
                publisher.publish(b"", [bytes(LARGE)], key="A01", timeout=15)
                assert subscriber.wait(15)
                (item,) = subscriber.receive()
                assert isinstance(item, Item)
        assert bytes(item.lease.map()[0]) == bytes(LARGE)
        item.lease.release()
        gone = threading.Event()

        def look() -> None:
            gone.set() if not subscriber.producers else server.loop.call_soon(look)

        server.loop.call_soon(look)
        assert gone.wait(15)


@pytest.mark.req("B.4")
def test_a_slow_receiver_does_not_delay_another(shm: Path) -> None:
    with (
        serve_in_thread() as slow_server,
        serve_in_thread() as fast_server,
        Subscriber(slow_server, directory=shm, credit=Credit(1, 1 << 20)) as slow,
        Subscriber(fast_server, directory=shm) as fast,
        ZMQClient(slow_server.endpoint) as to_slow,
        ZMQClient(fast_server.endpoint) as to_fast,
    ):
        to_slow.connect()
        to_fast.connect()
        with (
            Publisher(to_slow, "images", mode="latest", directory=shm) as one,
            Publisher(to_fast, "images", directory=shm) as two,
        ):
            assert one.wait_attached(5)
            for number in range(50):
                one.publish(b"", [bytes(LARGE)], key=str(number))
                two.publish(b"", [bytes(LARGE)], key=str(number), timeout=15)
                assert fast.wait(15)
                for item in fast.receive():
                    assert isinstance(item, Item)
                    assert item.key == str(number)
                    item.lease.release()
            assert two.flush(15) == ()
            assert slow.wait(15)
            assert one.state.under_way.messages == 1


def test_closing_releases_what_was_not_received(shm: Path) -> None:
    with bench(shm) as ends:
        ends.producer.say(1, b"x")
        assert ends.subscriber.wait(15)
        ends.subscriber.close()
        ends.subscriber.close()
        assert ends.subscriber.receive() == []
        assert not ends.subscriber.wait(5)
        with pytest.raises(UnavailableError, match="closed"):
            HandMade(ends.producer.client, shm)


def test_a_subscriber_needs_room_to_grant() -> None:
    with serve_in_thread() as server, pytest.raises(ValueError, match="at least one message"):
        Subscriber(server, credit=Credit(0, 1))
