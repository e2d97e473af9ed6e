"""Tables of a well and of the plate, as Parquet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._columns import array_column, put_together, value_column
from openhcs.functions import Kind, aggregate_objects
from openhcs.pipeline import AXES, GroupKey
from polystore.files import atomic_file

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from openhcs.execution._well_table import Condition

__all__ = [
    "Groups",
    "fields_of",
    "measures",
    "read_group",
    "read_groups",
    "read_rows",
    "write_outputs",
    "write_wells",
]

_OBJECTS = "objects"
_NUMBER = "ObjectNumber"
_MOST_WORDS = 3
"""Texts of more kinds than these, such as hashes, say nothing about a well as a whole."""

Groups = Sequence[tuple[GroupKey, Mapping[str, Any]]]


def write_outputs(path: Path, well: str, kind: Kind, groups: Groups) -> None:
    """Write the tables or records of a well as one table; the key of each group goes in front.

    Parameters
    ----------
    path
        The file; its folder is made.
    well
        Name of the well.
    kind
        Table: columns by name. Record: scalars by name, which become one row.
    groups
        Key and value of each group.
    """
    table = put_together([_table(well, kind, key, value) for key, value in groups])
    path.parent.mkdir(exist_ok=True)
    _write(path, table)


def read_group(path: Path, kind: Kind, key: GroupKey) -> Mapping[str, Any]:
    """Read back what one group of a well gave."""
    import pyarrow.parquet as pq

    # A file by itself: a folder's name with "=" in it would be read as a column.
    table: pa.Table = pq.ParquetFile(path).read()
    present = {name: value for name, value in key.present().items() if name in table.column_names}
    rows = np.ones(len(table), np.bool_)
    for name, value in present.items():
        rows &= np.asarray(table[name].to_pylist(), dtype=object) == value
    table = table.take(np.flatnonzero(rows))
    table = table.drop_columns([name for name in ("well", *present) if name in table.column_names])
    if kind is Kind.TABLE:
        return _columns(table)
    return {name: table[name][0].as_py() for name in table.column_names}


def read_groups(path: Path, kind: Kind, fields: Collection[int] = ()) -> Groups:
    """Read back what all groups of a well gave.

    Parameters
    ----------
    path
        The table.
    kind
        Table or record.
    fields
        Fields that it was made from: also those without rows are given.
    """
    import pyarrow.parquet as pq

    table: pa.Table = pq.ParquetFile(path).read()
    names = [name for name in AXES if name in table.column_names]
    own = [name for name in table.column_names if name not in ("well", *names)]
    rows: dict[GroupKey, list[int]] = {}
    for row, parts in enumerate(table.select(names).to_pylist() if names else [{}] * len(table)):
        rows.setdefault(GroupKey(**parts), []).append(row)
    if kind is Kind.TABLE:
        there = {key.field for key in rows}
        empty = [None] if "field" not in names else [each for each in fields if each not in there]
        rows |= {GroupKey(field=each): [] for each in empty if each not in there}
    parts_of = (
        (key, table.select(own).take(np.array(chosen, np.int64))) for key, chosen in rows.items()
    )
    if kind is Kind.TABLE:
        return [(key, _columns(part)) for key, part in parts_of]
    return [(key, part.to_pylist()[0]) for key, part in parts_of]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read back the rows of a record of a well; none where it is not there."""
    import pyarrow.parquet as pq

    try:
        table: pa.Table = pq.ParquetFile(path).read()
    except OSError:
        return []
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def fields_of(groups: Groups, whole: Collection[int]) -> list[int]:
    """Give the fields that groups were made from, also those in which nothing was found.

    Parameters
    ----------
    groups
        Key and value of each group.
    whole
        Fields of the well: a group that belongs to no field was made from all of them.
    """
    found: set[int] = set()
    for key, _ in groups:
        found |= set(whole) if key.field is None else {key.field}
    return sorted(found)


