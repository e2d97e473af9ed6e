"""A platemap: what was put into each well."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import PlateError
from openhcs.plates._texts import decoded
from openhcs.plates._wells import parse_well, sort_wells, well_name
from openhcs.plates._workbook import read_workbook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Platemap", "read_platemap"]

_LARGEST = 64 << 20
_UNIT = re.compile(r"(?P<name>.*\S)\s*(?:\((?P<round>[^()]+)\)|\[(?P<square>[^\[\]]+)\])")
# No leading zeros: 007 is a name, not a number.
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,14})(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_LINE = re.compile(r"[\r\n]")
_TOLD = re.compile(r'"?sep=(?P<separator>[,;\t])"?(?=[\r\n])')
"""What Excel looks for in the first line."""
_FLOAT = re.compile(r"(\d+)\.0+$")
_INTEGER = re.compile(r"[+-]?\d+")
_SHOWN = 12


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

    @property
    def units(self) -> Mapping[str, str]:
        """Units by column, of those whose name ends in one: ``dose (nM)`` or ``dose [nM]``."""
        found = {name: _UNIT.fullmatch(name) for name in self.columns}
        return {
            name: (match["round"] or match["square"]).strip()
            for name, match in found.items()
            if match is not None
        }

    def values(self, column: str) -> Mapping[str, float | int | str | None]:
        """Give one condition by well.

        Parameters
        ----------
        column
            A name of `columns`.

        Returns
        -------
        Mapping
            Numbers where every entry is one, else texts; None where a well has no entry. Texts
            such as ``007`` stay texts.

        Raises
        ------
        PlateError
            If there is no such column; the message lists those that there are.
        """
        place = self._place(column)
        texts = {well: cells[place] for well, cells in self.wells.items()}
        told = [text for text in texts.values() if text]
        if not told or not all(map(self.is_number, told)):
            return {well: text or None for well, text in texts.items()}
        kind = int if all(_INTEGER.fullmatch(text) for text in told) else float
        return {well: kind(text) if text else None for well, text in texts.items()}

    @staticmethod
    def is_number(text: str) -> bool:
        """Say whether an entry is a number: ``1.5`` or ``1e-3``, and not ``007`` or ``1,5``."""
        return _NUMBER.fullmatch(text) is not None

    def wells_where(self, column: str, *values: str) -> tuple[str, ...]:
        """Choose wells by one of their conditions, such as those of a control.

        Parameters
        ----------
        column
            A name of `columns`.
        values
            Entries to look for, spelled as in the file.

        Returns
        -------
        tuple
            In plate order. Nothing follows from where a well lies or what an entry sounds like.

        Raises
        ------
        PlateError
            If there is no such column, or no well has one of the values; the message lists what
            there is.

        Examples
        --------
        >>> wells = {"A01": ("DMSO",), "A02": ("taxol",), "B01": ("DMSO",)}
        >>> platemap = Platemap(source="map.csv", columns=("compound",), wells=wells)
        >>> platemap.wells_where("compound", "DMSO")
        ('A01', 'B01')
        """
        place = self._place(column)
        entries = Counter(cells[place] for cells in self.wells.values())
        for value in values:
            if value not in entries:
                there = [repr(entry) for entry, _ in entries.most_common(_SHOWN)]
                more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
                raise PlateError(
                    f"{self.source} has no well with {value!r} in the column {column!r}; it has "
                    f"{', '.join(there)}{more}"
                )
        return sort_wells(well for well, cells in self.wells.items() if cells[place] in values)

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

    def _place(self, column: str) -> int:
        if column not in self.columns:
            raise PlateError(
                f"{self.source} has no column {column!r}; it has {', '.join(self.columns)}"
            )
        return self.columns.index(column)


def read_platemap(path: str | Path, *, sheet: str | None = None) -> Platemap:
    """Read a table of conditions: text separated by commas, semicolons or tabs, or a workbook.

    Parameters
    ----------
    path
        A file whose first line names the columns: ``well``, or ``row`` and ``column`` (row as
        letters or from 1, column from 1), and any others. A name that ends in ``.xlsx`` is that of
        a workbook, which needs the extra ``xlsx``.
    sheet
        Name of the sheet of a workbook; the first one without.

    Returns
    -------
    Platemap
        Its wells, one entry each.

    Raises
    ------
    PlateError
        If it names no wells, a well twice, or something that is no well, if two columns share a
        name, or the file is too large; the message has the line.
    OSError
        If it cannot be read.
    """
    place = Path(path)
    if place.stat().st_size > _LARGEST:
        raise PlateError(f"{path} is too large for a platemap: over {_LARGEST >> 20} MB")
    if place.suffix.lower() == ".xlsx":
        return _platemap(str(path), read_workbook(place, sheet))
    if place.suffix.lower() in (".xls", ".ods"):
        raise PlateError(f"{path} cannot be read; save it as .xlsx or .csv")
    raw = place.read_bytes()
    text = decoded(raw, otherwise="cp1252")
    told = _TOLD.match(text)
    if told is not None:  # as a line without anything in it, so that lines keep their numbers
        text = text[told.end() :]
    try:
        separator = _separator(text) if told is None else told["separator"]
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise PlateError(f"{path} is no table: {error}") from error
    return _platemap(str(path), lines)


def _separator(text: str) -> str:
    """Give what separates columns so that one of them names the wells; else the commonest sign.

    A name may have another sign in it, as ``dose, final`` has.
    """
    first = next((line for line in _LINE.split(text) if line.strip()), "")
    signs = sorted(",;\t", key=first.count, reverse=True)
    for sign in signs:
        if _well_columns(next(csv.reader([first], delimiter=sign), [])) is not None:
            return sign
    return signs[0]


def _well_columns(names: Sequence[str]) -> tuple[int, ...] | None:
    """Give the columns that say which well a line is of."""
    lower = [name.strip().lower() for name in names]
    return next(
        (
            tuple(lower.index(name) for name in wanted)
            for wanted in (("well",), ("row", "column"), ("row", "col"))
            if all(name in lower for name in wanted)
        ),
        None,
    )


def _platemap(path: str, lines: Sequence[Sequence[str]]) -> Platemap:
    head = next((at for at, line in enumerate(lines) if any(map(str.strip, line))), 0)
    names = [name.strip() for name in lines[head]] if lines else []
    while names and not names[-1] and not any(any(line[len(names) - 1 :]) for line in lines):
        names.pop()  # columns to the right that a spreadsheet keeps for their borders
    place = _well_columns(names)
    if place is None:
        raise PlateError(f"{path} has no column well, nor row and column; it has {names}")
    for number, name in enumerate(names, 1):
        if not name:
            raise PlateError(f"{path}: column {number} has no name")
        if names.count(name) > 1:
            raise PlateError(f"{path} has two columns {name!r}")
    kept = [column for column in range(len(names)) if column not in place]
    wells: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines[head + 1 :], head + 2):
        cells = [cell.strip() for cell in line]
        if not any(cells):
            continue
        while len(cells) > len(names) and not cells[-1]:
            cells.pop()
        if len(cells) != len(names):
            raise PlateError(f"{path}, line {number}: {len(cells)} values for {len(names)} columns")
        try:
            well = _well([cells[column] for column in place])
        except ValueError as error:
            raise PlateError(f"{path}, line {number}: {error}") from error
        if well in wells:
            raise PlateError(f"{path}, line {number}: well {well} has an entry already")
        wells[well] = tuple(cells[column] for column in kept)
    if not wells:
        raise PlateError(f"{path} has no line with a well")
    return Platemap(source=path, columns=tuple(names[column] for column in kept), wells=wells)


def _well(cells: list[str]) -> str:
    if len(cells) == 1:
        return well_name(*parse_well(cells[0]))
    # as programs write numbers of which some are missing
    row, column = (_FLOAT.sub(r"\1", cell) for cell in cells)
    if row.isdecimal() and column.isdecimal():
        return well_name(int(row) - 1, int(column) - 1)
    return well_name(*parse_well(f"{row}{column}"))
