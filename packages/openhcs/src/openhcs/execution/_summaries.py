"""What a step learns from the plate, as tasks: planes are summarised wherever tasks are done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs._errors import RunError
from openhcs.execution._dispatch import Ended, Retried
from openhcs.pipeline import Outcome, PreparationAdvanced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from openhcs.execution._dispatch import Dispatch, Happening
    from openhcs.execution._log import RunLog
    from openhcs.execution._preparation import Learning
    from openhcs.execution._task import SummaryTask
    from openhcs.pipeline import Event

__all__ = ["StoppedError", "summarise"]


class StoppedError(Exception):
    """The run ended before any well was begun: cancelled, the disk full, or nobody to work.

    Parameters
    ----------
    outcome, reason
        What becomes of the wells, and why.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def summarise(
    tasks: Dispatch,
    learning: Learning,
    wanted: Sequence[SummaryTask],
    *,
    happenings: Callable[[Dispatch], Sequence[Happening]],
    check: Callable[[int | None], None],
    log: RunLog,
    tell: Callable[[Event], None],
) -> Sequence[str]:
    """Have the tasks of a step done.

    Parameters
    ----------
    tasks
        Has them done.
    learning
        What the step has to learn.
    wanted
        The tasks.
    happenings
        Waits a moment for what happens to tasks.
    check
        Told the number of a system's error, or None; raises `StoppedError` when the run is over.
    log, tell
        Told what happens.

    Returns
    -------
    sequence of str
        What was wrong with planes that could not be read.

    Raises
    ------
    StoppedError
        If the run is over.
    RunError
        If a task fails.
    """
    pending = {task.name: task for task in wanted}
    step = learning.step.name
    unread: list[str] = []
    for task in wanted:
        tasks.submit(task)
    seen = 0
    while pending:
        for item in happenings(tasks):
            if isinstance(item, Retried):
                log.write(f"{step}: {item.reason}; a part of its planes waits for a second try")
            if not isinstance(item, Ended):
                continue
            task = pending.pop(item.task)
            record = item.record
            check(record.get("errno"))
            if item.broken:
                raise StoppedError(Outcome.LOST, str(record["error"]))
            if record["outcome"] != Outcome.OK:
                log.write(str(record.get("traceback") or record.get("error")))
                message = f"{step} cannot learn from the plate: {record.get('error')}"
                raise RunError(message)
            for reason in record["unread"]:
                log.write(f"{step} has not learned from a plane: {reason}")
                unread.append(reason)
            seen += len(task.planes)
            tell(PreparationAdvanced(step=step, planes=seen, of=learning.planes))
        check(None)
    return unread
