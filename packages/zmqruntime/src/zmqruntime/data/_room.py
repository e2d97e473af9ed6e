"""Room for a payload: waiting for it, and the shared memory that has to be made first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zmqruntime._errors import NotAttachedError, PublishTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from zmqruntime.carriers._lender import SlotLender
    from zmqruntime.data._lanes import Admission, Lanes
    from zmqruntime.data._outgoing import Outgoing
    from zmqruntime.data._publisher_state import Standing
    from zmqruntime.data._sharing import Sharing
    from zmqruntime.loop._polling import Deadline

__all__ = ["Room"]


class Room:
    """What a publisher may send now, and what it waits for otherwise.

    Parameters
    ----------
    topic, peer
        Name of the stream and who receives it, for messages to people.
    lanes
        The present run and former ones.
    lender
        Shared memory.
    sharing
        Makes it and announces it.
    changed
        The publisher's lock; it is notified whenever there may be more room.
    standing
        How the publisher stands.
    on_loss
        Called under the lock when payloads may have been lost, to report them.
    """

    def __init__(
        self,
        *,
        topic: str,
        peer: str,
        lanes: Lanes,
        lender: SlotLender,
        sharing: Sharing,
        changed: Condition,
        standing: Standing,
        on_loss: Callable[[], object],
    ) -> None:
        self._topic = topic
        self._peer = peer
        self._lanes = lanes
        self._lender = lender
        self._sharing = sharing
        self._changed = changed
        self._standing = standing
        self._on_loss = on_loss

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
                    lane = self._lanes.ready
                    if lane is not None and self._lanes.needs_arena(payload):
                        break
                    left = deadline.remaining()
                    if self._standing.closed or left <= 0:
                        raise self._none(payload.key, timeout)
                    expiry = self._lender.next_expiry()
                    if expiry is not None and expiry > time.monotonic():
                        left = min(left, expiry - time.monotonic())
                    self._changed.wait(left)
            self._sharing.offer(lane, payload)

    def _none(self, key: str, timeout: float) -> NotAttachedError | PublishTimeoutError:
        lane = self._lanes.ready
        if lane is None:
            return NotAttachedError(
                f"nobody received {self._topic!r} at {self._peer} within {timeout:g} s, so {key!r} "
                f"was not sent: {self._standing.detail}"
            )
        used, granted = lane.outbox.window.used, lane.outbox.window.granted
        return PublishTimeoutError(
            f"{self._peer} made no room for {key!r} within {timeout:g} s: {used.messages} of "
            f"{granted.messages} messages, {used.nbytes} of {granted.nbytes} bytes are under way; "
            "the receiver is busy or stopped, and the payload was not sent"
        )
