"""Following: the jobs of which a client wants to hear, and what it has heard."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import ControlTimeout, NotFoundError, RequestError, ZmqRuntimeError
from zmqruntime.control._pushes import read_push
from zmqruntime.execution._errors import JobUnfinishedError
from zmqruntime.execution._messages import JobNews, News
from zmqruntime.execution._record import JobRecord
from zmqruntime.execution._status import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from zmqruntime._client import ZMQClient
    from zmqruntime.control._messages import Reply
    from zmqruntime.execution._watch import Mailbox, Watch
    from zmqruntime.loop._polling import Deadline

__all__ = ["Followed", "Following", "unfinished"]

logger = logging.getLogger(__name__)

_FOLLOW_S = 30.0
_AGAIN_S = 0.1


@dataclass(slots=True)
class Followed:
    """A job of which this client wants to hear; guarded by the lock of `Following`.

    Attributes
    ----------
    record
        The last that was heard, or None.
    error
        Why nothing can be heard, or None.
    watches, mailboxes
        Who wants its events.
    """

    record: JobRecord | None = None
    error: RequestError | None = None
    watches: list[Watch] = field(default_factory=list)
    mailboxes: list[Mailbox] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether its end was heard."""
        return self.record is not None and self.record.state.terminal

    @property
    def wanted(self) -> bool:
        """Whether anybody here still wants to hear of it."""
        return bool(self.watches or self.mailboxes)

    @property
    def boxes(self) -> list[Mailbox]:
        """Where its events go."""
        return [*self.mailboxes, *(watch.mailbox for watch in self.watches)]

    @property
    def after(self) -> int:
        """Number of the last event that everybody here has."""
        return min((box.seen for box in self.boxes), default=0)


class Following:
    """The jobs of which a client wants to hear.

    Parameters
    ----------
    changed
        Lock of all of this, notified whenever something was heard.
    connection
        Returns the present connection, or None.
    away
        Says whether the server is away.
    """

    def __init__(
        self,
        changed: threading.Condition,
        connection: Callable[[], ZMQClient | None],
        away: Callable[[], bool],
    ) -> None:
        self._changed = changed
        self._connection = connection
        self._jobs: dict[str, Followed] = {}
        self._seen = 0
        self._away = away

    def want(self, job: str) -> Followed:
        """Begin to want to hear of a job; under the lock, and followed by `ask`."""
        return self._jobs.setdefault(job, Followed())

    def watches(self) -> list[Watch]:
        """Return all watches."""
        with self._changed:
            return [watch for each in self._jobs.values() for watch in each.watches]

    def forget_watch(self, watch: Watch) -> None:
        """Give a watch nothing more."""
        with self._changed:
            followed = self._jobs.get(watch.id)
            if followed is not None and watch in followed.watches:
                followed.watches.remove(watch)
                self.drop_if_unwanted(watch.id)

    def drop_if_unwanted(self, job: str) -> None:
        """Follow a job no longer when nobody here wants to hear of it; under the lock."""
        followed = self._jobs.get(job)
        if followed is None or followed.wanted:
            return
        del self._jobs[job]
        client = self._connection()
        if client is not None and client.connected and not followed.over:
            client.control.notify("unfollow", {"id": job})

    def welcomed(self) -> None:
        """Ask for everything anew, because a connection is new to the server."""
        with self._changed:
            self._seen = 0
            wanted = [job for job, followed in self._jobs.items() if not followed.over]
            self._changed.notify_all()
        for job in wanted:
            self.ask(job)

    def ask(self, job: str) -> None:
        """Ask to be told of a job; without a connection, the next welcome does it."""
        with self._changed:
            followed = self._jobs.get(job)
            if followed is None:
                return
            after = followed.after
        client = self._connection()
        if client is None or not client.connected:
            return
        try:
            future = client.control.request_nowait(
                "follow", {"id": job, "after": after}, timeout=_FOLLOW_S
            )
        except ZmqRuntimeError:
            return  # closed, or being replaced: its successor is welcomed
        future.add_done_callback(lambda done: self._answered(client, job, done))

    def _answered(self, client: ZMQClient, job: str, done: Future[Reply]) -> None:
        try:
            body = done.result().body
        except NotFoundError as error:
            self._give_up(job, error)
            return
        except ControlTimeout:
            if client is self._connection():
                self.ask(job)
            return
        except RequestError as error:
            if error.retryable or error.code == "unauthenticated":
                logger.info("cannot follow job %s yet: %s", job, error)
                client.loop.call_later(_AGAIN_S, lambda: self.ask(job))
            else:
                self._give_up(job, error)
            return
        except ZmqRuntimeError:
            return  # lost; the next welcome asks again
        record = read_push(client.control, body.get("record"), JobRecord)
        if record is None:
            return
        with self._changed:
            followed = self._jobs.get(job)
            if followed is None or followed.over:
                return
            if not record.state.terminal:  # else the events before the end are still to come
                followed.record = record
            self._changed.notify_all()

    def _give_up(self, job: str, error: RequestError) -> None:
        with self._changed:
            followed = self._jobs.get(job)
            if followed is not None:
                followed.error = error
                for box in followed.boxes:
                    box.put((), over=True)
            self._changed.notify_all()

    def hear(self, client: ZMQClient, body: dict[str, Any]) -> None:
        """Take a message about jobs in; on the loop."""
        news = read_push(client.control, body, News)
        if news is None:
            return
        client.control.notify("follow_ack", {"n": news.n})
        with self._changed:
            if news.n <= self._seen:
                return  # sent twice, because our word of the first was late
            self._seen = news.n
            for each in news.jobs:
                job = read_push(client.control, each, JobNews)
                if job is not None:
                    self._take(job)
            self._changed.notify_all()

    def _take(self, news: JobNews) -> None:
        record = news.record
        followed = self._jobs.get(record.id)
        if followed is None:
            return
        over = news.whole and record.state.terminal
        for watch in followed.watches:
            watch.record = record if over else None
        for box in followed.boxes:
            box.put(news.events, over=over)
        if over or not record.state.terminal:
            followed.record = record
        if over:
            followed.watches.clear()
            self.drop_if_unwanted(record.id)

    def wait_for_news(
        self, mailbox: Mailbox, job: str, followed: Followed, deadline: Deadline
    ) -> bool:
        """Wait until there is something in a mailbox.

        Parameters
        ----------
        mailbox, job, followed
            Of which job.
        deadline
            Until when to wait.

        Returns
        -------
        bool
            False when the server is away.

        Raises
        ------
        JobUnfinishedError
            If the deadline has passed.
        RequestError
            If the job cannot be followed.
        """
        with self._changed:
            while not mailbox.ready:
                if followed.error is not None:
                    raise followed.error
                if deadline.expired:
                    raise unfinished(job, followed.record)
                if self._away():
                    return False
                self._changed.wait(min(deadline.remaining(), threading.TIMEOUT_MAX))
        return True


def unfinished(job: str, record: JobRecord | None) -> JobUnfinishedError:
    """Make the error of who waits for a job no longer."""
    known = record or JobRecord(id=job, seq=0, kind="", state=ExecutionStatus.QUEUED)
    what = "nothing is known of it yet" if record is None else f"it is {record.state}"
    return JobUnfinishedError(f"job {job} is not over: {what}", record=known)
