"""What stores under keys have in common: verbs for several, and names for what has none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from polystore._keys import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polystore._keys import Folder
    from polystore._kinds import Kind
    from polystore._payload import Payload

__all__ = ["Keyed", "keys_by_folder"]


class Keyed(ABC):
    """A store that does with several payloads, one after the other, what it does with one."""

    @abstractmethod
    def load(self, key: str) -> Payload:
        """Read one payload."""

    @abstractmethod
    def store(self, key: str, payload: Payload) -> None:
        """Keep one payload."""

    @abstractmethod
    def _suffix(self, kind: Kind) -> str:
        """Say what the names end with that `save` gives."""

    def store_batch(self, items: Iterable[tuple[str, Payload]]) -> None:
        """Keep several payloads, as `store` does, each in one piece.

        Raises
        ------
        StorageError
            At the first that cannot be kept; those before it are.
        """
        for key, payload in items:
            self.store(key, payload)

    def load_batch(self, keys: Iterable[str]) -> list[Payload]:
        """Read several payloads, in the order of `keys`.

        Raises
        ------
        StorageError, MissingExtraError
            At the first that cannot be read, as `load`.
        """
        return [self.load(key) for key in keys]

    def save(self, payload: Payload) -> None:
        """Keep a payload under a key made of its components, kind and name.

        Raises
        ------
        StorageError
            As `store`, and where a name is so long that the key is too long.
        """
        self.store(key_of(payload, self._suffix(payload.kind)), payload)

    def save_batch(self, payloads: Iterable[Payload]) -> None:
        """Keep several payloads, as `save` does.

        Raises
        ------
        StorageError
            At the first that cannot be kept; those before it are.
        """
        for payload in payloads:
            self.save(payload)


def keys_by_folder(listed: Callable[[str], Folder], prefix: str) -> list[str]:
    """List the keys that start with a prefix, folder by folder, sorted.

    Parameters
    ----------
    listed
        Lists a folder; nothing where there is none.
    prefix
        Wherever it ends; a folder that has none of its keys is not looked at.
    """
    start, _, rest = prefix.rpartition("/")
    if prefix.startswith("/"):
        return []
    found: list[str] = []
    waiting = [start]
    while waiting:
        here = listed(waiting.pop())
        first = here.name == start
        at = len(start) + 1 if start else 0
        found.extend(key for key in here.keys if not first or key.startswith(rest, at))
        waiting.extend(n for n in here.folders if not first or n.startswith(rest, at))
    return sorted(found)
