"""Where a store is that is read: what readers need of a folder, whatever keeps it.

A store on a disk and one in an object store are read by the same code, which asks a `Place` for
documents and arrays and for nothing else.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, TypeAlias

import numpy as np

from polystore._errors import LayoutError, MissingExtraError, UnreadableError
from polystore.omezarr._paths import inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = ["AbsentError", "LocalPlace", "Pixels", "Place", "Where", "as_place", "local_path"]

Where: TypeAlias = "Place | Path | str"
"""What readers are given: the path of a folder, or a place that is somewhere else."""


class AbsentError(Exception):
    """A file that has to be there is not; for whoever knows why it has to be."""


class Pixels(Protocol):
    """An array of a store that was opened. Several threads may read at once."""

    @property
    def array(self) -> Any:
        """The array of zarr, read-only."""
        ...

    def read(self, index: tuple[int | slice, ...], files: Iterable[str]) -> NDArray[Any]:
        """Read a part of it.

        Parameters
        ----------
        index
            A number or a slice for each axis.
        files
            Those of the files with this part that have to be there, from the array on. What is in
            others reads as 0 where they are not.

        Raises
        ------
        AbsentError
            If one of `files` is not there.
        StorageError, OSError, ValueError, RuntimeError
            Whatever the store, or a codec, says.
        """
        ...


class Place(Protocol):
    """A folder of a store of Zarr; as text, what messages call it.

    Readers ask it from any thread, several at once.
    """

    @property
    def name(self) -> str:
        """The last part of where it is."""
        ...

    @property
    def real(self) -> str:
        """Where it is when links are followed: places of the same are the same."""
        ...

    def below(self, path: str) -> Place:
        """Give the place that a path of metadata leads to, whether there is something or not.

        Raises
        ------
        UnreadableError
            If it is not below this one.
        """
        ...

    def content(self, file: str, most_bytes: int) -> bytes | None:
        """Read a file that is directly in it; None where there is none.

        Raises
        ------
        UnreadableError
            If it cannot be read, or is larger than `most_bytes`.
        AccessDeniedError, UnreachableError
            If it is remote, and not to be had.
        """
        ...

    def has(self, file: str) -> bool:
        """Say whether there is such a file directly in it.

        Raises
        ------
        AccessDeniedError, UnreachableError
            If it is remote, and does not say.
        """
        ...

    def folders(self) -> tuple[str, ...]:
        """Names of the folders directly in it, sorted; links are none.

        Raises
        ------
        UnreadableError
            If they cannot be listed.
        AccessDeniedError, UnreachableError
            If it is remote, and does not say.
        """
        ...

    def pixels(self, document: Mapping[str, Any]) -> Pixels:
        """Open the array in it. Its document was read and found harmless.

        Raises
        ------
        MissingExtraError
            If zarr is not installed.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A folder of this computer."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def real(self) -> str:
        """Path without links."""
        return str(self.path.resolve())

    def below(self, path: str) -> LocalPlace:
        """Give the folder of a path; neither ``..`` nor a link leads out."""
        return LocalPlace(inside(self.path, path))

    def content(self, file: str, most_bytes: int) -> bytes | None:
        """Read a file."""
        target = self.path / file
        try:
            with _opened(target) as stream:
                # No more than there is: room for all that is read is made before it is read.
                size = os.fstat(stream.fileno()).st_size
                content = stream.read(min(size, most_bytes) + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnreadableError(error.errno, f"{target} cannot be read: {error}") from error
        if len(content) > most_bytes:
            raise UnreadableError(f"{target} is larger than {most_bytes} bytes")
        return content

    def has(self, file: str) -> bool:
        """Say whether there is a file."""
        return (self.path / file).is_file()

    def folders(self) -> tuple[str, ...]:
        """List the folders."""
        try:
            with os.scandir(self.path) as entries:
                found = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            reason = error.strerror or error
            raise UnreadableError(error.errno, f"{self} cannot be listed: {reason}") from error
        return tuple(sorted(found))

    def pixels(self, document: Mapping[str, Any]) -> Pixels:
        """Open the array in the folder."""
        try:
            import zarr
        except ImportError as error:
            raise MissingExtraError("OME-Zarr needs zarr: install polystore[zarr]") from error
        number: Literal[2, 3] = 2 if document["zarr_format"] == 2 else 3
        return _LocalPixels(self.path, zarr.open_array(self.path, mode="r", zarr_format=number))


def _opened(path: Path) -> BinaryIO:
    """Open a file, and nothing that would be waited for, such as a pipe of its name."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    opened = os.open(path, flags)  # the last two are not of every system
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return os.fdopen(opened, "rb")


@dataclass(frozen=True, slots=True)
class _LocalPixels:
    folder: Path
    array: Any  # of zarr, whose arrays have no types

    def read(self, index: tuple[int | slice, ...], files: Iterable[str]) -> NDArray[Any]:
        # before it is read: a file that comes in between would have been read as zeros
        for file in files:
            if not (self.folder / file).exists():
                raise AbsentError(self.folder / file)
        return np.asarray(self.array[index])


def as_place(where: Where) -> Place:
    """Give a place, or the folder of a path.

    Raises
    ------
    LayoutError
        If it is the URL of an object store, which has to be entered first.
    """
    if isinstance(where, Path):
        return LocalPlace(where)
    if isinstance(where, str):
        if "://" in where:
            raise LayoutError(
                f"{where.split('@')[-1]} is the URL of an object store, and not a folder: to read, "
                "open RemoteFolder(url, access); to write, make a folder here and upload_store"
            )
        return LocalPlace(Path(where))
    return where


def local_path(where: Where) -> Path:
    """Give the path of a place on this computer.

    Raises
    ------
    LayoutError
        If it is somewhere else; the message says what to do.
    """
    place = as_place(where)
    if isinstance(place, LocalPlace):
        return place.path
    raise LayoutError(
        f"{place} is no folder of this computer, and has no path: it can be read, and what is "
        "written is written to a folder here and uploaded when it is whole (upload_store)"
    )
