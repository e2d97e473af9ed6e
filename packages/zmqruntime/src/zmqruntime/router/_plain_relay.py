"""PlainRelay: the messages of any PUB socket, passed on as a stream."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import zmq

from zmqruntime._endpoints import Endpoint
from zmqruntime._errors import InsecureBindError, InvalidEndpointError
from zmqruntime.router._codecs import encode
from zmqruntime.router._config import RelayConfig
from zmqruntime.router._errors import ExposeError
from zmqruntime.router._messages import StreamHeader, Timestamp
from zmqruntime.router._route import RelayState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime.loop._loop import IOThread

    Send = Callable[[str, bytes, Sequence[Any]], object]

__all__ = ["PlainRelay", "check_plain_address"]

logger = logging.getLogger(__name__)

_MOST_READ = 64
_MOST_FRAMES = 62
_MOST_FRAME_BYTES = 64 << 20


class PlainRelay:
    """Passes on the messages of a PUB socket, as lists of bytes.

    Parameters
    ----------
    name
        Name of the stream.
    address
        Where the socket listens, ``tcp://127.0.0.1:5600``.
    loop
        Thread that owns the socket here.
    send
        Sends header and buffers under a name.
    server_id
        Says who passes on.
    topic
        Beginning of the messages to pass on.
    insecure
        Whether it may be on another computer.
    enabled, log_chatter
        Whether it passes on from the beginning, and whether it logs each message.

    Notes
    -----
    What the source drops because it is read too slowly nobody can tell; a `RouterServer` as the
    source can.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        loop: IOThread,
        send: Send,
        server_id: Callable[[], str],
        topic: str = "",
        insecure: bool = False,
        enabled: bool = True,
        log_chatter: bool = False,
    ) -> None:
        self.name = name
        self.address = address
        self.topic = topic
        self.insecure = insecure
        self.log_chatter = log_chatter
        self._loop = loop
        self._send = send
        self._server_id = server_id
        self._counters: Counter[str] = Counter()
        self._enabled = enabled
        self._socket: zmq.Socket[bytes] | None = None

    def start(self) -> None:
        """Connect to the source, which need not be there yet.

        Raises
        ------
        ExposeError
            If the address cannot be connected to.
        """
        self._loop.submit(self._open).result()

    @property
    def enabled(self) -> bool:
        """Whether it passes on."""
        return self._enabled

    def set_enabled(self, *, enabled: bool) -> None:
        """Pass on what comes, or let the source send nothing."""
        self._loop.submit(self._set_enabled, enabled).result()

    def close(self) -> None:
        """Close the socket; twice is harmless."""
        if self._loop.running:
            self._loop.submit(self._close).result()

    def describe(self) -> dict[str, Any]:
        """Say where it comes from and how it stands."""
        state = RelayState.LIVE if self._enabled else RelayState.DISABLED
        return {
            "address": self.address,
            "encoding": "msgpack",
            "enabled": self._enabled,
            "log_chatter": self.log_chatter,
            "state": str(state),
            "reason": "",
        }

    def config(self) -> RelayConfig:
        """Say how to make it again."""
        return RelayConfig(
            address=self.address,
            enabled=self._enabled,
            log_chatter=self.log_chatter,
            topic=self.topic,
            insecure=self.insecure,
        )

    def counters(self) -> dict[str, int]:
        """Count what was passed on, and what was refused."""
        return {"sent": self._counters["sent"], "refused": self._counters["refused"]}

    def route(self, via: Sequence[str], timeout: float) -> list[str]:  # noqa: ARG002 - a source
        """Say through which servers it comes: none."""
        return []

    def _open(self) -> None:
        socket = self._loop.context.socket(zmq.SUB)
        try:
            socket.linger = 0
            socket.setsockopt(zmq.MAXMSGSIZE, _MOST_FRAME_BYTES)
            socket.setsockopt(zmq.RECONNECT_IVL, 50)
            socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
            socket.setsockopt(zmq.IPV6, 1 if "[" in self.address else 0)
            if self._enabled:
                socket.subscribe(self.topic.encode())
            socket.connect(self.address)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise ExposeError(f"cannot connect to {self.address}: {error.strerror}") from error
        self._socket = socket
        self._loop.register(socket, self._on_readable)

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.close(linger=0)
            self._socket = None

    def _set_enabled(self, enabled: bool) -> None:
        changed, self._enabled = enabled != self._enabled, enabled
        if self._socket is None or not changed:
            return
        if enabled:
            self._socket.subscribe(self.topic.encode())
        else:
            self._socket.unsubscribe(self.topic.encode())

    def _on_readable(self) -> None:
        for _ in range(_MOST_READ):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if self._enabled:
                self._pass_on(frames)

    def _pass_on(self, frames: Sequence[bytes]) -> None:
        if len(frames) > _MOST_FRAMES:
            self._counters["refused"] += 1
            logger.warning("relay %r: a message of %d frames was refused", self.name, len(frames))
            return
        if self.log_chatter:
            size = sum(map(len, frames))
            logger.info("relay %r: %r, %d bytes", self.name, frames[0][:64], size)
        at = Timestamp.now(self._server_id())
        header = StreamHeader(
            wall_ns=at.wall_ns, mono_ns=at.mono_ns, server=at.server_id, path=(at.server_id,)
        )
        self._counters["sent"] += 1
        written = encode(list(frames), header.encoding)
        self._send(self.name, msgspec.msgpack.encode(header), written.frames)


def check_plain_address(address: str, *, insecure: bool) -> None:
    """Check that a PUB socket may be listened to.

    Parameters
    ----------
    address
        Where it listens.
    insecure
        Whether it may be on another computer, where nobody can prove who sends.

    Raises
    ------
    ExposeError
        If the address is none that can be connected to.
    InsecureBindError
        If it is on another computer, and may not be.
    """
    transport, separator, rest = address.partition("://")
    if not separator or not rest or transport not in ("tcp", "ipc"):
        raise ExposeError(f"{address!r} is no address: use router://, tcp:// or ipc://")
    if transport == "ipc" or insecure:
        return
    try:
        local = Endpoint.parse(address).is_loopback
    except InvalidEndpointError as error:
        raise ExposeError(f"{address!r} is no address: {error}") from error
    if not local:
        raise InsecureBindError(
            f"whoever can be reached as {address} could send what it likes under this server's "
            "name: relay a RouterServer with keys, or pass insecure=True on a network you trust"
        )
