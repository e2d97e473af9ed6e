"""Names that Yokogawa's instruments give to images."""

from __future__ import annotations

import re

from openhcs.plates._wells import MOST_COLUMNS, MOST_ROWS, parse_well
from openhcs.plates.formats.yokogawa._records import Record

__all__ = ["IMAGE_NAME", "disagreement", "record_of_name"]

IMAGE_NAME = re.compile(
    r"(?:(?:.+_)?(?P<well>[A-Z]{1,2}\d{2})_T(?P<t>\d{1,9})F(?P<f>\d{1,9})L(?P<l>\d{1,9})"
    r"A(?P<a>\d{1,9})Z(?P<z>\d{1,9})C(?P<c>\d{1,9})"
    r"|W(?P<w>\d{1,9})F(?P<wf>\d{1,9})T(?P<wt>\d{1,9})Z(?P<wz>\d{1,9})C(?P<wc>\d{1,9}))"
    r"(?i:\.(?:tiff?|png))"
)
"""Of CellVoyager, and of CQ1 with the number of the well, counted row by row."""


def record_of_name(path: str, columns: int) -> Record | None:
    """Read the name of an image.

    Parameters
    ----------
    path
        Relative to the list of images.
    columns
        Of the plate, to count wells by; 0 when unknown.

    Returns
    -------
    Record | None
        What the name says; None when it does not fit, or names a well that cannot be placed.
    """
    match = IMAGE_NAME.fullmatch(path.rpartition("/")[2])
    if match is None:
        return None
    if match["well"]:
        try:
            row, col = parse_well(match["well"])
        except ValueError:
            return None
        timeline, action = int(match["l"]), int(match["a"])
        names = "f", "t", "z", "c"
    else:
        number = int(match["w"]) - 1
        if columns < 1 or number < 0:
            return None
        row, col = divmod(number, columns)
        if row >= MOST_ROWS or col >= MOST_COLUMNS:
            return None
        timeline, action = 1, 1
        names = "wf", "wt", "wz", "wc"
    numbers = [int(match[name]) for name in names]
    return Record(
        failed=False,
        row=row,
        col=col,
        field=numbers[0],
        time_point=numbers[1],
        z=numbers[2],
        channel=numbers[3],
        timeline=timeline,
        action=action,
        name=path,
    )


def disagreement(record: Record, columns: int) -> str:
    """Say in what the name of an image differs from its record; empty when in nothing.

    Parameters
    ----------
    record
        As listed.
    columns
        Of the plate.

    Returns
    -------
    str
        ``field 2, listed as 1``, and the like.
    """
    named = record_of_name(record.name.replace("\\", "/"), columns)
    if named is None:
        return ""
    pairs = [
        ("row", named.row + 1, record.row + 1),
        ("column", named.col + 1, record.col + 1),
        ("field", named.field, record.field),
        ("time point", named.time_point, record.time_point),
        ("channel", named.channel, record.channel),
    ]
    if not record.processing:
        pairs.append(("z", named.z, record.z))
    odd = [f"{what} {a}, listed as {b}" for what, a, b in pairs if b is not None and a != b]
    return ", ".join(odd)
