"""``openhcs demo``: from a synthetic plate to results, held against the truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._words import counted
from openhcs.cli._console import make_console, say
from openhcs.cli._feed import missing_for_viewer
from openhcs.cli._run import add_run_options, default_workers, run_and_tell
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from openhcs.cli._commands import Commands
    from openhcs.demo import Comparison

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="write a synthetic plate, run the default pipeline, compare with the truth",
        description="Write a synthetic ImageXpress plate, run the default pipeline on it and say "
        "how far the results are from the truth.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("openhcs-demo"),
        metavar="DIR",
        help="folder for plate and results (default: ./%(default)s)",
    )
    add_run_options(parser, viewer=None)
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs.demo import compare_with_truth, write_demo_plate
    from openhcs.pipeline import Outcome, compile_pipeline, default_pipeline
    from openhcs.plates import open_plate

    console = make_console()
    if arguments.viewer is None:
        lack = missing_for_viewer()
        arguments.viewer = "none" if lack else "napari"
        if lack:
            say(console, f"Viewer:  left out, {lack}")
    plate, results = arguments.out / "plate", arguments.out / "results"
    arguments.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with console.status("writing a synthetic plate"):
        truth, there = write_demo_plate(
            plate, processes=min(arguments.workers or default_workers(), 8)
        )
    how = "from before" if there else f"written in {time.monotonic() - began:.1f} s"
    say(console, f"Plate:   {plate}, {counted(len(truth.spec.wells), 'well')}, synthetic, {how}")
    index = open_plate(plate)
    plan = compile_pipeline(default_pipeline(index), index)
    result, status = run_and_tell(plan, results, arguments, console)
    whole = [well.well for well in result.with_outcome(Outcome.OK)]
    if whole and status != ExitStatus.STOPPED:
        _tell(compare_with_truth(results, truth, whole), console)
    if status == ExitStatus.DONE:
        say(console, "\nOn your own plate:")
        say(console, "  hatch run openhcs inspect PLATE")
        say(console, "  hatch run openhcs run PLATE --out RESULTS --viewer napari")
    return status


def _tell(comparison: Comparison, console: Console) -> None:
    from rich.table import Table

    table = Table("against the truth", "", box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "nuclei found",
        f"{comparison.found} of {comparison.cells}, {comparison.spurious} spurious "
        f"(F1 {comparison.f1:.3f} at half overlap)",
    )
    table.add_row(
        "stitching error",
        f"{comparison.stitching_rms_px:.3f} px rms, {comparison.stitching_max_px:.3f} px at most "
        f"(the stage: {comparison.stage_rms_px:.2f} px rms)",
    )
    for name, error in comparison.intensity_error.items():
        table.add_row(f"intensity error, {name}", f"{100 * error:.1f} % (median over nuclei)")
    console.print(table)
