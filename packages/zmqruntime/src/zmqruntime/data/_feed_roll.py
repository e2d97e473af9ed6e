"""FeedRoll: the topics of a feed and who reads them, as readers come, speak and go."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from zmqruntime.data._carried import Carried
from zmqruntime.data._feed_lane import FeedTopic
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._stream_messages import Mode, check_topic

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from zmqruntime.data._dispatch import Dispatch
    from zmqruntime.data._feed_lane import FeedLane, Subscription
    from zmqruntime.data._feed_pump import FeedPump
    from zmqruntime.data._gap_reports import GapReports
    from zmqruntime.data._lanes import Lanes
    from zmqruntime.data._outbox import Ack
    from zmqruntime.data._stream_messages import Acks, Resend
    from zmqruntime.loop._loop import IOThread

__all__ = ["FeedRoll"]

logger = logging.getLogger(__name__)

_MOST_CARRIED = 256


class FeedRoll:
    """What a feed knows of its topics and readers.

    Parameters
    ----------
    loop
        Thread on which readers come and go, and callbacks run.
    lanes
        The feed's.
    changed
        The feed's lock; it is notified whenever there may be more room.
    gaps
        Hands on what readers have lost.
    replay_bytes
        Most bytes to keep for a reliable reader that was lost.

    Notes
    -----
    Callbacks are added at any time. `pump`, `dispatch` and `tell` are set once, before readers can
    come: they need this one first.
    """

    pump: FeedPump
    dispatch: Dispatch
    tell: Callable[[list[bytes | memoryview]], object]

    def __init__(
        self,
        loop: IOThread,
        *,
        lanes: Lanes,
        changed: Condition,
        gaps: GapReports,
        replay_bytes: int,
    ) -> None:
        self._loop = loop
        self._lanes = lanes
        self._changed = changed
        self._replay_bytes = replay_bytes
        self.topics: dict[str, FeedTopic] = {}
        self._gaps = gaps
        self._greeters: list[Callable[[Subscription], object]] = []
        self.on_unsubscribed: list[Callable[[Subscription], object]] = []
        self.on_ack: list[Callable[[Subscription, Ack], object]] = []

    # Under the lock.

    def book(self, topic: str) -> FeedTopic:
        """Return a topic, a new one if need be.

        Raises
        ------
        ValueError
            If it is no word.
        """
        book = self.topics.get(topic)
        if book is None:
            check_topic(topic)
            book = self.topics[topic] = FeedTopic(topic)
        return book

    def lane_of(self, subscription: Subscription) -> FeedLane | None:
        """Return the run of a reader that listens; None of one that has left."""
        book = self.topics.get(subscription.topic)
        lanes = () if book is None else book.ready
        return next((lane for lane in lanes if lane.subscription is subscription), None)

    @property
    def settled(self) -> bool:
        """Whether every reader that listens has acknowledged everything."""
        return all(
            lane.outbox.is_clear() and not lane.queue and lane.newest is None
            for book in self.topics.values()
            for lane in book.lanes
            if lane.ready
        )

    # What follows runs on the loop.

    def greet(self, callback: Callable[[Subscription], object]) -> None:
        """Call a function with each reader that listens; some may have come before it was added."""
        self._greeters.append(callback)
        with self._changed:
            there = [lane for book in self.topics.values() for lane in book.lanes]
        for lane in there:
            if lane.subscribed:
                self._loop.call_soon(callback, lane.subscription)

    def agree(self, lane: FeedLane) -> bool:
        """Enter a reader that does not listen yet, and say whether it gets what it missed."""
        with self._changed:
            self._lanes.begin(lane)
            book = self.book(lane.topic)
            book.lanes.append(lane)
            return lane.mode is Mode.RELIABLE and _owner(lane) in book.carried

    def begin(self, lane: FeedLane) -> None:
        """Begin to send to a reader: first what it is owed, or the value that was kept."""
        with self._changed:
            lane.subscribed = True
            book = self.book(lane.topic)
            carried = book.carried.pop(_owner(lane), None)
            if carried is not None and lane.mode is Mode.RELIABLE:
                self._lanes.note(carried.hand_to(lane))
                self._gaps.report()
            elif book.retained is not None:
                lane.wants_retained = True
            self._changed.notify_all()
        logger.info("%s reads %r: %s", lane.peer, lane.topic, lane.reason)
        for callback in self._greeters:
            self._loop.call_soon(callback, lane.subscription)
        with self._changed:
            self.dispatch.tell_losses(lane)
        self.pump.run(book)

    def end(self, lane: FeedLane, reason: GapReason, why: str) -> None:
        """Strike a reader off; one that was lost is owed what it has not acknowledged."""
        began = lane.subscribed
        with self._changed:
            book = self.book(lane.topic)
            book.lanes.remove(lane)
            if lane.newest is not None:
                lane.newest = None
                self._lanes.lose_next(lane, reason)
            left = (GapReason.RECEIVER_LEFT, GapReason.PRODUCER_LOST)
            keeps = began and lane.keeps and lane.mode is Mode.RELIABLE and reason not in left
            self._lanes.end(reason, lane, carried=keeps)
            if keeps:
                fresh = Carried(self._replay_bytes, since=time.monotonic())
                carried = book.carried.setdefault(_owner(lane), fresh)
                self._lanes.count_lost(carried.take_over(lane))
                if len(book.carried) > _MOST_CARRIED:
                    del book.carried[next(iter(book.carried))]
            if book.idle:  # or else whoever asks for one name after the other fills our memory
                del self.topics[book.name]
            self._gaps.report()
            self._changed.notify_all()
        logger.info("%s no longer reads %r: %s", lane.peer, lane.topic, why)
        if began:
            for callback in self.on_unsubscribed:
                self._loop.call_soon(callback, lane.subscription)

    def hear(self, lane: FeedLane | None, acks: Acks) -> None:
        """Book what a reader says; None is one that has left, and gives memory back."""
        with self._changed:
            news = self._lanes.heard(acks)
            if lane is not None and acks.messages:
                lane.overdue = False
            self._changed.notify_all()
        if lane is None:
            return
        for ack in news:
            for callback in self.on_ack:
                self._loop.call_soon(callback, lane.subscription, ack)
        with self._changed:
            book = self.book(lane.topic)
        self.pump.run(book)
        with self._changed:
            self.dispatch.tell_losses(lane)  # unless a payload has just done so

    def resend(self, lane: FeedLane, wanted: Resend) -> tuple[int, ...]:
        """Let a reader have numbers again, as far as they are kept, and say which."""
        with self._changed:
            sequences = self._lanes.resend(lane, wanted.first, wanted.last)
            book = self.book(lane.topic)
        self._loop.call_soon(self.pump.run, book)
        return sequences

    def join(self, topic: str) -> None:
        """Tell a plain subscriber the value that was kept; the others know it by its number."""
        with self._changed:
            book = self.topics.get(topic)
            if book is None or book.broadcast is None or book.retained is None:
                return
            offer, broadcast = book.retained, book.broadcast
        try:
            payload = offer.payload()
        except Exception:  # the application's; perhaps nobody has asked for it before
            logger.exception("the value kept of %r could not be encoded", topic)
            self._loop.failed_callbacks += 1
            return
        with self._changed:
            message = broadcast.message(payload, retained=True)
        self.tell(message)


def _owner(lane: FeedLane) -> tuple[str, str]:
    """Say to whom something is owed: a name, and the key that its connection has proved."""
    return lane.subscription.name, lane.subscription.peer.source.key
