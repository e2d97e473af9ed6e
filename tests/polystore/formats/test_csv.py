from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.csv
import pytest
from hypothesis import given, settings

from polystore import Components, FormatError, Kind, Payload, Table, UnreadableError
from polystore.formats import CsvFormat, Format, standard_formats
from polystore.testing import FormatTests, assert_equal
from polystore.testing.strategies import payloads

if TYPE_CHECKING:
    from polystore import Column

CSV = CsvFormat()


class TestCsv(FormatTests):
    notices_cuts = False

    def make(self) -> Format:
        return CsvFormat()

    def holds(self, payload: Payload) -> bool:
        return payload.kind in self.make().kinds and not (
            payload.kind is Kind.TABLE and has_two_sorts_of_nothing(payload.table)
        )


def has_two_sorts_of_nothing(table: Table) -> bool:
    return any(
        not isinstance(table[name], np.ndarray) and list(table[name]).count("") > mask.sum()
        for name, mask in table.missing.items()
    )


def written(payload: Payload) -> bytes:
    stream = io.BytesIO()
    CSV.write(payload, stream)
    return stream.getvalue()


def read(content: str | bytes) -> Payload:
    raw = content.encode() if isinstance(content, str) else content
    return CSV.read(io.BytesIO(raw), "cells.csv")


def table(columns: dict[str, Column], **said: Any) -> Payload:
    return Payload(data=Table(columns), kind=Kind.TABLE, **said)


def with_one_nan(payload: Payload) -> Payload:
    """The same with NaN as numpy writes it, of which there are many."""
    if payload.kind is Kind.POINTS:
        points = payload.array.copy()
        points[np.isnan(points)] = np.nan
        return Payload(data=points, kind=Kind.POINTS, components=payload.components)
    columns: dict[str, Column] = {}
    for name, column in payload.table.items():
        made = column
        if isinstance(made, np.ndarray) and made.dtype.kind == "f":
            made = made.copy()
            made[np.isnan(made)] = np.nan
        columns[name] = made
    return Payload(
        data=Table(columns, payload.table.units, payload.table.missing),
        kind=Kind.TABLE,
        components=payload.components,
    )


@settings(max_examples=40)
@given(payloads((Kind.TABLE, Kind.POINTS)))
def test_columns_of_any_bits_come_back(payload: Payload) -> None:
    payload = with_one_nan(payload)
    if CSV.refusal(payload) is not None:
        return
    try:
        content = written(payload)
    except FormatError as error:
        assert "not Unicode" in str(error)  # noqa: PT017
        return
    assert_equal(read(content), payload)


def test_what_needs_no_note_has_none() -> None:
    columns: dict[str, Column] = {
        "well": ("A01", "007", ""),
        "count": np.array([1, -2, 3]),
        "mean": np.array([1.0, 1 / 3, np.nan]),
        "ok": np.array([True, False, True]),
    }
    content = written(table(columns))
    assert content.decode().splitlines() == [
        "well,count,mean,ok",
        "A01,1,1.0,True",
        "007,-2,0.3333333333333333,False",
        ",3,NaN,True",
    ]


def test_a_note_is_the_name_of_a_last_column_that_is_empty() -> None:
    payload = table(
        {"a": np.array([1, 2], "u1"), "b": ("x", "y")}, components=Components(well="B03")
    )
    rows = list(csv.reader(io.StringIO(written(payload).decode())))
    assert [row[:2] for row in rows] == [["a", "b"], ["1", "x"], ["2", "y"]]
    assert rows[0][2].startswith('polystore {"polystore": 1, "kind": "table", "components"')
    assert [row[2:] for row in rows[1:]] == [[""], [""]]


def test_arrow_and_numpy_open_them() -> None:
    payload = table(
        {"area": np.array([0.1, 1e300, 5e-324]), "n": np.array([1, 2, 3], "u2")},
        name="cells",
    )
    content = written(payload)
    opened = pyarrow.csv.read_csv(io.BytesIO(content))
    assert opened["area"].to_pylist() == [0.1, 1e300, 5e-324]
    assert opened["n"].to_pylist() == [1, 2, 3]
    numbers = np.loadtxt(io.BytesIO(content), delimiter=",", skiprows=1, usecols=(0, 1))
    assert numbers[:, 0].tolist() == [0.1, 1e300, 5e-324]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n1\n2\n", np.array([1, 2])),
        ("a\r\n1\r\n\r\n", np.array([1])),
        ("a\n9223372036854775808\n", np.array([2**63], "u8")),
        ("a\n9223372036854775808\n-1\n", ("9223372036854775808", "-1")),
        ("a\n1\n2.5\n", np.array([1, 2.5])),
        ("a\n.5\n1e3\n+2\n-INF\nnan\n", np.array([0.5, 1000, 2, -np.inf, np.nan])),
        ("a\n007\n008\n", ("007", "008")),
        ("a\n1_000\n", ("1_000",)),
        ("a\nTRUE\nfalse\n", np.array([True, False])),
        ("a\nTRUE\n1\n", ("TRUE", "1")),
        ("\ufeffa\nµ\n", ("µ",)),
        ('a\n"two\nlines"\n', ("two\nlines",)),
        ("a\n", ()),
    ],
)
def test_what_others_wrote_is_a_plain_table(text: str, expected: Any) -> None:
    assert_equal(read(text), table({"a": expected}))


