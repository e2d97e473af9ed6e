"""The data channel beside the least that could be done: a ring of slots, or bare chunks."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import psutil
import zmq
from _rows import Row
from _streaming import Ring, Stream, make_planes
from transport_process import Child, answer

from zmqruntime import Credit, Endpoint, Feed, FeedReader, Item, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self, TypeAlias

    Road: TypeAlias = Ring | Stream | "Chunks"

__all__ = ["rows"]

PATIENCE_S = 30.0
CHUNK_BYTES = 8 << 20
UNDER_WAY = 4
FRAME_BYTES = 2 << 20
FRAMES_PER_S = 60
SLOW_FRAMES_PER_S = 20
FEED_S = 3.0


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of the data channel; medians of `repeats`."""
    return [
        planes(2048, repeats, mapped=False, count=250, least=0.8, floor=(1000, 1400)),
        planes(2048, repeats, mapped=True, count=500, least=0.8, floor=(1000, 1400)),
        planes(512, repeats, mapped=False, count=2560, least=0.4, floor=(10_000, 25_000), batch=16),
        inline(repeats),
        *slow_reader(),
    ]


def planes(
    side: int,
    repeats: int,
    *,
    mapped: bool,
    count: int,
    least: float,
    floor: tuple[int, int],
    batch: int = 1,
) -> Row:
    """Planes to another process through shared memory, `batch` in one payload.

    `floor` is a rate that has to be reached where the bare ring reaches another one; the ring has
    a message for each plane.
    """
    pictures = make_planes(side)
    with (
        Ring(pictures[0].nbytes, mapped=mapped) as ring,
        Stream(mapped=mapped, batch=batch) as stream,
    ):
        limit, ours = rates((ring, stream), pictures, count, repeats)
    wanted, given = floor
    how = "mapped" if mapped else "copied out"
    if batch > 1:
        how += f", {batch} in a payload"
    return Row(
        row=f"{side} x {side} uint16 to another process, {how}",
        value=ours,
        unit="images/s",
        limit=limit,
        ratio=ours / limit,
        target=f"ratio >= {least}, >= {wanted} where the limit is >= {given}",
        met=ours / limit >= least and (ours >= wanted or limit < given),
    )


def inline(repeats: int) -> Row:
    """16 MB over tcp, joined into one block of memory at the other side."""
    random = np.random.default_rng(3)
    payloads = [memoryview(random.bytes(16_000_000)) for _ in range(3)]
    with Chunks(payloads[0].nbytes) as chunks, Stream(shared=False) as stream:
        limit, ours = rates((chunks, stream), payloads, 60, repeats)
    return Row(
        row="16 MB inline over tcp",
        value=ours * payloads[0].nbytes / 1e9,
        unit="GB/s",
        limit=limit * payloads[0].nbytes / 1e9,
        ratio=ours / limit,
        target="ratio >= 0.8",
        met=ours / limit >= 0.8,
    )


