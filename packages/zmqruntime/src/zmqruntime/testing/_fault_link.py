"""One connection behind a fault proxy, and the words for what can be done to it."""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

__all__ = ["Ending", "Flow", "Link", "Way"]


class Way(StrEnum):
    """Which of the two ways of a link a fault concerns."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"
    BOTH = "both"

    def covers(self, other: Way) -> bool:
        """Say whether a fault of this way concerns one single way."""
        return self in (Way.BOTH, other)


class Ending(StrEnum):
    """How a connection ends: in order, or by a reset as of a crash or a firewall."""

    FIN = "fin"
    RST = "rst"


class Flow:
    """One way of one connection: bytes that were read and are not written yet."""

    __slots__ = (
        "_held",
        "_held_bytes",
        "ended",
        "free_at",
        "link",
        "reading",
        "sink",
        "source",
        "way",
    )

    def __init__(self, link: Link, way: Way, source: socket.socket, sink: socket.socket) -> None:
        self.link = link
        self.way = way
        self.source = source
        self.sink = sink
        self._held: deque[tuple[float, memoryview]] = deque()  # (due, bytes)
        self._held_bytes = 0
        self.free_at = 0.0  # when a limited link may send again
        self.reading = True  # until the source has ended
        self.ended = False  # the sink was told so

    @property
    def held_bytes(self) -> int:
        """How many bytes are on their way."""
        return self._held_bytes

    @property
    def due(self) -> float | None:
        """When the next bytes may go; None without any."""
        return max(self._held[0][0], self.free_at) if self._held else None

    def put(self, chunk: bytes, due: float) -> None:
        """Take bytes that may go at a time."""
        self._held.append((due, memoryview(chunk)))
        self._held_bytes += len(chunk)

    def write(self, most: int) -> int:
        """Write what the sink takes of the first chunk, at most so many bytes."""
        due, chunk = self._held[0]
        count = self.sink.send(chunk[:most])
        self._held_bytes -= count
        if count == len(chunk):
            self._held.popleft()
        else:
            self._held[0] = (due, chunk[count:])
        return count


class Link:
    """One connection of a client, and the one to the server that belongs to it."""

    __slots__ = ("client", "dialling", "flows", "lost_bytes", "server")

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.dialling = True
        self.lost_bytes = False
        self.flows = (
            Flow(self, Way.TO_SERVER, client, server),
            Flow(self, Way.TO_CLIENT, server, client),
        )
