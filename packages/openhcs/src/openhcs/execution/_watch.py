"""What tells a run about its tasks: threads of the executor put it in the run's own queue."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs._errors import WorkerLostError
from openhcs.pipeline import Event, Outcome, StepFinished, WellRetried, WellStarted

if TYPE_CHECKING:
    import queue
    from concurrent.futures import Future

__all__ = ["Ended", "Unwatched", "Watch"]


@dataclass(frozen=True, slots=True)
class Ended:
    """A task is over."""

    name: str
    future: Future[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        """Give the record of the task, in whatever way it ended."""
        try:
            return self.future.result()
        except CancelledError:
            return {"outcome": str(Outcome.CANCELLED), "error": "cancelled before it was begun"}
        except WorkerLostError as error:
            return {"outcome": str(Outcome.LOST), "error": f"{error}, twice"}


@dataclass(frozen=True, slots=True)
class Watch:
    """Passes what happens to the task of a well on to the run's own thread."""

    well: str
    happened: queue.SimpleQueue[Event | Ended]

    def started(self, worker: int, attempt: int) -> None:
        self.happened.put(WellStarted(well=self.well, worker=worker, attempt=attempt))

    def finished_step(self, step: str, seconds: float) -> None:
        self.happened.put(StepFinished(well=self.well, step=step, seconds=seconds, reused=False))

    def retried(self, reason: str) -> None:
        self.happened.put(WellRetried(well=self.well, reason=reason))


class Unwatched:
    """Tasks that are no wells are not reported one by one."""

    def started(self, worker: int, attempt: int) -> None:
        """Nothing to report."""

    def finished_step(self, step: str, seconds: float) -> None:
        """Nothing to report."""

    def retried(self, reason: str) -> None:
        """Nothing to report."""
