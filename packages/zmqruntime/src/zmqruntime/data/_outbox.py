"""What a producer has sent to one receiver and what became of it.

Sans-IO: numbers, room, and acknowledgements of one run of a stream. The publisher does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from zmqruntime.carriers._link import LinkMeter
from zmqruntime.data._credits import Credit, CreditWindow
from zmqruntime.data._gaps import Gap, GapReason, LossBook, Recovery
from zmqruntime.data._stream_messages import Acks, AckStatus, Failure, LossNote

if TYPE_CHECKING:
    from collections.abc import Collection

    from zmqruntime.carriers._lender import LentSlot

__all__ = ["Ack", "Outbox", "Sent"]

_MOST_SETTLED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """What became of a payload at its receiver.

    Attributes
    ----------
    key
        The application's name for the payload.
    sequence
        Its number in the stream.
    status
        Received, displayed or failed.
    code, text
        Of a failure: a word for programs, a sentence for people. Empty otherwise.
    state_version
        Number of the state that the payload shows; None when it shows none.
    """

    key: str
    sequence: int
    status: AckStatus
    code: str = ""
    text: str = ""
    state_version: int | None = None


@dataclass(slots=True)
class Sent:
    """A payload under way.

    Attributes
    ----------
    key
        The application's name for it.
    lent
        The slot it lies in, until the receiver has released it; None inline.
    status
        The last word about it, or None.
    at, nbytes
        When it was handed over, in seconds, and its bytes.
    state_version
        Number of the state that it shows, or None.
    """

    key: str
    lent: LentSlot | None = None
    status: AckStatus | None = None
    at: float = 0.0
    nbytes: int = 0
    state_version: int | None = None


class Outbox:
    """One run of a stream, seen from its producer.

    Parameters
    ----------
    topic, epoch
        Names of the stream and of this run.
    credit
        What the receiver has room for.
    until
        With which word a payload counts as acknowledged; a failure always does.
    """

    def __init__(
        self, *, topic: str, epoch: str, credit: Credit, until: AckStatus = AckStatus.RECEIVED
    ) -> None:
        self.topic = topic
        self.epoch = epoch
        self.window = CreditWindow(credit)
        self.losses = LossBook()
        self._until = until
        self._last = 0
        self._sent: dict[int, Sent] = {}
        self._settled: dict[int, Sent] = {}
        self.slots = 0
        """How many slots the receiver has not released."""
        self.link = LinkMeter()

    @property
    def last(self) -> int:
        """The highest number that was given."""
        return self._last

    def number(self) -> int:
        """Give the next number."""
        self._last += 1
        return self._last

    @property
    def oldest(self) -> float | None:
        """When the oldest payload that nobody has acknowledged was handed over, in seconds."""
        return next((sent.at for sent in self._sent.values() if self._waits(sent)), None)

    def sent(
        self,
        sequence: int,
        key: str,
        lent: LentSlot | None = None,
        *,
        at: float = 0.0,
        nbytes: int = 0,
        state_version: int | None = None,
    ) -> None:
        """Note a payload that is under way, since when, in seconds, and what state it shows."""
        self._sent[sequence] = Sent(key, lent, at=at, nbytes=nbytes, state_version=state_version)
        self.slots += lent is not None

    def find(self, lent: LentSlot) -> int | None:
        """Say which payload lies in a slot; None if none does."""
        return next((seq for seq, sent in self._sent.items() if sent.lent == lent), None)

    def unacknowledged(self) -> tuple[tuple[int, str], ...]:
        """List number and key of the payloads nobody has acknowledged, in order."""
        return tuple((seq, sent.key) for seq, sent in self._sent.items() if self._waits(sent))

    def is_clear(self) -> bool:
        """Whether every payload is acknowledged."""
        return not any(self._waits(sent) for sent in self._sent.values())

    def open_key(self, sequence: int) -> str | None:
        """Return the key of a payload that nobody has acknowledged; None for any other number."""
        sent = self._sent.get(sequence)
        return None if sent is None or not self._waits(sent) else sent.key

    def waits_for(self, sequence: int) -> bool:
        """Say whether a number is under way and not acknowledged."""
        return self.open_key(sequence) is not None

    def reclaimed(self, slots: Collection[LentSlot]) -> None:
        """Note slots that were taken back without the receiver's word."""
        for sent in self._sent.values():
            if sent.lent is not None and sent.lent in slots:
                sent.lent = None
                self.slots -= 1

    def lose(self, sequence: int, reason: GapReason) -> Gap:
        """Note a number that will not come, to be told to the receiver.

        Parameters
        ----------
        sequence
            The number.
        reason
            Why.

        Returns
        -------
        Gap
            The same for the application.
        """
        sent = self._sent.pop(sequence, None)
        self.slots -= sent is not None and sent.lent is not None
        self.losses.add(sequence, reason)
        return self.gap(sequence, sequence, reason)

    def lose_next(self, count: int, reason: GapReason) -> Gap:
        """Give the next numbers to payloads that will not come, as `lose` does for one."""
        first = self._last + 1
        self._last += count
        self.losses.add(first, reason, count=count)
        return self.gap(first, self._last, reason)

    def forget(self, sequence: int) -> tuple[bool, LentSlot | None]:
        """Wait for a number no longer; say whether it was under way, and in which slot."""
        sent = self._sent.pop(sequence, None)
        lent = None if sent is None else sent.lent
        self.slots -= lent is not None
        return sent is not None, lent

    def notes(self) -> tuple[LossNote, ...]:
        """Hand over the losses that the receiver has not been told of."""
        return tuple(LossNote(each.first, each.last, each.reason) for each in self.losses.take())

    def gap(
        self, first: int, last: int, reason: GapReason, recover: Recovery = Recovery.NONE
    ) -> Gap:
        """Make a gap of this stream."""
        return Gap(
            topic=self.topic,
            epoch=self.epoch,
            first=first,
            last=last,
            reason=reason,
            recover=recover,
        )

    def gaps(self, reason: GapReason) -> list[Gap]:
        """Say which payloads are lost if this run ends now, as runs of numbers."""
        runs: list[tuple[int, int]] = []
        for sequence, _ in self.unacknowledged():
            if runs and runs[-1][1] + 1 == sequence:
                runs[-1] = (runs[-1][0], sequence)
            else:
                runs.append((sequence, sequence))
        return [self.gap(first, last, reason, Recovery.REPLAY) for first, last in runs]

    def heard(self, acks: Acks, *, now: float = 0.0) -> tuple[list[Ack], list[LentSlot]]:
        """Book a receiver's news; numbers that were never sent are ignored.

        Parameters
        ----------
        acks
            The news.
        now
            When it came, in seconds.

        Returns
        -------
        tuple[list[Ack], list[LentSlot]]
            What is new about payloads, in order, and the slots that came back.
        """
        self.window.give_back(Credit(acks.messages, acks.nbytes))
        slots = []
        for sequence, held in zip_longest(acks.released, acks.held_us[: len(acks.released)]):
            sent = self._sent.get(sequence) or self._settled.get(sequence)
            if sent is not None:
                waited = (held or 0) / 1e6  # an older receiver does not say
                self.link.arrived(sequence, sent.nbytes, sent=sent.at, heard=now, held=waited)
            if sent is not None and sent.lent is not None:
                slots.append(sent.lent)
                sent.lent = None
                self.slots -= 1
                self._settle(sequence)
        news = [self._learn(each.sequence, AckStatus.FAILED, each) for each in acks.failed]
        news += [self._learn(sequence, AckStatus.DISPLAYED) for sequence in acks.displayed]
        news += [self._learn(sequence, AckStatus.RECEIVED) for sequence in acks.received]
        return [ack for ack in news if ack is not None], slots

    def _learn(
        self, sequence: int, status: AckStatus, failure: Failure | None = None
    ) -> Ack | None:
        sent = self._sent.get(sequence) or self._settled.get(sequence)
        if sent is None or sent.status in (status, AckStatus.DISPLAYED, AckStatus.FAILED):
            return None
        sent.status = status
        self._settle(sequence)
        return Ack(
            key=sent.key,
            sequence=sequence,
            status=status,
            code="" if failure is None else failure.code,
            text="" if failure is None else failure.text,
            state_version=sent.state_version,
        )

    def _settle(self, sequence: int) -> None:
        """Put a payload aside once nothing is waited for; a last word about it may still come."""
        sent = self._sent.get(sequence)
        if sent is not None and sent.lent is None and not self._waits(sent):
            self._settled[sequence] = self._sent.pop(sequence)
            if len(self._settled) > _MOST_SETTLED:
                del self._settled[next(iter(self._settled))]

    def _waits(self, sent: Sent) -> bool:
        return sent.status is None or (
            sent.status is AckStatus.RECEIVED and self._until is AckStatus.DISPLAYED
        )
