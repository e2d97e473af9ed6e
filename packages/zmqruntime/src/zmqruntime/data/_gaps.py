"""What is missing from a stream, from which number to which, and why.

Sans-IO: a receiver tells `SequenceCheck` the numbers that come, a sender tells `LossBook` the
numbers that will not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GapReason(StrEnum):
    """Why payloads are missing."""

    SUPERSEDED = "superseded"
    NO_CREDIT = "no_credit"
    LEASE_EXPIRED = "lease_expired"
    HWM = "hwm"
    PRODUCER_LOST = "producer_lost"
    RECEIVER_LOST = "receiver_lost"
    RECEIVER_LEFT = "receiver_left"
    EVICTED = "evicted"
    REFUSED = "refused"
    LINK = "link"


class Recovery(StrEnum):
    """How the missing payloads can be had."""

    REPLAY = "replay"
    SNAPSHOT = "snapshot"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A run of payloads that did not arrive.

    Attributes
    ----------
    topic, epoch
        The stream, and which run of it.
    first, last
        Numbers of the first and the last one that are missing; `last` is not below `first`.
    reason
        Why.
    recover
        How they can be had.
    detail
        A sentence for people, or nothing.
    """

    topic: str
    epoch: str
    first: int
    last: int
    reason: GapReason
    recover: Recovery = Recovery.NONE
    detail: str = ""

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Loss:
    """Numbers that a sender knows will not come.

    Attributes
    ----------
    first, last
        First and last number.
    reason
        Why.
    """

    first: int
    last: int
    reason: GapReason


class LossBook:
    """The sender's list of losses that its receiver has not been told of yet."""

    def __init__(self) -> None:
        self._losses: list[Loss] = []

    def __bool__(self) -> bool:
        return bool(self._losses)

    def add(self, sequence: int, reason: GapReason, *, count: int = 1) -> None:
        """Note lost numbers; neighbours lost for one reason become one entry.

        Parameters
        ----------
        sequence
            The first number; they are added in rising order.
        reason
            Why they will not come.
        count
            How many they are.
        """
        end = sequence + count - 1
        if self._losses:
            last = self._losses[-1]
            if last.reason == reason and last.last + 1 == sequence:
                self._losses[-1] = Loss(last.first, end, reason)
                return
        self._losses.append(Loss(sequence, end, reason))

    def take(self) -> tuple[Loss, ...]:
        """Hand over the list and begin a new one."""
        losses, self._losses = tuple(self._losses), []
        return losses


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a number that came means.

    Attributes
    ----------
    fresh
        Whether it is new; a repeated or late one is dropped.
    missing
        First and last number skipped before it, or None.
    """

    fresh: bool
    missing: tuple[int, int] | None = None


class SequenceCheck:
    """The receiver's memory of one stream: numbers begin at 1 and rise by 1."""

    def __init__(self) -> None:
        self._last = 0

    @property
    def last(self) -> int:
        """The highest number accounted for; 0 before the first."""
        return self._last

    def came(self, sequence: int) -> Verdict:
        """Book a number that came.

        Parameters
        ----------
        sequence
            The number, at least 1.

        Returns
        -------
        Verdict
            Whether to use it, and what is missing before it.
        """
        if sequence <= self._last:
            return Verdict(fresh=False)
        missing = (self._last + 1, sequence - 1) if sequence > self._last + 1 else None
        self._last = sequence
        return Verdict(fresh=True, missing=missing)

    def lost(self, first: int, last: int) -> list[tuple[int, int, bool]]:
        """Book numbers that the sender says will not come.

        Parameters
        ----------
        first, last
            The numbers; those accounted for already are skipped.

        Returns
        -------
        list[tuple[int, int, bool]]
            Runs that are missing now: first, last, and whether the sender named them (else they
            were skipped without a word).
        """
        runs: list[tuple[int, int, bool]] = []
        first = max(first, self._last + 1)
        if last < first:
            return runs
        if first > self._last + 1:
            runs.append((self._last + 1, first - 1, False))
        runs.append((first, last, True))
        self._last = last
        return runs
