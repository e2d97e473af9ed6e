"""Publisher: the sending end of one stream."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import msgspec

from zmqruntime._attachment import Attachment, LaneEvents
from zmqruntime._carried import Carried
from zmqruntime._dispatch import Dispatch
from zmqruntime._errors import NotAttachedError, PublishTimeoutError
from zmqruntime._gaps import Gap, GapReason
from zmqruntime._lanes import Lanes
from zmqruntime._newest import Newest
from zmqruntime._outgoing import Outgoing, check_key, check_state_version
from zmqruntime._polling import Deadline
from zmqruntime._publisher_state import LinkState, PublisherState, Standing
from zmqruntime._room import Room
from zmqruntime._sharing import Sharing
from zmqruntime._stream_messages import Acks, AckStatus, Announce, Mode, Resend, check_topic
from zmqruntime._sweeping import Sweeping
from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits
from zmqruntime.carriers._lender import SlotLender
from zmqruntime.carriers._link import LinkStats
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._negotiate import (
    HostIdentity,
    shared_memory_available,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

    from typing_extensions import Buffer

    from zmqruntime._client import ZMQClient
    from zmqruntime._lane import Lane
    from zmqruntime._lane_state import LaneState
    from zmqruntime._outbox import Ack
    from zmqruntime._outgoing import Encode


__all__ = ["Publisher"]

logger = logging.getLogger(__name__)

_MOST_GAPS = 1000


class Publisher:
    """Sends payloads to the subscriber of one service.

    The publisher attaches as soon as the service answers, and again whenever it comes back. A
    payload is sent only when the receiver takes part and has room for it.

    Parameters
    ----------
    client
        Connection to the service; the publisher is closed before it.
    topic
        Name of the stream; any text without zero bytes.
    mode
        ``reliable``: `publish` waits for room. ``latest``: the newest payload waits for room and
        takes the place of an older one that still does.
    until
        With which word of the receiver a payload counts as acknowledged: ``received`` or
        ``displayed``. A failure always does.
    use_shared_memory
        Whether to use shared memory where the same host is proved.
    arena_bytes
        Most bytes of one arena; a larger payload goes inline. A larger arena takes the place of a
        smaller one, which goes when it has been read.
    lease_ttl
        Seconds after which memory that a silent receiver holds is used again.
    directory
        Where segments are made; a tmpfs.
    checksums
        Whether to leave a checksum with each payload in shared memory, for `Lease.verify`. It
        takes several times as long as the copy.
    limits
        Sizes at which inline payloads are cut.
    replay_bytes
        Most bytes of mode reliable to keep until they are acknowledged. A receiver that comes again
        gets them again, in order, before anything newer; what was no longer kept is left to
        `on_replay`, and without it is a gap ``evicted``. It costs one more copy of each payload,
        unless its buffers are `bytes`.

    Raises
    ------
    ValueError
        If the topic is empty, too long or has a zero byte, or a mode or word is unknown.

    Notes
    -----
    Every method may be called from any thread, except that `publish` and `flush` must not be called
    from a callback. Callbacks run on the client's I/O thread and must not block.
    """

    def __init__(
        self,
        client: ZMQClient,
        topic: str,
        *,
        mode: Mode | str = Mode.RELIABLE,
        until: AckStatus | str = AckStatus.RECEIVED,
        use_shared_memory: bool = True,
        arena_bytes: int = 256 << 20,
        lease_ttl: float = 30.0,
        directory: Path = SHARED_MEMORY,
        checksums: bool = False,
        limits: InlineLimits = DEFAULT_LIMITS,
        replay_bytes: int = 0,
    ) -> None:
        check_topic(topic)
        self.topic = topic
        self.mode = Mode(mode)
        self.peer = str(client.endpoint)
        until = AckStatus(until)
        if until is AckStatus.FAILED:
            raise ValueError("payloads are acknowledged when 'received' or 'displayed'")
        shared_memory = use_shared_memory and shared_memory_available(directory)
        self._sweeping = Sweeping(client.loop, directory) if shared_memory else None
        host = HostIdentity.mine()
        self._pid = os.getpid()
        self._client = client
        self._loop = client.loop
        self._limits = limits
        self._lender = SlotLender(
            budget_bytes=arena_bytes, ttl=lease_ttl, directory=directory, checksums=checksums
        )
        self._ack_callbacks: list[Callable[[str, Ack], object]] = []
        self._gap_callbacks: list[Callable[[Gap], object]] = []
        self._replay_callbacks: list[Callable[[tuple[str, ...]], object]] = []
        self._turn = threading.Lock()  # one publish at a time, so that numbers go out in order
        self._changed = threading.Condition()  # guards what follows
        self._lanes = Lanes(lender=self._lender, host=host, limits=limits, clock=time.monotonic)
        self._gaps: deque[Gap] = deque(maxlen=_MOST_GAPS)
        self._standing = Standing(f"no receiver at {self.peer} yet")
        self._replay_bytes = replay_bytes
        self._carried = Carried(replay_bytes)
        self._sharing = Sharing(
            lender=self._lender,
            changed=self._changed,
            announce=self._announce,
            on_arena=self._pump_soon,
        )
        self._room = Room(
            topic=topic,
            peer=self.peer,
            lanes=self._lanes,
            lender=self._lender,
            sharing=self._sharing,
            changed=self._changed,
            standing=self._standing,
            on_loss=self._report,
        )
        self._attachment = Attachment(
            client,
            LaneEvents(
                agreed=self._on_agreed,
                began=self._on_began,
                ended=self._on_ended,
                waiting=self._on_waiting,
            ),
            topic=topic,
            mode=self.mode,
            until=until,
            host=host,
            shared_memory=shared_memory,
            directory=directory,
            replay_bytes=replay_bytes,
        )
        self._dispatch = Dispatch(
            client.loop,
            lanes=self._lanes,
            lender=self._lender,
            changed=self._changed,
            limits=limits,
            send=self._attachment.send,
            on_loss=self._report,
        )
        self._newest = Newest(
            lanes=self._lanes,
            room=self._room,
            dispatch=self._dispatch,
            sharing=self._sharing,
            changed=self._changed,
            limits=limits,
            on_loss=self._report,
        )
        client.control.on_push("ack", self._on_ack)
        client.control.on_push("resend", self._on_resend)
        self._attachment.start()

    # What an application calls.

    def publish(
        self,
        header: bytes,
        buffers: Sequence[Buffer],
        *,
        key: str,
        timeout: float = 30.0,
        state_version: int | None = None,
    ) -> int:
        """Send a payload.

        Parameters
        ----------
        header
            The application's description of the payload, at most 64 KiB.
        buffers
            Its bytes; contiguous, at most 4 GiB together. In mode reliable they may be changed as
            soon as this returns; in mode latest they must stay as they are.
        key
            The application's name for the payload, at most 1024 characters.
        timeout
            Longest wait for a receiver and for room, in seconds. Mode latest never waits.
        state_version
            Number of the state that the payload shows, at least 0, where there is one: receivers
            know by it which values belong to the picture (`Item.state_version`).

        Returns
        -------
        int
            Number of the payload in this run of the stream. In mode latest 0 while nobody takes
            part.

        Raises
        ------
        NotAttachedError
            If no receiver took part in time, or the publisher is closed.
        PublishTimeoutError
            If the receiver had no room in time.
        PayloadTooLargeError
            If header, key or payload are too large.
        ValueError
            If a buffer is not contiguous, or a version is negative.
        RuntimeError
            If called on the client's I/O thread, which must not wait.

        Notes
        -----
        When it raises, nothing was sent; only a payload of several parts (above 64 MiB, inline) may
        break off, which the receiver sees as a gap.
        """
        if self.mode is Mode.LATEST:
            return self.offer(lambda: (header, buffers), key=key, state_version=state_version)
        self._require_own_process()
        if self._loop.on_loop:
            raise RuntimeError("publish() would make the loop wait for itself: use another thread")
        payload = Outgoing.of(
            header, buffers, key, limits=self._limits, state_version=state_version
        )
        if self._replay_bytes:
            payload = payload.owned()
        deadline = Deadline(timeout)
        if not self._turn.acquire(timeout=deadline.remaining()):
            raise PublishTimeoutError(
                f"{self.peer}: other threads waited for room for {self.topic!r} all the "
                f"{timeout:g} s; {key!r} was not sent"
            )
        try:
            while True:
                admission = self._room.wait(payload, deadline, timeout)
                sequence = self._dispatch.send(payload, admission, deadline)
                if sequence:
                    return sequence
        finally:
            self._turn.release()

    def offer(self, encode: Encode, *, key: str, state_version: int | None = None) -> int:
        """Hand over the newest payload of mode latest, to be encoded when there is room.

        Parameters
        ----------
        encode
            Returns header and buffers; called at most once, on the I/O thread, for a payload that
            will be sent. It should take a few milliseconds at most. A picture that is drawn only
            here shows the state of this moment: a third value says its version.
        key
            The application's name for the payload.
        state_version
            As for `publish`; a version that `encode` returns counts before it.

        Returns
        -------
        int
            Number of the payload; 0 while nobody takes part.

        Raises
        ------
        NotAttachedError
            If the publisher is closed.
        PayloadTooLargeError
            If the key is too long.
        ValueError
            If the mode is not latest, or the version is negative.
        """
        if self.mode is not Mode.LATEST:
            raise ValueError("offer() is for mode 'latest'; publish() waits for room")
        check_key(key)
        check_state_version(state_version)
        self._require_own_process()
        with self._changed:
            if self._standing.closed:
                raise NotAttachedError(f"the publisher to {self.peer} is closed")
            sequence = self._newest.replace(encode, key, state_version)
        self._loop.call_soon(self._pump)
        return sequence

    def flush(self, timeout: float = 30.0) -> tuple[str, ...]:
        """Wait until everything is acknowledged.

        Parameters
        ----------
        timeout
            Longest wait in seconds. A lost receiver is not waited for.

        Returns
        -------
        tuple[str, ...]
            Keys that are not acknowledged, oldest first; empty when all is well. They can be
            published again from the application's store.
        """
        with self._changed:
            self._changed.wait_for(self._is_settled, timeout)
            return self._lanes.open_keys()

    def wait_attached(self, timeout: float = 5.0) -> bool:
        """Wait until a receiver takes part.

        Parameters
        ----------
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool
            Whether one does.
        """
        with self._changed:
            standing = self._standing
            return self._changed.wait_for(lambda: standing.link is LinkState.ATTACHED, timeout)

    def forget(self, keys: Sequence[str]) -> None:
        """Take keys off the list of what was lost, because nobody needs them any more."""
        with self._changed:
            self._lanes.forget(keys)

    @property
    def state(self) -> PublisherState:
        """How it stands with the receiver now."""
        with self._changed:
            return self._standing.seen(self._lanes.current)

    @property
    def lanes(self) -> tuple[LaneState, ...]:
        """The stream as it stands with its receiver; empty without one."""
        with self._changed:
            now = time.monotonic()
            return tuple(lane.state(now=now) for lane in self._lanes.live.values())

    @property
    def link(self) -> LinkStats:
        """What was measured of the way to the receiver; nothing without one, or before.

        An application chooses by it what it sends: how large, how compressed, how often.
        """
        with self._changed:
            lane = self._lanes.ready
            return LinkStats() if lane is None else lane.outbox.link.stats

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Keys that were sent and not acknowledged, oldest first, lost ones included."""
        with self._changed:
            return self._lanes.open_keys()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What was lost, the last 1000 gaps."""
        with self._changed:
            return tuple(self._gaps)

    @property
    def counters(self) -> dict[str, int]:
        """Totals: ``sent``, ``bytes``, ``arena``, ``inline``, ``superseded`` and ``lost``."""
        names = ("sent", "bytes", "arena", "inline", "superseded", "lost")
        with self._changed:
            totals = self._lanes.counters
        return {name: totals[name] for name in names}

    def on_ack(self, callback: Callable[[str, Ack], object]) -> None:
        """Call a function with the key of a payload and what became of it."""
        self._ack_callbacks.append(callback)

    def on_gap(self, callback: Callable[[Gap], object]) -> None:
        """Call a function with every gap."""
        self._gap_callbacks.append(callback)

    def on_replay(self, callback: Callable[[tuple[str, ...]], object]) -> None:
        """Call a function when a new receiver takes part, with the keys that it should be sent.

        Parameters
        ----------
        callback
            Called with the unacknowledged keys, oldest first; not called when there are none. The
            payloads themselves are the application's to keep. What ``replay_bytes`` has kept is
            sent without asking, and is not among them.
        """
        self._replay_callbacks.append(callback)

    def close(self) -> None:
        """Leave; a second call does nothing. Nothing stays in shared memory.

        What was sent and not yet received is lost: `flush` before.
        """
        with self._changed:
            if self._standing.closed:
                return
            self._set_link(LinkState.CLOSED, f"the publisher to {self.peer} is closed")
            self._newest.forget()
        if self._sweeping is not None:
            self._sweeping.stop()
        if self._loop.running:
            self._loop.submit(self._close).result()
        self._lender.close()
        logger.info("closed %r to %s", self.topic, self.peer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows runs on the loop.

    def _pump_soon(self, lane: Lane) -> None:
        if (self.mode is Mode.LATEST or lane.queue) and self._loop.running:
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Send what waits, and then the newest payload, if there is room for it; on the loop."""
        with self._changed:
            lane = self._lanes.ready
        if lane is not None and lane.queue:
            self._dispatch.drain(lane, self._sharing)
        self._newest.pump()

    def _announce(self, lane: Lane, name: str) -> Future[object]:
        announce = Announce(epoch=lane.epoch, name=name)
        answer: Any = self._client.control.request_nowait("arena", msgspec.to_builtins(announce))
        return cast("Future[object]", answer)

    def _on_agreed(self, lane: Lane) -> None:
        with self._changed:
            self._lanes.begin(lane)
            self._standing.detail = f"waiting for {self.peer} to subscribe"

    def _on_began(self, lane: Lane) -> None:
        with self._changed:
            lane.subscribed = True
            kept = self._carried.keys
            keys = tuple(key for key in self._lanes.lost_keys if key not in kept)
            if keys and self._replay_callbacks:
                self._carried.forget_evicted()
            self._lanes.note(self._carried.hand_to(lane))
            self._report()
            how = f"{lane.reason.carrier} ({lane.reason})"
            self._set_link(LinkState.ATTACHED, f"attached to {self.peer}, {how}")
        logger.info("%r attached to %s: %s", self.topic, self.peer, how)
        if keys:
            for callback in self._replay_callbacks:
                self._loop.call_soon(callback, keys)
        self._pump()

    def _on_ended(self, reason: GapReason, why: str) -> None:
        with self._changed:
            if self._standing.closed:
                return
            keeps = self._replay_bytes > 0 and self.mode is Mode.RELIABLE
            lane = self._lanes.end(reason, carried=keeps)
            if lane is not None and keeps:
                self._lanes.count_lost(self._carried.take_over(lane))
            self._report()
            if self._standing.link is LinkState.ATTACHED:
                self._set_link(LinkState.LOST, f"{self.peer}: {why}")
            self._changed.notify_all()
        if lane is not None:
            logger.info("%r to %s: %s", self.topic, self.peer, why)

    def _on_waiting(self, why: str) -> None:
        with self._changed:
            self._standing.detail = why

    def _on_ack(self, body: dict[str, object]) -> None:
        try:
            acks = msgspec.convert(body, Acks)
        except msgspec.ValidationError as error:
            self._client.control.counters["bad_frame"] += 1
            logger.warning("%s acknowledged what cannot be read: %s", self.peer, error)
            return
        with self._changed:
            news = self._lanes.heard(acks)
            self._changed.notify_all()
        for ack in news:
            for callback in self._ack_callbacks:
                self._loop.call_soon(callback, ack.key, ack)
        self._pump()

    def _on_resend(self, body: dict[str, object]) -> None:
        try:
            wanted = msgspec.convert(body, Resend)
        except msgspec.ValidationError as error:
            self._client.control.counters["bad_frame"] += 1
            logger.warning("%s wants what cannot be read: %s", self.peer, error)
            return
        with self._changed:
            lane = self._lanes.live.get(wanted.epoch)
            if lane is not None:
                self._lanes.resend(lane, wanted.first, wanted.last)
        self._pump()

    def _close(self) -> None:
        self._dispatch.transmit()
        self._attachment.close()
        with self._changed:
            self._lanes.end(GapReason.PRODUCER_LOST)
            self._report()

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:  # a forked child has the memory, but not the thread
            raise NotAttachedError(
                f"the publisher to {self.peer} belongs to process {self._pid}; a forked worker "
                "makes its own"
            )

    # Small things, under the lock.

    def _is_settled(self) -> bool:
        if self._standing.link in (LinkState.LOST, LinkState.CLOSED):
            return True
        lane = self._lanes.current
        if self._newest or (lane is None and self._carried):
            return False
        return lane is None or (not lane.queue and lane.outbox.is_clear())

    def _set_link(self, link: LinkState, detail: str) -> None:
        self._standing.set(link, detail)
        self._changed.notify_all()

    def _report(self) -> None:
        for gap in self._lanes.take_gaps():
            self._gaps.append(gap)
            for callback in self._gap_callbacks:
                self._loop.call_soon(callback, gap)
