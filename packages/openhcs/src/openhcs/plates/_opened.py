"""What was learned of files that hold many planes, so that no plane has it learned again.

A plane of a TIFF file with thousands of them is found by a chain through the file, and one of an
OME-Zarr image by two documents. Both are kept per plate and process, and looked up again when the
file is another one by now.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeAlias

from openhcs.plates._tiff import read_page_offsets

if TYPE_CHECKING:
    from pathlib import Path

    from polystore.omezarr import ImageReader

__all__ = ["OpenedFiles"]

_FILES, _IMAGES = 64, 64
_State: TypeAlias = tuple[int, ...]


class OpenedFiles:
    """Directories of TIFF files and metadata of OME-Zarr images, the ones used last.

    No file stays open. Any thread may ask.
    """

    __slots__ = ("_images", "_lock", "_offsets")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offsets: OrderedDict[Path, tuple[_State, array[int]]] = OrderedDict()
        self._images: OrderedDict[Path, tuple[_State, ImageReader]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenedFiles, ()  # in another process all is learned again

    def page_offset(self, path: Path, descriptor: int, page: int) -> int:
        """Find the directory of an image of a TIFF file.

        Parameters
        ----------
        path
            The file.
        descriptor
            Of the file, which is open: another file may have taken its place.
        page
            0-based.

        Returns
        -------
        int
            Bytes from the start of the file.

        Raises
        ------
        IndexError
            If it has fewer images.
        TiffHeaderError
            If it is no TIFF file.
        OSError
            If it cannot be read.
        """
        stat = os.fstat(descriptor)
        state = _state(stat)
        with self._lock:
            known = self._offsets.get(path)
            if known is not None:
                self._offsets.move_to_end(path)
        if known is None or known[0] != state:
            before = os.lseek(descriptor, 0, os.SEEK_CUR)
            try:
                offsets, _ = read_page_offsets(descriptor, size=stat.st_size)
            finally:
                # whoever reads this file through a buffer takes it to be where he left it
                os.lseek(descriptor, before, os.SEEK_SET)
            known = state, array("Q", offsets)
            with self._lock:
                self._offsets[path] = known
                while len(self._offsets) > _FILES:
                    self._offsets.popitem(last=False)
        return known[1][page]

    def image(self, path: Path) -> ImageReader:
        """Open an OME-Zarr image.

        Parameters
        ----------
        path
            Folder of its group.

        Returns
        -------
        ImageReader
            Of what is there now.

        Raises
        ------
        polystore.StorageError
            If there is none, or it is damaged.
        """
        from polystore.omezarr import ImageReader

        with self._lock:
            known = self._images.get(path)
            if known is not None:
                self._images.move_to_end(path)
        if known is not None and known[0] == _documents(known[1]):
            return known[1]
        reader = ImageReader(path)
        state = _documents(reader)
        _ = reader.shape  # reads the array's document, so that both are of one time
        if state == _documents(reader):
            with self._lock:
                self._images[path] = state, reader
                while len(self._images) > _IMAGES:
                    self._images.popitem(last=False)
        return reader


def _documents(reader: ImageReader) -> _State:
    """Say which documents an image is described by: that of its group and of its finest level."""
    names = (".zattrs", ".zarray") if reader.version == "0.4" else ("zarr.json", "zarr.json")
    state: list[int] = []
    for folder, name in zip((reader.path, reader.level_path(0)), names, strict=True):
        try:
            state += _state((folder / name).stat())
        except OSError:
            state.append(-1)
    return tuple(state)


def _state(stat: os.stat_result) -> _State:
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev
