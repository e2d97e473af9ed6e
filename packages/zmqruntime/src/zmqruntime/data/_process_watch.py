"""ProcessWatch: the kernel says when the process of a peer on this host ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.carriers._negotiate import HostIdentity
    from zmqruntime.loop._loop import IOThread

__all__ = ["ProcessWatch"]


class ProcessWatch:
    """Learns at once when processes end; everything on the loop.

    Parameters
    ----------
    loop
        Thread that is told.
    host
        Where this process runs.
    """

    def __init__(self, loop: IOThread, host: HostIdentity) -> None:
        self._loop = loop
        self._host = host
        self._watched: dict[str, int] = {}

    def watch(self, key: str, host: HostIdentity, on_ended: Callable[[str], object]) -> None:
        """Watch a process.

        Parameters
        ----------
        key
            Name of the watch; each is used once.
        host
            The process. One of another host, or of a system without pidfds, is not watched: its
            connection tells of its end.
        on_ended
            Called with the key when it has ended.
        """
        if not self._host.sees_pid_of(host) or not hasattr(os, "pidfd_open"):
            return
        try:
            descriptor = os.pidfd_open(host.pid)
        except OSError:
            return
        self._watched[key] = descriptor
        self._loop.register(descriptor, lambda: on_ended(key))

    def forget(self, key: str) -> None:
        """Watch no longer; a key that is not known is ignored."""
        descriptor = self._watched.pop(key, None)
        if descriptor is not None:
            self._loop.unregister(descriptor)
            os.close(descriptor)
