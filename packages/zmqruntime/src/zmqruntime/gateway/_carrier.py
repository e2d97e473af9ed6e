"""WebSocketCarrier: a session client's connection to a gateway, which heals itself."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from zmqruntime._errors import InvalidEndpointError
from zmqruntime.gateway._connection import Outgoing, quietly
from zmqruntime.loop._loop import IOThread
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from websockets.asyncio.client import ClientConnection

__all__ = ["WebSocketCarrier"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 1024 * 1024
_LASTED_S = 5.0


class WebSocketCarrier:
    """A session client's connection to a gateway.

    Parameters
    ----------
    url
        For example ``wss://engine.example:7555/state``.
    token
        Proof of who this is, shown in the hello.
    tls
        For ``wss`` addresses; None trusts the authorities that the system trusts.
    longest_wait
        Most seconds to wait before connecting again, more than 0.

    Raises
    ------
    InvalidEndpointError
        If the address is not one of a WebSocket.
    ValueError
        If the longest wait is none.

    Notes
    -----
    Connecting again waits 50 ms doubling to the longest wait, from the start after a connection
    that lasted for 5 s.

    Examples
    --------
    >>> from zmqruntime.session import SessionClient
    >>> client = SessionClient(WebSocketCarrier("ws://127.0.0.1:7555/state"), name="viewer")
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        longest_wait: float = 5.0,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise InvalidEndpointError(f"{url!r} is not a WebSocket address: expected ws(s)://…")
        if not longest_wait > 0:
            raise ValueError(f"connecting again without a pause is a flood: {longest_wait} s")
        self.url = url
        self.token = token
        self.loop = IOThread(f"session-to-{url}")
        self._tls = tls
        self._longest_wait = longest_wait
        self._outgoing: Outgoing | None = None
        self._asyncio: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._up: Callable[[], object] = lambda: None
        self._received: Callable[[bytes | str], object] = lambda _message: None
        self._down: Callable[[str], object] = lambda _reason: None

    def open(
        self,
        up: Callable[[], object],
        received: Callable[[bytes | str], object],
        down: Callable[[str], object],
    ) -> None:
        """Connect, and go on connecting."""
        self._up, self._received, self._down = up, received, down
        started = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(started)), name=self.loop.name, daemon=True
        )
        self._thread.start()
        started.wait()

    def send(self, data: bytes) -> bool:
        """Hand an envelope over, as a text message."""
        outgoing = self._outgoing
        return outgoing is not None and outgoing.offer(data.decode())

    def renew(self, code: int, reason: str) -> None:
        """Give this connection up and get another."""
        outgoing = self._outgoing
        if outgoing is not None:
            outgoing.end(code, reason)

    def close(self, code: int, reason: str) -> None:
        """Give the connection up for good."""
        self._closed = True
        self.renew(code, reason)
        if self._thread is not None and self._asyncio is not None and self._wake is not None:
            if self._thread.is_alive():
                try:
                    self._asyncio.call_soon_threadsafe(self._wake.set)
                except RuntimeError:
                    logger.debug("the connection has ended by itself")
            self._thread.join()
        self.loop.stop()

    async def _main(self, started: threading.Event) -> None:
        self._asyncio, self._wake = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        backoff = Backoff(first=min(0.05, self._longest_wait), longest=self._longest_wait)
        options: dict[str, Any] = {"ssl": self._tls} if self._tls is not None else {}
        while not self._closed:
            try:
                async with connect(
                    self.url,
                    max_size=_MOST_BYTES,
                    compression=None,
                    open_timeout=5.0,
                    close_timeout=1.0,
                    proxy=None,
                    **options,
                ) as connection:
                    began = self._asyncio.time()
                    await self._serve(connection)
                    if self._asyncio.time() - began > _LASTED_S:
                        backoff.reset()
            except (OSError, InvalidHandshake, InvalidURI, TimeoutError, EOFError) as error:
                logger.info("%s cannot be reached: %s", self.url, error)
            if self._closed:
                return
            try:
                await asyncio.wait_for(self._wake.wait(), backoff.next())
            except TimeoutError:
                continue

    def _hand_over(self, message: str | bytes) -> None:
        quietly(lambda: self.loop.call_soon(self._received, message))()

    async def _serve(self, connection: ClientConnection) -> None:
        outgoing = Outgoing(asyncio.get_running_loop())
        self._outgoing = outgoing
        sending = asyncio.ensure_future(outgoing.send_to(connection))
        reason = "the connection broke"
        quietly(lambda: self.loop.call_soon(self._up))()
        try:
            async for message in connection:
                self._hand_over(message)
        except ConnectionClosed as error:
            reason = f"the connection broke: {error}"
        finally:
            self._outgoing = None
            quietly(lambda: self.loop.call_soon(self._down, reason))()
            if self._closed and not sending.done():
                await asyncio.wait([sending], timeout=1.0)
            sending.cancel()
