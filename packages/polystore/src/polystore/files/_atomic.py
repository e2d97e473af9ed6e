"""Files and folders that are there whole or not at all.

What is being written has a name of its own beside its target, and takes the target's place by one
rename. A process that is killed leaves the old thing or the new one, and at most a leftover that
`remove_leftovers` knows by its name.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from polystore._errors import NotStoredError, NotWrittenError, UnreadableError
from polystore.files._checksums import (
    has_sums,
    read_sums,
    require,
    sum_of_file,
    sum_path,
    sums_text,
)
from polystore.files._leftovers import aside_path, partial_path, remove
from polystore.files._locks import LOCK_TIMEOUT_S, exclusive
from polystore.files._room import libc
from polystore.files._writing import settling, writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polystore.files._checksums import Checksum, Sum

if os.name == "posix":
    import fcntl

__all__ = [
    "atomic_file",
    "atomic_folder",
    "commit_folder",
    "delete_file",
    "partial_path",
    "sync",
    "sync_folder",
    "write_bytes",
    "write_json",
    "writing",
]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_bytes(
    path: Path | str,
    content: bytes | memoryview,
    *,
    fsync: bool = False,
    checksum: Checksum | None = None,
) -> None:
    """Write a file in one piece.

    Parameters
    ----------
    path
        In a folder that exists. A link is replaced; what it leads to stays as it is.
    content
        All of it.
    fsync
        Whether to wait until it has reached the disk, so that it also survives a power cut.
    checksum
        Kept beside the file and compared by all that reads it here; None for no checksum, and
        takes away that of an older file.

    Raises
    ------
    NotWrittenError
        If it cannot be written, as on a full disk; what was there before still is.
    NotDurableError
        If it is written and the disk does not confirm it.
    MissingExtraError
        If the checksum needs xxhash, which is not installed.
    """
    with atomic_file(path, fsync=fsync, checksum=checksum) as stream:
        stream.write(content)


def write_json(
    path: Path | str, document: object, *, fsync: bool = False, checksum: Checksum | None = None
) -> None:
    """Write a JSON document in one piece, UTF-8, indented by two.

    Parameters
    ----------
    path
        In a folder that exists.
    document
        What `json.dumps` takes; NaN and infinities are refused.
    fsync, checksum
        As for `write_bytes`.

    Raises
    ------
    NotWrittenError
        If it cannot be written; what was there before still is.
    NotDurableError
        If the disk does not confirm it.
    ValueError, TypeError
        If the document is no JSON.
    """
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    # the standard library would indent ten times as slowly
    content = msgspec.json.format(text, indent=2) + "\n"
    write_bytes(path, content.encode(), fsync=fsync, checksum=checksum)


@contextlib.contextmanager
def atomic_file(
    path: Path | str, *, fsync: bool = False, checksum: Checksum | None = None
) -> Iterator[IO[bytes]]:
    """Open a file that takes its name when the block ends without an error.

    Parameters
    ----------
    path
        In a folder that exists. A link is replaced; what it leads to stays as it is.
    fsync
        Whether to wait until it has reached the disk.
    checksum
        As for `write_bytes`.

    Raises
    ------
    NotWrittenError
        If it cannot be written; what was there before still is.
    NotDurableError
        If it is written and the disk does not confirm it.
    MissingExtraError
        If the checksum needs xxhash, which is not installed.
    """
    if checksum is not None:
        require(checksum)
    target = Path(path)
    partial = partial_path(target)
    try:
        with writing(target):
            with partial.open("xb") as stream:
                yield stream
                if fsync:
                    stream.flush()
                    sync(stream.fileno())
            _put_in_place(partial, target, checksum, fsync=fsync)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if fsync:
        with settling(target):
            sync_folder(target.parent)


def delete_file(path: Path | str) -> None:
    """Remove a file, and its checksum if it has one.

    Raises
    ------
    NotStoredError
        If there is no such file.
    NotWrittenError
        If it cannot be removed.
    """
    target = Path(path)
    try:
        # first, so that no checksum waits for another file of that name
        sum_path(target).unlink(missing_ok=True)
        target.unlink()
    except FileNotFoundError as error:
        raise NotStoredError(f"{target}: there is no such file") from error
    except OSError as error:
        raise NotWrittenError(error.errno, f"{target} was not removed: {error}") from error


@contextlib.contextmanager
def atomic_folder(path: Path | str, *, fsync: bool = False) -> Iterator[Path]:
    """Make a folder that takes its name, and the place of what had it, when the block ends.

    Parameters
    ----------
    path
        In a folder that exists. The block is given another path, to fill.
    fsync
        Whether to wait until all of it has reached the disk.

    Raises
    ------
    NotWrittenError
        If it cannot be made; what was there before still is.
    NotDurableError
        If it is made and the disk does not confirm it.
    """
    target = Path(path)
    partial = partial_path(target)
    try:
        with writing(target):
            partial.mkdir()
            yield partial
        commit_folder(partial, target, fsync=fsync)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def commit_folder(partial: Path, target: Path, *, fsync: bool = False) -> None:
    """Give a finished folder its name, in place of what had it.

    Parameters
    ----------
    partial
        From `partial_path`, filled; it is gone afterwards.
    target
        The name it takes.
    fsync
        Whether to wait until all of it has reached the disk.

    Raises
    ------
    NotWrittenError
        If it cannot be done; what was there before still is.
    NotDurableError
        If it is done and the disk does not confirm it.

    Notes
    -----
    Linux swaps two folders in one call (renameat2). Elsewhere, and on file systems that cannot swap
    (NFS, some of FUSE), the old one is first moved aside: killed between the two renames,
    `remove_leftovers` moves it back.
    """
    old: Path | None = None
    with writing(target):
        if fsync:
            _sync_tree(partial)
        try:
            partial.rename(target)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                raise
            old = partial if _exchange(partial, target) else _move_aside(partial, target)
    if fsync:
        with settling(target):
            sync_folder(target.parent)
    if old is not None:
        with contextlib.suppress(OSError):  # the new one is there; what is left is recognised
            remove(old)


def _put_in_place(partial: Path, target: Path, checksum: Checksum | None, *, fsync: bool) -> None:
    if checksum is None and not has_sums(target):
        partial.replace(target)
        return
    sums = sum_path(target)
    with exclusive(sums, timeout_s=LOCK_TIMEOUT_S):
        if checksum is None:
            # before its file: a file without a checksum is no alarm, one with an older one is
            sums.unlink(missing_ok=True)
            partial.replace(target)
            return
        new = sum_of_file(partial, checksum)
        _write_sums(target, {new, *_standing(target, checksum)}, fsync=fsync)
        partial.replace(target)
        if fsync:
            with settling(target):
                sync_folder(target.parent)
        with contextlib.suppress(NotWrittenError):  # the right one stands there already
            _write_sums(target, {new}, fsync=fsync)


def _standing(target: Path, checksum: Checksum) -> frozenset[Sum]:
    """Give the checksums that the old file may have; it stands there until the new one does."""
    try:
        known = read_sums(target)
    except UnreadableError:
        known = frozenset()
    try:
        return known or frozenset({sum_of_file(target, checksum)})
    except FileNotFoundError:
        return frozenset()


def _write_sums(target: Path, sums: set[Sum], *, fsync: bool) -> None:
    path = sum_path(target)
    partial = partial_path(path)
    try:
        with writing(target):
            with partial.open("xb") as stream:
                stream.write(sums_text(target.name, sorted(sums, key=lambda each: each.digest)))
                if fsync:
                    stream.flush()
                    sync(stream.fileno())
            partial.replace(path)
            if fsync:
                # on the disk before the file that it is about
                sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _move_aside(partial: Path, target: Path) -> Path:
    aside = aside_path(partial)
    target.rename(aside)
    try:
        partial.rename(target)
    except OSError:
        aside.rename(target)
        raise
    return aside


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(libc(), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
        return False
    raise OSError(number, os.strerror(number), str(other))


def sync(number: int) -> None:
    """Wait until an open file has reached the disk."""
    # fsync of macOS leaves it in the cache of the disk
    full = getattr(fcntl, "F_FULLFSYNC", None) if os.name == "posix" else None
    if full is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(number, full)
            return
    os.fsync(number)


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            with Path(root, name).open("rb") as stream:
                sync(stream.fileno())
        sync_folder(Path(root))


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder have reached the disk."""
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # some network file systems have no such thing, and sync a rename as it is made
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}:
            raise
    finally:
        os.close(number)
