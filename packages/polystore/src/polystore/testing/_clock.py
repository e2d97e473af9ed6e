"""A clock that moves when told."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Stands in for `time.monotonic`.

    Parameters
    ----------
    now
        Where it starts, in s.
    """

    def __init__(self, now: float = 1000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Time in s."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises
        ------
        ValueError
            If it would go backwards.
        """
        if seconds < 0:
            raise ValueError(f"time does not go backwards: {seconds}")
        self._now += seconds
