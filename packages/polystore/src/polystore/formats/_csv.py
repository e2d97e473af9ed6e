"""Tables and points as CSV.

A file has a header of names and a line for each row, in UTF-8, as RFC 4180 says. It has no place
for anything else, so the note, where there is something to say, is the name of a last column that
is empty: every program opens the table as it is, beside a column that it can leave out. A table of
64-bit numbers, truth values and text that is read as such is written without it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from polystore._errors import UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._tables import Column, Table
from polystore.formats._columns import COLUMN_KINDS, as_table, columns_refusal, of_table
from polystore.formats._guard import reading, refused
from polystore.formats._note import as_note, dtype_of, read_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polystore.formats._note import Note

__all__ = ["CsvFormat"]

_MARK = "polystore "
_TEXT = "text"
_SPARSE = "text or nothing"
_UNITS = "column_units"
_CELL_MOST = 131_072  # what Python's csv module reads unasked
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:nan|inf|infinity)")
_TRUTHS = {"True": True, "False": False, "TRUE": True, "FALSE": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """Tables and points as ``.csv``, for people and for every program that has columns.

    Numbers are written so that the same come back; NaN is ``NaN``, whichever it was, and what is
    missing is an empty cell. Units and types are in the note. Points are the columns ``y`` and
    ``x``. In a file without a note, a column is of integers, floats or truth values if all its
    cells are, else of text; ``007`` is text.
    """

    @property
    def name(self) -> str:
        """``"CSV"``."""
        return "CSV"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".csv"``."""
        return (".csv",)

    @property
    def package(self) -> str:
        """Nothing else is needed."""
        return "polystore"

    @property
    def kinds(self) -> frozenset[Kind]:
        """What has columns."""
        return COLUMN_KINDS

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what has no columns, and texts that no cell can hold or tell from nothing."""
        if reason := columns_refusal(payload):
            return reason
        table = as_table(payload)
        if any(name.startswith(_MARK + "{") for name in table):
            return f"a column may not be called {_MARK}{{…"
        for name, column in table.items():
            if isinstance(column, np.ndarray):
                continue
            if max(map(len, column), default=0) > _CELL_MOST:
                return f"a text of column {name!r} is longer than the {_CELL_MOST} that are read"
            missing = table.missing.get(name)
            if missing is not None and column.count("") > int(missing.sum()):
                return f"column {name!r} has empty texts and missing ones, which look alike"
        return None

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write the columns.

        Raises
        ------
        FormatError
            If text is not Unicode, or what is known about the table is longer than a cell may be.
        """
        table = as_table(payload)
        kinds: dict[str, str] = {}
        cells: dict[str, list[str]] = {}
        for name, column in table.items():
            missing = table.missing.get(name)
            cells[name] = _cells(column, missing)
            if not _is_plain(column, cells[name], missing):
                said = column.dtype.str if isinstance(column, np.ndarray) else _TEXT
                kinds[name] = _SPARSE if said == _TEXT and missing is not None else said
        note = as_note(payload, columns=kinds)
        if table.units:
            note[_UNITS] = dict(table.units)
        names = list(cells)
        columns: list[Sequence[str]] = list(cells.values())
        # a lone name with a semicolon would be taken for names between semicolons
        alone = len(names) == 1 and re.search("[;\t]", names[0]) is not None
        plain = payload.kind is Kind.TABLE and note.keys() == {"polystore", "kind"}
        if not plain or not names or alone:
            names.append(_MARK + json.dumps(note))
            columns.append([""] * table.rows)
            if len(names[-1]) > _CELL_MOST:
                raise refused(
                    self.name, f"what is known about it is {len(names[-1])} characters, too many"
                )
        text = io.StringIO()
        if names[0].startswith("\ufeff"):
            text.write("\ufeff")  # the mark that readers take away, so that the name keeps its own
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
        try:
            stream.write(text.getvalue().encode())
        except UnicodeEncodeError as error:
            raise refused(self.name, f"a column's text is not Unicode: {error}") from error

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read the columns.

        Of files of others, a column without a name is called by its number, as ``column 1``.

        Raises
        ------
        UnreadableError
            If it is no CSV in UTF-8 with commas, rows differ in length, two columns have one name,
            or cells are not what the note says; the message names the line or the column.
        """
        with reading(where, self.name):
            names, rows = _read_rows(stream.read(), where)
            note: Note | None = None
            if names[-1].startswith(_MARK + "{"):
                note = read_note(names[-1].removeprefix(_MARK), where, _UNITS)
                if any(row[-1] for row in rows):
                    raise UnreadableError(f"{where}: the column of the note has to be empty")
                names = names[:-1]
            names = [name or f"column {number}" for number, name in enumerate(names, 1)]
            if len({*names}) != len(names):
                twice = sorted({name for name in names if names.count(name) > 1})
                raise UnreadableError(f"{where}: several columns are called {', '.join(twice)}")
            kinds = {} if note is None else note.columns
            columns: dict[str, Column] = {}
            missing: dict[str, Any] = {}
            for number, name in enumerate(names):
                cells = [row[number] for row in rows]
                what = f"{where}: column {name!r}"
                kind = kinds.get(name) or _inferred(cells)
                columns[name], absent = _column(cells, kind, what)
                if absent is not None:
                    missing[name] = absent
            if note is None:
                return Payload(data=Table(columns, {}, missing), kind=Kind.TABLE)
            units = note.document.get(_UNITS, {})
            table = Table(columns, {n: u for n, u in units.items() if n in columns}, missing)
            return note.payload(of_table(table, note.kind, where))


def _read_rows(raw: bytes, where: str) -> tuple[list[str], list[list[str]]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"{where} is no text in UTF-8: {error}; save it in that encoding"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(reader, [])
        if not names:
            raise UnreadableError(f"{where} has no header: its first line has to be names")
        alone = len(names) == 1 and not names[0].startswith(_MARK + "{")
        if alone and (found := re.search("[;\t]", names[0])):
            raise UnreadableError(
                f"{where} has one column, {names[0]!r}: columns seem to be separated by "
                f"{found[0]!r}, and have to be by commas"
            )
        rows = []
        for row in reader:
            if not row:
                continue  # a line without anything, as many programs leave at the end
            if len(row) != len(names):
                raise UnreadableError(
                    f"{where}, line {reader.line_num}: {len(row)} cells, and there are "
                    f"{len(names)} columns"
                )
            rows.append(row)
    except csv.Error as error:
        raise UnreadableError(f"{where}, line {reader.line_num}: {error}") from error
    return names, rows


def _cells(column: Column, missing: Any) -> list[str]:
    if not isinstance(column, np.ndarray):
        return list(column)
    if column.dtype.kind == "f":
        cells = [_number(value) for value in column.tolist()]
    else:
        cells = [str(value) for value in column.tolist()]
    if missing is not None:
        for row in np.flatnonzero(missing).tolist():
            cells[row] = ""
    return cells


def _number(value: float) -> str:
    """Write a number as it is, and what is none as R, pandas and spreadsheets know it."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("Inf" if value > 0 else "-Inf")


