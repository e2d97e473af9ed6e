"""A table of files that a person writes: which image each file is, and where it was taken."""

from __future__ import annotations

import csv
import difflib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import DescriptionError
from openhcs.plates._texts import decoded
from openhcs.plates._wells import parse_well, well_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FileTable", "ListedFile", "read_file_table"]

COLUMNS = (
    "path",
    "page",
    "well",
    "row",
    "col",
    "field",
    "channel",
    "z",
    "t",
    "x_um",
    "y_um",
    "z_um",
    "pixel_um",
)
_NUMBERS = ("page", "field", "z", "t")
_LENGTHS = ("x_um", "y_um", "z_um", "pixel_um")
_LARGEST = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One line of the table; None where it says nothing.

    Parameters
    ----------
    line
        From 1, the header's.
    path
        Relative to the plate, as written.
    page
        Image in the file, from 0.
    place
        Row and column of the well, from 0.
    field, z, t
        As written; they are ranked later.
    channel
        Name or number.
    x_um, y_um
        Middle of the tile, x to the right, y down.
    z_um
        Focus.
    pixel_um
        Side of a pixel.
    """

    line: int
    path: str
    page: int = 0
    place: tuple[int, int] | None = None
    field: int | None = None
    channel: str | None = None
    z: int | None = None
    t: int | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    pixel_um: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTable:
    """Files of a plate as a person lists them; made by `read_file_table`.

    Parameters
    ----------
    source
        Where it was read.
    columns
        Names, as `COLUMNS` spells them.
    cells
        Texts, a tuple for each line.

    Raises
    ------
    DescriptionError
        If a column or a line is not understood, the message has the line; or there is no line.
    """

    source: str
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Read every line once, so that a mistake is told where it was made."""
        if not self.files():
            raise DescriptionError(f"{self.source} lists no file below its names of columns")

    @property
    def names_wells(self) -> bool:
        """Whether it says which well a file is of."""
        return "well" in self.columns or "row" in self.columns

    def files(self) -> tuple[ListedFile, ...]:
        """Give the lines as values."""
        for name in self.columns:
            if name not in COLUMNS:
                near = difflib.get_close_matches(name, COLUMNS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise DescriptionError(
                    f"{self.source}: no column of a table of files is called {name!r}; they are "
                    f"{', '.join(COLUMNS)}{hint}"
                )
        for name in COLUMNS:
            if self.columns.count(name) > 1:
                raise DescriptionError(f"{self.source} has two columns {name!r}")
        if "path" not in self.columns:
            raise DescriptionError(f"{self.source} has no column 'path'; it has {self.columns}")
        if ("row" in self.columns) != ("col" in self.columns):
            raise DescriptionError(f"{self.source}: a well needs both columns row and col")
        found: list[ListedFile] = []
        seen: dict[tuple[str, int], int] = {}
        for line, cells in enumerate(self.cells, 2):
            listed = self._file(line, cells)
            first = seen.setdefault((listed.path, listed.page), line)
            if first != line:
                page = f" page {listed.page}" if "page" in self.columns else ""
                raise DescriptionError(
                    f"{self.source}, lines {first} and {line}: {listed.path}{page} is listed twice"
                )
            found.append(listed)
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Give the table as plain JSON values."""
        return {
            "source": self.source,
            "columns": list(self.columns),
            "cells": [list(cells) for cells in self.cells],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FileTable:
        """Make a table from what `to_json` gave.

        Raises
        ------
        DescriptionError
            If it is no such thing.
        """
        try:
            return cls(
                source=str(values["source"]),
                columns=tuple(map(str, values["columns"])),
                cells=tuple(tuple(map(str, cells)) for cells in values["cells"]),
            )
        except (KeyError, TypeError) as error:
            raise DescriptionError(f"this is no table of files: {error!r}") from error

    def _file(self, line: int, cells: Sequence[str]) -> ListedFile:
        where = f"{self.source}, line {line}"
        if len(cells) != len(self.columns):
            raise DescriptionError(f"{where}: {len(cells)} values for {len(self.columns)} columns")
        texts = {name: text for name, text in zip(self.columns, cells, strict=True) if text}
        if "path" not in texts:
            raise DescriptionError(f"{where} has no path")
        try:
            numbers = {name: _number(name, texts[name]) for name in _NUMBERS if name in texts}
            lengths = {name: _length(name, texts[name]) for name in _LENGTHS if name in texts}
            place = _place(texts)
        except ValueError as error:
            raise DescriptionError(f"{where}: {error}") from error
        return ListedFile(
            line=line,
            path=texts["path"],
            page=numbers.get("page", 0),
            place=place,
            field=numbers.get("field"),
            channel=texts.get("channel"),
            z=numbers.get("z"),
            t=numbers.get("t"),
            x_um=lengths.get("x_um"),
            y_um=lengths.get("y_um"),
            z_um=lengths.get("z_um"),
            pixel_um=lengths.get("pixel_um"),
        )


def read_file_table(path: str | Path) -> FileTable:
    """Read a table of files, separated by commas, semicolons or tabs.

    Parameters
    ----------
    path
        A text file whose first line names its columns: ``path``, relative to the plate, and any of
        ``page`` (from 0), ``well`` or ``row`` and ``col`` (letters, or from 1), ``field``,
        ``channel``, ``z``, ``t``, ``x_um``, ``y_um``, ``z_um``, ``pixel_um``.

    Returns
    -------
    FileTable
        Its lines.

    Raises
    ------
    DescriptionError
        If it is too large, or a line is not understood; the message has the line.
    OSError
        If it cannot be read.
    """
    place = Path(path)
    size = place.stat().st_size
    if size > _LARGEST:
        raise DescriptionError(f"{path} has {size} bytes; a table of files has {_LARGEST} at most")
    raw = place.read_bytes()
    text = decoded(raw, otherwise="cp1252")
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        lines = [
            [cell.strip() for cell in cells]
            for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        ]
    except csv.Error as error:
        raise DescriptionError(f"{path} is no table: {error}") from error
    if not lines:
        raise DescriptionError(f"{path} is empty; its first line names the columns")
    names = tuple("col" if name == "column" else name for name in map(str.lower, lines[0]))
    return FileTable(
        source=str(place.resolve()),
        columns=names,
        cells=tuple(tuple(cells) for cells in lines[1:] if any(cells)),
    )


def _place(texts: Mapping[str, str]) -> tuple[int, int] | None:
    if "well" in texts:
        return parse_well(texts["well"])
    if "row" not in texts or "col" not in texts:
        return None
    row, col = texts["row"], texts["col"]
    if row.isdecimal() and col.isdecimal():
        return parse_well(well_name(int(row) - 1, int(col) - 1))
    return parse_well(f"{row}{col}")


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ValueError(f"{name} is {text!r}, and should be a whole number from 0")
    return int(text)


def _length(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (name == "pixel_um" and value <= 0):
        raise ValueError(f"{name} is {text!r}, and should be a length in µm")
    return value
