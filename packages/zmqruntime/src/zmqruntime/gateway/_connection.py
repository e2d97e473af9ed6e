"""Connection: one WebSocket of the gateway, as a link of a session."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from websockets.exceptions import ConnectionClosed

from zmqruntime._errors import LoopStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.connection import Connection

    from zmqruntime.session import LinkPeer

__all__ = ["Outgoing", "WebSocketLink", "set_most_bytes"]

logger = logging.getLogger(__name__)


def set_most_bytes(connection: Connection, nbytes: int) -> None:
    """Set the longest message that a connection takes from now on.

    The library takes the cap when a connection is made; here it is low until the peer has shown
    who it is. The attribute has had two names.
    """
    protocol = connection.protocol
    name = "max_message_size" if hasattr(protocol, "max_message_size") else "max_size"
    setattr(protocol, name, nbytes)


class Outgoing:
    """Messages on their way to one WebSocket; filled from any thread, emptied by asyncio.

    Parameters
    ----------
    loop
        Loop of the connection.
    entries, nbytes
        What may wait.
    on_room
        Called, from the loop, when there is room after there was none.
    before_send
        Called, in the loop, before each message is sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        entries: int = 64,
        nbytes: int = 1024 * 1024,
        on_room: Callable[[], object] = lambda: None,
        before_send: Callable[[], object] = lambda: None,
    ) -> None:
        self.on_room = on_room
        self.before_send = before_send
        self._loop = loop
        self._entries = entries
        self._nbytes = nbytes
        self._lock = threading.Lock()  # guards what follows
        self._waiting: deque[str | bytes] = deque()
        self._waiting_bytes = 0
        self._refused = False
        self._farewell: tuple[int, str] | None = None
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, message: str | bytes) -> bool:
        """Take a message, unless too much waits already; any thread."""
        with self._lock:
            if self._farewell is not None:
                return True  # nobody will read it, and nobody is owed it
            full = len(self._waiting) >= self._entries or self._waiting_bytes >= self._nbytes
            if full:
                self._refused = True
                return False
            self._waiting.append(message)
            self._waiting_bytes += len(message)
        return self._wake()

    def end(self, code: int, reason: str) -> None:
        """Close the connection once everything has been sent; any thread."""
        with self._lock:
            if self._farewell is None:
                self._farewell = (code, reason)
        self._wake()

    async def send_to(self, connection: Connection) -> None:
        """Send what comes until the end; in the loop."""
        try:
            while True:
                message, farewell = self._next()
                if message is not None:
                    self.before_send()
                    await connection.send(message)
                    self._sent(message)
                elif farewell is not None:
                    await connection.close(farewell[0], farewell[1][:100])
                    return
                else:
                    self._filled.clear()
                    if not self._waiting and self._farewell is None:
                        await self._filled.wait()
        except ConnectionClosed:
            logger.debug("a connection ended before everything was sent")

    def _next(self) -> tuple[str | bytes | None, tuple[int, str] | None]:
        with self._lock:
            return (self._waiting[0] if self._waiting else None), self._farewell

    def _sent(self, message: str | bytes) -> None:
        with self._lock:
            self._waiting.popleft()
            self._waiting_bytes -= len(message)
            room = self._refused and len(self._waiting) <= self._entries // 2
            if room:
                self._refused = False
        if room:
            self.on_room()

    def _wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._filled.set)
        except RuntimeError:  # the loop was closed: the connection is gone
            return False
        return True


class WebSocketLink:
    """A WebSocket as a session sees it."""

    polled = False

    def __init__(self, outgoing: Outgoing, peer: LinkPeer) -> None:
        self.peer = peer
        self._outgoing = outgoing

    def send(self, data: bytes) -> bool:
        """Hand an envelope over, as a text message."""
        return self._outgoing.offer(data.decode())

    def close(self, code: int, reason: str) -> None:
        """End the connection after what was handed over."""
        self._outgoing.end(code, reason)


def quietly(function: Callable[[], object]) -> Callable[[], None]:
    """Make a callback that does nothing when the loop it is for has ended."""

    def call() -> None:
        try:
            function()
        except LoopStoppedError:
            logger.debug("the loop of the sessions has ended")

    return call
