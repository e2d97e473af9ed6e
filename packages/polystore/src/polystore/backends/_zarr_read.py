"""OME-Zarr images and labels as payloads, wherever they are and whoever wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from polystore._errors import NotStoredError, UnreadableError
from polystore._keys import Folder, check_folder, check_key
from polystore._kinds import Kind
from polystore._protocols import Capabilities
from polystore.backends._folder_tree import TRIES, can_be_key
from polystore.backends._keyed import keys_by_folder
from polystore.backends._zarr_images import read_payload
from polystore.omezarr._groups import read_document, read_group
from polystore.omezarr._places import as_place

if TYPE_CHECKING:
    from collections.abc import Iterable

    from polystore._payload import Payload
    from polystore.omezarr._places import Place, Where

__all__ = ["KINDS", "ZarrReader", "is_image", "label_names", "said"]

KINDS = frozenset({Kind.IMAGE, Kind.LABELS})
"""Kinds of payloads that OME-Zarr has."""

_DOCUMENT_MOST_BYTES = 64 * 1024**2


class ZarrReader:
    """Gives OME-Zarr images and labels below a folder as payloads; a `Reader`.

    A key is the path of an image's group. Whoever wrote it, and in 0.4 or 0.5: the images of a
    plate are ``"B/3/stitched"``, and their labels ``"B/3/stitched/labels/nuclei"``. Planes are read
    at the finest level; `ImageReader` reads coarser ones and regions.

    Parameters
    ----------
    root
        Path of the folder, or a `RemoteFolder` where it is in an object store.
    """

    def __init__(self, root: Where) -> None:
        self._place = as_place(root)

    @property
    def place(self) -> Place:
        """Where it is."""
        return self._place

    @property
    def capabilities(self) -> Capabilities:
        """It reads images and labels; those of an image are below its key."""
        return Capabilities(reads=True, kinds=KINDS, keys_below_keys=True)

    def load(self, key: str) -> Payload:
        """Read an image or labels into memory.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If there is no image, though there may be a folder of them.
        UnreadableError
            If it is damaged, was not finished, or is too large to be a payload.
        ChecksumError
            If it has checksums, and is not what was stored.
        AccessDeniedError, UnreachableError
            If it is remote, and not to be had.
        MissingExtraError
            If zarr is not installed.
        """
        place = self._at(key)
        for _ in range(TRIES):
            # the group's document is written anew with the image: if it is another one now, the
            # pixels may be of both
            before = said(place)
            if before is None:
                raise NotStoredError(f"{place}: no image is kept under {key!r}")
            try:
                payload = read_payload(place)
            except (NotStoredError, UnreadableError) as error:
                if said(place) != before:
                    continue
                if not is_image(place):
                    raise NotStoredError(f"{place}: no image is kept under {key!r}") from error
                raise
            if said(place) == before:
                return payload
        raise UnreadableError(f"{place} is being replaced again and again while it is read")

    def load_batch(self, keys: Iterable[str]) -> list[Payload]:
        """Read several, in the order of `keys`.

        Raises
        ------
        StorageError, MissingExtraError
            At the first that cannot be read, as `load`.
        """
        return [self.load(key) for key in keys]

    def exists(self, key: str) -> bool:
        """Say whether there is an image or a label image.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        AccessDeniedError, UnreachableError
            If it is remote, and does not say.
        """
        check_key(key)
        try:
            return is_image(self._at(key))
        except UnreadableError:
            return False  # a link that leads elsewhere

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys that start with `prefix`, sorted. The document of each group is read.

        Raises
        ------
        UnreadableError
            If a folder cannot be listed.
        AccessDeniedError, UnreachableError
            If it is remote, and does not say.
        """
        start = prefix.rpartition("/")[0]
        if start and not can_be_key(start):
            return []
        return keys_by_folder(self._list, prefix)

    def folder(self, name: str = "") -> Folder:
        """List what lies directly in a folder. The document of each group in it is read.

        Raises
        ------
        KeyNameError
            If `name` is neither empty nor could be a key.
        UnreadableError
            If it cannot be listed.
        AccessDeniedError, UnreachableError
            If it is remote, and does not say.
        """
        return self._list(check_folder(name))

    def _at(self, key: str) -> Place:
        return self._place.below(check_key(key))

    def _list(self, name: str) -> Folder:
        start = f"{name}/" if name else ""
        try:
            place = self._place.below(name) if name else self._place
        except UnreadableError:  # a link that leads elsewhere
            return Folder(name=name, folders=(), keys=())
        folders: list[str] = []
        keys: list[str] = []
        for each in _folders(place):
            if not can_be_key(whole := start + each):
                continue
            below = place.below(each)
            node = _node(below)
            if node == "image":
                keys.append(whole)
                if label_names(below):
                    folders.append(whole)
            elif node == "folder":
                folders.append(whole)
        return Folder(name=name, folders=tuple(sorted(folders)), keys=tuple(sorted(keys)))


def said(place: Place) -> bytes | None:
    """Give what the group of an image says; another one whenever it was written anew."""
    content = place.content("zarr.json", _DOCUMENT_MOST_BYTES)
    return place.content(".zattrs", _DOCUMENT_MOST_BYTES) if content is None else content


def _folders(place: Place) -> tuple[str, ...]:
    """List what may be a key in a place, or have some: of an image, labels and not levels."""
    match _node(place):
        case "image":
            return ("labels",) if label_names(place) else ()
        case "array":
            return ()
        case _:
            return place.folders()


def _node(place: Place) -> Literal["image", "array", "folder"]:
    """Say what a place is: an image, an array, or a folder, which need not be there."""
    try:
        document = read_document(place, "zarr.json")
        if document is None:
            attributes: Any = read_document(place, ".zattrs")
            ome = attributes
        else:
            if document.get("node_type") == "array":
                return "array"
            attributes = document.get("attributes")
            ome = attributes.get("ome") if isinstance(attributes, dict) else None
    except UnreadableError:
        return "image"  # it is damaged, and whoever loads it is told so
    if isinstance(ome, dict) and "multiscales" in ome:
        return "image"
    if document is None and place.has(".zarray"):
        return "array"
    return "folder"


def is_image(place: Place) -> bool:
    """Say whether a place is an image, or a damaged group that may have been one."""
    return _node(place) == "image"


def label_names(place: Place) -> tuple[str, ...]:
    """Names of the labels of an image."""
    try:
        names = read_group(place.below("labels")).ome.get("labels", ())
    except NotStoredError:
        return ()
    return tuple(each for each in names if isinstance(each, str))
