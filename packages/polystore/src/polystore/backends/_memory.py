"""Payloads in the memory of this process."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import NotStoredError
from polystore._regions import Regions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore._payload import Data, Payload

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Keeps payloads by key until they are deleted; a `Reader` and a `Writer`.

    Parameters
    ----------
    copy
        True: arrays are copied when stored, so the caller may go on changing its own. False: the
        store refers to the caller's memory, which the caller must not change any more.

    Notes
    -----
    What `load` gives is read-only either way, and the same memory each time. Several threads may
    load at once; one at a time may store or delete.
    """

    def __init__(self, *, copy: bool) -> None:
        self._copy = copy
        self._kept: dict[str, Payload] = {}
        self._keys: list[str] = []

    def store(self, key: str, payload: Payload) -> None:
        """Keep a payload under `key`, in place of what was there."""
        kept = replace(payload, data=_copied(payload.data)) if self._copy else payload
        if key not in self._kept:
            insort(self._keys, key)
        self._kept[key] = kept

    def load(self, key: str) -> Payload:
        """Give back what is kept under `key`.

        Raises
        ------
        NotStoredError
            If nothing is.
        """
        try:
            return self._kept[key]
        except KeyError as error:
            raise NotStoredError(f"nothing is kept in memory under {key!r}") from error

    def exists(self, key: str) -> bool:
        """Say whether something is kept under `key`."""
        return key in self._kept

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that start with `prefix`, sorted."""
        found = []
        for at in range(bisect_left(self._keys, prefix), len(self._keys)):
            if not self._keys[at].startswith(prefix):
                break
            found.append(self._keys[at])
        return found

    def delete(self, key: str) -> None:
        """Remove what is kept under `key`.

        Raises
        ------
        NotStoredError
            If nothing is.
        """
        if key not in self._kept:
            raise NotStoredError(f"nothing is kept in memory under {key!r}")
        del self._kept[key]
        del self._keys[bisect_left(self._keys, key)]

    def save(self, payload: Payload) -> None:
        """Keep a payload under a key made of its components, kind and name.

        So that a memory store can stand where payloads are sent: a `DataSink`.
        """
        self.store(key_of(payload), payload)

    def save_batch(self, payloads: Iterable[Payload]) -> None:
        """Keep several payloads, as `save` does."""
        for payload in payloads:
            self.save(payload)


def key_of(payload: Payload) -> str:
    """Key that tells a payload from all others of a run: ``well=B03/channel=1/image/stitched``."""
    parts = [f"{name}={value}" for name, value in payload.components.to_dict().items()]
    return "/".join([*parts, str(payload.kind), payload.name])


def _copied(data: Data) -> Data:
    if isinstance(data, np.ndarray):
        return data.copy()
    if isinstance(data, Regions):
        return Regions(data.vertices.copy(), data.offsets.copy(), data.labels.copy())
    if isinstance(data, str):
        return data
    return {
        name: column.copy() if isinstance(column, np.ndarray) else column
        for name, column in data.items()
    }
