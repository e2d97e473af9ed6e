"""Tables of Apache Arrow, from and to ours.

Columns are made of their buffers: ``pyarrow.array`` and ``to_pandas`` import pandas wherever it is
installed, which takes a second and 60 MB.

Notes
-----
Apache Arrow Columnar Format, section Physical Memory Layout: validity and truth values as bits,
least significant first; text as offsets into UTF-8 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import ColumnTypeError, MissingExtraError, PayloadError
from polystore._tables import Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["from_arrow", "to_arrow"]

_UNIT = b"unit"
_NUMBERS = {
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "halffloat": "f2",
    "float": "f4",
    "double": "f8",
}
_TEXTS = frozenset({"string", "large_string", "string_view"})
_ADVICE = {
    "timestamp": "cast it to text, or to int64 of a stated unit",
    "date": "cast it to text, or to int64 of a stated unit",
    "time": "cast it to text, or to int64 of a stated unit",
    "duration": "cast it to int64 and give the column its unit",
    "decimal": "cast it to float64, or to text to keep every digit",
    "list": "give each element a column or a row of its own",
    "struct": "flatten the table first",
    "map": "give each key a column",
    "binary": "encode it as text",
}


def to_arrow(table: Table) -> pa.Table:
    """Give a table to Arrow: see `Table.to_arrow`."""
    pa = _pyarrow()
    fields, columns = [], []
    for name, column in table.items():
        missing = table.missing.get(name)
        made = (
            _numbers(pa, column, missing)
            if isinstance(column, np.ndarray)
            else _texts(pa, column, missing)
        )
        unit = table.units.get(name)
        metadata = None if unit is None else {_UNIT: unit.encode()}
        fields.append(pa.field(name, made.type, metadata=metadata))
        columns.append(made)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def from_arrow(table: pa.Table | pa.RecordBatch) -> Table:
    """Take a table over from Arrow: see `Table.from_arrow`."""
    pa = _pyarrow()
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    columns: dict[str, Column] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    units: dict[str, str] = {}
    for field, chunks in zip(table.schema, table.columns, strict=True):
        name = field.name
        if name in columns:
            raise PayloadError(f"two columns of the Arrow table are called {name!r}")
        columns[name], absent = _read(pa, name, _one_chunk(pa, chunks))
        if absent is not None:
            missing[name] = absent
        if field.metadata and (unit := field.metadata.get(_UNIT)):
            units[name] = unit.decode(errors="replace")
    return Table(columns, units, missing)


def _numbers(pa: ModuleType, values: NDArray[Any], missing: NDArray[np.bool_] | None) -> Any:
    valid = None if missing is None else _buffer(pa, _bits(~missing))
    if values.dtype.kind == "b":
        kind, data = pa.bool_(), _bits(values)
    else:
        data = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        kind = pa.from_numpy_dtype(data.dtype)
    return pa.Array.from_buffers(kind, len(values), [valid, _buffer(pa, data)])


def _texts(pa: ModuleType, texts: Sequence[str], missing: NDArray[np.bool_] | None) -> Any:
    try:
        parts = [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise PayloadError(f"a column holds text that is not Unicode: {error}") from error
    ends = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=ends[1:])
    kind = pa.string() if ends[-1] < 2**31 else pa.large_string()
    offsets = ends.astype(np.int32) if ends[-1] < 2**31 else ends
    valid = None if missing is None else _buffer(pa, _bits(~missing))
    data = pa.py_buffer(b"".join(parts))
    return pa.Array.from_buffers(kind, len(parts), [valid, _buffer(pa, offsets), data])


def _one_chunk(pa: ModuleType, chunks: Any) -> Any:
    if chunks.num_chunks == 1:
        return chunks.chunk(0)
    if chunks.num_chunks:
        return pa.concat_arrays(chunks.chunks)
    # no chunk at all: an empty table, of which only the types are known
    return pa.nulls(0, chunks.type) if str(chunks.type) != "null" else pa.nulls(0)


def _read(pa: ModuleType, name: str, array: Any) -> tuple[Column, NDArray[np.bool_] | None]:
    kind = str(array.type)
    if kind.startswith("dictionary"):
        array = array.dictionary_decode()
        kind = str(array.type)
    if kind == "null":
        return np.full(len(array), np.nan), np.ones(len(array), np.bool_)
    if kind not in _NUMBERS and kind not in _TEXTS and kind != "bool":
        advice = next((text for part, text in _ADVICE.items() if part in kind), "cast it first")
        raise ColumnTypeError(
            f"column {name!r} is of Arrow type {kind}, which is neither a number, a truth value "
            f"nor text: {advice}"
        )
    try:
        array.validate(full=kind in _TEXTS)
    except pa.ArrowInvalid as error:
        raise PayloadError(f"column {name!r} of the Arrow table is broken: {error}") from error
    missing = _missing(array) if array.null_count else None
    if kind in _TEXTS:
        return tuple(array.to_pylist()), missing
    data = array.buffers()[1]
    if not len(array) or data is None:
        return np.zeros(0, _NUMBERS.get(kind, "b1")), None
    if kind == "bool":
        return _unpacked(data, array.offset, len(array)), missing
    values = np.frombuffer(data, dtype=_NUMBERS[kind], count=array.offset + len(array))
    return values[array.offset :], missing


def _missing(array: Any) -> NDArray[np.bool_]:
    return ~_unpacked(array.buffers()[0], array.offset, len(array))


def _unpacked(buffer: Any, offset: int, count: int) -> NDArray[np.bool_]:
    packed = np.frombuffer(buffer, dtype=np.uint8)
    bits = np.unpackbits(packed, count=offset + count, bitorder="little")
    return bits[offset:].view(np.bool_)


def _bits(values: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(values, bitorder="little")


def _buffer(pa: ModuleType, values: NDArray[Any]) -> Any:
    return pa.py_buffer(values.data)


def _pyarrow() -> ModuleType:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError(
            "Arrow tables need pyarrow: pip install 'polystore[arrow]'"
        ) from error
    module: ModuleType = pa
    return module
