"""``openhcs report``: write the report of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from openhcs.cli._arguments import whole

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="write the report of a finished run again")
    parser.add_argument("results", type=Path, help="a result folder")
    parser.add_argument(
        "--figures",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="DIR",
        help="write figures of the plate too, as PNG and CSV (into RESULTS/figures by itself)",
    )
    parser.add_argument(
        "--fewest-objects",
        type=whole,
        default=50,
        metavar="N",
        help="flag wells with fewer objects than this (default: 50); 0 flags none",
    )
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs.report import write_figures, write_report

    print(write_report(arguments.results, fewest_objects=arguments.fewest_objects))
    if arguments.figures is not None:
        target = None if arguments.figures == Path() else arguments.figures
        for path in write_figures(arguments.results, target):
            print(path)
    return 0
