"""Shows a run while it goes on: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from openhcs._words import counted
from openhcs.cli._console import say
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
    from collections.abc import Callable, Collection
    from types import TracebackType

    from rich.console import Console

    from openhcs.pipeline import Event

__all__ = ["RunDisplay", "TimeLeft"]

_LEAST_PART = 0.02


class TimeLeft:
    """Estimates how long the rest of a run takes from what it has done so far.

    Parameters
    ----------
    clock
        Gives the time in s.

    Notes
    -----
    Wells that were finished before count for nothing: they cost no time and would promise that the
    others cost none either.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: float | None = None
        self._part = 0.0

    def advance(self, done: float, total: float) -> None:
        """Take how many wells are done, parts of wells included, of those that were to be done."""
        if self._began is None:
            self._began = self._clock()
        self._part = done / total if total > 0 else 0.0

    def seconds(self) -> float | None:
        """Give the time left in s; None as long as too little is done to tell."""
        if self._began is None or self._part < _LEAST_PART:
            return None
        return (self._clock() - self._began) * (1 - self._part) / self._part


class _TimeLeftColumn(ProgressColumn):
    """Draws the time left."""

    def __init__(self, left: TimeLeft) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:  # noqa: ARG002  # the shape that rich asks for
        seconds = self._left.seconds()
        if seconds is None:
            return Text("")
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
        return Text(f"about {clock} left", style="cyan")


class RunDisplay:
    """Projects the events of a run onto a console.

    On a terminal there is one bar over all steps of all wells, with the wells in hand beside it and
    the time left; elsewhere one line for each finished well.

    Parameters
    ----------
    console
        Where it is shown.
    told
        Wells whose failure has been told before the run began.
    """

    def __init__(self, console: Console, told: Collection[str] = ()) -> None:
        self._console = console
        self._told = told
        self._left = TimeLeft()
        self._bar = Progress(
            TextColumn("{task.fields[wells]}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            _TimeLeftColumn(self._left),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, wells="")
        self._at: dict[str, str] = {}
        self._done: dict[str, int] = {}
        self._steps: tuple[str, ...] = ()
        self._wells = 0
        self._finished = 0
        self._reused = 0
        self._stopping = False

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

    def stop(self) -> None:
        """Show that the run is being stopped; may be called from a signal's handler."""
        self._stopping = True

    def __call__(self, event: Event) -> None:
        """Take one event; called from the thread that runs the plan."""
        match event:
            case RunStarted():
                self._steps = event.steps
                self._wells = len(event.wells)
                self._finished = self._reused = 0  # a run on a server may begin again
                self._done.clear()
                self._at.clear()
                self._bar.update(self._task, total=self._wells, wells=self._count())
                if event.done:
                    of = counted(len(event.wells), "well")
                    are = "is" if len(event.done) == 1 else "are"
                    self._say(f"{len(event.done)} of {of} {are} finished and unchanged")
            case PreparationAdvanced():
                some = f"{event.planes} of {counted(event.of, 'plane')}"
                looking = f"{event.step} learns from the plate: {some}"
                self._bar.update(self._task, description=self._described(looking))
            case PreparationFinished():
                self._tell_learned(event)
            case WellStarted():
                if event.attempt > 1:
                    self._say(f"{event.well}: begun again", colour="yellow")
                self._at[event.well] = "reading"
                self._done[event.well] = 0
                self._draw()
            case StepFinished():
                if event.well in self._done:
                    self._done[event.well] += 1
                    self._at[event.well] = self._next_step(event.step)
                self._draw()
            case WellRetried():
                self._say(f"{event.well}: {event.reason}; it waits for its second try", "yellow")
                self._at.pop(event.well, None)
                self._done.pop(event.well, None)
                self._draw()
            case WellFinished():
                self._at.pop(event.well, None)
                self._done.pop(event.well, None)
                self._finished += 1
                self._reused += event.reused
                self._draw()
                self._tell(event)
            case _:
                pass

    def _count(self) -> str:
        return f"{self._finished}/{counted(self._wells, 'well')}"

    def _next_step(self, step: str) -> str:
        place = self._steps.index(step) + 1 if step in self._steps else len(self._steps)
        return self._steps[place] if place < len(self._steps) else "writing"

    def _draw(self) -> None:
        """Count finished steps of wells in hand as parts of a well, so that the bar moves."""
        steps = max(len(self._steps), 1)
        inside = sum(min(done, steps) / (steps + 1) for done in self._done.values())
        self._left.advance(self._finished - self._reused + inside, self._wells - self._reused)
        hands = ", ".join(f"{well} {step}" for well, step in sorted(self._at.items()))
        self._bar.update(
            self._task,
            completed=self._finished + inside,
            wells=self._count(),
            description=self._described(hands),
        )

    def _described(self, text: str) -> str:
        return "stopping, what is finished is kept" if self._stopping else text

    def _tell_learned(self, event: PreparationFinished) -> None:
        if event.planes and not event.reused:
            planes = counted(event.planes, "plane")
            self._say(f"{event.step}: learned from {planes} in {event.seconds:.1f} s")
        whys: dict[str, list[str]] = {}
        for channel, why in event.without.items():
            whys.setdefault(why, []).append(channel)
        for why, channels in whys.items():
            self._say(f"{event.step}, {', '.join(channels)}: {why}", colour="yellow")

    def _tell(self, event: WellFinished) -> None:
        if event.outcome is Outcome.CANCELLED or event.well in self._told:
            return
        if event.outcome is not Outcome.OK:
            self._say(f"{event.well}: {event.outcome}: {event.error}", colour="red")
        elif not event.reused and not self._console.is_terminal:
            self._say(f"{event.well}: {event.seconds:.1f} s, {self._finished} of {self._wells}")

    def _say(self, text: str, colour: str | None = None) -> None:
        say(self._console, text, colour)
