"""Inbox: what has arrived and waits for the application, whichever thread that is."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

from zmqruntime.data._item import Item
from zmqruntime.loop._wake import WakeDescriptor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zmqruntime.data._gaps import Gap

__all__ = ["Inbox"]


class Inbox:
    """Items and gaps in the order of their streams, until they are taken.

    Credit bounds how many there can be. Any thread may call any method.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards what follows
        self._queue: deque[Item | Gap] = deque()
        self._wake: WakeDescriptor | None = None
        self._counters: Counter[str] = Counter()
        self.closed = False

    def fileno(self) -> int:
        """Return a descriptor that is readable while something waits.

        Raises
        ------
        ValueError
            If it is closed.
        """
        with self._changed:
            if self.closed:
                raise ValueError("the subscriber is closed and has no descriptor")
            if self._wake is None:
                self._wake = WakeDescriptor()
                self._wake.set(on=bool(self._queue))
            return self._wake.fileno()

    def take(self, limit: int | None) -> list[Item | Gap]:
        """Take what waits, at most so many, without waiting."""
        with self._changed:
            count = len(self._queue) if limit is None else min(limit, len(self._queue))
            taken = [self._queue.popleft() for _ in range(count)]
            if self._wake is not None:
                self._wake.set(on=bool(self._queue))
        return taken

    def wait(self, timeout: float | None) -> bool:
        """Wait until something waits, or it is closed; say whether something does."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self.closed, timeout)
            return bool(self._queue)

    def put(self, found: Sequence[Item | Gap]) -> None:
        """Add what arrived; once closed it is released at once."""
        if not found:
            return
        with self._changed:
            if not self.closed:
                self._queue.extend(found)
                if self._wake is not None:
                    self._wake.set(on=True)
                self._changed.notify_all()
                return
        _release(found)

    def count(self, book: dict[str, int]) -> None:
        """Add to the totals."""
        with self._changed:
            self._counters.update(book)

    @property
    def counters(self) -> Counter[str]:
        """The totals, a copy."""
        with self._changed:
            return Counter(self._counters)

    def shut(self) -> bool:
        """Let nothing in any more and release what waits; say whether it was open."""
        with self._changed:
            if self.closed:
                return False
            self.closed = True
            unread = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        _release(unread)
        return True

    def close(self) -> None:
        """Close the descriptor too, when nobody watches it any more."""
        if self._wake is not None:
            self._wake.close()


def _release(entries: Sequence[Item | Gap]) -> None:
    for entry in entries:
        if isinstance(entry, Item):
            entry.lease.release()
