"""What a run needs of whatever does its tasks, shaped as `concurrent.futures.Executor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

    from openhcs.execution._task import Task

__all__ = ["Executor", "Watcher"]


class Watcher(Protocol):
    """Told what happens to a task; called from threads of the executor."""

    def started(self, worker: int, attempt: int) -> None:
        """Hear that a worker has taken up the task, for the first or a further time."""
        ...

    def finished_step(self, step: str, seconds: float) -> None:
        """Hear that a step of the task is done."""
        ...

    def retried(self, reason: str) -> None:
        """Hear that the worker died and the task is given to a new one."""
        ...


class Executor(Protocol):
    """Does tasks in any order, in processes of its own."""

    def submit(self, task: Task, watcher: Watcher) -> Future[dict[str, Any]]:
        """Take a task; called from the thread that runs the plan.

        The future gives the task's record, or raises WorkerLostError when its worker died twice.
        """
        ...

    def cancel(self) -> None:
        """Stop tasks that run and drop those that wait; returns at once."""
        ...

    def shutdown(self) -> None:
        """End all workers and wait until they are gone; harmless twice."""
        ...
