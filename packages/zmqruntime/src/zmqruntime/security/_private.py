"""Private files: written whole or not at all, read by their owner only."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from zmqruntime._errors import ExposedKeyError, KeyFileError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_private_folder", "read_private", "write_file"]

_MOST_BYTES = 64 * 1024


def make_private_folder(folder: Path) -> Path:
    """Make a folder that only this user can enter, or check the one that is there.

    Raises
    ------
    ExposedKeyError
        If it is somebody else's, or others can enter it.
    KeyFileError
        If it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise KeyFileError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ExposedKeyError(f"{folder} is not a folder of this user; choose another one")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ExposedKeyError(f"other users can enter {folder}: run chmod 700 {folder}")
    return folder


def write_file(path: Path, text: bytes, *, mode: int = 0o600, replace: bool = False) -> None:
    """Write a file so that it is there whole, with its mode, or not at all.

    Parameters
    ----------
    path
        Where.
    text
        What.
    mode
        Permissions from the first moment on; the umask does not widen them.
    replace
        Put it in the place of one that is there.

    Raises
    ------
    FileExistsError
        If there is one and it is not to be replaced.
    KeyFileError
        If it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            if replace:
                draft.replace(path)
            else:
                path.hardlink_to(draft)  # unlike a rename, it never takes the place of another
        finally:
            draft.unlink(missing_ok=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from error


def read_private(path: Path) -> bytes:
    """Read a file that only this user may read or write.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ExposedKeyError
        If it is somebody else's, a link, or others can open it.
    KeyFileError
        If it cannot be read, or is too long for a key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ExposedKeyError(f"{path} is not a file and is not used")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_uid != os.getuid():
            raise ExposedKeyError(f"{path} is not a file of this user and is not used")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ExposedKeyError(
                f"other users can open {path}: run chmod 600 {path}, and make a new pair if "
                "somebody may have read a secret in it"
            )
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise KeyFileError(f"{path} is too long for a key file")
    return text
