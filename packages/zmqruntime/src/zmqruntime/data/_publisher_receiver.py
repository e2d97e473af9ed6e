"""PublisherReceiver: who receives a publisher's stream, as it comes, speaks and goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zmqruntime.control._pushes import read_push
from zmqruntime.data._carried import Carried
from zmqruntime.data._publisher_state import LinkState
from zmqruntime.data._stream_messages import Acks, Mode, Resend

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Condition

    from zmqruntime._client import ZMQClient
    from zmqruntime.data._gap_reports import GapReports
    from zmqruntime.data._gaps import GapReason
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._lanes import Lanes
    from zmqruntime.data._outbox import Ack
    from zmqruntime.data._publisher_state import Standing

__all__ = ["PublisherReceiver"]

logger = logging.getLogger(__name__)


class PublisherReceiver:
    """What a publisher knows of its one receiver, and what that is owed.

    Parameters
    ----------
    client
        Connection to the service.
    topic, mode
        As for `Publisher`.
    lanes
        The publisher's.
    changed
        The publisher's lock; it is notified whenever there may be more room.
    standing
        How the publisher stands.
    gaps
        Hands on what was lost.
    replay_bytes
        Most bytes to keep for a receiver that was lost.
    pump
        Sends what waits for room; called on the loop.

    Notes
    -----
    Everything but `listen` runs on the loop. Callbacks are added by any thread.
    """

    def __init__(
        self,
        client: ZMQClient,
        *,
        topic: str,
        mode: Mode,
        lanes: Lanes,
        changed: Condition,
        standing: Standing,
        gaps: GapReports,
        replay_bytes: int,
        pump: Callable[[], object],
    ) -> None:
        self._loop = client.loop
        self._control = client.control
        self._peer = str(client.endpoint)
        self._topic = topic
        self._lanes = lanes
        self._changed = changed
        self._standing = standing
        self._gaps = gaps
        self._keeps = replay_bytes > 0 and mode is Mode.RELIABLE
        self._pump = pump
        self.carried = Carried(replay_bytes)
        """What it is owed when it comes again; under the lock."""
        self.on_ack: list[Callable[[str, Ack], object]] = []
        self.on_replay: list[Callable[[tuple[str, ...]], object]] = []

    def listen(self) -> None:
        """Take in what the receiver says from now on; any thread."""
        self._control.on_push("ack", self._hear)
        self._control.on_push("resend", self._resend)

    def agree(self, lane: Lane) -> None:
        """Begin a run whose receiver does not listen yet."""
        with self._changed:
            self._lanes.begin(lane)
            self._standing.detail = f"waiting for {self._peer} to subscribe"

    def begin(self, lane: Lane) -> None:
        """Begin to send: first what the receiver is owed."""
        with self._changed:
            lane.subscribed = True
            kept = self.carried.keys
            keys = tuple(key for key in self._lanes.lost_keys if key not in kept)
            if keys and self.on_replay:
                self.carried.forget_evicted()
            self._lanes.note(self.carried.hand_to(lane))
            self._gaps.report()
            how = f"{lane.reason.carrier} ({lane.reason})"
            self._standing.set(LinkState.ATTACHED, f"attached to {self._peer}, {how}")
            self._changed.notify_all()
        logger.info("%r attached to %s: %s", self._topic, self._peer, how)
        if keys:
            for callback in self.on_replay:
                self._loop.call_soon(callback, keys)
        self._pump()

    def end(self, reason: GapReason, why: str) -> None:
        """End the present run, if there is one; what was not acknowledged is lost, or owed."""
        with self._changed:
            if self._standing.closed:
                return
            lane = self._lanes.end(reason, carried=self._keeps)
            if lane is not None and self._keeps:
                self._lanes.count_lost(self.carried.take_over(lane))
            self._gaps.report()
            if self._standing.link is LinkState.ATTACHED:
                self._standing.set(LinkState.LOST, f"{self._peer}: {why}")
            self._changed.notify_all()
        if lane is not None:
            logger.info("%r to %s: %s", self._topic, self._peer, why)

    def wait(self, why: str) -> None:
        """Note why there is no receiver."""
        with self._changed:
            self._standing.detail = why

    def leave(self, reason: GapReason) -> None:
        """End the present run for good; nothing is owed any more."""
        with self._changed:
            self._lanes.end(reason)
            self._gaps.report()

    def _hear(self, body: dict[str, object]) -> None:
        acks = read_push(self._control, body, Acks)
        if acks is None:
            return
        with self._changed:
            news = self._lanes.heard(acks)
            self._changed.notify_all()
        for ack in news:
            for callback in self.on_ack:
                self._loop.call_soon(callback, ack.key, ack)
        self._pump()

    def _resend(self, body: dict[str, object]) -> None:
        wanted = read_push(self._control, body, Resend)
        if wanted is None:
            return
        with self._changed:
            lane = self._lanes.live.get(wanted.epoch)
            if lane is not None:
                self._lanes.resend(lane, wanted.first, wanted.last)
        self._pump()
