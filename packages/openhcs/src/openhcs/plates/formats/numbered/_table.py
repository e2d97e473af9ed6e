"""The table beside numbered images: which image is of which well, and what was put into it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._numbers import whole
from openhcs.plates._platemap import Platemap
from openhcs.plates._texts import decoded
from openhcs.plates._wells import parse_well, well_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.plates._findings import FindingLog

__all__ = ["ImageTable", "parse_table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTable:
    """What the table says.

    Parameters
    ----------
    wells
        Row and column, from 0, by the number of the image.
    platemap
        Its other columns by well; None when it has no others.
    """

    wells: Mapping[int, tuple[int, int]]
    platemap: Platemap | None


def parse_table(raw: bytes, path: str, findings: FindingLog) -> ImageTable:
    """Read a table.

    Parameters
    ----------
    raw
        The file.
    path
        Its path, relative to the plate.
    findings
        Takes ``METADATA_CONFLICT`` where images of a well are said to be of different conditions.

    Returns
    -------
    ImageTable
        What it says.

    Raises
    ------
    ValueError
        If it lacks a column or has a line that names no well; the message has the line.
    """
    text = decoded(raw, otherwise="cp1252")
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    header = [name.strip() for name in lines[0]] if lines else []
    lower = [name.lower() for name in header]
    if lack := [name for name in ("imagenumber", "row", "column") if name not in lower]:
        raise ValueError(f"it has no column {lack[0]}; it has {header}")
    number_at, row_at, column_at = (lower.index(n) for n in ("imagenumber", "row", "column"))
    kept = [at for at in range(len(header)) if at not in (number_at, row_at, column_at)]
    wells: dict[int, tuple[int, int]] = {}
    conditions: dict[str, tuple[str, ...]] = {}
    torn: list[str] = []
    for line, cells in enumerate(lines[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise ValueError(f"line {line} has {len(cells)} values for {len(header)} columns")
        number = cells[number_at].strip()
        if whole(number) is None:
            raise ValueError(f"line {line} has {number[:40]!r} for the number of an image")
        try:
            place = _place(cells[row_at].strip(), cells[column_at].strip())
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error
        if wells.setdefault(int(number), place) != place:
            raise ValueError(f"line {line}: image {number} has another well already")
        values = tuple(cells[at].strip() for at in kept)
        well = well_name(*place)
        if conditions.setdefault(well, values) != values:
            torn.append(well)
    if torn:
        findings.add(
            "METADATA_CONFLICT",
            f"{path} gives images of one well different conditions; the first line of each counts "
            f"(wells {', '.join(dict.fromkeys(torn))}).",
            path=path,
        )
    names = tuple(header[at] for at in kept)
    platemap = Platemap(source=path, columns=names, wells=conditions) if names else None
    return ImageTable(wells=wells, platemap=platemap)


def _place(row: str, column: str) -> tuple[int, int]:
    by_number = whole(row), whole(column)
    if by_number[0] is not None and by_number[1] is not None:
        return parse_well(well_name(by_number[0] - 1, by_number[1] - 1))
    return parse_well(f"{row}{column}")
