"""GapReports: what one producer's receivers have lost lately, and who is called with it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.data._gaps import Gap
    from zmqruntime.data._lanes import Lanes
    from zmqruntime.loop._loop import IOThread

__all__ = ["GapReports"]

_MOST_GAPS = 1000


class GapReports:
    """Hands on the gaps that are found, and remembers the last 1000.

    Parameters
    ----------
    loop
        Thread on which callbacks run.
    lanes
        Where gaps are found.

    Notes
    -----
    Callbacks are added by any thread; all else is done under the producer's lock.
    """

    def __init__(self, loop: IOThread, lanes: Lanes) -> None:
        self._loop = loop
        self._lanes = lanes
        self._recent: deque[Gap] = deque(maxlen=_MOST_GAPS)
        self.callbacks: list[Callable[[Gap], object]] = []

    @property
    def recent(self) -> tuple[Gap, ...]:
        """The last gaps, oldest first."""
        return tuple(self._recent)

    def report(self) -> None:
        """Hand on what was found since the last call."""
        for gap in self._lanes.take_gaps():
            self._recent.append(gap)
            for callback in self.callbacks:
                self._loop.call_soon(callback, gap)
