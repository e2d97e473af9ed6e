"""Shows a run while it goes on: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from openhcs.pipeline import (
    Outcome,
    PreparationAdvanced,
    PreparationFinished,
    RunStarted,
    StepFinished,
    WellFinished,
    WellRetried,
    WellStarted,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from openhcs.pipeline import Event

__all__ = ["RunDisplay"]


class RunDisplay:
    """Projects the events of a run onto a console.

    On a terminal there is one bar over all steps of all wells, with the wells in hand beside it and
    the time left; elsewhere one line for each finished well.

    Parameters
    ----------
    console
        Where it is shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("wells"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._at: dict[str, str] = {}
        self._done: dict[str, int] = {}
        self._steps: tuple[str, ...] = ()
        self._wells = 0
        self._finished = 0
        self._began = time.monotonic()

    def __enter__(self) -> RunDisplay:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Take one event; called from the thread that runs the plan."""
        match event:
            case RunStarted():
                self._steps = event.steps
                self._wells = len(event.wells)
                self._bar.update(self._task, total=self._wells)
                if event.done:
                    self._say(
                        f"{len(event.done)} of {len(event.wells)} wells are finished and unchanged"
                    )
            case PreparationAdvanced():
                self._bar.update(
                    self._task, description=f"{event.step}: looking at {event.planes}/{event.of}"
                )
            case PreparationFinished():
                if not event.reused:
                    self._say(f"{event.step}: learned from the plate in {event.seconds:.1f} s")
            case WellStarted():
                self._at[event.well] = "reading"
                self._done[event.well] = 0
                self._draw()
            case StepFinished():
                if event.well in self._done:
                    self._done[event.well] += 1
                    self._at[event.well] = self._next_step(event.step)
                self._draw()
            case WellRetried():
                self._say(f"{event.well}: {event.reason}; begun again", colour="yellow")
            case WellFinished():
                self._at.pop(event.well, None)
                self._done.pop(event.well, None)
                self._finished += 1
                self._draw()
                self._tell(event)
            case _:
                pass

    def _next_step(self, step: str) -> str:
        place = self._steps.index(step) + 1 if step in self._steps else len(self._steps)
        return self._steps[place] if place < len(self._steps) else "writing"

    def _draw(self) -> None:
        """Count finished steps of wells in hand as parts of a well, so that the bar moves."""
        steps = max(len(self._steps), 1)
        inside = sum(min(done, steps) / (steps + 1) for done in self._done.values())
        hands = "  ".join(f"{well} {step}" for well, step in sorted(self._at.items()))
        self._bar.update(
            self._task, completed=self._finished + inside, description=hands or "waiting"
        )

    def _tell(self, event: WellFinished) -> None:
        if event.outcome is not Outcome.OK:
            self._say(f"{event.well}: {event.outcome}: {event.error}", colour="red")
        elif not event.reused and not self._console.is_terminal:
            self._say(f"{event.well}: {event.seconds:.1f} s, {self._finished} of {self._wells}")

    def _say(self, text: str, colour: str | None = None) -> None:
        self._console.print(text, style=colour, markup=False, highlight=False)
