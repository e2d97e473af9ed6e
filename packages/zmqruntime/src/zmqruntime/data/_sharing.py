"""Sharing: the shared memory of a producer, made when it is needed and told to each receiver."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zmqruntime._errors import LoopStoppedError
from zmqruntime.carriers._negotiate import CarrierReason

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from threading import Condition

    from zmqruntime.carriers._lender import SlotLender
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._outgoing import Outgoing

    Announcing = Callable[[Lane, str], Future[object]]

__all__ = ["Sharing"]

logger = logging.getLogger(__name__)


class Sharing:
    """Makes arenas and announces them.

    Parameters
    ----------
    lender
        Shared memory.
    changed
        The publisher's lock; it is notified when a receiver has opened a segment, or will not.
    announce
        Tells a receiver the name of a segment; the future is done when it has opened it.
    on_arena
        Called with the receiver when it has opened a segment, or payloads go on inline.
    """

    def __init__(
        self,
        *,
        lender: SlotLender,
        changed: Condition,
        announce: Announcing,
        on_arena: Callable[[Lane], object],
    ) -> None:
        self._lender = lender
        self._changed = changed
        self._announce = announce
        self._on_arena = on_arena
        self._warned = False

    def offer(self, lane: Lane, payload: Outgoing) -> None:
        """Make an arena for a payload if need be, and tell a receiver of it.

        Parameters
        ----------
        lane
            The receiver.
        payload
            What is to be sent. Where no arena can be made it goes inline.
        """
        with self._changed:
            if not lane.ready or lane.announcing:
                return
            lane.announcing = True
        try:
            name = self._lender.current
            if name is None or not self._lender.fits(payload.sizes):
                name = self._lender.grow(payload.sizes)
            future = self._announce(lane, name)
        except (OSError, LoopStoppedError) as error:
            self._stop(lane, CarrierReason.NO_ROOM, str(error))
        else:
            future.add_done_callback(lambda done: self._on_announced(lane, name, done))

    def _on_announced(self, lane: Lane, name: str, future: Future[object]) -> None:
        error = future.exception()
        if error is not None:
            self._stop(lane, CarrierReason.PROBE_UNREADABLE, str(error))
            return
        with self._changed:
            lane.announced.add(name)
            lane.announcing = False
            self._changed.notify_all()
        self._on_arena(lane)

    def _stop(self, lane: Lane, reason: CarrierReason, why: str) -> None:
        """Go on inline with this receiver, and say so once."""
        with self._changed:
            lane.reason = reason
            lane.announcing = False
            warn = not self._warned and lane.live
            self._warned |= warn
            self._changed.notify_all()
        if warn:
            logger.warning(
                "%s: no shared memory for %r (%s); payloads are sent inline, which is slower",
                lane.peer,
                lane.topic,
                why,
            )
        self._on_arena(lane)
