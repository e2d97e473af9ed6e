"""``openhcs inspect``: what a plate holds and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs.cli._console import make_console, print_json, printable, say
from openhcs.cli._plate import add_plate_options, open_told

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands
    from openhcs.plates import Finding, PlateIndex

__all__ = ["add_to"]

_SHOWN_FINDINGS = 12
_COLOURS = {"error": "red", "warning": "yellow", "info": "dim"}


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="say what a plate holds, and what is missing, empty, doubled or unreadable",
        description="Index a plate and open the header of every image, without reading pixels or "
        "writing to the plate. Exit status 1 when something is wrong with it.",
    )
    parser.add_argument("plate", type=Path, help="the plate's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_plate_options(parser)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="open few headers: damaged and identical files are not found",
    )
    parser.set_defaults(carry_out=_carry_out)


def _carry_out(arguments: argparse.Namespace) -> int:
    from openhcs.plates import describe

    index = open_told(arguments, deep=not arguments.quick)
    facts = describe(index)
    if arguments.json:
        print_json(facts)
    else:
        _print(index, facts)
    return 1 if any(finding.severity == "error" for finding in index.findings) else 0


def _print(index: PlateIndex, facts: dict[str, Any]) -> None:
    from rich.table import Table

    console = make_console()
    console.print(printable(index.name), style="bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    format_name = " ".join(part for part in (index.format, index.format_version) if part)
    pixel, dtype, shapes = facts["pixel_size_um"], facts["dtype"], facts["shapes"]
    rows = [
        ("folder", str(index.root)),
        ("format", f"{format_name}: {index.why.removeprefix(f'{index.format}, ')}"),
        ("wells", f"{len(index.wells)} of {index.rows * index.columns}: {_some(index.wells)}"),
        ("fields", f"{len(index.fields)} per well at most{_grid(facts['grids'])}"),
        ("channels", ", ".join(facts["channels"])),
        ("z planes", str(len(index.z))),
        ("time points", str(len(index.t))),
        ("images", f"{facts['found']} found of {facts['expected']} expected"),
        ("files", _classes(facts["files"])),
        ("size", ", ".join(f"{width} x {height} px" for height, width in shapes) or "not known"),
        ("pixel size", " x ".join(f"{um:g}" for um in pixel[::-1]) + " µm" if pixel else "unknown"),
        ("element type", dtype or "not known"),
    ]
    projections = [f"{n} {kind}" for kind, n in facts["kinds"].items() if kind != "plane"]
    if projections:
        rows.append(("projections", ", ".join(projections)))
    if facts["illumination"]:
        rows.append(("illumination", f"the vendor's, of {', '.join(facts['illumination'])}"))
    if len(facts["acquisitions"]) > 1:
        count = len(facts["acquisitions"])
        rows.append(("acquisitions", f"{count}; run one with --acquisition N, or all as cycles"))
    for name, value in rows:
        table.add_row(name, printable(value))
    console.print(table)
    _print_findings(index.findings)


def _classes(files: dict[str, int]) -> str:
    """Say in which classes the files are; each is in one."""
    words = {
        "planes": "of images",
        "metadata": "of metadata",
        "thumbnails": "of thumbnails",
        "ignored": "left out by rule",
        "named": "in findings alone",
    }
    parts = [f"{files[name]} {words[name]}" for name in words if files[name]]
    return f"{files['total']}: {', '.join(parts)}"


def _print_findings(findings: tuple[Finding, ...]) -> None:
    from collections import Counter

    from rich.table import Table

    console = make_console()
    if not findings:
        say(console, "Nothing is missing, empty, doubled or unreadable.")
        return
    ranked = sorted(findings, key=lambda finding: list(_COLOURS).index(finding.severity))
    counts = Counter(finding.severity for finding in ranked)
    tally = ", ".join(
        f"{count} {name}{'s' * (count > 1 and name != 'info')}" for name, count in counts.items()
    )
    say(console, f"\nFindings: {tally}")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in ranked[:_SHOWN_FINDINGS]:
        text = " ".join(part for part in (finding.message, finding.remedy) if part)
        text = printable(text).replace("\n", "\N{REPLACEMENT CHARACTER}")
        table.add_row(finding.severity, finding.code, text, style=_COLOURS[finding.severity])
    console.print(table)
    if len(ranked) > _SHOWN_FINDINGS:
        say(console, f"and {len(ranked) - _SHOWN_FINDINGS} more; --json lists them all")


def _grid(grids: dict[str, Any]) -> str:
    """Say how fields lie, by the most common grid."""
    from collections import Counter

    shapes = Counter((grid["rows"], grid["columns"]) for grid in grids.values())
    if not shapes:
        return ""
    (rows, columns), count = shapes.most_common(1)[0]
    return f", {rows} x {columns}" + ("" if count == len(grids) else " in most wells")


def _some(names: tuple[str, ...], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
