"""Turns: all that happened is written down together, and only then is it so."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime.execution._errors import JournalError
from zmqruntime.execution._status import TERMINAL
from zmqruntime.execution._step import Step
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.execution._board import Board
    from zmqruntime.execution._journal import Journal
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle

    Act = Callable[[Step], object]
    Refuse = Callable[[JournalError], object]

__all__ = ["Turns"]

logger = logging.getLogger(__name__)

_PRUNE_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Happening:
    act: Act
    refuse: Refuse | None


class Turns:
    """Turns of the queue: a step is made of what happened, written down, and carried out.

    Parameters
    ----------
    loop
        Thread on which they are taken.
    journal, board
        Where a step is written down, and what it is about.
    assign
        Called with a step when all that happened is in it, to begin what can begin.
    carry_out
        Called with a step that is written down.

    Notes
    -----
    One commit makes a step durable, however many jobs it is about. While the journal cannot be
    written, new jobs are refused and none begins; what has happened is kept and tried again.
    """

    def __init__(
        self, loop: IOThread, journal: Journal, board: Board, *, assign: Act, carry_out: Act
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._board = board
        self._assign = assign
        self._carry_out = carry_out
        self._lock = threading.Lock()  # guards the next two
        self._inbox: list[_Happening] = []
        self._scheduled = False
        self._stuck: Step | None = None
        self._retry = Backoff(first=1.0, longest=32.0)
        self._trying: TimerHandle | None = None
        self._pruned_at = float("-inf")

    @property
    def stuck(self) -> bool:
        """Whether something has happened that cannot be written down."""
        return self._stuck is not None

    @property
    def trouble(self) -> str:
        """Why; empty when nothing is wrong."""
        stuck = self._stuck
        return "" if stuck is None else str(stuck.error)

    def take(self, act: Act, *, refuse: Refuse | None = None) -> None:
        """Take in something that happened, for the next turn; any thread.

        Parameters
        ----------
        act
            Called with the step, to put into it what follows.
        refuse
            Called instead, with the reason, while nothing can be written down; None for what
            cannot be refused, because it has happened.
        """
        self._schedule(_Happening(act, refuse))

    def schedule(self) -> None:
        """Have a turn although nothing happened: somebody may be free, or something unsaved."""
        self._schedule()

    def _schedule(self, *happened: _Happening) -> None:
        with self._lock:
            self._inbox.extend(happened)
            scheduled, self._scheduled = self._scheduled, True
        if not scheduled:
            self._loop.call_soon(self._turn)

    # -- on the loop ------------------------------------------------------------------------

    def _turn(self) -> None:
        """Deal with everything that happened since the last turn."""
        with self._lock:
            self._scheduled = False
            inbox, self._inbox = self._inbox, []
        step = self._stuck
        if step is None:
            step = Step()
            for happening in inbox:
                self._take_in(happening, step)
            self._assign(step)
        else:
            self._refuse_new(inbox, step)
        try:
            self.commit(step)
        except JournalError as error:
            self._give_up_what_can_be(step, error)
            try:
                self.commit(step)
            except JournalError as again:
                self._keep(step, again)
                return
        else:
            self._retry.reset()
        if self._stuck is not None:
            self._stuck = None
            self.schedule()
        self._carry_out(step)

    def _take_in(self, happening: _Happening, step: Step) -> None:
        try:
            happening.act(step)
        except Exception:  # as when the journal cannot be read; the others must not go with it
            logger.exception("an event of the queue could not be dealt with")

    def _refuse_new(self, inbox: list[_Happening], step: Step) -> None:
        """Refuse what can be while nothing can be written; the rest waits."""
        assert step.error is not None
        waiting = []
        for happening in inbox:
            if happening.refuse is None:
                waiting.append(happening)
            else:
                happening.refuse(step.error)
        with self._lock:
            self._inbox[:0] = waiting

    def _give_up_what_can_be(self, step: Step, error: JournalError) -> None:
        """Refuse new jobs and begin none; what has happened cannot be given up."""
        logger.error("%s", error)
        for refused in step.give_up():
            self._board.withdraw(refused.live)
            refused.refuse(error)
        if len(self._board.line):
            self._try_later()

    def _keep(self, step: Step, error: JournalError) -> None:
        """Try again later to write down what has happened."""
        step.error = error
        self._stuck = step
        self._try_later()

    def _try_later(self) -> None:
        if self._trying is None or self._trying.cancelled:
            wait = self._retry.next()
            logger.error("the next try is in %g s", wait)
            self._trying = self._loop.call_later(wait, self.schedule)

    def commit(self, step: Step) -> None:
        """Write everything down, or nothing.

        Raises
        ------
        JournalError
            If that is not possible; nothing was written.
        """
        unsaved = {**self._board.dirty, **step.changed}
        if not (step.writes or unsaved):
            return
        pruned: dict[str, int] = {}
        now = time.monotonic()
        prune = self._has_too_much(step) or now - self._pruned_at >= _PRUNE_S
        with self._journal.transaction(durable=step.matters):
            for id_, accepted in step.accepted.items():
                self._journal.accept(step.records.get(id_, accepted.live.record), accepted.new)
            for id_, record in step.records.items():
                if id_ not in step.accepted:
                    self._journal.update(record, result=step.results.get(id_))
            for live in unsaved.values():
                live.save(self._journal)
            for identity in step.noted:
                self._journal.note_worker(identity)
            for identity in step.forgotten:
                self._journal.forget_worker(identity)
            if prune:
                pruned = self._journal.prune()
        if prune:
            self._pruned_at = now
            self._board.counts.subtract(pruned)
        for live in unsaved.values():
            live.saved()
        self._board.dirty.clear()

    def _has_too_much(self, step: Step) -> bool:
        """Whether jobs must be forgotten; a little late, so that not every end has it follow."""
        finished = sum(self._board.counts[state] for state in TERMINAL)
        finished += sum(record.state.terminal for record in step.records.values())
        most = self._journal.history.jobs
        return finished > most + most // 100
