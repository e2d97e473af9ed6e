"""ExecutionQueue: the thread that writes the journal first and then does what it says."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from zmqruntime._errors import (
    BusyError,
    ConflictError,
    InvalidRequestError,
    LoopStoppedError,
    NotFoundError,
    UnavailableError,
)
from zmqruntime._handshake import Work
from zmqruntime._loop import IOThread
from zmqruntime._polling import Backoff
from zmqruntime.execution import _lifecycle
from zmqruntime.execution._errors import JournalError
from zmqruntime.execution._followers import Followers
from zmqruntime.execution._journal import Journal, digest_of
from zmqruntime.execution._lifecycle import Instruction, advance
from zmqruntime.execution._line import WaitingLine
from zmqruntime.execution._live import LiveJob
from zmqruntime.execution._record import JobRecord, NewJob
from zmqruntime.execution._status import ExecutionStatus
from zmqruntime.execution._step import Accepted, Step
from zmqruntime.execution._survivors import stop_survivors
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
    from collections.abc import Callable, Iterable, Mapping

    from zmqruntime._loop import TimerHandle
    from zmqruntime.execution._journal_reader import JournalReader
    from zmqruntime.execution._lifecycle import Event
    from zmqruntime.execution._record import JobEvent
    from zmqruntime.execution._worker_messages import FromWorker
    from zmqruntime.execution._worker_process import WorkerProcess

__all__ = ["ExecutionQueue", "Settings"]

logger = logging.getLogger(__name__)

_SAVE_S = 0.25
_PRUNE_S = 3600.0
_LAST_WAIT_S = 5.0
_S = ExecutionStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How jobs are run.

    Parameters
    ----------
    workers
        How many processes there are, and so how many jobs run at once.
    grace
        Seconds that a job has to stop by itself; after that its process is ended.
    attempts
        Most attempts of a job that may be run again.
    waiting
        Most jobs that may wait.
    env
        Variables to add to the environment of the workers.
    recover
        Called at the start with each job that a former server left running; True puts it back
        into the line although it did not say that it may be run again, because its function
        can find what is left of it.

    Raises
    ------
    ValueError
        If a number is too small.
    """

    workers: int = 1
    grace: float = 5.0
    attempts: int = 3
    waiting: int = 10_000
    env: Mapping[str, str] | None = None
    recover: Callable[[JobRecord], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "attempts", "waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.grace < 0:
            raise ValueError(f"grace is {self.grace}: expected at least 0")


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
        Called with each job of which there is news, and whether its state has changed.

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
        on_news: Callable[[LiveJob, bool], object],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._functions = dict(functions)
        self._settings = settings
        self._push = push
        self._on_work = on_work
        self._on_news = on_news
        self.loop = IOThread("execution-queue")
        self._inbox: list[Callable[[Step], object]] = []
        self._scheduled = False
        self._stuck: Step | None = None
        self._retry = Backoff(first=1.0, longest=32.0)
        self._trying: TimerHandle | None = None
        self._pruned_at = float("-inf")
        self._live: dict[str, LiveJob] = {}
        self._dirty: dict[str, LiveJob] = {}
        self._line = WaitingLine()
        self._followers = Followers(clock=time.monotonic)
        self._counts: Counter[str] = Counter()
        self._saving = False
        self._noticing: TimerHandle | None = None
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

    def submit(self, new: NewJob, *, client: str) -> Future[dict[str, Any]]:
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
        future: Future[dict[str, Any]] = Future()
        self._hand_over(partial(self._on_submit, new, client, future))
        return future

    def cancel(self, id_: str, *, by: str) -> Future[JobRecord]:
        """Cancel a job; any thread.

        Returns
        -------
        Future
            Holds the record once the wish is on the disk; one that is over stays as it is.
        """
        future: Future[JobRecord] = Future()
        self._hand_over(partial(self._on_cancel, id_, by, future))
        return future

    def follow(self, peer: bytes, id_: str, *, after: int) -> None:
        """Tell a peer of a job from now on; any thread."""
        self.loop.call_soon(self._on_follow, peer, id_, after)

    def follow_all(self, peer: bytes, visible: Callable[[str], bool]) -> None:
        """Tell a peer of all jobs of some clients; any thread."""
        self.loop.call_soon(self._followers.follow_all, peer, visible)

    def unfollow(self, peer: bytes, id_: str | None = None) -> None:
        """Tell a peer no longer of a job, or of any; any thread."""
        with suppress(LoopStoppedError):
            self.loop.call_soon(self._followers.unfollow, peer, id_)

    def acknowledged(self, peer: bytes, n: int) -> None:
        """Note that a peer has taken a message in; any thread."""
        with suppress(LoopStoppedError):
            self.loop.call_soon(self._on_acknowledged, peer, n)

    def live(self, id_: str) -> JobRecord | None:
        """Return a job that is not over; any thread."""
        job = self._live.get(id_)
        return None if job is None else job.record

    def position(self, record: JobRecord) -> int | None:
        """Say whose turn it is after how many others, from 1; any thread, so perhaps outdated."""
        return self._line.position(priority=record.priority, seq=record.seq)

    @property
    def work(self) -> Work:
        """What the server does."""
        return self._work

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        return {state: self._counts[state] for state in _S}

    @property
    def trouble(self) -> str:
        """What is wrong with the journal or the workers; empty when nothing is."""
        stuck = self._stuck
        return str(stuck.error) if stuck is not None else self._workers.trouble

    # -- on the loop ------------------------------------------------------------------------

    def _hand_over(self, item: Callable[[Step], object]) -> None:
        if self.loop.on_loop:
            self._take(item)
        else:
            self.loop.call_soon(self._take, item)

    def _take(self, item: Callable[[Step], object]) -> None:
        """Take in something that happened, to be dealt with in the next turn."""
        self._inbox.append(item)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def _begin(self) -> None:
        noted = self._journal.workers()
        ended = stop_survivors(noted, mark=self._journal.server_id)
        if ended:
            logger.warning("ended %d workers that a former server had left", len(ended))
        self._counts.update(self._journal.counts())
        step = Step()
        step.forgotten.extend(noted)
        for record in self._journal.unfinished():
            live = LiveJob(
                record,
                self._journal.units(record.seq),
                outcomes=self._journal.outcomes(record.seq),
                log_size=self._journal.log_size(record.seq),
            )
            self._live[record.id] = live
            if record.state is _S.QUEUED:
                self._line.add(record.id, priority=record.priority, seq=record.seq)
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
        self._scheduled = False
        step = self._stuck
        if step is None:
            step = Step()
            inbox, self._inbox = self._inbox, []
            for item in inbox:
                item(step)
            if not self._stopping:
                self._assign(step)
        else:
            self._refuse_new(step)
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
            self._schedule()
        self._publish(step)

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
            record = accepted.live.record
            self._live.pop(record.id, None)
            self._dirty.pop(record.id, None)
            self._line.remove(priority=record.priority, seq=record.seq)
            accepted.refuse(error)
        step.accepted.clear()
        step.keys.clear()
        if len(self._line) and not self._stopping:
            self._try_later()

    def _keep(self, step: Step, error: JournalError) -> None:
        """Try again later to write down what has happened."""
        step.error = error
        self._stuck = step
        self._try_later()

    def _try_later(self) -> None:
        if self._trying is None or self._trying.cancelled:
            wait = self._retry.next()
            logger.error("the next try is in %g s", wait)
            self._trying = self.loop.call_later(wait, self._schedule)

    def _refuse_new(self, step: Step) -> None:
        """Answer submissions while nothing can be written; the rest of the inbox waits."""
        waiting = []
        for item in self._inbox:
            if isinstance(item, partial) and item.func == self._on_submit:
                _refuse(item.args[2], step.error)
            else:
                waiting.append(item)
        self._inbox = waiting

    def _assign(self, step: Step) -> None:
        """Give those whose turn it is to the workers that are free."""
        idle = self._workers.idle()
        for worker, id_ in zip(idle, self._line.first(len(idle)), strict=False):
            live = self._live[id_]
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
        self._dirty[after.id] = live
        return noted

    def _commit(self, step: Step) -> None:
        """Write everything down, or nothing."""
        if not (step.writes or self._dirty):
            return
        over = sum(record.state.terminal for record in step.records.values())
        finished = sum(count for state, count in self._counts.items() if _S(state).terminal) + over
        with self._journal.transaction(durable=step.matters):
            for id_, accepted in step.accepted.items():
                self._journal.accept(step.records.get(id_, accepted.live.record), accepted.new)
            for id_, record in step.records.items():
                if id_ not in step.accepted:
                    self._journal.update(record, result=step.results.get(id_))
            for live in self._dirty.values():
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
        for live in self._dirty.values():
            live.saved()
        self._dirty.clear()

    def _publish(self, step: Step) -> None:
        """Do and say what is safe to do and say now."""
        self._counts.subtract(step.pruned)
        changed = {id_: self._live[id_] for id_ in (*step.accepted, *step.records)}
        for accepted in step.accepted.values():
            self._counts[accepted.live.record.state] += 1
        for id_, record in step.records.items():
            live = changed[id_]
            self._counts[live.record.state] -= 1
            self._counts[record.state] += 1
            live.record = record
            if record.state.terminal:
                self._forget(live)
        for worker, id_ in step.started:
            self._run(worker, changed[id_], step.accepted.get(id_))
        for instruction, id_ in step.instructions:
            self._obey(instruction, id_)
        for accepted in step.accepted.values():
            self._watch_deadline(accepted.live)
            accepted.answer(self._accepted_reply(accepted.live.record, repeated=False))
        for answer in step.answers:
            answer()
        self._describe_work()
        for live in changed.values():
            self._followers.changed(live)
            self._on_news(live, True)
        self._tell(urgent=changed)

    def _forget(self, live: LiveJob) -> None:
        record = live.record
        self._live.pop(record.id, None)
        for timer in (live.deadline, live.grace):
            if timer is not None:
                timer.cancel()

    def _run(self, worker: WorkerProcess, live: LiveJob, accepted: Accepted | None) -> None:
        record = live.record
        self._line.remove(priority=record.priority, seq=record.seq)
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
        live = self._live.get(id_)
        worker = self._workers.doing(id_)
        match instruction:
            case Instruction.RUN | Instruction.LEAVE:
                pass  # done already, where the worker and the place in the line were at hand
            case Instruction.REQUEUE:
                if live is not None:
                    record = live.record
                    self._line.add(id_, priority=record.priority, seq=record.seq)
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

    def _on_submit(
        self, new: NewJob, client: str, future: Future[dict[str, Any]], step: Step
    ) -> None:
        if self._stopping:
            _fail(future, UnavailableError("the server is about to stop", retryable=True))
            return
        if new.kind not in self._functions:
            _fail(
                future,
                InvalidRequestError(
                    f"no jobs of kind {new.kind!r} here; known are {sorted(self._functions)}"
                ),
            )
            return
        if new.key is not None and self._is_repeat(new, client, future, step):
            return
        if len(self._line) >= self._settings.waiting:
            _fail(
                future,
                BusyError(f"{len(self._line)} jobs wait already: try again later", retryable=True),
            )
            return
        record = JobRecord(
            id=secrets.token_hex(8),
            seq=self._journal.next_seq(),
            kind=new.kind,
            state=_S.QUEUED,
            client=client,
            key=new.key,
            priority=new.priority,
            retryable=new.retryable,
            submitted=time.time(),
            deadline=new.deadline,
            expected=len(new.units or ()),
            events=1,
        )
        live = LiveJob(replace(record, events=0), new.units)
        live.add_state(record, record.submitted)
        live.record = record
        self._live[record.id] = live
        self._dirty[record.id] = live
        self._line.add(record.id, priority=record.priority, seq=record.seq)
        step.accept(Accepted(new=new, live=live, futures=[future]))

    def _is_repeat(
        self, new: NewJob, client: str, future: Future[dict[str, Any]], step: Step
    ) -> bool:
        """Answer a submission whose key is known with the job that it stands for."""
        key = new.key or ""
        twin = step.keys.get((client, key))
        if twin is not None:
            if digest_of(twin.new) == digest_of(new):
                twin.futures.append(future)
            else:
                _fail(future, _conflict(key, twin.live.record.id))
            return True
        known = self._journal.known(client, key)
        if known is None:
            return False
        if known.digest != digest_of(new):
            _fail(future, _conflict(key, known.id))
            return True
        live = self._live.get(known.id)
        record = live.record if live is not None else self._journal.record(known.seq)
        if record is None:  # its record was pruned, its key was not
            reply = {"id": known.id, "seq": known.seq, "state": "", "repeated": True}
        else:
            reply = self._accepted_reply(record, repeated=True)
        step.answers.append(partial(_complete, future, reply))
        return True

    def _on_cancel(self, id_: str, by: str, future: Future[JobRecord], step: Step) -> None:
        live = self._live.get(id_)
        if live is None:
            record = self._reader.record(id_)
            if record is None:
                _fail(future, NotFoundError(f"there is no job {id_!r}"))
            else:
                step.answers.append(partial(_complete, future, record))
            return
        if step.records.get(id_, live.record).state is _S.QUEUED:
            self._line.remove(priority=live.record.priority, seq=live.record.seq)
        self._advance(step, live, _lifecycle.CancelAsked(by))
        step.answers.append(lambda: _complete(future, live.record))

    def _on_event(self, id_: str, event: Event, step: Step) -> None:
        live = self._live.get(id_)
        if live is None:
            return
        if step.records.get(id_, live.record).state is _S.QUEUED:
            if not isinstance(event, _lifecycle.DeadlinePassed):
                return
            self._line.remove(priority=live.record.priority, seq=live.record.seq)
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
                live = self._live.get(message.id)
                if live is None or worker.job != (message.id, message.attempt):
                    return
                if isinstance(message, Progress):
                    for report in message.reports:
                        live.add_report(report)
                else:
                    live.add_outcome(message.n, message.outcome, time.time())
                self._touch(live)
                self._followers.changed(live)
                self._on_news(live, False)
                self._tell()

    def _on_outcome(self, worker: WorkerProcess, outcome: Outcome, step: Step) -> None:
        if worker.job != (outcome.id, outcome.attempt):
            return
        worker.job = None
        live = self._live[outcome.id]
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
        live = self._live.get(worker.job[0]) if worker.job is not None else None
        if live is None:
            logger.info("worker %d: %s", worker.pid, data.decode("utf-8", "replace").rstrip())
            return
        live.add_log(data, most=self._journal.history.log_bytes)
        self._touch(live)

    def _on_end(self, worker: WorkerProcess, reason: str, step: Step) -> None:
        if worker.identity is not None:
            step.forgotten.append(worker.identity)
        job, worker.job = worker.job, None
        live = self._live.get(job[0]) if job is not None else None
        if live is not None:
            event = _lifecycle.WorkerEnded(reason, by_us=worker.killed)
            self._advance(step, live, event)

    def _on_follow(self, peer: bytes, id_: str, after: int) -> None:
        live = self._live.get(id_)
        if live is None:
            record = self._reader.record(id_)
            if record is None:
                return
            live = LiveJob(record, None)
            for event in self._reader.events(record.seq, after=after, limit=100_000):
                live.latest[event.place] = event
        self._followers.follow(peer, live, after=after)
        self._tell(urgent=[id_])

    def _on_acknowledged(self, peer: bytes, n: int) -> None:
        self._followers.acknowledged(peer, n)
        self._tell()

    # -- on time ------------------------------------------------------------------------------

    def _watch_deadline(self, live: LiveJob) -> None:
        left = _remaining(live.record)
        if left is not None and not live.record.state.terminal:
            passed = partial(self._on_event, live.record.id, _lifecycle.DeadlinePassed())
            live.deadline = self.loop.call_later(left, lambda: self._take(passed))

    def _touch(self, live: LiveJob) -> None:
        """See to it that what is new of a job is written down soon."""
        self._dirty[live.record.id] = live
        if not self._saving:
            self._saving = True
            self.loop.call_later(_SAVE_S, self._save)

    def _save(self) -> None:
        self._saving = False
        if self._dirty:
            self._schedule()

    def _tell(self, *, urgent: Iterable[str] = ()) -> None:
        if self._stuck is not None:
            return  # what cannot be written down is not told either
        for notice in self._followers.due(urgent=urgent):
            self._push(notice.peer, notice.body)
        wait = self._followers.next_due()
        if wait is None:
            return
        waiting = self._noticing
        if waiting is None or waiting.cancelled or waiting.due > time.monotonic() + wait:
            if waiting is not None:
                waiting.cancel()
            self._noticing = self.loop.call_later(wait, self._tell)

    def _describe_work(self) -> None:
        running = [w.job[0] for w in self._workers if w.job is not None]
        queued = len(self._line)
        if not running:
            work = Work(queued=queued)
        else:
            first = self._live[running[0]].record
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

    def _accepted_reply(self, record: JobRecord, *, repeated: bool) -> dict[str, Any]:
        return {
            "id": record.id,
            "seq": record.seq,
            "state": record.state.value,
            "position": self.position(record),
            "repeated": repeated,
        }

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


def _conflict(key: str, id_: str) -> ConflictError:
    return ConflictError(
        f"the key {key!r} stands for job {id_}, which is to do something else: use another key",
        details={"id": id_},
    )


def _complete(future: Future[Any], value: object) -> None:
    if future.set_running_or_notify_cancel():
        future.set_result(value)


def _fail(future: Future[Any], error: Exception) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)


def _refuse(future: Future[Any], error: JournalError | None) -> None:
    _fail(future, UnavailableError(f"the job was not accepted: {error}"))
