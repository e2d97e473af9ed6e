"""Dispatch: a payload for which there is room becomes messages, in order, on the loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zmqruntime._errors import NotAttachedError, PublishTimeoutError
from zmqruntime.carriers._inline import cut, part_sizes
from zmqruntime.carriers._negotiate import Carrier
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._outgoing import frozen, loss_message
from zmqruntime.data._replay import Queued
from zmqruntime.data._stream_messages import Mode, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Condition

    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.carriers._layout import SlotReference
    from zmqruntime.carriers._lender import LentSlot, SlotLender
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._lanes import Admission, Lanes
    from zmqruntime.data._outgoing import Outgoing
    from zmqruntime.data._sharing import Sharing
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._polling import Deadline

    Frames = list[bytes | memoryview]

__all__ = ["Dispatch"]


class Dispatch:
    """The way from a payload to the socket.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    lanes
        Present runs and former ones.
    lender
        Shared memory.
    changed
        The publisher's lock.
    limits
        Sizes at which inline payloads are cut.
    send
        Sends one message; called on the loop.
    on_loss
        Called under the lock when a payload was lost, to report it.

    Notes
    -----
    In mode reliable payloads are copied on the thread of the caller, in mode latest on the loop.
    """

    def __init__(
        self,
        loop: IOThread,
        *,
        lanes: Lanes,
        lender: SlotLender,
        changed: Condition,
        limits: InlineLimits,
        send: Callable[[Lane, Frames], object],
        on_loss: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._lanes = lanes
        self._lender = lender
        self._changed = changed
        self._limits = limits
        self._transport = send
        self._on_loss = on_loss
        self._outgoing: deque[tuple[Lane, Frames]] = deque()
        self._sending = False

    def send(
        self,
        payload: Outgoing,
        admission: Admission,
        deadline: Deadline,
        *,
        sequence: int | None = None,
    ) -> int:
        """Send a payload to one receiver that has room for it, or for its first part.

        Parameters
        ----------
        payload, admission
            What is to be sent, and the room that was taken.
        deadline
            Until when to wait for room for further parts.
        sequence
            A number that was given before; None takes the next one.

        Returns
        -------
        int
            Number of the payload; 0 if the receiver was lost meanwhile and nothing was sent.

        Raises
        ------
        PublishTimeoutError
            If there was no room for a further part in time.
        NotAttachedError
            If the receiver was lost between two parts.
        """
        lane, lent = admission.lane, admission.lent
        if lent is None:
            return self._send_inline(payload, lane, deadline, sequence=sequence)
        reference = self._fill(payload, [admission])
        with self._changed:
            return self._refer(payload, admission, reference, sequence=sequence)

    def spread(
        self,
        payload: Outgoing,
        admissions: Sequence[Admission],
        *,
        entry: Queued | None = None,
        sequence: int | None = None,
    ) -> int:
        """Send a whole payload to each receiver that has room, writing and copying it once.

        Parameters
        ----------
        payload, admissions
            What is to be sent, and the room that was taken.
        entry
            The one receiver's place in a queue that it comes from, if it does.
        sequence
            A number that was given before by the one receiver; None takes the next one of each.

        Returns
        -------
        int
            To how many it was sent; the others were lost meanwhile.
        """
        reference = self._fill(payload, admissions)
        inline = [admission for admission in admissions if admission.lent is None]
        parts: list[list[bytes | memoryview]] = []
        copied = 0
        if inline:
            for chunks in cut(payload.buffers, limits=self._limits):
                frames = [frozen(chunk) for chunk in chunks]
                copied += sum(
                    chunk.nbytes
                    for chunk, frame in zip(chunks, frames, strict=True)
                    if frame is not chunk
                )
                parts.append(frames)
        sent = 0
        with self._changed:
            for admission in admissions:
                if admission.lent is not None and reference is not None:
                    sent += bool(
                        self._refer(payload, admission, reference, sequence=sequence, entry=entry)
                    )
                elif admission.lane.live:
                    self._post(payload, admission.lane, parts, sequence=sequence, entry=entry)
                    admission.lane.traffic["copied"] += copied
                    sent += 1
        return sent

    def drain(self, lane: Lane, sharing: Sharing) -> None:
        """Send what waits for room at a receiver, oldest first, as far as there is some.

        Parameters
        ----------
        lane
            The receiver.
        sharing
            Makes the arena that a payload may need.

        Notes
        -----
        On the loop. A payload leaves the queue when its message is handed over, so that nothing
        newer goes before it.
        """
        while True:
            with self._changed:
                self._lanes.tell_queued_losses(lane)
                self._on_loss()
                if not lane.ready or not lane.queue:
                    self._changed.notify_all()
                    return
                entry = lane.queue[0]
                assert isinstance(entry, Queued)
                payload = entry.payload
                admissions: list[Admission] = []
                offers = self._lanes.needs_arena(payload, lane)
                if not offers and not self._lanes.awaits_arena(payload, lane):
                    admissions = self._lanes.share(payload, [lane])
                    self._on_loss()
            if admissions:
                self.spread(payload, admissions, entry=entry)
            elif offers:
                sharing.offer(lane, payload)
                return  # it comes back when the arena is there, or will not be
            else:
                return

    def _fill(self, payload: Outgoing, admissions: Sequence[Admission]) -> SlotReference | None:
        """Write a payload into the slot that was taken for it, if one was."""
        lent = next((each.lent for each in admissions if each.lent is not None), None)
        if lent is None:
            return None
        number = max(admission.lane.outbox.last for admission in admissions) + 1
        try:
            return self._lender.fill(lent, payload.buffers, sequence=number)
        except BaseException:
            with self._changed:
                for admission in admissions:
                    self._lanes.undo(admission, payload)
                self._changed.notify_all()
            raise

    def _refer(
        self,
        payload: Outgoing,
        admission: Admission,
        reference: SlotReference | None,
        *,
        sequence: int | None = None,
        entry: Queued | None = None,
    ) -> int:
        """Tell a receiver where a payload lies; under the lock."""
        lane = admission.lane
        if not lane.live:
            self._lanes.undo(admission, payload)
            return 0
        number = lane.outbox.number() if sequence is None else sequence
        self._note(lane, number, payload, admission.lent)
        again, retained = _marks(entry)
        message = payload.message(lane, number, ref=reference, again=again, retained=retained)
        self._hand_over(lane, message)
        if entry is not None:
            lane.dequeue()
            self._changed.notify_all()
        self._lanes.count(lane, payload, Carrier.ARENA)
        lane.traffic["copied"] += payload.total
        self._keep(lane, number, payload)
        return number

    def _post(
        self,
        payload: Outgoing,
        lane: Lane,
        parts: Sequence[Sequence[bytes | memoryview]],
        *,
        sequence: int | None,
        entry: Queued | None,
    ) -> None:
        """Send every part of a payload, for which there is room; under the lock."""
        number = lane.outbox.number() if sequence is None else sequence
        self._note(lane, number, payload)
        again, retained = _marks(entry)
        for index, chunks in enumerate(parts):
            part = Part(index, len(parts))
            message = payload.message(
                lane, number, part=part, chunks=chunks, again=again, retained=retained
            )
            self._hand_over(lane, message)
        if entry is not None:
            lane.dequeue()
            self._changed.notify_all()
        self._lanes.count(lane, payload, Carrier.INLINE)
        self._keep(lane, number, payload)

    def _send_inline(
        self, payload: Outgoing, lane: Lane, deadline: Deadline, *, sequence: int | None
    ) -> int:
        sizes = part_sizes(payload.total, limits=self._limits)
        number = sequence or 0
        for index, chunks in enumerate(cut(payload.buffers, limits=self._limits)):
            # libzmq reads the frames later: what the caller may change is copied now
            frames = [frozen(chunk) for chunk in chunks]
            with self._changed:
                if index and not self._wait_for_part(lane, sizes[index], deadline):
                    self.lose(lane, number, GapReason.NO_CREDIT)
                    raise PublishTimeoutError(
                        f"{lane.peer} made no room for part {index + 1} of {len(sizes)} of "
                        f"{payload.key!r} in time; the receiver drops its beginning"
                    )
                if not lane.live:
                    if index:
                        raise NotAttachedError(
                            f"{lane.peer} was lost while {payload.key!r} was sent; send it again"
                        )
                    return 0
                if not index:
                    number = number or lane.outbox.number()
                    self._note(lane, number, payload)
                part = Part(index, len(sizes))
                message = payload.message(lane, number, part=part, chunks=frames)
                self._hand_over(lane, message)
                for chunk, frame in zip(chunks, frames, strict=True):
                    lane.traffic["copied"] += 0 if frame is chunk else chunk.nbytes
        with self._changed:
            self._lanes.count(lane, payload, Carrier.INLINE)
            self._keep(lane, number, payload)
        return number

    def _note(
        self, lane: Lane, number: int, payload: Outgoing, lent: LentSlot | None = None
    ) -> None:
        """Note that a payload is under way; under the lock."""
        lane.outbox.sent(
            number,
            payload.key,
            lent,
            at=self._lanes.clock(),
            nbytes=payload.total,
            state_version=payload.state_version,
        )

    def _keep(self, lane: Lane, sequence: int, payload: Outgoing) -> None:
        """Keep a payload until it is acknowledged, if that was asked for; under the lock.

        Its bytes are nobody else's then: whoever sends to a lane that keeps has seen to it.
        """
        if lane.keeps and lane.mode is Mode.RELIABLE:
            lane.ring.keep(sequence, payload)

    def _wait_for_part(self, lane: Lane, nbytes: int, deadline: Deadline) -> bool:
        """Wait for room for a further part; True also when the receiver was lost."""
        return self._changed.wait_for(
            lambda: not lane.live or lane.outbox.window.take(nbytes), deadline.remaining()
        )

    def _hand_over(self, lane: Lane, frames: Frames) -> None:
        """Hand a message to the loop; under the lock, so that numbers stay in order."""
        self._outgoing.append((lane, frames))
        if not self._sending:
            self._sending = True
            self._loop.call_soon(self.transmit)

    def lose(self, lane: Lane, sequence: int, reason: GapReason) -> None:
        """Give a payload up after its number was given, and tell the receiver; under the lock."""
        self._lanes.lose(lane, sequence, reason)
        self._on_loss()
        self.tell_losses(lane)

    def tell_losses(self, lane: Lane) -> None:
        """Tell a receiver what it does not know of yet, which needs no room; under the lock."""
        if lane.ready and lane.outbox.losses:
            self._hand_over(lane, loss_message(lane))

    def transmit(self) -> None:
        """Send what was handed over; on the loop."""
        with self._changed:
            batch = list(self._outgoing)
            self._outgoing.clear()
            self._sending = False
        for lane, frames in batch:
            self._transport(lane, frames)


def _marks(entry: Queued | None) -> tuple[int, bool]:
    return (0, False) if entry is None else (entry.again, entry.retained)
