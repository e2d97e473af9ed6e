"""The suites find what they are for: each store here does one thing wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polystore import Capabilities, NotStoredError, Payload, check_key
from polystore.backends import MemoryBackend
from polystore.testing import BackendTests, Store


class Right(MemoryBackend):
    def __init__(self) -> None:
        super().__init__(copy=True)


class Aliases(MemoryBackend):
    def __init__(self) -> None:
        super().__init__(copy=False)

    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, copies=True)


class LosesComponents(Right):
    def store(self, key: str, payload: Payload) -> None:
        super().store(key, Payload(data=payload.data, kind=payload.kind, axes=payload.axes))


class ChangesByteOrder(Right):
    def store(self, key: str, payload: Payload) -> None:
        if isinstance(payload.data, np.ndarray):
            native = payload.data.astype(payload.data.dtype.newbyteorder("="))
            payload = replace(payload, data=native)
        super().store(key, payload)


class TakesAnyKey(Right):
    def exists(self, key: str) -> bool:
        return key in self.keys()


class ListsByFolderOnly(Right):
    def keys(self, prefix: str = "") -> list[str]:
        folder = prefix.rpartition("/")[0]
        return [key for key in super().keys("") if not folder or key.startswith(f"{folder}/")]


class DeletesInSilence(Right):
    def delete(self, key: str) -> None:
        check_key(key)
        if self.exists(key):
            super().delete(key)


class DoesNotNameTheKey(Right):
    def load(self, key: str) -> Payload:
        check_key(key)
        if not self.exists(key):
            raise NotStoredError("there is nothing")
        return super().load(key)


class KeepsTheFirst(Right):
    def store(self, key: str, payload: Payload) -> None:
        check_key(key)
        if key not in self.keys():
            super().store(key, payload)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Aliases, "test_what_a_copying_store_keeps_is_its_own"),
        (LosesComponents, "test_what_is_kept_comes_back"),
        (ChangesByteOrder, "test_what_is_kept_comes_back"),
        (TakesAnyKey, "test_what_cannot_be_a_key_is_an_error_that_names_it"),
        (ListsByFolderOnly, "test_keys_are_listed_by_what_they_start_with"),
        (DeletesInSilence, "test_what_is_deleted_is_gone"),
        (DoesNotNameTheKey, "test_what_is_not_there_is_an_error_that_names_it"),
        (KeepsTheFirst, "test_the_last_one_stored_counts"),
    ],
)
def test_the_suite_finds_what_is_wrong(kind: type[Store], test: str) -> None:
    class Tests(BackendTests):
        def make(self) -> Store:
            return kind()

    with pytest.raises(AssertionError):
        getattr(Tests(), test)()
