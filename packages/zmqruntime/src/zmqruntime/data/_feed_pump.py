"""FeedPump: sends what waits for readers, as each of them makes room."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from zmqruntime.data._feed_lane import Offer
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._replay import Queued
from zmqruntime.data._stream_messages import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Condition

    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.data._dispatch import Dispatch
    from zmqruntime.data._feed_lane import FeedLane, FeedTopic
    from zmqruntime.data._lanes import Lanes
    from zmqruntime.data._outgoing import Outgoing
    from zmqruntime.data._sharing import Sharing
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._polling import Deadline

    Frames = list[bytes | memoryview]

__all__ = ["FeedPump"]

logger = logging.getLogger(__name__)

_AWAY_S = 300.0
"""How long a lost reader is waited for."""


class FeedPump:
    """The queues of a feed's readers.

    Parameters
    ----------
    loop
        Thread on which what waits is sent.
    lanes, dispatch, sharing
        The feed's.
    changed
        The feed's lock.
    tell
        Sends a broadcast; called on the loop.
    queue_bytes
        Most bytes that wait at each reliable reader.
    limits
        Sizes at which inline payloads are cut.
    on_loss
        Called under the lock when payloads may have been lost, to report them.
    """

    def __init__(
        self,
        loop: IOThread,
        *,
        lanes: Lanes,
        dispatch: Dispatch,
        sharing: Sharing,
        changed: Condition,
        tell: Callable[[Frames], object],
        queue_bytes: int,
        limits: InlineLimits,
        on_loss: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._lanes = lanes
        self._dispatch = dispatch
        self._sharing = sharing
        self._changed = changed
        self._tell = tell
        self._queue_bytes = queue_bytes
        self._limits = limits
        self._on_loss = on_loss

    # Under the lock.

    def enqueue(self, lane: FeedLane, payload: Outgoing) -> bool:
        """Let a payload wait at a reliable reader, and say whether its queue has room for that."""
        entry = Queued(payload=payload)
        fits = lane.queued_bytes + entry.cost <= self._queue_bytes
        if not fits and (lane.queue or not self._lanes.has_room(lane, payload)):
            return False
        lane.enqueue([entry])
        return True

    def supersede(self, lane: FeedLane) -> None:
        """Give up the payload of mode latest that waits at a reader, if one does."""
        if lane.newest is None:
            return
        lane.newest = None
        self._lanes.count_superseded(lane)
        self._lose(lane, GapReason.SUPERSEDED)

    def replace(self, lane: FeedLane, offer: Offer) -> None:
        """Let a payload of mode latest wait at a reader, in the place of an older one."""
        self.supersede(lane)
        lane.newest = offer

    def carry(self, book: FeedTopic, payload: Outgoing) -> None:
        """Keep a payload for readers that are away, unless they were sent it before they left."""
        now = self._lanes.clock()
        for owner, carried in tuple(book.carried.items()):
            if now - carried.since > _AWAY_S:
                del book.carried[owner]
                self._lanes.count_lost(len(carried))
                logger.info("%r of %r did not come again and is owed no more", owner[0], book.name)
            elif not carried.has(payload):
                self._lanes.count_lost(carried.add(Queued(payload=payload)))

    # Any thread.

    def give_out(self, book: FeedTopic, payload: Outgoing) -> tuple[int, list[FeedLane], Outgoing]:
        """Serve who has room, and queue for who has not; in the topic's turn.

        Parameters
        ----------
        book
            The topic.
        payload
            What is published.

        Returns
        -------
        tuple[int, list[FeedLane], Outgoing]
            How many are served or queued for, whose queue is full, and the payload as it may be
            kept.
        """
        with self._changed:
            lanes = book.ready
            for lane in lanes:
                self.supersede(lane)
                lane.reached = True
            if book.retains or any(lane.keeps for lane in lanes):
                payload = payload.owned()  # a copy here only if that was asked for just now
            if book.retains:
                # who begins to listen from now on is not among them, and gets it as retained
                book.retained = Offer.of(payload, limits=self._limits)
            free = [lane for lane in lanes if not lane.queue]
            admissions = self._lanes.share(payload, free)
            self._on_loss()
            served = [admission.lane for admission in admissions]
            offers = [lane for lane in lanes if self._lanes.needs_arena(payload, lane)]
            late = [lane for lane in lanes if lane not in served]
        count = self._dispatch.spread(payload, admissions) if admissions else 0
        for lane in offers:
            self._sharing.offer(lane, payload)
        with self._changed:
            if late or book.retains or book.carried or book.broadcast is not None:
                payload = payload.owned()
            self.carry(book, payload)
            full = []
            for lane in late:
                if not lane.live:
                    continue
                if lane.mode is Mode.LATEST:
                    self.replace(lane, Offer.of(payload, limits=self._limits))
                elif not self.enqueue(lane, payload):
                    full.append(lane)
                    continue
                count += 1
            tells = book.broadcast is not None and book.broadcast.add(payload)
        if late or tells:
            self._loop.call_soon(self.run, book)
        return count, full, payload

    def wait_for_queues(
        self, book: FeedTopic, lanes: Sequence[FeedLane], payload: Outgoing, deadline: Deadline
    ) -> int:
        """Wait until full queues have room; what finds none in time is a gap of that reader.

        Parameters
        ----------
        book
            The topic.
        lanes
            Whose queues are full.
        payload
            What is to wait there.
        deadline
            Until when. A reader that was overdue before is not waited for.

        Returns
        -------
        int
            In how many queues it is now.
        """
        queued = 0
        waits = deadline.remaining() > 0
        with self._changed:
            waiting = [lane for lane in lanes if lane.live]
            while waiting:
                found = [lane for lane in waiting if lane.live and self.enqueue(lane, payload)]
                queued += len(found)
                waiting = [lane for lane in waiting if lane.live and lane not in found]
                patient = any(not lane.overdue for lane in waiting)
                left = deadline.remaining()
                if not patient or left <= 0:
                    break
                self._changed.wait(left)
            for lane in waiting:
                lane.overdue |= waits  # who was not waited for has let no timeout pass
                self._lose(lane, GapReason.NO_CREDIT)
        if queued:
            self._loop.call_soon(self.run, book)
        return queued

    # On the loop.

    def offered(self, book: FeedTopic, offer: Offer | None) -> None:
        """Send a payload that was offered.

        Parameters
        ----------
        book
            The topic.
        offer
            The payload, if somebody needs it encoded in any case; None if it only waits in the
            place for the newest.
        """
        if offer is not None:
            payload = self._encode(book, offer, everybody=True)
            if payload is not None:
                with self._changed:
                    self.carry(book, payload)
                    for lane in book.ready:
                        if lane.mode is Mode.RELIABLE and not self.enqueue(lane, payload):
                            self._lose(lane, GapReason.NO_CREDIT)
                    if book.broadcast is not None:
                        book.broadcast.add(payload)
        self.run(book)

    def run(self, book: FeedTopic) -> None:
        """Send what waits at the readers of a topic, as far as they have room."""
        with self._changed:
            lanes = book.ready
        for lane in lanes:
            if lane.wants_retained:
                self._add_retained(book, lane)
            if lane.queue:
                self._dispatch.drain(lane, self._sharing)
        self._send_newest(book)
        self._broadcast(book)

    def _add_retained(self, book: FeedTopic, lane: FeedLane) -> None:
        """Begin with the value that was published last, unless a newer one goes anyway."""
        with self._changed:
            lane.wants_retained = False
            offer = book.retained
            fresh = not (lane.reached or lane.outbox.last or lane.queue or lane.newest)
        if offer is None or not fresh:
            return
        payload = self._encode(book, offer)
        if payload is not None:
            with self._changed:
                if lane.ready and not lane.reached and not lane.outbox.last:
                    lane.enqueue([Queued(payload=payload, retained=True)])

    def _send_newest(self, book: FeedTopic) -> None:
        """Send each newest payload to the readers that have room for it by now."""
        tried: list[FeedLane] = []
        while True:
            with self._changed:
                lanes = [
                    lane
                    for lane in book.ready
                    if lane.newest is not None
                    and lane not in tried
                    and not lane.queue
                    and lane.outbox.window.has_room(0)
                ]
                if not lanes:
                    return
                offer = lanes[0].newest
                assert offer is not None
                lanes = [lane for lane in lanes if lane.newest is offer]
                tried += lanes
            payload = self._encode(book, offer)
            if payload is None:
                continue
            with self._changed:
                wanted = [lane for lane in lanes if lane.ready and lane.newest is offer]
                offers = [lane for lane in wanted if self._lanes.needs_arena(payload, lane)]
                able = [
                    lane
                    for lane in wanted
                    if lane not in offers and not self._lanes.awaits_arena(payload, lane)
                ]
                admissions = self._lanes.share(payload, able)
                for admission in admissions:
                    lane = admission.lane
                    for each in wanted:
                        if each is lane:
                            each.newest = None
                self._on_loss()
            if admissions:
                self._dispatch.spread(payload, admissions)
            for lane in offers:
                self._sharing.offer(lane, payload)

    def _encode(self, book: FeedTopic, offer: Offer, *, everybody: bool = False) -> Outgoing | None:
        """Encode a payload; one that cannot be is a gap of who waits for it, or of everybody."""
        try:
            return offer.payload()
        except Exception:
            with self._changed:
                if offer is book.retained:
                    book.retained = None
                for lane in book.ready:
                    waits = lane.newest is offer
                    if waits:
                        lane.newest = None
                    if waits or (everybody and lane.mode is Mode.RELIABLE):
                        self._lose(lane, GapReason.REFUSED)
                        self._dispatch.tell_losses(lane)
            logger.exception("%r of %r could not be encoded", offer.key, book.name)
            self._loop.failed_callbacks += 1
            return None

    def _broadcast(self, book: FeedTopic) -> None:
        """Tell plain subscribers what is due, or see to it that it happens when it is."""
        with self._changed:
            broadcast = book.broadcast
            if broadcast is None or not broadcast or broadcast.scheduled:
                return
            now = time.monotonic()
            if now < broadcast.due:
                broadcast.scheduled = True
                self._loop.call_later(broadcast.due - now, lambda: self._due(book))
                return
            messages = broadcast.take(now=now)
        for message in messages:
            self._tell(message)

    def _due(self, book: FeedTopic) -> None:
        with self._changed:
            if book.broadcast is not None:
                book.broadcast.scheduled = False
        self._broadcast(book)

    def _lose(self, lane: FeedLane, reason: GapReason) -> None:
        """Note that a payload will not come, in its place; under the lock."""
        self._lanes.lose_next(lane, reason)
        self._on_loss()
