"""Peer: who sent a request, as far as the server knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime._codec import Encoding
    from zmqruntime._handshake import Hello

__all__ = ["Peer"]


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
    """

    id: bytes
    owner: bool
    permitted: bool
    encoding: Encoding
    hello: Hello | None = None

    def __str__(self) -> str:
        if self.hello is None:
            return f"peer {self.id.hex()}"
        return f"{self.hello.app.name} (pid {self.hello.process.pid}, peer {self.id.hex()})"
