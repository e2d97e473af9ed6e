"""Well names: letters for the row, two digits for the column, ``A01`` to ``AF48``."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MOST_COLUMNS",
    "MOST_ROWS",
    "PLATE_SIZES",
    "holds_wells",
    "parse_well",
    "parse_wells",
    "plate_size_for",
    "sort_wells",
    "well_name",
]

_WELL = re.compile(r"([A-Za-z]{1,2})0*([1-9]\d?)")
_PATTERN = re.compile(r"(?:([A-Za-z]{1,2})|\*)(?:0*([1-9]\d?)|\*)")
MOST_ROWS, MOST_COLUMNS = 32, 48
PLATE_SIZES = ((2, 3), (4, 6), (8, 12), (16, 24), (32, 48))
"""Rows and columns of standard plates."""


def well_name(row: int, col: int) -> str:
    """Write the name of a well.

    Parameters
    ----------
    row, col
        0-based.

    Returns
    -------
    str
        ``A01`` for (0, 0), ``AF48`` for (31, 47).

    Raises
    ------
    ValueError
        If the largest plate, 32 x 48, has no such well.

    Examples
    --------
    >>> well_name(2, 11)
    'C12'
    """
    if not (0 <= row < MOST_ROWS and 0 <= col < MOST_COLUMNS):
        raise ValueError(f"no plate has a well at row {row}, column {col}; (31, 47) is the last")
    letters = chr(ord("A") + row) if row < 26 else "A" + chr(ord("A") + row - 26)
    return f"{letters}{col + 1:02d}"


@functools.lru_cache(maxsize=4096)
def parse_well(name: str) -> tuple[int, int]:
    """Read the name of a well.

    Parameters
    ----------
    name
        Letters, then the column with or without leading zeros: ``B2``, ``b02``, ``AF48``.

    Returns
    -------
    tuple
        Row and column, 0-based.

    Raises
    ------
    ValueError
        If it is not the name of a well of a plate of at most 32 x 48.

    Examples
    --------
    >>> parse_well("C12")
    (2, 11)
    """
    match = _WELL.fullmatch(name)
    if match is not None:
        row, col = _row(match[1]), int(match[2]) - 1
        if row < MOST_ROWS and col < MOST_COLUMNS:
            return row, col
    raise ValueError(f"{name!r} is not a well; wells are A01 to AF48")


def sort_wells(names: Iterable[str]) -> tuple[str, ...]:
    """Order wells by row, then column, each once.

    Parameters
    ----------
    names
        Names of wells.

    Returns
    -------
    tuple
        The names as they were given.

    Raises
    ------
    ValueError
        If one is no well.
    """
    return tuple(sorted(set(names), key=parse_well))


def parse_wells(text: str, available: Sequence[str]) -> tuple[str, ...]:
    """Read a selection of wells, as a command line gives it.

    Parameters
    ----------
    text
        Wells (``A01``), blocks from corner to corner (``B02-C05``), and whole rows and columns
        (``C*``, ``*07``, ``*``), separated by commas or spaces.
    available
        The wells of the plate.

    Returns
    -------
    tuple
        The chosen wells in plate order. A block, row or column takes what the plate has of it.

    Raises
    ------
    ValueError
        If a part is not understood, or names nothing that the plate has; the message names it.

    Examples
    --------
    >>> parse_wells("A01,B*", ["A01", "A02", "B01", "B03"])
    ('A01', 'B01', 'B03')
    """
    places = {parse_well(name): name for name in available}
    parts = [part for part in re.split(r"[,;\s]+", text) if part]
    if not parts:
        raise ValueError("no well is named; write wells such as A01,B02-B05,C*")
    chosen: set[tuple[int, int]] = set()
    for part in parts:
        found = {place for place in places if _inside(part, place)}
        if not found:
            most = 6
            more = f" and {len(places) - most} more" if len(places) > most else ""
            hint = f"it has {', '.join(list(available)[:most])}{more}"
            raise ValueError(f"{part!r} names no well of this plate; {hint}")
        chosen |= found
    return tuple(places[place] for place in sorted(chosen))


def holds_wells(rows: int, columns: int, wells: Iterable[tuple[int, int]]) -> bool:
    """Say whether a plate of a stated size can be, and has all wells on it.

    Parameters
    ----------
    rows, columns
        As stated; 0 or less where nothing was.
    wells
        Rows and columns, 0-based.
    """
    possible = 0 < rows <= MOST_ROWS and 0 < columns <= MOST_COLUMNS
    return possible and all(0 <= row < rows and 0 <= col < columns for row, col in wells)


def plate_size_for(wells: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Say which standard plate holds all wells, 96 wells at least.

    Parameters
    ----------
    wells
        Rows and columns, 0-based.

    Returns
    -------
    tuple
        Rows and columns of the plate.

    Raises
    ------
    ValueError
        If no plate is large enough.
    """
    places = list(wells)
    for rows, columns in PLATE_SIZES[2:]:
        if all(row < rows and col < columns for row, col in places):
            return rows, columns
    raise ValueError("a well lies outside the largest plate, 32 x 48")


def _inside(part: str, place: tuple[int, int]) -> bool:
    if "-" in part:
        first, _, last = part.partition("-")
        start, stop = parse_well(first), parse_well(last)
        return all(
            min(a, b) <= value <= max(a, b) for a, b, value in zip(start, stop, place, strict=True)
        )
    if "*" in part:
        match = _PATTERN.fullmatch(part) if part != "*" else None
        if part != "*" and match is None:
            raise ValueError(f"{part!r} is not understood; write A01, B02-C05, C* or *07")
        row = match[1] if match else None
        col = match[2] if match else None
        return (row is None or _row(row) == place[0]) and (col is None or int(col) - 1 == place[1])
    return parse_well(part) == place


def _row(letters: str) -> int:
    row = 0
    for letter in letters.upper():
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1
