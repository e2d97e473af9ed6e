"""What it takes for two payloads to be equal."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from polystore._payload import Payload
from polystore._tables import Table
from polystore.regions._regions import Regions

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["assert_equal", "assert_same_data", "fingerprint"]

_REGIONS = ("vertices", "offsets", "rings", "kinds", "labels", "bits")


def assert_equal(one: Payload, other: Payload) -> None:
    """Check that two payloads are the same, bit for bit; NaN equals NaN.

    Raises
    ------
    AssertionError
        If they differ, with where.
    """
    for each in fields(Payload):
        if each.name == "data":
            continue
        mine, theirs = getattr(one, each.name), getattr(other, each.name)
        assert mine == theirs, f"{each.name} differs: {mine!r} and {theirs!r}"
    assert_same_data(one, other)


def assert_same_data(one: Payload, other: Payload) -> None:
    """Check that the data of two payloads are the same, bit for bit, whatever else they say.

    Raises
    ------
    AssertionError
        If they differ, with where.
    """
    a, b = one.data, other.data
    if isinstance(a, Table):
        _assert_same_tables(a, b)
    elif isinstance(a, Regions) and isinstance(b, Regions):
        for name in _REGIONS:
            _assert_same(getattr(a, name), getattr(b, name), name)
        _assert_same_tables(a.properties, b.properties)
    else:
        _assert_same(a, b, "data")


def fingerprint(payload: Payload) -> Hashable:
    """Make a value that is another one when anything of a payload is."""
    parts = [f"{each.name}={getattr(payload, each.name)!r}" for each in fields(Payload)[1:]]
    return (*parts, *_parts(payload.data))


def _parts(data: object) -> list[str]:
    """Say everything that data hold, however much it is."""
    if isinstance(data, np.ndarray):
        return [f"{data.dtype} {data.shape} {data.tobytes()!r}"]
    if isinstance(data, Regions):
        arrays = [part for name in _REGIONS for part in _parts(getattr(data, name))]
        return arrays + _parts(data.properties)
    if isinstance(data, Table):
        masks = [f"{name} {part}" for name, mask in data.missing.items() for part in _parts(mask)]
        columns = [f"{name} {part}" for name, column in data.items() for part in _parts(column)]
        return [*columns, *masks, repr(dict(data.units))]
    return [repr(data)]


def _assert_same_tables(one: Table, other: object) -> None:
    assert isinstance(other, Table), "the table is no table any more"
    assert list(one) == list(other), "columns differ"
    assert one.units == other.units, "units differ"
    assert one.missing.keys() == other.missing.keys(), "other columns miss values"
    for name, column in one.items():
        _assert_same(column, other[name], name)
    for name, mask in one.missing.items():
        _assert_same(mask, other.missing[name], f"missing values of {name}")


def _assert_same(one: object, other: object, what: str) -> None:
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray), f"{what} is no array any more"
        assert (one.dtype, one.shape) == (other.dtype, other.shape), f"{what} differs in type"
        assert one.tobytes() == other.tobytes(), f"{what} differs"
    else:
        assert one == other, f"{what} differs"
