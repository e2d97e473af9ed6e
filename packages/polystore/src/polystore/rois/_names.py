"""What ours say in an ImageJ ROI beside its shape: the properties that ImageJ keeps as text.

Each is a line ``key: value``. Text is written as in an URL, so that nothing in it is taken for a
line, a colon or an escape, neither here nor by ImageJ, which writes properties back as it read
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import numpy as np

from polystore._dtypes import DTYPES
from polystore._errors import MissingExtraError, RoiError

if TYPE_CHECKING:
    from types import ModuleType

    from polystore._tables import Table

__all__ = [
    "COLUMN",
    "GROUP",
    "KIND",
    "LABEL",
    "POSITIONS",
    "Cell",
    "column_of",
    "places",
    "plain_name",
    "plane_of",
    "read_cell",
    "read_lines",
    "roifile",
    "write_cells",
]

LABEL: Final = "polystore.label"
KIND: Final = "polystore.kind"
COLUMN: Final = "polystore.column."
GROUP: Final = "group"
POSITIONS: Final = {"t": "t_position", "z": "z_position", "channel": "c_position"}
"""Columns that are ImageJ's own, and what roifile calls them; there they count from 1."""

_TEXT = "text"
_POSITION_MOST = 2**31 - 2

Cell = tuple[str, str, str | None]
"""Type, unit or nothing, and value as text or None."""


def roifile() -> ModuleType:
    """Import the library that knows the format.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import roifile as module
    except ImportError as error:
        raise MissingExtraError(
            "ImageJ ROIs need roifile: pip install 'polystore[rois]'"
        ) from error
    found: ModuleType = module
    return found


def places(table: Table, name: str) -> bool:
    """Say whether a column is one that ImageJ keeps itself: a name, a plane or a group."""
    column = table.get(name)
    if name == "name":
        return isinstance(column, tuple)
    if name not in POSITIONS and name != GROUP:
        return False
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "iu" or not len(column):
        return False
    absent = table.missing.get(name)
    if name == GROUP:  # 0 is none, and so is one that is missing
        return absent is None and bool(column.any() and 0 <= column.min() <= column.max() <= 255)
    there = absent is None or not absent.all()
    return there and bool(column.min() >= 0 and column.max() <= _POSITION_MOST)


def plane_of(component: str | int | None) -> int | None:
    """Give a component as a plane, from 0; None where it is none that ImageJ counts."""
    return component if isinstance(component, int) and 0 <= component <= _POSITION_MOST else None


def plain_name(name: str) -> str:
    """Give a name without what is beyond 16 bits."""
    return "".join(char if ord(char) < 0x10000 else "\ufffd" for char in name)


def write_cells(table: Table) -> list[str]:
    """Write what each row of a table holds, a line for each column.

    Also of those that ImageJ keeps itself, whose types, units and order it does not.

    Raises
    ------
    RoiError
        If text is not Unicode.
    """
    rows = [""] * table.rows
    for name, column in table.items():
        what = f"column {name!r}"
        key = f"{COLUMN}{_quoted(name, what)}"
        missing = table.missing.get(name)
        unit = _quoted(table.units.get(name, ""), what)
        if isinstance(column, np.ndarray):
            kind = column.dtype.newbyteorder("=").str[1:]
            values = [repr(value) for value in column.tolist()]
        else:
            kind = _TEXT
            values = [_quoted(text, f"{what} of region {row}") for row, text in enumerate(column)]
        for row, value in enumerate(values):
            given = "" if missing is not None and missing[row] else f"|{value}"
            rows[row] += f"{key}: {kind}|{unit}{given}\n"
    return rows


def read_lines(props: str) -> dict[str, str]:
    """Read properties; a key that comes twice counts as it came last."""
    found = {}
    for line in props.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip():
            found[key.strip()] = value.strip()
    return found


def read_cell(text: str) -> Cell:
    """Read what one row holds in one column.

    Raises
    ------
    RoiError
        If the text says nothing of the kind.
    """
    parts = text.split("|")
    if len(parts) not in (2, 3) or (parts[0] != _TEXT and parts[0] not in DTYPES):
        raise RoiError(f"a property of a ROI cannot be read: {text!r:.80}")
    value = parts[2] if len(parts) == 3 else None
    if value is not None:
        value = unquote(value, errors="replace")
        if parts[0] != _TEXT:
            _number(parts[0], value)
    return parts[0], unquote(parts[1], errors="replace"), value


def column_of(cells: list[Cell | None]) -> tuple[Any, Any]:
    """Make a column of what rows hold, None where a row has nothing: values, and what is missing.

    Rows whose types differ, as from files of several programs, become text.
    """
    kinds = {cell[0] for cell in cells if cell is not None}
    missing = np.array([cell is None or cell[2] is None for cell in cells], dtype=np.bool_)
    values = [None if cell is None else cell[2] for cell in cells]
    if len(kinds) != 1 or kinds == {_TEXT}:
        return tuple("" if value is None else value for value in values), missing
    (kind,) = kinds
    numbers = [0 if value is None else _number(kind, value) for value in values]
    with np.errstate(over="ignore"):  # beyond float16 is infinity
        return np.array(numbers, dtype=kind), missing


def _quoted(text: str, what: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise RoiError(f"{what} has text that is not Unicode: {error}") from error


def _number(kind: str, text: str) -> bool | int | float:
    try:
        if kind == "b1":
            return {"True": True, "False": False}[text]
        if kind[0] == "f":
            return float(text)
        number = int(text)
        limits = np.iinfo(np.dtype(kind))
    except (ValueError, KeyError) as error:
        raise RoiError(f"a property of a ROI is no {kind}: {text!r:.80}") from error
    if not limits.min <= number <= limits.max:
        raise RoiError(f"a property of a ROI is beyond {kind}: {text:.80}")
    return number
