"""A platemap: what was put into each well."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import PlateError
from openhcs.plates._wells import parse_well, well_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openhcs.plates._findings import FindingLog

__all__ = ["Platemap", "check_platemap", "read_platemap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Platemap:
    """Conditions per well, as text: nothing is guessed about what they mean.

    Parameters
    ----------
    source
        The file it came from.
    columns
        Names, as they are in the file.
    wells
        The values of each well, in the order of the columns.
    """

    source: str
    columns: tuple[str, ...]
    wells: Mapping[str, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """Give the platemap as plain JSON values."""
        return {
            "source": self.source,
            "columns": list(self.columns),
            "wells": {well: list(values) for well, values in self.wells.items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Platemap:
        """Make a platemap from what `to_json` gave."""
        return cls(
            source=values["source"],
            columns=tuple(values["columns"]),
            wells={well: tuple(cells) for well, cells in values["wells"].items()},
        )


def read_platemap(path: str | Path) -> Platemap:
    """Read a table of conditions, separated by commas, semicolons or tabs.

    Parameters
    ----------
    path
        A text file whose first line names the columns: ``well``, or ``row`` and ``column`` (row
        as letters or from 1, column from 1), and any others.

    Returns
    -------
    Platemap
        Its wells, one entry each.

    Raises
    ------
    PlateError
        If it names no wells, a well twice, or something that is no well; the message has the line.
    OSError
        If it cannot be read.
    """
    raw = Path(path).read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    lines = list(csv.reader(io.StringIO(text), delimiter=separator))
    names = [name.strip() for name in lines[0]] if lines else []
    lower = [name.lower() for name in names]
    place = next(
        (
            tuple(lower.index(name) for name in wanted)
            for wanted in (("well",), ("row", "column"), ("row", "col"))
            if all(name in lower for name in wanted)
        ),
        None,
    )
    if place is None:
        raise PlateError(f"{path} has no column well, nor row and column; it has {names}")
    kept = [column for column in range(len(names)) if column not in place]
    wells: dict[str, tuple[str, ...]] = {}
    for number, cells in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(names):
            raise PlateError(f"{path}, line {number}: {len(cells)} values for {len(names)} columns")
        try:
            well = _well([cells[column].strip() for column in place])
        except ValueError as error:
            raise PlateError(f"{path}, line {number}: {error}") from error
        if well in wells:
            raise PlateError(f"{path}, line {number}: well {well} has an entry already")
        wells[well] = tuple(cells[column].strip() for column in kept)
    return Platemap(source=str(path), columns=tuple(names[column] for column in kept), wells=wells)


def check_platemap(
    platemap: Platemap, wells: Iterable[str], size: tuple[int, int], findings: FindingLog
) -> None:
    """Name wells that only the platemap has beyond the plate, and wells without an entry.

    Parameters
    ----------
    platemap
        The conditions.
    wells
        Wells with images.
    size
        Rows and columns of the plate.
    findings
        Takes at most one finding of each kind.
    """
    outside = [
        well
        for well in platemap.wells
        if any(value >= most for value, most in zip(parse_well(well), size, strict=True))
    ]
    if outside:
        findings.add(
            "PLATEMAP_UNKNOWN_WELL",
            f"{platemap.source} names wells that the plate does not have: {', '.join(outside)}.",
            path=platemap.source,
        )
    bare = sorted(set(wells) - set(platemap.wells), key=parse_well)
    if bare:
        findings.add(
            "PLATEMAP_ENTRY_MISSING",
            f"{platemap.source} says nothing of wells {', '.join(bare)}.",
            path=platemap.source,
        )


def _well(cells: list[str]) -> str:
    if len(cells) == 1:
        return well_name(*parse_well(cells[0]))
    row, column = cells
    if row.isdecimal() and column.isdecimal():
        return well_name(int(row) - 1, int(column) - 1)
    return well_name(*parse_well(f"{row}{column}"))
