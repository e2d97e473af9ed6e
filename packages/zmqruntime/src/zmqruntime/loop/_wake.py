"""WakeDescriptor: a descriptor that another loop can watch."""

from __future__ import annotations

import socket

__all__ = ["WakeDescriptor"]


class WakeDescriptor:
    """A descriptor that is readable or not, as it is told; level, not edge.

    Notes
    -----
    A socket pair, which any event loop of any toolkit can watch. It is not safe for threads.
    """

    def __init__(self) -> None:
        self._receive, self._send = socket.socketpair()
        self._receive.setblocking(False)
        self._send.setblocking(False)
        self._on = False

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._receive.fileno()

    def set(self, *, on: bool) -> None:
        """Make it readable, or not; telling it twice is harmless."""
        if on and not self._on:
            self._send.send(b"\0")
        elif self._on and not on:
            self._receive.recv(1)
        self._on = on

    def close(self) -> None:
        """Give the descriptor back to the system; a second call does nothing."""
        self._receive.close()
        self._send.close()
