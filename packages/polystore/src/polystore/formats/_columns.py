"""Tables, and points as tables of two columns, for formats that hold columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import UnreadableError
from polystore._kinds import Kind
from polystore._tables import Table

if TYPE_CHECKING:
    from polystore._payload import Data, Payload

__all__ = ["COLUMN_KINDS", "as_table", "columns_refusal", "of_table"]

COLUMN_KINDS = frozenset({Kind.TABLE, Kind.POINTS})


def columns_refusal(payload: Payload) -> str | None:
    """Say why a payload cannot be columns."""
    if payload.kind in COLUMN_KINDS:
        return None
    return f"it holds columns, and this is of kind {payload.kind}"


def as_table(payload: Payload) -> Table:
    """Give a table, or points as columns y and x in pixels."""
    if payload.kind is Kind.POINTS:
        return Table({"y": payload.array[:, 0], "x": payload.array[:, 1]})
    return payload.table


def of_table(table: Table, kind: Kind, where: str) -> Data:
    """Give back what `as_table` made a table of.

    Raises
    ------
    UnreadableError
        If points are not columns y and x of one type.
    """
    if kind is not Kind.POINTS:
        return table
    y, x = table.get("y"), table.get("x")
    if not (isinstance(y, np.ndarray) and isinstance(x, np.ndarray) and len(table) == 2):
        raise UnreadableError(f"{where}: points are columns y and x, not {', '.join(table)}")
    if y.dtype != x.dtype or table.missing:
        raise UnreadableError(f"{where}: the columns y and x of points are of one type, and whole")
    points = np.empty((len(y), 2), y.dtype)
    points[:, 0], points[:, 1] = y, x
    points.flags.writeable = False
    return points
