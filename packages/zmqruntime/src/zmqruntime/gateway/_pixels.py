"""PixelLanes: pictures to the clients that opened a lane; a slow one delays nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from zmqruntime._errors import FrameError, PeerLostError
from zmqruntime.gateway._connection import Outgoing
from zmqruntime.gateway._lanes import LaneFrame, LaneReader, LaneRecord, lane_key, pack_frame

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from typing import Self

    from websockets.asyncio.server import ServerConnection

    from zmqruntime.gateway._tickets import TicketOffice

    Buffer = bytes | bytearray | memoryview
    Encode = Callable[[], Sequence[Buffer]]

__all__ = ["PixelLanes", "PixelReceiver"]

logger = logging.getLogger(__name__)

_OPEN_S = 5.0
_POLICY = 1008
_MOST_FRAME = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class _Lane:
    session_id: str
    address: str
    secret: bytes
    outgoing: Outgoing
    seq: int = 0
    sent: int = 0
    superseded: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class PixelLanes:
    """The lanes that are open.

    Parameters
    ----------
    tickets
        Who opens them.
    depth
        Frames that may be on their way to one client.

    Notes
    -----
    A frame is encoded only for a client that has room for it, so what is left out costs nothing
    and breaks no chain of differences; the number on the next frame shows that one is missing.
    """

    def __init__(self, tickets: TicketOffice, *, depth: int = 2) -> None:
        self._tickets = tickets
        self._depth = depth
        self._lanes: dict[str, _Lane] = {}
        self._opened: list[Callable[[str], object]] = []

    @property
    def lanes(self) -> tuple[LaneRecord, ...]:
        """The lanes that are open."""
        return tuple(
            LaneRecord(
                session_id=lane.session_id,
                address=lane.address,
                sent=lane.sent,
                superseded=lane.superseded,
                waiting=len(lane.outgoing),
            )
            for lane in tuple(self._lanes.values())
        )

    def on_opened(self, callback: Callable[[str], object]) -> None:
        """Call a function, on the gateway's thread, with the session whose lane was opened.

        Parameters
        ----------
        callback
            Sees to a key frame for that session. Must not block.
        """
        self._opened.append(callback)

    def offer(
        self,
        session_id: str,
        encode: Encode,
        *,
        topic: str = "pixels",
        key: str = "",
        state_version: int | None = None,
    ) -> bool:
        """Send a frame, if the client has room for one; any thread.

        Parameters
        ----------
        session_id
            Whose lane.
        encode
            Called, here and now, only if there is room: the header of the payload, then buffers.
        topic, key, state_version
            See `LaneFrame`.

        Returns
        -------
        bool
            False when there is no lane or no room, and nothing was encoded.

        Raises
        ------
        FrameTooLargeError
            If the header is too long, or there are too many parts.
        """
        lane = self._lanes.get(session_id)
        if lane is None:
            return False
        with lane.lock:
            lane.seq += 1
            if len(lane.outgoing) >= self._depth:
                lane.superseded += 1
                return False
            frame = pack_frame(
                encode(),
                topic=topic,
                seq=lane.seq,
                time_ns=time.time_ns(),
                monotonic_ns=time.monotonic_ns(),
                secret=lane.secret,
                key=key,
                state_version=state_version,
            )
            if not lane.outgoing.offer(frame):
                lane.superseded += 1
                return False
            lane.sent += 1
        return True

    def close(self, session_id: str, code: int = 1001, reason: str = "session ended") -> None:
        """Close the lane of a session; any thread."""
        lane = self._lanes.pop(session_id, None)
        if lane is not None:
            lane.outgoing.end(code, reason)

    async def serve(self, connection: ServerConnection, address: str) -> None:
        """Serve one connection; in the gateway's loop.

        Parameters
        ----------
        connection
            Whose first message is ``{"type": "lane.open", "ticket": …}``.
        address
            Where it leads to.
        """
        ticket, session_id = await self._admit(connection)
        if session_id is None:
            await connection.close(_POLICY, "no valid ticket")
            return
        nonce = secrets.token_bytes(16)
        outgoing = Outgoing(asyncio.get_running_loop(), entries=self._depth, nbytes=2 * _MOST_FRAME)
        lane = _Lane(session_id, address, lane_key(ticket, nonce), outgoing)
        opened = {"type": "lane.opened", "session": session_id, "nonce": nonce.hex()}
        await connection.send(json.dumps(opened))
        self.close(session_id, reason="opened anew")
        self._lanes[session_id] = lane
        for callback in self._opened:
            try:
                callback(session_id)
            except Exception:  # the application's; the lane is open all the same
                logger.exception("callback for the lane of session %s failed", session_id)
        sending = asyncio.ensure_future(outgoing.send_to(connection))
        try:
            async for _ in connection:  # nothing is expected; what comes is let go
                pass
        finally:
            if self._lanes.get(session_id) is lane:
                del self._lanes[session_id]
            sending.cancel()

    async def _admit(self, connection: ServerConnection) -> tuple[str, str | None]:
        try:
            first = await asyncio.wait_for(connection.recv(), _OPEN_S)
            asked = json.loads(first)
        except (TimeoutError, ConnectionClosed, ValueError, RecursionError):
            return "", None
        if not isinstance(asked, dict) or asked.get("type") != "lane.open":
            return "", None
        ticket = asked.get("ticket")
        if not isinstance(ticket, str) or len(ticket) > 256:
            return "", None
        return ticket, self._tickets.redeem(ticket)


class PixelReceiver:
    """The client's end of a lane; blocking, for one thread.

    Parameters
    ----------
    url
        For example ``ws://127.0.0.1:7555/pixels``.
    ticket
        From ``data.ticket`` of the welcome, or the command ``session.ticket``.
    tls
        For ``wss`` addresses; None trusts the authorities that the system trusts.
    timeout
        Longest wait for the lane to open, in seconds.

    Raises
    ------
    PeerLostError
        If the server refuses the ticket or cannot be reached.
    """

    def __init__(
        self, url: str, ticket: str, *, tls: ssl.SSLContext | None = None, timeout: float = 5.0
    ) -> None:
        options: dict[str, Any] = {"ssl": tls} if tls is not None else {}
        self._open = ExitStack()
        try:
            opening = connect(
                url,
                open_timeout=timeout,
                max_size=_MOST_FRAME + 128 * 1024,
                compression=None,
                proxy=None,
                **options,
            )
            self._connection = self._open.enter_context(opening)
            self._connection.send(json.dumps({"type": "lane.open", "ticket": ticket}))
            opened = json.loads(self._connection.recv(timeout))
            secret = lane_key(ticket, bytes.fromhex(opened["nonce"]))
        except (OSError, ConnectionClosed, TimeoutError, ValueError, KeyError) as error:
            self._open.close()
            raise PeerLostError(f"{url} did not open the lane: {error}") from error
        self._reader = LaneReader(secret)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def receive(self, timeout: float | None = None) -> LaneFrame:
        """Wait for the next frame.

        Parameters
        ----------
        timeout
            Longest wait in seconds; None waits for ever.

        Raises
        ------
        TimeoutError
            If none came.
        PeerLostError
            If the lane was closed.
        FrameError
            If what came is not a frame of this lane.
        """
        try:
            message = self._connection.recv(timeout)
        except ConnectionClosed as error:
            raise PeerLostError(f"the lane was closed: {error}") from error
        if isinstance(message, str):
            raise FrameError("text on a lane for frames")
        return self._reader.read(message)

    def close(self) -> None:
        """Close the lane; twice is harmless."""
        self._open.close()
