"""Payloads in the memory of this process."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import NotStoredError
from polystore._keys import check_folder, check_key, key_of
from polystore._protocols import Capabilities
from polystore._tables import Table
from polystore.backends._key_tree import KeyTree
from polystore.regions._regions import Regions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore._keys import Folder
    from polystore._payload import Data, Payload

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Keeps payloads by key until they are deleted; a `Reader`, a `Writer` and a `DataSink`.

    Parameters
    ----------
    copy
        True: arrays are copied when stored, so the caller may go on changing its own. False: the
        store refers to the caller's memory, which the caller must not change any more.

    Notes
    -----
    What `load` gives is read-only either way, and the same memory each time. Several threads may
    read and write at once. Storing takes as long as the key has parts, listing a folder as long as
    it has entries, however many keys there are.
    """

    def __init__(self, *, copy: bool) -> None:
        self._capabilities = Capabilities(takes=True, reads=True, writes=True, copies=copy)
        self._lock = threading.Lock()  # around the keys, never while an array is copied
        self._kept: dict[str, Payload] = {}
        self._tree = KeyTree()

    @property
    def capabilities(self) -> Capabilities:
        """It holds everything, for as long as this process lives."""
        return self._capabilities

    def store(self, key: str, payload: Payload) -> None:
        """Keep a payload under `key`, in place of what was there.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key, is a folder of others, or lies below one.
        """
        check_key(key)
        copied = self._capabilities.copies
        kept = replace(payload, data=_copied(payload.data)) if copied else payload
        with self._lock:
            if key not in self._kept:
                self._tree.add(key)
            self._kept[key] = kept

    def store_batch(self, items: Iterable[tuple[str, Payload]]) -> None:
        """Keep several payloads, as `store` does.

        Raises
        ------
        KeyNameError
            At the first key that cannot be one; what came before is kept.
        """
        for key, payload in items:
            self.store(key, payload)

    def load(self, key: str) -> Payload:
        """Give back what is kept under `key`.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If nothing is kept under it.
        """
        try:
            return self._kept[check_key(key)]
        except KeyError as error:
            raise NotStoredError(f"nothing is kept in memory under {key!r}") from error

    def load_batch(self, keys: Iterable[str]) -> list[Payload]:
        """Give back what is kept under several keys, in their order.

        Raises
        ------
        KeyNameError, NotStoredError
            At the first that cannot be given, as `load`.
        """
        return [self.load(key) for key in keys]

    def exists(self, key: str) -> bool:
        """Say whether something is kept under `key`.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        """
        return check_key(key) in self._kept

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that start with `prefix`, sorted."""
        with self._lock:
            return self._tree.keys(prefix)

    def folder(self, name: str = "") -> Folder:
        """List what lies directly in a folder.

        Raises
        ------
        KeyNameError
            If `name` is neither empty nor could be a key.
        """
        check_folder(name)
        with self._lock:
            return self._tree.folder(name)

    def delete(self, key: str) -> None:
        """Remove what is kept under `key`.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If nothing is kept under it.
        """
        check_key(key)
        with self._lock:
            if key not in self._kept:
                raise NotStoredError(f"nothing is kept in memory under {key!r}")
            del self._kept[key]
            self._tree.discard(key)

    def save(self, payload: Payload) -> None:
        """Keep a payload under a key made of its components, kind and name.

        So that a memory store can stand where payloads are sent.

        Raises
        ------
        KeyNameError
            If a name is so long that the key is too long.
        """
        self.store(key_of(payload), payload)

    def save_batch(self, payloads: Iterable[Payload]) -> None:
        """Keep several payloads, as `save` does.

        Raises
        ------
        KeyNameError
            At the first whose key is too long; those before it are kept.
        """
        for payload in payloads:
            self.save(payload)


def _copied(data: Data) -> Data:
    if isinstance(data, np.ndarray):
        return data.copy()
    if isinstance(data, Regions | Table):
        return data.copy()
    return data
