"""Attempts: the jobs that run, the workers that run them, and the times at which they must end."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from zmqruntime.control._handshake import Work
from zmqruntime.execution import _lifecycle
from zmqruntime.execution._lifecycle import Instruction
from zmqruntime.execution._status import ExecutionStatus
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

    from zmqruntime.execution._board import Board
    from zmqruntime.execution._journal import Journal
    from zmqruntime.execution._lifecycle import Event
    from zmqruntime.execution._live import LiveJob
    from zmqruntime.execution._record import JobEvent, JobRecord
    from zmqruntime.execution._settings import Settings
    from zmqruntime.execution._step import Step
    from zmqruntime.execution._telling import Telling
    from zmqruntime.execution._turns import Turns
    from zmqruntime.execution._worker_messages import FromWorker
    from zmqruntime.execution._worker_process import WorkerProcess
    from zmqruntime.loop._loop import IOThread

__all__ = ["Attempts"]

logger = logging.getLogger(__name__)

_SAVE_S = 0.25
_S = ExecutionStatus


class Attempts:
    """The jobs that run; on the queue's loop.

    What workers say and what time brings is handed to the turns. What a turn decides comes back
    by `begin` and `obey` once it is written down.

    Parameters
    ----------
    loop
        Thread that hears the workers.
    journal, board
        Where payloads are, and the jobs that are not over.
    turns
        Take what happened.
    telling
        Told of progress, which waits for no turn.
    functions, settings
        What is run, and how.
    on_work
        Called when what the server does has changed.
    """

    def __init__(
        self,
        loop: IOThread,
        journal: Journal,
        board: Board,
        turns: Turns,
        telling: Telling,
        *,
        functions: Mapping[str, str],
        settings: Settings,
        on_work: Callable[[Work], object],
    ) -> None:
        self._loop = loop
        self._journal = journal
        self._board = board
        self._turns = turns
        self._telling = telling
        self._settings = settings
        self._on_work = on_work
        self._saving = False
        self._quiet = threading.Event()
        self.stopping = False
        """Whether no job begins any more."""
        self.work = Work()
        """What the server does."""
        self._workers = Workers(
            loop,
            count=settings.workers,
            functions=functions,
            mark=journal.server_id,
            env=dict(settings.env or {}),
            on_message=self._on_message,
            on_output=self._on_output,
            on_start=lambda identity: turns.take(lambda step: step.noted.append(identity)),
            on_end=lambda worker, reason: turns.take(partial(self._on_end, worker, reason)),
        )

    @property
    def trouble(self) -> str:
        """What is wrong with the workers; empty when nothing is."""
        return self._workers.trouble

    def start(self) -> None:
        """Start the workers."""
        self._workers.start()

    def take_up(self, step: Step, live: LiveJob) -> None:
        """Decide what becomes of a job that a former server was running."""
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
        event = _lifecycle.WorkerEnded("the server ended while it ran")
        step.advance(live, event, attempts=attempts, again=again)

    # -- what a turn decides ------------------------------------------------------------------

    def assign(self, step: Step) -> None:
        """Give those whose turn it is to the workers that are free."""
        if self.stopping:
            return
        idle = self._workers.idle()
        for worker, id_ in zip(idle, self._board.line.first(len(idle)), strict=False):
            live = self._board.live[id_]
            event = self._advance(step, live, _lifecycle.Started())
            step.started.append((worker, id_))
            if event is not None:
                step.started_events.append((live, event))

    def begin(self, step: Step) -> None:
        """Hand jobs to their workers, now that it is written down."""
        for worker, id_ in step.started:
            live = step.changed[id_]
            record = live.record
            self._board.line.remove(record.seq, begins=True)
            live.begin_attempt()
            worker.job = (id_, record.attempt)
            accepted = step.accepted.get(id_)
            payload = (
                self._journal.payload(record.seq)
                if accepted is None
                else msgspec.msgpack.encode(accepted.new.payload)
            )
            worker.tell(
                Run(
                    id=id_,
                    attempt=record.attempt,
                    kind=record.kind,
                    payload=payload,
                    units=live.units,
                    due=_remaining(record),
                )
            )

    def obey(self, step: Step) -> None:
        """Do what else is to be done, now that it is written down."""
        for instruction, id_ in step.instructions:
            self._obey(instruction, id_)
        for accepted in step.accepted.values():
            self.watch_deadline(accepted.live)

    def watch_deadline(self, live: LiveJob) -> None:
        """See to it that a job is over in time, if it has a deadline."""
        left = _remaining(live.record)
        if left is not None and not live.record.state.terminal:
            passed = partial(self._on_event, live.record.id, _lifecycle.DeadlinePassed())
            live.deadline = self._loop.call_later(left, lambda: self._turns.take(passed))

    def describe_work(self) -> None:
        """Say what the server does, if that has changed."""
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
        if work != self.work:
            self.work = work
            self._on_work(work)
        if self.stopping and not running:
            self._quiet.set()

    def _obey(self, instruction: Instruction, id_: str) -> None:
        live = self._board.live.get(id_)
        worker = self._workers.doing(id_)
        match instruction:
            case Instruction.RUN | Instruction.LEAVE:
                pass  # done already, where the worker and the place in the line were at hand
            case Instruction.REQUEUE:
                if live is not None:
                    self._board.wait(live.record)
                    self._turns.schedule()
            case Instruction.ASK_TO_STOP:
                if worker is not None and worker.job is not None and live is not None:
                    worker.tell(Cancel(id=id_, attempt=worker.job[1]))
                    over = partial(self._on_event, id_, _lifecycle.GraceOver())
                    live.grace = self._loop.call_later(
                        self._settings.grace, lambda: self._turns.take(over)
                    )
            case Instruction.KILL:
                if worker is not None:
                    worker.kill()

    # -- what happens -------------------------------------------------------------------------

    def _advance(self, step: Step, live: LiveJob, event: Event) -> JobEvent | None:
        return step.advance(live, event, attempts=self._settings.attempts)

    def _on_event(self, id_: str, event: Event, step: Step) -> None:
        live = self._board.live.get(id_)
        if live is None:
            return
        if step.record_of(live).state is _S.QUEUED:
            if not isinstance(event, _lifecycle.DeadlinePassed):
                return
            self._board.leave(live)
        self._advance(step, live, event)

    def _on_message(self, worker: WorkerProcess, message: FromWorker) -> None:
        match message:
            case Ready(broken=broken):
                for kind, why in broken.items():
                    logger.error("jobs of kind %r cannot be run: %s", kind, why)
                self._turns.schedule()
            case Outcome():
                worker.hear_output()  # all that it printed before it said this
                self._turns.take(partial(self._on_outcome, worker, message))
            case Progress() | UnitReport():
                self._on_progress(worker, message)

    def _on_progress(self, worker: WorkerProcess, message: Progress | UnitReport) -> None:
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
            self._advance(step, live, _lifecycle.WorkerEnded(reason, by_us=worker.killed))

    def _touch(self, live: LiveJob) -> None:
        """See to it that what is new of a job is written down soon."""
        self._board.dirty[live.record.id] = live
        if not self._saving:
            self._saving = True
            self._loop.call_later(_SAVE_S, self._save)

    def _save(self) -> None:
        self._saving = False
        if self._board.dirty:
            self._turns.schedule()

    # -- the end ------------------------------------------------------------------------------

    def ask_all_to_stop(self) -> None:
        """Begin no job any more, and ask those that run to stop."""
        self.stopping = True
        for worker in self._workers:
            if worker.job is not None:
                asked = partial(self._on_event, worker.job[0], _lifecycle.ShutdownAsked())
                self._turns.take(asked)
        self._turns.schedule()

    def wait_quiet(self, timeout: float) -> bool:
        """Wait until none runs after that; any other thread."""
        return self._quiet.wait(timeout)

    def end_all(self) -> None:
        """End by force those that run."""
        for worker in self._workers:
            if worker.job is not None:
                worker.kill()

    def end_workers(self, timeout: float) -> None:
        """End the workers, in order where they will."""
        self._workers.end(timeout)


def _remaining(record: JobRecord) -> float | None:
    """Say how long a job still has; a clock that was set back gives it no more than it had."""
    if record.deadline is None:
        return None
    return min(record.deadline, max(0.0, record.submitted + record.deadline - time.time()))
