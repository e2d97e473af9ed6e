from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from polystore import ColumnTypeError, Kind, Payload, PayloadError, Table, decode, encode
from polystore.testing.strategies import tables


def test_a_table_is_a_mapping_of_columns_with_units() -> None:
    table = Table({"area": np.array([1.5, 2.5]), "gene": ("TP53", "MYC")}, {"area": "µm²"})
    assert list(table) == ["area", "gene"]
    assert (len(table), table.rows, table.nbytes) == (2, 2, 23)
    assert table["gene"] == ("TP53", "MYC")
    assert table.units == {"area": "µm²"}
    assert Table({}).rows == 0
    assert table == Table(dict(table), {"area": "µm²"})
    assert table != Table(dict(table))
    assert table != Table(
        {"area": np.array([1.5, 2.5], np.float32), "gene": ("TP53", "MYC")}, table.units
    )


def test_a_payload_makes_a_table_of_a_mapping() -> None:
    payload = Payload(data={"gene": np.array(["TP53", "MYC"])}, kind=Kind.TABLE)
    assert payload.table == Table({"gene": ("TP53", "MYC")})
    table = Table({"area": np.zeros(2)}, {"area": "µm²"})
    assert Payload(data=table, kind=Kind.TABLE).table is table


def test_arrays_are_taken_as_they_are_and_cannot_be_changed() -> None:
    mine = np.arange(4.0)
    table = Table({"area": mine})
    column = table["area"]
    assert isinstance(column, np.ndarray)
    assert np.shares_memory(column, mine)
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1
    copied = table.copy()["area"]
    assert not np.shares_memory(np.asarray(copied), mine)


def test_what_is_missing_is_not_what_is_not_a_number() -> None:
    table = Table(
        {
            "area": np.array([1.0, np.nan, 3.0]),
            "count": np.array([5, 6, 7], np.uint8),
            "gene": ("TP53", None, "MYC"),  # type: ignore[dict-item]  # None is one way to say it
        },
        missing={"area": np.array([0, 0, 1], bool), "count": np.array([0, 1, 0], bool)},
    )
    np.testing.assert_array_equal(np.asarray(table["area"]), [1, np.nan, np.nan])
    assert np.asarray(table["count"]).tolist() == [5, 0, 7]
    assert table["gene"] == ("TP53", "", "MYC")
    assert {name: mask.tolist() for name, mask in table.missing.items()} == {
        "area": [False, False, True],
        "count": [False, True, False],
        "gene": [False, True, False],
    }
    assert not Table({"a": np.zeros(2)}, missing={"a": np.zeros(2, bool)}).missing
    assert table.take([0]).missing == {}
    assert table.take([True, False, True]) == table.take([0, 2])


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"columns": {"a": np.zeros(2), "b": np.zeros(3)}}, "3 rows"),
        ({"columns": {"": np.zeros(2)}}, "name"),
        ({"columns": {"x" * 257: np.zeros(2)}}, "name"),
        ({"columns": {"a": np.zeros((2, 2))}}, "rows"),
        ({"columns": {"a": np.array([["x"]])}}, "rows"),
        ({"columns": {"a": np.zeros(2, object)}}, "object"),
        ({"columns": {"a": np.zeros(2, complex)}}, "complex"),
        ({"columns": {"a": "text"}}, "sequence"),
        ({"columns": {"a": [1, 2]}}, "sequence"),
        ({"columns": {"a": np.zeros(2)}, "units": {"b": "s"}}, "no columns"),
        ({"columns": {"a": np.zeros(2)}, "units": {"a": ""}}, "unit"),
        ({"columns": {"a": np.zeros(2)}, "missing": {"b": np.zeros(2, bool)}}, "no columns"),
        ({"columns": {"a": np.zeros(2)}, "missing": {"a": np.zeros(3, bool)}}, "missing"),
        ({"columns": {"a": np.zeros(2)}, "missing": {"a": np.zeros(2)}}, "truth"),
    ],
)
def test_what_is_no_table_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        Table(**options)


@settings(max_examples=60, deadline=None)
@given(table=tables())
def test_every_table_comes_back_from_arrow(table: Table) -> None:
    arrow = table.to_arrow()
    arrow.validate(full=True)
    assert arrow.num_columns == len(table)
    back = Table.from_arrow(arrow)
    native = {
        name: column.astype(column.dtype.newbyteorder("="))
        if isinstance(column, np.ndarray)
        else column
        for name, column in table.items()
    }
    assert back == Table(native, table.units, table.missing)


def test_arrow_sees_units_nulls_and_what_is_not_a_number() -> None:
    arrow = Table(
        {
            "area": np.array([1.0, np.nan, 0.0]),
            "ok": np.array([True, False, True]),
            "é": ("", "b", "c"),
        },
        {"area": "µm²"},
        {"area": np.array([False, False, True]), "é": np.array([True, False, False])},
    ).to_arrow()
    assert str(arrow.schema.field("area").type) == "double"
    assert arrow.schema.field("area").metadata == {b"unit": "µm²".encode()}
    assert arrow["area"].null_count == 1
    assert np.isnan(arrow["area"][1].as_py())
    assert arrow["ok"].to_pylist() == [True, False, True]
    assert arrow["é"].to_pylist() == [None, "b", "c"]


