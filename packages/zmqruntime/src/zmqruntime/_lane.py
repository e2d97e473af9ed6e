"""Runs of a stream as its producer keeps them: the one with the present receiver, and former ones.

Sans-IO and not safe for threads: the publisher calls everything here under its own lock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime._credits import Credit
from zmqruntime._gaps import Gap, GapReason
from zmqruntime._outbox import Ack, Outbox
from zmqruntime._owner import identity_of
from zmqruntime._stream_messages import stream_topic
from zmqruntime.carriers._inline import part_sizes
from zmqruntime.carriers._negotiate import ARENA_FROM_BYTES, Carrier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime._outgoing import Outgoing
    from zmqruntime._stream_messages import Acks, AckStatus, Attached
    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.carriers._lender import LentSlot, SlotLender
    from zmqruntime.carriers._negotiate import CarrierReason, HostIdentity

__all__ = ["Admission", "Lane", "Lanes"]

_MOST_LOST_KEYS = 65_536


class Lane:
    """One run of a stream with one receiver.

    Parameters
    ----------
    attached
        What the receiver agreed to.
    topic
        Name of the stream.
    reason
        Why payloads travel as they do.
    until
        With which word a payload counts as acknowledged.
    """

    def __init__(
        self, attached: Attached, *, topic: str, reason: CarrierReason, until: AckStatus
    ) -> None:
        self.epoch = attached.epoch
        self.host = attached.host
        self.incarnation = attached.incarnation
        self.filter = stream_topic(topic, attached.subscriber)
        self.reason = reason
        self.subscribed = False
        """Whether its subscription was seen; before, libzmq would drop what is sent."""
        self.announced: set[str] = set()
        """Segments the receiver has opened."""
        self.announcing = False
        self.outbox = Outbox(
            topic=topic,
            epoch=attached.epoch,
            credit=Credit(attached.messages, attached.nbytes),
            until=until,
        )


@dataclass(frozen=True, slots=True)
class Admission:
    """Room that was taken for one payload: with whom, and in which slot if it is shared."""

    lane: Lane
    lent: LentSlot | None


class Lanes:
    """The present run of a stream, former ones, and what was lost with them.

    Parameters
    ----------
    lender
        Shared memory.
    host
        Where this process runs.
    limits
        Sizes at which inline payloads are cut.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        *,
        lender: SlotLender,
        host: HostIdentity,
        limits: InlineLimits,
        clock: Callable[[], float],
    ) -> None:
        self.current: Lane | None = None
        self.counters: Counter[str] = Counter()
        self._lender = lender
        self._host = host
        self._limits = limits
        self._clock = clock
        self._former: dict[str, Lane] = {}
        self._lost_keys: dict[str, None] = {}
        self._gaps: list[Gap] = []

    @property
    def ready(self) -> Lane | None:
        """The present run, if its receiver listens."""
        lane = self.current
        return lane if lane is not None and lane.subscribed else None

    @property
    def lost_keys(self) -> tuple[str, ...]:
        """Keys that were lost with a receiver and not sent again, oldest first."""
        return tuple(self._lost_keys)

    def take_gaps(self) -> list[Gap]:
        """Hand over the gaps that were found since the last call."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def admit(self, payload: Outgoing) -> Admission | None:
        """Take room for a payload, or for its first part.

        Parameters
        ----------
        payload
            What is to be sent.

        Returns
        -------
        Admission | None
            None if there is no room now.
        """
        lane = self.ready
        if lane is None:
            return None
        window = lane.outbox.window
        if not self._by_arena(lane, payload):
            first = part_sizes(payload.total, limits=self._limits)[0]
            return Admission(lane, None) if window.take(first) else None
        if not self._has_arena(lane, payload) or not window.has_room(payload.total):
            return None
        lent = self._lender.take(payload.sizes, lane.epoch, now=self._clock())
        if lent is None and self.reclaim():
            lent = self._lender.take(payload.sizes, lane.epoch, now=self._clock())
        if lent is None:
            return None
        window.take(payload.total)
        return Admission(lane, lent)

    def undo(self, admission: Admission, payload: Outgoing) -> None:
        """Give room back that was taken for a payload which was not sent."""
        if admission.lent is not None:
            self._lender.give_back(admission.lent, admission.lane.epoch)
        admission.lane.outbox.window.give_back(Credit(1, payload.total))

    def needs_arena(self, payload: Outgoing) -> bool:
        """Say whether a payload waits for an arena that nobody has made or announced yet."""
        lane = self.ready
        if lane is None or lane.announcing:
            return False
        return self._by_arena(lane, payload) and not self._has_arena(lane, payload)

    def count(self, payload: Outgoing, carrier: Carrier) -> None:
        """Note a payload that was sent; its key is no longer a lost one."""
        self.counters.update({"sent": 1, "bytes": payload.total, str(carrier): 1})
        self._lost_keys.pop(payload.key, None)

    def lose(self, lane: Lane, sequence: int, reason: GapReason) -> None:
        """Note one payload that will not come, for the receiver and for the application."""
        key = dict(lane.outbox.unacknowledged()).get(sequence)
        self._gaps.append(lane.outbox.lose(sequence, reason))
        if key is not None:
            self._remember(key)

    def end(self, reason: GapReason) -> Lane | None:
        """End the present run: what nobody has acknowledged is lost.

        Parameters
        ----------
        reason
            Why.

        Returns
        -------
        Lane | None
            The run that ended, if there was one.
        """
        lane, self.current = self.current, None
        if lane is None:
            return None
        self._gaps += lane.outbox.gaps(reason)
        for _, key in lane.outbox.unacknowledged():
            self._remember(key)
        if lane.outbox.lent():
            self._former[lane.epoch] = lane
            self.reclaim()
        return lane

    def heard(self, acks: Acks) -> list[Ack]:
        """Book a receiver's news, which may be about a former run.

        Parameters
        ----------
        acks
            The news.

        Returns
        -------
        list[Ack]
            What is new about payloads.
        """
        lane = self.current
        if lane is None or lane.epoch != acks.epoch:
            lane = self._former.get(acks.epoch)
        if lane is None:
            return []
        self._lender.renew(lane.epoch, now=self._clock())
        news, slots = lane.outbox.heard(acks)
        for lent in slots:
            self._lender.give_back(lent, lane.epoch)
        if lane is not self.current:
            self.forget([ack.key for ack in news])
            if not lane.outbox.lent():
                del self._former[lane.epoch]
        return news

    def reclaim(self) -> bool:
        """Take back slots that nobody will release any more.

        Returns
        -------
        bool
            Whether there were any: of a former receiver whose process is gone, or whose holder has
            been silent for as long as a lease lasts.
        """
        found = False
        for epoch, former in list(self._former.items()):
            if self._host.sees_pid_of(former.host):
                process = identity_of(former.host.pid)
                if process is None or process.start_time != former.host.start_ticks:
                    found |= bool(self._lender.drop(epoch))
                    del self._former[epoch]
        ended = self._lender.expire(now=self._clock())
        lane = self.current
        for lent in ended:
            sequence = None if lane is None else lane.outbox.find(lent)
            if lane is not None and sequence is not None:
                self.lose(lane, sequence, GapReason.LEASE_EXPIRED)
        for epoch, former in list(self._former.items()):
            former.outbox.reclaimed(ended)
            if not former.outbox.lent():
                del self._former[epoch]
        return found or bool(ended)

    def forget(self, keys: Sequence[str]) -> None:
        """Take keys off the list of lost ones."""
        for key in keys:
            self._lost_keys.pop(key, None)

    def open_keys(self) -> tuple[str, ...]:
        """List the keys that are lost or under way, oldest first."""
        under_way = () if self.current is None else self.current.outbox.unacknowledged()
        return tuple(dict.fromkeys([*self._lost_keys, *(key for _, key in under_way)]))

    def _by_arena(self, lane: Lane, payload: Outgoing) -> bool:
        return (
            lane.reason.carrier is Carrier.ARENA
            and payload.total >= ARENA_FROM_BYTES
            and self._lender.could_hold(payload.sizes)
        )

    def _has_arena(self, lane: Lane, payload: Outgoing) -> bool:
        return self._lender.fits(payload.sizes) and self._lender.current in lane.announced

    def _remember(self, key: str) -> None:
        self.forget([key])
        self._lost_keys[key] = None
        self.counters["lost"] += 1
        if len(self._lost_keys) > _MOST_LOST_KEYS:
            del self._lost_keys[next(iter(self._lost_keys))]
