"""Dispatch: a payload for which there is room becomes messages, in order, on the loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zmqruntime._errors import NotAttachedError, PublishTimeoutError
from zmqruntime._gaps import GapReason
from zmqruntime._outgoing import frozen, loss_message
from zmqruntime._stream_messages import Part
from zmqruntime.carriers._inline import cut, part_sizes
from zmqruntime.carriers._negotiate import Carrier

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from zmqruntime._lane import Admission, Lane, Lanes
    from zmqruntime._loop import IOThread
    from zmqruntime._outgoing import Outgoing
    from zmqruntime._polling import Deadline
    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.carriers._lender import SlotLender

    Frames = list[bytes | memoryview]

__all__ = ["Dispatch"]


class Dispatch:
    """The way from a payload to the socket.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    peer
        Who receives, for messages to people.
    lanes
        The present run and former ones.
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
        peer: str,
        lanes: Lanes,
        lender: SlotLender,
        changed: Condition,
        limits: InlineLimits,
        send: Callable[[Lane, Frames], object],
        on_loss: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._peer = peer
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
        """Send a payload for which there is room.

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
        try:
            reference = self._lender.fill(lent, payload.buffers, sequence=lane.outbox.last + 1)
        except BaseException:
            with self._changed:
                self._lanes.undo(admission, payload)
                self._changed.notify_all()
            raise
        with self._changed:
            if lane is not self._lanes.current:
                self._lanes.undo(admission, payload)
                return 0
            if sequence is None:
                sequence = lane.outbox.number()
            lane.outbox.sent(sequence, payload.key, lent)
            self._hand_over(lane, payload.message(lane, sequence, ref=reference))
            self._lanes.count(payload, Carrier.ARENA)
        return sequence

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
                        f"{self._peer} made no room for part {index + 1} of {len(sizes)} of "
                        f"{payload.key!r} in time; the receiver drops its beginning"
                    )
                if lane is not self._lanes.current:
                    if index:
                        raise NotAttachedError(
                            f"{self._peer} was lost while {payload.key!r} was sent; send it again"
                        )
                    return 0
                if not index:
                    number = number or lane.outbox.number()
                    lane.outbox.sent(number, payload.key)
                part = Part(index, len(sizes))
                message = payload.message(lane, number, part=part, chunks=frames)
                self._hand_over(lane, message)
        with self._changed:
            self._lanes.count(payload, Carrier.INLINE)
        return number

    def _wait_for_part(self, lane: Lane, nbytes: int, deadline: Deadline) -> bool:
        """Wait for room for a further part; True also when the receiver was lost."""
        return self._changed.wait_for(
            lambda: lane is not self._lanes.current or lane.outbox.window.take(nbytes),
            deadline.remaining(),
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
        if lane is self._lanes.current:
            self._hand_over(lane, loss_message(lane))

    def transmit(self) -> None:
        """Send what was handed over; on the loop."""
        with self._changed:
            batch = list(self._outgoing)
            self._outgoing.clear()
            self._sending = False
        for lane, frames in batch:
            self._transport(lane, frames)
