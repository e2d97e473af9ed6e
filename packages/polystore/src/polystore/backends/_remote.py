"""Payloads as objects of a remote store: S3 and what speaks it, Google, Azure."""

from __future__ import annotations

import json
import random
import struct
import time
from typing import TYPE_CHECKING, Any

from polystore._errors import (
    ChecksumError,
    FormatError,
    NotStoredError,
    NotWrittenError,
    StorageError,
    UnreadableError,
)
from polystore._keys import Folder, check_folder, check_key
from polystore._kinds import Kind
from polystore._protocols import Capabilities
from polystore.backends._keyed import Keyed
from polystore.files._checksums import Checksum, Sum, require, sum_of
from polystore.formats import Formats, standard_formats
from polystore.formats._registry import SAVED_AS
from polystore.remote._objects import RemoteObjects
from polystore.wire._header import PAYLOAD_MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from polystore._payload import Payload
    from polystore.formats import Format
    from polystore.remote._access import RemoteAccess
    from polystore.remote._objects import Object

__all__ = ["RemoteStore"]

_ATTRIBUTE = "polystore-checksum"
_OVERHEAD_BYTES = 64 * 1024**2
_UPDATE_PAUSE_S = 0.05


class RemoteStore(Keyed):
    """Keeps payloads as objects; a `Reader`, a `Writer` and a `DataSink`.

    The name of an object is the key below the URL, and its end says the format. Objects that
    others put there are keys too, if their names can be keys and say a format that is here.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``, and for tests
        ``memory:///``, which is gone with the object.
    access
        Credentials, endpoint, and how long anything may take.
    formats
        Those of this store; all that there are if not given.
    saved_as
        Ends of the names that `save` gives, by kind.
    checksum
        Kept with each object, in its metadata, and compared when it is loaded; None for none. A
        store that reads compares whatever it finds.

    Raises
    ------
    StorageError
        If the URL holds credentials, or is none that is known; for a folder use `DiskStore`.
    UnknownFormatError
        If `saved_as` has a suffix that is not one of the formats'.
    MissingExtraError
        If obstore is not installed, or xxhash is needed and not installed.

    Notes
    -----
    An object is put in one request up to 64 MiB, and in parts that become one object at the end
    above that: readers have the old or the new one, whoever is killed. Parts of an upload that
    never ended are not seen, but are kept and paid for until the bucket's rules remove them.

    Several threads may use it at once. A process that was forked cannot use what its parent
    opened, and says so: open the store in each process, and start them by ``spawn``.
    """

    def __init__(
        self,
        url: str,
        access: RemoteAccess | None = None,
        *,
        formats: Formats | None = None,
        saved_as: Mapping[Kind, str] | None = None,
        checksum: Checksum | None = None,
    ) -> None:
        self._formats = standard_formats() if formats is None else formats
        for suffix in (saved_as or {}).values():
            self._formats.of(f"file{suffix}")
        self._saved_as = {**SAVED_AS, **(saved_as or {})}
        if checksum is not None:
            require(checksum)
        self._checksum = checksum
        self._objects = RemoteObjects(url, access)

    @property
    def where(self) -> str:
        """URL and endpoint, as in messages."""
        return self._objects.where

    @property
    def formats(self) -> Formats:
        """The formats; what is added to them can be stored."""
        return self._formats

    @property
    def capabilities(self) -> Capabilities:
        """It holds what its formats hold; objects are in no folders, so a key may be both."""
        return Capabilities(
            takes=True,
            reads=True,
            writes=True,
            lasts=not self.where.startswith("memory:"),
            kinds=frozenset[Kind]().union(*(each.kinds for each in self._formats)),
            suffixes=self._formats.suffixes,
            keys_below_keys=True,
        )

    def store(self, key: str, payload: Payload) -> None:
        """Keep a payload as one object, in place of what was there.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        UnknownFormatError
            If `key` does not end in the suffix of a format.
        FormatError
            If the format cannot hold the payload; the message says which could.
        NotWrittenError
            If it cannot be kept; the message says why, `errno` which kind of reason it is. When
            the store's answer was lost, the new one may be there whole; otherwise the old one is.
        MissingExtraError
            If the library that does the work is not installed.
        """
        found = self._formats.check(check_key(key), payload)
        self._put(key, _content(self._formats, found, key, payload))

    def load(self, key: str) -> Payload:
        """Read an object into memory.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        UnknownFormatError
            If it does not end in the suffix of a format.
        NotStoredError
            If there is no such object.
        ChecksumError
            If it is not what was stored.
        UnreadableError
            If it is damaged, or too large to be a payload.
        AccessDeniedError, UnreachableError
            If the store does not let it be read, or does not answer.
        MissingExtraError
            If the library that does the work is not installed.
        """
        found = self._formats.of(check_key(key))
        content = self._get(key).content
        return self._formats.from_bytes(key, content, f"{self.where}/{key} ({found.name})")

    def update_json(self, key: str, change: Callable[[Any], Any], *, default: Any = None) -> Any:
        """Change a JSON document so that no change of others who do the same is lost.

        The new document is put on the condition that the old one is still there, and made anew
        from the newer one where it is not.

        Parameters
        ----------
        key
            Name of the object; its end does not matter.
        change
            Given the document, gives the new one. It may be called several times.
        default
            What `change` is given where there is no document yet; None makes that an error.

        Returns
        -------
        object
            The new document.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If there is no document, and no `default`.
        UnreadableError
            If what is there is no JSON.
        NotWrittenError
            If it cannot be written, or others changed it each time until the deadline.
        AccessDeniedError, UnreachableError
            If the store does not let it be read, or does not answer.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        check_key(key)
        due = time.monotonic() + self._objects.access.deadline_s
        tries = 0
        while True:
            tries += 1
            mode: Any = "create"
            try:
                found = self._get(key)
                document = _parsed(f"{self.where}/{key}", found.content)
                mode = {"e_tag": found.tag}
            except NotStoredError:
                if default is None:
                    raise
                document = default
            changed = change(document)
            text = json.dumps(changed, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            try:
                self._put(key, text.encode(), mode=mode)
            except (AlreadyExistsError, PreconditionError) as error:
                if time.monotonic() >= due:
                    raise NotWrittenError(
                        f"{self.where}/{key} was not changed: others changed it each of {tries} "
                        "times; try again"
                    ) from error
                time.sleep(_UPDATE_PAUSE_S * random.random())
            else:
                return changed

    def exists(self, key: str) -> bool:
        """Say whether there is an object of `key`, in a format that is here.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        AccessDeniedError, UnreachableError
            If the store does not say.
        """
        return self._formats.find(check_key(key)) is not None and self._objects.is_there(key)

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys of all objects that start with `prefix`, sorted.

        Raises
        ------
        AccessDeniedError, UnreachableError
            If the store does not say.
        """
        if prefix.startswith("/") or "//" in prefix or not _may_begin_key(prefix):
            return []
        folder, _, _ = prefix.rpartition("/")
        here = self._list(folder)
        found = [key for key in here.keys if key.startswith(prefix)]
        for each in here.folders:
            if each.startswith(prefix):
                names = [entry["path"] for entry in self._objects.walk(each)]
                found.extend(name for name in names if self._is_key(name))
        return sorted(found)

    def folder(self, name: str = "") -> Folder:
        """List what lies directly in a folder.

        Raises
        ------
        KeyNameError
            If `name` is neither empty nor could be a key.
        AccessDeniedError, UnreachableError
            If the store does not say.
        """
        return self._list(check_folder(name))

    def delete(self, key: str) -> None:
        """Remove an object.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If there is none.
        NotWrittenError
            If it cannot be removed.
        AccessDeniedError, UnreachableError
            If the store does not answer.
        """
        if not self.exists(key):
            raise NotStoredError(f"{self.where}: nothing is kept under {key!r}")
        self._objects.delete(key)

    def _suffix(self, kind: Kind) -> str:
        return self._saved_as[kind]

    def _put(self, key: str, content: bytes, mode: Any = "overwrite") -> None:
        attributes: dict[str, str] = {}
        if self._checksum is not None:
            known = sum_of(content, self._checksum)
            attributes[_ATTRIBUTE] = f"{known.kind}={known.digest}"
        self._objects.put(key, content, attributes=attributes, mode=mode)

    def _get(self, key: str) -> Object:
        found = self._objects.get(key, PAYLOAD_MOST_BYTES + _OVERHEAD_BYTES)
        _verify(f"{self.where}/{key}", found.content, found.attributes.get(_ATTRIBUTE))
        return found

    def _list(self, name: str) -> Folder:
        found = self._objects.listing(name)
        folders = [each for each in found.folders if _may_begin_key(each)]
        keys = [each for each in found.objects if self._is_key(each)]
        return Folder(name=name, folders=tuple(sorted(folders)), keys=tuple(sorted(keys)))

    def _is_key(self, name: str) -> bool:
        return _may_begin_key(name) and self._formats.find(name) is not None


def _content(formats: Formats, found: Format, key: str, payload: Payload) -> bytes:
    try:
        return formats.to_bytes(key, payload)
    except StorageError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, OverflowError, struct.error) as error:
        raise FormatError(f"{key!r} cannot be written as {found.name}: {error}") from error


def _verify(where: str, content: bytes, said: str | None) -> None:
    if said is None:
        return
    kind, _, digest = said.partition("=")
    if kind not in set(Checksum):
        raise UnreadableError(f"{where} has a checksum that is not known here: {kind[:20]!r}")
    if sum_of(content, Checksum(kind)) != Sum(Checksum(kind), digest):
        raise ChecksumError(
            f"{where} is not what was stored: its checksum is another one. Something has damaged "
            "or replaced it: take it from a copy, or make it again"
        )


def _parsed(where: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{where} is no JSON: {error}") from error


def _may_begin_key(name: str) -> bool:
    try:
        check_key(name.rstrip("/"))
    except StorageError:
        return name == ""
    return True
