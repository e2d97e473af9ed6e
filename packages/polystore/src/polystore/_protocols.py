"""What a place that payloads go to, or come from, has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore._payload import Payload

__all__ = ["DataSink", "Reader", "Writer"]


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
    """Gives back what is kept under a key."""

    def load(self, key: str) -> Payload:
        """Read one payload.

        Raises
        ------
        NotStoredError
            If nothing is kept under `key`.
        UnreadableError
            If what is kept cannot be decoded.
        """
        ...

    def exists(self, key: str) -> bool:
        """Say whether something is kept under `key`."""
        ...

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that start with `prefix`, sorted."""
        ...


@runtime_checkable
class Writer(Protocol):
    """Keeps payloads under keys: names with ``/`` between their parts."""

    def store(self, key: str, payload: Payload) -> None:
        """Keep a payload under `key`, in place of what was there.

        Raises
        ------
        NotWrittenError
            If it could not be kept; what was there before still is.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove what is kept under `key`.

        Raises
        ------
        NotStoredError
            If nothing is.
        """
        ...
