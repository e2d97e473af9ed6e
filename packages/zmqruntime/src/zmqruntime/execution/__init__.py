"""Jobs that are not forgotten: a durable queue, its workers, and both sides of the wire."""

from __future__ import annotations

from zmqruntime.execution._client import ZMQExecutionClient
from zmqruntime.execution._context import JobContext
from zmqruntime.execution._enquiries import JobStatus
from zmqruntime.execution._errors import (
    JobCancelledError,
    JobError,
    JobFailedError,
    JobLostError,
    JobStopped,
    JobUnfinishedError,
    JournalCorruptError,
    JournalError,
    JournalFullError,
    JournalInUseError,
    JournalVersionError,
    ServerLost,
)
from zmqruntime.execution._journal import History
from zmqruntime.execution._record import JobEvent, JobRecord, UnitOutcome
from zmqruntime.execution._server import ExecutionServer
from zmqruntime.execution._settings import Settings
from zmqruntime.execution._status import ExecutionStatus
from zmqruntime.execution._watch import Watch

__all__ = [
    "ExecutionServer",
    "ExecutionStatus",
    "History",
    "JobCancelledError",
    "JobContext",
    "JobError",
    "JobEvent",
    "JobFailedError",
    "JobLostError",
    "JobRecord",
    "JobStatus",
    "JobStopped",
    "JobUnfinishedError",
    "JournalCorruptError",
    "JournalError",
    "JournalFullError",
    "JournalInUseError",
    "JournalVersionError",
    "ServerLost",
    "Settings",
    "UnitOutcome",
    "Watch",
    "ZMQExecutionClient",
]
