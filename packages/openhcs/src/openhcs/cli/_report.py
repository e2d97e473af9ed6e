"""``openhcs report``: write the report of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("report", help="write the report of a finished run again")
    parser.add_argument("results", type=Path, help="a result folder")
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs.report import write_report

    print(write_report(arguments.results))
    return 0
