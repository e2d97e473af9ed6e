"""Two libraries that do not know each other: tiles of a rendered view over a real link."""

from __future__ import annotations

import queue
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from polystore.codecs import JpegCodec, ZstdCodec, standard_codecs
from polystore.tiles import (
    EXACT,
    Assembler,
    Ladder,
    Reason,
    Rung,
    TileFeed,
    decode_with,
    encode_with,
    from_header,
    to_header,
)
from zmqruntime import Credit, Deadline, Feed, FeedReader, Item, ZMQClient
from zmqruntime.testing import proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from polystore.tiles import Parcel

SOON = 60.0  # seconds; far more than any of this takes
NARROW = 150_000  # bytes/s
KIB = 1 << 10
RUNGS = [
    Rung(name="low", codec="jpeg", quality=30, frame_bytes=6e3, level=1),
    Rung(name="high", codec="jpeg", quality=90, frame_bytes=1.2e5),
]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Scene:
    """A picture of cells that moves, so that every tile of every frame is another."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._whole = rng.poisson(60, (400, 1200, 4)).astype(np.uint8)
        self.version = 0

    def draw(self) -> NDArray[np.uint8]:
        self.version += 1
        left = self.version * 7 % 800
        return np.ascontiguousarray(self._whole[:, left : left + 400])


class View:
    """The client: what comes over the link, put together."""

    def __init__(self, reader: FeedReader) -> None:
        self._reader = reader
        self.assembler = Assembler(decode_with(standard_codecs()))
        self.shown: NDArray[Any] | None = None
        self.version = 0

    def receive(self) -> None:
        for entry in self._reader.receive(8):
            if not isinstance(entry, Item):
                continue
            with entry.lease as lease:
                bodies = lease.copy()
            for (header, has_body), body in zip(
                msgspec.msgpack.decode(entry.header), bodies, strict=True
            ):
                self.assembler.receive(from_header(header), body if has_body else None)
            if (picture := self.assembler.take()) is not None:
                self.shown, self.version = picture.pixels, picture.header.state_version


def packed(parcel: Parcel) -> tuple[bytes, list[bytes]]:
    """One payload of what belongs together; what has no body has an empty one."""
    headers = [(to_header(message), body is not None) for message, body in parcel.messages]
    return msgspec.msgpack.encode(headers), [bytes(body or b"") for _, body in parcel.messages]


@pytest.mark.req("001.13", "001.18", "B.2")
def test_a_view_gets_coarse_on_a_narrow_link_fine_on_a_wide_one_and_exact_when_it_rests(
    stack: ExitStack,
) -> None:
    server = stack.enter_context(serve_in_thread())
    feed = stack.enter_context(Feed(server, use_shared_memory=False))
    proxy = stack.enter_context(proxy_endpoint(server.endpoint, buffer_bytes=32 * KIB))
    client = stack.enter_context(ZMQClient(proxy.endpoint))
    client.connect(SOON)
    reader = stack.enter_context(FeedReader(client, credit=Credit(2, 4 << 20)))
    reader.subscribe("view", "reliable")
    assert reader.wait_subscribed("view", SOON)
    (subscription,) = feed.subscribers("view")
    acks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed.on_ack(lambda _subscription, ack: acks.put(ack))

    exact = Rung(name="exact", codec="zstd", quality=EXACT, frame_bytes=8e5)
    tiles = TileFeed(
        encode_with({"exact": ZstdCodec(), "low": JpegCodec(30), "high": JpegCodec(90)}),
        exact=exact,
        epoch="first",
        quiet_s=0.05,
    )
    ladder = Ladder(RUNGS, time.monotonic, fps=5, start="high", spare_s=0.3)
    tiles.join("client", ladder)
    scene, view = Scene(), View(reader)

    def carry(parcel: Parcel) -> None:
        """Send it, let the client look at it, and tell the ladder what that showed."""
        header, buffers = packed(parcel)
        feed.publish("view", header, buffers, timeout=SOON)
        while acks.empty():
            if reader.wait(0.05):
                view.receive()
        acks.get()
        link = feed.link(subscription)
        waited = 0.0
        if link.latency_s is not None and link.delay_s is not None:
            waited = max(0.0, link.latency_s - link.delay_s)
        at = link.bytes_per_s_at
        known = at is not None and time.monotonic() - at < 1.0
        tiles.measured("client", bytes_per_s=link.bytes_per_s if known else None, queue_s=waited)

    def move_until(reached: str) -> None:
        deadline = Deadline(SOON)
        while ladder.rung.name != reached:
            assert not deadline.expired, (ladder.choice, feed.link(subscription))
            tiles.show(scene.draw(), state_version=scene.version)
            while (parcel := tiles.take("client")) is not None and parcel.rung != "exact":
                carry(parcel)

    def rest() -> None:
        """Let the view come to rest: it is then shown as it was drawn, bit for bit."""
        last = scene.draw()
        tiles.show(last, state_version=scene.version)
        deadline = Deadline(SOON)
        while (due := tiles.deadline("client")) is not None:
            assert not deadline.expired
            if due > time.monotonic():
                assert not reader.wait(due - time.monotonic())  # nothing is under way
            elif (parcel := tiles.take("client")) is not None:
                carry(parcel)
        view.receive()
        assert view.shown is not None
        np.testing.assert_array_equal(view.shown[..., :3], last[..., :3])
        assert view.version == scene.version
        assert view.assembler.mismatches == 0

    for _ in range(4):
        tiles.show(scene.draw(), state_version=scene.version)
        parcel = tiles.take("client")
        assert parcel is not None
        carry(parcel)
    assert ladder.rung.name == "high"
    proxy.data.limit(NARROW)
    move_until("low")
    assert ladder.history[-1].reason is Reason.QUEUE, ladder.choice
    rest()  # exact, although the link is narrow
    proxy.data.limit(None)
    move_until("high")
    # frames of the low rung are too small to tell that the link is wide again
    assert ladder.choice.reason is Reason.TRIED, ladder.choice
    rest()
