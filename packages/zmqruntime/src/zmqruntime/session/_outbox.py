"""Outbox: what waits for one client; no input or output of its own."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Outbox"]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    data: bytes
    key: tuple[str, ...] | None
    lossy: bool
    mark: tuple[str, int] | None


class Outbox:
    """Envelopes for one client, as fast as it takes them and no faster.

    Parameters
    ----------
    send
        Hands one envelope to the carrier, and says False when that takes no more for now.
    entries, nbytes
        What may wait.

    Notes
    -----
    Answers and acknowledgements wait in any case. Notifications of which only the newest counts
    replace one another while they wait. When too much waits, all notifications are let go and
    `lagging` becomes true: the client is due a baseline once it reads again. When the answers
    alone are too much, `overrun` becomes true: the client does not read what it asks for.

    What the carrier has taken is out of reach. A WebSocket takes 64 messages or 1 MiB; a ZeroMQ
    socket takes 1000 messages for each peer, whatever their size, because that is the bound of
    the control socket on which sessions are guests.
    """

    def __init__(
        self,
        send: Callable[[bytes], bool],
        *,
        entries: int = 512,
        nbytes: int = 8 * 1024 * 1024,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.lagging = False
        self.overrun = False
        self.missing: dict[str, tuple[int, int]] = {}
        """First and last number of the deltas of each topic that were let go."""
        self._send = send
        self._entries = entries
        self._nbytes = nbytes
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(
        self,
        data: bytes,
        *,
        key: tuple[str, ...] | None = None,
        lossy: bool = False,
        mark: tuple[str, int] | None = None,
    ) -> None:
        """Send an envelope now or later.

        Parameters
        ----------
        data
            The envelope.
        key
            Name under which only the newest counts.
        lossy
            Whether a baseline makes up for it.
        mark
            Topic and number of a delta.
        """
        if self.lagging and lossy:
            self._drop(mark)
            return
        if not self._queue and self._send(data):
            self.counters["sent"] += 1
            return
        if key is not None:
            older = next((each for each in self._queue if each.key == key), None)
            if older is not None:  # the newer one keeps its place in time, not that of the older
                self._queue.remove(older)
                self._queued_bytes -= len(older.data)
                self.counters["superseded"] += 1
        self._queue.append(_Waiting(data, key, lossy, mark))
        self._queued_bytes += len(data)
        if self._too_much():
            self._let_go()

    def flush(self) -> bool:
        """Send what waits; returns whether nothing waits any more."""
        while self._queue:
            if not self._send(self._queue[0].data):
                return False
            self._queued_bytes -= len(self._queue.popleft().data)
            self.counters["sent"] += 1
        return True

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Take a baseline in, if the carrier takes the beginning of it; else it is let go.

        What waits for a client that still does not read would be old by the time it does.
        """
        sent, missing = self.counters["sent"], dict(self.missing)
        self.caught_up()
        yield
        if self._queue and self.counters["sent"] == sent:
            self._queue.clear()
            self._queued_bytes = 0
            self.lagging, self.overrun, self.missing = True, False, missing

    def caught_up(self) -> None:
        """Take in that the client is sent a baseline."""
        self.lagging = False
        self.missing.clear()

    def _too_much(self) -> bool:
        return len(self._queue) > self._entries or self._queued_bytes > self._nbytes

    def _let_go(self) -> None:
        kept = []
        for waiting in self._queue:
            if waiting.lossy:
                self.lagging = True
                self._drop(waiting.mark)
            else:
                kept.append(waiting)
        self._queue = deque(kept)
        self._queued_bytes = sum(len(waiting.data) for waiting in kept)
        self.overrun = self._too_much()

    def _drop(self, mark: tuple[str, int] | None) -> None:
        self.counters["dropped"] += 1
        if mark is not None:
            topic, number = mark
            first, _ = self.missing.get(topic, (number, number))
            self.missing[topic] = (first, number)