def measures(
    stored: str, kind: Kind, groups: Groups, counting: Groups, fields: int
) -> dict[str, Any]:
    """Sum up one output of a well for its row in the table of wells.

    Parameters
    ----------
    stored
        Name of the output in the result folder.
    kind
        What it is.
    groups
        Key and value of each group.
    counting
        Those of them that are summed up.
    fields
        Number of fields that these were made from.

    Returns
    -------
    dict
        Scalars by column name, the number of fields first. Tables with one row per object, which
        begin with ``ObjectNumber``, are aggregated, others left out, and have a count of NaN where
        no group counts; records of one group are taken
        as they are, of several as the median of numbers per channel, and as the texts that occur.
    """
    if kind is Kind.RECORD:
        return {f"{stored}_fields": fields} | _record_measures(stored, counting)
    if not groups or next(iter(groups[0][1]), None) != _NUMBER:
        return {}
    prefix = "" if stored == _OBJECTS else f"{stored}_"
    row: dict[str, Any] = {"fields": fields, "count": 0.0}
    for column in dict.fromkeys(column for _, value in groups for column in value):
        # Groups may lack a column: that of a channel which was not taken at their z or time point.
        like = next(value[column] for _, value in groups if column in value)
        parts = [np.asarray(value[column]) for _, value in counting if column in value]
        row |= aggregate_objects({column: np.concatenate([np.asarray(like)[:0], *parts])})
    # with no group that counts nobody knows: nothing was looked at
    count = sum(len(value[_NUMBER]) for _, value in counting)
    row["count"] = float(count) if counting else float("nan")
    return {f"{prefix}{key}": value for key, value in row.items()}


def write_wells(
    path: Path, rows: Sequence[Mapping[str, Any]], conditions: Sequence[Condition] = ()
) -> None:
    """Write the table of wells: one row for each, also for those that failed.

    Parameters
    ----------
    path
        The file.
    rows
        Values by column.
    conditions
        Columns that come from the platemap: their fields have the metadata ``condition``, their
        name in it, and ``unit`` where they have one.
    """
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: value_column([row.get(name) for row in rows]) for name in names}
    told = {
        each.column: {"condition": each.name} | ({"unit": each.unit} if each.unit else {})
        for each in conditions
    }
    fields = [
        pa.field(name, column.type, metadata=told.get(name)) for name, column in columns.items()
    ]
    _write(path, pa.table(list(columns.values()), schema=pa.schema(fields)))


def _record_measures(stored: str, groups: Groups) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for key, value in groups:
        middle = f"{key.channel}_" if key.channel is not None else ""
        for name, scalar in value.items():
            if scalar is not None:  # not known, or not said of this group
                found.setdefault(f"{stored}_{middle}{name}", []).append(scalar)
    result: dict[str, Any] = {}
    for name, values in found.items():
        if len(values) == 1:
            result[name] = values[0]
        elif all(isinstance(value, bool) for value in values):
            result[name] = float(np.mean(values))
        elif all(isinstance(value, int | float) for value in values):
            result[name] = float(np.median(np.asarray(values, dtype=np.float64)))
        elif len(set(values)) <= _MOST_WORDS:
            result[name] = ", ".join(sorted({str(value) for value in values}))
    return result


def _table(well: str, kind: Kind, key: GroupKey, value: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    if kind is Kind.RECORD:
        columns = {name: value_column([scalar]) for name, scalar in value.items()}
    else:
        columns = {name: array_column(np.asarray(column)) for name, column in value.items()}
    length = 1 if kind is Kind.RECORD else len(next(iter(columns.values()), ()))
    keys = {"well": well, **key.present()}
    front = {
        # An element type of str would be one letter long: numpy takes the length from the value.
        name: array_column(np.full(length, part, None if isinstance(part, str) else np.int32))
        for name, part in keys.items()
        if name not in columns
    }
    return pa.table({**front, **columns})


def _columns(table: pa.Table) -> dict[str, np.ndarray[Any, Any]]:
    """Give the columns of a group, without those that only other groups have."""
    return {
        name: _array(table[name])
        for name in table.column_names
        if not len(table) or table[name].null_count < len(table)
    }


def _array(column: pa.ChunkedArray[Any]) -> np.ndarray[Any, Any]:
    values = np.asarray(column.to_numpy())
    return values.astype(np.str_) if values.dtype.kind == "O" else values


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with atomic_file(path) as stream:
        pq.write_table(table, stream, compression="zstd")
