"""``openhcs run``: a pipeline over a plate."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._words import reason_of
from openhcs.cli._arguments import at_least_one, base_port, size
from openhcs.cli._cluster import add_cluster_options, check_cluster_options, opened_executor
from openhcs.cli._console import make_console, say
from openhcs.cli._remote import run_on_server
from openhcs.cli._selection import add_selection, planned, refuse_selection
from openhcs.cli._server_options import add_submit_options, check_submit_options
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

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
        "--again",
        type=Path,
        metavar="DIR",
        help="repeat the run whose results are in DIR: there, or in another folder with --out",
    )
    add_selection(parser)
    add_run_options(parser, viewer="none")
    add_cluster_options(parser)
    add_submit_options(parser)
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
        type=at_least_one,
        metavar="N",
        help=f"worker processes (default: one for each processor, here {default_workers()})",
    )
    parser.add_argument(
        "--memory",
        type=size,
        metavar="SIZE",
        help="what all workers may hold together, such as 16GB (default: four fifths of what is "
        "available); there are fewer workers when they would hold more",
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
        "--viewer-host",
        metavar="HOST",
        help="host of the viewer, as the run reaches it (default: this computer)",
    )
    parser.add_argument(
        "--viewer-port", type=base_port, default=5555, help="its port (default: %(default)s)"
    )


def default_workers() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _carry_out(arguments: argparse.Namespace) -> int:
    console = make_console()
    check_cluster_options(arguments)
    check_submit_options(arguments)
    if arguments.server is not None:
        return run_on_server(arguments, console)
    if arguments.again:
        plan, out = _again(arguments)
    else:
        _, plan = planned(arguments, console)
        out = arguments.out
    return run_and_tell(plan, out, arguments, console)[1]


def _again(arguments: argparse.Namespace) -> tuple[Plan, Path]:
    from openhcs._errors import MisuseError
    from openhcs.execution import load_run

    why = "--again repeats a run as it was"
    if arguments.request is not None:
        message = f"{why}, and --request is given beside it: leave one of them out"
        raise MisuseError(message)
    refuse_selection(arguments, why)
    return load_run(arguments.again).plan(), arguments.out or arguments.again


def run_and_tell(
    plan: Plan, out: Path, arguments: argparse.Namespace, console: Console
) -> tuple[RunResult, ExitStatus]:
    """Run a plan, show it, write the report, and sum up.

    Returns
    -------
    tuple
        The result and the exit status.

    Raises
    ------
    ResultFolderError
        If the result folder cannot be used.
    RunError
        If the run was begun and could not be brought to its end.
    """
    from openhcs._errors import RunError
    from openhcs.cli._feed import viewer_feed
    from openhcs.cli._interrupt import cancel_on_interrupt
    from openhcs.cli._progress import RunDisplay
    from openhcs.cli._summary import sum_up
    from openhcs.execution import ResultFolder, run
    from openhcs.pipeline import Outcome
    from openhcs.report import write_report

    with ResultFolder(out).opened(plan.index.root):
        pass  # what is wrong with the folder is said before a viewer opens
    for note in plan.notes:
        say(console, f"Note: {note}", "yellow")
    _tell_refused(plan.refused, console)
    reported = _reported_wells(out)
    cancel = threading.Event()
    begun = False
    with (
        viewer_feed(arguments, plan, out, console) as feed,
        RunDisplay(console, told=plan.refused) as display,
        cancel_on_interrupt(cancel, console, display),
        opened_executor(arguments, out, cancel, console) as executor,
    ):

        def tell(event: Event) -> None:
            nonlocal begun
            begun = True
            display(event)
            feed(event)

        try:
            result = run(
                plan,
                out,
                workers=arguments.workers or default_workers(),
                memory_bytes=arguments.memory,
                executor=executor,
                resume=not arguments.force,
                on_event=tell,
                cancel=cancel,
            )
        except OSError as error:
            if begun:
                message = f"the run ended without its results: {error}"
                raise RunError(message) from error
            raise
        lack = ""
        try:
            if reported is not None and reported == (out / "wells.parquet").read_bytes():
                (out / "report.html").touch()  # it shows just this table: it is as new as the table
            else:
                write_report(out)
        except OSError as error:  # the disk may be full: what was done is summed up all the same
            lack = reason_of(error)
            if result.reason:
                lack = "the run ended before there was one to write; the same command goes on"
    sum_up(result, console)
    if lack:
        say(console, f"Report:  not written: {lack}", "red")
    else:
        say(console, f"Report:  {result.out / 'report.html'}")
    if result.outcome is Outcome.CANCELLED:
        say(console, "Stopped. Give the same command to go on: what is finished is not done again.")
        return result, ExitStatus.STOPPED
    whole = result.completed and not lack
    return result, ExitStatus.DONE if whole else ExitStatus.FAILED


def _reported_wells(out: Path) -> bytes | None:
    """Give the table that the report shows; None when there is no report of it as it is."""
    table, report = out / "wells.parquet", out / "report.html"
    try:
        current = report.stat().st_mtime_ns >= table.stat().st_mtime_ns
        return table.read_bytes() if current else None
    except FileNotFoundError:
        return None


def _tell_refused(refused: Mapping[str, str], console: Console) -> None:
    """Name the wells that cannot run, before the others begin."""
    from openhcs.cli._summary import MOST_NAMED

    for well, reason in list(refused.items())[:MOST_NAMED]:
        say(console, f"{well} cannot run: {reason}", "yellow")
    if len(refused) > MOST_NAMED:
        say(console, f"and {len(refused) - MOST_NAMED} more wells cannot run", "yellow")
