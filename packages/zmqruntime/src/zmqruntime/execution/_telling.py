"""Telling: followers get their messages, at the moments that `Followers` says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from zmqruntime.execution._followers import Followers
from zmqruntime.execution._live import LiveJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zmqruntime.execution._board import Board
    from zmqruntime.execution._journal_reader import JournalReader
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["Telling"]

_MOST_EVENTS = 100_000


class Telling:
    """Tells peers of the jobs that they follow; on the queue's loop.

    Parameters
    ----------
    loop
        On which it is used.
    board, reader
        Know the jobs that are not over, and those that are.
    push
        Called with a peer and what it is to be told.
    on_news
        Called with each job of which there is news.
    silent
        Says whether nothing is told, because it cannot be written down.
    """

    def __init__(
        self,
        loop: IOThread,
        board: Board,
        reader: JournalReader,
        *,
        push: Callable[[bytes, dict[str, Any]], object],
        on_news: Callable[[LiveJob], object],
        silent: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._board = board
        self._reader = reader
        self._push = push
        self._on_news = on_news
        self._followers = Followers(clock=time.monotonic)
        self._silent = silent
        self._timer: TimerHandle | None = None

    def follow(self, peer: bytes, id_: str, after: int) -> None:
        """Tell a peer of a job from now on, and at once what happened after an event."""
        live = self._board.live.get(id_)
        if live is None:
            record = self._reader.record(id_)
            if record is None:
                return
            live = LiveJob(record, None)
            for event in self._reader.events(record.seq, after=after, limit=_MOST_EVENTS):
                live.latest[event.place] = event
        self._followers.follow(peer, live, after=after)
        self.tell(urgent=[id_])

    def follow_all(self, peer: bytes, visible: Callable[[str], bool]) -> None:
        """Tell a peer of all jobs of some clients."""
        self._followers.follow_all(peer, visible)

    def unfollow(self, peer: bytes, id_: str | None) -> None:
        """Tell a peer no longer of a job, or of any."""
        self._followers.unfollow(peer, id_)

    def acknowledged(self, peer: bytes, n: int) -> None:
        """Note that a peer has taken a message in."""
        self._followers.acknowledged(peer, n)
        self.tell()

    def changed(self, job: LiveJob) -> None:
        """Note that there is news of a job; `tell` comes after."""
        self._followers.changed(job)
        self._on_news(job)

    def tell(self, *, urgent: Iterable[str] = ()) -> None:
        """Send what is due, and see to it that the rest is sent when it is.

        Parameters
        ----------
        urgent
            Jobs whose state has changed.
        """
        if self._silent():
            return
        for notice in self._followers.due(urgent=urgent):
            self._push(notice.peer, notice.body)
        wait = self._followers.next_due()
        if wait is None:
            return
        timer = self._timer
        if timer is None or timer.cancelled or timer.due > time.monotonic() + wait:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_later(wait, self.tell)
