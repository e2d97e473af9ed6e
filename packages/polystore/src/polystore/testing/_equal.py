"""What it takes for two payloads to be equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from polystore._payload import Payload

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["assert_equal", "assert_same_data", "fingerprint"]


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
    if isinstance(a, Mapping):
        assert isinstance(b, Mapping)
        assert list(a) == list(b), "columns differ"
        for name, column in a.items():
            _assert_same(column, b[name], name)
    else:
        _assert_same(a, b, "data")


def fingerprint(payload: Payload) -> Hashable:
    """Make a value that is another one when anything of a payload is."""
    data = payload.data
    parts = [f"{each.name}={getattr(payload, each.name)!r}" for each in fields(Payload)[1:]]
    columns = data.values() if isinstance(data, Mapping) else (data,)
    for column in columns:
        if isinstance(column, np.ndarray):
            parts.append(f"{column.dtype} {column.shape} {column.tobytes()!r}")
        else:
            parts.append(repr(column))
    return tuple(parts)


def _assert_same(one: object, other: object, what: str) -> None:
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray), f"{what} is no array any more"
        assert (one.dtype, one.shape) == (other.dtype, other.shape), f"{what} differs in type"
        assert one.tobytes() == other.tobytes(), f"{what} differs"
    else:
        assert one == other, f"{what} differs"
