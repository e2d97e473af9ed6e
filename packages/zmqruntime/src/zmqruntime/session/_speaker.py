"""Speaker: what the parts of a client need of its session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections import Counter

    from zmqruntime._loop import IOThread
    from zmqruntime.session._shapes import Body, Envelope

__all__ = ["Speaker"]


class Speaker(Protocol):
    """A session, as the parts of its client see it; used on its loop."""

    loop: IOThread
    counters: Counter[str]

    @property
    def connected(self) -> bool:
        """Whether the session is open."""

    @property
    def closed(self) -> bool:
        """Whether it is over for good."""

    @property
    def protocol(self) -> int:
        """What is spoken."""

    @property
    def session_id(self) -> str:
        """Name of the session."""

    def send(self, envelope: Envelope) -> bool:
        """Send an envelope; False when it was not."""

    def frame(self, shape: type[Any], payload: Body, *, frame_id: str | None = None) -> Envelope:
        """Make an envelope of protocol 2."""
