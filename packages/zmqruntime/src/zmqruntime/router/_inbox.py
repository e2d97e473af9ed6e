"""Inbox: what a client keeps of a stream until the program asks for it.

Sans-IO: the client's thread puts in, the program's threads take out.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from zmqruntime.data._gaps import Gap, GapReason

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Inbox", "Storage"]

T = TypeVar("T")

_MOST_GAPS = 1000


class Storage(StrEnum):
    """What is kept when data come faster than they are read.

    CACHE keeps the newest alone; QUEUE keeps all in order, up to a limit.
    """

    CACHE = "cache"
    QUEUE = "queue"


class Inbox(Generic[T]):
    """Data of one stream that wait to be read.

    Parameters
    ----------
    topic
        Name of the stream.
    storage
        What to keep.
    limit
        Most that a queue keeps; when it is full the oldest goes, and is reported as a gap.
    on_drop
        Called with what goes unread, to give its memory back.

    Raises
    ------
    ValueError
        If the limit is not at least 1.
    """

    def __init__(
        self,
        topic: str,
        storage: Storage,
        *,
        limit: int = 1000,
        on_drop: Callable[[T], object] = lambda _entry: None,
    ) -> None:
        if limit < 1:
            raise ValueError(f"a queue keeps at least 1, not {limit}")
        self.topic = topic
        self.storage = storage
        self.limit = 1 if storage is Storage.CACHE else limit
        self.superseded = 0
        """Data that newer ones replaced in a cache before they were read."""
        self.unreadable = 0
        """Data that came and could not be read."""
        self._on_drop = on_drop
        self._entries: deque[tuple[str, int, T]] = deque()
        self.missing = 0
        """Data that did not arrive, or went unread because the queue was full."""
        self._gaps: deque[Gap] = deque(maxlen=_MOST_GAPS)
        self._changed = threading.Condition()
        self._closed = False
        self.alarms = 0
        """How often `alarm` was called."""

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: T, *, epoch: str, sequence: int) -> None:
        """Take in what arrived.

        Parameters
        ----------
        entry
            The data.
        epoch, sequence
            Which run of the stream, and its number in it.
        """
        dropped: T | None = None
        with self._changed:
            if self._closed:
                dropped = entry
            else:
                if len(self._entries) >= self.limit:
                    old_epoch, old_sequence, dropped = self._entries.popleft()
                    if self.storage is Storage.CACHE:
                        self.superseded += 1
                    else:
                        self._report_overflow(old_epoch, old_sequence)
                self._entries.append((epoch, sequence, entry))
                self._changed.notify()
        if dropped is not None:
            self._on_drop(dropped)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def supersede(self, count: int) -> None:
        """Count data that were replaced by newer ones before they came here."""
        with self._changed:
            self.superseded += count

    def report(self, gap: Gap) -> None:
        """Take in that data are missing."""
        with self._changed:
            self._add_gap(gap)

    def take(self) -> T | None:
        """Take the oldest out, or None when there is nothing."""
        with self._changed:
            return self._entries.popleft()[2] if self._entries else None

    def wait(self, timeout: float | None, *, alarms: int | None = None) -> T | None:
        """Take the oldest out, and wait for it.

        Parameters
        ----------
        timeout
            Longest wait in seconds; None waits for ever.
        alarms
            `alarms` as it was before the caller looked at what else may have changed, so that
            no alarm in between is missed; None is now.

        Returns
        -------
        T or None
            None if nothing came in time, or `alarm` or `close` was called meanwhile.
        """
        with self._changed:
            seen = self.alarms if alarms is None else alarms
            self._changed.wait_for(
                lambda: bool(self._entries) or self._closed or self.alarms != seen, timeout
            )
            return self._entries.popleft()[2] if self._entries else None

    def alarm(self) -> None:
        """Wake everybody who waits, although nothing came."""
        with self._changed:
            self.alarms += 1
            self._changed.notify_all()

    def take_gaps(self) -> list[Gap]:
        """Hand over what was missing since the last time."""
        with self._changed:
            gaps = list(self._gaps)
            self._gaps.clear()
            return gaps

    def close(self) -> None:
        """Keep nothing, now and later."""
        with self._changed:
            self._closed = True
            entries = [entry for _, _, entry in self._entries]
            self._entries.clear()
            self._changed.notify_all()
        for entry in entries:
            self._on_drop(entry)

    def _report_overflow(self, epoch: str, sequence: int) -> None:
        self._add_gap(
            Gap(
                topic=self.topic,
                epoch=epoch,
                first=sequence,
                last=sequence,
                reason=GapReason.EVICTED,
                detail=f"more than {self.limit} waited to be read here",
            )
        )

    def _add_gap(self, gap: Gap) -> None:
        """Note a gap; neighbours for one reason become one. All are counted, the last ones kept."""
        self.missing += len(gap)
        last = self._gaps[-1] if self._gaps else None
        if last is not None and (last.epoch, last.reason, last.last + 1) == (
            gap.epoch,
            gap.reason,
            gap.first,
        ):
            self._gaps[-1] = replace(last, last=gap.last)
            return
        self._gaps.append(gap)
