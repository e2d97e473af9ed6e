"""``openhcs run``: a pipeline over a plate."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from types import FrameType

    from rich.console import Console

    from openhcs.cli._commands import Commands
    from openhcs.execution import RunResult
    from openhcs.pipeline import Event, Plan

__all__ = ["add_run_options", "add_to", "default_workers", "run_and_tell"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        help="run a pipeline over a plate",
        description="Run a pipeline over a plate. What is finished and unchanged in DIR is not "
        "done again. Exit status 0 only if every expected well succeeded.",
    )
    parser.add_argument("plate", type=Path, nargs="?", help="the plate's folder")
    parser.add_argument(
        "pipeline", type=Path, nargs="?", help="a pipeline's file; the default one without"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--again", type=Path, metavar="DIR", help="repeat the run whose results are in DIR"
    )
    parser.add_argument("--format", help="read the plate as this format instead of finding out")
    parser.add_argument("--wells", help="such as A01,B02-B05,C* (all of them without)")
    parser.add_argument("--fields", help="such as 0-3,7, counted as `openhcs inspect` does")
    parser.add_argument("--channels", help="names, comma-separated")
    parser.add_argument(
        "--missing",
        choices=["fail-well", "skip-group"],
        default="fail-well",
        help="what a missing or unreadable plane means for its well (default: %(default)s)",
    )
    add_run_options(parser, viewer="none")
    parser.set_defaults(carry_out=_carry_out)


def add_run_options(parser: argparse.ArgumentParser, *, viewer: str | None) -> None:
    """Add what ``run`` and ``demo`` share.

    Parameters
    ----------
    parser
        Parser of the command.
    viewer
        Default viewer; None to choose by whether there is a display.
    """
    parser.add_argument(
        "--workers",
        type=int,
        default=default_workers(),
        metavar="N",
        help="worker processes (default: one for each processor, here %(default)s)",
    )
    parser.add_argument(
        "--force", action="store_true", help="do everything again, also what is finished"
    )
    parser.add_argument(
        "--viewer",
        choices=["napari", "none"],
        default=viewer,
        help="show images as they are made"
        + (" (default: napari where there is a display)" if viewer is None else ""),
    )
    parser.add_argument(
        "--viewer-host", default="localhost", help="host of the viewer (default: %(default)s)"
    )
    parser.add_argument(
        "--viewer-port", type=int, default=5555, help="its port (default: %(default)s)"
    )


def default_workers() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _carry_out(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    console = Console(highlight=False)
    plan, out = _again(arguments) if arguments.again else _planned(arguments, console)
    return run_and_tell(plan, out, arguments, console)[1]


def _planned(arguments: argparse.Namespace, console: Console) -> tuple[Plan, Path]:
    from openhcs._errors import MisuseError
    from openhcs.pipeline import compile_pipeline, default_pipeline, load
    from openhcs.plates import open_plate, parse_wells

    if arguments.plate is None or arguments.out is None:
        message = "name a plate and --out DIR, or --again DIR; `openhcs run --help` tells more"
        raise MisuseError(message)
    index = open_plate(arguments.plate, format=arguments.format)
    console.print(f"[bold]{index.name}[/bold]  {index.why}: {len(index)} planes")
    pipeline = load(arguments.pipeline) if arguments.pipeline else default_pipeline(index)
    plan = compile_pipeline(
        pipeline,
        index,
        wells=parse_wells(arguments.wells, index.wells) if arguments.wells else None,
        fields=_numbers(arguments.fields) if arguments.fields else None,
        channels=tuple(arguments.channels.split(",")) if arguments.channels else None,
        missing=arguments.missing,
    )
    return plan, arguments.out


def _numbers(text: str) -> tuple[int, ...]:
    """Read numbers and ranges such as ``0-3,7``."""
    from openhcs._errors import MisuseError

    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            message = f"{part!r} is no field: write numbers and ranges, such as 0-3,7"
            raise MisuseError(message)
        chosen.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(chosen))


def _again(arguments: argparse.Namespace) -> tuple[Plan, Path]:
    from openhcs.execution import load_run

    return load_run(arguments.again).plan(), arguments.out or arguments.again


def run_and_tell(
    plan: Plan, out: Path, arguments: argparse.Namespace, console: Console
) -> tuple[RunResult, int]:
    """Run a plan, show it, write the report, and sum up.

    Returns
    -------
    tuple
        The result and the exit status.
    """
    from openhcs.cli._feed import viewer_feed
    from openhcs.cli._progress import RunDisplay
    from openhcs.execution import run
    from openhcs.pipeline import Outcome
    from openhcs.report import write_report

    cancel = threading.Event()
    with (
        viewer_feed(arguments, plan, out, console) as feed,
        RunDisplay(console) as display,
        _cancel_on_interrupt(cancel, console),
    ):

        def tell(event: Event) -> None:
            display(event)
            feed(event)

        result = run(
            plan,
            out,
            workers=arguments.workers,
            resume=not arguments.force,
            on_event=tell,
            cancel=cancel,
        )
    write_report(out)
    _sum_up(result, console)
    if result.outcome is Outcome.CANCELLED:
        console.print(f"Stopped. The same command goes on where it was: results are in {out}")
        return result, 130
    return result, 0 if result.completed else 1


@contextmanager
def _cancel_on_interrupt(cancel: threading.Event, console: Console) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into a request to stop, for as long as a run lasts."""

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # the shape that signal asks for
        if not cancel.is_set():
            console.print("Stopping: what is finished is kept.")
        cancel.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _sum_up(result: RunResult, console: Console) -> None:
    from collections import Counter

    from rich.table import Table

    from openhcs.pipeline import Outcome

    counts = Counter(well.outcome for well in result.wells)
    reused = sum(well.reused for well in result.wells)
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    again = f", {reused} of them from before" if reused else ""
    console.print(f"{len(result.wells)} wells: {', '.join(parts)}{again}, {result.seconds:.1f} s")
    if result.reason:
        console.print(result.reason, style="red", markup=False)
    bad = [well for well in result.wells if well.outcome is not Outcome.OK]
    if bad:
        table = Table("well", "outcome", "what happened")
        for well in bad[:20]:
            table.add_row(well.well, well.outcome, well.error or "")
        console.print(table)
        if len(bad) > 20:
            console.print(f"and {len(bad) - 20} more; the report names them all")
        console.print(f"Tracebacks are in {result.out / 'run.log'}")
    console.print(f"Results: {result.out}   Report: {result.out / 'report.html'}")
