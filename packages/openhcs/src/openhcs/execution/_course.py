"""The course of a run: every well is taken to its end, whatever happens to the others."""

from __future__ import annotations

import errno
import secrets
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, assert_never

from openhcs._errors import ResultFolderError
from openhcs.execution._dispatch import Dispatch, Ended, Retried
from openhcs.execution._endings import Endings
from openhcs.execution._executor import Executor, StepDone, TaskBegun
from openhcs.execution._gpus import check_devices
from openhcs.execution._local import LocalExecutor
from openhcs.execution._others import OtherWells, other_wells
from openhcs.execution._plate import lay_out
from openhcs.execution._preparation import Learning, learning_of
from openhcs.execution._result import RunResult
from openhcs.execution._resume import WellState, well_states
from openhcs.execution._run_record import run_document
from openhcs.execution._summaries import StoppedError, learn_by_tasks
from openhcs.execution._tables import write_wells
from openhcs.execution._task import WellTask, errno_of
from openhcs.execution._tidy import tidy
from openhcs.execution._turn import begin_turn
from openhcs.execution._well_outputs import clear_outputs
from openhcs.execution._well_table import conditions_of, well_rows
from openhcs.execution._work import write_work
from openhcs.pipeline import (
    Event,
    Outcome,
    PreparationFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    WellRetried,
    filled_in_words,
    left_out_in_words,
    steps_in,
    well_keys,
)
from polystore import PolystoreError
from polystore.files import remove_leftovers, write_json
from polystore.omezarr import settle_plate

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent import futures

    from openhcs.execution._dispatch import Happening
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._log import RunLog
    from openhcs.execution._result import WellResult
    from openhcs.execution._resume import Resume
    from openhcs.pipeline import Plan

__all__ = ["Course"]

