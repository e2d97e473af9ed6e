"""WaitingLine: whose turn it is; higher priorities first, then clients in turn."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from itertools import count, islice, zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WaitingLine"]


@dataclass(frozen=True, slots=True)
class _Place:
    id_: str
    client: str
    priority: int
    begun: bool


@dataclass(slots=True)
class _Rank:
    """Jobs of equal priority, by their numbers: those that were begun, and the others' clients."""

    begun: list[int] = field(default_factory=list)
    fresh: dict[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.begun) + sum(map(len, self.fresh.values()))


class WaitingLine:
    """Jobs that wait, in the order in which they will begin; any thread.

    Of equal priority, a job that was begun before comes first. The clients of the others have a
    turn each: whoever had one the longest ago is next, with the oldest of its jobs. So a client
    with one job waits for one of each other client's, however many those have.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._places: dict[int, _Place] = {}
        self._ranks: dict[int, _Rank] = {}
        self._waiting: Counter[str] = Counter()
        self._turns: dict[str, int] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, id_: str, *, client: str, priority: int, seq: int, begun: bool = False) -> None:
        """Take a job in.

        Parameters
        ----------
        id_
            Its name.
        client
            Whose it is.
        priority
            Higher ones come first.
        seq
            Its place in the order of acceptance.
        begun
            Whether it was begun before, and is put back.
        """
        with self._lock:
            place = self._places[seq] = _Place(id_, client, priority, begun)
            self._waiting[client] += 1
            rank = self._ranks.setdefault(priority, _Rank())
            insort(rank.begun if begun else rank.fresh.setdefault(place.client, []), seq)

    def remove(self, seq: int, *, begins: bool = False) -> bool:
        """Take a job out; False when it was not there.

        Parameters
        ----------
        seq
            Its place in the order of acceptance.
        begins
            Whether its turn has come, so that its client has had one.
        """
        with self._lock:
            place = self._places.pop(seq, None)
            if place is None:
                return False
            rank = self._ranks[place.priority]
            if place.begun:
                rank.begun.remove(seq)
            else:
                own = rank.fresh[place.client]
                del own[bisect_left(own, seq)]
                if not own:
                    del rank.fresh[place.client]
            if not len(rank):
                del self._ranks[place.priority]
            self._waiting[place.client] -= 1
            if not self._waiting[place.client]:
                del self._waiting[place.client]
            if begins:
                self._turns[place.client] = next(self._numbers)
            return True

    def position(self, seq: int) -> int | None:
        """Say whose turn it is after how many others, from 1; None when it does not wait."""
        with self._lock:
            place = self._places.get(seq)
            if place is None:
                return None
            higher = sum(len(r) for priority, r in self._ranks.items() if priority > place.priority)
            rank = self._ranks[place.priority]
            if place.begun:
                return higher + rank.begun.index(seq) + 1
            before = bisect_left(rank.fresh[place.client], seq)
            clients = self._in_turn(rank)
            own = clients.index(place.client)
            others = sum(
                min(len(rank.fresh[client]), before + (number < own))
                for number, client in enumerate(clients)
                if client != place.client
            )
            return higher + len(rank.begun) + before + others + 1

    def first(self, most: int) -> list[str]:
        """Name those whose turn is next, without taking them out."""
        with self._lock:
            return [self._places[seq].id_ for seq in islice(self._order(), most)]

    def waiting_of(self, client: str) -> int:
        """Say how many jobs of a client wait."""
        with self._lock:
            return self._waiting[client]

    def _order(self) -> Iterator[int]:
        """Go through all that wait, in the order of their turns; under the lock."""
        for priority in sorted(self._ranks, reverse=True):
            rank = self._ranks[priority]
            yield from rank.begun
            rounds = zip_longest(*(rank.fresh[client] for client in self._in_turn(rank)))
            yield from (seq for each in rounds for seq in each if seq is not None)

    def _in_turn(self, rank: _Rank) -> list[str]:
        """Give the clients in the order in which they are next."""
        return sorted(rank.fresh, key=lambda each: (self._turns.get(each, 0), rank.fresh[each][0]))
