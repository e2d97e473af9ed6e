"""Several backends under names, and one set of verbs for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polystore._errors import KeyNameError, ReadOnlyError, UnknownBackendError, WriteOnlyError
from polystore._protocols import Backend, Capabilities, DataSink, Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polystore._keys import Folder
    from polystore._payload import Payload

__all__ = ["FileManager"]


class FileManager:
    """Routes each call to the backend that the call names.

    Nothing is tried elsewhere when a backend does not have a key, or does not do what it is asked:
    where something is kept is said by whoever stores it.

    Parameters
    ----------
    backends
        By the names that calls use.

    Raises
    ------
    KeyNameError
        If a name is empty or no text.

    Examples
    --------
    ::

        files = FileManager({"memory": MemoryBackend(copy=False), "disk": DiskStore(folder)})
        files.store("memory", "B03/stitched", payload)
        files.load("disk", "B03/raw.tif")

    Notes
    -----
    It is as good for several threads as its backends are, once they were added.
    """

    def __init__(self, backends: Mapping[str, Backend] | None = None) -> None:
        self._backends: dict[str, Backend] = {}
        for name, backend in (backends or {}).items():
            self.add(name, backend)

    def add(self, name: str, backend: Backend) -> None:
        """Add a backend under a name.

        Raises
        ------
        KeyNameError
            If the name is taken, empty or no text.
        """
        if type(name) is not str or not name:
            raise KeyNameError(f"the name of a backend is text that is not empty, not {name!r}")
        if name in self._backends:
            raise KeyNameError(f"a backend is called {name!r} already")
        self._backends[name] = backend

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the backends, in the order in which they were added."""
        return tuple(self._backends)

    def backend(self, name: str) -> Backend:
        """Return a backend.

        Raises
        ------
        UnknownBackendError
            If none has this name; the message lists those there are.
        """
        try:
            return self._backends[name]
        except KeyError as error:
            raise UnknownBackendError(
                f"no backend is called {name!r}; there are: {', '.join(self._backends) or 'none'}"
            ) from error

    def capabilities(self, name: str) -> Capabilities:
        """Say what a backend does.

        Raises
        ------
        UnknownBackendError
            If none has this name.
        """
        return self.backend(name).capabilities

    def load(self, name: str, key: str) -> Payload:
        """Read one payload.

        Raises
        ------
        UnknownBackendError
            If no backend has this name.
        WriteOnlyError
            If the backend cannot be read from.
        KeyNameError, NotStoredError, UnreadableError
            As `Reader.load`.
        """
        return self._reader(name).load(key)

    def load_batch(self, name: str, keys: Iterable[str]) -> list[Payload]:
        """Read several payloads, in the order of `keys`.

        Raises
        ------
        UnknownBackendError, WriteOnlyError
            As `load`.
        KeyNameError, NotStoredError, UnreadableError
            At the first that cannot be read.
        """
        return self._reader(name).load_batch(keys)

    def exists(self, name: str, key: str) -> bool:
        """Say whether something is kept under `key`.

        Raises
        ------
        UnknownBackendError, WriteOnlyError, KeyNameError
            As `load`.
        """
        return self._reader(name).exists(key)

    def keys(self, name: str, prefix: str = "") -> list[str]:
        """List the keys that start with `prefix`, sorted.

        Raises
        ------
        UnknownBackendError, WriteOnlyError
            As `load`.
        """
        return self._reader(name).keys(prefix)

    def folder(self, name: str, folder: str = "") -> Folder:
        """List what lies directly in a folder.

        Raises
        ------
        UnknownBackendError, WriteOnlyError, KeyNameError
            As `load`.
        """
        return self._reader(name).folder(folder)

    def store(self, name: str, key: str, payload: Payload) -> None:
        """Keep a payload under `key`, in place of what was there.

        Raises
        ------
        UnknownBackendError
            If no backend has this name.
        ReadOnlyError
            If nothing can be kept in the backend under a key.
        KeyNameError, UnknownFormatError, FormatError, NotWrittenError
            As `Writer.store`.
        """
        self._writer(name).store(key, payload)

    def store_batch(self, name: str, items: Iterable[tuple[str, Payload]]) -> None:
        """Keep several payloads under their keys, in their order.

        Raises
        ------
        UnknownBackendError, ReadOnlyError
            As `store`.
        StorageError
            At the first that cannot be kept; those before it are.
        """
        self._writer(name).store_batch(items)

    def delete(self, name: str, key: str) -> None:
        """Remove what is kept under `key`.

        Raises
        ------
        UnknownBackendError, ReadOnlyError
            As `store`.
        KeyNameError, NotStoredError, NotWrittenError
            As `Writer.delete`.
        """
        self._writer(name).delete(key)

    def save(self, name: str, payload: Payload) -> None:
        """Hand a payload to a sink, as a viewer, or to a store that makes the key of it.

        Raises
        ------
        UnknownBackendError
            If no backend has this name.
        ReadOnlyError
            If the backend takes nothing.
        PolystoreError
            As `DataSink.save`.
        """
        self._sink(name).save(payload)

    def save_batch(self, name: str, payloads: Iterable[Payload]) -> None:
        """Hand several payloads to a sink, in their order.

        Raises
        ------
        UnknownBackendError, ReadOnlyError
            As `save`.
        PolystoreError
            At the first that cannot be taken; those before it are.
        """
        self._sink(name).save_batch(payloads)

    def _reader(self, name: str) -> Reader:
        backend = self.backend(name)
        if backend.capabilities.reads and isinstance(backend, Reader):
            return backend
        raise WriteOnlyError(
            f"the backend {name!r} cannot be read from: what it takes is sent or kept elsewhere; "
            f"{self._others('reads')}"
        )

    def _writer(self, name: str) -> Writer:
        backend = self.backend(name)
        if backend.capabilities.writes and isinstance(backend, Writer):
            return backend
        raise ReadOnlyError(
            f"the backend {name!r} keeps nothing under a key; {self._others('writes')}"
        )

    def _sink(self, name: str) -> DataSink:
        backend = self.backend(name)
        if backend.capabilities.takes and isinstance(backend, DataSink):
            return backend
        raise ReadOnlyError(f"the backend {name!r} takes no payloads; {self._others('takes')}")

    def _others(self, verb: str) -> str:
        able = [name for name, each in self._backends.items() if getattr(each.capabilities, verb)]
        return f"there are others that do: {', '.join(able)}" if able else "none here does"
