"""Board: the jobs that are not over, at the present moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zmqruntime.execution._line import WaitingLine

if TYPE_CHECKING:
    from zmqruntime.execution._live import LiveJob
    from zmqruntime.execution._record import JobRecord

__all__ = ["Board"]


@dataclass(slots=True)
class Board:
    """The jobs that are not over; written on the queue's loop, read by any thread.

    Attributes
    ----------
    live
        They, by name.
    dirty
        Those of which something was reported that is not in the journal yet, by name.
    line
        Those that wait.
    counts
        How many jobs there are in each state, those included that are over.
    """

    live: dict[str, LiveJob] = field(default_factory=dict)
    dirty: dict[str, LiveJob] = field(default_factory=dict)
    line: WaitingLine = field(default_factory=WaitingLine)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, job: LiveJob) -> None:
        """Take in a new job, which waits and is not in the journal yet."""
        self.live[job.record.id] = job
        self.wait(job.record)

    def wait(self, record: JobRecord) -> None:
        """Put a job into the line; one that was begun before comes before those that were not."""
        self.line.add(
            record.id,
            client=record.client,
            priority=record.priority,
            seq=record.seq,
            begun=record.attempt > 0,
        )

    def withdraw(self, job: LiveJob) -> None:
        """Take out a job that could not be written down."""
        self.live.pop(job.record.id, None)
        self.leave(job)

    def leave(self, job: LiveJob) -> None:
        """Take a job out of the line, if it is there."""
        self.line.remove(job.record.seq)

    def forget(self, job: LiveJob) -> None:
        """Take out a job that is over."""
        self.live.pop(job.record.id, None)
        for timer in (job.deadline, job.grace):
            if timer is not None:
                timer.cancel()
