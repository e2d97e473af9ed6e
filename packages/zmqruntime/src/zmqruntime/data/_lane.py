"""A run of a stream with one receiver, as its producer keeps it.

Sans-IO and not safe for threads: its publisher or feed calls everything here under its own lock.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from zmqruntime.data._lane_state import LaneState
from zmqruntime.data._outbox import Outbox
from zmqruntime.data._replay import Queued, QueuedLoss, ReplayRing
from zmqruntime.data._stream_messages import stream_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zmqruntime.carriers._negotiate import CarrierReason, HostIdentity
    from zmqruntime.data._credits import Credit
    from zmqruntime.data._gaps import GapReason
    from zmqruntime.data._stream_messages import AckStatus, Mode

__all__ = ["Lane"]


class Lane:
    """One run of a stream with one receiver.

    Parameters
    ----------
    topic, mode
        Name of the stream, and what happens when there is no room.
    epoch, subscriber, incarnation
        Names of this run, of the receiver in it, and of the receiver's process start.
    peer
        Who receives, for people.
    host
        Where the receiver runs.
    credit
        What it has room for.
    reason
        Why payloads travel as they do.
    until
        With which word a payload counts as acknowledged.
    replay_bytes
        Most bytes to keep of what is not acknowledged.
    topic_frame
        Makes the first frame of its messages of topic and receiver.
    """

    def __init__(
        self,
        *,
        topic: str,
        mode: Mode,
        epoch: str,
        subscriber: str,
        incarnation: str,
        peer: str,
        host: HostIdentity,
        credit: Credit,
        reason: CarrierReason,
        until: AckStatus,
        replay_bytes: int = 0,
        topic_frame: Callable[[str, str], bytes] = stream_topic,
    ) -> None:
        self.topic = topic
        self.mode = mode
        self.epoch = epoch
        self.incarnation = incarnation
        self.peer = peer
        self.host = host
        self.subscriber = subscriber
        self.filter = topic_frame(topic, subscriber)
        self.reason = reason
        self.live = True
        """Whether the run goes on."""
        self.subscribed = False
        """Whether its subscription was seen; before, libzmq would drop what is sent."""
        self.announced: set[str] = set()
        """Segments the receiver has opened."""
        self.announcing = False
        self.queue: deque[Queued | QueuedLoss] = deque()
        """What waits for room, before anything newer."""
        self.queued_bytes = 0
        self.keeps = replay_bytes > 0
        self.ring = ReplayRing(replay_bytes)
        self.traffic: Counter[str] = Counter()
        self.outbox = Outbox(topic=topic, epoch=epoch, credit=credit, until=until)

    @property
    def ready(self) -> bool:
        """Whether the run goes on and its receiver listens."""
        return self.live and self.subscribed

    def enqueue(self, entries: Iterable[Queued]) -> None:
        """Let payloads wait for room."""
        for entry in entries:
            self.queue.append(entry)
            self.queued_bytes += entry.cost

    def enqueue_loss(self, reason: GapReason) -> None:
        """Let the news that a payload is lost wait behind what waits for room."""
        last = self.queue[-1] if self.queue else None
        if isinstance(last, QueuedLoss) and last.reason is reason:
            last.count += 1
        else:
            self.queue.append(QueuedLoss(reason=reason))

    def dequeue(self) -> Queued | QueuedLoss:
        """Take what has waited longest; there must be something."""
        entry = self.queue.popleft()
        if isinstance(entry, Queued):
            self.queued_bytes -= entry.cost
        return entry

    def take_queue(self) -> tuple[Queued | QueuedLoss, ...]:
        """Take all that waits."""
        entries = tuple(self.queue)
        self.queue.clear()
        self.queued_bytes = 0
        return entries

    def state(self, *, now: float) -> LaneState:
        """Say how the run stands.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        oldest = self.outbox.oldest
        losses = [entry.count for entry in self.queue if isinstance(entry, QueuedLoss)]
        return LaneState(
            topic=self.topic,
            peer=self.peer,
            direction="out",
            mode=self.mode,
            carrier=self.reason.carrier,
            reason=self.reason,
            granted=self.outbox.window.granted,
            used=self.outbox.window.used,
            lag_s=0.0 if oldest is None else max(0.0, now - oldest),
            sent=self.traffic["sent"],
            nbytes=self.traffic["bytes"],
            bytes_copied=self.traffic["copied"],
            peer_copied=self.traffic["peer_copied"],
            superseded=self.traffic["superseded"],
            lost=self.traffic["lost"] + sum(losses),
            queued=len(self.queue) - len(losses),
            link=self.outbox.link.stats,
        )
