"""``openhcs pipeline``: print or check a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._words import counted
from openhcs.cli._plate import add_plate_options, open_told

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("pipeline", help="print or check a pipeline")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    show = verbs.add_parser(
        "show",
        help="print the default pipeline as a file to edit",
        description="Print the default pipeline. With a plate, its channels are filled in.",
    )
    show.add_argument("plate", type=Path, nargs="?", help="a plate to fit the pipeline to")
    add_plate_options(show)
    show.set_defaults(carry_out=_show)
    check = verbs.add_parser(
        "check",
        help="say everything that keeps a pipeline from running on a plate",
    )
    check.add_argument("pipeline", type=Path, help="the pipeline's file")
    check.add_argument("plate", type=Path, help="the plate's folder")
    add_plate_options(check)
    check.set_defaults(carry_out=_check)


def _show(arguments: argparse.Namespace) -> int:
    from openhcs.pipeline import default_pipeline, to_source

    index = open_told(arguments) if arguments.plate else None
    print(to_source(default_pipeline(index)), end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from openhcs.pipeline import compile_pipeline, load

    pipeline = load(arguments.pipeline)
    plan = compile_pipeline(pipeline, open_told(arguments))
    wells = counted(len(plan.wells), "well")
    print(f"{arguments.pipeline} runs on {arguments.plate}: {wells}")
    return 0
