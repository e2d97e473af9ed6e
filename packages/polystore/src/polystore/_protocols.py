"""What a place that payloads go to, or come from, has to do.

Which of it a place does is a value, `Capabilities`, that it has from the beginning; nothing that a
place is told later changes what its functions are. `polystore.testing` has the suites for each:
`SinkTests`, `ReaderTests` and, for what does all, `BackendTests`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from polystore._kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore._keys import Folder
    from polystore._payload import Payload

__all__ = ["Backend", "Capabilities", "DataSink", "Reader", "Writer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a place for payloads does, and what it does not.

    Attributes
    ----------
    takes
        Whether it is a `DataSink`: `save` and `save_batch` work.
    reads
        Whether it is a `Reader`.
    writes
        Whether it is a `Writer`.
    lasts
        Whether what it keeps outlives this process.
    copies
        Whether it has memory of its own for what it takes, so that the arrays handed over may be
        changed afterwards.
    kinds
        Kinds of payloads of which it holds at least some.
    suffixes
        Keys have to end in one of these, which says the format; empty where any key will do.
    folds_case
        Whether keys that differ only in case, or only in how an accent is written, cannot stand
        side by side here.
    keys_below_keys
        Whether there may be a key ``a/b`` beside a key ``a``.
    """

    takes: bool = False
    reads: bool = False
    writes: bool = False
    lasts: bool = False
    copies: bool = True
    kinds: frozenset[Kind] = field(default_factory=lambda: frozenset(Kind))
    suffixes: tuple[str, ...] = ()
    folds_case: bool = False
    keys_below_keys: bool = False


@runtime_checkable
class Backend(Protocol):
    """A place for payloads that says what it does."""

    @property
    def capabilities(self) -> Capabilities:
        """What it does; the same for as long as it is there."""
        ...


@runtime_checkable
class DataSink(Protocol):
    """Takes payloads, wherever they go: a viewer, a store, a test.

    Called by whoever made the payload, from that thread. A sink that several threads use says so.
    """

    def save(self, payload: Payload) -> None:
        """Take one payload.

        Called as soon as it is made. When it returns, the payload is taken over; its arrays may
        be referred to later unless the sink says that it copies.

        Raises
        ------
        PolystoreError
            If it cannot be taken; nothing of it is then kept.
        """
        ...

    def save_batch(self, payloads: Iterable[Payload]) -> None:
        """Take several payloads, in their order.

        Raises
        ------
        PolystoreError
            At the first that cannot be taken; those before it are.
        """
        ...


@runtime_checkable
class Reader(Protocol):
    """Gives back what is kept under a key.

    Called by whoever needs the payload, from that thread; several threads may read at once, also
    while one writes. What is given is read-only, and stays as it is when something else is kept
    under the key. Each function refuses what is no key with `KeyNameError`.
    """

    def load(self, key: str) -> Payload:
        """Read one payload.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If nothing is kept under `key`.
        UnreadableError
            If what is kept cannot be decoded.
        """
        ...

    def load_batch(self, keys: Iterable[str]) -> list[Payload]:
        """Read several payloads, in the order of `keys`.

        Raises
        ------
        KeyNameError, NotStoredError, UnreadableError
            At the first that cannot be read, as `load`.
        """
        ...

    def exists(self, key: str) -> bool:
        """Say whether something is kept under `key`.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        """
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that start with `prefix`, wherever it ends, sorted by code points."""
        ...

    def folder(self, name: str = "") -> Folder:
        """List what lies directly in a folder: a part of keys up to a ``/``, without that.

        A folder is there as long as something is kept in it; one that is not there is empty.

        Raises
        ------
        KeyNameError
            If `name` is neither empty nor could be a key.
        """
        ...


@runtime_checkable
class Writer(Protocol):
    """Keeps payloads under keys: names with ``/`` between their parts.

    Called by whoever made the payload, from that thread. Several threads may write different keys
    at once. Each function refuses what is no key with `KeyNameError`.
    """

    def store(self, key: str, payload: Payload) -> None:
        """Keep a payload under `key`, in place of what was there.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key, or cannot stand beside those there are.
        UnknownFormatError
            If keys say formats here, and this one says none.
        FormatError
            If the format cannot hold the payload.
        NotWrittenError
            If it could not be kept. Whatever the error, what was there before still is.
        """
        ...

    def store_batch(self, items: Iterable[tuple[str, Payload]]) -> None:
        """Keep several payloads under their keys, in their order.

        Parameters
        ----------
        items
            Keys and payloads; the items of a dict, or made one after the other.

        Raises
        ------
        StorageError
            At the first that cannot be kept, as `store`; those before it are kept.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove what is kept under `key`.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If nothing is kept under it.
        NotWrittenError
            If it cannot be removed.
        """
        ...
