"""ExecutionQueue: what clients ask of the jobs; the journal is written first, then it is so."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import LoopStoppedError, NotFoundError, RequestError, UnavailableError
from zmqruntime.control._messages import Reply
from zmqruntime.execution import _lifecycle
from zmqruntime.execution._admission import Admission
from zmqruntime.execution._attempts import Attempts
from zmqruntime.execution._board import Board
from zmqruntime.execution._ends import Ends
from zmqruntime.execution._errors import JournalError
from zmqruntime.execution._live import LiveJob
from zmqruntime.execution._status import ExecutionStatus
from zmqruntime.execution._step import Step, complete, fail, refuse
from zmqruntime.execution._survivors import stop_survivors
from zmqruntime.execution._telling import Telling
from zmqruntime.execution._turns import Turns
from zmqruntime.loop._loop import IOThread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.control._handshake import Work
    from zmqruntime.execution._journal import Journal
    from zmqruntime.execution._journal_reader import JournalReader
    from zmqruntime.execution._record import JobRecord, NewJob
    from zmqruntime.execution._settings import Settings

__all__ = ["ExecutionQueue"]

logger = logging.getLogger(__name__)

_LAST_WAIT_S = 5.0
_S = ExecutionStatus


class ExecutionQueue:
    """Takes jobs, gives them to workers, and writes everything down before it counts.

    Parameters
    ----------
    journal
        Open, and used by nobody else from now on.
    reader
        The same file, for reading.
    functions
        Name of the function, ``module:function``, per kind of job.
    settings
        How jobs are run.
    push
        Called with a peer and what it is to be told.
    on_work
        Called when what the server does has changed.
    on_news
        Called with each job of which there is news.

    Notes
    -----
    What clients ask, workers say and time brings goes into `Turns`. They make a step of it and
    write that down. After that, and only then, it comes back here to be carried out: `Attempts`
    begins and stops jobs, futures are completed, and `Ends` and `Telling` inform who waits.
    """

    def __init__(
        self,
        journal: Journal,
        reader: JournalReader,
        functions: Mapping[str, str],
        *,
        settings: Settings,
        push: Callable[[bytes, dict[str, Any]], object],
        on_work: Callable[[Work], object],
        on_news: Callable[[LiveJob], object],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._settings = settings
        self.loop = IOThread("execution-queue")
        self._board = Board()
        self._ends = Ends()
        self._admission = Admission(
            journal,
            self._board,
            kinds=functions,
            most=settings.waiting,
            most_each=settings.waiting_each or settings.waiting,
        )
        self._turns = Turns(
            self.loop,
            journal,
            self._board,
            assign=lambda step: self._attempts.assign(step),
            carry_out=self._carry_out,
        )
        self._telling = Telling(
            self.loop,
            self._board,
            reader,
            push=push,
            on_news=on_news,
            silent=lambda: self._turns.stuck,
        )
        self._attempts = Attempts(
            self.loop,
            journal,
            self._board,
            self._turns,
            self._telling,
            functions=functions,
            settings=settings,
            on_work=on_work,
        )

    def start(self) -> None:
        """Take up what a former server left, and begin.

        Raises
        ------
        JournalError
            If that cannot be written down.
        """
        self.loop.start()
        self.loop.submit(self._begin).result()

    def stop(self, grace: float = 3.0) -> None:
        """Let jobs that run stop, put down what became of them, and end the workers.

        Parameters
        ----------
        grace
            Seconds that they have.
        """
        if not self.loop.running:
            return
        self.loop.submit(self._attempts.ask_all_to_stop).result()
        if not self._attempts.wait_quiet(grace):
            self.loop.submit(self._attempts.end_all).result()
            self._attempts.wait_quiet(_LAST_WAIT_S)
        self.loop.submit(self._finish).result()
        self.loop.stop()

    def submit(self, new: NewJob, *, client: str) -> Future[Reply]:
        """Take a job; any thread.

        Parameters
        ----------
        new
            What is to be done.
        client
            Who wants it.

        Returns
        -------
        Future
            Holds the ``accepted`` reply once the job is on the disk, or the reason why not.
        """
        future: Future[Reply] = Future()
        self._turns.take(
            partial(self._on_submit, new, client, future), refuse=partial(refuse, future)
        )
        return future

    def cancel(self, id_: str, *, by: str) -> Future[Reply]:
        """Cancel a job; any thread.

        Returns
        -------
        Future
            Holds the answer once the wish is on the disk; a job that is over stays as it is.
        """
        future: Future[Reply] = Future()
        self._turns.take(partial(self._on_cancel, id_, by, future))
        return future

    def end_of(self, id_: str) -> Future[Reply]:
        """Wait for the end of a job that was not over a moment ago; any thread.

        Returns
        -------
        Future
            Holds the answer once the end is on the disk. Who cancels it is forgotten.

        Raises
        ------
        BusyError
            If too many wait already.
        """
        future = self._ends.expect(id_)
        if id_ not in self._board.live:  # it ended in between, and may have been told already
            record = self._reader.record(id_)
            if record is not None:
                self._ends.tell(record)
        return future

    def follow(self, peer: bytes, id_: str, *, after: int) -> None:
        """Tell a peer of a job from now on; any thread."""
        self.loop.call_soon(self._telling.follow, peer, id_, after)

    def follow_all(self, peer: bytes, visible: Callable[[str], bool]) -> None:
        """Tell a peer of all jobs of some clients; any thread."""
        self.loop.call_soon(self._telling.follow_all, peer, visible)

    def unfollow(self, peer: bytes, id_: str | None = None) -> None:
        """Tell a peer no longer of a job, or of any; any thread."""
        with suppress(LoopStoppedError):
            self.loop.call_soon(self._telling.unfollow, peer, id_)

    def acknowledged(self, peer: bytes, n: int) -> None:
        """Note that a peer has taken a message in; any thread."""
        with suppress(LoopStoppedError):
            self.loop.call_soon(self._telling.acknowledged, peer, n)

    def live(self, id_: str) -> JobRecord | None:
        """Return a job that is not over; any thread."""
        job = self._board.live.get(id_)
        return None if job is None else job.record

    def described(self, record: JobRecord) -> dict[str, Any]:
        """Say how a job is, and whose turn it is after how many others; any thread."""
        position = self._board.line.position(record.seq)
        return {
            "record": msgspec.to_builtins(record),
            "position": position,  # as of a moment ago
            "work": msgspec.to_builtins(self.work),
        }

    @property
    def work(self) -> Work:
        """What the server does."""
        return self._attempts.work

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return {state: self._board.counts[state] for state in _S}

    @property
    def trouble(self) -> str:
        """What is wrong with the journal or the workers; empty when nothing is."""
        return self._turns.trouble or self._attempts.trouble

    # -- on the loop ------------------------------------------------------------------------

    def _begin(self) -> None:
        noted = self._journal.workers()
        ended = stop_survivors(noted, mark=self._journal.server_id)
        if ended:
            logger.warning("ended %d workers that a former server had left", len(ended))
        self._board.counts.update(self._journal.counts())
        step = Step()
        step.forgotten.extend(noted)
        for record in self._journal.unfinished():
            live = LiveJob(
                record,
                self._journal.units(record.seq),
                outcomes=self._journal.outcomes(record.seq),
                log_size=self._journal.log_size(record.seq),
            )
            self._board.live[record.id] = live
            if record.state is _S.QUEUED:
                self._board.wait(record)
            else:
                self._attempts.take_up(step, live)
            self._attempts.watch_deadline(live)
        self._turns.commit(step)
        self._carry_out(step)
        self._attempts.start()

    def _finish(self) -> None:
        self._attempts.end_workers(1.0)
        step = Step()
        step.forgotten.extend(self._journal.workers())
        with suppress(JournalError):
            self._turns.commit(step)

    def _on_submit(self, new: NewJob, client: str, future: Future[Reply], step: Step) -> None:
        try:
            if self._attempts.stopping:
                raise UnavailableError("the server is about to stop", retryable=True)
            self._admission.admit(new, client, future, step)
        except RequestError as error:
            fail(future, error)

    def _on_cancel(self, id_: str, by: str, future: Future[Reply], step: Step) -> None:
        live = self._board.live.get(id_)
        if live is None:
            record = self._reader.record(id_)
            if record is None:
                fail(future, NotFoundError(f"there is no job {id_!r}"))
            else:
                step.answers.append(lambda: complete(future, Reply(self.described(record))))
            return
        if step.record_of(live).state is _S.QUEUED:
            self._board.leave(live)
        step.advance(live, _lifecycle.CancelAsked(by), attempts=self._settings.attempts)
        step.answers.append(lambda: complete(future, Reply(self.described(live.record))))

    def _carry_out(self, step: Step) -> None:
        """Do and say what is safe to do and say now; first what somebody waits for."""
        for accepted in step.accepted.values():
            self._board.counts[accepted.live.record.state] += 1
        for id_, record in step.records.items():
            live = step.changed[id_]
            self._board.counts[live.record.state] -= 1
            self._board.counts[record.state] += 1
            live.record = record
            if record.state.terminal:
                self._board.forget(live)
        self._attempts.begin(step)
        for accepted in step.accepted.values():
            accepted.answer(self._admission.reply(accepted.live.record, repeated=False))
        for record in step.records.values():
            if record.state.terminal:
                self._ends.tell(record)
        for answer in step.answers:
            answer()
        self._attempts.obey(step)
        self._attempts.describe_work()
        for live in step.changed.values():
            self._telling.changed(live)
        self._telling.tell(urgent=step.changed)
