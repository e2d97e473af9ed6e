"""Subscriber: the receiving end of streams, on a server's I/O thread."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec
import zmq

from zmqruntime._credits import DEFAULT_CREDIT, Credit
from zmqruntime._errors import (
    BusyError,
    DescriptorError,
    ForbiddenError,
    InvalidRequestError,
    LoopStoppedError,
    NotFoundError,
    UnavailableError,
)
from zmqruntime._gaps import Gap, GapReason
from zmqruntime._peer import NOWHERE
from zmqruntime._reception import Item, ProducerStatus, Reception
from zmqruntime._stream_messages import (
    MAX_HEADER_BYTES,
    Announce,
    Attach,
    Attached,
    Detach,
    decode_header,
)
from zmqruntime._wake import WakeDescriptor
from zmqruntime.carriers._inline import DEFAULT_LIMITS, MAX_CHUNK_BYTES, InlineLimits
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._negotiate import (
    CarrierReason,
    HostIdentity,
    answer_probe,
    judge,
    shared_memory_available,
)
from zmqruntime.carriers._sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any, Self

    from typing_extensions import Buffer

    from zmqruntime._loop import TimerHandle
    from zmqruntime._messages import Request
    from zmqruntime._monitor import Monitor
    from zmqruntime._peer import Peer, Source
    from zmqruntime._server import ZMQServer

__all__ = ["Subscriber"]

logger = logging.getLogger(__name__)

_NOBLOCK = int(zmq.NOBLOCK)  # enum arithmetic costs more than the call
_MOST_READ = 64  # messages per turn of the loop, so that the control channel gets its turns
_RENEW_S = 10.0  # a third of the time that a lease lasts
_MOST_PRODUCERS = 256


class Subscriber:
    """Receives what producers publish to this server.

    Producers connect to the server's data port; each asks on the control channel to take part and
    is granted room for so many messages and bytes, which it gets back as items are released.

    Parameters
    ----------
    server
        A started server of this process; the subscriber is closed before it.
    credit
        Room for each producer.
    use_shared_memory
        Whether payloads may come through shared memory where the same host is proved.
    directory
        Where segments lie; a tmpfs.
    limits
        Sizes of inline payloads that are accepted.

    Raises
    ------
    EndpointInUse
        If another program listens on the data port.
    ValueError
        If there is no room for even one message.

    Notes
    -----
    The server's I/O thread owns the socket. Every method may be called from any thread. The
    descriptor of `fileno` is readable as long as something can be received; a Qt notifier or
    ``select`` can watch it.
    """

    def __init__(
        self,
        server: ZMQServer,
        *,
        credit: Credit = DEFAULT_CREDIT,
        use_shared_memory: bool = True,
        directory: Path = SHARED_MEMORY,
        limits: InlineLimits = DEFAULT_LIMITS,
    ) -> None:
        if credit.messages < 1 or credit.nbytes < 1:
            raise ValueError(f"a producer needs room for at least one message, not {credit}")
        self.subscriber_id = secrets.token_hex(8)
        self._loop = server.loop
        self._server = server
        self._gate = server.gate
        self._control = server.control
        self._incarnation = server.incarnation
        self._credit = credit
        self._directory = directory
        self._limits = limits
        self._host = HostIdentity.mine()
        self._shared_memory = use_shared_memory and shared_memory_available(directory)
        if self._shared_memory:
            sweep(directory)
        self._receptions: dict[str, Reception] = {}  # by epoch
        self._peers: dict[str, bytes] = {}  # epoch -> peer on the control channel
        self._watched: dict[str, int] = {}  # epoch -> descriptor of the producer's process
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: Monitor | None = None
        self._keys: dict[str, str] = {}  # epoch -> public key of its producer
        self._attached = 0
        self._renewal: TimerHandle | None = None
        self._changed = threading.Condition()  # guards what follows
        self._queue: deque[Item | Gap] = deque()
        self._news: set[str] = set()
        self._counters: Counter[str] = Counter()
        self._closed = False
        self._wake: WakeDescriptor | None = None
        self._loop.submit(self._open, server.endpoint.data_bind_url(server.bound)).result()
        for type_, handler in (
            ("attach", self._on_attach),
            ("arena", self._on_announce),
            ("detach", self._on_detach),
        ):
            self._control.handle(type_, handler, on_loop=True)
        self._control.on_peer_lost(self._on_peer_lost)

    def fileno(self) -> int:
        """Return a descriptor that is readable while something can be received.

        Returns
        -------
        int
            To be watched, not read; valid until `close`.

        Raises
        ------
        ValueError
            If the subscriber is closed.
        """
        with self._changed:
            if self._closed:
                raise ValueError("the subscriber is closed and has no descriptor")
            if self._wake is None:
                self._wake = WakeDescriptor()
                self._wake.set(on=bool(self._queue))
            return self._wake.fileno()

    def receive(self, limit: int | None = None) -> list[Item | Gap]:
        """Take what has arrived, without waiting.

        Parameters
        ----------
        limit
            At most so many, None for all.

        Returns
        -------
        list[Item | Gap]
            Items to be released, and gaps where items are missing, in the order of each stream.
        """
        with self._changed:
            count = len(self._queue) if limit is None else min(limit, len(self._queue))
            taken = [self._queue.popleft() for _ in range(count)]
            if self._wake is not None:
                self._wake.set(on=bool(self._queue))
        return taken

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until something can be received.

        Parameters
        ----------
        timeout
            Longest wait in seconds, None for ever.

        Returns
        -------
        bool
            Whether there is something.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed, timeout)
            return bool(self._queue)

    @property
    def producers(self) -> tuple[ProducerStatus, ...]:
        """The producers that take part now."""
        with self._changed:
            receptions = tuple(self._receptions.values())
        return tuple(reception.status for reception in receptions if not reception.closed)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, producers that have left included.

        ``items``, ``bytes``, ``bytes_copied``, ``gaps`` (payloads missing), ``dropped`` (messages
        refused or repeated) and ``foreign`` (messages that belong to no stream).
        """
        with self._changed:
            totals = Counter(self._counters)
            receptions = tuple(self._receptions.values())
        for reception in receptions:
            totals.update(_totals(reception))
        names = ("items", "bytes", "bytes_copied", "gaps", "dropped", "foreign")
        return {name: totals[name] for name in names}

    def close(self) -> None:
        """Stop receiving; a second call does nothing. Items that were handed out stay valid."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            unread = [entry for entry in self._queue if isinstance(entry, Item)]
            self._queue.clear()
            self._changed.notify_all()
        for item in unread:
            item.lease.release()
        if self._loop.running:
            self._loop.submit(self._close).result()
        if self._wake is not None:
            self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What follows runs on the loop, except _on_news and _on_gap.

    def _open(self, url: str) -> None:
        socket = self._loop.context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.RCVHWM, 0)  # credit bounds what is under way, not libzmq
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_CHUNK_BYTES + MAX_HEADER_BYTES)
            self._monitor = self._server.bind(socket, url)
        except BaseException:
            socket.close(linger=0)
            raise
        self._socket = socket
        self._loop.register(socket, self._on_readable)

    def _close(self) -> None:
        self._flush()
        for epoch in tuple(self._receptions):
            self._drop(epoch, GapReason.RECEIVER_LOST)
        if self._renewal is not None:
            self._renewal.cancel()
        if self._monitor is not None:
            self._monitor.close()
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.close(linger=0)
            self._socket = None

    def _on_attach(self, request: Request, peer: Peer) -> dict[str, Any]:
        attach = request.parse(Attach)
        if self._socket is None:
            raise UnavailableError("the subscriber has been closed")
        self._require_leave(attach.topic, peer)
        if len(self._receptions) >= _MOST_PRODUCERS:
            raise BusyError(f"{_MOST_PRODUCERS} producers take part; more are not let in")
        answer, proved = "", False
        if self._shared_memory and attach.probe and attach.host.digest == self._host.digest:
            with contextlib.suppress(DescriptorError):  # then inline; the sender learns why
                answer = answer_probe(
                    attach.probe, challenge=attach.challenge, directory=self._directory
                )
                proved = True
        reason = judge(self._host, attach.host, proved=proved)
        if not self._shared_memory or not attach.probe:
            reason = CarrierReason.DISABLED
        epoch = secrets.token_hex(16)
        self._attached += 1
        subscriber = f"{self.subscriber_id}-{self._attached}"  # each run has a topic of its own
        reception = Reception(
            attach,
            epoch=epoch,
            subscriber=subscriber,
            incarnation=self._incarnation,
            reason=reason,
            credit=self._credit,
            directory=self._directory,
            limits=self._limits,
            on_news=self._on_news,
            on_gap=self._on_gap,
        )
        with self._changed:
            self._receptions[epoch] = reception
        self._peers[epoch] = peer.id
        self._keys[epoch] = peer.source.key
        self._watch(epoch, attach.host)
        self._socket.subscribe(reception.filter)
        logger.info("%s attached to %r: %s", attach.producer, attach.topic, reason)
        agreed: dict[str, Any] = msgspec.to_builtins(
            Attached(
                epoch=epoch,
                subscriber=subscriber,
                incarnation=self._incarnation,
                host=self._host,
                messages=self._credit.messages,
                nbytes=self._credit.nbytes,
                shared_memory=self._shared_memory,
                probe_answer=answer,
            )
        )
        return agreed

    def _require_leave(self, topic: str, peer: Peer) -> None:
        """Let only those publish who may; who shows the token, or asks an open server, may."""
        if not peer.may(f"topic:publish:{topic}"):
            raise ForbiddenError(
                f"{peer} may not publish {topic!r}: its key was not given topic:publish:{topic}",
                details={"capability": f"topic:publish:{topic}"},
            )

    def _on_announce(self, request: Request, peer: Peer) -> None:
        announce = request.parse(Announce)
        reception = self._reception_of(announce.epoch, peer)
        try:
            reception.announce(announce.name)
        except DescriptorError as error:
            raise InvalidRequestError(str(error)) from error

    def _on_detach(self, request: Request, peer: Peer) -> None:
        epoch = request.parse(Detach).epoch
        self._reception_of(epoch, peer)
        self._on_readable()  # what was sent before still counts
        self._end(epoch, GapReason.PRODUCER_LOST)

    def _reception_of(self, epoch: str, peer: Peer) -> Reception:
        reception = self._receptions.get(epoch)
        if reception is None or self._peers.get(epoch) != peer.id:
            raise NotFoundError("no such stream of yours; attach first")
        return reception

    def _watch(self, epoch: str, host: HostIdentity) -> None:
        """Learn at once when a producer on this host ends."""
        if not self._host.sees_pid_of(host) or not hasattr(os, "pidfd_open"):
            return
        try:
            descriptor = os.pidfd_open(host.pid)
        except OSError:
            return
        self._watched[epoch] = descriptor
        self._loop.register(descriptor, lambda: self._on_ended(epoch))

    def _on_ended(self, epoch: str) -> None:
        self._on_readable()  # what it sent before its end still counts
        self._drop(epoch, GapReason.PRODUCER_LOST)

    def _on_peer_lost(self, peer: Peer) -> None:
        for epoch in [epoch for epoch, id_ in self._peers.items() if id_ == peer.id]:
            self._drop(epoch, GapReason.PRODUCER_LOST)

    def _end(self, epoch: str, reason: GapReason) -> None:
        """End a stream; its producer still learns what the application releases."""
        descriptor = self._watched.pop(epoch, None)
        if descriptor is not None:
            self._loop.unregister(descriptor)
            os.close(descriptor)
        reception = self._receptions.get(epoch)
        if reception is None or reception.closed:
            return
        if self._socket is not None:
            self._socket.unsubscribe(reception.filter)
        self._deliver(reception.close(reason))
        logger.info("%s left %r", reception.producer, reception.topic)
        if not reception.holds:
            self._drop(epoch, reason)

    def _drop(self, epoch: str, reason: GapReason) -> None:
        """End a stream whose producer is gone, and forget it."""
        self._end(epoch, reason)
        self._peers.pop(epoch, None)
        self._keys.pop(epoch, None)
        with self._changed:
            reception = self._receptions.pop(epoch, None)
            if reception is not None:
                self._counters.update(_totals(reception))

    def _on_readable(self) -> None:
        for _ in range(_MOST_READ):
            if self._socket is None:
                return
            source = NOWHERE
            try:
                if self._gate is None:
                    head = [self._socket.recv(_NOBLOCK)]
                else:
                    first = self._socket.recv(_NOBLOCK, copy=False)
                    source = self._gate.source_of(first)
                    head = [first.bytes]
            except zmq.Again:
                return
            chunks: list[Buffer] = []
            while self._socket.get(zmq.RCVMORE):
                if len(head) < 3:
                    head.append(self._socket.recv(_NOBLOCK))
                else:  # large ones stay where libzmq has put them
                    chunks.append(self._socket.recv(_NOBLOCK, copy=False).buffer)
            self._deliver(self._take(head, chunks, source))

    def _take(
        self, head: Sequence[bytes], chunks: Sequence[Buffer], source: Source = NOWHERE
    ) -> list[Item | Gap]:
        if self._gate is not None and not self._gate.admits(source):
            self._count_foreign()
            return []
        try:
            if len(head) < 2 or max(map(len, head)) > MAX_HEADER_BYTES:
                self._count_foreign()
                return []
            transport = decode_header(head[1])
        except DescriptorError as error:
            logger.debug("dropped a data message: %s", error)
            self._count_foreign()
            return []
        reception = self._receptions.get(transport.epoch)
        if reception is None or reception.closed or self._keys[transport.epoch] != source.key:
            self._count_foreign()
            return []
        header = head[2] if len(head) > 2 else b""
        found = reception.take(head[0], transport, header, chunks)
        self._await_renewal()
        return found

    def _count_foreign(self) -> None:
        with self._changed:
            self._counters["foreign"] += 1

    def _deliver(self, found: Sequence[Item | Gap]) -> None:
        if not found:
            return
        with self._changed:
            if not self._closed:
                self._queue.extend(found)
                if self._wake is not None:
                    self._wake.set(on=True)
                self._changed.notify_all()
                return
        for entry in found:
            if isinstance(entry, Item):
                entry.lease.release()

    def _on_gap(self, gap: Gap) -> None:
        self._deliver([gap])

    def _on_news(self, reception: Reception) -> None:
        with self._changed:
            idle = not self._news
            self._news.add(reception.epoch)
        if idle:
            with contextlib.suppress(LoopStoppedError):  # nobody is left to be told
                self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        with self._changed:
            epochs, self._news = self._news, set()
        for epoch in epochs:
            self._tell(epoch)

    def _tell(self, epoch: str, *, alive: bool = False) -> None:
        reception, peer = self._receptions.get(epoch), self._peers.get(epoch)
        if reception is None or peer is None:
            return
        news = reception.take_news()
        for acks in news or ([reception.sign_of_life()] if alive else []):
            self._control.push(peer, "ack", msgspec.to_builtins(acks))
        if reception.closed and not reception.holds:
            self._drop(epoch, GapReason.PRODUCER_LOST)

    def _await_renewal(self) -> None:
        if self._renewal is None or self._renewal.cancelled:
            self._renewal = self._loop.call_later(_RENEW_S, self._renew)

    def _renew(self) -> None:
        holding = [e for e, reception in self._receptions.items() if reception.holds]
        for epoch in holding:
            self._tell(epoch, alive=True)
        if holding:
            self._await_renewal()


def _totals(reception: Reception) -> dict[str, int]:
    status = reception.status
    return {
        "items": status.items,
        "bytes": status.nbytes,
        "bytes_copied": status.bytes_copied,
        "gaps": status.gaps,
        "dropped": status.dropped,
    }
