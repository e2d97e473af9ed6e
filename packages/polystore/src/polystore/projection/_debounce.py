"""When to show what has come in: after a quiet moment, and never too late."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Debounce"]


@dataclass(slots=True)
class Debounce:
    """One deadline for any number of arrivals. Knows no clock: it is told the time.

    Attributes
    ----------
    quiet_s
        Nothing came for this long: show.
    longest_s
        The first has waited this long: show, even if more is coming.
    """

    quiet_s: float
    longest_s: float
    _first: float | None = None
    _last: float = 0.0

    def arrived(self, now: float) -> None:
        """Note that something came."""
        if self._first is None:
            self._first = now
        self._last = now

    def taken(self) -> None:
        """Note that everything was shown."""
        self._first = None

    @property
    def deadline(self) -> float | None:
        """When to show, on the clock of the arrivals; None while nothing waits."""
        if self._first is None:
            return None
        return min(self._last + self.quiet_s, self._first + self.longest_s)
