"""Room for a payload: waiting for it, and the shared memory that has to be made first."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import LoopStoppedError, NotAttachedError, PublishTimeoutError
from zmqruntime._publisher_state import LinkState
from zmqruntime._stream_messages import Announce
from zmqruntime.carriers._negotiate import CarrierReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from threading import Condition

    from zmqruntime._client import ZMQClient
    from zmqruntime._lane import Admission, Lane, Lanes
    from zmqruntime._messages import Reply
    from zmqruntime._outgoing import Outgoing
    from zmqruntime._polling import Deadline
    from zmqruntime.carriers._lender import SlotLender

__all__ = ["Room"]

logger = logging.getLogger(__name__)


class Room:
    """What a publisher may send now, and what it waits for otherwise.

    Parameters
    ----------
    client
        Connection on which new segments are announced.
    topic
        Name of the stream.
    lanes
        The present run and former ones.
    lender
        Shared memory.
    changed
        The publisher's lock; it is notified whenever there may be more room.
    describe
        Says how the publisher stands: its link, and a sentence for people. Called under the lock.
    on_loss
        Called under the lock when payloads may have been lost, to report them.
    on_arena
        Called on the loop when a segment was announced, or will not be.
    """

    def __init__(
        self,
        client: ZMQClient,
        *,
        topic: str,
        lanes: Lanes,
        lender: SlotLender,
        changed: Condition,
        describe: Callable[[], tuple[LinkState, str]],
        on_loss: Callable[[], object],
        on_arena: Callable[[], object],
    ) -> None:
        self._client = client
        self._topic = topic
        self._peer = str(client.endpoint)
        self._lanes = lanes
        self._lender = lender
        self._changed = changed
        self._describe = describe
        self._on_loss = on_loss
        self._on_arena = on_arena
        self._warned = False

    def take(self, payload: Outgoing) -> Admission | None:
        """Take room for a payload, or its first part, if there is any; under the lock.

        Parameters
        ----------
        payload
            What is to be sent.

        Returns
        -------
        Admission | None
            None if there is no room now.
        """
        admission = self._lanes.admit(payload)
        self._on_loss()
        return admission

    def wait(self, payload: Outgoing, deadline: Deadline, timeout: float) -> Admission:
        """Wait for room; not on the loop.

        Parameters
        ----------
        payload
            What is to be sent.
        deadline, timeout
            Until when, and how long that was at first, in seconds.

        Returns
        -------
        Admission
            The room that was taken.

        Raises
        ------
        NotAttachedError
            If no receiver took part in time, or the publisher is closed.
        PublishTimeoutError
            If the receiver had no room in time.
        """
        while True:
            with self._changed:
                while True:
                    admission = self.take(payload)
                    if admission is not None:
                        return admission
                    if self._lanes.needs_arena(payload):
                        break
                    left = deadline.remaining()
                    if self._describe()[0] is LinkState.CLOSED or left <= 0:
                        raise self._none(payload.key, timeout)
                    expiry = self._lender.next_expiry()
                    if expiry is not None and expiry > time.monotonic():
                        left = min(left, expiry - time.monotonic())
                    self._changed.wait(left)
            self.make_arena(payload)

    def make_arena(self, payload: Outgoing) -> None:
        """Make an arena for a payload if need be, and tell the receiver of it.

        Parameters
        ----------
        payload
            What is to be sent. Where no arena can be made it goes inline.
        """
        with self._changed:
            lane = self._lanes.ready
            if lane is None or lane.announcing:
                return
            lane.announcing = True
        try:
            name = self._lender.current
            if name is None or not self._lender.fits(payload.sizes):
                name = self._lender.grow(payload.sizes)
            announce = Announce(epoch=lane.epoch, name=name)
            future = self._client.control.request_nowait("arena", msgspec.to_builtins(announce))
        except (OSError, LoopStoppedError) as error:
            self._stop_sharing(lane, CarrierReason.NO_ROOM, str(error))
        else:
            future.add_done_callback(lambda done: self._on_announced(lane, name, done))

    def _on_announced(self, lane: Lane, name: str, future: Future[Reply]) -> None:
        error = future.exception()
        if error is not None:
            self._stop_sharing(lane, CarrierReason.PROBE_UNREADABLE, str(error))
            return
        with self._changed:
            lane.announced.add(name)
            lane.announcing = False
            self._changed.notify_all()
        self._on_arena()

    def _stop_sharing(self, lane: Lane, reason: CarrierReason, why: str) -> None:
        """Go on inline with this receiver, and say so once."""
        with self._changed:
            lane.reason = reason
            lane.announcing = False
            warn = not self._warned and lane is self._lanes.current
            self._warned |= warn
            self._changed.notify_all()
        if warn:
            logger.warning(
                "%s: no shared memory for %r (%s); payloads are sent inline, which is slower",
                self._peer,
                self._topic,
                why,
            )
        self._on_arena()

    def _none(self, key: str, timeout: float) -> NotAttachedError | PublishTimeoutError:
        lane = self._lanes.ready
        if lane is None:
            return NotAttachedError(
                f"nobody received {self._topic!r} at {self._peer} within {timeout:g} s, so {key!r} "
                f"was not sent: {self._describe()[1]}"
            )
        used, granted = lane.outbox.window.used, lane.outbox.window.granted
        return PublishTimeoutError(
            f"{self._peer} made no room for {key!r} within {timeout:g} s: {used.messages} of "
            f"{granted.messages} messages, {used.nbytes} of {granted.nbytes} bytes are under way; "
            "the receiver is busy or stopped, and the payload was not sent"
        )