@pytest.mark.parametrize(
    "dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
)
def test_numbers_are_the_same_memory_on_both_sides(dtype: str) -> None:
    mine = np.arange(6).astype(dtype)
    arrow = Table({"a": mine}).to_arrow()
    back = Table.from_arrow(arrow)["a"]
    assert isinstance(back, np.ndarray)
    assert back.dtype == mine.dtype
    assert np.shares_memory(back, mine)
    part = Table.from_arrow(arrow.slice(2, 3))["a"]
    assert np.asarray(part).tolist() == [2, 3, 4]
    assert np.shares_memory(np.asarray(part), mine)
    assert not back.flags.writeable


def test_chunks_dictionaries_slices_and_batches_are_read() -> None:
    text = pa.array(["a", None, "b", "a"])
    arrow = pa.table(
        {
            "coded": pa.chunked_array([text.dictionary_encode(), text.dictionary_encode()]),
            "large": pa.chunked_array([text.cast(pa.large_string())] * 2),
            "number": pa.chunked_array([pa.array([1, 2, None, 4], pa.int16())] * 2),
            "truth": pa.array([True, None, False, True] * 2),
            "nothing": pa.nulls(8),
        }
    )
    table = Table.from_arrow(arrow.slice(1, 6))
    for name in ("coded", "large"):
        assert table[name] == ("", "b", "a", "a", "", "b")
        assert table.missing[name].tolist() == [True, False, False, False, True, False]
    assert np.asarray(table["number"]).tolist() == [2, 0, 4, 1, 2, 0]
    assert np.asarray(table["number"]).dtype == np.int16
    assert np.asarray(table["truth"]).tolist() == [False, False, True, True, False, False]
    assert table.missing["nothing"].all()
    assert np.isnan(np.asarray(table["nothing"])).all()
    batch = pa.record_batch({"a": pa.array([1, 2])})
    assert np.asarray(Table.from_arrow(batch)["a"]).tolist() == [1, 2]


@pytest.mark.parametrize("kind", [pa.string(), pa.int8(), pa.bool_(), pa.null(), pa.float64()])
def test_a_table_without_rows_keeps_its_types(kind: Any) -> None:
    for chunks in ([], [pa.nulls(0, kind)]):
        arrow = pa.table({"a": pa.chunked_array(chunks, kind)})
        table = Table.from_arrow(arrow)
        assert table.rows == 0
        again = table.to_arrow().schema.field("a").type
        assert again == (pa.float64() if kind == pa.null() else kind)


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (pa.array([1], pa.timestamp("us")), "'when' is of Arrow type timestamp.*int64"),
        (pa.array([1], pa.date32()), "date.*cast it to text"),
        (pa.array([1], pa.time32("s")), "time"),
        (pa.array([1], pa.duration("s")), "duration.*unit"),
        (pa.array([[1]]), "list.*row"),
        (pa.array([{"a": 1}]), "struct.*flatten"),
        (pa.array([b"x"]), "binary.*text"),
        (pa.array([1], pa.decimal128(5, 2)), "decimal.*float64"),
        (pa.array([b"x"]).dictionary_encode(), "binary"),
    ],
)
def test_columns_of_other_types_are_an_error_that_says_what_to_do(array: Any, what: str) -> None:
    with pytest.raises(ColumnTypeError, match=what):
        Table.from_arrow(pa.table({"when": array}))
    assert issubclass(ColumnTypeError, TypeError)


def test_broken_arrow_columns_are_an_error() -> None:
    two = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(PayloadError, match="'a'"):
        Table.from_arrow(two)
    latin = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32).data), pa.py_buffer(b"\xe9")]
    )
    with pytest.raises(PayloadError, match="broken"):
        Table.from_arrow(pa.table({"a": latin}))
    with pytest.raises(PayloadError, match="Unicode"):
        Table({"a": ("\ud800",)}).to_arrow()


def test_arrow_is_loaded_when_it_is_used_and_pandas_never() -> None:
    program = (
        "import sys, numpy as np, polystore\n"
        "assert 'pyarrow' not in sys.modules\n"
        "table = polystore.Table({'a': np.zeros(2), 'b': ('x', None), 'c': np.ones(2, bool)})\n"
        "assert polystore.Table.from_arrow(table.to_arrow()) == table\n"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_pyarrow_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import polystore\n"
        "try:\n    polystore.Table({}).to_arrow()\n"
        "except polystore.MissingExtraError as error:\n"
        "    assert 'polystore[arrow]' in str(error)\n"
        "else:\n    raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_units_and_missing_values_travel() -> None:
    table = Table(
        {"area": np.arange(9.0), "gene": tuple("abcdefghi")},
        {"area": "µm²", "gene": "symbol"},
        {"area": np.arange(9) == 2, "gene": np.arange(9) > 6},
    )
    assert decode(*encode(Payload(data=table, kind=Kind.TABLE))).table == table
