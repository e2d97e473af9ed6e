"""ZMQExecutionClient: submits jobs and learns what becomes of them, also after a crash."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import PeerError
from zmqruntime._typed import from_plain
from zmqruntime.execution._enquiries import JobEnquiries, record_of
from zmqruntime.execution._errors import JobCancelledError, JobFailedError, JobLostError
from zmqruntime.execution._following import Following, unfinished
from zmqruntime.execution._record import JobEvent, JobRecord
from zmqruntime.execution._status import ExecutionStatus
from zmqruntime.execution._watch import Mailbox, Watch
from zmqruntime.loop._polling import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ZMQExecutionClient"]

_LAST_S = 1.0


class ZMQExecutionClient(JobEnquiries):
    """Submits jobs to an `ExecutionServer`, and learns what becomes of them.

    Parameters
    ----------
    endpoint
        Where the server is, or is to be.
    app
        What the server calls itself.
    command, log_path, persistent, env, client_app, token, keys, server_key
        As for `ZMQServiceManager`. With a command, a server that does not run is started, also
        while somebody waits for a job of one that crashed.
    patience
        Seconds for which a server may be away before those who wait are told that it is lost.

    Notes
    -----
    Requests survive a restart of the server: each has a key or changes nothing, so it is asked
    again. A job is known by its id for as long as the server's journal has it, to every client
    that may see it.

    Examples
    --------
    >>> from zmqruntime import Endpoint
    >>> jobs = ZMQExecutionClient(Endpoint(port=7777), app="jobs")
    >>> jobs.is_connected()
    False
    """

    _following: Following

    def _prepare(self) -> None:
        self._following = Following(self._changed, lambda: self._client, self._is_away)

    def submit(
        self,
        kind: str,
        payload: Any = None,
        *,
        key: str | None = None,
        priority: int = 0,
        retryable: bool = False,
        deadline: float | None = None,
        units: Sequence[str] | None = None,
        timeout: float = 10.0,
    ) -> str:
        """Submit a job; when this returns, the job is on the server's disk.

        Parameters
        ----------
        kind
            Which of the server's functions is to run.
        payload
            Plain value for it: None, bool, int, float, str, bytes, lists and maps with str keys.
        key
            Name of this piece of work. The same key names the same job, for ever: a repeat, also
            by a program that was started again, gets the job that there is.
        priority
            Higher ones run first. Of equal ones each client has one in turn, its oldest.
        retryable
            Whether the job may be run again when an attempt was lost.
        deadline
            Seconds from now at which it must be done.
        units
            Names of the parts that the function must report; without one of them the job fails,
            and the results of the others are kept.
        timeout
            Longest wait in seconds for the server to accept it.

        Returns
        -------
        str
            Name of the job.

        Raises
        ------
        ControlTimeout
            If it was not accepted in time; with the same key it can be submitted again.
        InvalidRequestError
            If the server has no such function.
        ConflictError
            If the key stands for something else.
        BusyError, UnavailableError
            If the server cannot take it now, and did not.
        """
        body: dict[str, Any] = {
            "kind": kind,
            "payload": payload,
            # a key in any case: the same request may have to be sent twice
            "key": key if key is not None else secrets.token_hex(16),
        }
        if priority:
            body["priority"] = priority
        if retryable:
            body["retryable"] = True
        if deadline is not None:
            body["deadline"] = float(deadline)
        if units is not None:
            body["units"] = list(units)
        return str(self._ask("submit", body, timeout=timeout)["id"])

    def cancel(self, job: str, *, timeout: float = 10.0) -> JobRecord:
        """Cancel a job, and no other; one that is over stays as it is.

        Parameters
        ----------
        job
            Its name.
        timeout
            Longest wait in seconds for the server to take the wish down, not for the end.

        Returns
        -------
        JobRecord
            The job: cancelled, being cancelled, or as it ended before.

        Raises
        ------
        NotFoundError
            If the server does not know the job.
        ForbiddenError
            If it is somebody else's.
        ControlTimeout
            If no answer came in time.
        """
        return record_of(self._ask("cancel", {"id": job}, timeout=timeout)["record"])

    def wait(
        self, job: str, timeout: float | None = None, *, patience: float | None = None
    ) -> JobRecord:
        """Wait until a job is over, across restarts of the server.

        Parameters
        ----------
        job
            Its name.
        timeout
            Longest wait in seconds; None waits for as long as there is a server.
        patience
            Seconds for which the server may be away; None takes that of the client.

        Returns
        -------
        JobRecord
            Completed, failed, cancelled or lost.

        Raises
        ------
        JobUnfinishedError
            If it was not over in time.
        ServerLost
            If the server vanished and did not come back. The job is in its journal.
        NotFoundError
            If the server does not know the job.
        """
        answer = self._ask_for_long(
            "wait",
            {"id": job},
            f"job {job}",
            deadline=_deadline(timeout),
            patience=self.patience if patience is None else patience,
        )
        if answer is None:
            record = self._last_known(job)
            if record is None or not record.state.terminal:
                raise unfinished(job, record)
            return record
        return record_of(answer["record"])

    def result(self, job: str, timeout: float | None = None) -> Any:
        """Wait until a job is over, and return what its function returned.

        Parameters
        ----------
        job, timeout
            As for `wait`.

        Returns
        -------
        object
            Plain value.

        Raises
        ------
        JobFailedError, JobCancelledError, JobLostError
            If it did not complete; `record` says why, and `units` what there is.
        JobUnfinishedError, ServerLost, NotFoundError
            As `wait`.
        """
        record = self.wait(job, timeout)
        if record.state is not ExecutionStatus.COMPLETED:
            kinds = {
                ExecutionStatus.CANCELLED: JobCancelledError,
                ExecutionStatus.LOST: JobLostError,
            }
            kind = kinds.get(record.state, JobFailedError)
            raise kind(
                f"job {job} ({record.kind}) is {record.state}: {record.message}", record=record
            )
        return self._ask("result", {"id": job, "limit": 1}, timeout=60.0).get("value")

    def watch(self, job: str, callback: Callable[[JobEvent], object], *, after: int = 0) -> Watch:
        """Call a function with the events of a job, on a thread of its own, until it is over.

        Parameters
        ----------
        job
            Its name.
        callback
            Called with one event at a time. Where it is slow, progress is left out: of each unit
            and phase the latest is handed over, and the end of the job always is.
        after
            Number of the last event that is not wanted.

        Returns
        -------
        Watch
            To be waited for, or closed.
        """
        watch = Watch(job, callback, after=after, on_close=self._following.forget_watch)
        with self._changed:
            self._following.want(job).watches.append(watch)
        self._following.ask(job)
        return watch

    def events(
        self, job: str, *, after: int = 0, timeout: float | None = None
    ) -> Iterator[JobEvent]:
        """Go through the events of a job that were kept, and then through new ones to its end.

        Parameters
        ----------
        job
            Its name.
        after
            Number of the last event that is not wanted.
        timeout
            Longest wait in seconds for the next event; None waits for as long as there is a
            server.

        Yields
        ------
        JobEvent
            In order; numbers that are missing were progress that a later one has replaced.

        Raises
        ------
        JobUnfinishedError
            If no event came in time.
        ServerLost
            If the server vanished and did not come back.
        NotFoundError
            If the server does not know the job.
        """
        following: int | None = after
        while following is not None:
            answer = self._ask_for_long(
                "events",
                {"id": job, "after": following},
                f"job {job}",
                deadline=_deadline(timeout),
                patience=self.patience,
            )
            if answer is None:
                raise unfinished(job, None)
            for event in answer["events"]:
                after = event["seq"]
                yield from_plain(event, JobEvent)
            following = answer["next"]
        mailbox = Mailbox(after=after)
        with self._changed:
            followed = self._following.want(job)
            followed.mailboxes.append(mailbox)
        try:
            self._following.ask(job)
            while True:
                deadline = _deadline(timeout)
                while not self._following.wait_for_news(mailbox, job, followed, deadline):
                    self._await_service(deadline, self.patience, f"job {job}")
                events = mailbox.take()
                if events is None:
                    return
                yield from events
        finally:
            with self._changed:
                followed.mailboxes.remove(mailbox)
                self._following.drop_if_unwanted(job)

    def close(self) -> None:
        """Disconnect, as `ZMQServiceManager.close` does; watches end, jobs go on."""
        for watch in self._following.watches():
            watch.close()
        super().close()

    def _welcomed(self) -> None:
        super()._welcomed()
        self._following.welcomed()

    def _connect_to_service(self, timeout: float) -> None:
        super()._connect_to_service(timeout)
        client = self.client
        client.control.on_push("execution", lambda body: self._following.hear(client, body))
        self._following.welcomed()  # what was told before that was not heard

    def _last_known(self, job: str) -> JobRecord | None:
        """Ask once more how a job is, for whoever waits for it no longer."""
        try:
            return self.status(job, timeout=_LAST_S).record
        except PeerError:
            return None


def _deadline(timeout: float | None) -> Deadline:
    return Deadline(float("inf") if timeout is None else timeout)
