"""Tables and points as Apache Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from polystore._errors import PayloadError, UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._tables import Column, Table
from polystore.formats._columns import COLUMN_KINDS, as_table, columns_refusal, of_table
from polystore.formats._guard import importing, reading, refused
from polystore.formats._note import as_note, dtype_of, read_note
from polystore.wire._header import PAYLOAD_MOST_BYTES

__all__ = ["ParquetFormat"]

_PACKAGE = "polystore[arrow]"
_KEY = b"polystore"
_TEXTS = frozenset({"string", "large_string", "string_view"})
_WIDTHS = {"bool": 1, "double": 8, "float": 4, "halffloat": 2}


@dataclass(frozen=True, slots=True)
class ParquetFormat:
    """Tables and points as ``.parquet``, which pandas, R, DuckDB and others open.

    Columns keep their types, units (metadata ``unit`` of a column) and missing values (null). NaN
    stays NaN. The note is in the metadata of the file. Points are the columns ``y`` and ``x``. Each
    page has its CRC-32, which is compared, also in files of others that have them.

    Parameters
    ----------
    compression
        As pyarrow calls it: ``"zstd"``, ``"snappy"``, ``"none"`` and others.
    most_bytes
        Largest table that is read, as it is in memory; a small file may say a great deal.
    """

    compression: str = "zstd"
    most_bytes: int = PAYLOAD_MOST_BYTES

    @property
    def name(self) -> str:
        """``"Parquet"``."""
        return "Parquet"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".parquet"``."""
        return (".parquet",)

    @property
    def package(self) -> str:
        """Pyarrow."""
        return _PACKAGE

    @property
    def kinds(self) -> frozenset[Kind]:
        """What has columns."""
        return COLUMN_KINDS

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what has no columns."""
        return columns_refusal(payload)

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write the columns.

        Raises
        ------
        FormatError
            If text is not Unicode.
        MissingExtraError
            If pyarrow is not installed.
        """
        with importing(self.name, _PACKAGE):
            import pyarrow.parquet as pq
        table = as_table(payload)
        orders = {
            name: column.dtype.str
            for name, column in table.items()
            if isinstance(column, np.ndarray) and not column.dtype.isnative
        }
        note = json.dumps(as_note(payload, columns=orders))
        try:
            made = table.to_arrow()
        except (PayloadError, UnicodeEncodeError) as error:
            raise refused(self.name, str(error)) from error
        made = made.replace_schema_metadata({_KEY: note})
        pq.write_table(made, stream, compression=self.compression, write_page_checksum=True)

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read the columns.

        Raises
        ------
        UnreadableError
            If it is no Parquet, is cut off or damaged, has columns of other types than numbers,
            truth values and text, or would be larger than is allowed.
        MissingExtraError
            If pyarrow is not installed.
        """
        with importing(self.name, _PACKAGE):
            import pyarrow as pa
            import pyarrow.parquet as pq
        with reading(where, self.name):
            try:
                file = pq.ParquetFile(stream)
                schema = file.schema_arrow
                _check_size(file, schema, self.most_bytes, where)
                # of texts that are there often, one each: a file of little may say them for ever
                texts = [each.name for each in schema if str(each.type) in _TEXTS]
                file = pq.ParquetFile(
                    stream, read_dictionary=texts, page_checksum_verification=True
                )
                found = file.read(use_threads=False)
                _check_texts(found, self.most_bytes, where)
                found.validate(full=True)
            except pa.lib.ArrowException as error:
                raise UnreadableError(f"{where} cannot be read as Parquet: {error}") from error
            table = Table.from_arrow(found)
            raw = (schema.metadata or {}).get(_KEY)
            if raw is None:
                return Payload(data=table, kind=Kind.TABLE)
            note = read_note(raw, where)
            columns: dict[str, Column] = dict(table.columns)
            for name, order in note.columns.items():
                column, dtype = columns.get(name), dtype_of(order)
                if not isinstance(column, np.ndarray) or column.dtype != dtype.newbyteorder("="):
                    raise UnreadableError(f"{where}: its note says that {name!r} is {dtype}")
                columns[name] = column.astype(dtype)
            table = Table(columns, table.units, table.missing)
            return note.payload(of_table(table, note.kind, where))


def _check_size(file: Any, schema: Any, most: int, where: str) -> None:
    """Refuse what would be too large, by what the file says of itself, before it is read."""
    said = file.metadata
    width = sum(_WIDTHS.get(str(each.type), 8) for each in schema)
    packed = sum(said.row_group(n).total_byte_size for n in range(said.num_row_groups))
    # asking more of a damaged group would end the process: pyarrow catches not all of its errors
    if sum(said.row_group(n).num_rows for n in range(said.num_row_groups)) != said.num_rows:
        raise UnreadableError(f"{where} is damaged: its groups have not {said.num_rows} rows")
    if said.num_rows < 0 or packed < 0 or max(said.num_rows * width, packed) > most:
        raise UnreadableError(
            f"{where} says it has {said.num_rows} rows of {width} bytes, {packed} as they are "
            f"stored, and {most} are allowed: read it with pyarrow, part by part"
        )


def _check_texts(found: Any, most: int, where: str) -> None:
    """Count the bytes of texts that stand in a dictionary, each as often as it is used."""
    total = 0
    for column in found.columns:
        for chunk in column.chunks:
            if not str(chunk.type).startswith("dictionary") or not len(chunk.dictionary):
                continue
            lengths = np.array([len(text or "") for text in chunk.dictionary.to_pylist()])
            used = chunk.indices.drop_null().to_numpy(zero_copy_only=False)
            if len(used) and not 0 <= int(used.min()) <= int(used.max()) < len(lengths):
                raise UnreadableError(f"{where} is damaged: a text is not among those it has")
            total += int(lengths[used].sum())
    if total > most:
        raise UnreadableError(f"{where} has {total} characters of text, and {most} are allowed")
