"""What becomes of a job: an event in, its next record and instructions out.

Sans-IO. Who calls writes the record down first and obeys the instructions after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec.structs import replace

from zmqruntime.execution._status import ExecutionStatus

if TYPE_CHECKING:
    from zmqruntime.execution._record import JobRecord

__all__ = [
    "CancelAsked",
    "DeadlinePassed",
    "Event",
    "GraceOver",
    "Instruction",
    "Raised",
    "Returned",
    "ShutdownAsked",
    "Started",
    "Stopped",
    "WorkerEnded",
    "advance",
]

_S = ExecutionStatus
_MOST_NAMED = 5


class Instruction(StrEnum):
    """What is to be done once the record is safe."""

    RUN = "run"
    """Hand the job to its worker."""
    LEAVE = "leave"
    """Take the job out of the waiting line."""
    REQUEUE = "requeue"
    """Put the job back into the waiting line, before those that were not begun."""
    ASK_TO_STOP = "ask_to_stop"
    """Tell the worker to stop the job, and begin to count the grace."""
    KILL = "kill"
    """End the worker of this job by force."""


@dataclass(frozen=True, slots=True)
class Started:
    """A worker was found for the job."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody wants the job to be cancelled.

    Attributes
    ----------
    by
        Who.
    """

    by: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time that the job was given is over."""


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The server is about to end in an orderly way."""


@dataclass(frozen=True, slots=True)
class GraceOver:
    """The job was asked to stop a while ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """The function has returned.

    Attributes
    ----------
    nothing
        Whether there is neither a value nor a unit.
    missing, bad
        Units that were expected and not reported, and that were reported as failed.
    """

    nothing: bool = False
    missing: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raised:
    """The function has raised.

    Attributes
    ----------
    message
        Type and text of the exception.
    traceback
        Its text.
    """

    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The function says that it stopped because it was asked to."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """The process that ran the job is gone, and has not said what became of the job.

    Attributes
    ----------
    reason
        What is known of its end.
    by_us
        Whether it was ended because of this job's instruction to do so.
    """

    reason: str
    by_us: bool = False


Event = (
    Started
    | CancelAsked
    | DeadlinePassed
    | ShutdownAsked
    | GraceOver
    | Returned
    | Raised
    | Stopped
    | WorkerEnded
)


def advance(
    record: JobRecord, event: Event, *, now: float, attempts: int = 3
) -> tuple[JobRecord, tuple[Instruction, ...]]:
    """Say what becomes of a job.

    Parameters
    ----------
    record
        The job.
    event
        What happened to it.
    now
        Seconds since the epoch, for the record only: nothing depends on it.
    attempts
        Most attempts of a job that may be run again.

    Returns
    -------
    tuple[JobRecord, tuple[Instruction, ...]]
        The same record and no instructions when the event means nothing in this state, as a
        deadline does once the job is over.
    """
    match record.state:
        case _S.QUEUED:
            return _from_queued(record, event, now)
        case _S.RUNNING:
            return _from_running(record, event, now, attempts)
        case _S.CANCELLING:
            return _from_cancelling(record, event, now)
        case _:
            return record, ()


def _from_queued(
    record: JobRecord, event: Event, now: float
) -> tuple[JobRecord, tuple[Instruction, ...]]:
    match event:
        case Started():
            attempt = record.attempt + 1
            begun = replace(
                record, state=_S.RUNNING, attempt=attempt, started=now, code="", message=""
            )
            return begun, (Instruction.RUN,)
        case CancelAsked(by):
            ended = _cancelled(record, f"cancelled by {by} before it began", now)
            return ended, (Instruction.LEAVE,)
        case DeadlinePassed():
            return _late(record, "before its turn came", now), (Instruction.LEAVE,)
        case _:
            return record, ()


def _from_running(
    record: JobRecord, event: Event, now: float, attempts: int
) -> tuple[JobRecord, tuple[Instruction, ...]]:
    match event:
        case CancelAsked(by):
            asked = replace(
                record, state=_S.CANCELLING, stopping="cancel", message=f"cancelled by {by}"
            )
            return asked, (Instruction.ASK_TO_STOP,)
        case DeadlinePassed() if record.stopping != "deadline":
            return replace(record, stopping="deadline"), (Instruction.ASK_TO_STOP,)
        case ShutdownAsked() if not record.stopping:
            return replace(record, stopping="shutdown"), (Instruction.ASK_TO_STOP,)
        case GraceOver() if record.stopping:
            return record, (Instruction.KILL,)
        case Returned() if not (event.nothing or event.missing or event.bad):
            return replace(record, state=_S.COMPLETED, ended=now, stopping=""), ()
        case Returned():
            if record.stopping == "deadline":
                return _late(record, f"with {_lacking(event)}", now), ()
            if record.stopping == "shutdown" and not event.bad:
                return _interrupted(record, "the server was stopped", now, attempts)
            return _failed(record, "partial", _lacking(event), now), ()
        case Raised(message, traceback):
            code = "deadline" if record.stopping == "deadline" else "error"
            return replace(_failed(record, code, message, now), traceback=traceback), ()
        case Stopped():
            if record.stopping == "deadline":
                return _late(record, "and it stopped", now), ()
            if record.stopping == "shutdown":
                return _interrupted(record, "the server was stopped", now, attempts)
            return _failed(record, "error", "the function stopped, but nobody asked it to", now), ()
        case WorkerEnded(reason, by_us):
            if record.stopping == "deadline" and by_us:
                return _late(record, "and it had to be stopped by force", now), ()
            return _interrupted(record, reason, now, attempts)
        case _:
            return record, ()


def _from_cancelling(
    record: JobRecord, event: Event, now: float
) -> tuple[JobRecord, tuple[Instruction, ...]]:
    match event:
        case GraceOver():
            return record, (Instruction.KILL,)
        case Returned() if not (event.nothing or event.missing or event.bad):
            done = replace(record, state=_S.COMPLETED, ended=now, stopping="", message="")
            return done, ()
        case Returned() | Stopped():
            return _cancelled(record, record.message, now), ()
        case Raised(message, traceback):
            return replace(_failed(record, "error", message, now), traceback=traceback), ()
        case WorkerEnded(reason, by_us):
            if by_us:
                message = f"{record.message}; it had to be stopped by force"
                return _cancelled(record, message, now), ()
            # somebody wanted it to end, so it is not run again even where it may be
            return _lost(record, f"{reason} while the job was being cancelled", now), ()
        case _:
            return record, ()


def _interrupted(
    record: JobRecord, reason: str, now: float, attempts: int
) -> tuple[JobRecord, tuple[Instruction, ...]]:
    """End an attempt of which nobody knows how far it came."""
    message = f"attempt {record.attempt} was lost: {reason}"
    if record.retryable and record.attempt < attempts:
        again = replace(
            record, state=_S.QUEUED, started=None, stopping="", code="lost", message=message
        )
        return again, (Instruction.REQUEUE,)
    return _lost(record, message, now), ()


def _lost(record: JobRecord, message: str, now: float) -> JobRecord:
    return replace(record, state=_S.LOST, ended=now, stopping="", code="lost", message=message)


def _failed(record: JobRecord, code: str, message: str, now: float) -> JobRecord:
    return replace(record, state=_S.FAILED, ended=now, stopping="", code=code, message=message)


def _late(record: JobRecord, how: str, now: float) -> JobRecord:
    limit = "" if record.deadline is None else f" of {record.deadline:g} s"
    return _failed(record, "deadline", f"its deadline{limit} passed {how}", now)


def _cancelled(record: JobRecord, message: str, now: float) -> JobRecord:
    return replace(
        record, state=_S.CANCELLED, ended=now, stopping="", code="cancelled", message=message
    )


def _lacking(event: Returned) -> str:
    parts = []
    if event.missing:
        parts.append(f"{len(event.missing)} units not reported ({_some(event.missing)})")
    if event.bad:
        parts.append(f"{len(event.bad)} units failed ({_some(event.bad)})")
    return " and ".join(parts) or "no result: the function returned None and reported no unit"


def _some(names: tuple[str, ...]) -> str:
    more = ", …" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
