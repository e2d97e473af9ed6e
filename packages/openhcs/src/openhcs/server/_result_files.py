"""The files of a result folder, as they are listed and read from afar."""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from openhcs.server._messages import FileEntry, FilePage
from zmqruntime import ConflictError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LAST", "list_files", "read_piece", "result_names"]

LAST: Final = ("wells.parquet", "report.html", "run.json")
"""What says that results are there; these are fetched when all else is."""

_PIECE: Final = 1 << 20
_PAGE: Final = 2000
_RUNNING: Final = frozenset({"work", ".lock"})
"""What is of use to a run alone."""


def result_names(folder: Path) -> list[str]:
    """Name the results in a submitter's folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def list_files(folder: Path, after: str) -> FilePage:
    """List the files of a result folder, by path.

    Parameters
    ----------
    folder
        The folder.
    after
        Path after which to begin; empty for the first ones.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    found = list(islice(_paths(folder, after), _PAGE + 1))
    files = [entry for path in found[:_PAGE] if (entry := _entry(folder, path))]
    return FilePage(files=files, next=found[_PAGE - 1] if len(found) > _PAGE else None)


def read_piece(folder: Path, path: str, start: int, *, size: int, modified: int) -> bytes:
    """Read a piece of a file, if it still is as it was listed.

    Parameters
    ----------
    folder
        The result folder.
    path
        Below it, with ``/``.
    start
        First byte that is wanted.
    size, modified
        As listed.

    Returns
    -------
    bytes
        At most 1 MiB; less at the end of the file alone.

    Raises
    ------
    InvalidRequestError
        If the path leads out of the folder.
    NotFoundError
        If there is no such file.
    ConflictError
        If it was changed; list it again.
    OSError
        If it cannot be read.
    """
    try:
        with _opened(folder, path) as file:
            facts = os.fstat(file.fileno())
            if (facts.st_size, facts.st_mtime_ns) != (size, modified):
                raise ConflictError(f"{path} was changed meanwhile")
            file.seek(start)
            return file.read(min(_PIECE, max(0, size - start)))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no file {path!r} in these results") from error


def _opened(folder: Path, path: str) -> BinaryIO:
    """Open a file below a folder, through no link: one may be put there between look and use."""
    parts = path.split("/")
    if "\0" in path or {"", ".", ".."} & set(parts) or Path(path).is_absolute():
        raise InvalidRequestError(f"{path!r} is no path below the results")
    if os.open not in os.supports_dir_fd:  # Windows
        target = (folder / path).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise InvalidRequestError(f"{path!r} leads out of the results")
        return target.open("rb")
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            above, here = here, _open_in(here, part, os.O_DIRECTORY)
            os.close(above)
        # without waiting: a pipe would wait for its other end
        file = _open_in(here, parts[-1], os.O_NONBLOCK)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise NotFoundError(f"{path!r} is no file of these results")
    return os.fdopen(file, "rb")


def _open_in(folder: int, name: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=folder)
    except OSError as error:
        link = error.errno == errno.ELOOP or (
            error.errno == errno.ENOTDIR
            and stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
        )
        if link:
            raise InvalidRequestError(f"{name!r} is a link, which no result is") from error
        raise


def _paths(folder: Path, after: str, below: str = "") -> Iterator[str]:
    """Walk the files behind a path in order; folders that lie before it are not looked into."""
    with os.scandir(folder / below) as entries:
        # with a slash a folder stands where its files do, so that all paths come in order
        names = sorted(
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
            if not (_is_partial(entry.name) or (not below and entry.name in _RUNNING))
        )
    for name in names:
        path = f"{below}{name}"
        if not name.endswith("/"):
            if path > after:
                yield path
        elif path > after or after.startswith(path):
            yield from _paths(folder, after, path)


def _is_partial(name: str) -> bool:
    """Say whether something is being written under this name until it is whole."""
    return name.startswith(".") and name.endswith((".partial", ".replaced", ".lock"))


def _entry(folder: Path, path: str) -> FileEntry | None:
    """Give a file as it is now; None for one that is gone, and for what is no plain file."""
    try:
        facts = (folder / path).lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(facts.st_mode):
        return None
    return FileEntry(path, facts.st_size, facts.st_mtime_ns)
