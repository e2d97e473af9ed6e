"""Segments: files in shared memory, named after who made them, with all their pages reserved."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from zmqruntime._errors import DescriptorError
from zmqruntime.carriers._names import SegmentName

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_SEGMENT_BYTES", "create_segment", "open_segment"]

MAX_SEGMENT_BYTES = 1 << 40


def create_segment(size: int, *, directory: Path) -> tuple[SegmentName, int]:
    """Make a file of this process in shared memory, with all its pages reserved.

    Parameters
    ----------
    size
        Bytes.
    directory
        Where; a tmpfs.

    Returns
    -------
    tuple[SegmentName, int]
        Its name and a descriptor open for reading and writing; the caller closes and unlinks.

    Raises
    ------
    OSError
        If there is no such folder, no right to write to it, or no room in it (ENOSPC). Nothing is
        left behind then.
    """
    name = SegmentName.mine()
    path = directory / str(name)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return name, descriptor


def open_segment(text: str, *, directory: Path) -> tuple[SegmentName, int, int]:
    """Open a file of another process of this user for reading, if it is what it should be.

    Parameters
    ----------
    text
        The name as announced.
    directory
        Where; a tmpfs.

    Returns
    -------
    tuple[SegmentName, int, int]
        The parts of the name, a read-only descriptor and the size in bytes; the caller closes.

    Raises
    ------
    DescriptorError
        If the name has another shape, or the file is missing, a link, no plain file, another
        user's, or larger than any of ours.
    """
    name = SegmentName.parse(text)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(directory / text, flags)
    except OSError as error:
        msg = f"segment {text} cannot be opened: {error.strerror}; refused"
        raise DescriptorError(msg) from error
    found = os.fstat(descriptor)
    if (
        not stat.S_ISREG(found.st_mode)
        or found.st_uid != os.getuid()
        or name.uid != found.st_uid
        or found.st_size > MAX_SEGMENT_BYTES
    ):
        os.close(descriptor)
        msg = (
            f"segment {text}: expected a plain file of uid {os.getuid()} of at most "
            f"{MAX_SEGMENT_BYTES} bytes, found mode {found.st_mode:o}, uid {found.st_uid}, "
            f"{found.st_size} bytes; refused"
        )
        raise DescriptorError(msg)
    return name, descriptor, found.st_size
