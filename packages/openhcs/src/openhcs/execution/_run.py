"""A run: every well of a plan is taken to its end, whatever happens to the others."""

from __future__ import annotations

import errno
import queue
import secrets
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from openhcs._errors import ResultFolderError, RunError
from openhcs.execution._fit import bounded_workers
from openhcs.execution._folder import ResultFolder
from openhcs.execution._local import LocalExecutor
from openhcs.execution._log import RunLog
from openhcs.execution._others import OtherWells, other_wells
from openhcs.execution._plate import check_plate, conditions_of, lay_out, well_rows
from openhcs.execution._preparation import Learning, learning_of
from openhcs.execution._result import RunResult, WellResult
from openhcs.execution._resume import WellState, well_result, well_states
from openhcs.execution._run_record import run_document
from openhcs.execution._tables import write_wells
from openhcs.execution._task import SummaryTask, WellTask, errno_of, write_work
from openhcs.execution._tidy import tidy
from openhcs.execution._watch import Ended, Unwatched, Watch
from openhcs.execution._well_outputs import clear_outputs
from openhcs.pipeline import (
    Event,
    Outcome,
    PreparationAdvanced,
    PreparationFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    WellFinished,
    WellStarted,
    steps_in,
    well_keys,
)
from polystore import PolystoreError
from polystore.files import remove_leftovers, write_json
from polystore.omezarr import settle_plate

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from openhcs.execution._executor import Executor
    from openhcs.pipeline import Plan

__all__ = ["run"]

