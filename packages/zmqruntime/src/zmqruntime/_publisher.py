"""Publisher: the sending end of one stream, on a client's I/O thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
import zmq

from zmqruntime._credits import Credit
from zmqruntime._errors import (
    ControlTimeout,
    LoopStoppedError,
    NotAttachedError,
    PayloadTooLargeError,
    PeerLostError,
    PublishTimeoutError,
    RequestError,
)
from zmqruntime._gaps import Gap, GapReason
from zmqruntime._outbox import Ack, Outbox
from zmqruntime._owner import identity_of
from zmqruntime._polling import Backoff, Deadline
from zmqruntime._stream_messages import (
    DATA_VERSION,
    MAX_HEADER_BYTES,
    MAX_KEY_CHARS,
    Acks,
    AckStatus,
    Announce,
    Attach,
    Attached,
    Detach,
    Mode,
    Part,
    TransportHeader,
    stream_topic,
)
from zmqruntime.carriers._arena import SlotReference, as_bytes
from zmqruntime.carriers._inline import DEFAULT_LIMITS, InlineLimits, check_sizes, cut, part_sizes
from zmqruntime.carriers._lender import LentSlot, SlotLender
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._negotiate import (
    ARENA_FROM_BYTES,
    Carrier,
    CarrierReason,
    HostIdentity,
    Probe,
    judge,
    shared_memory_available,
)
from zmqruntime.carriers._sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

    from typing_extensions import Buffer

    from zmqruntime._client import ZMQClient
    from zmqruntime._handshake import Welcome
    from zmqruntime._loop import TimerHandle
    from zmqruntime._messages import Reply

    Encode = Callable[[], tuple[bytes, Sequence[Buffer]]]

__all__ = ["LinkState", "Publisher", "PublisherState"]

logger = logging.getLogger(__name__)

_RECONNECT_MS = 50
_MOST_READ = 64
_MOST_GAPS = 1000
_MOST_LOST_KEYS = 65_536


class LinkState(StrEnum):
    """Whether a publisher has a receiver."""

    WAITING = "waiting"
    ATTACHED = "attached"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherState:
    """How a publisher stands with its receiver.

    Attributes
    ----------
    link
        ``waiting`` before there is a receiver, ``attached``, ``lost`` while it is sought again, or
        ``closed``.
    since
        Seconds since the epoch.
    detail
        A sentence for people.
    carrier_reason
        Why payloads travel as they do; None without a receiver.
    under_way
        Messages and payload bytes the receiver has not given back.
    granted
        Its whole room; nothing without a receiver.
    """

    link: LinkState
    since: float
    detail: str
    carrier_reason: CarrierReason | None
    under_way: Credit
    granted: Credit


class _Lane:
    """One run of the stream with one receiver."""

    def __init__(
        self, attached: Attached, *, topic: str, reason: CarrierReason, until: AckStatus
    ) -> None:
        self.epoch = attached.epoch
        self.host = attached.host
        self.incarnation = attached.incarnation
        self.filter = stream_topic(topic, attached.subscriber)
        self.reason = reason
        self.subscribed = False
        self.announced: set[str] = set()
        self.announcing = False
        self.outbox = Outbox(
            topic=topic,
            epoch=attached.epoch,
            credit=Credit(attached.messages, attached.nbytes),
            until=until,
        )


@dataclass(frozen=True, slots=True)
class _Admission:
    """Room that was taken for one payload: where it goes and how."""

    lane: _Lane
    lent: LentSlot | None


@dataclass(frozen=True, slots=True)
class _Payload:
    """What is to be sent."""

    header: bytes
    buffers: tuple[memoryview, ...]
    key: str
    sizes: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class _Offer:
    """The newest payload of mode latest, waiting for room."""

    lane: _Lane | None
    sequence: int
    encode: Encode
    key: str


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
        Most bytes of shared memory in use at a time.
    lease_ttl
        Seconds after which memory that a silent receiver holds is used again.
    directory
        Where segments are made; a tmpfs.
    limits
        Sizes at which inline payloads are cut.

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
        limits: InlineLimits = DEFAULT_LIMITS,
    ) -> None:
        if not topic or "\0" in topic or len(topic) > 256:
            raise ValueError(f"a topic has 1 to 256 characters and no zero byte, not {topic!r}")
        self.topic = topic
        self.mode = Mode(mode)
        self.peer = str(client.endpoint)
        self._until = AckStatus(until)
        if self._until is AckStatus.FAILED:
            raise ValueError("payloads are acknowledged when 'received' or 'displayed'")
        self._client = client
        self._loop = client.loop
        self._directory = directory
        self._limits = limits
        self._shared_memory = use_shared_memory and shared_memory_available(directory)
        self._host = HostIdentity.mine()
        self._lender = SlotLender(budget_bytes=arena_bytes, ttl=lease_ttl, directory=directory)
        self._turn = threading.Lock()  # one publish at a time, so that numbers go out in order
        self._changed = threading.Condition()  # guards what follows, up to the next blank line
        self._lane: _Lane | None = None
        self._former: dict[str, _Lane] = {}  # earlier runs whose slots are still held
        self._outgoing: deque[tuple[_Lane, list[bytes | memoryview]]] = deque()
        self._sending = False
        self._offer: _Offer | None = None
        self._lost_keys: dict[str, None] = {}
        self._gaps: deque[Gap] = deque(maxlen=_MOST_GAPS)
        self._counters: Counter[str] = Counter()
        self._link = LinkState.WAITING
        self._since = time.time()
        self._detail = f"no receiver at {self.peer} yet"
        self._incarnation = ""
        self._warned = False

        self._ack_callbacks: list[Callable[[str, Ack], object]] = []
        self._gap_callbacks: list[Callable[[Gap], object]] = []
        self._replay_callbacks: list[Callable[[tuple[str, ...]], object]] = []
        self._socket: zmq.Socket[bytes] | None = None
        self._url = ""
        self._attaching = 0
        self._backoff = Backoff()
        self._retry: TimerHandle | None = None
        if self._shared_memory:
            sweep(directory)
        client.on_welcome(self._on_welcome)
        client.on_lost(self._on_lost)
        client.control.on_push("ack", self._on_ack)
        if client.connected:
            self._loop.call_soon(self._on_welcome, client.welcome)

    # What an application calls.

    def publish(
        self, header: bytes, buffers: Sequence[Buffer], *, key: str, timeout: float = 30.0
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
            If a buffer is not contiguous.

        Notes
        -----
        When it raises, nothing was sent; only a payload of several parts (above 64 MiB, inline) may
        break off, which the receiver sees as a gap.
        """
        if self.mode is Mode.LATEST:
            return self.offer(lambda: (header, buffers), key=key)
        payload = self._payload(header, buffers, key)
        deadline = Deadline(timeout)
        if not self._turn.acquire(timeout=deadline.remaining()):
            raise PublishTimeoutError(
                f"{self.peer}: other threads waited for room for {self.topic!r} all the "
                f"{timeout:g} s; {key!r} was not sent"
            )
        try:
            while True:
                admission = self._wait_for_room(payload, deadline, timeout)
                sequence = self._send(payload, admission, deadline)
                if sequence:
                    return sequence
        finally:
            self._turn.release()

    def offer(self, encode: Encode, *, key: str) -> int:
        """Hand over the newest payload of mode latest, to be encoded when there is room.

        Parameters
        ----------
        encode
            Returns header and buffers; called at most once, on the I/O thread, for a payload that
            will be sent. It should take a few milliseconds at most.
        key
            The application's name for the payload.

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
            If the mode is not latest.
        """
        if self.mode is not Mode.LATEST:
            raise ValueError("offer() is for mode 'latest'; publish() waits for room")
        _check_key(key)
        with self._changed:
            if self._link is LinkState.CLOSED:
                raise NotAttachedError(f"the publisher to {self.peer} is closed")
            lane = self._lane
            self._supersede()
            sequence = 0 if lane is None else lane.outbox.number()
            self._offer = _Offer(lane, sequence, encode, key)
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
            return self._open_keys()

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
            return self._changed.wait_for(lambda: self._link is LinkState.ATTACHED, timeout)

    def forget(self, keys: Sequence[str]) -> None:
        """Take keys off the list of what was lost, because nobody needs them any more."""
        with self._changed:
            for key in keys:
                self._lost_keys.pop(key, None)

    @property
    def state(self) -> PublisherState:
        """How it stands with the receiver now."""
        with self._changed:
            lane = self._lane
            return PublisherState(
                link=self._link,
                since=self._since,
                detail=self._detail,
                carrier_reason=None if lane is None else lane.reason,
                under_way=Credit(0, 0) if lane is None else lane.outbox.window.used,
                granted=Credit(0, 0) if lane is None else lane.outbox.window.granted,
            )

    @property
    def unacknowledged(self) -> tuple[str, ...]:
        """Keys that were sent and not acknowledged, oldest first, lost ones included."""
        with self._changed:
            return self._open_keys()

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
            return {name: self._counters[name] for name in names}

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
            payloads themselves are the application's to keep.
        """
        self._replay_callbacks.append(callback)

    def close(self) -> None:
        """Leave; a second call does nothing. Nothing stays in shared memory.

        What was sent and not yet received is lost: `flush` before.
        """
        with self._changed:
            if self._link is LinkState.CLOSED:
                return
            self._set_link(LinkState.CLOSED, f"the publisher to {self.peer} is closed")
        if self._loop.running:
            self._loop.submit(self._close).result()
        self._lender.close()
        logger.info("closed %r to %s", self.topic, self.peer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending: on the thread of the caller in mode reliable, on the loop in mode latest.

    def _payload(self, header: bytes, buffers: Sequence[Buffer], key: str) -> _Payload:
        _check_key(key)
        if len(header) > MAX_HEADER_BYTES:
            raise PayloadTooLargeError(
                f"the header of {key!r} has {len(header)} bytes, at most {MAX_HEADER_BYTES} go"
            )
        views = tuple(as_bytes(buffer) for buffer in buffers)
        sizes = tuple(view.nbytes for view in views)
        total = check_sizes(sizes, limits=self._limits)
        return _Payload(bytes(header), views, key, sizes, total)

    def _wait_for_room(self, payload: _Payload, deadline: Deadline, timeout: float) -> _Admission:
        while True:
            with self._changed:
                while True:
                    admission = self._admit(payload)
                    if admission is not None:
                        return admission
                    if self._needs_arena(payload):
                        break
                    left = deadline.remaining()
                    if self._link is LinkState.CLOSED or left <= 0:
                        raise self._no_room(payload.key, timeout)
                    expiry = self._lender.next_expiry()
                    if expiry is not None and expiry > time.monotonic():
                        left = min(left, expiry - time.monotonic())
                    self._changed.wait(left)
            self._make_arena(payload)

    def _no_room(self, key: str, timeout: float) -> NotAttachedError | PublishTimeoutError:
        lane = self._lane
        if lane is None or not lane.subscribed:
            return NotAttachedError(
                f"nobody received {self.topic!r} at {self.peer} within {timeout:g} s, so {key!r} "
                f"was not sent: {self._detail}"
            )
        used, granted = lane.outbox.window.used, lane.outbox.window.granted
        return PublishTimeoutError(
            f"{self.peer} made no room for {key!r} within {timeout:g} s: {used.messages} of "
            f"{granted.messages} messages, {used.nbytes} of {granted.nbytes} bytes are under way; "
            "the receiver is busy or stopped. Nothing was sent"
        )

    def _by_arena(self, lane: _Lane, payload: _Payload) -> bool:
        return (
            lane.reason.carrier is Carrier.ARENA
            and payload.total >= ARENA_FROM_BYTES
            and self._lender.could_hold(payload.sizes)
        )

    def _needs_arena(self, payload: _Payload) -> bool:
        """Say whether a larger or an unknown arena stands in the way; under the lock."""
        lane = self._lane
        if lane is None or not lane.subscribed or lane.announcing:
            return False
        return self._by_arena(lane, payload) and not self._has_arena(lane, payload)

    def _has_arena(self, lane: _Lane, payload: _Payload) -> bool:
        return self._lender.fits(payload.sizes) and self._lender.current in lane.announced

    def _admit(self, payload: _Payload) -> _Admission | None:
        """Take room for a payload, or its first part, if there is any; under the lock."""
        lane = self._lane
        if lane is None or not lane.subscribed or self._link is LinkState.CLOSED:
            return None
        window = lane.outbox.window
        if not self._by_arena(lane, payload):
            first = part_sizes(payload.total, limits=self._limits)[0]
            return _Admission(lane, None) if window.take(first) else None
        if not self._has_arena(lane, payload) or not window.has_room(payload.total):
            return None
        lent = self._lender.take(payload.sizes, lane.epoch, now=time.monotonic())
        if lent is None and self._reclaim():
            lent = self._lender.take(payload.sizes, lane.epoch, now=time.monotonic())
        if lent is None:
            return None
        window.take(payload.total)
        return _Admission(lane, lent)

    def _make_arena(self, payload: _Payload) -> None:
        """Make an arena if need be, and tell the receiver of it."""
        with self._changed:
            lane = self._lane
            if lane is None or lane.announcing:
                return
            lane.announcing = True
        try:
            name = self._lender.current
            if name is None or not self._lender.fits(payload.sizes):
                name = self._lender.grow(payload.sizes)
            announce = Announce(epoch=lane.epoch, name=name)
            future = self._client.control.request_nowait(
                "arena", msgspec.to_builtins(announce), timeout=5.0
            )
        except (OSError, LoopStoppedError) as error:
            self._stop_sharing(lane, CarrierReason.NO_ROOM, str(error))
        else:
            future.add_done_callback(lambda done: self._on_announced(lane, name, done))

    def _on_announced(self, lane: _Lane, name: str, future: Future[Reply]) -> None:
        error = future.exception()
        if error is not None:
            self._stop_sharing(lane, CarrierReason.PROBE_UNREADABLE, str(error))
            return
        with self._changed:
            lane.announced.add(name)
            lane.announcing = False
            self._changed.notify_all()
        self._pump_soon()

    def _stop_sharing(self, lane: _Lane, reason: CarrierReason, why: str) -> None:
        """Go on inline with this receiver, and say so once."""
        with self._changed:
            lane.reason = reason
            lane.announcing = False
            warn, self._warned = not self._warned, True
            self._changed.notify_all()
        if warn:
            logger.warning(
                "%s: no shared memory for %r (%s); payloads are sent inline, which is slower",
                self.peer,
                self.topic,
                why,
            )
        self._pump_soon()

    def _send(
        self,
        payload: _Payload,
        admission: _Admission,
        deadline: Deadline,
        *,
        sequence: int | None = None,
    ) -> int:
        """Send a payload for which there is room; 0 if the receiver was lost meanwhile."""
        lane, lent = admission.lane, admission.lent
        if lent is None:
            return self._send_inline(payload, lane, deadline, sequence)
        try:
            reference = self._lender.fill(lent, payload.buffers, sequence=lane.outbox.last + 1)
        except BaseException:
            with self._changed:
                self._lender.give_back(lent, lane.epoch)
                lane.outbox.window.give_back(Credit(1, payload.total))
                self._changed.notify_all()
            raise
        with self._changed:
            if lane is not self._lane:
                self._lender.give_back(lent, lane.epoch)
                return 0
            if sequence is None:
                sequence = lane.outbox.number()
            lane.outbox.sent(sequence, payload.key, lent)
            self._enqueue(lane, payload, sequence, ref=reference)
            self._count(payload, "arena")
        return sequence

    def _send_inline(
        self, payload: _Payload, lane: _Lane, deadline: Deadline, sequence: int | None
    ) -> int:
        sizes = part_sizes(payload.total, limits=self._limits)
        for index, chunks in enumerate(cut(payload.buffers, limits=self._limits)):
            # libzmq reads the frames later: what the caller may change is copied now
            frames = [_frozen(chunk) for chunk in chunks]
            with self._changed:
                if index:
                    room = self._changed.wait_for(
                        lambda part=index: (
                            lane is not self._lane or lane.outbox.window.take(sizes[part])
                        ),
                        deadline.remaining(),
                    )
                    if not room:
                        assert sequence is not None
                        self._report([lane.outbox.lose(sequence, GapReason.NO_CREDIT)])
                        raise self._no_room(payload.key, 0.0)
                if lane is not self._lane:
                    if sequence is None:
                        return 0
                    raise NotAttachedError(
                        f"{self.peer} was lost while {payload.key!r} was sent; publish it again"
                    )
                if sequence is None:
                    sequence = lane.outbox.number()
                if not index:
                    lane.outbox.sent(sequence, payload.key)
                part = Part(index, len(sizes))
                self._enqueue(lane, payload, sequence, part=part, chunks=frames)
        assert sequence is not None
        with self._changed:
            self._count(payload, "inline")
        return sequence

    def _count(self, payload: _Payload, carrier: str) -> None:
        self._counters["sent"] += 1
        self._counters["bytes"] += payload.total
        self._counters[carrier] += 1
        self._lost_keys.pop(payload.key, None)

    def _enqueue(
        self,
        lane: _Lane,
        payload: _Payload,
        sequence: int,
        *,
        ref: SlotReference | None = None,
        part: Part = Part(0, 1),
        chunks: Sequence[bytes | memoryview] = (),
    ) -> None:
        """Hand a message to the loop; under the lock, so that numbers stay in order."""
        transport = TransportHeader(
            v=DATA_VERSION,
            epoch=lane.epoch,
            seq=sequence,
            target=lane.incarnation,
            key=payload.key,
            t_ns=time.time_ns(),
            mono_ns=time.monotonic_ns(),
            sizes=payload.sizes,
            ref=ref,
            part=part,
            lost=lane.outbox.notes(),
        )
        header = b"" if part.index else payload.header
        frames = [lane.filter, msgspec.msgpack.encode(transport), header, *chunks]
        self._outgoing.append((lane, frames))
        if not self._sending:
            self._sending = True
            self._loop.call_soon(self._transmit)

    # Mode latest.

    def _supersede(self) -> None:
        """Give up the payload that waits for room; under the lock."""
        offer, self._offer = self._offer, None
        if offer is None:
            return
        self._counters["superseded"] += 1
        if offer.lane is not None and offer.lane is self._lane:
            self._report([offer.lane.outbox.lose(offer.sequence, GapReason.SUPERSEDED)])

    def _pump_soon(self) -> None:
        if self.mode is Mode.LATEST and self._loop.running:
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Send the newest payload if there is room for it; on the loop."""
        with self._changed:
            offer, lane = self._offer, self._lane
            if offer is None or lane is None or not lane.subscribed:
                return
            if not lane.outbox.window.has_room(0):
                return
            self._offer = None
            sequence = offer.sequence if offer.lane is lane else lane.outbox.number()
        try:
            header, buffers = offer.encode()
            payload = self._payload(header, buffers, offer.key)
        except Exception:
            logger.exception("%r could not be encoded for %s", offer.key, self.peer)
            with self._changed:
                self._report([lane.outbox.lose(sequence, GapReason.REFUSED)])
            return
        with self._changed:
            admission = self._admit(payload)
            grow = admission is None and self._needs_arena(payload)
            if admission is None:
                if self._offer is None:  # it waits on, encoded
                    frozen = (payload.header, payload.buffers)
                    self._offer = _Offer(lane, sequence, lambda: frozen, offer.key)
                else:
                    self._report([lane.outbox.lose(sequence, GapReason.SUPERSEDED)])
                    self._counters["superseded"] += 1
        if admission is not None:
            self._send(payload, admission, Deadline(0.0), sequence=sequence)
        elif grow:
            self._make_arena(payload)

    # What follows runs on the loop.

    def _transmit(self) -> None:
        with self._changed:
            batch = list(self._outgoing)
            self._outgoing.clear()
            self._sending = False
        for lane, frames in batch:
            if self._socket is None or lane is not self._lane:
                continue  # reported when the receiver was lost
            try:
                self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
            except zmq.Again:
                self._lose_lane(GapReason.HWM, "the data socket took no more messages")
                self._attach()
                return

    def _on_welcome(self, welcome: Welcome) -> None:
        if self._link is LinkState.CLOSED:
            return
        here = self._client.endpoint
        url = replace(here, data_port_offset=welcome.ports.data - here.port).data_url
        if self._socket is None or url != self._url:
            self._open(url)
        self._lose_lane(GapReason.LINK, "the connection was made anew")
        self._attach()

    def _open(self, url: str) -> None:
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.close(linger=0)
        socket = self._loop.context.socket(zmq.XPUB)
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 0)  # credit bounds what is under way, not libzmq
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.IPV6, 1 if "[" in url else 0)
        self._subscribed: set[bytes] = set()
        self._socket, self._url = socket, url
        self._loop.register(socket, self._on_subscriptions)
        socket.connect(url)

    def _attach(self) -> None:
        """Ask the receiver to let us take part."""
        if self._link is LinkState.CLOSED or not self._client.connected:
            return
        self._cancel_retry()
        self._attaching += 1
        attempt = self._attaching
        probe = None
        if self._shared_memory:
            try:
                probe = Probe(directory=self._directory)
            except OSError as error:
                logger.warning("%s: no probe can be made: %s", self.peer, error)
        attach = Attach(
            topic=self.topic,
            mode=self.mode,
            producer=f"{self._client.app} (pid {self._host.pid})",
            host=self._host,
            probe="" if probe is None else probe.name,
            challenge="" if probe is None else probe.challenge,
        )
        future = self._client.control.request_nowait(
            "attach", msgspec.to_builtins(attach), timeout=5.0
        )
        future.add_done_callback(lambda done: self._on_attached(attempt, probe, done))

    def _on_attached(self, attempt: int, probe: Probe | None, future: Future[Reply]) -> None:
        try:
            attached = msgspec.convert(future.result().body, Attached)
        except (RequestError, ControlTimeout, msgspec.ValidationError) as error:
            self._wait_and_attach(attempt, str(error))
            return
        except (PeerLostError, LoopStoppedError):
            return  # the next welcome attaches again
        finally:
            if probe is not None:
                probe.close()
        if attempt != self._attaching or self._link is LinkState.CLOSED:
            self._detach(attached.epoch)
            return
        self._backoff.reset()
        proved = probe is not None and probe.verify(attached.probe_answer)
        reason = judge(self._host, attached.host, proved=proved)
        if not self._shared_memory or not attached.shared_memory:
            reason = CarrierReason.DISABLED
        elif probe is None:
            reason = CarrierReason.NO_ROOM
        with self._changed:
            self._lane = _Lane(attached, topic=self.topic, reason=reason, until=self._until)
            self._detail = f"waiting for {self.peer} to subscribe"
        self._look_subscribed()

    def _wait_and_attach(self, attempt: int, why: str) -> None:
        if attempt != self._attaching or self._link is LinkState.CLOSED:
            return
        with self._changed:
            self._detail = f"{self.peer} did not let us take part: {why}"
        self._retry = self._loop.call_later(self._backoff.next(), self._attach)

    def _cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _detach(self, epoch: str) -> None:
        self._client.control.notify("detach", msgspec.to_builtins(Detach(epoch=epoch)))

    def _on_subscriptions(self) -> None:
        for _ in range(_MOST_READ):
            if self._socket is None:
                return
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            if frame[:1] == b"\x01":
                self._subscribed.add(frame[1:])
            elif frame[:1] == b"\x00":
                self._subscribed.discard(frame[1:])
        self._look_subscribed()

    def _look_subscribed(self) -> None:
        lane = self._lane
        if lane is None:
            return
        subscribed = lane.filter in self._subscribed
        if subscribed and not lane.subscribed:
            self._begin(lane)
        elif lane.subscribed and not subscribed:
            self._lose_lane(GapReason.LINK, "the receiver left the data channel")
            self._detach(lane.epoch)
            self._attach()

    def _begin(self, lane: _Lane) -> None:
        with self._changed:
            lane.subscribed = True
            again = self._incarnation not in ("", lane.incarnation)
            self._incarnation = lane.incarnation
            keys = tuple(self._lost_keys)
            self._set_link(
                LinkState.ATTACHED,
                f"attached to {self.peer}, {lane.reason.carrier} ({lane.reason})",
            )
        logger.info(
            "%r attached to %s%s: %s (%s)",
            self.topic,
            self.peer,
            ", which has started anew" if again else "",
            lane.reason.carrier,
            lane.reason,
        )
        if keys:
            for callback in self._replay_callbacks:
                self._loop.call_soon(callback, keys)
        self._pump()

    def _on_lost(self, reason: str) -> None:
        self._attaching += 1  # an answer under way belongs to the past
        self._cancel_retry()
        self._lose_lane(GapReason.RECEIVER_LOST, reason)
        with self._changed:
            if self._link is LinkState.ATTACHED:
                self._set_link(LinkState.LOST, f"{self.peer}: {reason}")

    def _lose_lane(self, reason: GapReason, why: str) -> None:
        with self._changed:
            lane, self._lane = self._lane, None
            if lane is None:
                return
            if self._link is LinkState.ATTACHED:
                self._set_link(LinkState.LOST, f"{self.peer}: {why}")
            self._report(lane.outbox.gaps(reason))
            for _, key in lane.outbox.unacknowledged():
                self._remember_lost(key)
            if lane.outbox.lent():
                self._former[lane.epoch] = lane
                self._reclaim()
            self._changed.notify_all()
        logger.info("%r to %s: %s", self.topic, self.peer, why)

    def _remember_lost(self, key: str) -> None:
        self._lost_keys.pop(key, None)
        self._lost_keys[key] = None
        self._counters["lost"] += 1
        if len(self._lost_keys) > _MOST_LOST_KEYS:
            del self._lost_keys[next(iter(self._lost_keys))]

    def _reclaim(self) -> bool:
        """Take back slots that nobody will release; under the lock. True if there were any."""
        found = False
        for epoch, lane in list(self._former.items()):
            if self._host.sees_pid_of(lane.host):
                process = identity_of(lane.host.pid)
                if process is None or process.start_time != lane.host.start_ticks:
                    found |= bool(self._lender.drop(epoch))
                    del self._former[epoch]
        ended = self._lender.expire(now=time.monotonic())
        lane = self._lane
        for lent in ended:
            sequence = None if lane is None else lane.outbox.find(lent)
            if lane is not None and sequence is not None:
                keys = dict(lane.outbox.unacknowledged())
                self._report([lane.outbox.lose(sequence, GapReason.LEASE_EXPIRED)])
                if sequence in keys:
                    self._remember_lost(keys[sequence])
        return found or bool(ended)

    def _on_ack(self, body: dict[str, object]) -> None:
        acks = msgspec.convert(body, Acks)
        with self._changed:
            lane = self._lane
            if lane is None or lane.epoch != acks.epoch:
                lane = self._former.get(acks.epoch)
            if lane is None:
                return
            self._lender.renew(lane.epoch, now=time.monotonic())
            news, slots = lane.outbox.heard(acks)
            for lent in slots:
                self._lender.give_back(lent, lane.epoch)
            if lane is not self._lane:
                for ack in news:
                    self._lost_keys.pop(ack.key, None)
                if not lane.outbox.lent():
                    del self._former[lane.epoch]
            self._changed.notify_all()
        for ack in news:
            for callback in self._ack_callbacks:
                callback(ack.key, ack)
        self._pump()

    def _close(self) -> None:
        self._cancel_retry()
        lane = self._lane
        if lane is not None:
            self._transmit()
            self._detach(lane.epoch)
        with self._changed:
            self._lane = None
            self._offer = None
            self._former.clear()
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.close(linger=0)
            self._socket = None

    # Small things, under the lock.

    def _is_settled(self) -> bool:
        lane = self._lane
        if lane is None:
            return self._link in (LinkState.LOST, LinkState.CLOSED) or not self._offer
        return lane.outbox.is_clear() and self._offer is None

    def _open_keys(self) -> tuple[str, ...]:
        lane = self._lane
        under_way = () if lane is None else lane.outbox.unacknowledged()
        return tuple(dict.fromkeys([*self._lost_keys, *(key for _, key in under_way)]))

    def _set_link(self, link: LinkState, detail: str) -> None:
        self._link, self._since, self._detail = link, time.time(), detail
        self._changed.notify_all()

    def _report(self, gaps: Sequence[Gap]) -> None:
        self._gaps.extend(gaps)
        for gap in gaps:
            for callback in self._gap_callbacks:
                self._loop.call_soon(callback, gap)


def _check_key(key: str) -> None:
    if len(key) > MAX_KEY_CHARS:
        raise PayloadTooLargeError(f"a key has at most {MAX_KEY_CHARS} characters, not {len(key)}")


def _frozen(chunk: memoryview) -> bytes | memoryview:
    return chunk if type(chunk.obj) is bytes else bytes(chunk)
