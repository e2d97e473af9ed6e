"""ExecutionQueue: the thread that writes the journal first and then does what it says."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from zmqruntime._errors import LoopStoppedError, NotFoundError, RequestError, UnavailableError
from zmqruntime._handshake import Work
from zmqruntime._loop import IOThread
from zmqruntime._messages import Reply
from zmqruntime._polling import Backoff
from zmqruntime.execution import _lifecycle
from zmqruntime.execution._admission import Admission
from zmqruntime.execution._board import Board
from zmqruntime.execution._ends import Ends
from zmqruntime.execution._errors import JournalError
from zmqruntime.execution._lifecycle import Instruction, advance
from zmqruntime.execution._live import LiveJob
from zmqruntime.execution._status import TERMINAL, ExecutionStatus
from zmqruntime.execution._step import Step, complete, fail
from zmqruntime.execution._survivors import stop_survivors
from zmqruntime.execution._telling import Telling
from zmqruntime.execution._worker_messages import (
    Cancel,
    Outcome,
    Progress,
    Ready,
    Run,
    UnitReport,
)
from zmqruntime.execution._workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime._loop import TimerHandle
    from zmqruntime.execution._journal import Journal
    from zmqruntime.execution._journal_reader import JournalReader
    from zmqruntime.execution._lifecycle import Event
    from zmqruntime.execution._record import JobEvent, JobRecord, NewJob
    from zmqruntime.execution._settings import Settings
    from zmqruntime.execution._step import Accepted
    from zmqruntime.execution._worker_messages import FromWorker
    from zmqruntime.execution._worker_process import WorkerProcess

__all__ = ["ExecutionQueue"]

logger = logging.getLogger(__name__)

_SAVE_S = 0.25
_PRUNE_S = 3600.0
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
    All that happened since the last turn of the loop is taken together: one commit makes it
    durable, and only then are workers told, futures completed and peers informed.
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
        self._functions = dict(functions)
        self._settings = settings
        self._on_work = on_work
        self.loop = IOThread("execution-queue")
        self._lock = threading.Lock()  # guards the next two
        self._inbox: list[Callable[[Step], object]] = []
        self._scheduled = False
        self._stuck: Step | None = None
        self._retry = Backoff(first=1.0, longest=32.0)
        self._trying: TimerHandle | None = None
        self._pruned_at = float("-inf")
        self._board = Board()
        self._admission = Admission(
            journal, self._board, kinds=self._functions, most=settings.waiting
        )
        self._ends = Ends()
        self._telling = Telling(self.loop, self._board, reader, push=push, on_news=on_news)
        self._saving = False
        self._stopping = False
        self._quiet = threading.Event()
        self._work = Work()
        self._workers = Workers(
            self.loop,
            count=settings.workers,
            functions=self._functions,
            mark=journal.server_id,
            env=dict(settings.env or {}),
            on_message=self._on_message,
            on_output=self._on_output,
            on_start=lambda identity: self._take(lambda step: step.noted.append(identity)),
            on_end=lambda worker, reason: self._take(partial(self._on_end, worker, reason)),
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
        self.loop.submit(self._ask_all_to_stop).result()
        if not self._quiet.wait(grace):
            self.loop.submit(self._end_all).result()
            self._quiet.wait(_LAST_WAIT_S)
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
        self._take(partial(self._on_submit, new, client, future))
        return future

    def cancel(self, id_: str, *, by: str) -> Future[Reply]:
        """Cancel a job; any thread.

        Returns
        -------
        Future
            Holds the answer once the wish is on the disk; a job that is over stays as it is.
        """
        future: Future[Reply] = Future()
        self._take(partial(self._on_cancel, id_, by, future))
        return future

    def end_of(self, id_: str) -> Future[Reply]:
        """Wait for the end of a job that was not over a moment ago; any thread.

        Returns
        -------
        Future
            Holds the answer once the end is on the disk. Who cancels it is forgotten.
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
        position = self._board.line.position(priority=record.priority, seq=record.seq)
        return {
            "record": msgspec.to_builtins(record),
            "position": position,  # as of a moment ago
            "work": msgspec.to_builtins(self._work),
        }

    @property
    def work(self) -> Work:
        """What the server does."""
        return self._work

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return {state: self._board.counts[state] for state in _S}

    @property
    def trouble(self) -> str:
        """What is wrong with the journal or the workers; empty when nothing is."""
        stuck = self._stuck
        return str(stuck.error) if stuck is not None else self._workers.trouble

    def _take(self, *items: Callable[[Step], object]) -> None:
        """Take in something that happened, to be dealt with in the next turn; any thread."""
        with self._lock:
            self._inbox.extend(items)
            scheduled, self._scheduled = self._scheduled, True
        if not scheduled:
            self.loop.call_soon(self._turn)

    # -- on the loop ------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Have a turn even if nothing happened."""
        self._take()

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
                self._board.line.add(record.id, priority=record.priority, seq=record.seq)
            else:
                self._take_up(step, live)
            self._watch_deadline(live)
        self._commit(step)
        self._publish(step)
        self._workers.start()

    def _take_up(self, step: Step, live: LiveJob) -> None:
        """Decide what becomes of a job that a former server was running."""
        event = _lifecycle.WorkerEnded("the server ended while it ran")
        recover = self._settings.recover
        attempts = self._settings.attempts
        again = False
        if recover is not None and live.record.state is _S.RUNNING:
            try:
                again = recover(live.record)
            except Exception:
                logger.exception("recover() failed: job %s counts as lost", live.record.id)
        if again:
            attempts = max(attempts, live.record.attempt + 1)
        self._advance(step, live, event, attempts=attempts, again=again)

    def _turn(self) -> None:
        """Deal with everything that happened since the last turn."""
        with self._lock:
            self._scheduled = False
            inbox, self._inbox = self._inbox, []
        step = self._stuck
        if step is None:
            step = Step()
            for item in inbox:
                self._take_in(item, step)
            if not self._stopping:
                self._assign(step)
        else:
            self._refuse_new(inbox, step)
        try:
            self._commit(step)
        except JournalError as error:
            self._give_up_what_can_be(step, error)
            try:
                self._commit(step)
            except JournalError as again:
                self._keep(step, again)
                return
        else:
            self._retry.reset()
        if self._stuck is not None:
            self._stuck = None
            self._telling.silent = False
            self._schedule()
        self._publish(step)

    def _take_in(self, item: Callable[[Step], object], step: Step) -> None:
        try:
            item(step)
        except Exception:  # as when the journal cannot be read; the others must not go with it
            logger.exception("an event of the queue could not be dealt with")

    def _give_up_what_can_be(self, step: Step, error: JournalError) -> None:
        """Refuse new jobs and begin none; what has happened cannot be given up."""
        logger.error("%s", error)
        for live, event in step.started_events:
            live.undo_state(event)
        for _, id_ in step.started:
            step.records.pop(id_, None)
        step.started.clear()
        step.started_events.clear()
        for accepted in step.accepted.values():
            self._board.withdraw(accepted.live)
            accepted.refuse(error)
        step.accepted.clear()
        step.keys.clear()
        if len(self._board.line) and not self._stopping:
            self._try_later()

    def _keep(self, step: Step, error: JournalError) -> None:
        """Try again later to write down what has happened."""
        step.error = error
        self._stuck = step
        self._telling.silent = True  # what cannot be written down is not told either
        self._try_later()

    def _try_later(self) -> None:
        if self._trying is None or self._trying.cancelled:
            wait = self._retry.next()
            logger.error("the next try is in %g s", wait)
            self._trying = self.loop.call_later(wait, self._schedule)

    def _refuse_new(self, inbox: list[Callable[[Step], object]], step: Step) -> None:
        """Answer submissions while nothing can be written; the rest of the inbox waits."""
        waiting = []
        for item in inbox:
            if isinstance(item, partial) and item.func == self._on_submit:
                fail(item.args[2], UnavailableError(f"the job was not accepted: {step.error}"))
            else:
                waiting.append(item)
        with self._lock:
            self._inbox[:0] = waiting

    def _assign(self, step: Step) -> None:
        """Give those whose turn it is to the workers that are free."""
        idle = self._workers.idle()
        for worker, id_ in zip(idle, self._board.line.first(len(idle)), strict=False):
            live = self._board.live[id_]
            event = self._advance(step, live, _lifecycle.Started())
            step.started.append((worker, id_))
            if event is not None:
                step.started_events.append((live, event))

    def _advance(
        self,
        step: Step,
        live: LiveJob,
        event: Event,
        *,
        attempts: int | None = None,
        again: bool = False,
    ) -> JobEvent | None:
        before = step.records.get(live.record.id, live.record)
        given = replace(before, retryable=True) if again else before
        after, instructions = advance(
            given, event, now=time.time(), attempts=attempts or self._settings.attempts
        )
        step.instructions += [(instruction, after.id) for instruction in instructions]
        if after is given:
            return None
        noted = live.add_state(after, time.time())
        step.records[after.id] = replace(
            after,
            retryable=before.retryable,
            events=live.last_event,
            reported=live.reported,
            bad=len(live.outcomes) - live.reported,
        )
        self._board.dirty[after.id] = live
        return noted

    def _commit(self, step: Step) -> None:
        """Write everything down, or nothing."""
        if not (step.writes or self._board.dirty):
            return
        finished = sum(self._board.counts[state] for state in TERMINAL)
        finished += sum(record.state.terminal for record in step.records.values())
        with self._journal.transaction(durable=step.matters):
            for id_, accepted in step.accepted.items():
                self._journal.accept(step.records.get(id_, accepted.live.record), accepted.new)
            for id_, record in step.records.items():
                if id_ not in step.accepted:
                    self._journal.update(record, result=step.results.get(id_))
            for live in self._board.dirty.values():
                live.save(self._journal)
            for identity in step.noted:
                self._journal.note_worker(identity)
            for identity in step.forgotten:
                self._journal.forget_worker(identity)
            # a little late, so that not every end of a job has to look for the oldest
            most = self._journal.history.jobs
            now = time.monotonic()
            if finished > most + most // 100 or now - self._pruned_at >= _PRUNE_S:
                step.pruned = self._journal.prune()
                self._pruned_at = now
        for live in self._board.dirty.values():
            live.saved()
        self._board.dirty.clear()

    def _publish(self, step: Step) -> None:
        """Do and say what is safe to do and say now."""
        self._board.counts.subtract(step.pruned)
        changed = {id_: self._board.live[id_] for id_ in (*step.accepted, *step.records)}
        for accepted in step.accepted.values():
            self._board.counts[accepted.live.record.state] += 1
        for id_, record in step.records.items():
            live = changed[id_]
            self._board.counts[live.record.state] -= 1
            self._board.counts[record.state] += 1
            live.record = record
            if record.state.terminal:
                self._board.forget(live)
        # first what somebody waits for
        for worker, id_ in step.started:
            self._run(worker, changed[id_], step.accepted.get(id_))
        for accepted in step.accepted.values():
            accepted.answer(self._admission.reply(accepted.live.record, repeated=False))
        for record in step.records.values():
            if record.state.terminal:
                self._ends.tell(record)
        for answer in step.answers:
            answer()
        for instruction, id_ in step.instructions:
            self._obey(instruction, id_)
        for accepted in step.accepted.values():
            self._watch_deadline(accepted.live)
        self._describe_work()
        for live in changed.values():
            self._telling.changed(live)
        self._telling.tell(urgent=changed)

    def _run(self, worker: WorkerProcess, live: LiveJob, accepted: Accepted | None) -> None:
        record = live.record
        self._board.leave(live)
        live.begin_attempt()
        worker.job = (record.id, record.attempt)
        payload = (
            self._journal.payload(record.seq)
            if accepted is None
            else msgspec.msgpack.encode(accepted.new.payload)
        )
        worker.tell(
            Run(
                id=record.id,
                attempt=record.attempt,
                kind=record.kind,
                payload=payload,
                units=live.units,
                due=_remaining(record),
            )
        )

    def _obey(self, instruction: Instruction, id_: str) -> None:
        live = self._board.live.get(id_)
        worker = self._workers.doing(id_)
        match instruction:
            case Instruction.RUN | Instruction.LEAVE:
                pass  # done already, where the worker and the place in the line were at hand
            case Instruction.REQUEUE:
                if live is not None:
                    record = live.record
                    self._board.line.add(id_, priority=record.priority, seq=record.seq)
                    self._schedule()
            case Instruction.ASK_TO_STOP:
                if worker is not None and worker.job is not None and live is not None:
                    worker.tell(Cancel(id=id_, attempt=worker.job[1]))
                    live.grace = self.loop.call_later(
                        self._settings.grace,
                        lambda: self._take(partial(self._on_event, id_, _lifecycle.GraceOver())),
                    )
            case Instruction.KILL:
                if worker is not None:
                    worker.kill()

    # -- what happens ------------------------------------------------------------------------

    def _on_submit(self, new: NewJob, client: str, future: Future[Reply], step: Step) -> None:
        try:
            if self._stopping:
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
        if step.records.get(id_, live.record).state is _S.QUEUED:
            self._board.leave(live)
        self._advance(step, live, _lifecycle.CancelAsked(by))
        step.answers.append(lambda: complete(future, Reply(self.described(live.record))))

    def _on_event(self, id_: str, event: Event, step: Step) -> None:
        live = self._board.live.get(id_)
        if live is None:
            return
        if step.records.get(id_, live.record).state is _S.QUEUED:
            if not isinstance(event, _lifecycle.DeadlinePassed):
                return
            self._board.leave(live)
        self._advance(step, live, event)

    def _on_message(self, worker: WorkerProcess, message: FromWorker) -> None:
        match message:
            case Ready(broken=broken):
                for kind, why in broken.items():
                    logger.error("jobs of kind %r cannot be run: %s", kind, why)
                self._schedule()
            case Outcome():
                worker.hear_output()  # all that it printed before it said this
                self._take(partial(self._on_outcome, worker, message))
            case Progress() | UnitReport():
                live = self._board.live.get(message.id)
                if live is None or worker.job != (message.id, message.attempt):
                    return
                if isinstance(message, Progress):
                    for report in message.reports:
                        live.add_report(report)
                else:
                    live.add_outcome(message.n, message.outcome, time.time())
                self._touch(live)
                self._telling.changed(live)
                self._telling.tell()

    def _on_outcome(self, worker: WorkerProcess, outcome: Outcome, step: Step) -> None:
        if worker.job != (outcome.id, outcome.attempt):
            return
        worker.job = None
        live = self._board.live[outcome.id]
        event: Event
        match outcome.how:
            case "returned":
                event = live.returned(n=outcome.n, value=outcome.result is not None)
                if outcome.result is not None:
                    step.results[outcome.id] = outcome.result
            case "stopped":
                event = _lifecycle.Stopped()
            case _:
                event = _lifecycle.Raised(outcome.message, outcome.traceback)
        self._advance(step, live, event)

    def _on_output(self, worker: WorkerProcess, data: bytes) -> None:
        live = self._board.live.get(worker.job[0]) if worker.job is not None else None
        if live is None:
            logger.info("worker %d: %s", worker.pid, data.decode("utf-8", "replace").rstrip())
            return
        live.add_log(data, most=self._journal.history.log_bytes)
        self._touch(live)

    def _on_end(self, worker: WorkerProcess, reason: str, step: Step) -> None:
        if worker.identity is not None:
            step.forgotten.append(worker.identity)
        job, worker.job = worker.job, None
        live = self._board.live.get(job[0]) if job is not None else None
        if live is not None:
            event = _lifecycle.WorkerEnded(reason, by_us=worker.killed)
            self._advance(step, live, event)

    # -- on time ------------------------------------------------------------------------------

    def _watch_deadline(self, live: LiveJob) -> None:
        left = _remaining(live.record)
        if left is not None and not live.record.state.terminal:
            passed = partial(self._on_event, live.record.id, _lifecycle.DeadlinePassed())
            live.deadline = self.loop.call_later(left, lambda: self._take(passed))

    def _touch(self, live: LiveJob) -> None:
        """See to it that what is new of a job is written down soon."""
        self._board.dirty[live.record.id] = live
        if not self._saving:
            self._saving = True
            self.loop.call_later(_SAVE_S, self._save)

    def _save(self) -> None:
        self._saving = False
        if self._board.dirty:
            self._schedule()

    def _describe_work(self) -> None:
        running = [w.job[0] for w in self._workers if w.job is not None]
        queued = len(self._board.line)
        if not running:
            work = Work(queued=queued)
        else:
            first = self._board.live[running[0]].record
            more = f" and {len(running) - 1} more" if len(running) > 1 else ""
            work = Work(
                state="busy",
                task=f"{first.kind} {first.id}{more}",
                since=first.started,
                queued=queued,
            )
        if work != self._work:
            self._work = work
            self._on_work(work)
        if self._stopping and not running:
            self._quiet.set()

    # -- the end ------------------------------------------------------------------------------

    def _ask_all_to_stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            if worker.job is not None:
                self._take(partial(self._on_event, worker.job[0], _lifecycle.ShutdownAsked()))
        self._schedule()

    def _end_all(self) -> None:
        for worker in self._workers:
            if worker.job is not None:
                worker.kill()

    def _finish(self) -> None:
        self._workers.end(1.0)
        step = Step()
        step.forgotten.extend(self._journal.workers())
        with suppress(JournalError):
            self._commit(step)


def _remaining(record: JobRecord) -> float | None:
    """Say how long a job still has; a clock that was set back gives it no more than it had."""
    if record.deadline is None:
        return None
    return min(record.deadline, max(0.0, record.submitted + record.deadline - time.time()))
