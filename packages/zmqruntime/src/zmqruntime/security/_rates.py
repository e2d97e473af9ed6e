"""Rates: how often somebody may do something, counted by who it is."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Rate", "RateLimiter", "Rates"]

_MOST_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many per second in the long run.

    Parameters
    ----------
    per_second
        In the long run.
    burst
        At once, after a pause.

    Raises
    ------
    ValueError
        If one is not positive.
    """

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        if not (self.per_second > 0 and self.burst >= 1):
            raise ValueError(f"{self} would let nobody in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a server that others can reach puts up with.

    Parameters
    ----------
    connections
        New connections from one address.
    requests
        Requests by one key; where there are no keys, from one address.
    silent_per_address, silent
        Open connections that have sent no message yet: from one address, and in all.
    """

    connections: Rate = Rate(32.0, 128.0)
    requests: Rate = Rate(20_000.0, 40_000.0)
    silent_per_address: int = 64
    silent: int = 256


class RateLimiter:
    """One bucket of permits for each name.

    Parameters
    ----------
    rate
        The same for all.
    clock
        Monotonic seconds.
    most
        Names that are remembered; the one that was seen longest ago is forgotten first, and
        begins with a full bucket when it comes again.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        clock: Callable[[], float] = time.monotonic,
        most: int = _MOST_KNOWN,
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, name: str) -> bool:
        """Take one permit, and say whether there was one."""
        now = self._clock()
        left, since = self._buckets.pop(name, (self.rate.burst, now))
        left = min(self.rate.burst, left + max(0.0, now - since) * self.rate.per_second)
        allowed = left >= 1.0
        self._buckets[name] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return allowed

    def __len__(self) -> int:
        """Count the names that are remembered."""
        return len(self._buckets)