_GLANCE = 0.2
"""Longest time in s from a request to cancel until it is seen."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


def run(
    plan: Plan,
    out: str | Path,
    *,
    workers: int = 2,
    memory_bytes: int | None = None,
    resume: bool = True,
    on_event: Callable[[Event], None] | None = None,
    cancel: threading.Event | None = None,
) -> RunResult:
    """Run a plan and give one result for each of its wells.

    Parameters
    ----------
    plan
        From `openhcs.pipeline.compile_pipeline`.
    out
        The result folder; made if it is not there.
    workers
        Number of worker processes, at least 1.
    memory_bytes
        What all workers may hold together; four fifths of what is available by default. There are
        fewer workers when that many would hold more.
    resume
        Whether what is finished and unchanged in `out` is taken over and not done again.
    on_event
        Told everything that happens, from the calling thread and in order.
    cancel
        Set it, from any thread, to stop: wells that are finished stay, the others are cancelled.

    Returns
    -------
    RunResult
        ok if and only if every well of the plan is ok.

    Raises
    ------
    ResultFolderError
        If the result folder cannot be used, holds the results of another plate, or is in use.
    CompileError
        If one well needs more memory than there is, or the results more room than the disk has.
    RunError
        If a step cannot learn from the plate what it needs.
    ValueError
        If `workers` is less than 1.
    """
    if workers < 1:
        message = f"a run has at least one worker, not {workers}"
        raise ValueError(message)
    folder = ResultFolder(out)
    workers, fewer = bounded_workers(plan, folder.root, workers=workers, memory_bytes=memory_bytes)
    notes = () if fewer is None else (fewer,)
    with folder.opened(plan.index.root):
        check_plate(plan, folder)
        try:
            log = RunLog(folder.log)
        except OSError as error:
            message = f"{folder.log} cannot be written: {error}"
            raise ResultFolderError(message) from error
        with log:
            return _Run(plan, folder, workers, resume, on_event, cancel, log, notes).result()


class _StoppedError(Exception):
    """The run was cancelled, or the disk was full, before any well was begun."""


class _Run:
    """One run, from its start to its end."""

    def __init__(
        self,
        plan: Plan,
        folder: ResultFolder,
        workers: int,
        resume: bool,
        on_event: Callable[[Event], None] | None,
        cancel: threading.Event | None,
        log: RunLog,
        notes: tuple[str, ...],
    ) -> None:
        now = datetime.now(UTC)
        self._id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._began = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        self._clock = time.perf_counter()
        self._plan = plan
        self._folder = folder
        self._workers = workers
        self._resume = resume
        self._on_event = on_event
        self._cancel = cancel
        self._log = log
        self._notes = notes
        self._happened: queue.SimpleQueue[Event | Ended] = queue.SimpleQueue()
        self._results: dict[str, WellResult] = {}
        self._records: dict[str, Mapping[str, Any]] = {}
        self._others = OtherWells()
        self._reason: str | None = None
        self._started_at: dict[str, float] = {}

    def result(self) -> RunResult:
        """Do all that is to be done."""
        self._tidy()
        learnings = learning_of(self._plan)
        prepared = self._found(learnings)
        raw_keys = well_keys(self._plan)
        states = self._states(raw_keys, prepared) if prepared is not None else None
        done = tuple(state.well for state in states or () if state.record is not None)
        self._tell(
            RunStarted(
                run_id=self._id,
                out=self._folder.root,
                wells=self._plan.wells,
                done=done,
                steps=tuple(step.name for step in self._plan.steps),
                workers=self._workers,
            )
        )
        for well, reason in self._plan.refused.items():
            self._drop(well)
            self._fail(well, Outcome.FAILED, reason)
        if states is None or len(done) < len(states):
            self._work(learnings, prepared, raw_keys)
        else:
            self._take_over(states)
        return self._end()

    def _found(self, learnings: Sequence[Learning]) -> dict[str, str] | None:
        """Give the keys of what was learned before; None when something is to be learned."""
        if not self._resume:
            return {} if not learnings else None
        keys = {learning.step.name: learning.found(self._folder) for learning in learnings}
        known = {name: key for name, key in keys.items() if key is not None}
        return known if len(known) == len(keys) else None

    def _states(
        self, raw_keys: Mapping[str, str], prepared: Mapping[str, str]
    ) -> tuple[WellState, ...]:
        self._others = other_wells(self._plan, self._folder, raw_keys, prepared)
        return well_states(self._plan, self._folder, raw_keys, prepared, resume=self._resume)

    def _tidy(self) -> None:
        try:
            if (self._folder.read_run() or {}).get("outcome") == "running":
                remove_leftovers(self._folder.root)  # that run never came to its end
            tidy(self._plan, self._folder)
        except (PolystoreError, OSError) as error:
            message = f"what an earlier run left in {self._folder.root} cannot be removed: {error}"
            raise ResultFolderError(message) from error

    def _drop(self, well: str) -> None:
        """Take away what an earlier run left of a well that cannot run any more."""
        try:
            clear_outputs(self._folder, steps_in(self._plan.steps, well), well)
            self._folder.record(well).unlink(missing_ok=True)
        except OSError as error:
            message = f"what an earlier run left of {well} cannot be removed: {error}"
            raise ResultFolderError(message) from error

    def _take_over(self, states: Sequence[WellState]) -> None:
        for state in states:
            if state.record is not None:
                self._succeed(state.well, state.record, seconds=0.0, reused=True)

    def _work(
        self,
        learnings: Sequence[Learning],
        prepared: Mapping[str, str] | None,
        raw_keys: Mapping[str, str],
    ) -> None:
        try:
            write_work(self._folder, self._plan)
            self._write_run(None)
        except (PolystoreError, OSError) as error:
            message = f"{self._folder.root} cannot be used for results: {error}"
            raise ResultFolderError(message) from error
        with LocalExecutor(self._workers, self._log.stream) as executor:
            try:
                learned = self._learn(executor, learnings, prepared)
            except _StoppedError:
                reason = self._reason or "cancelled before it was begun"
                for well in self._plan.wells:
                    if well not in self._results:
                        self._fail(well, Outcome.CANCELLED, reason)
                return
            states = self._states(raw_keys, learned)
            self._take_over(states)
            self._run_wells(executor, [s for s in states if s.record is None], learned)

    def _learn(
        self,
        executor: Executor,
        learnings: Sequence[Learning],
        prepared: Mapping[str, str] | None,
    ) -> Mapping[str, str]:
        if prepared is not None:
            for learning in learnings:
                self._tell(PreparationFinished(step=learning.step.name, seconds=0.0, reused=True))
            return prepared
        learned: dict[str, str] = {}
        for learning in learnings:
            began = time.perf_counter()
            found = learning.found(self._folder) if self._resume else None
            summarise = partial(self._summarise, executor, learning)
            try:
                learned[learning.step.name] = found or learning.learn(
                    self._plan, self._folder, summarise
                )
            except (PolystoreError, OSError) as error:
                self._stop_if_full(errno_of(error))
                message = f"what {learning.step.name} learned cannot be written: {error}"
                raise ResultFolderError(message) from error
            self._tell(
                PreparationFinished(
                    step=learning.step.name,
                    seconds=time.perf_counter() - began,
                    reused=found is not None,
                )
            )
        return learned

    def _summarise(
        self, executor: Executor, learning: Learning, tasks: Sequence[SummaryTask]
    ) -> Sequence[str]:
        pending = {str(number): task for number, task in enumerate(tasks)}
        unread: list[str] = []
        for name, task in pending.items():
            future = executor.submit(task, Unwatched())
            future.add_done_callback(partial(self._ended, name))
        seen = 0
        while pending:
            for item in self._next(executor):
                if not isinstance(item, Ended):
                    continue
                task = pending.pop(item.name)
                record = item.record()
                if self._cancelled():
                    raise _StoppedError
                self._stop_if_full(record.get("errno"))
                if record["outcome"] != Outcome.OK:
                    self._log.write(str(record.get("traceback") or record.get("error")))
                    message = f"{learning.step.name} cannot learn from the plate: " + str(
                        record.get("error")
                    )
                    raise RunError(message)
                for reason in record["unread"]:
                    self._log.write(f"{learning.step.name} has not learned from a plane: {reason}")
                    unread.append(reason)
                seen += len(task.planes)
                self._tell(
                    PreparationAdvanced(step=learning.step.name, planes=seen, of=learning.planes)
                )
            if self._cancelled():
                raise _StoppedError
        return unread

    def _run_wells(
        self, executor: Executor, states: Sequence[WellState], prepared: Mapping[str, str]
    ) -> None:
        lay_out(self._plan, self._folder)
        pending = {state.well: state for state in states}
        for state in states:
            task = WellTask(
                folder=str(self._folder.root),
                well=state.well,
                keys=state.keys,
                reused=state.reused,
                prepared=prepared,
                run_id=self._id,
            )
            future = executor.submit(task, Watch(state.well, self._happened))
            future.add_done_callback(partial(self._ended, state.well))
        while pending:
            for item in self._next(executor):
                if isinstance(item, Ended):
                    del pending[item.name]
                    self._well_ended(executor, item)
                    continue
                if isinstance(item, WellStarted):
                    self._began_well(pending[item.well])
                self._tell(item)
                if isinstance(item, WellStarted):
                    for step in pending[item.well].reused:
                        self._tell(
                            StepFinished(well=item.well, step=step, seconds=0.0, reused=True)
                        )

    def _began_well(self, state: WellState) -> None:
        self._started_at[state.well] = time.perf_counter()

    def _next(self, executor: Executor) -> Sequence[Event | Ended]:
        """Wait for what happens next, no longer than until a request to cancel has to be seen."""
        if self._cancelled():
            executor.cancel()
        try:
            return [self._happened.get(timeout=_GLANCE)]
        except queue.Empty:
            return []

    def _cancelled(self) -> bool:
        asked = self._cancel is not None and self._cancel.is_set()
        return asked or self._reason is not None

    def _is_full(self, number: int | None) -> bool:
        """Say whether an error means a full disk, which is then the reason to stop."""
        if number in _FULL and self._reason is None:
            self._reason = f"the disk of {self._folder.root} is full: make room and run again"
        return number in _FULL

    def _stop_if_full(self, number: int | None) -> None:
        if self._is_full(number):
            raise _StoppedError

    def _ended(self, name: str, future: Future[dict[str, Any]]) -> None:
        self._happened.put(Ended(name, future))

    def _well_ended(self, executor: Executor, item: Ended) -> None:
        record = item.record()
        outcome = Outcome(record["outcome"])
        seconds = time.perf_counter() - self._started_at.get(item.name, time.perf_counter())
        if outcome is Outcome.OK:
            self._succeed(item.name, record["record"], seconds=seconds, reused=False)
            return
        if self._is_full(record.get("errno")):
            executor.cancel()
        error = record.get("error") or "cancelled"
        self._fail(item.name, outcome, error, seconds, record.get("traceback"))

    def _succeed(
        self, well: str, record: Mapping[str, Any], *, seconds: float, reused: bool
    ) -> None:
        self._records[well] = record
        result = well_result(well, record, seconds=seconds, reused=reused)
        self._results[well] = result
        self._tell(
            WellFinished(
                well=well,
                outcome=Outcome.OK,
                seconds=seconds,
                reused=reused,
                images=result.images,
            )
        )

    def _fail(
        self,
        well: str,
        outcome: Outcome,
        error: str,
        seconds: float = 0.0,
        trace: str | None = None,
    ) -> None:
        self._results[well] = WellResult(
            well=well,
            outcome=outcome,
            seconds=seconds,
            reused=False,
            images=(),
            error=error,
            traceback=trace,
            steps={},
        )
        there = self._folder.read_record(well) or {"schema": 1, "well": well, "keys": {}}
        ending = {"run_id": self._id, "outcome": str(outcome), "error": error, "traceback": trace}
        try:
            self._folder.write_record(well, {**there, **ending})
        except (PolystoreError, OSError) as failure:
            # The well's outcome is in the result all the same; a full disk takes no more files.
            self._log.write(f"{well}: its record could not be written: {failure}")
        self._log.write(f"{well}: {outcome}: {error}")
        if trace:
            self._log.write(trace)
        self._tell(
            WellFinished(well=well, outcome=outcome, seconds=seconds, reused=False, error=error)
        )

    def _end(self) -> RunResult:
        wells = tuple(self._results[well] for well in self._plan.wells)
        outcomes = {well.outcome for well in wells}
        outcome = Outcome.OK if outcomes <= {Outcome.OK} else Outcome.FAILED
        if outcome is Outcome.FAILED and Outcome.CANCELLED in outcomes and self._reason is None:
            outcome = Outcome.CANCELLED
        steps: dict[str, float] = {}
        for well in wells:
            for name, seconds in well.steps.items():
                steps[name] = steps.get(name, 0.0) + seconds
        result = RunResult(
            run_id=self._id,
            out=self._folder.root,
            outcome=outcome,
            wells=wells,
            seconds=time.perf_counter() - self._clock,
            step_seconds=steps,
            reason=self._reason,
            notes=(*self._notes, *self._others.notes()),
        )
        for note in result.notes:
            self._log.write(note)
        try:
            if self._started_at:
                remove_leftovers(self._folder.root)  # of workers that had to be ended
            if (self._folder.plate / "zarr.json").exists():
                settle_plate(self._folder.plate)
            records = {**self._others.standing, **self._records}
            conditions = conditions_of(self._plan, records)
            rows = well_rows(self._plan, [*wells, *self._others.results()], records, conditions)
            write_wells(self._folder.wells, rows, conditions)
            self._write_run(result)
        except (PolystoreError, OSError) as error:
            if self._reason is None:
                message = f"the results of the run could not be written: {error}"
                raise ResultFolderError(message) from error
            self._log.write(f"the results of the run could not be written: {error}")
        counts = {each: len(result.with_outcome(each)) for each in Outcome}
        self._tell(
            RunFinished(
                outcome=outcome,
                wells={each: count for each, count in counts.items() if count},
                seconds=result.seconds,
                reason=self._reason,
            )
        )
        return result

    def _write_run(self, result: RunResult | None) -> None:
        notes = {
            step.name: self._folder.read_prepared(step.name)
            for step in self._plan.steps
            if step.prepared
        }
        document = run_document(
            self._plan,
            run_id=self._id,
            started=self._began,
            workers=self._workers,
            resume=self._resume,
            prepared=notes,
            result=result,
        )
        write_json(self._folder.run, document)

    def _tell(self, event: Event) -> None:
        self._log.event(event)
        if self._on_event is not None:
            self._on_event(event)
