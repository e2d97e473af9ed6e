"""What waits to be shown: the newest for each place, handed out in bounded batches."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from polystore._payload import Payload

__all__ = ["Batch"]

_Place = TypeVar("_Place", bound="Hashable")


class Batch(Generic[_Place]):
    """Payloads by place, in the order in which the places first came.

    Parameters
    ----------
    most_items, most_bytes
        Bounds of what `take` hands out at once; a single payload may be larger.

    Raises
    ------
    ValueError
        If a bound is below 1.
    """

    def __init__(self, *, most_items: int, most_bytes: int) -> None:
        if most_items < 1 or most_bytes < 1:
            raise ValueError(f"a batch holds at least one item: {most_items}, {most_bytes}")
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._waiting: dict[_Place, Payload] = {}
        # a dict whose first entries were taken out is searched from where they were, each time
        self._turns: deque[_Place] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def nbytes(self) -> int:
        """Bytes that wait."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._waiting) >= self._most_items or self._bytes >= self._most_bytes

    def get(self, place: _Place) -> Payload | None:
        """Give what waits at a place."""
        return self._waiting.get(place)

    def put(self, place: _Place, payload: Payload) -> Payload | None:
        """Let a payload wait; gives the older one at the same place, which is dropped.

        The place keeps its turn, so that what changes all the time is shown nevertheless.
        """
        waiting = self._waiting
        older = waiting.get(place)
        waiting[place] = payload
        if older is None:
            self._turns.append(place)
            self._bytes += payload.nbytes
        else:
            self._bytes += payload.nbytes - older.nbytes
        return older

    def take(self) -> tuple[list[_Place], list[Payload]]:
        """Hand out the next batch, places and their payloads, at least one if any waits."""
        waiting, turns = self._waiting, self._turns
        if len(waiting) <= self._most_items and self._bytes <= self._most_bytes:
            places = list(turns)
            turns.clear()
            self._bytes = 0
        else:
            places, left = [], self._most_bytes
            for place in islice(turns, self._most_items):
                left -= waiting[place].nbytes
                if left < 0 and places:
                    left += waiting[place].nbytes
                    break
                places.append(place)
            for _ in places:
                turns.popleft()
            self._bytes -= self._most_bytes - left
        return places, list(map(waiting.pop, places))

    def drop(self, unwanted: Callable[[_Place], bool]) -> list[Payload]:
        """Take out what waits at some places, and give it; linear in what waits."""
        gone = [self._waiting.pop(place) for place in self._turns if unwanted(place)]
        if gone:
            self._turns = deque(place for place in self._turns if place in self._waiting)
            self._bytes -= sum(payload.nbytes for payload in gone)
        return gone
