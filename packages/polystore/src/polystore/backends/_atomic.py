"""Files and folders that are there whole or not at all.

What is being written has a name of its own beside its target, and takes the target's place by one
rename. A process that is killed leaves the old thing or the new one, and at most a leftover whose
name says who was writing it::

    .{target}.{pid}-{host}-{random}.partial

`remove_leftovers` takes away those whose process is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from polystore._errors import NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "atomic_file",
    "atomic_folder",
    "commit_folder",
    "leftovers",
    "partial_path",
    "remove_leftovers",
    "write_bytes",
    "write_json",
    "writing",
]

_LEFTOVER = re.compile(
    r"\.(?P<target>.+)\.(?P<pid>[0-9]+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.(?P<what>partial|replaced)"
)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_bytes(path: Path | str, content: bytes | memoryview, *, fsync: bool = False) -> None:
    """Write a file in one piece.

    Parameters
    ----------
    path
        In a folder that exists.
    content
        All of it.
    fsync
        Whether to wait until it has reached the disk, so that it also survives a power cut.

    Raises
    ------
    NotWrittenError
        If it cannot be written, as on a full disk; what was there before still is.
    """
    with atomic_file(path, fsync=fsync) as stream:
        stream.write(content)


def write_json(path: Path | str, document: object, *, fsync: bool = False) -> None:
    """Write a JSON document in one piece, UTF-8, indented by two.

    Parameters
    ----------
    path
        In a folder that exists.
    document
        What `json.dumps` takes; NaN and infinities are refused.
    fsync
        Whether to wait until it has reached the disk.

    Raises
    ------
    NotWrittenError
        If it cannot be written; what was there before still is.
    ValueError, TypeError
        If the document is no JSON.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), fsync=fsync)


@contextlib.contextmanager
def atomic_file(path: Path | str, *, fsync: bool = False) -> Iterator[IO[bytes]]:
    """Open a file that takes its name when the block ends without an error.

    Parameters
    ----------
    path
        In a folder that exists.
    fsync
        Whether to wait until it has reached the disk.

    Raises
    ------
    NotWrittenError
        If it cannot be written; what was there before still is.
    """
    target = Path(path)
    partial = partial_path(target)
    try:
        with writing(target):
            with partial.open("xb") as stream:
                yield stream
                if fsync:
                    stream.flush()
                    os.fsync(stream.fileno())
            partial.replace(target)
            if fsync:
                _sync_folder(target.parent)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


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

    Notes
    -----
    Linux swaps two folders in one call (renameat2). Elsewhere the old one is first moved aside:
    killed between the two renames, `remove_leftovers` moves it back.
    """
    with writing(target):
        if fsync:
            _sync_tree(partial)
        try:
            partial.rename(target)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                raise
            if not _exchange(partial, target):
                aside = partial.with_name(partial.name.removesuffix("partial") + "replaced")
                target.rename(aside)
                partial.rename(target)
                partial = aside
            _remove(partial)
        if fsync:
            _sync_folder(target.parent)


def partial_path(target: Path) -> Path:
    """Name to write `target` under, beside it; `leftovers` recognises it."""
    name = f".{target.name}.{os.getpid()}-{_host()}-{secrets.token_hex(4)}.partial"
    return target.with_name(name)


@contextlib.contextmanager
def writing(target: Path | str) -> Iterator[None]:
    """Turn errors of the operating system into one that names what was not written.

    Raises
    ------
    NotWrittenError
        In place of any OSError in the block.
    """
    try:
        yield
    except NotWrittenError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        advice = {
            errno.ENOSPC: "make room on the disk and run again",
            errno.EDQUOT: "make room in your quota and run again",
            errno.EFBIG: "the file would be larger than is allowed here",
            errno.EACCES: "you may not write there",
            errno.EROFS: "the disk is read-only",
            errno.ENOENT: "the folder it goes into does not exist",
        }.get(error.errno or 0, "what stood there before still stands")
        raise NotWrittenError(
            error.errno, f"{target} was not written: {reason}; {advice}"
        ) from error


def leftovers(folder: Path | str) -> list[Path]:
    """Find what writers that are gone left in a folder and below it, sorted.

    What a process that is still alive writes is not listed, nor what another computer writes.
    """
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        matches = [name for name in (*folders, *files) if _LEFTOVER.fullmatch(name)]
        folders[:] = [name for name in folders if name not in matches]
        found.extend(Path(root, name) for name in matches if _abandoned(name))
    return sorted(found)


def remove_leftovers(folder: Path | str) -> list[Path]:
    """Remove what writers that are gone left in a folder and below it.

    Returns
    -------
    list of Path
        What was removed, or moved back to the name it had.

    Raises
    ------
    NotWrittenError
        If one of them cannot be removed.
    """
    found = leftovers(folder)
    for path in found:
        match = _LEFTOVER.fullmatch(path.name)
        assert match is not None
        target = path.with_name(match["target"])
        with writing(path):
            if match["what"] == "replaced" and not target.exists():
                path.rename(target)
            else:
                _remove(path)
    return found


@cache
def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _abandoned(name: str) -> bool:
    match = _LEFTOVER.fullmatch(name)
    if match is None or match["host"] != _host():
        return False
    pid = int(match["pid"])
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(_libc(), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}:
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(folder: Path) -> None:
    for root, _, files in os.walk(folder):
        for name in files:
            with Path(root, name).open("rb") as stream:
                os.fsync(stream.fileno())
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
