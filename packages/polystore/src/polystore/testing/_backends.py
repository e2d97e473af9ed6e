"""The suite that a store of payloads has to pass, and what it takes for two to be equal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from typing import Protocol

import numpy as np

from polystore._components import Components
from polystore._errors import NotStoredError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._protocols import Reader, Writer

__all__ = ["BackendTests", "Store", "assert_equal", "assert_same_data"]


class Store(Reader, Writer, Protocol):
    """A place that payloads can be written to and read from."""


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


def _assert_same(one: object, other: object, what: str) -> None:
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray), f"{what} is no array any more"
        assert (one.dtype, one.shape) == (other.dtype, other.shape), f"{what} differs in type"
        assert one.tobytes() == other.tobytes(), f"{what} differs"
    else:
        assert one == other, f"{what} differs"


class BackendTests(ABC):
    """Subclass it in a test module and say how to make an empty store; pytest runs the rest."""

    @abstractmethod
    def make(self) -> Store:
        """Make an empty store. Called once in each test."""

    def test_what_is_stored_comes_back(self) -> None:
        """A payload comes back equal."""
        store = self.make()
        payload = _payload()
        store.store("a/b", payload)
        assert_equal(store.load("a/b"), payload)

    def test_what_comes_back_is_read_only(self) -> None:
        """Nobody can change what is stored by what they were given."""
        store = self.make()
        store.store("a", _payload())
        assert not store.load("a").array.flags.writeable

    def test_the_last_one_stored_counts(self) -> None:
        """A key has one payload."""
        store = self.make()
        store.store("a", _payload())
        store.store("a", _payload(7))
        assert_equal(store.load("a"), _payload(7))
        assert store.keys() == ["a"]

    def test_keys_are_listed_by_what_they_start_with(self) -> None:
        """Sorted, and only those asked for."""
        store = self.make()
        for key in ("b/2", "a/2", "a/1", "ab"):
            store.store(key, _payload())
        assert store.keys() == ["a/1", "a/2", "ab", "b/2"]
        assert store.keys("a/") == ["a/1", "a/2"]

    def test_what_is_deleted_is_gone(self) -> None:
        """And may be stored again."""
        store = self.make()
        store.store("a", _payload())
        store.delete("a")
        assert not store.exists("a")
        assert store.keys() == []
        store.store("a", _payload())
        assert store.exists("a")

    def test_what_is_not_there_is_an_error_that_names_it(self) -> None:
        """For reading and for deleting."""
        store = self.make()
        for act in (store.load, store.delete):
            try:
                act("nothing/here")
            except NotStoredError as error:
                assert "nothing/here" in str(error)  # noqa: PT017  # pytest is not needed here
            else:
                raise AssertionError("an absent key was not an error")


def _payload(first: int = 0) -> Payload:
    plane = np.arange(first, first + 6, dtype=np.uint16).reshape(2, 3)
    return Payload(data=plane, components=Components(well="A01", channel=1), kind=Kind.IMAGE)
