"""Timers: calls that are to be made at a time, the earliest first."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TimerHandle", "Timers"]

_MOST_TIMERS = 256  # before those that were cancelled are looked for


class TimerHandle:
    """A call that the loop will make once, unless it is cancelled first."""

    __slots__ = ("_function", "due")

    def __init__(self, due: float, function: Callable[[], object]) -> None:
        self.due = due
        self._function: Callable[[], object] | None = function

    def cancel(self) -> None:
        """Make sure that the call is not made any more; any thread, any number of times."""
        self._function = None

    @property
    def cancelled(self) -> bool:
        """Whether the call was cancelled or has been made."""
        return self._function is None

    def take(self) -> Callable[[], object] | None:
        """Return the function and forget it; for the loop."""
        function, self._function = self._function, None
        return function


class Timers:
    """The calls that a loop has yet to make; it makes none itself, and is not safe for threads.

    Attributes
    ----------
    due
        Monotonic second of the first call, cancelled or not; infinity when there is none.
    """

    def __init__(self) -> None:
        self.due = math.inf
        self._heap: list[tuple[float, int, TimerHandle]] = []
        self._order = itertools.count()
        self._most = _MOST_TIMERS

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, handle: TimerHandle) -> None:
        """Plan a call; of those that are due at one time, the first planned comes first."""
        if len(self._heap) >= self._most:
            self._drop_cancelled()
        heapq.heappush(self._heap, (handle.due, next(self._order), handle))
        self.due = self._heap[0][0]

    def patience_ms(self, now: float) -> int | None:
        """Say for how long nothing can be due, in whole milliseconds; None is without end.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        while self._heap and self._heap[0][2].cancelled:
            self._pop()
        if not self._heap:
            return None
        # zmq takes whole milliseconds; rounding down would spin through the last one
        return max(0, math.ceil((self.due - now) * 1000))

    def take_due(self, now: float) -> Callable[[], object] | None:
        """Return the first call that is due by now and was not cancelled, and forget it.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        while self.due <= now:
            function = self._pop().take()
            if function is not None:
                return function
        return None

    def clear(self) -> None:
        """Forget every call."""
        self._heap.clear()
        self.due = math.inf

    def _pop(self) -> TimerHandle:
        handle = heapq.heappop(self._heap)[2]
        self.due = self._heap[0][0] if self._heap else math.inf
        return handle

    def _drop_cancelled(self) -> None:
        """Forget the calls that were cancelled: far ones would pile up.

        The next time is when there are twice as many, so that each costs a few steps at most.
        """
        self._heap = [entry for entry in self._heap if not entry[2].cancelled]
        heapq.heapify(self._heap)
        self._most = max(_MOST_TIMERS, 2 * len(self._heap))
