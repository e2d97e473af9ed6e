"""Planes whose image quality stands out, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions import flag_outliers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["outlier_table"]

_KEYS = ("well", "t", "field", "channel", "z")


def outlier_table(tables: Mapping[str, pa.Table], limit: float) -> pa.Table:
    """Give one row per value that is far from those of its like, farthest first.

    Parameters
    ----------
    tables
        What `measure_image_quality` gave for all planes, by name of the table.
    limit
        Smallest robust z that is named; greater than 0.

    Raises
    ------
    ValueError
        If ``limit`` is not greater than 0.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for name, table in tables.items():
        columns = {column: _array(table[column]) for column in table.column_names}
        for outlier in flag_outliers(columns, limit=limit):
            place = {key: table[key][outlier.row].as_py() for key in _KEYS if key in columns}
            values = {
                "feature": outlier.feature,
                "value": outlier.value,
                "median": outlier.median,
                "robust_z": outlier.robust_z,
            }
            rows.append({"table": name, **place, **values})
    rows.sort(key=lambda row: -abs(row["robust_z"]))
    schema = pa.schema(
        {
            "table": pa.string(),
            "well": pa.string(),
            "t": pa.int32(),
            "field": pa.int32(),
            "channel": pa.string(),
            "z": pa.int32(),
            "feature": pa.string(),
            "value": pa.float64(),
            "median": pa.float64(),
            "robust_z": pa.float64(),
        }
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _array(column: pa.ChunkedArray[Any]) -> NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return np.asarray(column.to_numpy())  # NaN where it is null
    values = column.to_pylist()
    return np.array(values, np.str_ if pa.types.is_string(column.type) else None)
