"""JobRecord: one job as it is stored, sent and shown; and what else is told of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from zmqruntime.execution._status import ExecutionStatus

__all__ = ["JobEvent", "JobRecord", "NewJob", "UnitOutcome"]

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Unit = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NewJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client submits.

    Attributes
    ----------
    kind
        Which of the server's functions is to run.
    payload
        Plain value for the function.
    key
        Idempotency key: the same key of the same client names the same job, for ever.
    priority
        Higher ones run first. Of equal ones each client has one in turn, its oldest.
    retryable
        Whether the job may be run again after an attempt was lost.
    deadline
        Seconds after acceptance at which the job must be done, or None.
    units
        Names of the parts that must be reported, or None when the result is all there is.
    """

    kind: _Word
    payload: Any = None
    key: _Word | None = None
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    retryable: bool = False
    deadline: Annotated[float, msgspec.Meta(gt=0)] | None = None
    units: Annotated[tuple[_Unit, ...], msgspec.Meta(min_length=1, max_length=50_000)] | None = None


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job, without its payload and its result.

    Attributes
    ----------
    id
        Its name.
    seq
        Its place in the order of acceptance; no clock has a part in it.
    kind
        Which of the server's functions it runs.
    state
        What has become of it.
    client
        Who submitted it, as the server knows them.
    key
        Idempotency key, or None.
    priority
        Higher ones run first.
    retryable
        Whether it may be run again after an attempt was lost.
    attempt
        How many attempts were begun.
    submitted, started, ended
        Seconds since the epoch; None while it has not come to that.
    deadline
        Seconds after `submitted` at which it must be done, or None.
    expected, reported, bad
        How many units must be reported, were reported with success, and without.
    events
        Number of the last event.
    stopping
        Why the attempt was asked to stop: ``cancel``, ``deadline``, ``shutdown``; else empty.
    code
        Of a job that did not complete: ``error``, ``deadline``, ``partial``, ``cancelled``,
        ``lost``.
    message
        What happened, for people.
    traceback
        Text of the exception, when there was one; left out in lists.
    """

    id: str
    seq: int
    kind: str
    state: ExecutionStatus
    client: str = ""
    key: str | None = None
    priority: int = 0
    retryable: bool = False
    attempt: int = 0
    submitted: float = 0.0
    started: float | None = None
    ended: float | None = None
    deadline: float | None = None
    expected: int = 0
    reported: int = 0
    bad: int = 0
    events: int = 0
    stopping: str = ""
    code: str = ""
    message: str = ""
    traceback: str = ""


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a job.

    Attributes
    ----------
    seq
        Number within the job, from 1. Numbers that are missing were progress that a later report
        of the same unit and phase had replaced.
    time
        Seconds since the epoch, by the server's clock.
    kind
        ``state``, ``progress`` or ``unit``.
    unit, phase
        Which part of the work, and what is being done with it.
    fraction
        How much of that is done, from 0 to 1, or None when nobody can say.
    message
        For people.
    state
        New state, of a ``state`` event; ``ok`` or ``failed`` of a ``unit`` event.
    """

    seq: int
    time: float
    kind: str
    unit: str = ""
    phase: str = ""
    fraction: float | None = None
    message: str = ""
    state: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """What a later event replaces this one by; a state is never replaced."""
        if self.kind == "state":
            return ("state", str(self.seq), "")
        return (self.kind, self.unit, self.phase)


class UnitOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one unit.

    Attributes
    ----------
    unit
        Its name.
    ok
        Whether it succeeded.
    value
        Plain value that was reported for it; None for one that failed.
    message
        Why it failed; empty otherwise.
    """

    unit: str
    ok: bool
    value: Any = None
    message: str = ""
