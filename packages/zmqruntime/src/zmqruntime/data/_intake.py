"""Intake: the loop's half of who receives; messages become items, and news goes back."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import zmq

from zmqruntime._errors import DescriptorError, LoopStoppedError
from zmqruntime.carriers._inline import MAX_CHUNK_BYTES
from zmqruntime.control._peer import NOWHERE
from zmqruntime.data._stream_messages import MAX_HEADER_BYTES, decode_header

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from zmqruntime.control._peer import Source
    from zmqruntime.data._gaps import Gap, GapReason
    from zmqruntime.data._inbox import Inbox
    from zmqruntime.data._item import Item
    from zmqruntime.data._reception import Reception
    from zmqruntime.data._stream_messages import Acks
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._monitor import Monitor
    from zmqruntime.loop._timers import TimerHandle
    from zmqruntime.security._gate import Gate

__all__ = ["TOTALS", "Intake"]

logger = logging.getLogger(__name__)

TOTALS = ("items", "bytes", "bytes_copied", "gaps", "dropped", "foreign")
_NOBLOCK = int(zmq.NOBLOCK)  # enum arithmetic costs more than the call
_MOST_READ = 64  # messages per turn of the loop, so that the control channel gets its turns
_RENEW_S = 10.0  # a third of the time that a lease lasts


class Intake:
    """Streams that one program receives on one SUB socket.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    inbox
        Where items and gaps go.
    tell
        Sends news to the producer of a stream; called on the loop with its epoch.
    on_dropped
        Called on the loop with the epoch of a stream that is over and done with.
    gate
        Knows who sends, where the socket binds and the service has one.

    Notes
    -----
    Everything runs on the loop, except `on_news` and `on_gap`, which any thread may call.
    """

    def __init__(
        self,
        loop: IOThread,
        inbox: Inbox,
        *,
        tell: Callable[[str, Acks], object],
        on_dropped: Callable[[str], object],
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate
        self._monitor: Monitor | None = None
        self._keys: dict[str, str] = {}  # epoch -> public key of its producer
        self._loop = loop
        self._inbox = inbox
        self._push = tell
        self._on_dropped = on_dropped
        self._socket: zmq.Socket[bytes] | None = None
        self._renewal: TimerHandle | None = None
        self._lock = threading.Lock()  # guards what follows
        self._receptions: dict[str, Reception] = {}
        self._news: set[str] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a socket."""
        return self._socket is not None

    @property
    def receptions(self) -> tuple[Reception, ...]:
        """The streams that are not done with."""
        with self._lock:
            return tuple(self._receptions.values())

    def get(self, epoch: str) -> Reception | None:
        """Return a stream by its epoch."""
        with self._lock:
            return self._receptions.get(epoch)

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start, streams that are over included."""
        totals = self._inbox.counters
        for reception in self.receptions:
            totals.update(reception.totals)
        counts = {name: totals[name] for name in TOTALS}
        return {**counts, "failed_callbacks": self._loop.failed_callbacks}

    def open(self, attach: Callable[[zmq.Socket[bytes]], Monitor | None]) -> None:
        """Make the socket.

        Parameters
        ----------
        attach
            Binds or connects it, and returns what is to be closed before it, if anything is; what
            it raises goes through.
        """
        socket = self._loop.context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.RCVHWM, 0)  # credit bounds what is under way, not libzmq
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.MAXMSGSIZE, MAX_CHUNK_BYTES + MAX_HEADER_BYTES)
            self._monitor = attach(socket)
        except BaseException:
            socket.close(linger=0)
            raise
        self._socket = socket
        self._loop.register(socket, self.read)

    def shut(self) -> None:
        """Close the socket, and keep the streams: they get no more messages."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.close(linger=0)
            self._socket = None

    def close(self, reason: GapReason) -> None:
        """Say what is left to say, end every stream, and close the socket."""
        self._flush()
        for reception in self.receptions:
            self.drop(reception.epoch, reason)
        if self._renewal is not None:
            self._renewal.cancel()
        self.shut()

    def add(self, reception: Reception, *, key: str = "") -> None:
        """Begin a stream, of who has proved to own a key, where there are some."""
        self._keys[reception.epoch] = key
        with self._lock:
            self._receptions[reception.epoch] = reception
        if self._socket is not None:
            self._socket.subscribe(reception.filter)

    def end(self, epoch: str, reason: GapReason) -> None:
        """End a stream; its producer still learns what the application releases."""
        reception = self.get(epoch)
        if reception is None or reception.closed:
            return
        if self._socket is not None:
            self._socket.unsubscribe(reception.filter)
        self._inbox.put(reception.close(reason))
        logger.info("%s left %r: %s", reception.producer, reception.topic, reason)
        if not reception.holds:
            self.drop(epoch, reason)

    def drop(self, epoch: str, reason: GapReason) -> None:
        """End a stream whose producer is gone, and forget it."""
        self.end(epoch, reason)
        self._keys.pop(epoch, None)
        with self._lock:
            reception = self._receptions.pop(epoch, None)
        if reception is not None:
            self._inbox.count(reception.totals)
            self._on_dropped(epoch)

    def read(self) -> None:
        """Take the messages that are there."""
        found: list[Item | Gap] = []
        for _ in range(_MOST_READ):
            if self._socket is None:
                break
            try:
                frame = self._socket.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                break
            source = NOWHERE if self._gate is None else self._gate.source_of(frame)
            head = [frame.bytes]
            chunks: list[Buffer] = []
            while frame.more:  # the frame knows; asking the socket takes longer than receiving
                frame = self._socket.recv(_NOBLOCK, copy=False)
                if len(head) < 3:
                    head.append(frame.bytes)
                else:  # large ones stay where libzmq has put them
                    chunks.append(frame.buffer)
            found += self._take(head, chunks, source)
        self._inbox.put(found)

    def on_gap(self, gap: Gap) -> None:
        """Hand on a gap that was found while the application used a payload."""
        self._inbox.put([gap])

    def on_news(self, reception: Reception) -> None:
        """Note that there is something to tell the producer."""
        with self._lock:
            idle = not self._news
            self._news.add(reception.epoch)
        if idle:
            with contextlib.suppress(LoopStoppedError):  # nobody is left to be told
                # on the loop although this thread could: what is released meanwhile goes along
                self._loop.call_soon(self._flush)

    def _take(
        self, head: Sequence[bytes], chunks: Sequence[Buffer], source: Source
    ) -> list[Item | Gap]:
        if self._gate is not None and not self._gate.admits(source):
            self._inbox.count({"foreign": 1})
            return []
        try:
            if len(head) < 2 or max(map(len, head)) > MAX_HEADER_BYTES:
                self._inbox.count({"foreign": 1})
                return []
            transport = decode_header(head[1])
        except DescriptorError as error:
            logger.debug("dropped a data message: %s", error)
            self._inbox.count({"foreign": 1})
            return []
        reception = self._receptions.get(transport.epoch)
        if (
            reception is None
            or reception.closed
            or self._keys.get(transport.epoch, "") != source.key
        ):
            self._inbox.count({"foreign": 1})
            return []
        header = head[2] if len(head) > 2 else b""
        found = reception.take(head[0], transport, header, chunks)
        self._await_renewal()
        return found

    def _flush(self) -> None:
        with self._lock:
            epochs, self._news = self._news, set()
        for epoch in epochs:
            self._tell(epoch)

    def _tell(self, epoch: str, *, alive: bool = False) -> None:
        reception = self.get(epoch)
        if reception is None:
            return
        for acks in reception.take_news() or ([reception.sign_of_life()] if alive else []):
            self._push(epoch, acks)
        if reception.closed and not reception.holds:
            self.drop(epoch, reception.closed)

    def _await_renewal(self) -> None:
        if self._renewal is None or self._renewal.cancelled:
            self._renewal = self._loop.call_later(_RENEW_S, self._renew)

    def _renew(self) -> None:
        holding = [reception.epoch for reception in self.receptions if reception.holds]
        for epoch in holding:
            self._tell(epoch, alive=True)
        if holding:
            self._await_renewal()
