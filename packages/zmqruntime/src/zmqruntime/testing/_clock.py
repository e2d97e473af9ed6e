"""FakeClock: a clock that moves when told."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Monotonic seconds that pass only when the test says so.

    Parameters
    ----------
    start
        First reading in seconds.

    Examples
    --------
    >>> clock = FakeClock(10.0)
    >>> clock.advance(2.5)
    >>> clock()
    12.5
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Parameters
        ----------
        seconds
            How much, at least 0.

        Raises
        ------
        ValueError
            If time would go backwards.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self._now += seconds
