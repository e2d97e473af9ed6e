from __future__ import annotations

import builtins
import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polystore import (
    KeyNameError,
    NotStoredError,
    Payload,
    Reader,
    ReadOnlyError,
    UnreadableError,
    Writer,
)
from polystore.backends import VirtualBackend
from polystore.testing import ReaderTests, assert_equal

if TYPE_CHECKING:
    from collections.abc import Mapping

PLANE = Payload(data=np.arange(6, dtype=np.uint16).reshape(2, 3))


class TestVirtual(ReaderTests):
    def filled(self, items: Mapping[str, Payload]) -> Reader:
        return VirtualBackend(dict.fromkeys(items, items.__getitem__))


@pytest.mark.req("002.12")
def test_listing_touches_no_path_and_calls_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def source(key: str) -> Payload:
        asked.append(key)
        return PLANE

    backend = VirtualBackend()
    for number in range(100):
        backend.register(f"screen/plate {number % 10}/image {number}", source)

    def touched(*arguments: Any, **_: Any) -> Any:
        raise AssertionError(f"a path was touched: {arguments}")

    with monkeypatch.context() as patch:
        for place, name in (
            (builtins, "open"),
            (io, "open"),
            *((os, name) for name in ("open", "stat", "lstat", "listdir", "scandir", "access")),
        ):
            patch.setattr(place, name, touched)
        assert len(backend.keys()) == 100
        assert len(backend.folder("screen").folders) == 10
        assert len(backend.folder("screen/plate 3").keys) == 10
        assert backend.exists("screen/plate 3/image 3")
        assert not backend.exists("screen/plate 3/image 4")
        assert asked == []
        assert_equal(backend.load("screen/plate 3/image 3"), PLANE)
        assert asked == ["screen/plate 3/image 3"]


@pytest.mark.req("002.12")
def test_nothing_can_be_written() -> None:
    backend = VirtualBackend({"a": lambda _: PLANE})
    for key in ("a", "b"):
        with pytest.raises(ReadOnlyError, match=f"'{key}' cannot be written or deleted"):
            backend.store(key, PLANE)
        with pytest.raises(OSError, match="store it in another backend"):
            backend.delete(key)
    assert backend.keys() == ["a"]
    assert not isinstance(backend, Writer)
    assert not backend.capabilities.writes


def test_what_a_source_raises_names_the_key() -> None:
    def fails(_: str) -> Payload:
        raise ConnectionError("the server is away")

    def is_known(key: str) -> Payload:
        raise UnreadableError(f"{key} was never uploaded")

    def nonsense(_: str) -> Any:
        return PLANE.array

    backend = VirtualBackend({"a/1": fails, "a/2": is_known, "a/3": nonsense})
    with pytest.raises(UnreadableError, match=r"'a/1' failed: ConnectionError: the server is") as e:
        backend.load("a/1")
    assert isinstance(e.value.__cause__, ConnectionError)
    with pytest.raises(UnreadableError, match="a/2 was never uploaded"):
        backend.load("a/2")
    with pytest.raises(UnreadableError, match="'a/3' made ndarray and not a Payload"):
        backend.load("a/3")


def test_a_key_is_registered_once_and_can_be_forgotten() -> None:
    backend = VirtualBackend({"a/b": lambda _: PLANE})
    for key in ("a/b", "a", "a/b/c", "../a"):
        with pytest.raises(KeyNameError, match=key):
            backend.register(key, lambda _: PLANE)
    backend.forget("a/b")
    with pytest.raises(NotStoredError, match="a/b"):
        backend.forget("a/b")
    backend.register("a", lambda _: PLANE)
    assert backend.keys() == ["a"]
