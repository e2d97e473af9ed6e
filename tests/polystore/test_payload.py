from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from polystore import Components, Kind, Payload, PayloadError, Regions
from polystore._components import sort_key
from polystore.testing.strategies import components


def test_components_are_shown_in_their_order() -> None:
    where = Components(z=3, well="B03", channel=0, step="stitch")
    assert where.label() == "stitch B03 c0 z3"
    assert list(where.to_dict()) == ["step", "well", "channel", "z"]


@given(where=components())
def test_components_come_back_from_their_values(where: Components) -> None:
    assert Components.from_dict(where.to_dict()) == where


def test_numbers_of_numpy_become_plain_ones() -> None:
    where = Components(field=np.int64(3))  # type: ignore[arg-type]  # out of a table
    assert type(where.field) is int


@pytest.mark.parametrize(
    "wrong",
    [{"channel": -1}, {"z": True}, {"t": 1.5}, {"well": ""}, {"well": 3}, {"field": 2**31}],
)
def test_components_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(PayloadError, match=name):
        Components(**wrong)


def test_wells_are_sorted_as_on_the_plate() -> None:
    wells = ["AA01", "B1", "A10", "A2", "A01", "H12"]
    assert sorted(wells, key=sort_key) == ["A01", "A2", "A10", "B1", "H12", "AA01"]
    assert sorted([10, 2, 0], key=sort_key) == [0, 2, 10]


def test_a_payload_cannot_be_changed() -> None:
    mine = np.zeros((2, 2), np.uint8)
    payload = Payload(data=mine)
    with pytest.raises(FrozenInstanceError):
        payload.name = "x"  # type: ignore[misc]  # that is the point
    with pytest.raises(ValueError, match="read-only"):
        payload.array[0, 0] = 1
    mine[0, 0] = 1  # the caller's own array stays writable


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"data": np.zeros((2, 2), object)}, "object"),
        ({"data": np.zeros((2, 2), complex)}, "complex"),
        ({"data": np.zeros((2, 2), [("a", "u2")])}, "cannot be sent"),
        ({"data": np.zeros(3)}, "axes"),
        ({"data": np.zeros((2, 2, 2, 2))}, "axes"),
        ({"data": np.zeros((2, 2, 2)), "axes": ("well", "y", "x")}, "well"),
        ({"data": np.zeros((2, 2, 2)), "components": Components(z=1)}, "z"),
        ({"data": "text"}, "array"),
        ({"data": np.zeros((2, 2)), "kind": Kind.LABELS}, "integers"),
        ({"data": np.zeros((2, 3)), "kind": Kind.POINTS}, "points"),
        ({"data": np.zeros((2, 2), int), "kind": Kind.POINTS}, "points"),
        ({"data": np.zeros((2, 2)), "kind": Kind.TABLE}, "mapping"),
        ({"data": {"a": np.zeros(2), "b": np.zeros(3)}, "kind": Kind.TABLE}, "3 rows"),
        ({"data": {"a": np.zeros((2, 2))}, "kind": Kind.TABLE}, "rows"),
        ({"data": {"a": [1, 2]}, "kind": Kind.TABLE}, "str"),
        ({"data": {"": np.zeros(2)}, "kind": Kind.TABLE}, "name"),
        ({"data": np.zeros((2, 2)), "kind": Kind.TEXT}, "text"),
        ({"data": np.zeros((2, 2)), "kind": Kind.REGIONS}, "Regions"),
        ({"data": "a", "kind": Kind.TEXT, "axes": ("y", "x")}, "no axes"),
        ({"data": np.zeros((2, 2)), "pixel_um": (0, 1)}, "pixel_um"),
        ({"data": np.zeros((2, 2)), "origin_um": (float("inf"), 1)}, "origin_um"),
        ({"data": np.zeros((2, 2)), "contrast_limits": (2, 1)}, "contrast_limits"),
        ({"data": np.zeros((2, 2)), "run": "x" * 5000}, "run"),
    ],
)
def test_what_is_no_payload_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        Payload(**options)


def test_each_kind_gives_its_own_data() -> None:
    table = Payload(data={"gene": np.array(["TP53", "MYC"])}, kind=Kind.TABLE)
    assert table.table["gene"] == ("TP53", "MYC")
    assert Payload(data="hello", kind=Kind.TEXT).text == "hello"
    regions = Regions.from_polygons([[[0, 0], [0, 2], [2, 2]]], [7])
    assert Payload(data=regions, kind=Kind.REGIONS).regions == regions
    for wrong in ("array", "regions", "text"):
        with pytest.raises(PayloadError, match="table"):
            getattr(table, wrong)
