"""ZMQExecutionClient: submits jobs and learns what becomes of them, also after a crash."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._connect import ZMQServiceManager
from zmqruntime._errors import (
    ControlTimeout,
    ForbiddenError,
    LoopStoppedError,
    NotFoundError,
    PeerLostError,
    RequestError,
    ServiceStartError,
    ZmqRuntimeError,
)
from zmqruntime._handshake import Work
from zmqruntime._polling import Backoff, Deadline
from zmqruntime.execution._errors import (
    JobCancelledError,
    JobFailedError,
    JobLostError,
    JobUnfinishedError,
    ServerLost,
)
from zmqruntime.execution._record import JobEvent, JobRecord, UnitOutcome
from zmqruntime.execution._status import ExecutionStatus
from zmqruntime.execution._watch import Mailbox, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from zmqruntime._client import ZMQClient
    from zmqruntime._endpoints import Endpoint
    from zmqruntime._messages import Reply

__all__ = ["JobStatus", "ZMQExecutionClient"]

logger = logging.getLogger(__name__)

_NO_EVENTS = 2**53
_FOLLOW_S = 30.0
_ATTACH_S = 2.0


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


@dataclass(slots=True)
class _Followed:
    """A job of which this client wants to hear."""

    record: JobRecord | None = None
    error: RequestError | None = None
    watches: list[Watch] = field(default_factory=list)
    mailboxes: list[Mailbox] = field(default_factory=list)
    waiting: int = 0

    @property
    def over(self) -> bool:
        return self.record is not None and self.record.state.terminal

    @property
    def wanted(self) -> bool:
        return bool(self.waiting or self.watches or self.mailboxes)

    @property
    def after(self) -> int:
        boxes = [*self.mailboxes, *(watch.mailbox for watch in self.watches)]
        return min((box.seen for box in boxes), default=_NO_EVENTS)


class ZMQExecutionClient(ZMQServiceManager):
    """Submits jobs to an `ExecutionServer`, and learns what becomes of them.

    Parameters
    ----------
    endpoint
        Where the server is, or is to be.
    app
        What the server calls itself.
    command, log_path, persistent, env, client_app, token
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

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        app: str = "execution",
        command: Sequence[str] | None = None,
        log_path: Path | None = None,
        persistent: bool = False,
        env: Mapping[str, str] | None = None,
        client_app: str = "zmqruntime",
        token: str | None = None,
        patience: float = 30.0,
    ) -> None:
        super().__init__(
            app,
            endpoint,
            command=command,
            log_path=log_path,
            persistent=persistent,
            env=env,
            client_app=client_app,
            token=token,
        )
        self.patience = patience
        self._changed = threading.Condition()  # guards what follows
        self._followed: dict[str, _Followed] = {}
        self._lost_since: float | None = None
        self._lost_reason = ""
        self._seen = 0
        self._asking = 0
        self._used = False  # between the first connect() and close()

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
            Higher ones run first; equal ones in the order in which they were accepted.
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
            Longest wait in seconds.

        Raises
        ------
        ControlTimeout
            If no answer came in time.
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
            If no answer came in time.
        """
        before: int | None = None
        while True:
            body: dict[str, Any] = {"limit": page, "mine": mine}
            if before is not None:
                body["before"] = before
            if state is not None:
                body["state"] = ExecutionStatus(state).value
            answer = self._ask("list", body, timeout=timeout)
            yield from (_record_of(record) for record in answer["jobs"])
            before = answer["next"]
            if before is None:
                return

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
        return _record_of(self._ask("cancel", {"id": job}, timeout=timeout)["record"])

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
        deadline = Deadline(timeout) if timeout is not None else None
        patience = self.patience if patience is None else patience
        with self._changed:
            followed = self._followed.setdefault(job, _Followed())
            followed.waiting += 1
        try:
            self._send_follow(job)
            while not self._wait_until(
                lambda: followed.over, job, followed, deadline=deadline, patience=patience
            ):
                self._bring_back(patience)
        finally:
            with self._changed:
                followed.waiting -= 1
                self._drop_if_unwanted(job)
        assert followed.record is not None
        return followed.record

    def result(self, job: str, timeout: float | None = None) -> Any:
        """Wait until a job is over, and return what its function returned.

        Parameters
        ----------
        job
            Its name.
        timeout
            Longest wait in seconds.

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
                outcome = msgspec.convert(unit, UnitOutcome)
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
        watch = Watch(job, callback, after=after, on_close=self._forget_watch)
        with self._changed:
            self._followed.setdefault(job, _Followed()).watches.append(watch)
        self._send_follow(job)
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
            answer = self._ask("events", {"id": job, "after": following}, timeout=10.0)
            for event in answer["events"]:
                after = event["seq"]
                yield msgspec.convert(event, JobEvent)
            following = answer["next"]
        mailbox = Mailbox(after=after)
        with self._changed:
            followed = self._followed.setdefault(job, _Followed())
            followed.mailboxes.append(mailbox)
        try:
            self._send_follow(job)
            yield from self._live_events(job, followed, mailbox, timeout)
        finally:
            with self._changed:
                followed.mailboxes.remove(mailbox)
                self._drop_if_unwanted(job)

    def close(self) -> None:
        """Disconnect, as `ZMQServiceManager.close` does; watches end, jobs go on."""
        with self._changed:
            watches = [watch for each in self._followed.values() for watch in each.watches]
        for watch in watches:
            watch.close()
        self._used = False
        super().close()

    # -- the connection ---------------------------------------------------------------------

    def _connect_to_service(self, timeout: float) -> None:
        # a server that was killed a moment ago may still look alive: look again soon
        super()._connect_to_service(min(timeout, _ATTACH_S) if self._used else timeout)
        self._used = True
        client = self.client
        client.control.on_push("execution", lambda body: self._on_news(client, body))
        client.on_welcome(lambda _: self._on_welcome())
        client.on_lost(self._on_lost)
        self._on_welcome()
        if not client.connected:
            self._on_lost("the connection broke")

    def _on_welcome(self) -> None:
        with self._changed:
            self._lost_since = None
            self._seen = 0
            wanted = [job for job, followed in self._followed.items() if not followed.over]
            self._changed.notify_all()
        for job in wanted:
            self._send_follow(job)

    def _on_lost(self, reason: str) -> None:
        with self._changed:
            if self._lost_since is None:
                self._lost_since = time.monotonic()
            self._lost_reason = reason
            self._changed.notify_all()
            restart = self.command is not None and self._asking > 0
        if restart:
            # who asks waits for an answer; this thread is the loop of a connection that is replaced
            threading.Thread(
                target=self._bring_back, args=(self.patience,), name="bring-back", daemon=True
            ).start()

    def _bring_back(self, patience: float) -> None:
        """Start the server again, where we can; else leave it to whoever does."""
        if self.command is None or not self._used:
            return
        with self._changed:
            if self._lost_since is None and not self.is_connected():
                self._lost_since = time.monotonic()
                self._lost_reason = "the connection broke"
            since = self._lost_since
        if since is None:
            return
        waits = Backoff(first=0.05, longest=8.0)
        while self._used and not self.is_connected():
            left = since + patience - time.monotonic()
            if left <= 0:
                return
            try:
                self.connect_or_raise(left)
            except ServiceStartError as error:
                logger.warning("%s", error)
                with self._changed:
                    self._changed.wait(min(waits.next(), max(0.0, left)))

    def _await_connection(self, deadline: Deadline) -> ZMQClient:
        """Wait for a connection, and start the server again where we can."""
        if not self._used:
            return self.client  # raises, because nobody called connect()
        while not (self.is_connected() or deadline.expired):
            left = deadline.remaining()
            with self._changed:
                # the loss is noticed before those who are told of it have been
                self._changed.wait_for(self.is_connected, left if self.command is None else 0.05)
            self._bring_back(left)
        client = self._client
        if client is None:
            raise ControlTimeout(
                f"{self.app} at {self.endpoint} could not be started again: {self.last_error}"
            )
        return client

    def _ask(self, type_: str, body: dict[str, Any], *, timeout: float) -> dict[str, Any]:
        """Ask, and again when the server was lost meanwhile: no request here does harm twice."""
        deadline = Deadline(timeout)
        with self._changed:
            self._asking += 1
        try:
            while True:
                client = self._await_connection(deadline)
                try:
                    return client.control.request(
                        type_, body, timeout=max(0.001, deadline.remaining())
                    )
                except PeerLostError:
                    if deadline.expired:
                        raise
                except LoopStoppedError:
                    if client is self._client or not self._used or deadline.expired:
                        raise  # closed here, and not to be replaced by another connection
                except ForbiddenError as error:
                    # a server that was started again has a new token, which the next hello shows
                    if error.code != "unauthenticated" or deadline.expired:
                        raise
                    with self._changed:
                        self._changed.wait(min(0.05, deadline.remaining()))
        finally:
            with self._changed:
                self._asking -= 1

    # -- what is followed -----------------------------------------------------------------------

    def _send_follow(self, job: str) -> None:
        """Ask to be told of a job; without a connection, the next welcome does it."""
        with self._changed:
            followed = self._followed.get(job)
            if followed is None:
                return
            after = followed.after
        client = self._client
        if client is None or not client.connected:
            return
        try:
            future = client.control.request_nowait(
                "follow", {"id": job, "after": after}, timeout=_FOLLOW_S
            )
        except ZmqRuntimeError:
            return  # closed, or being replaced: its successor says hello
        future.add_done_callback(lambda done: self._on_followed(client, job, done))

    def _on_followed(self, client: ZMQClient, job: str, done: Future[Reply]) -> None:
        try:
            record = _status_of(done.result().body).record
        except NotFoundError as error:
            with self._changed:
                followed = self._followed.get(job)
                if followed is not None:
                    followed.error = error
                    for box in (*followed.mailboxes, *(w.mailbox for w in followed.watches)):
                        box.put((), over=True)
                self._changed.notify_all()
            return
        except ControlTimeout:
            if client is self._client:
                self._send_follow(job)
            return
        except RequestError as error:
            logger.info("cannot follow job %s yet: %s", job, error)
            if error.retryable or error.code == "unauthenticated":
                client.loop.call_later(0.1, lambda: self._send_follow(job))
            return
        except ZmqRuntimeError:
            return  # lost; the next welcome follows again
        with self._changed:
            followed = self._followed.get(job)
            if followed is not None and not followed.over:
                # the events before the end are still to come; who only waits needs none of them
                if not (record.state.terminal and followed.after != _NO_EVENTS):
                    followed.record = record
                self._changed.notify_all()

    def _on_news(self, client: ZMQClient, body: dict[str, Any]) -> None:
        """Take a message about jobs in; on the loop."""
        n = body["n"]
        client.control.notify("follow_ack", {"n": n})
        with self._changed:
            if n <= self._seen:
                return  # sent twice, because our word of the first was late
            self._seen = n
            for news in body["jobs"]:
                record = _record_of(news["record"])
                followed = self._followed.get(record.id)
                if followed is None:
                    continue
                over = news["whole"] and record.state.terminal
                events = [msgspec.convert(event, JobEvent) for event in news["events"]]
                for watch in followed.watches:
                    watch.record = record if over else None
                    watch.mailbox.put(events, over=over)
                for mailbox in followed.mailboxes:
                    mailbox.put(events, over=over)
                if over or not record.state.terminal:
                    followed.record = record
                if over:
                    followed.watches.clear()
                    self._drop_if_unwanted(record.id)
            self._changed.notify_all()

    def _wait_until(
        self,
        ready: Callable[[], bool],
        job: str,
        followed: _Followed,
        *,
        deadline: Deadline | None,
        patience: float,
    ) -> bool:
        """Wait for news of a job; False when the server is away and may be brought back."""
        with self._changed:
            while not ready():
                if followed.error is not None:
                    raise followed.error
                waits = []
                if deadline is not None:
                    if deadline.expired:
                        raise _unfinished(job, followed.record)
                    waits.append(deadline.remaining())
                if self._lost_since is not None:
                    left = self._lost_since + patience - time.monotonic()
                    if left <= 0:
                        raise self._server_lost(job)
                    if self.command is not None:
                        return False
                    waits.append(left)
                self._changed.wait(min(waits, default=None))
        return True

    def _live_events(
        self, job: str, followed: _Followed, mailbox: Mailbox, timeout: float | None
    ) -> Iterator[JobEvent]:
        while True:
            deadline = None if timeout is None else Deadline(timeout)
            while not self._wait_until(
                lambda: mailbox.ready, job, followed, deadline=deadline, patience=self.patience
            ):
                self._bring_back(self.patience)
            events = mailbox.take()
            if events is None:
                return
            yield from events

    def _forget_watch(self, watch: Watch) -> None:
        with self._changed:
            followed = self._followed.get(watch.id)
            if followed is not None and watch in followed.watches:
                followed.watches.remove(watch)
                self._drop_if_unwanted(watch.id)

    def _drop_if_unwanted(self, job: str) -> None:
        """Follow a job no longer when nobody here wants to hear of it; under the lock."""
        followed = self._followed.get(job)
        if followed is None or followed.wanted:
            return
        del self._followed[job]
        client = self._client
        if client is not None and client.connected and not followed.over:
            client.control.notify("unfollow", {"id": job})

    def _server_lost(self, job: str) -> ServerLost:
        return ServerLost(
            f"{self.app} at {self.endpoint} is gone ({self._lost_reason}) and did not come back; "
            f"what became of job {job} is in its journal, and is told when it is started again"
        )


def _unfinished(job: str, record: JobRecord | None) -> JobUnfinishedError:
    known = record or JobRecord(id=job, seq=0, kind="", state=ExecutionStatus.QUEUED)
    what = "nothing is known of it yet" if record is None else f"it is {record.state}"
    return JobUnfinishedError(f"job {job} is not over: {what}", record=known)


def _record_of(body: object) -> JobRecord:
    return msgspec.convert(body, JobRecord)


def _status_of(body: Mapping[str, Any]) -> JobStatus:
    return JobStatus(
        record=_record_of(body["record"]),
        position=body["position"],
        work=msgspec.convert(body["work"], Work),
    )
