"""Step: what one turn of the queue is about to write down, and what it does after that."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from zmqruntime._errors import UnavailableError
from zmqruntime.control._messages import Reply
from zmqruntime.execution._lifecycle import advance

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zmqruntime.execution._errors import JournalError
    from zmqruntime.execution._lifecycle import Event, Instruction
    from zmqruntime.execution._live import LiveJob
    from zmqruntime.execution._record import JobEvent, JobRecord, NewJob
    from zmqruntime.execution._worker_process import WorkerProcess
    from zmqruntime.processes._identity import Identity

__all__ = ["Accepted", "Step", "complete", "fail", "refuse"]


@dataclass(slots=True, kw_only=True)
class Accepted:
    """A new job, and everybody who waits to hear that it was accepted."""

    new: NewJob
    live: LiveJob
    futures: list[Future[Reply]]

    def answer(self, reply: dict[str, Any]) -> None:
        """Tell them that it was; all but the first that they repeated it."""
        for number, future in enumerate(self.futures):
            complete(future, Reply({**reply, "repeated": number > 0}, "accepted"))

    def refuse(self, error: JournalError) -> None:
        """Tell them that it was not."""
        for future in self.futures:
            refuse(future, error)


@dataclass(slots=True)
class Step:
    """What one turn of the queue is about to write down.

    Attributes
    ----------
    accepted
        New jobs, by name.
    keys
        The same, by client and idempotency key.
    records
        New records, by name of the job.
    changed
        The jobs of both, by name.
    results
        Results, in msgpack, by name of the job.
    started, started_events
        Which worker is to do which job, and the events that say so.
    instructions
        What the machine wants done.
    answers
        Whom to answer.
    noted, forgotten
        Workers that began and ended.
    error
        Why it could not be written down.
    """

    accepted: dict[str, Accepted] = field(default_factory=dict)
    keys: dict[tuple[str, str], Accepted] = field(default_factory=dict)
    records: dict[str, JobRecord] = field(default_factory=dict)
    changed: dict[str, LiveJob] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    started: list[tuple[WorkerProcess, str]] = field(default_factory=list)
    started_events: list[tuple[LiveJob, JobEvent]] = field(default_factory=list)
    instructions: list[tuple[Instruction, str]] = field(default_factory=list)
    answers: list[Callable[[], object]] = field(default_factory=list)
    noted: list[Identity] = field(default_factory=list)
    forgotten: list[Identity] = field(default_factory=list)
    error: JournalError | None = None

    def accept(self, accepted: Accepted) -> None:
        """Take a new job in."""
        record = accepted.live.record
        self.accepted[record.id] = accepted
        self.changed[record.id] = accepted.live
        if record.key is not None:
            self.keys[record.client, record.key] = accepted

    def record_of(self, live: LiveJob) -> JobRecord:
        """Return a job as it is about to be."""
        return self.records.get(live.record.id, live.record)

    def advance(
        self, live: LiveJob, event: Event, *, attempts: int, again: bool = False
    ) -> JobEvent | None:
        """Take in what happened to a job.

        Parameters
        ----------
        live, event
            The job, and what happened.
        attempts
            Most attempts of a job that may be run again.
        again
            Whether this one may, even if it did not say so.

        Returns
        -------
        JobEvent or None
            What is noted of it; None if it means nothing in the present state of the job.
        """
        before = self.record_of(live)
        given = replace(before, retryable=True) if again else before
        now = time.time()
        after, instructions = advance(given, event, now=now, attempts=attempts)
        self.instructions += [(instruction, after.id) for instruction in instructions]
        if after is given:
            return None
        noted = live.add_state(after, now)
        self.records[after.id] = replace(
            after,
            retryable=before.retryable,
            events=live.last_event,
            reported=live.reported,
            bad=len(live.outcomes) - live.reported,
        )
        self.changed[after.id] = live
        return noted

    def give_up(self) -> list[Accepted]:
        """Take out what may be taken back, because it cannot be written down.

        Returns
        -------
        list[Accepted]
            New jobs, which are to be refused. None of the others begins.
        """
        for live, event in self.started_events:
            live.undo_state(event)
        for _, id_ in self.started:
            self.records.pop(id_, None)
        refused = list(self.accepted.values())
        for kept in (self.started, self.started_events, self.accepted, self.keys):
            kept.clear()
        self.changed = {id_: self.changed[id_] for id_ in self.records}
        return refused

    @property
    def matters(self) -> bool:
        """Whether it must be on the disk before anybody hears of it."""
        return bool(self.accepted or self.records)

    @property
    def writes(self) -> bool:
        """Whether there is anything to write down."""
        return bool(self.matters or self.noted or self.forgotten)


def complete(future: Future[Any], value: object) -> None:
    """Give a future its value, unless nobody waits any more."""
    if future.set_running_or_notify_cancel():
        future.set_result(value)


def fail(future: Future[Any], error: Exception) -> None:
    """Give a future its error, unless nobody waits any more."""
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def refuse(future: Future[Reply], error: JournalError) -> None:
    """Say that a job was not accepted, because it could not be written down."""
    fail(future, UnavailableError(f"the job was not accepted: {error}"))
