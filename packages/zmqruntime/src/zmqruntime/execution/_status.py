"""ExecutionStatus: what has become of a job, and what may become of it next."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["NEXT", "TERMINAL", "ExecutionStatus"]


class ExecutionStatus(StrEnum):
    """State of a job; *lost* is neither *cancelled* nor *failed*.

    A job is cancelled only when somebody asked for it by its id. It is lost when the process
    that ran it, or the server, vanished without saying what became of the work.
    """

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will become of the job."""
        return self in TERMINAL


_S = ExecutionStatus

TERMINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.LOST})
"""States that a job does not leave."""

NEXT: dict[ExecutionStatus, frozenset[ExecutionStatus]] = {
    # failed: its deadline passed before its turn came
    _S.QUEUED: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    # queued: the attempt was lost, and the job says that it may be run again
    _S.RUNNING: frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLING, _S.LOST, _S.QUEUED}),
    _S.CANCELLING: frozenset({_S.CANCELLED, _S.COMPLETED, _S.FAILED, _S.LOST}),
    **dict.fromkeys(TERMINAL, frozenset()),
}
"""Which states may follow which."""