def test_empty_cells_are_missing_numbers_and_empty_texts() -> None:
    found = read(",n,f,b,t\nx,1,,,\ny,,2.5,True,z\n").table
    assert list(found) == ["column 1", "n", "f", "b", "t"]
    assert {name: mask.tolist() for name, mask in found.missing.items()} == {
        "n": [False, True],
        "f": [True, False],
        "b": [True, False],
    }
    assert found["t"] == ("", "z")


def test_a_row_that_a_person_adds_is_read() -> None:
    content = written(table({"a": np.array([1, 2], "u1"), "b": ("x", "y")})).decode()
    edited = read(content + "3,z,\r\n").table
    assert edited["a"].tolist() == [1, 2, 3]  # type: ignore[union-attr]  # an array
    assert edited["a"].dtype == np.uint8  # type: ignore[union-attr]  # an array
    with pytest.raises(UnreadableError, match=r"cells\.csv: column 'a' has numbers.*beyond uint8"):
        read(content + "300,z,\r\n")
    with pytest.raises(UnreadableError, match=r"column 'a' is uint8, and a cell is not: .*'many'"):
        read(content + "many,z,\r\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no header"),
        ("\n", "no header"),
        ("a,b\n1\n", "line 2: 1 cells, and there are 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 cells"),
        ("a,a\n1,2\n", "several columns are called a"),
        (",column 1\n1,2\n", "several columns are called column 1"),
        ("a;b\n1;2\n", "separated by ';'"),
        ("a\tb\n1\t2\n", r"separated by '\\t'"),
        ('a\n"open', "line 2"),
        ('a\n"x"y\n', "line 2"),
        ("a\n" + "x" * 200_000, "line 2: field larger"),
        (b"a\n\xff\n", "UTF-8"),
        ('a,"polystore {""polystore"": 1, ""kind"": ""table""}"\n1,2\n', "has to be empty"),
        ('a,"polystore {""polystore"": 1, ""kind"": ""points""}"\n1,\n', "columns y and x"),
        ('a,"polystore {""polystore"": 1, ""kind"": ""image""}"\n1,\n', "has to be an array"),
        ('a,"polystore {""polystore"": 9}"\n1,\n', "newer polystore"),
        ('a,"polystore {broken"\n1,\n', "damaged"),
    ],
)
def test_what_is_no_table_is_an_error_that_says_where(text: str | bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason) as caught:
        read(text)
    assert "cells.csv" in str(caught.value)


def test_two_sorts_of_nothing_are_refused() -> None:
    payload = Payload(
        data=Table({"a": ("", "", "x")}, {}, {"a": np.array([True, False, False])}),
        kind=Kind.TABLE,
    )
    with pytest.raises(FormatError, match=r"'a' has empty texts and missing.*Parquet"):
        standard_formats().to_bytes("a.csv", payload)


@pytest.mark.parametrize(
    "payload",
    [
        table({"a": ("x" * 200_000,)}),
        table({"polystore {a": ("x",)}),
        table({"a": ("\ud800",)}),
        table({f"{number:0250}": np.zeros(1, "u1") for number in range(900)}),
    ],
)
def test_what_no_cell_can_hold_is_refused(payload: Payload) -> None:
    with pytest.raises(FormatError):
        standard_formats().to_bytes("a.csv", payload)


def test_a_name_that_begins_with_a_byte_order_mark_keeps_it() -> None:
    payload = table({"\ufeffa": np.array([1])})
    assert_equal(read(written(payload)), payload)


@pytest.mark.parametrize(
    "payload",
    [
        table({}, components=Components(step=";")),
        table({"a;b": ("x",)}),
        table({"a\tb": np.array([1])}),
    ],
)
def test_a_separator_of_others_in_a_name_is_a_part_of_it(payload: Payload) -> None:
    assert_equal(read(written(payload)), payload)
