"""The folder of locks, tokens and socket files, which only its user can enter."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from zmqruntime._errors import ServiceError

__all__ = ["is_app", "open_private", "remove_socket_file", "runtime_dir"]

_APP = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def is_app(name: str) -> bool:
    """Say whether a word can name an application in file names."""
    return _APP.fullmatch(name) is not None


def runtime_dir() -> Path:
    """Return the folder of locks and tokens, made with mode 0700 where it is missing.

    Returns
    -------
    Path
        ``$XDG_RUNTIME_DIR/zmqruntime``, else ``~/.local/state/zmqruntime/run``.

    Raises
    ------
    ServiceError
        If the folder belongs to another user or others can enter it.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        folder = Path(base) / "zmqruntime"
    else:
        folder = Path.home() / ".local" / "state" / "zmqruntime" / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ServiceError(
            f"{folder} is not a folder of this user: remove it, or set "
            "XDG_RUNTIME_DIR to a folder that is"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ServiceError(f"other users can enter {folder}: run chmod 700 on it")
    return folder


def open_private(path: Path) -> int:
    """Open a file of this user for reading and writing, made with mode 0600 where it is missing.

    Raises
    ------
    ServiceError
        If it is not a plain file of this user, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServiceError(f"cannot open the lock file {path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(descriptor)
        raise ServiceError(f"{path} is not a file of this user: remove it")
    return descriptor


def remove_socket_file(path: Path) -> None:
    """Remove a socket file that a server left; for the holder of its lock.

    Parameters
    ----------
    path
        The file; it may be missing.

    Raises
    ------
    ServiceError
        If it is not a socket, or not of this user.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.getuid():
        raise ServiceError(f"{path} is not a socket of this user: remove it")
    path.unlink()
