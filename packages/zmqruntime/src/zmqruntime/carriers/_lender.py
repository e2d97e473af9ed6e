"""The arenas of one producer: the one in use, and older ones that are still being read."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime.carriers._arena import Arena
from zmqruntime.carriers._layout import packed_bytes
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._slots import SlotBook, SlotLease

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from zmqruntime.carriers._layout import SlotReference

SLOTS = 8
_LEAST_SLOT = 1 << 20
_MOST_ARENAS = 8


@dataclass(frozen=True, slots=True)
class LentSlot:
    """A slot that was taken and is to be filled, or has been.

    Attributes
    ----------
    arena
        Name of the segment.
    slot, generation
        Number of the slot and of its filling.
    """

    arena: str
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class _Entry:
    arena: Arena
    book: SlotBook


class SlotLender:
    """Lend slots of shared memory; make a larger arena when a payload needs one.

    Parameters
    ----------
    budget_bytes
        Most bytes of one arena's slots together.
    ttl
        Seconds after which a lease ends unless it is renewed.
    directory
        Where segments are made; a tmpfs.
    slots
        Most slots of one arena; as many as the budget has room for are made.
    checksums
        Whether to leave a checksum with each payload.

    Notes
    -----
    Any thread may call any method. An arena that was replaced is removed when its last lease ends.
    """

    def __init__(
        self,
        *,
        budget_bytes: int = 256 << 20,
        ttl: float = 30.0,
        directory: Path = SHARED_MEMORY,
        slots: int = SLOTS,
        checksums: bool = False,
    ) -> None:
        self._checksums = checksums
        self._slots = slots
        self._budget = budget_bytes
        self._ttl = ttl
        self._directory = directory
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._current: _Entry | None = None

    @property
    def current(self) -> str | None:
        """Name of the arena in use, or None."""
        with self._lock:
            return None if self._current is None else self._current.arena.name

    @property
    def slots(self) -> int:
        """How many slots the arena in use has; 0 if there is none."""
        with self._lock:
            return 0 if self._current is None else self._current.arena.slots

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of all arenas, replaced ones included."""
        with self._lock:
            return tuple(self._entries)

    def could_hold(self, sizes: Sequence[int]) -> bool:
        """Say whether buffers of these sizes fit into an arena within the budget."""
        return packed_bytes(sizes) <= self._budget

    def fits(self, sizes: Sequence[int]) -> bool:
        """Say whether buffers of these sizes fit into a slot of the arena in use."""
        with self._lock:
            current = self._current
        return current is not None and packed_bytes(sizes) <= current.arena.slot_bytes

    def grow(self, sizes: Sequence[int]) -> str:
        """Make an arena whose slots hold buffers of these sizes, and use it from now on.

        Parameters
        ----------
        sizes
            Bytes of each buffer, for which `could_hold` is true.

        Returns
        -------
        str
            Name of the segment.

        Raises
        ------
        OSError
            If it cannot be made; ENOSPC when shared memory is full. The old one stays in use.
        """
        need = max(packed_bytes(sizes), _LEAST_SLOT)
        slots = max(1, min(self._slots, self._budget // need))
        with self._lock:
            if len(self._entries) >= _MOST_ARENAS:
                raise OSError(f"{_MOST_ARENAS} arenas are still being read; none is made")
        arena = Arena(slot_bytes=need, slots=slots, directory=self._directory)
        with self._lock:
            self._current = _Entry(arena, SlotBook(slots, ttl=self._ttl))
            self._entries[arena.name] = self._current
            self._retire()
        return arena.name

    def take(self, sizes: Sequence[int], holders: Iterable[str], *, now: float) -> LentSlot | None:
        """Lend a slot of the arena in use, which is free again when all have given it back.

        Parameters
        ----------
        sizes
            Bytes of each buffer.
        holders
            Who will read it; at least one.
        now
            Time, in seconds.

        Returns
        -------
        LentSlot | None
            The slot; None if they do not fit or none is free.
        """
        with self._lock:
            current = self._current
            if current is None or packed_bytes(sizes) > current.arena.slot_bytes:
                return None
            taken = current.book.take(holders, now=now)
        return None if taken is None else LentSlot(current.arena.name, *taken)

    def fill(
        self, lent: LentSlot, buffers: Sequence[memoryview], *, sequence: int
    ) -> SlotReference:
        """Copy buffers into a slot that was taken.

        Parameters
        ----------
        lent
            The slot.
        buffers
            Plain bytes.
        sequence
            Number of the payload.

        Returns
        -------
        SlotReference
            Where they lie.

        Raises
        ------
        ValueError
            If they do not fit.
        """
        with self._lock:
            arena = self._entries[lent.arena].arena
        return arena.fill(
            lent.slot,
            lent.generation,
            buffers,
            sequence=sequence,
            checksum=self._checksums,
        )

    def give_back(self, lent: LentSlot, holder: str) -> bool:
        """End a lease; one that is not known is ignored, and False returned."""
        with self._lock:
            entry = self._entries.get(lent.arena)
            ended = entry is not None and entry.book.give_back(lent.slot, lent.generation, holder)
            self._retire()
        return ended

    def renew(self, holder: str, *, now: float) -> None:
        """Prolong every lease of a holder."""
        with self._lock:
            for entry in self._entries.values():
                entry.book.renew(holder, now=now)

    def drop(self, holder: str) -> tuple[LentSlot, ...]:
        """End every lease of a holder that is gone, and return them."""
        with self._lock:
            ended = [
                _lent(name, lease)
                for name, entry in self._entries.items()
                for lease in entry.book.drop(holder)
            ]
            self._retire()
        return tuple(ended)

    def expire(self, *, now: float) -> tuple[tuple[str, LentSlot], ...]:
        """End the leases whose time has run out, and say whose they were."""
        with self._lock:
            ended = [
                (lease.holder, _lent(name, lease))
                for name, entry in self._entries.items()
                for lease in entry.book.expire(now=now)
            ]
            self._retire()
        return tuple(ended)

    def next_expiry(self) -> float | None:
        """Say when the first lease runs out; None while nothing is lent."""
        with self._lock:
            times = [entry.book.next_expiry() for entry in self._entries.values()]
        return min((time for time in times if time is not None), default=None)

    def close(self) -> None:
        """Remove every segment; a second call does nothing. Readers keep what they have mapped."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
            self._current = None
        for entry in entries:
            entry.arena.close()

    def _retire(self) -> None:
        """Remove replaced arenas that nobody reads any more; under the lock."""
        for name, entry in list(self._entries.items()):
            if entry is not self._current and entry.book.free == entry.arena.slots:
                del self._entries[name]
                entry.arena.close()


def _lent(arena: str, lease: SlotLease) -> LentSlot:
    return LentSlot(arena, lease.slot, lease.generation)
