"""What a run needs of whatever does its tasks: an executor of the standard library.

Any `concurrent.futures.Executor` whose workers see the result folder does the tasks of a run: they
are submitted as ``submit(perform, task)``, and give their record. Such a one says nothing of a task
before its end. An `Executor` of ours says more: when a worker takes a task up, and each step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from openhcs.execution._perform import perform
from openhcs.execution._task import CombineTask, SummaryTask, WellTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from openhcs.execution._task import Task

__all__ = ["Executor", "Notice", "StepDone", "TaskBegun", "Told", "task_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBegun:
    """A worker has taken up a task.

    Attributes
    ----------
    task
        Name of the task.
    attempt
        Which attempt at it this is, from 1.
    worker
        Number of the worker, from 0.
    """

    task: str
    attempt: int
    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A step of a task is done.

    Attributes
    ----------
    task, attempt
        As in `TaskBegun`.
    step
        Name of the step.
    seconds
        What it took.
    """

    task: str
    attempt: int
    step: str
    seconds: float


Notice: TypeAlias = TaskBegun | StepDone

Told: TypeAlias = Callable[[Notice], None]


class Executor(futures.Executor, ABC):
    """One that tells what tasks do while they run, and checks that it can do them.

    A task whose worker is gone raises `WorkerLostError` from its future, and is not begun again:
    who submitted it decides. One that can do no tasks any more raises
    `concurrent.futures.BrokenExecutor`. A future that is cancelled while its task runs answers
    False, as every future does; what can stop such a task then stops it.
    """

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many tasks are done at a time."""

    @abstractmethod
    def open_run(self, run_id: str, folder: Path, told: Told) -> AbstractContextManager[None]:
        """Be ready for the tasks of a run, until the block ends.

        Called by the run when what its tasks refer to lies in the result folder.

        Parameters
        ----------
        run_id
            Names the run, as its tasks do.
        folder
            The result folder.
        told
            Told what its tasks do; called from threads of the executor.

        Raises
        ------
        RunError
            If the workers cannot do the tasks; says which worker lacks what.
        """


def task_of(fn: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Task:
    """Give the task of a call of ``submit``, for executors that do nothing else.

    Raises
    ------
    TypeError
        If the call is another one.
    """
    if (
        fn is perform
        and len(args) == 1
        and not kwargs
        and isinstance(args[0], WellTask | SummaryTask | CombineTask)
    ):
        task: Task = args[0]
        return task
    message = "this executor does the tasks of runs and nothing else: submit(perform, task)"
    raise TypeError(message)
