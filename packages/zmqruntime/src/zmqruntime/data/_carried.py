"""Carried: what a receiver that was lost is owed, until it or its successor takes part again.

Sans-IO and not safe for threads.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING

from zmqruntime.data._gaps import Gap, GapReason
from zmqruntime.data._replay import Queued, QueuedLoss

if TYPE_CHECKING:
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._outgoing import Outgoing

__all__ = ["Carried"]


class Carried:
    """What a receiver that was lost is owed when it, or its successor, comes again.

    Parameters
    ----------
    limit
        Most bytes; the oldest payloads go first and become a gap.
    since
        When it was lost, in seconds.
    """

    def __init__(self, limit: int, *, since: float = 0.0) -> None:
        self._limit = limit
        self.since = since
        self._entries: deque[Queued] = deque()
        self._losses: Counter[GapReason] = Counter()
        self.nbytes = 0

    def __bool__(self) -> bool:
        return bool(self._entries or self._losses)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the payloads that are kept."""
        return frozenset(entry.payload.key for entry in self._entries)

    def has(self, payload: Outgoing) -> bool:
        """Say whether a payload that was published just now is among what is kept."""
        return any(entry.payload is payload for entry in islice(reversed(self._entries), 16))

    def take_over(self, lane: Lane) -> int:
        """Take what a run leaves that has ended: what was under way, and what waited.

        Returns
        -------
        int
            How many payloads found no room.
        """
        gone = 0
        kept = lane.ring.take()
        numbers = {entry.again for entry in kept}
        under_way = (sequence for sequence, _ in lane.outbox.unacknowledged())
        self._losses[GapReason.EVICTED] += sum(each not in numbers for each in under_way)
        for loss in lane.outbox.losses.take():
            self._losses[loss.reason] += loss.last - loss.first + 1
        for entry in (*kept, *lane.take_queue()):
            if isinstance(entry, QueuedLoss):
                self._losses[entry.reason] += entry.count
            else:
                gone += self.add(entry)
        return gone

    def add(self, entry: Queued) -> int:
        """Add what was published meanwhile, and say how many payloads had to go for it."""
        self._entries.append(entry)
        self.nbytes += entry.cost
        gone = 0
        while self.nbytes > self._limit:
            self.nbytes -= self._entries.popleft().cost
            gone += 1
        self._losses[GapReason.EVICTED] += gone
        return gone

    def forget_evicted(self) -> None:
        """Leave it to somebody else to send what is no longer kept."""
        del self._losses[GapReason.EVICTED]

    def hand_to(self, lane: Lane) -> list[Gap]:
        """Begin a new run with it: first the gaps, which are returned, then the payloads."""
        gaps = [lane.outbox.lose_next(count, why) for why, count in self._losses.items() if count]
        lane.enqueue(self._entries)
        self._losses.clear()
        self._entries.clear()
        self.nbytes = 0
        return gaps
