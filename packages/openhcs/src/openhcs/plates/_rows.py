"""Rows of a plate index while a reader makes them, and their columns once they are made."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openhcs.plates._plane import PlaneKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "COLUMNS",
    "Key",
    "Row",
    "columns_of",
    "dense",
    "key_of",
    "place_of",
    "usual_members",
    "words_of",
]

Key: TypeAlias = tuple[int, str, int, int, str, int, int]
"""Acquisition, well, field, channel, kind, z and t."""


TEXT = np.dtype(object)
_INT, _FLOAT = np.dtype(np.int32), np.dtype(np.float64)

COLUMNS: dict[str, np.dtype[Any]] = {
    "well": TEXT,
    "row": _INT,
    "col": _INT,
    "field": _INT,
    "channel": _INT,
    "z": _INT,
    "t": _INT,
    "kind": TEXT,
    "acquisition": _INT,
    "path": TEXT,
    "page": _INT,
    "height": _INT,
    "width": _INT,
    "dtype": TEXT,
    "x_um": _FLOAT,
    "y_um": _FLOAT,
    "z_um": _FLOAT,
    "pixel_um_y": _FLOAT,
    "pixel_um_x": _FLOAT,
    "channel_name": TEXT,
    "excitation_nm": _FLOAT,
    "emission_nm": _FLOAT,
    "exposure_s": _FLOAT,
    "time_s": _FLOAT,
    "offset_counts": _INT,
    "file_size": np.dtype(np.int64),
    "mtime_ns": np.dtype(np.int64),
    "status": TEXT,
    "field_id": TEXT,
    "channel_id": TEXT,
    "z_id": TEXT,
    "t_id": TEXT,
}
"""Columns of the table and how they are held; unknown numbers are NaN or -1, texts are empty."""


@dataclass(slots=True, kw_only=True)
class Row:
    """A row that is still being filled in; the names are those of `COLUMNS`."""

    well: str
    row: int
    col: int
    field: int = 0
    channel: int = 0
    z: int = 0
    t: int = 0
    kind: str = "plane"
    acquisition: int = 0
    path: str = ""
    page: int = 0
    height: int = -1
    width: int = -1
    dtype: str = ""
    x_um: float = math.nan
    y_um: float = math.nan
    z_um: float = math.nan
    pixel_um_y: float = math.nan
    pixel_um_x: float = math.nan
    channel_name: str = ""
    excitation_nm: float = math.nan
    emission_nm: float = math.nan
    exposure_s: float = math.nan
    time_s: float = math.nan
    offset_counts: int = 0
    file_size: int = -1
    mtime_ns: int = -1
    status: str = "ok"
    field_id: str = ""
    channel_id: str = ""
    z_id: str = ""
    t_id: str = ""


_ORDER = attrgetter("acquisition", "row", "col", "field", "channel")
_WITHIN = attrgetter("t", "z", "path")


def columns_of(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
    """Turn rows into read-only columns: by acquisition, well, field, channel, kind, t and z.

    Parameters
    ----------
    rows
        The rows, in any order.

    Returns
    -------
    dict
        One array of shape (rows,) for each of `COLUMNS`.
    """
    ordered = sorted(
        rows, key=lambda row: (*_ORDER(row), row.kind != "plane", row.kind, *_WITHIN(row))
    )
    columns: dict[str, NDArray[Any]] = {}
    for name, dtype in COLUMNS.items():
        values = np.empty(len(ordered), dtype)
        values[:] = list(map(attrgetter(name), ordered))
        values.setflags(write=False)
        columns[name] = values
    return columns


def usual_members(rows: Sequence[Row]) -> dict[int, tuple[tuple[int, int, int], ...]]:
    """Say which planes most fields have, for those of which nothing is known but that they are.

    Parameters
    ----------
    rows
        Rows of the fields that are known.

    Returns
    -------
    dict
        By acquisition, channel, z and t of each plane that most of its fields have.
    """
    fields: dict[tuple[int, str, int], list[tuple[int, int, int]]] = defaultdict(list)
    for row in rows:
        fields[row.acquisition, row.well, row.field].append((row.channel, row.z, row.t))
    shapes: dict[int, Counter[tuple[tuple[int, int, int], ...]]] = defaultdict(Counter)
    for (acquisition, _, _), members in fields.items():
        shapes[acquisition][tuple(members)] += 1
    return {acquisition: counter.most_common(1)[0][0] for acquisition, counter in shapes.items()}


def dense(ids: Iterable[int]) -> dict[int, int]:
    """Rank a vendor's numbers from 0.

    Parameters
    ----------
    ids
        Numbers, repeated or not.

    Returns
    -------
    dict
        Vendor's number to rank.
    """
    return {number: rank for rank, number in enumerate(sorted(set(ids)))}


def key_of(row: Row) -> Key:
    """Give what makes a row the plane that it is."""
    return (row.acquisition, row.well, row.field, row.channel, row.kind, row.z, row.t)


def place_of(row: Row) -> str:
    """Name the plane of a row within its well."""
    kind = "" if row.kind == PlaneKind.PLANE else f" {row.kind}"
    return f"field {row.field} channel {row.channel} z {row.z} t {row.t}{kind}"


def words_of(row: Row) -> str:
    """Name the plane of a row."""
    return f"well {row.well} {place_of(row)}"
