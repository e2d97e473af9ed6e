"""Doorkeeper: who a peer is, what it may do, and what is written down of it."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from zmqruntime._errors import ForbiddenError, UnavailableError
from zmqruntime.control._codec import Encoding
from zmqruntime.control._peer import NOWHERE, OPEN_GRANTS, Peer

if TYPE_CHECKING:
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Source
    from zmqruntime.security._gate import Gate

__all__ = ["Doorkeeper"]


class Doorkeeper:
    """Knows peers by their connections, tokens and keys.

    Parameters
    ----------
    token
        Owner token; who shows it is the owner.
    open_to_all
        Permit peers without the token too.
    gate
        Keys, tokens and audit log of a server that has some; else None.
    """

    def __init__(self, token: str, *, open_to_all: bool, gate: Gate | None) -> None:
        self._token = token.encode()
        self._open_to_all = open_to_all
        self._gate = gate

    @property
    def keyed(self) -> bool:
        """Whether every connection has proved to own a key."""
        return self._gate is not None and self._gate.keyed

    def is_owner(self, token: str | None) -> bool:
        """Say whether a token is the owner's."""
        return token is not None and hmac.compare_digest(token.encode(), self._token)

    def permits(self, token: str | None) -> bool:
        """Say whether who shows a token, or none, may ask for more than a sign of life."""
        return self._open_to_all or self.is_owner(token)

    def identify(
        self,
        id_: bytes,
        encoding: Encoding,
        token: str | None,
        *,
        known: Peer | None,
        source: Source,
    ) -> Peer:
        """Say who asks.

        Parameters
        ----------
        id_
            Routing id of the connection.
        encoding
            How it writes.
        token
            What it shows with this request, or None.
        known
            What is remembered of the connection, or None.
        source
            Where the message comes from, as the socket says.

        Raises
        ------
        ForbiddenError
            If it shows a token that is not good.
        """
        settled = self._gate is None and known is not None and known.permitted
        if known is not None and settled and (known.owner or token is None):
            return known if known.encoding is encoding else replace(known, encoding=encoding)
        owner = self.is_owner(token)
        permitted = self._open_to_all or owner or (known is not None and known.permitted)
        grants, name, witness = OPEN_GRANTS if self._open_to_all else frozenset(), "", None
        if self._gate is not None:
            standing = self._gate.judge(source, token)
            permitted = permitted or standing.permitted
            grants, name, witness = standing.grants, standing.name, self._witness
        return Peer(
            id=id_,
            owner=owner or (known is not None and known.owner),
            permitted=permitted,
            encoding=encoding,
            hello=known.hello if known is not None else None,
            grants=grants,
            source=source,
            name=name,
            witness=witness,
        )

    def identify_bearer(self, token: str | None) -> Peer:
        """Say who shows a token on a connection that is not of the control socket.

        Parameters
        ----------
        token
            What was shown, or None.

        Raises
        ------
        ForbiddenError
            If the token is not good.
        """
        if self._gate is None or not self._gate.keyed:
            return self.identify(b"", Encoding.JSON, token, known=None, source=NOWHERE)
        if self.is_owner(token):
            return Peer(id=b"", owner=True, permitted=True, encoding=Encoding.JSON)
        claims = self._gate.bearer(token)
        return Peer(
            id=b"",
            owner=False,
            permitted=True,
            encoding=Encoding.JSON,
            grants=claims.caps,
            name=f"bearer {claims.jti}",
            witness=self._witness,
        )

    def require_admission(self, source: Source) -> None:
        """Refuse a message before it is decoded, if its sender's key is not let in any more.

        Raises
        ------
        ForbiddenError
            If it is not.
        """
        if self._gate is not None and not self._gate.admits(source):
            raise ForbiddenError("this key is not authorised here", code="unauthenticated")

    def require_capability(self, request: Request, peer: Peer, capability: str) -> None:
        """Refuse what a peer was not given, and what must not happen unrecorded but would.

        Raises
        ------
        ForbiddenError
            If the peer lacks the capability.
        UnavailableError
            If there must be a record and it cannot be written.
        """
        if not peer.holds(capability):
            self.note(request, peer, capability, "denied")
            raise ForbiddenError(
                f"{request.type!r} needs the capability {capability!r}, which {peer} was not given",
                details={"capability": capability},
            )
        if self._gate is None or not self._gate.is_privileged(capability):
            return
        if not self.note(request, peer, capability, "begun"):
            raise UnavailableError(
                f"{request.type!r} is refused while the audit log of this server cannot be written",
                retryable=True,
            )

    def note(
        self,
        request: Request,
        peer: Peer,
        capability: str,
        verdict: str,
        *,
        ms: float | None = None,
    ) -> bool:
        """Write down what became of a request; False when that is wanted and cannot be done."""
        return self._gate is None or self._gate.note(
            peer.source,
            peer.name,
            what=request.type,
            capability=capability,
            verdict=verdict,
            trace=request.trace or "",
            ms=ms,
        )

    def _witness(self, peer: Peer, capability: str, allowed: bool) -> None:
        """Write down that a capability was asked for; any thread."""
        if self._gate is not None:
            verdict = "allowed" if allowed else "denied"
            self._gate.note(
                peer.source, peer.name, what="may", capability=capability, verdict=verdict
            )
