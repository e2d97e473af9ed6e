"""Images and labels as OME-Zarr, each a group of its own below one folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING

from polystore._errors import (
    FormatError,
    KeyNameError,
    LayoutError,
    NotStoredError,
    NotWrittenError,
)
from polystore._kinds import Kind
from polystore._protocols import Capabilities
from polystore.backends._folder_tree import TRIES, FolderTree
from polystore.backends._keyed import Keyed
from polystore.backends._zarr_images import PayloadWriter, refusal
from polystore.backends._zarr_read import KINDS, ZarrReader, is_image, label_names, said
from polystore.files._atomic import partial_path, writing
from polystore.files._locks import LOCK_TIMEOUT_S, exclusive
from polystore.omezarr._groups import OmeVersion, read_group, write_group
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._labels import list_labels

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from polystore._payload import Payload

__all__ = ["ZarrStore"]

_RESERVED = frozenset({"zarr.json"})


class ZarrStore(ZarrReader, Keyed):
    """Keeps images and labels as OME-Zarr; a `Reader`, a `Writer` and a `DataSink`.

    The group of a key is the key below the folder: whatever reads OME-Zarr opens it, coarser
    levels and all. Labels under ``image/labels/name``, where ``image`` is the key of an image of
    the same size, are labels of that image, as napari and others show them; all other labels
    stand alone. Tables, regions, points and text are refused: keep them in a `DiskStore`.

    Parameters
    ----------
    root
        The folder; it is made when something is first stored. It may itself be a link.
    version
        Of OME-Zarr, ``"0.5"`` or ``"0.4"``, for what is written. Both are read.
    fsync
        Whether storing waits until all has reached the disk.
    checksum
        Whether each chunk of pixels has a checksum (CRC-32C), which all readers of Zarr v3
        compare; 0.5 only.
    folds_case
        As for `DiskStore`.

    Raises
    ------
    LayoutError
        If there is no such version, or it has no checksum.

    Notes
    -----
    An image is written beside its place and takes it by one rename: readers have the old or the
    new one, and never pixels of both. A process that is killed leaves at most a leftover, which
    `remove_leftovers` removes. Several threads and processes may read and write at once; names
    are given one after the other, under a lock.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        version: OmeVersion | str = OmeVersion.V05,
        fsync: bool = False,
        checksum: bool = False,
        folds_case: bool | None = None,
    ) -> None:
        self._tree = FolderTree(root, folds_case=folds_case)
        super().__init__(self._tree.root)
        try:
            self._version = OmeVersion(version)
        except ValueError as error:
            raise LayoutError(f"{version!r} is not 0.4 or 0.5, which are written") from error
        if checksum and self._version is OmeVersion.V04:
            raise LayoutError(
                "OME-Zarr 0.4 has no checksum that all readers know: write 0.5, or without checksum"
            )
        self._fsync = fsync
        self._checksum = checksum

    @property
    def root(self) -> Path:
        """The folder."""
        return self._tree.root

    @property
    def capabilities(self) -> Capabilities:
        """It holds images and labels; only labels of an image may be below a key."""
        return Capabilities(
            takes=True,
            reads=True,
            writes=True,
            lasts=True,
            kinds=KINDS,
            folds_case=self._tree.folds_case,
        )

    def store(self, key: str, payload: Payload) -> None:
        """Keep an image or labels as the group of `key`, in place of what was there.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key, is a folder of others, lies below one and is not of labels,
            or cannot be told from another by this disk.
        FormatError
            If it is neither an image nor labels, or has no pixels, or the labels are not of the
            size of their image.
        NotWrittenError
            If it cannot be written, as on a full disk; what was there before still is.
        MissingExtraError
            If zarr is not installed.
        """
        path = self._tree.path(key)
        if reason := refusal(payload):
            raise FormatError(f"{key!r} cannot be kept: {reason}")
        for tries_left in reversed(range(TRIES)):
            try:
                self._check_place(key, payload)
                self._tree.make_folder(key)
                self._write(key, path, payload)
            except NotWrittenError as error:
                # whoever deletes the last image of a folder deletes the folder too
                if error.errno != errno.ENOENT or not tries_left:
                    raise
            else:
                return

    def delete(self, key: str) -> None:
        """Remove an image or labels, and the folders that are empty without it.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If there is none.
        NotWrittenError
            If it cannot be removed, or is an image that has labels, which are deleted first.
        """
        path = self._tree.path(key)
        if not self._tree.is_folder(key) or not self.exists(key):
            raise NotStoredError(f"{path}: no image is kept under {key!r}")
        aside = partial_path(path)
        with self._alone():
            if names := label_names(self._at(key)):
                raise NotWrittenError(
                    errno.ENOTEMPTY,
                    f"{key!r} was not deleted: its labels {', '.join(names)} would be gone; "
                    "delete them first",
                )
            if image := self._image_above(key):
                self._unlist(image, path.name)
            try:
                path.rename(aside)
            except FileNotFoundError as error:
                raise NotStoredError(f"{path}: no image is kept under {key!r}") from error
            except OSError as error:
                raise NotWrittenError(error.errno, f"{path} was not removed: {error}") from error
        shutil.rmtree(aside, ignore_errors=True)
        self._tree.remove_empty(path)

    def _suffix(self, kind: Kind) -> str:
        del kind
        return ".zarr"  # so that a name may be a folder too, and that napari knows it

    def _write(self, key: str, path: Path, payload: Payload) -> None:
        above = self._image_above(key)
        image = None if above is None else ImageReader(self._at(above))
        version = self._version if image is None else image.version
        try:
            writer = PayloadWriter(path, payload, version, checksum=self._checksum, image=image)
        except LayoutError as error:
            raise FormatError(f"{key!r} cannot be kept: {error}") from error
        with writer:
            writer.write()
            with self._alone():
                # somebody may have been faster
                self._check_place(key, payload)
                if image is not None and said(image.place) is None:
                    raise NotWrittenError(errno.ENOENT, f"{key!r} was not written: no image")
                writer.commit(fsync=self._fsync)
                if image is not None:
                    list_labels(path, version)

    def _check_place(self, key: str, payload: Payload) -> None:
        if _RESERVED.intersection(key.split("/")):
            raise KeyNameError(f"{key!r} cannot be a key here: zarr.json is a name of Zarr's own")
        above = self._image_above(key)
        if above is not None:
            name = key.removeprefix(f"{above}/labels/")
            if payload.kind is not Kind.LABELS or name == key or "/" in name:
                raise KeyNameError(
                    f"{key!r} cannot be kept below {above!r}, which is an image: only its labels "
                    f"can, as '{above}/labels/name'"
                )
        path = self._tree.path(key)
        if path.is_symlink() or path.is_file():
            raise KeyNameError(f"{key!r} cannot be a key: {path} is a file or a link")
        if not self._tree.is_folder(key):
            return
        place = self._at(key)
        if is_image(place):
            if names := label_names(place):
                raise KeyNameError(
                    f"{key!r} has the labels {', '.join(names)}, which would be gone with it: "
                    "delete them first"
                )
            return
        with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
            if any(entries):
                raise KeyNameError(f"{key!r} cannot be a key: {path} is a folder of others")

    def _image_above(self, key: str) -> str | None:
        """Return the key of the image that a key lies below, or None."""
        parts = key.split("/")
        for length in range(len(parts) - 1, 0, -1):
            above = "/".join(parts[:length])
            if self._tree.is_folder(above) and is_image(self._at(above)):
                return above
        return None

    def _unlist(self, image: str, name: str) -> None:
        place = self._at(f"{image}/labels")
        group = read_group(place)
        names = [each for each in group.ome.get("labels", ()) if each != name]
        folder = self._tree.path(f"{image}/labels")
        if names:
            write_group(folder, group.version, {"labels": names}, group.others)
            return
        for file in ("zarr.json", ".zgroup", ".zattrs"):
            with writing(folder):
                (folder / file).unlink(missing_ok=True)

    def _alone(self) -> AbstractContextManager[None]:
        return exclusive(self.root / "keys", timeout_s=LOCK_TIMEOUT_S)