_GLANCE = 0.2
"""Longest time in s from a request to cancel until it is seen."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Course:
    """One run in a folder that is held for it, from its start to its end.

    Parameters
    ----------
    plan
        What is to be done.
    folder
        The result folder, opened.
    workers
        Number of worker processes of its own; not looked at with an `executor`.
    executor
        Does the tasks, in place of processes of the run's own.
    resume
        What of earlier runs is taken over, as in `run`.
    on_event
        Told everything that happens.
    cancel
        Set from outside to stop.
    log
        Takes events and notes.
    notes
        What is to be said at the end.
    """

    def __init__(
        self,
        plan: Plan,
        folder: ResultFolder,
        workers: int,
        executor: futures.Executor | None,
        resume: Resume,
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
        self._executor = executor
        self._workers = workers
        if executor is not None:
            # 0 when it does not tell how many it has, as those of the standard library do not
            self._workers = executor.workers if isinstance(executor, Executor) else 0
        self._resume = resume
        self._on_event = on_event
        self._cancel = cancel
        self._log = log
        self._notes = notes
        self._wells = Endings(folder, self._id, log, self._tell)
        self._others = OtherWells()
        self._reason: str | None = None
        self._settled = False

    def result(self) -> RunResult:
        """Do all that is to be done."""
        self._tidy()
        learnings = learning_of(self._plan)
        prepared = self._found(learnings)
        raw_keys = well_keys(self._plan)
        states = self._states(raw_keys, prepared) if prepared is not None else None
        done = tuple(state.well for state in states or () if state.record is not None)
        with ExitStack() as held:
            work = states is None or len(done) < len(states)
            tasks = self._dispatch(held) if work else None
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
                self._wells.fail(well, Outcome.FAILED, reason)
            if tasks is not None:
                self._work(tasks, learnings, prepared, raw_keys)
            else:
                self._wells.take_over(states or ())
        return self._end()

    def _dispatch(self, held: ExitStack) -> Dispatch:
        """Write what tasks refer to, and find who does them."""
        if self._executor is None or isinstance(self._executor, LocalExecutor):
            check_devices(self._plan.steps)
        try:
            write_work(self._folder, self._plan)
            begin_turn(self._folder, self._id)
            self._write_run(None)
        except (PolystoreError, OSError) as error:
            message = f"{self._folder.root} cannot be used for results: {error}"
            raise ResultFolderError(message) from error
        executor = self._executor
        if executor is None:
            executor = held.enter_context(LocalExecutor(self._workers, self._log.stream))
        return held.enter_context(Dispatch(executor, self._folder, self._id))

    def _found(self, learnings: Sequence[Learning]) -> dict[str, str] | None:
        """Give the keys of what was learned before; None when something is to be learned."""
        keys = {
            learning.step.name: learning.found(self._folder, self._resume) for learning in learnings
        }
        known = {name: key for name, key in keys.items() if key is not None}
        return known if len(known) == len(keys) else None

    def _states(
        self, raw_keys: Mapping[str, str], prepared: Mapping[str, str]
    ) -> tuple[WellState, ...]:
        self._others = other_wells(self._plan, self._folder, raw_keys, prepared)
        return well_states(self._plan, self._folder, raw_keys, prepared, resume=self._resume)

    def _tidy(self) -> None:
        try:
            before = (self._folder.read_run() or {}).get("outcome")
            if before == "running":
                remove_leftovers(self._folder.root)  # that run never came to its end
            self._settled = not tidy(self._plan, self._folder) and before not in (None, "running")
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

    def _work(
        self,
        tasks: Dispatch,
        learnings: Sequence[Learning],
        prepared: Mapping[str, str] | None,
        raw_keys: Mapping[str, str],
    ) -> None:
        try:
            learned = self._learn(tasks, learnings, prepared)
        except StoppedError as stopped:
            for well in self._plan.wells:
                if well not in self._wells.results:
                    self._wells.fail(well, stopped.outcome, stopped.reason)
            return
        states = self._states(raw_keys, learned)
        self._wells.take_over(states)
        self._run_wells(tasks, [s for s in states if s.record is None], learned)

    def _learn(
        self,
        tasks: Dispatch,
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
            found = learning.found(self._folder, self._resume)
            having_done = partial(
                learn_by_tasks,
                tasks,
                learning,
                happenings=self._next,
                check=self._check,
                log=self._log,
                tell=self._tell,
            )
            try:
                learned[learning.step.name] = found or learning.learn(
                    self._plan, self._folder, self._id, having_done
                )
            except (PolystoreError, OSError) as error:
                self._check(errno_of(error))
                message = f"what {learning.step.name} learned cannot be written: {error}"
                raise ResultFolderError(message) from error
            self._tell(
                PreparationFinished(
                    step=learning.step.name,
                    seconds=time.perf_counter() - began,
                    reused=found is not None,
                    planes=learning.planes,
                    without=learning.without(self._folder),
                )
            )
        return learned

    def _run_wells(
        self, tasks: Dispatch, states: Sequence[WellState], prepared: Mapping[str, str]
    ) -> None:
        lay_out(self._plan, self._folder)
        pending = {state.well: state for state in states}
        for state in states:
            tasks.submit(
                WellTask(
                    folder=str(self._folder.root),
                    well=state.well,
                    keys=state.keys,
                    reused=state.reused,
                    prepared=prepared,
                    run_id=self._id,
                )
            )
        while pending:
            for item in self._next(tasks):
                match item:
                    case Ended():
                        del pending[item.task]
                        self._wells.end(item)
                        if self._is_full(item.record.get("errno")):
                            tasks.cancel()
                    case TaskBegun():
                        self._wells.begin(item, pending[item.task].reused)
                    case StepDone(task=well, step=step, seconds=seconds):
                        self._tell(
                            StepFinished(well=well, step=step, seconds=seconds, reused=False)
                        )
                    case Retried():
                        self._tell(WellRetried(well=item.task, reason=item.reason))
                    case _:
                        assert_never(item)

    def _next(self, tasks: Dispatch) -> Sequence[Happening]:
        """Wait for what happens next, no longer than until a request to cancel has to be seen."""
        if self._cancelled():
            tasks.cancel()
        return tasks.next(_GLANCE)

    def _cancelled(self) -> bool:
        asked = self._cancel is not None and self._cancel.is_set()
        return asked or self._reason is not None

    def _is_full(self, number: int | None) -> bool:
        """Say whether an error means a full disk, which is then the reason to stop."""
        if number in _FULL and self._reason is None:
            self._reason = (
                f"the disk of {self._folder.root} is full: free space and give the same command, "
                "which goes on from what is finished"
            )
        return number in _FULL

    def _check(self, number: int | None) -> None:
        """End a run that is over before its first well."""
        self._is_full(number)
        if self._cancelled():
            reason = self._reason or "cancelled before it was begun"
            raise StoppedError(Outcome.CANCELLED, reason)

    def _end(self) -> RunResult:
        wells = tuple(self._wells.results[well] for well in self._plan.wells)
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
            notes=(*self._notes, *_unused(wells, self._plan.fill), *self._others.notes()),
            warnings=self._plan.warnings,
        )
        for note in (*result.warnings, *result.notes):
            self._log.write(note)
        try:
            if self._wells.any_begun:
                # Of workers that had to be ended; those elsewhere have no other turn to write here.
                elsewhere = None if self._executor is None else 0.0
                remove_leftovers(self._folder.root, unknown_after_s=elsewhere)
            untouched = self._settled and all(well.reused for well in wells)
            if not untouched and (self._folder.plate / "zarr.json").exists():
                settle_plate(self._folder.plate)
            records = {**self._others.standing, **self._wells.records}
            conditions = conditions_of(self._plan, records)
            rows = well_rows(self._plan, [*wells, *self._others.results()], records, conditions)
            write_wells(self._folder.wells, rows, conditions)
            self._write_run(result)
        except (PolystoreError, OSError) as error:
            if self._reason is None and not self._is_full(errno_of(error)):
                message = f"the results of the run could not be written: {error}"
                raise ResultFolderError(message) from error
            outcome = Outcome.FAILED
            result = replace(result, outcome=outcome, reason=self._reason)
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
            resume=bool(self._resume),
            prepared=notes,
            result=result,
        )
        write_json(self._folder.run, document)

    def _tell(self, event: Event) -> None:
        self._log.event(event)
        if self._on_event is not None:
            self._on_event(event)


def _unused(wells: Sequence[WellResult], value: float | None) -> Iterator[str]:
    """Say how much was filled, also what was damaged unawares, and how much was left out."""
    counts = {well.well: len(well.filled) for well in wells if well.filled}
    if counts and value is not None:
        yield filled_in_words(counts, value)
    lacking = {well.well: well.left_out for well in wells if well.left_out}
    if lacking:
        yield left_out_in_words(lacking)
