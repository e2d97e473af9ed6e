"""Followers: who is told of which jobs; one message under way per peer, the rest is merged.

Sans-IO. A peer that is slow to answer gets fewer messages, each with the latest of everything,
and no other peer, nor any job, waits for it. The end of a job is in the next message for sure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zmqruntime.execution._live import LiveJob

__all__ = ["Followers", "Notice"]

_PACE_S = 0.02
_PATIENCE_S = 5.0
_MOST_EVENTS = 1000


@dataclass(slots=True)
class _Follower:
    jobs: dict[str, int] = field(default_factory=dict)
    """Number of the last event that was sent, of each job that is followed."""
    everything: Callable[[str], bool] | None = None
    """Whether a job of this client is followed, when it is not followed by name."""
    news: dict[str, LiveJob] = field(default_factory=dict)
    n: int = 0
    under_way: dict[str, Any] | None = None
    sent_at: float = 0.0
    pressing: bool = False
    """Whether a state has changed since the last message, which the pace does not hold back."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for a peer.

    Attributes
    ----------
    peer
        Whom to send it to.
    body
        What to send.
    """

    peer: bytes
    body: dict[str, Any]


class Followers:
    """Who is told of which jobs.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._followers: dict[bytes, _Follower] = {}
        self._n = 0

    def follow(self, peer: bytes, job: LiveJob, *, after: int) -> None:
        """Tell a peer of a job from now on, and at once what happened after an event.

        Parameters
        ----------
        peer
            Whom.
        job
            Of what.
        after
            Number of the last event that the peer knows.
        """
        follower = self._followers.setdefault(peer, _Follower())
        follower.jobs[job.record.id] = after
        follower.news[job.record.id] = job

    def follow_all(self, peer: bytes, visible: Callable[[str], bool]) -> None:
        """Tell a peer of all jobs of the clients for which `visible` is true."""
        self._followers.setdefault(peer, _Follower()).everything = visible

    def unfollow(self, peer: bytes, id_: str | None = None) -> None:
        """Tell a peer no longer of a job; None of nothing any more."""
        follower = self._followers.get(peer)
        if follower is None:
            return
        if id_ is None:
            del self._followers[peer]
            return
        follower.jobs.pop(id_, None)
        follower.news.pop(id_, None)
        if not follower.jobs and follower.everything is None:
            del self._followers[peer]

    def changed(self, job: LiveJob) -> None:
        """Note that there is news of a job."""
        for follower in self._followers.values():
            wanted = follower.everything
            if job.record.id in follower.jobs or (wanted and wanted(job.record.client)):
                follower.news[job.record.id] = job

    def acknowledged(self, peer: bytes, n: int) -> None:
        """Note that a peer has taken its last message in."""
        follower = self._followers.get(peer)
        if follower is not None and n == follower.n:
            follower.under_way = None

    def due(self, *, urgent: Iterable[str] = ()) -> list[Notice]:
        """Make the messages that can be sent now.

        Parameters
        ----------
        urgent
            Jobs whose state has changed; news of others is sent at a pace.
        """
        now = self._clock()
        pressing = set(urgent)
        notices = []
        for peer, follower in tuple(self._followers.items()):
            follower.pressing = follower.pressing or not pressing.isdisjoint(follower.news)
            if follower.under_way is not None:
                if now - follower.sent_at >= _PATIENCE_S:
                    follower.sent_at = now
                    notices.append(Notice(peer, follower.under_way))
                continue
            if follower.news and (follower.pressing or now - follower.sent_at >= _PACE_S):
                follower.pressing = False
                self._n += 1  # of all together: a peer that comes back hears no number twice
                follower.n = self._n
                follower.sent_at = now
                follower.under_way = {"n": follower.n, "jobs": _take(follower)}
                notices.append(Notice(peer, follower.under_way))
        return notices

    def next_due(self) -> float | None:
        """Say in how many seconds `due` has something to say; None when that takes an event."""
        now = self._clock()
        waits = [
            each.sent_at + (_PACE_S if each.under_way is None else _PATIENCE_S) - now
            for each in self._followers.values()
            if each.news or each.under_way is not None
        ]
        return max(0.0, min(waits)) if waits else None


def _take(follower: _Follower) -> list[dict[str, Any]]:
    """Take the news of a follower, but not more than a message may hold."""
    taken: list[dict[str, Any]] = []
    room = _MOST_EVENTS
    for id_, job in tuple(follower.news.items()):
        after = follower.jobs.get(id_, 0)
        events = sorted(
            (event for event in job.latest.values() if event.seq > after),
            key=lambda event: event.seq,
        )[:room]
        room -= len(events)
        whole = not events or events[-1].seq >= max(e.seq for e in job.latest.values())
        taken.append(
            {
                "record": msgspec.to_builtins(job.record),
                "events": [msgspec.to_builtins(event) for event in events],
                # the record may be ahead of the events; it counts as the last word only when not
                "whole": whole,
            }
        )
        if whole:
            del follower.news[id_]
        if whole and job.record.state.terminal:
            follower.jobs.pop(id_, None)
        elif events and (id_ in follower.jobs or follower.everything is not None):
            follower.jobs[id_] = events[-1].seq
        if room <= 0:
            break
    return taken
