"""Peer: who sent a request, as far as the server knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.control._codec import Encoding
    from zmqruntime.control._handshake import Hello

__all__ = ["NOWHERE", "OPEN_GRANTS", "Peer", "Source"]

OPEN_GRANTS = frozenset({"call:*", "command:*", "pipeline:*", "state:*", "topic:*"})
"""What an insecure server lets anybody do: use it, but neither stop it nor read its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a message comes from, as the socket says it; nothing of this is read from a frame.

    Attributes
    ----------
    key
        Public key that the connection has proved to own, 40 characters of Z85; empty without
        keys.
    address
        Host that it comes from; empty when nobody asked.
    descriptor
        Of the connection in this process, -1 when unknown.
    """

    key: str = ""
    address: str = ""
    descriptor: int = -1


NOWHERE = Source()
"""Of a message whose source nobody asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who sent a request.

    Attributes
    ----------
    id
        Routing id that the server's socket gave the connection; new after a reconnect.
    owner
        Whether the peer has shown the owner token of the server.
    permitted
        Whether the peer may ask for more than a sign of life.
    encoding
        How it writes, and is written to.
    hello
        What it said of itself, or None before it did.
    grants
        Capabilities it was given, in the notation of `fnmatch`; an owner needs none.
    source
        Where its messages come from; `Source.key` is its identity on a server with keys.
    name
        What the server's user calls its key; empty without keys.
    witness
        Told of every capability that is asked for, and whether it was there; None tells nobody.
    """

    id: bytes
    owner: bool
    permitted: bool
    encoding: Encoding
    hello: Hello | None = None
    grants: frozenset[str] = frozenset()
    source: Source = NOWHERE
    name: str = ""
    witness: Callable[[Peer, str, bool], object] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def client(self) -> str:
        """Who the peer is, as the socket knows it.

        All who show the owner token are one; others are the key that they have proved to own.
        Without keys, all others are one too.
        """
        return "owner" if self.owner else self.source.key

    def may(self, capability: str) -> bool:
        """Say whether the peer may do something; what was not granted is denied.

        Parameters
        ----------
        capability
            For example ``service:shutdown`` or ``call:camera.snap``.
        """
        allowed = self.holds(capability)
        if self.witness is not None:
            self.witness(self, capability, allowed)
        return allowed

    def holds(self, capability: str) -> bool:
        """Say the same without telling the witness; for who writes down what became of it."""
        return self.owner or any(fnmatchcase(capability, grant) for grant in self.grants)

    def __str__(self) -> str:
        who = f"{self.name}: " if self.name else ""
        if self.hello is None:
            return f"{who}peer {self.id.hex()}"
        return f"{who}{self.hello.app.name} (pid {self.hello.process.pid}, peer {self.id.hex()})"
