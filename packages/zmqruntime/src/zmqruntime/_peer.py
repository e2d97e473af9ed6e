"""Peer: who sent a request, as far as the server knows."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime._codec import Encoding
    from zmqruntime._handshake import Hello

__all__ = ["OPEN_GRANTS", "Peer"]

OPEN_GRANTS = frozenset({"call:*", "command:*", "pipeline:*", "state:*", "topic:*"})
"""What an insecure server lets anybody do: use it, but neither stop it nor read its files."""


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
    """

    id: bytes
    owner: bool
    permitted: bool
    encoding: Encoding
    hello: Hello | None = None
    grants: frozenset[str] = frozenset()

    def may(self, capability: str) -> bool:
        """Say whether the peer may do something; what was not granted is denied.

        Parameters
        ----------
        capability
            For example ``service:shutdown`` or ``call:camera.snap``.
        """
        return self.owner or any(fnmatchcase(capability, grant) for grant in self.grants)

    def __str__(self) -> str:
        if self.hello is None:
            return f"peer {self.id.hex()}"
        return f"{self.hello.app.name} (pid {self.hello.process.pid}, peer {self.id.hex()})"
