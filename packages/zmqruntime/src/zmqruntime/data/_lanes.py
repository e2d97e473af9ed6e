"""The runs that one producer has with its receivers, present ones and former ones.

Sans-IO and not safe for threads: the publisher or feed calls everything here under its own lock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime.carriers._inline import part_sizes
from zmqruntime.carriers._negotiate import ARENA_FROM_BYTES, Carrier
from zmqruntime.data._credits import Credit
from zmqruntime.data._gaps import Gap, GapReason
from zmqruntime.data._replay import QueuedLoss
from zmqruntime.processes._identity import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.carriers._lender import LentSlot, SlotLender
    from zmqruntime.carriers._negotiate import HostIdentity
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._outbox import Ack
    from zmqruntime.data._outgoing import Outgoing
    from zmqruntime.data._stream_messages import Acks

__all__ = ["Admission", "Lanes"]

_MOST_LOST_KEYS = 65_536
_MOST_COUNTED = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Admission:
    """Room that was taken for one payload: with whom, and in which slot if it is shared.

    Several lanes may be admitted to one slot; the payload is then written once.
    """

    lane: Lane
    lent: LentSlot | None


class Lanes:
    """Present and former runs of one producer, and what was lost with them.

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
        self.live: dict[str, Lane] = {}
        self._before: Counter[str] = Counter()  # of runs that are over
        self.clock = clock
        self._lender = lender
        self._host = host
        self._limits = limits
        self._former: dict[str, Lane] = {}
        self._lost_keys: dict[str, None] = {}
        self._gaps: list[Gap] = []

    @property
    def current(self) -> Lane | None:
        """The present run of a producer that has one receiver."""
        return next(iter(self.live.values()), None)

    @property
    def ready(self) -> Lane | None:
        """The present run, if its receiver listens."""
        lane = self.current
        return lane if lane is not None and lane.subscribed else None

    @property
    def lost_keys(self) -> tuple[str, ...]:
        """Keys that were lost with a receiver and not sent again, oldest first."""
        return tuple(self._lost_keys)

    @property
    def counters(self) -> Counter[str]:
        """Totals of all runs: sent, bytes, arena, inline, superseded, lost and others."""
        totals = Counter(self._before)
        for lane in self.live.values():
            totals.update(lane.traffic)
        return totals

    def count_lost(self, count: int) -> None:
        """Note payloads that are no longer kept for who was away."""
        self._before["lost"] += count

    def note(self, gaps: Sequence[Gap]) -> None:
        """Add gaps to those that are handed over next."""
        self._gaps += gaps

    def begin(self, lane: Lane) -> None:
        """Add a run."""
        self.live[lane.epoch] = lane

    def take_gaps(self) -> list[Gap]:
        """Hand over the gaps that were found since the last call."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def admit(self, payload: Outgoing) -> Admission | None:
        """Take room at the one receiver for a payload, or for its first part.

        Parameters
        ----------
        payload
            What is to be sent.

        Returns
        -------
        Admission | None
            None if there is no room now, or others that came before it still wait.
        """
        lane = self.ready
        if lane is None or lane.queue:
            return None
        window = lane.outbox.window
        if not self._by_arena(lane, payload):
            return self._admit_inline(lane, payload)
        if not self._has_arena(lane, payload) or not window.has_room(payload.total):
            return None
        lent = self._lend(payload, [lane])
        if lent is None:
            # Slots of its own come back. Those of a run that a broken link ended may be held to
            # the end of their time by a receiver that cannot say that it is done with them.
            return None if lane.outbox.slots else self._admit_inline(lane, payload)
        window.take(payload.total)
        return Admission(lane, lent)

    def _admit_inline(self, lane: Lane, payload: Outgoing) -> Admission | None:
        first = part_sizes(payload.total, limits=self._limits)[0]
        return Admission(lane, None) if lane.outbox.window.take(first) else None

    def has_room(self, lane: Lane, payload: Outgoing) -> bool:
        """Say whether a whole payload may go to a receiver now."""
        messages = self._messages(lane, payload)
        return lane.ready and lane.outbox.window.has_room(payload.total, messages=messages)

    def share(self, payload: Outgoing, lanes: Sequence[Lane]) -> list[Admission]:
        """Take room for a whole payload at each receiver that has some.

        Parameters
        ----------
        payload
            What is to be sent.
        lanes
            Who should receive it.

        Returns
        -------
        list[Admission]
            For those with room. Who can share memory shares one slot. Nobody waits for a slot that
            another receiver holds: if none is free, or a receiver has half of them, the payload
            goes inline.
        """
        roomy = [lane for lane in lanes if self.has_room(lane, payload)]
        sharing = [
            lane
            for lane in roomy
            if self._by_arena(lane, payload)
            and self._has_arena(lane, payload)
            and (len(self.live) == 1 or 2 * lane.outbox.slots < self._lender.slots)
        ]
        lent = self._lend(payload, sharing) if sharing else None
        admissions = []
        for lane in roomy:
            mine = lent if lane in sharing else None
            messages = 1 if mine is not None else self._messages(lane, payload, inline=True)
            if lane.outbox.window.take(payload.total, messages=messages):
                admissions.append(Admission(lane, mine))
            elif mine is not None:
                self._lender.give_back(mine, lane.epoch)
        return admissions

    def undo(self, admission: Admission, payload: Outgoing) -> None:
        """Give room back that was taken for a payload which was not sent."""
        messages = 1
        if admission.lent is not None:
            self._lender.give_back(admission.lent, admission.lane.epoch)
        else:
            messages = self._messages(admission.lane, payload, inline=True)
        admission.lane.outbox.window.give_back(Credit(messages, payload.total))

    def needs_arena(self, payload: Outgoing, lane: Lane | None = None) -> bool:
        """Say whether a payload waits for an arena that nobody has made or announced yet.

        Parameters
        ----------
        payload
            What is to be sent.
        lane
            To whom; None is the one receiver.
        """
        lane = self.ready if lane is None else lane
        if lane is None or not lane.ready or lane.announcing:
            return False
        return self._by_arena(lane, payload) and not self._has_arena(lane, payload)

    def awaits_arena(self, payload: Outgoing, lane: Lane) -> bool:
        """Say whether a receiver is just opening the arena that a payload could go through."""
        return lane.announcing and self._by_arena(lane, payload)

    def count(self, lane: Lane, payload: Outgoing, carrier: Carrier) -> None:
        """Note a payload that was sent; its key is no longer a lost one."""
        traffic = lane.traffic
        traffic["sent"] += 1
        traffic["bytes"] += payload.total
        traffic[carrier.value] += 1
        self._lost_keys.pop(payload.key, None)

    def count_superseded(self, lane: Lane | None) -> None:
        """Note a payload that gave way to a newer one."""
        if lane is None:
            self._before["superseded"] += 1
        else:
            lane.traffic["superseded"] += 1

    def lose(self, lane: Lane, sequence: int, reason: GapReason) -> None:
        """Note one payload that will not come, for the receiver and for the application."""
        key = lane.outbox.open_key(sequence)
        self._gaps.append(lane.outbox.lose(sequence, reason))
        if reason is not GapReason.SUPERSEDED:
            lane.traffic["lost"] += 1
        if key is not None:
            self._remember(key)

    def lose_next(self, lane: Lane, reason: GapReason, count: int = 1) -> None:
        """Note payloads that will not come and have no number yet, behind those that wait."""
        if lane.queue:
            for _ in range(count):
                lane.enqueue_loss(reason)
            return
        self._lose_run(lane, reason, count)

    def tell_queued_losses(self, lane: Lane) -> None:
        """Give numbers to the losses that have come to the head of a queue."""
        while lane.queue and isinstance(lane.queue[0], QueuedLoss):
            loss = lane.dequeue()
            assert isinstance(loss, QueuedLoss)
            self._lose_run(lane, loss.reason, loss.count)

    def _lose_run(self, lane: Lane, reason: GapReason, count: int) -> None:
        self._gaps.append(lane.outbox.lose_next(count, reason))
        if reason is not GapReason.SUPERSEDED:
            lane.traffic["lost"] += count

    def end(
        self, reason: GapReason, lane: Lane | None = None, *, carried: bool = False
    ) -> Lane | None:
        """End a run: what nobody has acknowledged is lost.

        Parameters
        ----------
        reason
            Why.
        lane
            Which; None is the one present run.
        carried
            Whether its ring and queue are kept for the next run.

        Returns
        -------
        Lane | None
            The run that ended, if there was one.
        """
        lane = self.current if lane is None else lane
        if lane is None or self.live.pop(lane.epoch, None) is None:
            return None
        lane.live = False
        self._gaps += lane.outbox.gaps(reason)
        for entry in () if carried else lane.take_queue():
            if isinstance(entry, QueuedLoss):
                self._lose_run(lane, entry.reason, entry.count)
            else:
                self._lose_run(lane, reason, 1)
        under_way = lane.outbox.unacknowledged()
        again = len(lane.ring) if carried else 0
        lane.traffic["lost"] += max(0, len(under_way) - again)
        for _, key in under_way:
            self._remember(key)
        self._before.update(lane.traffic)
        if lane.outbox.slots:
            self._former[lane.epoch] = lane
            self.reclaim()
        return lane

    def resend(self, lane: Lane, first: int, last: int) -> tuple[int, ...]:
        """Let payloads of a run that did not arrive wait to be sent again, under new numbers.

        Parameters
        ----------
        lane
            The run.
        first, last
            Which numbers the receiver misses.

        Returns
        -------
        tuple[int, ...]
            The numbers that come again; the others were acknowledged, or are no longer kept.
        """
        found = lane.ring.find(first, last)
        for entry in found:  # under its old number nothing more is waited for
            lane.ring.done(entry.again)
            under_way, lent = lane.outbox.forget(entry.again)
            if lent is not None:
                self._lender.give_back(lent, lane.epoch)
            if under_way:
                parts = self._messages(lane, entry.payload, inline=True)
                messages = parts if lent is None else 1
                lane.outbox.window.give_back(Credit(messages, entry.payload.total))
        lane.enqueue(found)
        return tuple(entry.again for entry in found)

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
        lane = self.live.get(acks.epoch) or self._former.get(acks.epoch)
        if lane is None:
            return []
        self._lender.renew(lane.epoch, now=self.clock())
        news, slots = lane.outbox.heard(acks, now=self.clock())
        # what a peer counts is shown to others, and must stay a number that can be written
        copied = lane.traffic["peer_copied"] + acks.copied
        lane.traffic["peer_copied"] = min(copied, _MOST_COUNTED)
        for lent in slots:
            self._lender.give_back(lent, lane.epoch)
        for ack in news:
            if not lane.outbox.waits_for(ack.sequence):
                lane.ring.done(ack.sequence)
        if not lane.live:
            self.forget([ack.key for ack in news])
            if not lane.outbox.slots:
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
        ended = self._lender.expire(now=self.clock())
        for epoch, lent in ended:
            lane = self.live.get(epoch)
            if lane is not None:
                sequence = lane.outbox.find(lent)
                if sequence is not None:
                    self.lose(lane, sequence, GapReason.LEASE_EXPIRED)
        for epoch, lent in ended:
            former_lane = self._former.get(epoch)
            if former_lane is not None:
                former_lane.outbox.reclaimed([lent])
                if not former_lane.outbox.slots:
                    del self._former[epoch]
        return found or bool(ended)

    def forget(self, keys: Sequence[str]) -> None:
        """Take keys off the list of lost ones."""
        for key in keys:
            self._lost_keys.pop(key, None)

    def open_keys(self) -> tuple[str, ...]:
        """List the keys that are lost or under way, oldest first."""
        under_way = [key for lane in self.live.values() for _, key in lane.outbox.unacknowledged()]
        return tuple(dict.fromkeys([*self._lost_keys, *under_way]))

    def _lend(self, payload: Outgoing, lanes: Sequence[Lane]) -> LentSlot | None:
        holders = [lane.epoch for lane in lanes]
        lent = self._lender.take(payload.sizes, holders, now=self.clock())
        if lent is None and self.reclaim():
            lent = self._lender.take(payload.sizes, holders, now=self.clock())
        return lent

    def _messages(self, lane: Lane, payload: Outgoing, *, inline: bool = False) -> int:
        if not inline and self._by_arena(lane, payload) and self._has_arena(lane, payload):
            return 1
        return len(part_sizes(payload.total, limits=self._limits))

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
        if len(self._lost_keys) > _MOST_LOST_KEYS:
            del self._lost_keys[next(iter(self._lost_keys))]
