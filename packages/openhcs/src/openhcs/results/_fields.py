"""Objects of one well summed up field by field, also of fields in which there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs.functions import aggregate_groups

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["sum_up_fields"]


def sum_up_fields(
    objects: pa.Table,
    well: str,
    measured: Iterable[int],
    excluded: Collection[int] | None = None,
) -> pa.Table:
    """Give one row per field.

    Parameters
    ----------
    objects
        The objects of the well.
    well
        Its name.
    measured
        Fields in which objects were looked for.
    excluded
        Those of them that a rule leaves out; None without a rule.

    Returns
    -------
    pyarrow.Table
        ``well``, ``field``, ``excluded`` where there is a rule, ``count`` and the summaries of
        `aggregate_groups`. A field without objects has count 0 and NaN. Objects of a stitched image
        belong to no field: they are one row, whose field is null.
    """
    import pyarrow as pa

    columns = {
        name: _numbers(objects[name])
        for name, kind in zip(objects.column_names, objects.schema.types, strict=True)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    }
    whole = "field" not in columns
    if whole:
        columns["field"] = np.zeros(len(objects), np.int32)
    rows = aggregate_groups(columns, ["field"])
    there = rows.pop("field")
    numbers = {0} if whole else {*measured, *there.tolist()}
    fields = np.array(sorted(numbers), np.int32)
    found = np.isin(fields, there)
    at = np.searchsorted(there, fields)
    table = {
        name: _spread(values, at, found, 0.0 if name == "count" else np.nan)
        for name, values in rows.items()
    }
    front = {
        "well": pa.array([well] * len(fields), pa.string()),
        "field": pa.nulls(1, pa.int32()) if whole else pa.array(fields),
    }
    if excluded is not None:
        every = whole and set(excluded) >= set(measured)
        front["excluded"] = pa.array([every or field in excluded for field in fields.tolist()])
    return pa.table(front | table)


def _spread(
    values: NDArray[Any], at: NDArray[np.intp], found: NDArray[np.bool_], rest: float
) -> NDArray[np.float64]:
    spread = np.full(len(at), rest)
    spread[found] = values[at[found]]
    return spread


def _numbers(column: pa.ChunkedArray[Any]) -> NDArray[Any]:
    """Give a column as numbers, NaN where it is null."""
    import pyarrow as pa

    return np.asarray((column.cast(pa.float64()) if column.null_count else column).to_numpy())
