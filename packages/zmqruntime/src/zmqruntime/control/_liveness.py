"""Liveness: is the service idle, busy, unresponsive or lost; busy is never taken for dead.

Sans-IO: events in, a verdict out. Three things are told apart: whether the connection is up
(libzmq's own thread answers heartbeats, also while the interpreter is busy), whether the
application answers, and what it says it is doing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from zmqruntime.control._handshake import Work

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Liveness", "LivenessMachine", "LivenessState"]

PATIENCE_S = 1.0
LOST_AFTER_S = 30.0


class LivenessState(StrEnum):
    """What can be said of a service."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    BUSY = "busy"
    UNRESPONSIVE = "unresponsive"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Liveness:
    """How a service is, as far as one of its clients can tell.

    Attributes
    ----------
    state
        ``idle`` or ``busy``: the connection is up, and that is what it said last.
        ``unresponsive``: the connection is down, but the process exists, or may. ``lost``: the
        process has ended, or another computer has been silent for 30 s; only this is a reason to
        start another one. ``unknown``: it was never reached.
    since
        Since when, seconds since the epoch.
    work
        What it said last that it is doing.
    silent_since
        Since when it has not answered although the connection is up, seconds since the epoch;
        None while it answers, and when nobody asks.
    detail
        Why, in words; empty when all is well.
    """

    state: LivenessState
    since: float
    work: Work
    silent_since: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        words = [str(self.state)]
        if self.state is LivenessState.BUSY and self.work.task:
            words.append(f"({self.work.task})")
        if self.silent_since is not None:
            when = time.strftime("%H:%M:%S", time.localtime(self.silent_since))
            words.append(f"not answering since {when}")
        elif self.detail:
            words.append(f"- {self.detail}")
        return " ".join(words)


class LivenessMachine:
    """Draws a verdict from what happens.

    Parameters
    ----------
    clock
        Monotonic seconds.
    wall
        Seconds since the epoch, for people.
    patience
        Seconds after which a question that is not answered makes a service silent.
    lost_after
        Seconds after which another computer that cannot be reached is lost.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        patience: float = PATIENCE_S,
        lost_after: float = LOST_AFTER_S,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._patience = patience
        self._lost_after = lost_after
        self._work = Work()
        self._up = False
        self._reached = False
        self._ended = False
        self._watched = False
        self._down_at = clock()
        self._why = ""
        self._asked_at: float | None = None
        self._state = LivenessState.UNKNOWN
        self._since = wall()

    # Events.

    def connected(self, *, watched: bool = False) -> None:
        """Note that the service has welcomed us; `watched` if its end will be seen."""
        self._up = self._reached = True
        self._ended, self._watched = False, watched
        self._asked_at = None
        self._why = ""

    def disconnected(self, reason: str) -> None:
        """Note that the connection is down."""
        if self._up:
            self._down_at = self._clock()
        self._up = False
        self._asked_at = None
        self._why = self._why if self._ended else reason

    def process_ended(self, reason: str) -> None:
        """Note that the process of the service has ended."""
        self.disconnected(reason)
        self._ended, self._why = True, reason

    def asked(self) -> None:
        """Note that a question was sent which any service answers at once."""
        if self._up and self._asked_at is None:
            self._asked_at = self._clock()

    def answered(self, work: Work | None) -> None:
        """Note an answer, with what the service is doing, if it said so."""
        self._asked_at = None
        if work is not None:
            self._work = work

    def working(self, work: Work) -> None:
        """Note what the service has said, unasked, that it is doing.

        It is no answer: what was sent before a service fell silent may arrive after.
        """
        self._work = work

    # Verdicts.

    @property
    def verdict(self) -> Liveness:
        """How the service is now."""
        state = self._judge()
        if state is not self._state:
            self._state, self._since = state, self._wall()
        silent = self._silent_for()
        return Liveness(
            state=state,
            since=self._work.since or self._since if self._up else self._since,
            work=self._work,
            silent_since=None if silent is None else self._wall() - silent,
            detail=self._why,
        )

    def due(self) -> float | None:
        """Say in how many seconds the verdict changes if nothing happens; None if it does not."""
        now = self._clock()
        if self._up:
            if self._asked_at is None or now >= self._asked_at + self._patience:
                return None
            return self._asked_at + self._patience - now
        if not self._reached or self._ended or self._watched:
            return None
        left = self._down_at + self._lost_after - now
        return left if left > 0 else None

    def _judge(self) -> LivenessState:
        if self._up:
            return LivenessState.BUSY if self._work.state == "busy" else LivenessState.IDLE
        if not self._reached:
            return LivenessState.UNKNOWN
        silent = self._clock() - self._down_at
        if self._ended or (not self._watched and silent >= self._lost_after):
            return LivenessState.LOST
        return LivenessState.UNRESPONSIVE

    def _silent_for(self) -> float | None:
        if not self._up or self._asked_at is None:
            return None
        silent = self._clock() - self._asked_at
        return silent if silent >= self._patience else None
