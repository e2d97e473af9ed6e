"""Schedule: when a periodic call is due; absolute times, so that work never makes it drift.

Sans-IO: the caller says what time it is and waits by itself.
"""

from __future__ import annotations

import math

__all__ = ["MOST_HZ", "Schedule"]

MOST_HZ = 10_000.0


class Schedule:
    """Ticks at a fixed rate from a first moment on.

    Tick k is due at ``start + k / hz``, whatever happened before. One that is late is still
    taken, unless the next one is due too: then it is missed, and counted, and never made up for.

    Parameters
    ----------
    hz
        Ticks per second, above 0 and at most 10,000.
    start
        Monotonic second of the first tick.

    Raises
    ------
    ValueError
        If the rate is not one.

    Examples
    --------
    >>> schedule = Schedule(10.0, start=100.0)
    >>> schedule.due, schedule.take(100.02), schedule.due
    (100.0, 0, 100.1)
    >>> schedule.take(100.45), schedule.due
    (3, 100.5)
    """

    def __init__(self, hz: float, *, start: float) -> None:
        if not (math.isfinite(hz) and 0 < hz <= MOST_HZ):
            raise ValueError(f"a rate is above 0 and at most {MOST_HZ:g} Hz, not {hz!r}")
        self.hz = hz
        self._start = start
        self._next = 0
        self._missed = 0

    @property
    def due(self) -> float:
        """Monotonic second of the next tick."""
        return self._at(self._next)

    @property
    def missed(self) -> int:
        """Ticks that were skipped so far."""
        return self._missed

    @property
    def taken(self) -> int:
        """Ticks that were taken so far."""
        return self._next - self._missed

    def take(self, now: float) -> int:
        """Take the tick that is due.

        Parameters
        ----------
        now
            Monotonic second, not before `due`.

        Returns
        -------
        int
            How many ticks before it were missed.

        Raises
        ------
        ValueError
            If it is not due yet.
        """
        if now < self.due:
            raise ValueError(f"the next tick is due in {self.due - now:g} s")
        # rounding may put the quotient on the wrong side of a tick
        index = max(self._next, math.floor((now - self._start) * self.hz) + 1)
        while index > self._next and self._at(index) > now:
            index -= 1
        missed = index - self._next
        self._missed += missed
        self._next = index + 1
        return missed

    def _at(self, index: int) -> float:
        return self._start + index / self.hz
