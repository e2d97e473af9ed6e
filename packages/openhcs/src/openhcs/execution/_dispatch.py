"""The tasks of a run that are not over: submitted, begun again once when a worker is lost, stopped.

How often a task is begun is counted here and nowhere else, whichever executor does it.
"""

from __future__ import annotations

import queue
import time
import traceback
from concurrent import futures
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from openhcs._errors import WorkerLostError
from openhcs.execution._executor import Executor, Notice, StepDone, TaskBegun
from openhcs.execution._perform import perform
from openhcs.execution._turn import end_turn
from openhcs.pipeline import Outcome

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._task import Task

__all__ = ["Dispatch", "Ended", "Happening", "Retried"]

_ATTEMPTS = 2
_IO = ("read", "write")


@dataclass(frozen=True, slots=True)
class Retried:
    """The worker of a task is lost; the task waits to be begun again."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A task is over.

    Attributes
    ----------
    task
        Its name.
    record
        ``outcome`` and what belongs to it, in whatever way it ended.
    broken
        Whether it is lost with all others, because nothing is there any more to do them.
    """

    task: str
    record: dict[str, Any]
    broken: bool = False


Happening: TypeAlias = Notice | Retried | Ended


@dataclass(frozen=True, slots=True)
class _Over:
    task: str
    future: Future[dict[str, Any]]


@dataclass(slots=True)
class _Open:
    task: Task
    future: Future[dict[str, Any]] | None = None
    begun: bool = False
    steps: set[str] = field(default_factory=set)
    lost: str = ""


class Dispatch:
    """Has an executor do the tasks of a run; used from one thread, within ``with``.

    Parameters
    ----------
    executor
        Any executor whose workers see the result folder.
    folder
        The result folder.
    run_id
        Names the run.
    grace_s
        How long tasks that were told to stop are waited for.
    """

    def __init__(
        self,
        executor: futures.Executor,
        folder: ResultFolder,
        run_id: str,
        *,
        grace_s: float = 10.0,
    ) -> None:
        self._executor = executor
        self._folder = folder
        self._run_id = run_id
        self._grace_s = grace_s
        self._held = ExitStack()
        self._happened: queue.SimpleQueue[Notice | _Over] = queue.SimpleQueue()
        self._open: dict[str, _Open] = {}
        self._deadline: float | None = None

    def __enter__(self) -> Self:
        if isinstance(self._executor, Executor):
            opened = self._executor.open_run(self._run_id, self._folder.root, self._happened.put)
            self._held.enter_context(opened)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._held:
            self.cancel()

    def submit(self, task: Task) -> None:
        """Have a task done; `next` tells how it goes on."""
        self._submit(_Open(task))

    def cancel(self) -> None:
        """Drop the tasks that wait, and have those that run stop; harmless twice."""
        if self._deadline is not None:
            return
        self._deadline = time.monotonic() + self._grace_s
        # Without its folder no task goes on for long; those that can be told are told all the same.
        with suppress(OSError):
            end_turn(self._folder, self._run_id)
        for each in list(self._open.values()):
            if each.future is not None:
                each.future.cancel()

    def next(self, timeout_s: float) -> list[Happening]:
        """Wait for what happens next, and give it; nothing when nothing does."""
        try:
            item = self._happened.get(timeout=timeout_s)
        except queue.Empty:
            return self._overdue()
        each = self._open.get(item.task)
        if each is None:
            return []
        match item:
            case _Over():
                return self._over(each, item.future) if item.future is each.future else []
            case TaskBegun():
                if each.begun or item.attempt != each.task.attempt:
                    return []
                each.begun = True
            case StepDone():
                if item.step in each.steps or item.attempt != each.task.attempt:
                    return []
                each.steps.add(item.step)
        return [item]

    def _submit(self, each: _Open) -> None:
        name = each.task.name
        self._open[name] = each
        try:
            each.future = self._executor.submit(perform, each.task)
        except RuntimeError as error:  # it is broken, or was shut down
            each.future = futures.Future()
            each.future.set_exception(futures.BrokenExecutor(str(error)))
        each.future.add_done_callback(partial(self._put, name))

    def _put(self, name: str, future: Future[dict[str, Any]]) -> None:
        self._happened.put(_Over(name, future))

    def _over(self, each: _Open, future: Future[dict[str, Any]]) -> list[Happening]:
        ended = _ended(each.task.name, future)
        if ended.record["outcome"] == Outcome.LOST and not ended.broken:
            reason = str(ended.record.get("error"))
            if self._deadline is not None:
                record = {"outcome": str(Outcome.CANCELLED), "error": f"cancelled; {reason}"}
                ended = Ended(ended.task, record)
            elif each.task.attempt < _ATTEMPTS:
                again = replace(each.task, attempt=each.task.attempt + 1)
                self._submit(_Open(again, lost=reason))
                return [Retried(ended.task, reason)]
            else:
                ended.record["error"] = (
                    f"{reason}, twice" if reason == each.lost else f"{each.lost}; then {reason}"
                )
        del self._open[ended.task]
        return [*_untold(each, ended), ended]

    def _overdue(self) -> list[Happening]:
        """Give up tasks that do not stop; what they still do counts for nothing."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return []
        error = f"cancelled; it did not stop within {self._grace_s:.0f} s"
        record = {"outcome": str(Outcome.CANCELLED), "error": error}
        given_up: list[Happening] = [Ended(name, dict(record)) for name in self._open]
        self._open.clear()
        return given_up


def _ended(name: str, future: Future[dict[str, Any]]) -> Ended:
    """Give the record of a task, in whatever way it ended."""
    try:
        return Ended(name, future.result())
    except futures.CancelledError:
        error = "cancelled before it was begun"
        return Ended(name, {"outcome": str(Outcome.CANCELLED), "error": error})
    except WorkerLostError as error:
        return Ended(name, {"outcome": str(Outcome.LOST), "error": str(error)})
    except futures.BrokenExecutor as error:
        return Ended(name, {"outcome": str(Outcome.LOST), "error": str(error)}, broken=True)
    except Exception as error:  # noqa: BLE001  # the end of a task, whatever its executor raises
        record = {
            "outcome": str(Outcome.FAILED),
            "error": str(error) or type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
        }
        return Ended(name, record)


def _untold(each: _Open, ended: Ended) -> list[Notice]:
    """Give what an executor has not told of a task that is done, as its record has it."""
    if ended.record["outcome"] != Outcome.OK or "record" not in ended.record:
        return []
    name, attempt = each.task.name, each.task.attempt
    told: list[Notice] = []
    if not each.begun:
        told.append(TaskBegun(task=name, attempt=attempt, worker=0))
    seconds = ended.record["record"]["seconds"]
    told.extend(
        StepDone(task=name, attempt=attempt, step=step, seconds=taken)
        for step, taken in seconds.items()
        if step not in each.steps and step not in _IO
    )
    return told