def _is_plain(column: Column, cells: list[str], missing: Any) -> bool:
    """Say whether the cells of a column are read as what it is without being told."""
    if isinstance(column, np.ndarray):
        return column.dtype.str in {"<i8", "<f8", "|b1"} and any(cells)
    # a lone empty line would be no row, and a text column of nothing but numbers no text
    return missing is None and _inferred(cells) == _TEXT and any(cells)


def _inferred(cells: list[str]) -> str:
    """Say of what type cells are: empty ones are missing numbers, or empty texts."""
    some = [cell for cell in cells if cell]
    if not some:
        return _TEXT
    if all(map(_INTEGER.fullmatch, some)):
        if all(len(cell) < 19 or -(2**63) <= int(cell) < 2**63 for cell in some):
            return "<i8"
        return "<u8" if all(0 <= int(cell) < 2**64 for cell in some) else _TEXT
    if all(map(_FLOAT.fullmatch, some)) and not any(_is_code(cell) for cell in some):
        return "<f8"
    return "|b1" if all(cell in _TRUTHS for cell in some) else _TEXT


def _is_code(cell: str) -> bool:
    """Say whether digits are the number of something, as 007, and not how many there are."""
    return len(cell) > 1 and cell[0] == "0" and cell.isdigit()


def _column(cells: list[str], kind: str, what: str) -> tuple[Column, Any]:
    absent = np.array([not cell for cell in cells], np.bool_)
    if kind == _TEXT:
        return tuple(cells), None
    if kind == _SPARSE:
        return tuple(cells), absent
    dtype = dtype_of(kind)
    missing = absent if absent.any() else None
    try:
        if dtype.kind == "b":
            return np.array([cell != "" and _TRUTHS[cell] for cell in cells], np.bool_), missing
        if dtype.kind == "f":
            wide = np.array([float(cell) if cell else math.nan for cell in cells], "f8")
            with np.errstate(over="ignore"):
                narrow = wide.astype(dtype)
            if not np.array_equal(np.isfinite(wide), np.isfinite(narrow)):
                raise UnreadableError(f"{what} has numbers that are beyond {dtype.name}")
            return narrow, missing
        numbers = [int(cell) if cell else 0 for cell in cells]
    except (ValueError, KeyError) as error:
        raise UnreadableError(f"{what} is {dtype.name}, and a cell is not: {error}") from error
    info = np.iinfo(dtype)
    if numbers and (min(numbers) < info.min or max(numbers) > info.max):
        raise UnreadableError(f"{what} has numbers that are beyond {dtype.name}")
    return np.array(numbers, dtype), missing
