"""What a server and its workers tell each other."""

from __future__ import annotations

import msgspec

from zmqruntime.execution._record import UnitOutcome

__all__ = [
    "Cancel",
    "Exit",
    "FromWorker",
    "Outcome",
    "Progress",
    "Ready",
    "Report",
    "Run",
    "Setup",
    "ToWorker",
    "UnitReport",
]


class Setup(msgspec.Struct, frozen=True, kw_only=True, tag="setup"):
    """The first message: what may be run; every function is imported before the first job."""

    functions: dict[str, str]


class Run(msgspec.Struct, frozen=True, kw_only=True, tag="run"):
    """Do a job; `payload` is msgpack, `due` seconds from now."""

    id: str
    attempt: int
    kind: str
    payload: bytes
    units: tuple[str, ...] | None = None
    due: float | None = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag="cancel"):
    """Stop a job, if it is still the one under way."""

    id: str
    attempt: int


class Exit(msgspec.Struct, frozen=True, kw_only=True, tag="exit"):
    """End in order."""


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The functions are imported; `broken` says which could not be, and why."""

    broken: dict[str, str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report of progress; `n` counts them within an attempt."""

    n: int
    time: float
    unit: str = ""
    phase: str = ""
    fraction: float | None = None
    message: str = ""


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """The latest reports, one per unit and phase."""

    id: str
    attempt: int
    reports: list[Report]


class UnitReport(msgspec.Struct, frozen=True, kw_only=True, tag="unit"):
    """What became of a unit."""

    id: str
    attempt: int
    n: int
    outcome: UnitOutcome


class Outcome(msgspec.Struct, frozen=True, kw_only=True, tag="outcome"):
    """The job is over: `how` is ``returned``, ``raised`` or ``stopped``; `n` counts its reports.

    `result` is msgpack, and None when the function returned None.
    """

    id: str
    attempt: int
    how: str
    n: int
    result: bytes | None = None
    message: str = ""
    traceback: str = ""


ToWorker = Setup | Run | Cancel | Exit
FromWorker = Ready | Progress | UnitReport | Outcome
