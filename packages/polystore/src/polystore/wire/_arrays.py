"""Arrays and columns as entries of a header and buffers, and back."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import PayloadError, WireHeaderError, WireSizeError
from polystore._tables import Column, Table
from polystore.wire._header import TEXT, ArrayEntry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["read_array", "read_table", "read_texts", "write_array", "write_table", "write_texts"]


def write_array(name: str, array: NDArray[Any], buffers: list[memoryview]) -> ArrayEntry:
    """Append the memory of an array; only one that is not C-contiguous is copied."""
    flat = array.reshape(-1) if array.flags.c_contiguous else np.ascontiguousarray(array).ravel()
    # a view of bytes: the buffer protocol knows no big-endian element and no empty cast
    view = flat.view(np.uint8).data.toreadonly()
    buffers.append(view)
    return ArrayEntry(name, array.dtype.str, array.shape, (view.nbytes,))


def write_texts(name: str, texts: Sequence[str], buffers: list[memoryview]) -> ArrayEntry:
    """Append texts: where each starts, and their UTF-8."""
    try:
        parts = [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise PayloadError(f"{name!r} holds text that is not Unicode: {error}") from error
    offsets = np.zeros(len(parts) + 1, dtype="<i8")
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    joined = b"".join(parts)
    buffers.append(offsets.view(np.uint8).data.toreadonly())
    buffers.append(memoryview(joined))
    return ArrayEntry(name, TEXT, (len(parts),), (offsets.nbytes, len(joined)))


def write_table(table: Table, buffers: list[memoryview]) -> tuple[ArrayEntry, ...]:
    """Append the columns of a table, each with a bit for every row where values are missing."""
    return tuple(_write_column(table, name, column, buffers) for name, column in table.items())


def read_array(entry: ArrayEntry, view: memoryview) -> NDArray[Any]:
    """Give an array that is the buffer's memory, not to be written to."""
    if entry.dtype == TEXT:
        raise WireHeaderError(f"array {entry.name!r} cannot be text")
    try:
        if view.nbytes:
            made = np.frombuffer(view, dtype=np.dtype(entry.dtype)).reshape(entry.shape)
        else:
            made = np.zeros(entry.shape, dtype=np.dtype(entry.dtype))
    except ValueError as error:
        # an announced shape of no elements may still be larger than numpy can express
        raise WireHeaderError(f"array {entry.name!r} cannot be of shape {entry.shape}") from error
    made.flags.writeable = False
    return made


def read_texts(entry: ArrayEntry, offsets: memoryview, joined: memoryview) -> tuple[str, ...]:
    """Give texts."""
    ends = np.frombuffer(offsets, dtype="<i8").tolist()
    if ends[0] != 0 or ends[-1] != joined.nbytes or any(b < a for a, b in pairwise(ends)):
        raise WireSizeError(f"array {entry.name!r}: offsets do not divide {joined.nbytes} bytes")
    try:
        return tuple(str(joined[start:end], "utf-8") for start, end in pairwise(ends))
    except UnicodeDecodeError as error:
        raise WireHeaderError(f"array {entry.name!r} is not UTF-8: {error}") from error


def read_table(entries: Sequence[ArrayEntry], views: Iterator[memoryview]) -> Table:
    """Give a table."""
    columns: dict[str, Column] = {}
    units: dict[str, str] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    for entry in entries:
        if entry.name in columns:
            raise WireHeaderError(f"column {entry.name!r} is there twice")
        if len(entry.shape) != 1:
            raise WireHeaderError(f"column {entry.name!r} has to be (rows,), not {entry.shape}")
        columns[entry.name] = (
            read_texts(entry, next(views), next(views))
            if entry.dtype == TEXT
            else read_array(entry, next(views))
        )
        if entry.unit is not None:
            units[entry.name] = entry.unit
        if entry.missing:
            bits = np.frombuffer(next(views), dtype=np.uint8)
            missing[entry.name] = np.unpackbits(bits, count=entry.shape[0]).view(np.bool_)
    return Table(columns, units, missing)


def _write_column(table: Table, name: str, column: Column, buffers: list[memoryview]) -> ArrayEntry:
    write = write_array if isinstance(column, np.ndarray) else write_texts
    entry: ArrayEntry = write(name, column, buffers)  # type: ignore[arg-type]  # each takes its own
    unit, absent = table.units.get(name), table.missing.get(name)
    if unit is None and absent is None:
        return entry
    sizes = entry.sizes
    if absent is not None:
        bits = np.packbits(absent)
        buffers.append(bits.data.toreadonly())
        sizes = (*sizes, bits.nbytes)
    return ArrayEntry(name, entry.dtype, entry.shape, sizes, unit=unit, missing=absent is not None)
