"""WebSocketGateway: sessions on ``/state`` and pictures on ``/pixels``, for browsers too."""

from __future__ import annotations

import asyncio
import logging
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from zmqruntime._endpoints import is_loopback
from zmqruntime._errors import (
    EndpointInUse,
    InsecureBindError,
    InvalidEndpointError,
    LoopStoppedError,
)
from zmqruntime.gateway._connection import Outgoing, WebSocketLink, quietly, set_most_bytes
from zmqruntime.gateway._pixels import PixelLanes
from zmqruntime.gateway._tickets import TicketOffice
from zmqruntime.session import LinkPeer, SessionServer, protocol2

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from typing import Self

    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

    from zmqruntime.session import Command, ServerSession, SessionRecord

__all__ = ["WebSocketGateway"]

logger = logging.getLogger(__name__)

_PORT_OFFSET = 2000
_PATHS = ("/state", "/pixels")
_STRANGER_BYTES = 4 * 1024
_TRY_LATER = 1013


class WebSocketGateway:
    """Serves the sessions of a `SessionServer` over WebSocket too.

    Parameters
    ----------
    sessions
        Whose sessions.
    host
        Address to listen on.
    port
        Port to listen on, that of the control channel + 2000 when None.
    tls
        Certificate and key, and whether clients need certificates; None is plain HTTP.
    origins
        Pages whose scripts may connect, for example ``https://lab.example``. Programs that are
        no browsers send no origin, and may.
    insecure
        Listen where other computers can reach it, without TLS.
    most_connections
        Most connections at a time.
    ping_s
        Silence after which the connection itself is asked for a sign of life. That keeps it open
        through proxies; whether the session lives is seen by its own heartbeat.

    Raises
    ------
    InsecureBindError
        If others could listen in: the host is not loopback, there is no TLS, and `insecure` was
        not given.

    Notes
    -----
    A thread of its own runs an asyncio loop; nothing else here knows of asyncio. Messages are at
    most 4 KiB until a client is welcomed. A client that does not read fills its own queue and
    nobody else's.
    """

    def __init__(
        self,
        sessions: SessionServer,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        origins: Sequence[str] = (),
        insecure: bool = False,
        most_connections: int = 256,
        ping_s: float = 20.0,
    ) -> None:
        if not is_loopback(host) and tls is None and not insecure:
            raise InsecureBindError(
                f"refusing to serve WebSockets on {host} without TLS: others could listen in; "
                "pass tls, or insecure=True on a network you trust"
            )
        self.sessions = sessions
        self.host = "127.0.0.1" if host == "localhost" else host
        self.port = sessions.server.ports.control + _PORT_OFFSET if port is None else port
        self.tls = tls
        self.tickets = TicketOffice()
        self.pixels = PixelLanes(self.tickets)
        self._origins = (None, *origins)
        self._most_connections = most_connections
        self._ping_s = ping_s
        self._connections = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of the sessions, for example ``ws://127.0.0.1:7555/state``."""
        return self._url("/state")

    @property
    def pixels_url(self) -> str:
        """Address of the lanes."""
        return self._url("/pixels")

    def start(self) -> None:
        """Listen; starting twice is harmless.

        Raises
        ------
        EndpointInUse
            If another program listens there.
        InvalidEndpointError
            If the address does not belong to this computer.
        """
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name=f"gateway-{self.port}", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        self.sessions.data_info = self._data_info
        self.sessions.on_closed(self._on_closed)
        self.sessions.command(
            "session.ticket",
            self._issue_ticket,
            on_loop=True,
            capability="topic:subscribe:notify.stream",
        )

    def stop(self) -> None:
        """Close every connection and stop listening; twice is harmless."""
        if self._thread is None or self._failure is not None:
            return
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _url(self, path: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ws' if self.tls is None else 'wss'}://{host}:{self.port}{path}"

    def _data_info(self, session: ServerSession) -> protocol2.DataInfo:
        ports = self.sessions.server.ports
        return protocol2.DataInfo(
            ports={"control": ports.control, "data": ports.data, "websocket": self.port},
            ticket=self.tickets.issue(session.id),
            carriers=["websocket"],
        )

    def _issue_ticket(self, command: Command) -> dict[str, str]:
        return {"ticket": self.tickets.issue(command.session_id)}

    def _on_closed(self, record: SessionRecord, _reason: str) -> None:
        self.tickets.void(record.id)
        self.pixels.close(record.id)

    async def _main(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await serve(
                self._on_connection,
                self.host,
                self.port,
                ssl=self.tls,
                origins=self._origins,  # type: ignore[arg-type]
                process_request=self._on_request,
                compression=None,
                open_timeout=5.0,
                close_timeout=1.0,
                ping_interval=self._ping_s,
                ping_timeout=self._ping_s,
                max_size=_STRANGER_BYTES,
                max_queue=4,
            )
        except OSError as error:
            in_use = error.errno is not None and "in use" in str(error).lower()
            kind = EndpointInUse if in_use else InvalidEndpointError
            self._failure = kind(f"cannot serve WebSockets on {self.host}:{self.port}: {error}")
            self._failure.__cause__ = error
            self._ready.set()
            return
        self.port = next(iter(server.sockets)).getsockname()[1]
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            server.close(close_connections=True)
            await server.wait_closed()

    def _on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path.partition("?")[0] not in _PATHS:
            return connection.respond(HTTPStatus.NOT_FOUND, "/state and /pixels are here\n")
        if self._connections >= self._most_connections:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        return None

    async def _on_connection(self, connection: ServerConnection) -> None:
        self._connections += 1
        try:
            request = connection.request
            path = request.path.partition("?")[0] if request is not None else ""
            if path == "/pixels":
                await self.pixels.serve(connection, _address_of(connection))
            else:
                await self._serve_state(connection)
        except ConnectionClosed:
            logger.debug("a connection ended")
        finally:
            self._connections -= 1

    async def _serve_state(self, connection: ServerConnection) -> None:
        sessions, loop = self.sessions, asyncio.get_running_loop()
        outgoing = Outgoing(loop)
        peer = LinkPeer(
            carrier="websocket",
            address=_address_of(connection),
            identify=sessions.server.control.identify,
            certificate=_certificate_of(connection),
        )
        try:
            link = WebSocketLink(outgoing, peer)
            session = await asyncio.wrap_future(sessions.loop.submit(sessions.accept, link))
        except LoopStoppedError:
            await connection.close(_TRY_LATER, "the server is stopping")
            return

        def admit() -> None:
            if session.protocol:
                set_most_bytes(connection, sessions.limits.nbytes)

        outgoing.on_room = quietly(lambda: sessions.loop.call_soon(session.writable))
        outgoing.before_send = admit  # whoever has read a welcome may send at once what is long
        sending = asyncio.ensure_future(outgoing.send_to(connection))
        try:
            async for message in connection:
                await asyncio.wrap_future(sessions.loop.submit(session.received, message))
        except LoopStoppedError:
            outgoing.end(1001, "the server is stopping")
        finally:
            reason = connection.protocol.close_reason or "the connection ended"
            quietly(lambda: sessions.loop.call_soon(sessions.gone, session, reason))()
            if outgoing and not sending.done():
                await asyncio.wait([sending], timeout=1.0)
            sending.cancel()


def _address_of(connection: ServerConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address else "unknown"


def _certificate_of(connection: ServerConnection) -> dict[str, str]:
    """Return the subject of a client's certificate, which TLS has verified."""
    found: Any = connection.transport.get_extra_info("peercert") or {}
    return {name: value for pair in found.get("subject", ()) for name, value in pair}
