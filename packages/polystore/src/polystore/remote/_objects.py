"""The objects below a URL, with what a store answers said to people."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polystore._errors import NotStoredError, UnreachableError, UnreadableError
from polystore.remote._access import RemoteAccess, open_objects
from polystore.remote._errors import asking, sending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["Listing", "Object", "RemoteObjects"]

_PART_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Object:
    """An object that was read.

    Attributes
    ----------
    content
        All of it.
    tag
        Another one when the object is another one; None where the store has none.
    attributes
        Metadata that it was put with, by name.
    """

    content: bytes
    tag: str | None
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies directly below a name; whole names, in the order of the store."""

    folders: tuple[str, ...]
    objects: tuple[str, ...]


class RemoteObjects:
    """Objects below a URL; names are those below it.

    Several threads may use it at once. A process that was forked cannot, and is told so.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``memory:///``.
    access
        How it is entered, and how long anything may take.

    Raises
    ------
    StorageError
        If the URL holds credentials, or is none that is known.
    MissingExtraError
        If obstore is not installed.
    """

    def __init__(self, url: str, access: RemoteAccess | None = None) -> None:
        access = access or RemoteAccess()
        self.url = url
        self.access = access
        self.where = url if access.endpoint is None else f"{url} at {access.endpoint}"
        self.raw: Any = open_objects(url, access)  # obstore's functions take any of its stores
        self._process = os.getpid()
        self._answered = False

    def __reduce__(self) -> tuple[type[RemoteObjects], tuple[str, RemoteAccess]]:
        # another process opens it anew, as a worker of dask does that is given an array
        return type(self), (self.url, self.access)

    def asking(self, name: str) -> AbstractContextManager[None]:
        """Turn errors of obstore in a block that asks for `name` into those of this package.

        Raises
        ------
        UnreachableError
            If this process is not the one that opened it.
        """
        self.check_process()
        return asking(self.where, name, self.access.secrets)

    def get(self, name: str, most_bytes: int) -> Object:
        """Read an object.

        Raises
        ------
        NotStoredError
            If there is none.
        UnreadableError
            If it is larger than `most_bytes`, or cut off on its way.
        AccessDeniedError, UnreachableError
            If the store does not let it be read, or does not answer.
        """
        try:
            with self.asking(name):
                answer = self.raw.get(name)
                meta, attributes = answer.meta, answer.attributes
                if meta["size"] > most_bytes:
                    raise UnreadableError(
                        f"{self.where}/{name} is {meta['size']} bytes, and may have at most "
                        f"{most_bytes}"
                    )
                content = bytes(answer.bytes())
        except NotStoredError:
            self.check_bucket()
            raise
        self._answered = True
        if len(content) != meta["size"]:
            raise UnreadableError(
                f"{self.where}/{name} is cut off: {len(content)} of {meta['size']} bytes came"
            )
        return Object(content, meta["e_tag"], attributes)

    def put(
        self,
        name: str,
        content: bytes | Path,
        *,
        attributes: Mapping[str, str] | None = None,
        mode: Any = "overwrite",
    ) -> None:
        """Put an object; in parts where it is larger than 64 MiB, and replaces whatever is there.

        Parameters
        ----------
        name
            Of the object.
        content
            All of it, or the file that it is in.
        attributes
            Metadata to be kept with it.
        mode
            ``"overwrite"``, ``"create"``, or the tag of the object that is to be replaced.

        Raises
        ------
        NotWrittenError
            If it cannot be put; `errno` says which kind of reason it is.
        """
        self.check_process()
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        with sending(self.where, name, self.access.secrets):
            self.raw.put(
                name,
                content,
                attributes=dict(attributes) if attributes else None,
                mode=mode,
                chunk_size=_PART_BYTES,
                use_multipart=size > _PART_BYTES and mode == "overwrite",
            )
        self._answered = True

    def is_there(self, name: str) -> bool:
        """Say whether there is an object of this name.

        Raises
        ------
        AccessDeniedError, UnreachableError
            If the store does not say.
        """
        try:
            with self.asking(name):
                self.raw.head(name)
        except NotStoredError:
            self.check_bucket()
            return False
        self._answered = True
        return True

    def listing(self, name: str = "") -> Listing:
        """List what lies directly below a name.

        Raises
        ------
        AccessDeniedError, UnreachableError
            If the store does not say.
        """
        with self.asking(name):
            found = self.raw.list_with_delimiter(name or None)
        self._answered = True
        objects = tuple(each["path"] for each in found["objects"])
        return Listing(tuple(found["common_prefixes"]), objects)

    def walk(self, name: str = "") -> list[Mapping[str, Any]]:
        """List all objects below a name, with ``path``, ``size`` and ``e_tag`` of each.

        Raises
        ------
        AccessDeniedError, UnreachableError
            If the store does not say.
        """
        with self.asking(name):
            batches = [batch for batch in self.raw.list(name or None)]  # noqa: C416
        self._answered = True
        return [entry for batch in batches for entry in batch]

    def delete(self, name: str) -> None:
        """Remove an object.

        Raises
        ------
        NotWrittenError
            If it cannot be removed.
        """
        self.check_process()
        with sending(self.where, name, self.access.secrets):
            self.raw.delete(name)

    def check_bucket(self) -> None:
        """Tell a bucket that is not there from an object that is not there, once.

        Raises
        ------
        UnreachableError
            If there is no such bucket.
        """
        if not self._answered:
            self.listing()

    def check_process(self) -> None:
        """Refuse to go on in a process that was forked: connections are not inherited.

        Raises
        ------
        UnreachableError
            If this process is not the one that opened it.
        """
        if os.getpid() != self._process:
            raise UnreachableError(
                f"{self.where} was opened by another process, whose connections this one cannot "
                "use: open the store in each process, and start them by spawn"
            )
