"""Publisher: the sending end of one stream."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from zmqruntime._errors import PublishTimeoutError
from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits
from zmqruntime.carriers._link import LinkStats
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.data._attachment import Attachment, LaneEvents
from zmqruntime.data._gaps import GapReason
from zmqruntime.data._newest import Newest
from zmqruntime.data._outgoing import Outgoing, check_key, check_state_version
from zmqruntime.data._publisher_receiver import PublisherReceiver
from zmqruntime.data._publisher_state import LinkState, PublisherState, Standing
from zmqruntime.data._room import Room
from zmqruntime.data._sending_end import SendingEnd
from zmqruntime.data._stream_messages import AckStatus, Mode, check_topic
from zmqruntime.loop._polling import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from zmqruntime._client import ZMQClient
    from zmqruntime.data._lane import Lane
    from zmqruntime.data._lane_state import LaneState
    from zmqruntime.data._outbox import Ack
    from zmqruntime.data._outgoing import Encode


__all__ = ["Publisher"]

logger = logging.getLogger(__name__)


class Publisher(SendingEnd):
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
        super().__init__(
            client.loop,
            name=f"the publisher to {self.peer}",
            forked="makes its own",
            use_shared_memory=use_shared_memory,
            arena_bytes=arena_bytes,
            lease_ttl=lease_ttl,
            directory=directory,
            checksums=checksums,
            limits=limits,
        )
        self._sweep()
        self._replay_bytes = replay_bytes
        self._turn = threading.Lock()  # one publish at a time, so that numbers go out in order
        self._standing = Standing(f"no receiver at {self.peer} yet")
        self._receiver = PublisherReceiver(
            client,
            topic=topic,
            mode=self.mode,
            lanes=self._lanes,
            changed=self._changed,
            standing=self._standing,
            gaps=self._gap_reports,
            replay_bytes=replay_bytes,
            pump=self._pump,
        )
        self._attachment = Attachment(
            client,
            LaneEvents(
                agreed=self._receiver.agree,
                began=self._receiver.begin,
                ended=self._receiver.end,
                waiting=self._receiver.wait,
            ),
            topic=topic,
            mode=self.mode,
            until=until,
            host=self._host,
            shared_memory=self._shared_memory,
            directory=directory,
            replay_bytes=replay_bytes,
        )
        self._lead(
            announce=self._attachment.announce,
            send=self._attachment.send,
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
            on_loss=self._gap_reports.report,
        )
        self._newest = Newest(
            lanes=self._lanes,
            room=self._room,
            dispatch=self._dispatch,
            sharing=self._sharing,
            changed=self._changed,
            limits=limits,
            on_loss=self._gap_reports.report,
        )
        self._receiver.listen()
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
                raise self._closed_error()
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
    def counters(self) -> dict[str, int]:
        """Totals: ``sent``, ``bytes``, ``arena``, ``inline``, ``superseded`` and ``lost``.

        ``cut`` counts connections that were ended because the receiver misused them;
        ``failed_callbacks`` functions that raised on the client's I/O thread, the application's
        among them.
        """
        return {**self._totals(), "cut": self._attachment.cut}

    def on_ack(self, callback: Callable[[str, Ack], object]) -> None:
        """Call a function with the key of a payload and what became of it."""
        self._receiver.on_ack.append(callback)

    def on_replay(self, callback: Callable[[tuple[str, ...]], object]) -> None:
        """Call a function when a new receiver takes part, with the keys that it should be sent.

        Parameters
        ----------
        callback
            Called with the unacknowledged keys, oldest first; not called when there are none. The
            payloads themselves are the application's to keep. What ``replay_bytes`` has kept is
            sent without asking, and is not among them.
        """
        self._receiver.on_replay.append(callback)

    def close(self) -> None:
        """Leave; a second call does nothing. Nothing stays in shared memory.

        What was sent and not yet received is lost: `flush` before.
        """
        with self._changed:
            if self._standing.closed:
                return
            self._standing.set(LinkState.CLOSED, str(self._closed_error()))
            self._changed.notify_all()
            self._newest.forget()
        self._put_away()
        logger.info("closed %r to %s", self.topic, self.peer)

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

    def _leave(self) -> None:
        self._dispatch.transmit()
        self._attachment.close()
        self._receiver.leave(GapReason.PRODUCER_LOST)

    # Under the lock.

    def _is_settled(self) -> bool:
        if self._standing.link in (LinkState.LOST, LinkState.CLOSED):
            return True
        lane = self._lanes.current
        if self._newest or (lane is None and self._receiver.carried):
            return False
        return lane is None or (not lane.queue and lane.outbox.is_clear())