def rates(
    roads: Sequence[Road], payloads: list[memoryview], count: int, repeats: int
) -> list[float]:
    """Return payloads per second of each road, medians; they run in turn."""
    for road in roads:
        road.run(payloads, count // 5)  # maps and warms what is reused
    taken: dict[Road, list[float]] = {road: [] for road in roads}
    for _ in range(repeats):
        for road in roads:
            taken[road].append(count / road.run(payloads, count))
    return [statistics.median(taken[road]) for road in roads]


class Chunks:
    """The limit inline: a message of chunks there, joined into reused memory, a message back."""

    def __init__(self, nbytes: int) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self._receiver = Child(__file__, "chunks", str(port), str(nbytes))

    def run(self, payloads: list[memoryview], count: int) -> float:
        """Send payloads; return the seconds until all are acknowledged."""
        start = time.perf_counter()
        under_way = 0
        for number in range(count):
            if under_way == UNDER_WAY:
                self._socket.recv()
                under_way -= 1
            payload = payloads[number % len(payloads)]
            chunks = [
                payload[first : first + CHUNK_BYTES]
                for first in range(0, payload.nbytes, CHUNK_BYTES)
            ]
            self._socket.send_multipart(chunks, copy=False)
            under_way += 1
        for _ in range(under_way):
            self._socket.recv()
        return time.perf_counter() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.kill()
        self._receiver.close()
        self._context.destroy(linger=0)


def slow_reader() -> list[Row]:
    """Frames of 2 MB at 60 per second, for a reader that takes all and one that takes 20."""
    process = psutil.Process()
    pixels = bytes(FRAME_BYTES)
    with (
        ZMQServer("bench", free_endpoint(), bind_address="127.0.0.1") as server,
        Feed(server) as feed,
    ):
        port, data_port = str(server.endpoint.port), str(server.endpoint.data_port)
        with (
            Child(__file__, "reader", port, data_port, "0") as fast,
            Child(__file__, "reader", port, data_port, str(SLOW_FRAMES_PER_S)) as slow,
        ):
            offer(feed, pixels, 0.5)
            before, most = process.memory_info().rss, 0

            def look() -> None:
                nonlocal most
                most = max(most, process.memory_info().rss)

            for reader in (fast, slow):
                reader.ask("forget")
            offered = offer(feed, pixels, FEED_S, look)
            feed.flush(PATIENCE_S)
            got, lag_s = {}, {}
            for name, reader in (("fast", fast), ("slow", slow)):
                frames, lag = reader.ask("report").split()
                got[name], lag_s[name] = int(frames), float(lag)
    share = got["fast"] / offered
    grown = max(0, most - before) / 1e6
    return [
        Row(
            row=f"slow reader ({got['slow'] / FEED_S:.0f} of {FRAMES_PER_S} frames/s), lag, p95",
            value=lag_s["slow"] * 1e3,
            unit="ms",
            limit=None,
            ratio=None,
            target="< 250 ms",
            met=lag_s["slow"] < 0.25,
        ),
        Row(
            row="fast reader beside it, frames",
            value=got["fast"] / FEED_S,
            unit="frames/s",
            limit=offered / FEED_S,
            ratio=share,
            target="ratio >= 0.95",
            met=share >= 0.95,
        ),
        Row(
            row="memory of the server meanwhile, growth",
            value=grown,
            unit="MB",
            limit=None,
            ratio=None,
            target="< 64 MB",
            met=grown < 64,
        ),
    ]


def offer(
    feed: Feed, pixels: bytes, seconds: float, each: Callable[[], object] | None = None
) -> int:
    """Offer frames at their rate; return how many."""
    pause = threading.Event()
    begin = time.perf_counter()
    count = int(seconds * FRAMES_PER_S)
    for number in range(count):
        pause.wait(max(0.0, begin + number / FRAMES_PER_S - time.perf_counter()))
        feed.publish("frames", b"", [pixels], key=str(number))
        if each is not None:
            each()
    return count


# What the children do.


def receive_chunks(port: int, nbytes: int) -> None:
    """Join messages and acknowledge them until the parent is gone."""
    whole = memoryview(bytearray(nbytes))
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.connect(f"tcp://127.0.0.1:{port}")
        answer("ready")
        while True:
            position = 0
            for frame in socket.recv_multipart(copy=False):
                chunk = frame.buffer
                whole[position : position + chunk.nbytes] = chunk
                position += chunk.nbytes
            socket.send(b"")


def read(port: int, data_port: int, frames_per_s: float) -> None:
    """Read frames, at most so many per second; tell what was asked for."""
    endpoint = Endpoint(port=port, data_port_offset=data_port - port)
    lags: list[float] = []
    pause, over = threading.Event(), threading.Event()

    def answer_questions() -> None:
        for line in sys.stdin:
            if line.strip() == "forget":
                lags.clear()
                answer("forgotten")
            else:
                known = sorted(lags) or [float("nan")]
                answer(f"{len(lags)} {known[len(known) * 95 // 100]}")
        over.set()

    with (
        ZMQClient(endpoint, app="bench") as client,
        FeedReader(client, credit=Credit(2, 64 << 20)) as reader,
    ):
        client.connect(PATIENCE_S)
        reader.subscribe("frames", "latest")
        assert reader.wait_subscribed("frames", PATIENCE_S)
        answer("ready")
        threading.Thread(target=answer_questions, daemon=True).start()
        while not over.is_set():
            if not reader.wait(0.5):
                continue
            for entry in reader.receive(1):
                if isinstance(entry, Item):
                    lags.append((time.time_ns() - entry.sent_ns) / 1e9)
                    entry.lease.copy()
                    if frames_per_s:
                        pause.wait(1 / frames_per_s)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["chunks", port, nbytes]:
            receive_chunks(int(port), int(nbytes))
        case ["reader", port, data_port, frames_per_s]:
            read(int(port), int(data_port), float(frames_per_s))
