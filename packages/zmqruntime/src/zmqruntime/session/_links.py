"""Link: one client's connection, whatever carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from zmqruntime._errors import PeerLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.control._peer import Peer
    from zmqruntime.control._server import ControlServer

__all__ = ["ControlLink", "Link", "LinkPeer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPeer:
    """Who is at the other end, as far as the connection itself shows.

    Attributes
    ----------
    carrier
        ``zmq`` or ``websocket``.
    address
        Where it comes from, for logs.
    identify
        Says who a token makes of it; None stands for no token.
    certificate
        Subject of its TLS certificate, empty without one.
    """

    carrier: str
    address: str
    identify: Callable[[str | None], Peer]
    certificate: Mapping[str, str] = field(default_factory=dict)


class Link(Protocol):
    """What a session needs of its carrier; used on the loop of the session server."""

    @property
    def peer(self) -> LinkPeer:
        """Who is at the other end."""

    def send(self, data: bytes) -> bool:
        """Hand an envelope over; False when the carrier takes no more for now.

        The carrier calls `ServerSession.writable` when it takes more, unless `polled` is true.
        """

    @property
    def polled(self) -> bool:
        """Whether the carrier cannot say when it takes more, so that it has to be asked."""

    def close(self, code: int, reason: str) -> None:
        """End the connection after what was handed over; twice is harmless."""


class ControlLink:
    """A connection to the control socket of a `ZMQServer`."""

    polled = True

    def __init__(self, control: ControlServer, envelope: tuple[bytes, ...], peer: LinkPeer) -> None:
        self._control = control
        self._envelope = envelope
        self._closed = False
        self.peer = peer
        self.on_closed: Callable[[], object] = lambda: None
        self.on_lost: Callable[[], object] = lambda: None

    def send(self, data: bytes) -> bool:
        """Hand an envelope over; one for a client that is gone is dropped."""
        if self._closed:
            return True
        try:
            return self._control.post(self._envelope, data)
        except PeerLostError:
            self._closed = True
            self._control.loop.call_soon(self.on_lost)
            return True

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - as the other carriers
        """Forget the client; a socket of many peers cannot hang up on one."""
        if not self._closed:
            self._closed = True
            self.on_closed()
