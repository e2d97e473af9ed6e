"""The tables of images of an acquisition of MetaXpress Acquire."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._numbers import whole
from openhcs.plates._texts import encoding_of
from openhcs.plates._wells import MOST_COLUMNS, MOST_ROWS, parse_well

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["IMAGE_NAME", "Table", "TableRow", "read_table", "row_of_name"]

IMAGE_NAME = re.compile(
    r"(?:.+_)?t(?P<t>\d{1,9})_(?P<well>[A-Z]{1,2}\d{2})_s(?P<s>\d{1,9})_w(?P<w>\d{1,9})"
    r"_z(?P<z>\d{1,9})(?i:\.tiff?)"
)
_WHOLE = ("Row", "Column", "Field", "Wavelength", "Timepoint", "ZIndex")
_NEEDED = frozenset({*_WHOLE[:4], "ImageFileName"})


@dataclass(slots=True, kw_only=True)
class TableRow:
    """One image of a table.

    Parameters
    ----------
    row, col
        Of the well, 0-based.
    field, wavelength, time, z
        The vendor's numbers, 0-based.
    name
        The image, relative to the table.
    x_um, y_um
        From the middle of the well, y downward; NaN when unknown.
    z_um
        Of the stage; NaN when unknown.
    taken_s, exposure_s
        NaN when unknown.
    filters
        Name of the filters, empty without.
    """

    row: int
    col: int
    field: int
    wavelength: int
    time: int
    z: int
    name: str
    x_um: float = math.nan
    y_um: float = math.nan
    z_um: float = math.nan
    taken_s: float = math.nan
    exposure_s: float = math.nan
    filters: str = ""


@dataclass(slots=True)
class Table:
    """The rows of a table, and what is wrong with it; empty when nothing is."""

    rows: list[TableRow] = field(default_factory=list)
    broken: str = ""


def read_table(path: Path) -> Table:
    """Read a table.

    Parameters
    ----------
    path
        ``image_metadata_1.csv`` or the like.

    Returns
    -------
    Table
        Its rows as far as they can be read.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    table = Table()
    with path.open(encoding=encoding_of(path), errors="replace", newline="") as file:
        lines = csv.reader(file)
        try:
            place = {name.strip(): number for number, name in enumerate(next(lines, []))}
            lacking = sorted(_NEEDED - place.keys())
            if lacking:
                table.broken = f"it has no column {', '.join(lacking)}"
                return table
            for line in lines:
                if not line:
                    continue
                found = _row(line, place)
                if found is None:
                    table.broken = table.broken or f"line {lines.line_num} places no image"
                else:
                    table.rows.append(found)
        except csv.Error as error:
            table.broken = f"line {lines.line_num}: {error}"
    return table


def _row(line: list[str], place: dict[str, int]) -> TableRow | None:
    def text(name: str) -> str:
        number = place.get(name, -1)
        return line[number].strip() if 0 <= number < len(line) else ""

    texts = [text(name) for name in _WHOLE]
    texts[4:] = [number or "0" for number in texts[4:]]
    numbers = [number for number in map(whole, texts) if number is not None]
    if len(line) < len(place) or len(numbers) < len(texts) or not all(numbers[:2]):
        return None
    row, col, site, wavelength, time, z = numbers
    if row > MOST_ROWS or col > MOST_COLUMNS:
        return None
    folder = text("ImageSubFolderPath").replace("\\", "/").strip("/")
    name = text("ImageFileName")
    return TableRow(
        row=row - 1,
        col=col - 1,
        field=site,
        wavelength=wavelength,
        time=time,
        z=z,
        name=f"{folder}/{name}" if folder else name,
        x_um=_float(text("FieldOffsetPointX")),
        y_um=_float(text("FieldOffsetPointY")),
        z_um=_float(text("PositionZUm")),
        taken_s=_float(text("TimeStampSec")),
        exposure_s=_float(text("ExposureTimeMs")) / 1000,
        filters=text("ExcitationEmissionFilter"),
    )


def row_of_name(path: str) -> TableRow | None:
    """Read the name of an image; None when it does not fit.

    Parameters
    ----------
    path
        Relative to the table.
    """
    match = IMAGE_NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        return None
    try:
        row, col = parse_well(match["well"])
    except ValueError:
        return None
    return TableRow(
        row=row,
        col=col,
        field=int(match["s"]),
        wavelength=int(match["w"]),
        time=int(match["t"]),
        z=int(match["z"]),
        name=path,
    )


def _float(text: str) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
