"""JobEnquiries: what a client can ask of jobs: how they are, which there are, what they left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zmqruntime._typed import from_plain
from zmqruntime.control._handshake import Work
from zmqruntime.execution._record import JobRecord, UnitOutcome
from zmqruntime.execution._reviving import RevivingManager
from zmqruntime.execution._status import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["JobEnquiries", "JobStatus", "record_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """How a job is.

    Attributes
    ----------
    record
        The job.
    position
        Whose turn it is after how many others, from 1; None when it does not wait.
    work
        What the server does at the moment.
    """

    record: JobRecord
    position: int | None
    work: Work


class JobEnquiries(RevivingManager):
    """The requests that change nothing; a page or a piece at a time where there may be much."""

    def status(self, job: str, *, timeout: float = 10.0) -> JobStatus:
        """Ask how a job is.

        Parameters
        ----------
        job
            Its name.
        timeout
            Longest wait in seconds.

        Returns
        -------
        JobStatus
            As it is now.

        Raises
        ------
        NotFoundError
            If the server does not know the job, or this client may not see it.
        ControlTimeout
            If no answer came in time.
        """
        return _status_of(self._ask("status", {"id": job}, timeout=timeout))

    def server_status(self, *, timeout: float = 10.0) -> dict[str, Any]:
        """Ask how the server is: jobs per state, its work, and what is wrong, if anything is.

        Parameters
        ----------
        timeout
            As for `status`.

        Raises
        ------
        ControlTimeout
            As `status`.
        """
        return self._ask("status", {}, timeout=timeout)

    def jobs(
        self,
        *,
        state: ExecutionStatus | str | None = None,
        mine: bool = False,
        page: int = 100,
        timeout: float = 10.0,
    ) -> Iterator[JobRecord]:
        """List jobs, the last accepted first, a page at a time.

        Parameters
        ----------
        state
            Only those in this state.
        mine
            Only those of this client, also where it may see others.
        page
            How many are asked for at once, at most 500.
        timeout
            Longest wait in seconds for a page.

        Yields
        ------
        JobRecord
            Without traceback.

        Raises
        ------
        ControlTimeout
            As `status`.
        """
        before: int | None = None
        while True:
            body: dict[str, Any] = {"limit": page, "mine": mine}
            if before is not None:
                body["before"] = before
            if state is not None:
                body["state"] = ExecutionStatus(state).value
            answer = self._ask("list", body, timeout=timeout)
            yield from (record_of(record) for record in answer["jobs"])
            before = answer["next"]
            if before is None:
                return

    def units(self, job: str, *, timeout: float = 10.0) -> dict[str, UnitOutcome]:
        """Ask what was reported of the units of a job, however it ended, or has not yet.

        Parameters
        ----------
        job
            Its name.
        timeout
            Longest wait in seconds for each page.

        Returns
        -------
        dict[str, UnitOutcome]
            By name of the unit, in the order in which they were reported.

        Raises
        ------
        NotFoundError, ControlTimeout
            As `status`.
        """
        found: dict[str, UnitOutcome] = {}
        after: int | None = 0
        while after is not None:
            answer = self._ask("result", {"id": job, "after": after}, timeout=timeout)
            for unit in answer["units"]:
                outcome = from_plain(unit, UnitOutcome)
                found[outcome.unit] = outcome
            after = answer["next"]
        return found

    def logs(self, job: str, *, start: int = 0, timeout: float = 10.0) -> Iterator[str]:
        """Read what a job has written until now, in pieces of at most 64 KiB.

        Parameters
        ----------
        job
            Its name.
        start
            First byte that is wanted; the beginning of a long log may be gone.
        timeout
            Longest wait in seconds for each piece.

        Yields
        ------
        str
            A piece.

        Raises
        ------
        NotFoundError, ControlTimeout
            As `status`.
        """
        while True:
            answer = self._ask("logs", {"id": job, "after": start}, timeout=timeout)
            if answer["text"]:
                yield answer["text"]
            start = answer["next"]
            if start >= answer["size"]:
                return


def record_of(body: object) -> JobRecord:
    """Read a record as it was told."""
    return from_plain(body, JobRecord)


def _status_of(body: Mapping[str, Any]) -> JobStatus:
    return JobStatus(
        record=record_of(body["record"]),
        position=body["position"],
        work=from_plain(body["work"], Work),
    )
