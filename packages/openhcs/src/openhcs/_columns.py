"""Arrow columns made straight from numpy arrays and Python values.

``pyarrow.array`` imports pandas wherever it is installed, to ask whether a value comes from there:
a second and 60 MB in each worker process for nothing. Columns are three buffers at most, so they
are made here.

Notes
-----
Apache Arrow Columnar Format, section Physical Memory Layout: validity as bits, least significant
first; text as offsets of 32 bits into UTF-8 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["array_column", "put_together", "value_column"]


def array_column(values: NDArray[Any], there: NDArray[np.bool_] | None = None) -> pa.Array[Any]:
    """Make a column of numbers, truth values or text from a numpy array.

    Parameters
    ----------
    values
        Shape (rows,). Text may be of dtype ``U`` or object.
    there
        Where numbers are values, shape (rows,); null elsewhere. All are by default.
    """
    import pyarrow as pa

    if values.dtype.kind in "UO":
        return value_column(values.tolist())
    if values.dtype.kind == "b":
        return _column(pa.bool_(), len(values), _bits(values), None)
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    valid = None if there is None else _bits(there)
    return _column(pa.from_numpy_dtype(plain.dtype), len(plain), _buffer(plain), valid)


def value_column(values: Sequence[Any]) -> pa.Array[Any]:
    """Make a column of Python values of which any may be None.

    Where numbers of both kinds occur they become floats; other mixtures become text.
    """
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    there = np.array([value is not None for value in values], dtype=np.bool_)
    valid = None if there.all() else _bits(there)
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        truth = np.array([value is True for value in values], dtype=np.bool_)
        return _column(pa.bool_(), len(values), _bits(truth), valid)
    if kinds <= {bool, int, float}:
        number = np.int64 if kinds == {int} else np.float64
        numbers = np.array([0 if value is None else value for value in values], dtype=number)
        return _column(pa.from_numpy_dtype(numbers.dtype), len(values), _buffer(numbers), valid)
    spelled: Callable[[Any], str] = str
    texts = [b"" if value is None else spelled(value).encode() for value in values]
    ends = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int32)
    column: pa.Array[Any] = pa.Array.from_buffers(
        pa.string(), len(values), [valid, _buffer(ends), pa.py_buffer(b"".join(texts))]
    )
    return column


def put_together(tables: Sequence[pa.Table]) -> pa.Table:
    """Put the tables of groups, or of wells, below each other; what one lacks is null there.

    A column without rows has whatever type an empty array has, and takes that of the others. Where
    types do not go together, truth values beside numbers become numbers, and what stands beside
    text becomes text, as in `value_column`.
    """
    import pyarrow as pa

    if not tables:
        return pa.table({})
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowTypeError:
        return pa.concat_tables(_alike(tables), promote_options="permissive")


def _alike(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Give tables whose columns have types that go together."""
    import pyarrow as pa

    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema if len(table) else ():
            kinds.setdefault(field.name, set()).add(field.type)

    def alike(name: str, column: pa.ChunkedArray[Any]) -> Any:
        found = kinds.get(name, set())
        if not len(column):
            return pa.nulls(0)
        if pa.string() in found and column.type != pa.string():
            values = column.to_pylist()
            return value_column([None if value is None else str(value) for value in values])
        if pa.bool_() == column.type and len(found) > 1:
            return column.cast(pa.int64())
        return column

    return [
        pa.table({name: alike(name, table[name]) for name in table.column_names})
        for table in tables
    ]


def _column(
    kind: pa.DataType, length: int, values: pa.Buffer, valid: pa.Buffer | None
) -> pa.Array[Any]:
    import pyarrow as pa

    column: pa.Array[Any] = pa.Array.from_buffers(kind, length, [valid, values])
    return column


def _bits(values: NDArray[np.bool_]) -> pa.Buffer:
    return _buffer(np.packbits(values, bitorder="little"))


def _buffer(values: NDArray[Any]) -> pa.Buffer:
    import pyarrow as pa

    return pa.py_buffer(values.data)
