"""The book of an arena's slots: which are free, who holds the others, since when.

It is sans-IO: it knows numbers, not memory. Each filling of a slot has a generation of its own, so
that a late word about an earlier filling changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLease:
    """One holder's claim on one filling of a slot.

    Attributes
    ----------
    slot
        Number of the slot, from 0.
    generation
        Which filling of the slot, from 1.
    holder
        Who may read it.
    """

    slot: int
    generation: int
    holder: str


@dataclass(slots=True)
class _Slot:
    generation: int = 0
    holders: dict[str, float] = field(default_factory=dict)  # holder -> lease ends at


class SlotBook:
    """Keep account of slots that are lent to readers.

    Parameters
    ----------
    slots
        How many there are, at least 1.
    ttl
        Seconds after which a lease ends unless its holder renews it.

    Raises
    ------
    ValueError
        If there are no slots or the time is not positive.
    """

    def __init__(self, slots: int, *, ttl: float = 30.0) -> None:
        if slots < 1 or ttl <= 0:
            msg = f"an arena needs at least one slot and a positive lease time, not {slots}, {ttl}"
            raise ValueError(msg)
        self._slots = [_Slot() for _ in range(slots)]
        # The slot that came back last is lent first: its memory is still in the cache.
        self._free = list(range(slots - 1, -1, -1))
        self._ttl = ttl

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return len(self._free)

    def take(self, holders: Iterable[str], *, now: float) -> tuple[int, int] | None:
        """Lend a free slot.

        Parameters
        ----------
        holders
            Who will read it; at least one, each counted once.
        now
            Time, in seconds.

        Returns
        -------
        tuple[int, int] | None
            Slot and its new generation; None if none is free.

        Raises
        ------
        ValueError
            If nobody would hold the slot.
        """
        ends = dict.fromkeys(holders, now + self._ttl)
        if not ends:
            msg = "a slot is lent to at least one holder"
            raise ValueError(msg)
        if not self._free:
            return None
        number = self._free.pop()
        slot = self._slots[number]
        slot.generation += 1
        slot.holders = ends
        return number, slot.generation

    def give_back(self, slot: int, generation: int, holder: str) -> bool:
        """End one lease.

        Parameters
        ----------
        slot, generation, holder
            The lease. One that is not known (late, repeated, invented) is ignored.

        Returns
        -------
        bool
            Whether the lease existed.
        """
        if not 0 <= slot < len(self._slots):
            return False
        held = self._slots[slot]
        if held.generation != generation or holder not in held.holders:
            return False
        del held.holders[holder]
        if not held.holders:
            self._free.append(slot)
        return True

    def renew(self, holder: str, *, now: float) -> None:
        """Prolong every lease of a holder, who has given a sign of life.

        Parameters
        ----------
        holder
            Whose leases.
        now
            Time, in seconds.
        """
        for slot in self._slots:
            if holder in slot.holders:
                slot.holders[holder] = now + self._ttl

    def drop(self, holder: str) -> list[SlotLease]:
        """End every lease of a holder that is gone.

        Parameters
        ----------
        holder
            Whose leases.

        Returns
        -------
        list[SlotLease]
            The leases that ended.
        """
        return self._end(lambda who, _ends: who == holder)

    def expire(self, *, now: float) -> list[SlotLease]:
        """End the leases whose time has run out.

        Parameters
        ----------
        now
            Time, in seconds.

        Returns
        -------
        list[SlotLease]
            The leases that ended; what they covered may be overwritten from now on.
        """
        return self._end(lambda _who, ends: ends <= now)

    def next_expiry(self) -> float | None:
        """Say when the first lease runs out; None while nothing is lent."""
        return min((end for slot in self._slots for end in slot.holders.values()), default=None)

    def _end(self, over: Callable[[str, float], bool]) -> list[SlotLease]:
        ended = [
            SlotLease(slot=number, generation=slot.generation, holder=who)
            for number, slot in enumerate(self._slots)
            for who, ends in slot.holders.items()
            if over(who, ends)
        ]
        for lease in ended:
            self.give_back(lease.slot, lease.generation, lease.holder)
        return ended
