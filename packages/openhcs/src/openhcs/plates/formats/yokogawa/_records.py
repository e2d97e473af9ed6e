"""The list of images of a Yokogawa measurement, ``MeasurementData.mlf``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openhcs.plates._numbers import whole
from openhcs.plates._wells import MOST_COLUMNS, MOST_ROWS
from openhcs.plates._xml import XmlError, local_name, members, read_prolog

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Record", "Records", "read_records"]

_NUMBERS = {
    "FieldIndex": "field",
    "ZIndex": "z",
    "TimePoint": "time_point",
    "TimelineIndex": "timeline",
    "ActionIndex": "action",
    "Ch": "channel",
}


@dataclass(slots=True, kw_only=True)
class Record:
    """One ``MeasurementRecord``; every number but the well may be absent, as in error rows.

    Parameters
    ----------
    failed
        Whether it says that something failed, in place of an image.
    row, col
        Of the well, 0-based.
    field, z, time_point, timeline, action, channel
        The vendor's numbers, 1-based; None where the record has none.
    x_um, y_um, z_um
        From the middle of the well as stored: y upward; NaN without.
    processing
        How a projection was made, in the vendor's word; empty for a plane.
    taken
        Time stamp, empty without.
    name
        The image, relative to the file; empty without.
    """

    failed: bool
    row: int
    col: int
    field: int | None = None
    z: int | None = None
    time_point: int | None = None
    timeline: int | None = None
    action: int | None = None
    channel: int | None = None
    x_um: float = math.nan
    y_um: float = math.nan
    z_um: float = math.nan
    processing: str = ""
    taken: str = ""
    name: str = ""


@dataclass(slots=True)
class Records:
    """The records in file order, how many could not be placed, and where the file breaks."""

    found: list[Record] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)
    broken: str = ""


def read_records(path: Path) -> Records:
    """Read the list of images.

    Parameters
    ----------
    path
        ``MeasurementData.mlf``.

    Returns
    -------
    Records
        As far as the file can be read.

    Raises
    ------
    XmlEntityError
        If it declares an entity.
    OSError
        If it cannot be read.

    Notes
    -----
    Attributes go by their local names, and ones that are not known are passed over: firmware adds
    some.
    """
    records = Records()
    names: dict[str, str] = {}
    try:
        read_prolog(path)
        for element in members(path, "MeasurementData"):
            if not element.tag.endswith("MeasurementRecord"):
                continue
            attributes: dict[str, str] = {}
            for tag, value in element.attrib.items():
                name = names.get(tag)
                if name is None:
                    name = names[tag] = local_name(tag)
                attributes[name] = value
            record = _record(attributes, (element.text or "").strip())
            if record is None:
                records.nowhere.append(element.text or str(attributes))
            else:
                records.found.append(record)
    except XmlError as error:
        records.broken = str(error)
    return records


def _record(attributes: dict[str, str], name: str) -> Record | None:
    row, col = whole(attributes.get("Row")), whole(attributes.get("Column"))
    if not row or not col or row > MOST_ROWS or col > MOST_COLUMNS:
        return None
    failed = attributes.get("Type", "IMG").upper() == "ERR"
    if not failed and not name:
        return None
    numbers = {ours: whole(attributes.get(theirs)) for theirs, ours in _NUMBERS.items()}
    return Record(
        failed=failed,
        row=row - 1,
        col=col - 1,
        x_um=_float(attributes.get("X")),
        y_um=_float(attributes.get("Y")),
        z_um=_float(attributes.get("Z")),
        processing=attributes.get("ZImageProcessing", ""),
        taken=attributes.get("Time", ""),
        name="" if failed else name,
        **numbers,
    )


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
