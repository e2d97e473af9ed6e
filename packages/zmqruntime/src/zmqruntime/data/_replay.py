"""What a producer keeps of payloads that nobody has acknowledged, bounded in bytes.

Sans-IO and not safe for threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime.data._gaps import GapReason
    from zmqruntime.data._outgoing import Outgoing

__all__ = ["Queued", "QueuedLoss", "ReplayRing", "cost"]

_OVERHEAD_BYTES = 512
"""What a payload costs beside its bytes, so that many empty ones are bounded too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A payload that waits for room at one receiver.

    Attributes
    ----------
    payload
        Its bytes, which nobody changes.
    again
        Number under which it was sent before; 0 if never.
    retained
        Whether it was published before its receiver took part.
    """

    payload: Outgoing
    again: int = 0
    retained: bool = False

    @property
    def cost(self) -> int:
        """Bytes that it binds."""
        return cost(self.payload)


@dataclass(slots=True, kw_only=True)
class QueuedLoss:
    """Payloads that are lost, in their place among those that wait.

    Attributes
    ----------
    reason
        Why.
    count
        How many, one after the other.
    """

    reason: GapReason
    count: int = 1


def cost(payload: Outgoing) -> int:
    """Say how many bytes a payload binds while it is kept."""
    return payload.total + len(payload.header) + _OVERHEAD_BYTES


class ReplayRing:
    """The newest payloads under way, by number, up to a limit in bytes.

    Parameters
    ----------
    limit
        Most bytes; 0 keeps nothing. The oldest go first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[int, Outgoing] = {}
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, sequence: int, payload: Outgoing) -> tuple[int, ...]:
        """Keep a payload.

        Parameters
        ----------
        sequence
            Its number, above those before.
        payload
            Its bytes, which nobody changes.

        Returns
        -------
        tuple[int, ...]
            Numbers that are no longer kept; the payload's own if it is too large by itself.
        """
        self._kept[sequence] = payload
        self.nbytes += cost(payload)
        evicted = []
        while self.nbytes > self._limit:
            oldest = next(iter(self._kept))
            self.done(oldest)
            evicted.append(oldest)
        return tuple(evicted)

    def done(self, sequence: int) -> None:
        """Forget a number that was acknowledged; others are ignored."""
        payload = self._kept.pop(sequence, None)
        if payload is not None:
            self.nbytes -= cost(payload)

    def find(self, first: int, last: int) -> list[Queued]:
        """List what is kept of a run of numbers, in order."""
        return [
            Queued(payload=payload, again=sequence)
            for sequence, payload in self._kept.items()
            if first <= sequence <= last
        ]

    def take(self) -> list[Queued]:
        """Hand everything over, oldest first."""
        kept = [Queued(payload=each, again=number) for number, each in self._kept.items()]
        self._kept.clear()
        self.nbytes = 0
        return kept
