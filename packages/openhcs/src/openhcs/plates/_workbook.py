"""Workbooks of a spreadsheet program, as lines of text."""

from __future__ import annotations

import datetime
import zipfile
import zlib
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

from openhcs._errors import PlateError

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

__all__ = ["read_workbook"]

_UNPACKED = 256 << 20
_MOST_TEXT = 64 << 20
"""Bytes of XML in a workbook; pictures in it are not read."""
_MOST_PARTS = 10_000
_MOST_ELEMENTS = 400_000
"""Elements in a workbook's text: each cell is two, and takes some twenty microseconds to read."""
_LONGEST_TAG = 1 << 18
"""Bytes of one tag: a longer one is read over and over until its end is there."""
_CHUNK = 1 << 16
_MOST_LINES = 10_000
_MOST_COLUMNS = 500


def read_workbook(path: Path, sheet: str | None) -> list[list[str]]:
    """Read one sheet of an ``.xlsx`` file.

    Parameters
    ----------
    path
        The file.
    sheet
        Name of the sheet; the first one without.

    Returns
    -------
    list
        Its lines, equally long; of formulas the values that were stored. Whole numbers are written
        without a point, days as ``2026-11-26``.

    Raises
    ------
    PlateError
        If the extra ``xlsx`` is not installed, the file is no workbook, has no such sheet, unpacks
        to more than a platemap can be, or has a formula of which no value was stored.
    OSError
        If it cannot be read.
    """
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise PlateError(
            f"{path} is a workbook, which needs openpyxl: pip install 'openhcs[xlsx]', or save it "
            "as .csv"
        ) from error
    try:
        with zipfile.ZipFile(path) as archive:
            formulas = _check_size(path, archive)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (
        zipfile.BadZipFile,
        zlib.error,
        InvalidFileException,
        EOFError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        ParseError,
    ) as error:
        raise PlateError(f"{path} is no workbook that can be read: {error}") from error
    try:
        names = book.sheetnames
        if sheet is not None and sheet not in names:
            raise PlateError(f"{path} has no sheet {sheet!r}; it has {', '.join(names)}")
        chosen = book[sheet if sheet is not None else names[0]]
        lines: list[list[str]] = []
        untold: set[tuple[int, int]] = set()
        for cells in chosen.iter_rows(max_col=_MOST_COLUMNS):
            if len(lines) > _MOST_LINES:
                raise PlateError(f"{path} has more than {_MOST_LINES} lines")
            untold |= {
                (len(lines), at)
                for at, cell in enumerate(cells if formulas else ())
                if cell.value is None and cell.data_type == "n"  # a text may be empty
            }
            lines.append([_text(cell.value) for cell in cells])
        if formulas:
            _check_formulas(path, chosen.title, untold)
    except (
        ValueError, KeyError, TypeError, EOFError, ParseError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise PlateError(f"{path} is no workbook that can be read: {error}") from error
    finally:
        book.close()
    width = max((len(_trimmed(line)) for line in lines), default=0)
    return [[*line[:width], *[""] * (width - len(line))] for line in lines]


def _check_formulas(path: Path, sheet: str, untold: Container[tuple[int, int]]) -> None:
    """Refuse formulas without a value, such as those that no spreadsheet program has seen yet."""
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True)
    try:
        for row, cells in enumerate(book[sheet].iter_rows(max_col=_MOST_COLUMNS)):
            for column, cell in enumerate(cells):
                if cell.data_type == "f" and (row, column) in untold:
                    raise PlateError(
                        f"{path} has a formula in {cell.coordinate} of which no value is stored: "
                        "open it in a spreadsheet program and save it there"
                    )
    finally:
        book.close()


def _check_size(path: Path, archive: zipfile.ZipFile) -> int:
    """Refuse a workbook that takes long to read, in a fraction of that: a few kB can be gigabytes.

    No more is unpacked of a part than the archive says that there is of it. Every part is looked
    at, because any may be named as a sheet; what is no XML, as a picture, ends at its first byte.

    Gives the number of formulas.
    """
    advice = "save the sheet with the conditions by itself, or as .csv"
    parts = archive.infolist()
    if len(parts) > _MOST_PARTS:
        raise PlateError(f"{path} has more than {_MOST_PARTS} parts: {advice}")
    if sum(part.file_size for part in parts) > _UNPACKED:
        raise PlateError(f"{path} unpacks to more than {_UNPACKED >> 20} MB: {advice}")
    text = elements = formulas = 0

    def count(name: str, _: object) -> None:
        nonlocal elements, formulas
        elements += 1
        formulas += name.rpartition(":")[2] == "f"

    for part in parts:
        parser, fed = expat.ParserCreate(), 0
        parser.StartElementHandler = count
        parser.EntityDeclHandler = _refuse_entity
        with archive.open(part) as file:
            while chunk := file.read(_CHUNK):
                try:
                    parser.Parse(chunk)
                except expat.ExpatError:
                    break  # openpyxl reads no further either, where it reads this part
                text += len(chunk)
                fed += len(chunk)
                if fed - parser.CurrentByteIndex > _LONGEST_TAG + _CHUNK:
                    raise PlateError(f"{path} has a tag of more than {_LONGEST_TAG >> 10} kB")
                if elements > _MOST_ELEMENTS:
                    raise PlateError(
                        f"{path} has more than {_MOST_ELEMENTS // 2:,} cells or texts: {advice}"
                    )
                if text > _MOST_TEXT:
                    raise PlateError(
                        f"{path} has more than {_MOST_TEXT >> 20} MB of text: {advice}"
                    )
    return formulas


def _refuse_entity(name: str, *_: object) -> None:
    message = f"it declares the entity {name!r}"
    raise ValueError(message)


def _trimmed(line: list[str]) -> list[str]:
    end = len(line)
    while end and not line[end - 1]:
        end -= 1
    return line[:end]


def _text(cell: object) -> str:
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).upper()
        case float() if cell.is_integer() and abs(cell) < 1e15:
            return str(int(cell))
        case float():
            return repr(cell)
        case datetime.datetime() if cell.time() == datetime.time():
            return cell.date().isoformat()
        case datetime.datetime() | datetime.date() | datetime.time():
            return cell.isoformat()
        case _:
            return str(cell).strip()
