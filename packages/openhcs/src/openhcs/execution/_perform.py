"""Doing a task, in any process that sees the result folder."""

from __future__ import annotations

import socket
import time
import traceback
from typing import TYPE_CHECKING, Any

from openhcs._words import reason_of
from openhcs.execution._fitness import unfit
from openhcs.execution._lesson import combine, keep, summarise
from openhcs.execution._task import CombineTask, SummaryTask, WellTask, errno_of
from openhcs.execution._turn import Stopped, Turn
from openhcs.execution._well import run_well
from openhcs.execution._work import read_work
from openhcs.functions import gpu_is_lost
from openhcs.pipeline import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from openhcs.execution._task import Task
    from openhcs.execution._well import Finished

__all__ = ["perform", "run_task"]


def perform(task: Task) -> dict[str, Any]:
    """Do a task in any process that sees the result folder, and give its record as JSON values.

    This is what is submitted to an executor of the standard library. It stops, between planes, when
    the run is stopped or another one has begun.
    """
    problem = unfit(task.folder, task.run_id)
    if problem is not None:
        error = f"a worker on {socket.gethostname()} cannot be used: {problem}"
        return {"outcome": str(Outcome.LOST), "error": error}
    return run_task(task, proceed=_go_on, finished=_unheard)


def _go_on() -> None:
    """Do as the result folder says, and look nowhere else."""


def _unheard(step: str, seconds: float) -> None:
    """Tell nobody: the record has it."""


def run_task(task: Task, *, proceed: Callable[[], None], finished: Finished) -> dict[str, Any]:
    """Do a task and give its record as JSON values.

    Parameters
    ----------
    task
        What is to be done.
    proceed
        Called between planes; raises `Stopped` to end the task.
    finished
        Told each step that is done, and its seconds.

    Returns
    -------
    dict
        ``outcome`` and what belongs to it; an error comes with its traceback, and with ``spent``
        where this process is of no use after it.
    """
    started = time.perf_counter()
    try:
        work = read_work(task.folder)
        turn = Turn(work.folder, task.run_id)

        def go_on() -> None:
            proceed()
            turn.glance()

        match task:
            case SummaryTask():
                record = summarise(work, task, go_on)
            case CombineTask():
                step = next(step for step in work.steps if step.name == task.step)
                record = keep(combine(step, task), task)
            case WellTask():
                record = run_well(work, task, go_on, finished)
    except Stopped:
        return {"outcome": str(Outcome.CANCELLED)}
    except Exception as error:  # noqa: BLE001  # the end of a task, with the traceback kept
        return {
            "outcome": str(Outcome.FAILED),
            "error": reason_of(error)
            if isinstance(error, OSError)
            else str(error) or type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
            "errno": errno_of(error),
            "spent": gpu_is_lost(error),
            "seconds": time.perf_counter() - started,
        }
    return record | {"outcome": str(Outcome.OK), "seconds": time.perf_counter() - started}
