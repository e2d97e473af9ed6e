"""Bell: rings when there may be something to read, for a thread that touches no socket."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Bell"]


class Bell:
    """Rings when one of many descriptors has something to read, unless it is muted.

    Notes
    -----
    A set of descriptors inside another one: taking the inner out of the outer and back is one
    system call each, which any thread may make while another waits.
    """

    def __init__(self) -> None:
        self._all = select.epoll()
        self._outer = select.epoll()
        self._outer.register(self._all.fileno(), select.EPOLLIN)
        self._inner = self._all.fileno()

    @classmethod
    def hang(cls) -> Self | None:
        """Make one, where the system has what it takes: on Linux."""
        return cls() if hasattr(select, "epoll") else None

    def add(self, socket: zmq.Socket[bytes] | int) -> None:
        """Ring for a socket or a descriptor too."""
        self._all.register(_descriptor(socket), select.EPOLLIN)

    def remove(self, socket: zmq.Socket[bytes] | int) -> None:
        """Ring for it no more."""
        self._all.unregister(_descriptor(socket))

    def mute(self) -> None:
        """Do not ring until `unmute`; any thread."""
        self._outer.modify(self._inner, 0)

    def unmute(self) -> None:
        """Ring again, also for what came meanwhile; any thread."""
        self._outer.modify(self._inner, select.EPOLLIN)

    def wait(self, patience_ms: int | None) -> None:
        """Sleep until it rings, or so long; None is without end."""
        self._outer.poll(None if patience_ms is None else patience_ms / 1000)

    def close(self) -> None:
        """Give the descriptors back to the system; twice is harmless."""
        self._outer.close()
        self._all.close()


def _descriptor(socket: zmq.Socket[bytes] | int) -> int:
    """Return what the kernel can watch; for a zmq socket, it tells of news, not of a level."""
    return socket if isinstance(socket, int) else int(socket.getsockopt(zmq.FD))
