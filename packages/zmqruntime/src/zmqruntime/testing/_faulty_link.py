"""FaultyLink: one way of a link that carries messages, for machines that know no sockets."""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["FaultyLink", "LinkFault", "random_faults"]

T = TypeVar("T")


class LinkFault(StrEnum):
    """What becomes of one message."""

    NONE = "none"
    """It arrives at once."""
    DROP = "drop"
    """It never arrives."""
    DUPLICATE = "duplicate"
    """It arrives twice."""
    DELAY = "delay"
    """It arrives later; messages sent after it may come before it."""
    REORDER = "reorder"
    """It arrives right after the message that is sent next."""
    CUT = "cut"
    """The link breaks: this message and all that are under way never arrive."""


def random_faults(
    seed: int, weights: Mapping[str, float], *, most_cuts: int | None = None
) -> Iterator[LinkFault]:
    """Draw faults without end, always the same for a seed.

    Parameters
    ----------
    seed
        Which series.
    weights
        How often each fault comes, at most 1 together; the rest of the messages arrive.
    most_cuts
        After so many cuts there are no more; None for any number.

    Yields
    ------
    LinkFault
        For one message each.

    Raises
    ------
    ValueError
        If the weights are negative or more than 1 together, or a fault is unknown.

    Examples
    --------
    >>> faults = random_faults(7, {"drop": 0.5})
    >>> [str(next(faults)) for _ in range(5)]
    ['drop', 'drop', 'none', 'drop', 'none']
    """
    shares = {LinkFault(fault): share for fault, share in weights.items()}
    rest = 1.0 - sum(shares.values())
    if min(shares.values(), default=0.0) < 0 or rest < -1e-9:
        raise ValueError(f"weights are at least 0 and at most 1 together, not {dict(weights)}")
    return _draw(random.Random(seed), shares, max(0.0, rest), most_cuts)


def _draw(
    source: random.Random, shares: Mapping[LinkFault, float], rest: float, most_cuts: int | None
) -> Iterator[LinkFault]:
    faults = [*shares, LinkFault.NONE]
    weights = [*shares.values(), rest]
    cuts = 0
    while True:
        (fault,) = source.choices(faults, weights)
        if fault is LinkFault.CUT:
            if cuts == most_cuts:
                fault = LinkFault.NONE
            else:
                cuts += 1
        yield fault


class FaultyLink(Generic[T]):
    """Carries messages one way, and does to each what a script says.

    Nothing waits and nothing runs by itself: `send` puts a message in, `receive` takes out what
    has arrived. Two of them, one for each way, stand for a connection.

    Parameters
    ----------
    script
        The fault of each message in turn, from `random_faults` or from hypothesis; messages
        beyond its end arrive.
    delay
        Seconds by which a delayed message is late.
    clock
        Monotonic seconds, for example a `FakeClock`.

    Attributes
    ----------
    connected
        Whether the link is there; `send` loses messages while it is not.
    counters
        How many messages were ``sent``, ``received`` and ``lost``, and how many met each fault.

    Examples
    --------
    >>> link = FaultyLink(["duplicate", "drop", "reorder"])
    >>> for word in ("a", "b", "c", "d"):
    ...     link.send(word)
    >>> link.receive()
    ['a', 'a', 'd', 'c']
    """

    def __init__(
        self,
        script: Iterable[LinkFault | str] = (),
        *,
        delay: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script = iter(script)
        self._delay = delay
        self._clock = clock
        self._order = itertools.count()
        self._under_way: list[tuple[float, int, T]] = []
        self._held: list[T] = []  # until the next message has been sent
        self.connected = True
        self.counters: Counter[str] = Counter()

    def send(self, message: T) -> None:
        """Put a message in; without a link it is lost.

        Parameters
        ----------
        message
            Anything; it is not copied.
        """
        self.counters["sent"] += 1
        if not self.connected:
            self.counters["lost"] += 1
            return
        fault = LinkFault(next(self._script, LinkFault.NONE))
        self.counters[fault] += 1
        if fault is LinkFault.CUT:
            self.counters["lost"] += 1
            self.cut()
        elif fault is LinkFault.DROP:
            self.counters["lost"] += 1
        elif fault is LinkFault.REORDER:
            self._held.append(message)
        else:
            late = self._delay if fault is LinkFault.DELAY else 0.0
            for _ in range(2 if fault is LinkFault.DUPLICATE else 1):
                self._put(message, late)
            self._let_go()

    def receive(self) -> list[T]:
        """Take what has arrived by now, in the order of arrival.

        Returns
        -------
        list
            Empty when nothing has.
        """
        now = self._clock()
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            arrived.append(heapq.heappop(self._under_way)[2])
        self.counters["received"] += len(arrived)
        return arrived

    def next_due(self) -> float | None:
        """Say when the next message arrives, by the clock; None while none is under way."""
        return self._under_way[0][0] if self._under_way else None

    def settle(self) -> None:
        """Let go of a message that waits for one to overtake it, when none will come."""
        self._let_go()

    def cut(self) -> None:
        """Break the link; what is under way is lost. Twice is harmless."""
        self.connected = False
        self.counters["lost"] += len(self._under_way) + len(self._held)
        self._under_way.clear()
        self._held.clear()

    def heal(self) -> None:
        """Connect again; what was lost stays lost."""
        self.connected = True

    def _put(self, message: T, late: float) -> None:
        heapq.heappush(self._under_way, (self._clock() + late, next(self._order), message))

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for message in held:
            self._put(message, 0.0)
