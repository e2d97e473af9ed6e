"""What a step learns from the plate, as tasks: planes are summarised, summaries combined."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from openhcs._errors import RunError
from openhcs.execution._dispatch import Ended, Retried
from openhcs.execution._lesson import combine, keep
from openhcs.execution._preparation import Learned
from openhcs.execution._task import CombineTask
from openhcs.pipeline import Outcome, PreparationAdvanced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openhcs.execution._dispatch import Dispatch, Happening
    from openhcs.execution._log import RunLog
    from openhcs.execution._preparation import Learning, Lesson
    from openhcs.execution._task import SummaryTask
    from openhcs.pipeline import Event, PlannedStep

__all__ = ["StoppedError", "learn_by_tasks"]

_AT_ONCE = 2
"""Channels whose planes are handed out; more would all be read before one is combined."""


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


def learn_by_tasks(
    tasks: Dispatch,
    learning: Learning,
    lessons: Sequence[Lesson],
    *,
    happenings: Callable[[Dispatch], Sequence[Happening]],
    check: Callable[[int | None], None],
    log: RunLog,
    tell: Callable[[Event], None],
) -> Learned:
    """Have the tasks of a step done.

    Parameters
    ----------
    tasks
        Has them done.
    learning
        What the step has to learn.
    lessons
        Its tasks, by channel.
    happenings
        Waits a moment for what happens to tasks.
    check
        Told the number of a system's error, or None; raises `StoppedError` when the run is over.
    log, tell
        Told what happens.

    Raises
    ------
    StoppedError
        If the run is over.
    RunError
        If a task fails, or no plane at all could be read.
    """
    lecture = _Lecture(tasks, learning.step, lessons)
    step, seen = learning.step.name, 0
    while lecture.pending:
        for item in happenings(tasks):
            if isinstance(item, Retried):
                log.write(f"{step}: {item.reason}; a part of its planes waits for a second try")
            if not isinstance(item, Ended):
                continue
            record = item.record
            check(record.get("errno"))
            if item.broken:
                raise StoppedError(Outcome.LOST, str(record["error"]))
            if record["outcome"] != Outcome.OK:
                log.write(str(record.get("traceback") or record.get("error")))
                raise RunError(lecture.failed(item.task, record))
            for reason in record.get("unread", ()):
                log.write(f"{step} has not learned from a plane: {reason}")
            planes = lecture.end(item.task, record)
            if planes:
                seen += planes
                tell(PreparationAdvanced(step=step, planes=seen, of=learning.planes))
        check(None)
    return Learned(notes=lecture.notes, unread=lecture.unread)


class _Lecture:
    """The tasks of a step: of some channels at a time, the summaries of each before what it gives.

    Parameters
    ----------
    tasks
        Has them done.
    step
        The step.
    lessons
        Its tasks, by channel.
    """

    def __init__(self, tasks: Dispatch, step: PlannedStep, lessons: Sequence[Lesson]) -> None:
        self._tasks = tasks
        self._step = step
        self._lessons = {lesson.combine.channel: lesson for lesson in lessons}
        self._waiting = deque(lessons)
        self._left = {lesson.combine.channel: len(lesson.summaries) for lesson in lessons}
        self._read = dict.fromkeys(self._lessons, 0)
        self._unseen: list[Lesson] = []
        self.pending: dict[str, SummaryTask | CombineTask] = {}
        """Tasks that are not over, by name."""
        self.unread: list[str] = []
        """What was wrong with planes that could not be read."""
        self._notes: dict[int, Mapping[str, Any]] = {}
        for _ in range(_AT_ONCE):
            self._begin()

    @property
    def notes(self) -> Mapping[int, Mapping[str, Any]]:
        """What was found, by number of the channel."""
        return dict(sorted(self._notes.items()))

    def end(self, name: str, record: Mapping[str, Any]) -> int:
        """Take note of a task that is done; give how many planes were looked at."""
        task = self.pending.pop(name)
        channel = task.channel
        looked_at = 0
        if isinstance(task, CombineTask):
            self._notes[channel] = record["note"]
        else:
            looked_at = len(task.planes)
            self._left[channel] -= 1
            self._read[channel] += looked_at - len(record["unread"])
            self.unread.extend(record["unread"])
            if self._left[channel] == 0:
                self._combine(self._lessons[channel])
                self._begin()
        if not self.pending and self._unseen:
            if not any(self._read.values()):
                message = f"{self._step.name} cannot learn from the plate: {self.unread[0]}"
                raise RunError(message)
            for lesson in self._unseen:
                self._submit(lesson.combine)
            self._unseen.clear()
        return looked_at

    def failed(self, name: str, record: Mapping[str, Any]) -> str:
        """Say what could not be learned."""
        task = self.pending[name]
        of = "the plate"
        if isinstance(task, CombineTask):
            of = f"channel {self._lessons[task.channel].channel}"
        return f"{self._step.name} cannot learn from {of}: {record.get('error')}"

    def _begin(self) -> None:
        while self._waiting:
            lesson = self._waiting.popleft()
            for task in lesson.summaries:
                self._submit(task)
            if lesson.summaries:
                break
            self._notes[lesson.combine.channel] = self._looked_up(lesson)["note"]

    def _looked_up(self, lesson: Lesson) -> Mapping[str, Any]:
        """Learn what no plane tells, such as a saved profile that workers elsewhere may not see."""
        try:
            prepared = combine(self._step, lesson.combine)
        except Exception as error:
            # A function is a plug-in: whatever it raises is the step's failure, kept whole.
            why = str(error) or type(error).__name__
            message = f"{self._step.name} cannot learn from channel {lesson.channel}: {why}"
            raise RunError(message) from error
        return keep(prepared, lesson.combine)

    def _combine(self, lesson: Lesson) -> None:
        """Go on with a channel; of which nothing could be read, not before the others show that."""
        if self._read[lesson.combine.channel]:
            self._submit(lesson.combine)
        else:
            self._unseen.append(lesson)

    def _submit(self, task: SummaryTask | CombineTask) -> None:
        self.pending[task.name] = task
        self._tasks.submit(task)
