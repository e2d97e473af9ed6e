"""A run of a plan: what it needs is looked at, then it takes its course."""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING

from openhcs._errors import ResultFolderError
from openhcs.execution._course import Course
from openhcs.execution._fit import bounded_workers
from openhcs.execution._folder import ResultFolder
from openhcs.execution._gpus import gpu_workers
from openhcs.execution._log import RunLog
from openhcs.execution._plate import check_plate

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from concurrent import futures
    from pathlib import Path

    from openhcs.execution._result import RunResult
    from openhcs.execution._resume import Resume
    from openhcs.pipeline import Event, Plan

__all__ = ["run"]


def run(
    plan: Plan,
    out: str | Path,
    *,
    workers: int = 2,
    memory_bytes: int | None = None,
    executor: futures.Executor | None = None,
    resume: Resume = True,
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
        Number of worker processes on this computer, at least 1; not looked at with an `executor`.
    memory_bytes
        What all workers may hold together; four fifths of what is available by default. There are
        fewer workers when that many would hold more. An `executor` has limits of its own.
    executor
        Does the tasks, in place of processes of this run's own: a `LocalExecutor`, a
        `DaskExecutor`, or any `concurrent.futures.Executor` whose workers see the plate and `out`
        under the same paths. It stays open.
    resume
        Whether what is finished and unchanged in `out` is taken over and not done again; or the
        names of the runs whose finished wells alone are, such as those of an interrupted run that
        was to do everything again.
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
    DeviceError
        If steps are to compute on a GPU that this computer does not have; workers of an `executor`
        look for themselves.
    CompileError
        If one well needs more memory than there is, or the results more room than the disk has.
    RunError
        If a step cannot learn from the plate what it needs, or the workers of `executor` cannot be
        used.
    ValueError
        If `workers` is less than 1.
    TypeError
        If it is no whole number.
    """
    if executor is None and operator.index(workers) < 1:
        message = f"a run has at least one worker, not {workers}"
        raise ValueError(message)
    folder = ResultFolder(out)
    if executor is not None:
        # What its workers may hold is not known here; that the results find room on the disk is.
        workers, memory_bytes = 1, sys.maxsize
    workers, fewer = bounded_workers(
        plan, folder.root, workers=workers, memory_bytes=memory_bytes, resume=resume
    )
    notes = () if fewer is None else (fewer,)
    if executor is None:
        workers, fewer = gpu_workers(plan, workers)
        notes = notes if fewer is None else (*notes, fewer)
    with folder.opened(plan.index.root):
        check_plate(plan, folder)
        try:
            log = RunLog(folder.log)
        except OSError as error:
            message = f"{folder.log} cannot be written: {error}"
            raise ResultFolderError(message) from error
        with log:
            course = Course(plan, folder, workers, executor, resume, on_event, cancel, log, notes)
            return course.result()
