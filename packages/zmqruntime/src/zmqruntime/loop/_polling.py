"""Deadline and Backoff: how long is left, and how long to wait before the next try."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff", "Deadline"]


class Deadline:
    """A moment after which waiting is pointless.

    Parameters
    ----------
    seconds
        From now; negative counts as 0.
    clock
        Monotonic seconds.

    Examples
    --------
    >>> Deadline(5.0, clock=lambda: 100.0).remaining()
    5.0
    """

    __slots__ = ("_at", "_clock")

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock() + max(0.0, seconds)

    def remaining(self) -> float:
        """Return the seconds that are left, at least 0."""
        return max(0.0, self._at - self._clock())

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self._clock() >= self._at


class Backoff:
    """Waits that double from the first to the longest.

    Parameters
    ----------
    first
        First wait in seconds.
    longest
        Longest wait in seconds.

    Examples
    --------
    >>> waits = Backoff(first=0.05, longest=0.15)
    >>> [waits.next() for _ in range(4)]
    [0.05, 0.1, 0.15, 0.15]
    """

    __slots__ = ("_first", "_longest", "_next")

    def __init__(self, *, first: float = 0.05, longest: float = 2.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def next(self) -> float:
        """Return the next wait in seconds."""
        wait, self._next = self._next, min(self._next * 2, self._longest)
        return wait

    def reset(self) -> None:
        """Begin again with the first wait."""
        self._next = self._first
