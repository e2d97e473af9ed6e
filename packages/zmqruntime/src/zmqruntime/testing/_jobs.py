"""Journals with a past, for tests and benchmarks of what a long history costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zmqruntime.execution._journal import Journal
from zmqruntime.execution._record import JobRecord, NewJob
from zmqruntime.execution._status import ExecutionStatus

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_finished_jobs"]


def write_finished_jobs(path: Path, count: int, *, kind: str = "noop") -> None:
    """Write jobs that are over into a journal that no server has.

    Parameters
    ----------
    path
        The file; made where it is missing.
    count
        How many.
    kind
        What they were to run.

    Raises
    ------
    JournalError
        If the file cannot be used.
    """
    now = time.time()
    with Journal(path) as journal, journal.transaction(durable=False):
        for _ in range(count):
            seq = journal.next_seq()
            record = JobRecord(
                id=f"finished-{seq}",
                seq=seq,
                kind=kind,
                state=ExecutionStatus.COMPLETED,
                client="owner",
                attempt=1,
                submitted=now,
                started=now,
                ended=now,
            )
            journal.accept(record, NewJob(kind=kind))
