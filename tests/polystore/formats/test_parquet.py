from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from polystore import Components, FormatError, Kind, Payload, Table, UnreadableError
from polystore.formats import Format, ParquetFormat
from polystore.testing import FormatTests, assert_equal
from polystore.testing.strategies import payloads

PARQUET = ParquetFormat()


class TestParquet(FormatTests):
    def make(self) -> Format:
        return ParquetFormat()


def written(payload: Payload) -> io.BytesIO:
    stream = io.BytesIO()
    PARQUET.write(payload, stream)
    stream.seek(0)
    return stream


def others(table: pa.Table, **options: object) -> io.BytesIO:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    stream.seek(0)
    return stream


def read(stream: io.BytesIO) -> Payload:
    return PARQUET.read(stream, "cells.parquet")


@settings(max_examples=40)
@given(payloads((Kind.TABLE, Kind.POINTS)))
def test_columns_of_any_bits_come_back(payload: Payload) -> None:
    try:
        stream = written(payload)
    except FormatError as error:
        assert "not Unicode" in str(error) or "surrogates" in str(error)  # noqa: PT017
        return
    assert_equal(read(stream), with_nothing_beneath(payload))


def with_nothing_beneath(payload: Payload) -> Payload:
    """The same with the usual NaN where a float is missing; which NaN it was is not kept."""
    if payload.kind is not Kind.TABLE:
        return payload
    columns = dict(payload.table.columns)
    for name, mask in payload.table.missing.items():
        column = columns[name]
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            column = column.copy()
            column[mask] = np.nan
            columns[name] = column
    return replace(payload, data=Table(columns, payload.table.units, payload.table.missing))


def test_pyarrow_opens_them() -> None:
    payload = Payload(
        data=Table(
            {"area": np.array([1.5, 2.5]), "gene": ("TP53", "MYC"), "n": np.array([1, 2], ">u2")},
            {"area": "µm²"},
            {"n": np.array([True, False])},
        ),
        kind=Kind.TABLE,
        components=Components(well="B03"),
    )
    opened = pq.read_table(written(payload))
    assert opened.to_pydict() == {"area": [1.5, 2.5], "gene": ["TP53", "MYC"], "n": [None, 2]}
    assert opened.schema.field("area").metadata[b"unit"].decode() == "µm²"
    assert b'"components": {"well": "B03"}' in opened.schema.metadata[b"polystore"]
    points = Payload(data=np.array([[1.0, 2.0]]), kind=Kind.POINTS)
    assert pq.read_table(written(points)).to_pydict() == {"y": [1.0], "x": [2.0]}


def test_what_others_wrote_is_a_plain_table() -> None:
    theirs = pa.table({"a": [1, None], "b": ["x", "y"], "c": [True, False], "d": [None, None]})
    found = read(others(theirs)).table
    assert list(found) == ["a", "b", "c", "d"]
    assert found.missing["a"].tolist() == [False, True]
    assert found["b"] == ("x", "y")
    assert found.missing["d"].all()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"when": pa.array([1], pa.timestamp("s"))}), "'when' is of Arrow type timestamp"),
        (pa.table({"several": [[1, 2]]}), "'several' is of Arrow type list"),
        (pa.table([[1], [2]], names=["a", "a"]), "'a'"),
        (pa.table({"raw": [b"x"]}), "'raw' is of Arrow type binary"),
    ],
)
def test_columns_that_a_table_has_not_are_named(table: pa.Table, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as caught:
        read(others(table))
    assert "cells.parquet" in str(caught.value)


def test_a_small_file_of_a_great_many_rows_is_an_error() -> None:
    stream = others(pa.table({"a": np.zeros(100_000), "b": np.zeros(100_000, "u1")}))
    assert len(stream.getvalue()) < 10_000
    with pytest.raises(UnreadableError, match=r"100000 rows of 16 bytes.*part by part"):
        ParquetFormat(most_bytes=1_000_000).read(stream, "cells.parquet")


def test_a_small_file_of_a_great_deal_of_text_is_an_error() -> None:
    text = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(5_000, "i4")), pa.array(["x" * 100_000])
    )
    stream = others(pa.table({"text": text}))
    assert len(stream.getvalue()) < 200_000
    with pytest.raises(UnreadableError, match="500000000 characters of text"):
        ParquetFormat(most_bytes=1_000_000).read(stream, "cells.parquet")


def test_a_note_that_contradicts_the_columns_is_an_error() -> None:
    table = pa.table({"a": [1.5]})
    for note in (
        b'{"polystore": 1, "kind": "table", "columns": {"b": ">u2"}}',
        b'{"polystore": 1, "kind": "table", "columns": {"a": ">u2"}}',
        b'{"polystore": 1, "kind": "table", "columns": {"a": "|O"}}',
        b'{"polystore": 1, "kind": "points"}',
        b'{"polystore": 1, "kind": "text"}',
        b"{",
    ):
        with pytest.raises(UnreadableError, match=r"cells\.parquet"):
            read(others(table.replace_schema_metadata({b"polystore": note})))


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_no_bit_of_a_page_that_flips_is_overlooked(compression: str) -> None:
    rng = np.random.default_rng(0)
    table = Table({"area": rng.normal(size=90), "count": rng.integers(0, 9999, 90)})
    payload = Payload(data=table, kind=Kind.TABLE)
    made, stream = ParquetFormat(compression=compression), io.BytesIO()
    made.write(payload, stream)
    content = stream.getvalue()
    said = 0
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for at in range(end):  # of the pages: names and notes behind them have no checksum
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        try:
            back = made.read(io.BytesIO(damaged), "cells.parquet")
        except UnreadableError:
            said += 1
            continue
        assert_equal(back, payload)
    assert said > 0.9 * end


def test_rows_that_are_fewer_than_the_file_says_are_an_error() -> None:
    stream = written(Payload(data=Table({"count": np.arange(500)}), kind=Kind.TABLE))
    content = bytearray(stream.getvalue())
    at = content.rfind(b"\x16\xe8\x07")  # 500 rows of a group, as Thrift writes them
    content[at + 1] ^= 0x10
    with pytest.raises(UnreadableError, match=r"cells\.parquet.*rows"):
        read(io.BytesIO(content))
