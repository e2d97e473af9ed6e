"""Ends: who waits for the end of which job."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import BusyError
from zmqruntime.control._messages import Reply
from zmqruntime.execution._step import complete

if TYPE_CHECKING:
    from zmqruntime.execution._record import JobRecord

    End = Future[Reply]

__all__ = ["Ends", "end_reply"]


class Ends:
    """Who waits for the end of which job; any thread.

    Parameters
    ----------
    most
        How many may.
    """

    def __init__(self, *, most: int = 10_000) -> None:
        self._most = most
        self._lock = threading.Lock()  # guards the next two
        self._waiting: dict[str, list[End]] = {}
        self._count = 0

    def expect(self, id_: str) -> End:
        """Return what will hold the answer once a job is over; cancelled, it is forgotten.

        Raises
        ------
        BusyError
            If too many wait already.
        """
        future: End = Future()
        with self._lock:
            if self._count >= self._most:
                raise BusyError(f"{self._count} wait for jobs already", retryable=True)
            self._count += 1
            self._waiting.setdefault(id_, []).append(future)
        future.add_done_callback(lambda _: self._forget(id_, future))
        return future

    def tell(self, record: JobRecord) -> None:
        """Tell those who wait for a job that it is over."""
        with self._lock:
            waiting = self._waiting.pop(record.id, [])
            self._count -= len(waiting)
        if waiting:
            reply = end_reply(record)
            for future in waiting:
                complete(future, reply)

    def __len__(self) -> int:
        return self._count

    def _forget(self, id_: str, future: End) -> None:
        with self._lock:
            waiting = self._waiting.get(id_, [])
            if future in waiting:
                waiting.remove(future)
                self._count -= 1
                if not waiting:
                    del self._waiting[id_]


def end_reply(record: JobRecord) -> Reply:
    """Make the answer to who waits for a job that is over."""
    return Reply({"record": msgspec.to_builtins(record)})
