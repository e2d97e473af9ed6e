"""A lock on one file for processes and threads, which the kernel gives up when its holder ends.

The file that is locked lies beside the one it is about, as long as somebody holds it::

    .{target}.polystore-lock

Notes
-----
flock(2) belongs to an open file: threads that each open it exclude each other as processes do, and
however a process ends, its lock ends with it. Who has the lock removes the file before giving it
up; who waited for a file that is removed finds that its name leads elsewhere, and begins again.

Over NFS, Linux turns it into a lock at the server, which holds for all clients that mount it with
locks (not ``nolock``, nor ``local_lock=flock``), and not for programs on the server itself.
A child that was forked while its parent held the lock, and whose parent was then killed, keeps
it until it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import sys
import time
from typing import TYPE_CHECKING

from polystore._errors import LockedError
from polystore.files._writing import writing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "LOCK_SUFFIX",
    "LOCK_TIMEOUT_S",
    "exclusive",
    "is_abandoned",
    "lock_path",
    "remove_abandoned_lock",
]

LOCK_SUFFIX = ".polystore-lock"
LOCK_TIMEOUT_S = 60.0
_LONGEST_PAUSE = 0.02
_STATEMENT_BYTES = 200


def lock_path(target: Path) -> Path:
    """Name of the file that is locked while `target` is changed."""
    return target.with_name(f".{target.name}{LOCK_SUFFIX}")


@contextlib.contextmanager
def exclusive(target: Path, *, timeout_s: float) -> Iterator[None]:
    """Change `target` while nobody else does who asks for the same.

    Parameters
    ----------
    target
        In a folder that exists; need not exist itself.
    timeout_s
        Longest wait for others, in seconds.

    Raises
    ------
    LockedError
        If somebody holds it for so long; the message says who.
    NotWrittenError
        If there cannot be a lock, as where you may not write.
    """
    lock = lock_path(target)
    with writing(target):
        held = _acquire(lock, target, timeout_s)
    try:
        yield
    finally:
        _release(lock, held)


def is_abandoned(lock: Path) -> bool:
    """Say whether nobody holds a lock any more, so that its file is only left over."""
    try:
        held = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        return _lock(held)
    finally:
        os.close(held)


def remove_abandoned_lock(lock: Path) -> bool:
    """Remove a file that nobody holds any more; False if somebody does."""
    try:
        held = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    if not _lock(held) or not _is(held, lock):
        os.close(held)
        return False
    _release(lock, held)
    return True


def _acquire(lock: Path, target: Path, timeout_s: float) -> int:
    due = time.monotonic() + timeout_s
    pause = 0.0005
    while True:
        held = _open(lock)
        try:
            if _lock(held):
                if _is(held, lock):
                    _say_who(held)
                    return held
                os.close(held)  # its holder removed it: the name leads to another by now
                continue
            holder = _who(held)
        except BaseException:
            os.close(held)
            raise
        os.close(held)
        if time.monotonic() >= due:
            raise LockedError(
                f"{target} was not changed: {holder} has been changing it for {timeout_s:g} s; "
                "wait for it or end it, and run again"
            )
        time.sleep(pause * random.random())  # two who wait together should not meet again
        pause = min(2 * pause, _LONGEST_PAUSE)


def _open(lock: Path) -> int:
    return os.open(lock, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


def _release(lock: Path, held: int) -> None:
    # while it is held, so that nobody can be given a file that is then removed
    with contextlib.suppress(OSError):
        lock.unlink()
    # said aloud, because a forked child may have the same open file
    _unlock(held)
    os.close(held)


def _is(held: int, lock: Path) -> bool:
    try:
        there = lock.stat()
        mine = os.fstat(held)
    except OSError:
        return False
    return mine.st_nlink > 0 and (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _say_who(held: int) -> None:
    # only for the message of those who wait; a full disk is no reason not to lock
    with contextlib.suppress(OSError):
        statement = f"process {os.getpid()} of {socket.gethostname()}\n".encode()
        os.ftruncate(held, 0)
        os.lseek(held, 0, os.SEEK_SET)
        os.write(held, statement[:_STATEMENT_BYTES])


def _who(held: int) -> str:
    os.lseek(held, 0, os.SEEK_SET)
    try:
        statement = os.read(held, _STATEMENT_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        statement = ""
    return statement if statement.isprintable() and statement else "another process"


if sys.platform == "win32":
    import msvcrt

    # beyond the statement, which others read while it is held
    _LOCKED_BYTE = 1 << 20

    def _lock(held: int) -> bool:
        os.lseek(held, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(held, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(held: int) -> None:
        os.lseek(held, _LOCKED_BYTE, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(held, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(held: int) -> bool:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}:
                return False
            raise
        return True

    def _unlock(held: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_UN)
