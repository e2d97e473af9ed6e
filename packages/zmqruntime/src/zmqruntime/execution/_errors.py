"""Errors of execution; each leaf is also the builtin exception that it stands for.

::

    ZmqRuntimeError
    ├── JournalError                                  the file of jobs cannot be used
    │   ├── JournalCorruptError     ValueError        it is no journal, or a damaged one
    │   ├── JournalFullError        OSError           it cannot be written, so nothing was
    │   ├── JournalInUseError       RuntimeError      another server has it
    │   └── JournalVersionError     ValueError        a newer version has written it
    ├── JobError                                      a job has no result
    │   ├── JobCancelledError       RuntimeError      somebody asked for that
    │   ├── JobFailedError          RuntimeError      its function failed, or left something out
    │   ├── JobLostError            RuntimeError      nobody knows what became of it
    │   └── JobUnfinishedError      TimeoutError      it is not over yet
    ├── JobStopped                  RuntimeError      inside a function: it was asked to stop
    └── PeerError
        └── ServerLost              ConnectionError   the server is gone and does not come back
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmqruntime._errors import PeerError, ZmqRuntimeError

if TYPE_CHECKING:
    from pathlib import Path

    from zmqruntime.execution._record import JobRecord

__all__ = [
    "JobCancelledError",
    "JobError",
    "JobFailedError",
    "JobLostError",
    "JobStopped",
    "JobUnfinishedError",
    "JournalCorruptError",
    "JournalError",
    "JournalFullError",
    "JournalInUseError",
    "JournalVersionError",
    "ServerLost",
]


class JournalError(ZmqRuntimeError):
    """The file of jobs cannot be used.

    Attributes
    ----------
    path
        The file.
    """

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class JournalCorruptError(JournalError, ValueError):
    """The file is no journal, or a damaged one; it was left as it is."""


class JournalFullError(JournalError, OSError):
    """The file cannot be written; nothing of what was to be written is in it."""


class JournalInUseError(JournalError, RuntimeError):
    """Another server has the journal."""


class JournalVersionError(JournalError, ValueError):
    """A newer version of this library has written the file; it was left as it is."""


class JobError(ZmqRuntimeError):
    """A job has no result.

    Attributes
    ----------
    record
        The job.
    """

    def __init__(self, message: str, *, record: JobRecord) -> None:
        super().__init__(message)
        self.record = record


class JobCancelledError(JobError, RuntimeError):
    """The job was cancelled, because somebody asked for it."""


class JobFailedError(JobError, RuntimeError):
    """The function failed, was late, or left units out; `record` has code and traceback."""


class JobLostError(JobError, RuntimeError):
    """The process that ran the job vanished; how far it came is not known."""


class JobUnfinishedError(JobError, TimeoutError):
    """The job was not over in time; it goes on."""


class JobStopped(ZmqRuntimeError, RuntimeError):  # noqa: N818 - not an error of the function
    """Raised inside a function that was asked to stop, and let through by it."""


class ServerLost(PeerError, ConnectionError):  # noqa: N818 - named by the protocol
    """The server is gone and did not come back in time; its journal still has the job."""
