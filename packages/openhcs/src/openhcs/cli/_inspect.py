"""``openhcs inspect``: what a plate holds and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands
    from openhcs.plates import PlateIndex

__all__ = ["add_to"]

_SHOWN_FINDINGS = 12


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="say what a plate holds, and what is missing, empty, doubled or unreadable",
        description="Index a plate without reading pixels or writing to it. "
        "Exit status 1 when something is wrong with the plate.",
    )
    parser.add_argument("plate", type=Path, help="the plate's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--format", help="read it as this format instead of finding out")
    parser.add_argument(
        "--deep", action="store_true", help="open the header of every file (0.4 ms each)"
    )
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs.plates import describe, open_plate

    index = open_plate(arguments.plate, format=arguments.format, deep=arguments.deep)
    if arguments.json:
        print(json.dumps(describe(index), ensure_ascii=False, indent=2))
    else:
        _print(index, describe(index))
    return 1 if any(finding.severity == "error" for finding in index.findings) else 0


def _print(index: PlateIndex, facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{index.name}[/bold]  {index.why}")
    table = Table.grid(padding=(0, 2))
    pixel = facts["pixel_size_um"]
    dtype = facts["dtype"]
    rows = [
        ("wells", f"{len(facts['wells'])}: {_some(facts['wells'])}"),
        ("fields", f"{len(facts['fields'])} per well at most"),
        ("channels", ", ".join(map(str, facts["channels"]))),
        ("z", str(len(facts["z"]))),
        ("time points", str(len(facts["t"]))),
        ("planes", str(facts["planes"])),
        ("pixel size", f"{_pixel(pixel)}" if pixel else "unknown"),
        ("element type", str(dtype)),
    ]
    for name, value in rows:
        table.add_row(f"[dim]{name}[/dim]", value)
    console.print(table)
    findings = sorted(index.findings, key=lambda finding: _RANK[finding.severity])
    for finding in findings[:_SHOWN_FINDINGS]:
        colour = {"error": "red", "warning": "yellow"}.get(finding.severity, "dim")
        console.print(
            f"[{colour}]{finding.severity:<8}[/{colour}]{finding.code}: {finding.message}"
        )
        if finding.remedy:
            console.print(f"        [dim]{finding.remedy}[/dim]")
    if len(findings) > _SHOWN_FINDINGS:
        more = len(findings) - _SHOWN_FINDINGS
        console.print(f"[dim]and {more} more; --json lists them all[/dim]")


_RANK = {"error": 0, "warning": 1, "info": 2}


def _pixel(size: object) -> str:
    if isinstance(size, list | tuple):
        return " x ".join(f"{value:g}" for value in size) + " µm"
    return f"{size:g} µm" if isinstance(size, float) else str(size)


def _some(names: list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
