"""Names without files, and a reader behind each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NoReturn, Protocol

from polystore._errors import (
    KeyNameError,
    NotStoredError,
    PolystoreError,
    ReadOnlyError,
    UnreadableError,
)
from polystore._keys import check_folder, check_key
from polystore._payload import Payload
from polystore._protocols import Capabilities
from polystore.backends._key_tree import KeyTree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polystore._keys import Folder

__all__ = ["Source", "VirtualBackend"]


class Source(Protocol):
    """Makes the payload that stands behind a key: from a server, from a formula, from a raw file.

    Called each time the key is loaded, by the thread that loads it; several may at once. Whatever
    it raises becomes an `UnreadableError`, unless it is one of polystore's errors already.
    """

    def __call__(self, key: str, /) -> Payload:
        """Make the payload."""
        ...


class VirtualBackend:
    """A `Reader` of keys that were registered, and of nothing else.

    It is for what is somewhere else and has names of its own, as the images of a server: listing
    and asking what there is touches no path and calls no source. Nothing can be stored.

    Parameters
    ----------
    sources
        What makes the payload, by key. One function may stand behind many keys.

    Raises
    ------
    KeyNameError
        If a key cannot be one, is a folder of others, or lies below one.

    Notes
    -----
    Several threads may read and register at once.
    """

    def __init__(self, sources: Mapping[str, Source] | None = None) -> None:
        self._lock = threading.Lock()
        self._sources: dict[str, Source] = {}
        self._tree = KeyTree()
        for key, source in (sources or {}).items():
            self.register(key, source)

    @property
    def capabilities(self) -> Capabilities:
        """It is only read from."""
        return Capabilities(reads=True)

    def register(self, key: str, source: Source) -> None:
        """Say what makes the payload of a key.

        Raises
        ------
        KeyNameError
            If `key` cannot be one, is registered already, is a folder of others, or lies below
            one.
        """
        check_key(key)
        with self._lock:
            if key in self._sources:
                raise KeyNameError(f"{key!r} is registered already: forget it first")
            self._tree.add(key)
            self._sources[key] = source

    def forget(self, key: str) -> None:
        """Take a key away; what is behind it stays as it is.

        Raises
        ------
        KeyNameError
            If `key` cannot be one.
        NotStoredError
            If it is not registered.
        """
        self._source(key)
        with self._lock:
            self._sources.pop(key, None)
            self._tree.discard(key)

    def load(self, key: str) -> Payload:
        """Have the payload made.

        Raises
        ------
        KeyNameError
            If `key` cannot be one.
        NotStoredError
            If it is not registered.
        UnreadableError
            If its source fails, or makes something else than a payload.
        """
        source = self._source(key)
        try:
            payload = source(key)
        except PolystoreError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UnreadableError(f"what is behind {key!r} failed: {reason}") from error
        if not isinstance(payload, Payload):
            raise UnreadableError(
                f"what is behind {key!r} made {type(payload).__name__} and not a Payload"
            )
        return payload

    def load_batch(self, keys: Iterable[str]) -> list[Payload]:
        """Have several payloads made, in the order of `keys`.

        Raises
        ------
        KeyNameError, NotStoredError, UnreadableError
            At the first that cannot be made, as `load`.
        """
        return [self.load(key) for key in keys]

    def exists(self, key: str) -> bool:
        """Say whether `key` is registered; its source is not called.

        Raises
        ------
        KeyNameError
            If `key` cannot be one.
        """
        return check_key(key) in self._sources

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

    def store(self, key: str, payload: Payload) -> NoReturn:  # noqa: ARG002
        """Refuse to write.

        Raises
        ------
        ReadOnlyError
            Always.
        """
        raise _read_only(key)

    def delete(self, key: str) -> NoReturn:
        """Refuse to delete; `forget` takes a key away.

        Raises
        ------
        ReadOnlyError
            Always.
        """
        raise _read_only(key)

    def _source(self, key: str) -> Source:
        try:
            return self._sources[check_key(key)]
        except KeyError as error:
            raise NotStoredError(f"nothing is registered under {key!r}") from error


def _read_only(key: str) -> ReadOnlyError:
    return ReadOnlyError(
        f"{key!r} cannot be written or deleted: behind these names are readers and no files; "
        "store it in another backend"
    )
