"""Planes to a receiver process on this host: our road beside a bare ring of shared memory.

The bare ring is the least that can be done: four preallocated slots, one message per plane over a
pair of sockets, one back. Both copy every plane in and out once. They run in turn, so that whatever
else the computer does falls on both.
"""

from __future__ import annotations

import mmap
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import numpy as np
import zmq
from _rows import Row

from zmqruntime import Endpoint, Item, Publisher, Subscriber, ZMQClient, ZMQServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Ring", "Stream", "make_planes", "rows"]

CASES = {2048: (0.35, 250), 512: (0.25, 2500)}  # side in px: least ratio, planes per run
RING_SLOTS = 4
SHARED_MEMORY = "/dev/shm"
PATIENCE_S = 60.0


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return one row per plane size and carrier; medians of `repeats`."""
    found = []
    for side, (least, count) in CASES.items():
        planes = make_planes(side)
        with Ring(planes[0].nbytes) as ring, Stream() as stream, Stream(shared=False) as inline:
            roads = (ring, stream, inline)
            for road in roads:
                road.run(planes, count // 10)  # maps and warms what is reused
            taken: dict[object, list[float]] = {road: [] for road in roads}
            for _ in range(repeats):
                for road in roads:
                    taken[road].append(count / road.run(planes, count))
        limit, ours, chunks = (statistics.median(taken[road]) for road in roads)
        name = f"stream {side} x {side} uint16, copied out"
        found += [
            Row(
                row=name,
                value=ours,
                unit="planes/s",
                limit=limit,
                ratio=ours / limit,
                target=f"ratio >= {least}",
                met=ours / limit >= least,
            ),
            Row(
                row=f"{name}, inline",
                value=chunks,
                unit="planes/s",
                limit=limit,
                ratio=chunks / limit,
                target="none; shown for comparison",
                met=True,
            ),
        ]
    return found


def make_planes(side: int) -> list[memoryview]:
    random = np.random.default_rng(2)
    made = [random.integers(0, 1 << 16, (side, side), dtype=np.uint16) for _ in range(3)]
    return [plane.data.cast("B") for plane in made]


class _Receiver:
    """This file in another process."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline().strip()

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Ring:
    """The limit: slots, a message there, a message back.

    The receiver copies each plane out, or, with `mapped`, looks at one byte where it lies.
    """

    def __init__(self, nbytes: int, *, mapped: bool = False) -> None:
        self._nbytes = nbytes
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.RCVTIMEO, int(PATIENCE_S * 1000))
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        with NamedTemporaryFile(dir=SHARED_MEMORY, prefix="bench-ring-") as file:
            os.posix_fallocate(file.fileno(), 0, RING_SLOTS * nbytes)
            self._map = mmap.mmap(file.fileno(), RING_SLOTS * nbytes)
            how = "mapped" if mapped else "copied"
            self._receiver = _Receiver("ring", file.name, str(nbytes), str(port), how)

    def run(self, planes: list[memoryview], count: int) -> float:
        """Send planes; return the seconds until all are acknowledged."""
        memory, nbytes, socket = memoryview(self._map), self._nbytes, self._socket
        free = list(range(RING_SLOTS))
        start = time.perf_counter()
        for number in range(count):
            if not free:
                free.append(int(socket.recv()))
            slot = free.pop()
            memory[slot * nbytes : (slot + 1) * nbytes] = planes[number % len(planes)]
            socket.send(str(slot).encode())
        while len(free) < RING_SLOTS:
            free.append(int(socket.recv()))
        return time.perf_counter() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.stop()
        self._context.destroy(linger=0)


def _receive_ring(name: str, nbytes: int, port: int, how: str) -> None:
    with Path(name).open("rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), RING_SLOTS * nbytes, prot=mmap.PROT_READ))
    socket = zmq.Context().socket(zmq.PAIR)
    socket.connect(f"tcp://127.0.0.1:{port}")
    print("ready", flush=True)
    while True:
        slot = int(socket.recv())
        plane = memory[slot * nbytes : (slot + 1) * nbytes]
        _ = plane[0] if how == "mapped" else bytes(plane)
        socket.send(str(slot).encode())


class Stream:
    """Ours: a publisher and a subscriber, which does as the ring's receiver does."""

    def __init__(self, *, shared: bool = True, mapped: bool = False, batch: int = 1) -> None:
        endpoint = free_endpoint()
        how = "mapped" if mapped else "copied"
        self._batch = batch  # planes in one payload
        self._receiver = _Receiver("stream", str(endpoint.port), str(endpoint.data_port), how)
        self._client = ZMQClient(endpoint, app="bench")
        self._client.connect(PATIENCE_S)
        self._publisher = Publisher(self._client, "planes", use_shared_memory=shared)

    def run(self, planes: list[memoryview], count: int) -> float:
        """Send planes; return the seconds until all are acknowledged."""
        start = time.perf_counter()
        for first in range(0, count, self._batch):
            numbers = range(first, min(first + self._batch, count))
            payload = [planes[number % len(planes)] for number in numbers]
            self._publisher.publish(b"", payload, key=str(first), timeout=PATIENCE_S)
        left = self._publisher.flush(PATIENCE_S)
        assert not left, left
        return time.perf_counter() - start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._publisher.close()
        self._client.close()
        self._receiver.stop()


def _receive_stream(port: int, data_port: int, how: str) -> None:
    endpoint = Endpoint(port=port, data_port_offset=data_port - port)
    with (
        ZMQServer("bench", endpoint, bind_address="127.0.0.1") as server,
        Subscriber(server) as subscriber,
    ):
        print("ready", flush=True)
        while subscriber.wait():
            for entry in subscriber.receive():
                assert isinstance(entry, Item), entry
                for view in entry.lease.map():
                    _ = view[0] if how == "mapped" else bytes(view)
                entry.lease.release()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ring", name, nbytes, port, how]:
            _receive_ring(name, int(nbytes), int(port), how)
        case ["stream", port, data_port, how]:
            _receive_stream(int(port), int(data_port), how)
