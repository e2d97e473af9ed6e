"""Sweeping: what killed processes left in shared memory is removed now and every minute."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zmqruntime.carriers._sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["SWEEP_S", "Sweeping"]

logger = logging.getLogger(__name__)

SWEEP_S = 60.0


class Sweeping:
    """Sweeps a folder of shared memory at the start, and then at intervals on a loop.

    Parameters
    ----------
    loop
        Thread that sweeps; it takes about 20 us for each segment in the folder.
    directory
        Where segments lie; a tmpfs.
    interval
        Seconds between two sweeps.
    """

    def __init__(self, loop: IOThread, directory: Path, *, interval: float = SWEEP_S) -> None:
        self._loop = loop
        self._directory = directory
        self._interval = interval
        self._stopped = False
        sweep(directory)
        self._timer: TimerHandle = loop.call_later(interval, self._again)

    def stop(self) -> None:
        """Sweep no more; any thread, twice is harmless."""
        self._stopped = True
        self._timer.cancel()

    def _again(self) -> None:
        try:
            sweep(self._directory)
        except OSError as error:
            logger.warning("%s cannot be swept: %s", self._directory, error)
        if not self._stopped:
            self._timer = self._loop.call_later(self._interval, self._again)
