"""Subscriptions: what comes in on a socket that sends, within bounds that nobody can exceed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from zmqruntime.data._flood_guard import FloodGuard, can_guard
from zmqruntime.data._listeners import Listeners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Bounds", "Subscriptions"]

_NOBLOCK = int(zmq.NOBLOCK)  # enum arithmetic costs more than the call
_MOST_READ = 64
_MOST_NAME_FRAME = 1152  # 256 characters of 4 bytes each, a secret word, and what ZMTP adds
_MOST_UNREAD = 64  # of one connection, which sends nothing else
_MOST_BYTES_UNREAD = 32 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the peers of a socket may subscribe to.

    Attributes
    ----------
    names, nbytes
        Names that one connection may hold, and their bytes.
    together
        Bytes of the names of all connections.
    ahead
        Bytes that one connection may send while nothing is read.
    """

    names: int = 1024
    nbytes: int = 64 << 10
    together: int = 1 << 20
    ahead: int = 128 << 10


class Subscriptions:
    """Reads the subscriptions that an XPUB socket gets, and ends who sends too many.

    Parameters
    ----------
    socket
        Neither bound nor connected yet; used on the thread that makes this.
    bounds
        What is allowed.
    outward
        Whether the socket connects to its peer, rather than being connected to.
    on_event
        Told of the events of the socket's monitor, on another thread, if there is one: which, and
        of which descriptor.

    Notes
    -----
    libzmq has no cap of its own: each name takes some fifty times its length as long as the
    connection lasts, and while names come as fast as it takes them it does nothing else.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        *,
        bounds: Bounds | None = None,
        outward: bool = False,
        on_event: Callable[[int, int], object] = lambda _event, _value: None,
    ) -> None:
        self._socket = socket
        self._bounds = bounds or Bounds()
        self._outward = outward
        self._closed = False
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.RCVHWM, _MOST_UNREAD)
        socket.setsockopt(zmq.RCVBUF, _MOST_BYTES_UNREAD)
        socket.setsockopt(zmq.MAXMSGSIZE, _MOST_NAME_FRAME)
        self._guard: FloodGuard | None = None
        if can_guard():
            self._guard = FloodGuard(socket, on_event=on_event, most_ahead=self._bounds.ahead)
        self.listeners = self._listeners_of("")
        """Who holds which names."""
        self.astray = False
        """Whether libzmq takes one connection for another, until all is read that is there."""

    @property
    def watched(self) -> bool:
        """Whether the socket's monitor is in use here."""
        return self._guard is not None

    @property
    def cut(self) -> int:
        """Connections that were ended because they were misused; any thread."""
        return self.listeners.cut + (self._guard.cut if self._guard is not None else 0)

    def begin(self) -> None:
        """Know who the peers are, now that the socket is bound or connected."""
        self.listeners = self._listeners_of(self._socket.getsockopt_string(zmq.LAST_ENDPOINT))

    def read(self) -> Iterator[zmq.Frame]:
        """Take what has come, up to a number that leaves others their turn."""
        for _ in range(_MOST_READ):
            if self._closed:
                return
            try:
                frame = self._socket.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                self.astray = False
                self.listeners.read_to_the_end()
                if self._guard is not None:
                    self._guard.turns += 1
                return
            yield frame

    def lead_astray(self, descriptor: int) -> None:
        """Note that what was just read is no subscription, and end the connection it is from."""
        self.astray = True
        self.listeners.dismiss(descriptor, "sent what is no subscription")

    def close(self) -> None:
        """Read no more; before the socket is closed. Twice is harmless."""
        if not self._closed:
            self._closed = True
            if self._guard is not None:
                self._guard.close()

    def _listeners_of(self, endpoint: str) -> Listeners:
        return Listeners(
            endpoint,
            outward=self._outward,
            most_names=self._bounds.names,
            most_bytes=self._bounds.nbytes,
            most_bytes_together=self._bounds.together,
        )
