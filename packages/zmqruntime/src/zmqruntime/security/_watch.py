"""FolderWatch: the kernel says when a folder changes, so that nobody has to look."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["FolderWatch"]

# inotify(7): written and closed, moved in or out, deleted, the folder itself deleted or moved.
_EVENTS = 0x8 | 0x40 | 0x80 | 0x200 | 0x400 | 0x800 | 0x4  # 0x4: its permissions changed
_LOOK_S = 1.0


class FolderWatch:
    """Calls a function, on the loop, after something in a folder has changed.

    Parameters
    ----------
    loop
        The loop; the constructor runs on it.
    folder
        Which folder; files deeper down are not watched.
    on_change
        Called once for any number of changes.

    Notes
    -----
    Linux tells of changes (`inotify`). Elsewhere the function is called once a second.
    """

    def __init__(self, loop: IOThread, folder: Path, on_change: Callable[[], object]) -> None:
        self._loop = loop
        self._on_change = on_change
        self._descriptor = _watch(folder)
        self._timer: TimerHandle | None = None
        if self._descriptor is None:
            self._timer = loop.call_later(_LOOK_S, self._look)
        else:
            loop.register(self._descriptor, self._on_readable)

    def close(self) -> None:
        """Watch no longer; twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._descriptor is not None:
            self._loop.unregister(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _on_readable(self) -> None:
        if self._descriptor is None:
            return
        os.read(self._descriptor, 64 * 1024)
        self._on_change()

    def _look(self) -> None:
        self._timer = self._loop.call_later(_LOOK_S, self._look)
        self._on_change()


def _watch(folder: Path) -> int | None:
    """Return a descriptor that is readable after changes; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        return None  # the user's instances are used up
    if libc.inotify_add_watch(descriptor, os.fsencode(folder), ctypes.c_uint32(_EVENTS)) < 0:
        os.close(descriptor)
        return None
    return descriptor
