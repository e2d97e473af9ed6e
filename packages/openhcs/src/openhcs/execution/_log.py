"""The log of a result folder: one line for what happens, and the tracebacks of what failed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, assert_never

from openhcs._words import counted
from openhcs.pipeline import (
    Event,
    PreparationAdvanced,
    PreparationFinished,
    RunFinished,
    RunStarted,
    StepFinished,
    WellFinished,
    WellRetried,
    WellStarted,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import IO

__all__ = ["RunLog"]


class RunLog:
    """A text file that lines are added to, also by worker processes through their standard error.

    Parameters
    ----------
    path
        The file; what is in it stays.

    Raises
    ------
    OSError
        If it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        # Without a buffer of ours, lines of several processes stay whole and in order.
        self._stream = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def stream(self) -> IO[Any]:
        """The open file."""
        return self._stream

    def write(self, text: str) -> None:
        """Add a line with the time in front; a full disk loses the line and nothing else."""
        line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {text.rstrip()}\n"
        try:
            self._stream.write(line.encode())
        except OSError:
            return

    def event(self, event: Event) -> None:
        """Add a line for what happened, if it is worth one."""
        match event:
            case RunStarted():
                wells = f"{counted(len(event.wells), 'well')}, {len(event.done)} of them done"
                workers = counted(event.workers, "worker")
                self.write(f"run {event.run_id}: {wells}, {workers}")
            case PreparationFinished():
                self.write(f"{event.step}: {_learned(event)}")
            case WellRetried():
                self.write(f"{event.well}: {event.reason}; it waits for its second try")
            case WellStarted(attempt=attempt) if attempt > 1:
                self.write(f"{event.well}: begun again")
            case WellFinished():
                if event.error is None:
                    how = "taken over" if event.reused else f"{event.seconds:.1f} s"
                    self.write(f"{event.well}: {event.outcome}, {how}")
            case RunFinished():
                counts = ", ".join(f"{count} {name}" for name, count in event.wells.items())
                reason = f"; {event.reason}" if event.reason else ""
                self.write(f"run {event.outcome}: {counts} in {event.seconds:.1f} s{reason}")
            case PreparationAdvanced() | WellStarted() | StepFinished():
                pass
            case _:
                assert_never(event)


def _learned(event: PreparationFinished) -> str:
    if event.reused:
        return "what an earlier run learned from the plate is taken over"
    if not event.planes:
        return "nothing to learn from the plate"
    planes = counted(event.planes, "plane")
    return f"learned from {planes} of the plate in {event.seconds:.1f} s"
