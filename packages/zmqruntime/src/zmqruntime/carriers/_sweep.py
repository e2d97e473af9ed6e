"""Removal of segments that a killed process of this user has left in shared memory."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

from zmqruntime._errors import DescriptorError
from zmqruntime.carriers._layout import own_pid_namespace, read_pid_namespace
from zmqruntime.carriers._names import SHARED_MEMORY, SegmentName

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)


def sweep(directory: Path = SHARED_MEMORY) -> tuple[str, ...]:
    """Unlink the segments of this user whose owner no longer exists.

    Parameters
    ----------
    directory
        Where segments lie; a tmpfs.

    Returns
    -------
    tuple[str, ...]
        Names of what was removed, sorted.

    Raises
    ------
    OSError
        If the folder cannot be listed.

    Notes
    -----
    Touched is only a plain file of this uid whose name has our shape and names a process (pid and
    start time) that is gone. A segment written in another pid namespace (a container that shares
    this folder) is left alone: its pid means nothing here.
    """
    removed = []
    with os.scandir(directory) as entries:
        candidates = sorted(entry.name for entry in entries if entry.name.startswith("zr-"))
    for text in candidates:
        try:
            name = SegmentName.parse(text)
        except DescriptorError:
            continue
        if name.uid == os.getuid() and not name.owner_lives() and _is_ours(directory / text):
            (directory / text).unlink(missing_ok=True)
            removed.append(text)
    if removed:
        _log.info("removed %d segments of ended processes: %s", len(removed), ", ".join(removed))
    return tuple(removed)


def _is_ours(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
            return False
        return read_pid_namespace(os.pread(descriptor, 64, 0)) in (None, own_pid_namespace())
    finally:
        os.close(descriptor)
