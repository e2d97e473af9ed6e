"""Step: what one turn of the queue is about to write down, and what it does after that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import UnavailableError
from zmqruntime._messages import Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zmqruntime._identity import Identity
    from zmqruntime.execution._errors import JournalError
    from zmqruntime.execution._lifecycle import Instruction
    from zmqruntime.execution._live import LiveJob
    from zmqruntime.execution._record import JobEvent, JobRecord, NewJob
    from zmqruntime.execution._worker_process import WorkerProcess

__all__ = ["Accepted", "Step", "complete", "fail"]


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
            fail(future, UnavailableError(f"the job was not accepted: {error}"))


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
    pruned
        How many jobs in each state were forgotten.
    error
        Why it could not be written down.
    """

    accepted: dict[str, Accepted] = field(default_factory=dict)
    keys: dict[tuple[str, str], Accepted] = field(default_factory=dict)
    records: dict[str, JobRecord] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    started: list[tuple[WorkerProcess, str]] = field(default_factory=list)
    started_events: list[tuple[LiveJob, JobEvent]] = field(default_factory=list)
    instructions: list[tuple[Instruction, str]] = field(default_factory=list)
    answers: list[Callable[[], object]] = field(default_factory=list)
    noted: list[Identity] = field(default_factory=list)
    forgotten: list[Identity] = field(default_factory=list)
    pruned: dict[str, int] = field(default_factory=dict)
    error: JournalError | None = None

    def accept(self, accepted: Accepted) -> None:
        """Take a new job in."""
        record = accepted.live.record
        self.accepted[record.id] = accepted
        if record.key is not None:
            self.keys[record.client, record.key] = accepted

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
