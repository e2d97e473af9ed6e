"""Diversion: the session envelopes among the messages of a control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime._typed import from_json
from zmqruntime.session._links import ControlLink, LinkPeer
from zmqruntime.session._machine import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime.control._peer import Peer
    from zmqruntime.control._server import ControlServer
    from zmqruntime.session._links import Link
    from zmqruntime.session._parser import EnvelopeLimits
    from zmqruntime.session._session import ServerSession

__all__ = ["Diversion"]


class Sessions(Protocol):
    """Who has the sessions."""

    limits: EnvelopeLimits

    def accept(self, link: Link) -> ServerSession:
        """Take in a connection."""

    def gone(self, session: ServerSession, reason: str) -> None:
        """Take in that a connection has ended."""

    def refuse_unnamed(self, session: ServerSession) -> None:
        """Refuse a peer that gave its socket a name."""


class _Glimpse(msgspec.Struct):
    """What tells an envelope from a request: requests have `v`, envelopes a dotted type."""

    type: Any = ""
    v: Any | UnsetType = UNSET


class Diversion:
    """Finds the envelopes on a control socket, and gives each client's to its session.

    Parameters
    ----------
    control
        Whose socket.
    sessions
        Whose sessions.
    say_again
        Sends a client of protocol 1 what it knows, to learn whether it is there.
    """

    def __init__(
        self,
        control: ControlServer,
        sessions: Sessions,
        *,
        say_again: Callable[[ServerSession], object],
    ) -> None:
        self._control = control
        self._sessions = sessions
        self._say_again = say_again
        self._by_peer: dict[bytes, ServerSession] = {}
        self._attached = False

    def attach(self) -> None:
        """Begin."""
        self._attached = True
        self._control.divert_json(self._receive)
        self._control.on_peer_lost(self._on_peer_lost)
        self._control.on_disconnected(self._look_for_lost)

    def detach(self) -> None:
        """Take in no new session."""
        self._attached = False

    def _receive(
        self,
        envelope: tuple[bytes, ...],
        content: Sequence[bytes],
        identify: Callable[[str | None], Peer],
    ) -> bool:
        session = self._by_peer.get(envelope[0])
        type_ = self._type_of(content, session)
        if type_ is None:
            return False
        if session is not None and type_ == "session.hello":
            # This carrier cannot hang up, so a client begins again on the same connection.
            self._sessions.gone(session, "the client began again")
            session = None
        if session is None:
            if not self._attached:
                return False
            session = self._accept(envelope, identify)
        if envelope[0][:1] != b"\0":
            # A name that a peer chose may belong to another one tomorrow.
            self._sessions.refuse_unnamed(session)
            return True
        session.received(content[0])
        return True

    def _type_of(self, content: Sequence[bytes], session: ServerSession | None) -> str | None:
        """Read the type of an envelope; empty if it cannot be read, None if it is none of ours."""
        if len(content) != 1:
            return None
        limits = self._sessions.limits
        if session is None and len(content[0]) > limits.stranger_bytes:
            return None
        unreadable = "" if session is not None else None
        if len(content[0]) > limits.nbytes:
            return unreadable
        try:
            seen = from_json(content[0], _Glimpse)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return unreadable
        if seen.v is not UNSET or not isinstance(seen.type, str):
            return None if seen.v is not UNSET else unreadable
        return seen.type if session is not None or "." in seen.type else None

    def _accept(
        self, envelope: tuple[bytes, ...], identify: Callable[[str | None], Peer]
    ) -> ServerSession:
        address = f"{self._control.url} peer {envelope[0].hex()}"
        peer = LinkPeer(carrier="zmq", address=address, identify=identify)
        link = ControlLink(self._control, envelope, peer)
        session = self._sessions.accept(link)
        self._by_peer[envelope[0]] = session
        link.on_closed = lambda: self._by_peer.pop(envelope[0], None)
        link.on_lost = lambda: self._lost(envelope[0])
        return session

    def _lost(self, peer_id: bytes) -> None:
        session = self._by_peer.pop(peer_id, None)
        if session is not None:
            self._sessions.gone(session, "the connection broke")

    def _on_peer_lost(self, peer: Peer) -> None:
        self._lost(peer.id)

    def make_room(self) -> None:
        """Find the clients of protocol 1 that are gone, by telling each what it knows already."""
        greeted = {peer.id for peer in self._control.peers}  # those are looked after there
        for peer_id, session in tuple(self._by_peer.items()):
            if peer_id not in greeted and session.protocol == 1:
                self._say_again(session)

    def _look_for_lost(self) -> None:
        """Learn that some connection ended; those of ours that are gone refuse a heartbeat."""
        for session in tuple(self._by_peer.values()):
            if session.machine.state is State.OPEN and session.protocol >= 2:
                session.send(session.writer.heartbeat())
