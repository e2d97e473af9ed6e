"""Chunks of an array in an object store, as zarr asks for them.

zarr has a store of its own over obstore. This one turns what a server answers into errors of this
package, tells which objects were not there, does not ask for the index of a shard again and again,
and never mixes two objects of one name. It is imported when the first array is opened, as it
imports zarr.
"""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import obstore
import zarr
from obstore.exceptions import PreconditionError
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from polystore._errors import NotStoredError, ReadOnlyError, UnreadableError
from polystore.omezarr._places import AbsentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from polystore.remote._objects import RemoteObjects

__all__ = ["open_pixels"]

_INDEX_MOST_BYTES = 1024**2
_INDICES_MOST_BYTES = 16 * 1024**2
_TRIES = 5
_DOCUMENTS = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})

# what was not there during one read; zarr runs in a thread of its own, with the context of whoever
# asks it
_absent: ContextVar[list[str] | None] = ContextVar("_absent", default=None)


class _ReplacedError(Exception):
    """An object is another one than the one that its index was of."""


@dataclass(frozen=True, slots=True)
class _RemotePixels:
    array: Any  # of zarr, whose arrays have no types
    place: str
    objects: RemoteObjects

    def read(self, index: tuple[int | slice, ...], files: Iterable[str]) -> NDArray[Any]:
        self.objects.check_process()  # zarr would wait for a thread that was not forked
        for _ in range(_TRIES):
            absent: list[str] = []
            token = _absent.set(absent)
            try:
                part = np.asarray(self.array[index])
            except _ReplacedError:
                continue  # the new one is read from its beginning
            finally:
                _absent.reset(token)
            if absent and (gone := set(absent).intersection(files)):
                raise AbsentError(f"{self.place}/{min(gone)}")
            return part
        raise UnreadableError(
            f"{self.place} is being replaced again and again while it is read: wait until it is "
            "written"
        )


def open_pixels(objects: RemoteObjects, prefix: str, document: Mapping[str, Any]) -> _RemotePixels:
    """Open an array that is below `prefix`, and whose document was read. Nothing is requested."""
    number: Literal[2, 3] = 2 if document["zarr_format"] == 2 else 3
    # zarr is given the very document that was checked: another one may be there by now
    known = {"zarr.json" if number == 3 else ".zarray": json.dumps(document).encode()}
    store = _ArrayStore(objects, prefix, known)
    array = zarr.open_array(store, mode="r", zarr_format=number)
    return _RemotePixels(array, f"{objects.where}/{prefix}", objects)


class _ArrayStore(Store):
    """The objects of one array, which are only read."""

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, objects: RemoteObjects, prefix: str, known: Mapping[str, bytes]) -> None:
        super().__init__(read_only=True)
        self._objects = objects
        self._prefix = prefix
        self._known = known
        self._indices: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._indices_bytes = 0

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __str__(self) -> str:
        return f"{self._objects.where}/{self._prefix}"

    def with_read_only(self, read_only: bool = False) -> Store:  # zarr's own
        """Give itself, which is read-only."""
        if not read_only:
            raise self._refused()
        return self

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Request an object or a part of it; None where there is none."""
        if self._is_document(key):
            content: Any = self._known.get(key)
        else:
            try:
                content = await self._requested(key, byte_range)
            except NotStoredError:
                content = None
                absent = _absent.get()
                if absent is not None:
                    absent.append(key)
        return None if content is None else prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Request several, one after the other."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Say whether there is an object."""
        if self._is_document(key):
            return key in self._known
        try:
            with self._objects.asking(name := f"{self._prefix}/{key}"):
                await obstore.head_async(self._objects.raw, name)
        except NotStoredError:
            return False
        return True

    async def set(self, key: str, value: Buffer) -> NoReturn:  # noqa: ARG002
        """Refuse to write."""
        raise self._refused()

    async def delete(self, key: str) -> NoReturn:  # noqa: ARG002
        """Refuse to remove."""
        raise self._refused()

    def list(self) -> AsyncIterator[str]:
        """Refuse to list: an array needs no list of its chunks."""
        raise self._refused()

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002
        """Refuse to list."""
        raise self._refused()

    def list_dir(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002
        """Refuse to list."""
        raise self._refused()

    async def _requested(self, key: str, part: ByteRequest | None) -> Any:
        name = f"{self._prefix}/{key}" if self._prefix else key
        kept = self._indices.get(key)
        options: Any = {}
        match part:
            case RangeByteRequest(start, end):
                options["range"] = (start, end)
                if kept is not None:
                    options["if_match"] = kept[0]
            case OffsetByteRequest(offset):
                options["range"] = {"offset": offset}
            case SuffixByteRequest(suffix):
                if kept is not None and len(kept[1]) == suffix:
                    self._indices.move_to_end(key)
                    return kept[1]
                options["range"] = {"suffix": suffix}
        try:
            with self._objects.asking(name):
                answer = await obstore.get_async(self._objects.raw, name, options=options or None)
                content = await answer.bytes_async()
        except PreconditionError as error:
            self._forget(key)
            raise _ReplacedError(name) from error
        if isinstance(part, SuffixByteRequest):
            self._keep(key, answer.meta["e_tag"], bytes(content))
        return content

    def _keep(self, key: str, tag: str | None, index: bytes) -> None:
        # a weak tag never matches, so that without a strong one the index is asked for each time
        if tag is None or tag.startswith("W/") or len(index) > _INDEX_MOST_BYTES:
            return
        self._forget(key)
        self._indices[key] = tag, index
        self._indices_bytes += len(index)
        while self._indices_bytes > _INDICES_MOST_BYTES:
            self._forget(next(iter(self._indices)))

    def _forget(self, key: str) -> None:
        with contextlib.suppress(KeyError):
            self._indices_bytes -= len(self._indices.pop(key)[1])

    def _is_document(self, key: str) -> bool:
        return key.rpartition("/")[2] in _DOCUMENTS

    def _refused(self) -> ReadOnlyError:
        return ReadOnlyError(f"{self} is only read from: write to a folder and upload it")
