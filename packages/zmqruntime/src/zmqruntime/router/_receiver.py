"""StreamReceiver: a client's end of all its streams."""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import DescriptorError, PeerLostError, StaleSlotError
from zmqruntime._typed import from_msgpack
from zmqruntime.data._feed_reader import FeedReader
from zmqruntime.data._gaps import Gap, GapReason
from zmqruntime.data._stream_messages import Mode
from zmqruntime.loop._polling import Deadline
from zmqruntime.router._codecs import decode
from zmqruntime.router._errors import StreamEmpty, StreamException, UnknownStreamError
from zmqruntime.router._inbox import Inbox, Storage
from zmqruntime.router._messages import PROTOCOL, StreamHeader, Timestamp, check_stream_name

if TYPE_CHECKING:
    from zmqruntime._client import ZMQClient
    from zmqruntime.carriers._lease import Lease
    from zmqruntime.data._item import Item
    from zmqruntime.router._codecs import Deserializer

__all__ = ["StreamReceiver", "end_lease", "read_header"]

logger = logging.getLogger(__name__)

_PATIENCE_S = 1.0  # with a server that is lost, before whoever waits is told


@dataclass(frozen=True, slots=True)
class _Received:
    """One value: its bytes, or the claim on them while nobody has asked for it."""

    header: StreamHeader
    frames: tuple[bytes, ...] = ()
    lease: Lease | None = None

    def copy(self) -> tuple[bytes, ...]:
        return self.frames if self.lease is None else self.lease.copy()

    def release(self) -> None:
        if self.lease is not None:
            end_lease(self.lease)


@dataclass(frozen=True, slots=True)
class _Followed:
    storage: Storage
    limit: int
    deserializer: Deserializer | None
    inbox: Inbox[_Received]


class StreamReceiver:
    """Takes in what a server streams, and keeps it for the program; any thread.

    Parameters
    ----------
    connection
        The connection to the server.

    Notes
    -----
    One thread reads all streams. A queue's data are copied as they come, so that a slow program
    keeps no memory of the server; of a cache only what is asked for is copied.
    """

    def __init__(self, connection: ZMQClient) -> None:
        self._connection = connection
        self._changing = threading.Lock()  # one change at a time; never taken on the loop
        self._lock = threading.Lock()  # guards what follows, for a moment at most
        self._followed: dict[str, _Followed] = {}
        self._reader: FeedReader | None = None
        self._closed = False

    def start(self) -> None:
        """Begin to read; twice is harmless."""
        with self._changing:
            if self._reader is not None or self._closed:
                return
            self._reader = FeedReader(self._connection)
            self._reader.on_refused(lambda _topic, _error: self._alarm())
            self._connection.on_lost(lambda _reason: self._alarm())
            self._connection.on_welcome(lambda _welcome: self._alarm())
            for name, followed in self._followed.items():
                self._reader.subscribe(name, mode=_mode(followed.storage))
            name = f"streams-of-{self._connection.endpoint.port}"
            self._thread = threading.Thread(
                target=self._run, args=(self._reader,), name=name, daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Follow nothing any more; twice is harmless."""
        with self._changing:
            if self._closed:
                return
            with self._lock:
                self._closed = True
                followed = list(self._followed.values())
                self._followed.clear()
            for each in followed:
                each.inbox.close()
            if self._reader is not None:
                self._reader.close()
                self._thread.join()

    def configure(
        self, name: str, storage: Storage, *, limit: int, deserializer: Deserializer | None
    ) -> None:
        """Follow a stream; see `RouterClient.configure_stream`."""
        check_stream_name(name)
        with self._changing:
            if self._closed:
                raise UnknownStreamError("the client was closed, and follows no streams any more")
            known = self._followed.get(name)
            if known is not None and (known.storage, known.limit) == (storage, limit):
                inbox = known.inbox
            else:
                inbox = Inbox(name, storage, limit=limit, on_drop=_Received.release)
            with self._lock:
                self._followed[name] = _Followed(storage, limit, deserializer, inbox)
            if known is not None and known.inbox is not inbox:
                known.inbox.close()
            if self._reader is None or (known is not None and known.storage is storage):
                return
            if known is not None:
                self._reader.unsubscribe(name)
            self._reader.subscribe(name, mode=_mode(storage))

    def wait_for(self, name: str, timeout: float) -> bool:
        """Wait until a stream is sent here; see `RouterClient.wait_for_stream`."""
        self._find(name)
        return self._reader is not None and self._reader.wait_subscribed(name, timeout)

    def forget(self, name: str) -> None:
        """Follow a stream no longer."""
        with self._changing:
            with self._lock:
                known = self._followed.pop(name, None)
            if known is None:
                return
            known.inbox.close()
            if self._reader is not None:
                self._reader.unsubscribe(name)

    def get(self, name: str, *, block: bool, timeout: float | None) -> tuple[Timestamp, Any]:
        """Take the oldest data of a stream out; see `RouterClient.get_stream`."""
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            followed = self._find(name)
            received = followed.inbox.take()
            if received is None and block:
                received = self._await(name, followed.inbox, deadline)
            if received is None and followed.inbox.closed:
                continue  # forgotten, or configured anew: looking again tells which
            if received is None:
                self._check_allowed(name)
                raise StreamEmpty(
                    f"nothing came of stream {name!r} within {timeout:g} s"
                    if block and timeout is not None
                    else f"nothing of stream {name!r} waits to be read"
                )
            try:
                return received.header.timestamp, _open(received, followed.deserializer)
            except StaleSlotError:
                continue  # overwritten before it was read; newer data come, or a gap says so

    def take_gaps(self, name: str) -> list[Gap]:
        """Hand over what was missing of a stream."""
        return self._find(name).inbox.take_gaps()

    def counters(self, name: str) -> dict[str, int]:
        """Count what became of a stream."""
        inbox = self._find(name).inbox
        return {
            "waiting": len(inbox),
            "missing": inbox.missing,
            "superseded": inbox.superseded,
            "unreadable": inbox.unreadable,
        }

    def _find(self, name: str) -> _Followed:
        with self._lock:
            followed = self._followed.get(name)
        if followed is None:
            raise UnknownStreamError(f"stream {name!r} is not followed: configure_stream() first")
        return followed

    def _check_allowed(self, name: str) -> None:
        """Raise what the server said, if it does not let us follow a stream."""
        if self._reader is not None:
            self._reader.wait_subscribed(name, timeout=0)

    def _await(
        self, name: str, inbox: Inbox[_Received], deadline: Deadline | None
    ) -> _Received | None:
        """Wait for data as long as there is hope."""
        lost_since: Deadline | None = None
        known = self._connection.connected
        while True:
            alarms = inbox.alarms
            if inbox.closed:
                return None
            self._check_allowed(name)
            if self._connection.connected:
                known, lost_since = True, None
            elif known:
                raise PeerLostError(
                    f"{self._connection.endpoint} was lost while stream {name!r} was waited for"
                )
            else:
                lost_since = lost_since or Deadline(_PATIENCE_S)
                if lost_since.expired:
                    raise PeerLostError(
                        f"{self._connection.endpoint} is not there, so nothing of stream {name!r} "
                        "can come: is the service running?"
                    )
            if deadline is not None and deadline.expired:
                return None
            waits = [each.remaining() for each in (deadline, lost_since) if each is not None]
            received = inbox.wait(min(waits, default=None), alarms=alarms)
            if received is not None:
                return received

    def _alarm(self) -> None:
        """Wake who waits: the connection has changed; on the loop."""
        with self._lock:
            followed = list(self._followed.values())
        for each in followed:
            each.inbox.alarm()

    def _run(self, reader: FeedReader) -> None:
        while reader.wait():
            for entry in reader.receive():
                try:
                    self._sort(entry)
                except Exception:
                    logger.exception("stream %r: %r was lost", entry.topic, entry)
                    self._count_lost(entry)

    def _count_lost(self, entry: Item | Gap) -> None:
        with self._lock:
            followed = self._followed.get(entry.topic)
        if followed is not None:
            followed.inbox.unreadable += 1
        if not isinstance(entry, Gap):  # or else it would keep its room for ever
            end_lease(entry.lease)

    def _sort(self, entry: Item | Gap) -> None:
        with self._lock:
            followed = self._followed.get(entry.topic)
        if isinstance(entry, Gap):
            if followed is not None:
                _report(followed, entry)
        elif followed is None:
            end_lease(entry.lease)
        else:
            _take_in(followed, entry)


def end_lease(lease: Lease) -> None:
    """Give back what nobody reads any more."""
    if not lease.released:
        with contextlib.suppress(StaleSlotError):  # whoever read it knows already
            lease.release()


def read_header(data: bytes) -> StreamHeader:
    """Read the header of a stream's payload.

    Raises
    ------
    DescriptorError
        If it is none that is known here.
    """
    try:
        header = from_msgpack(data, StreamHeader)
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DescriptorError(f"not the header of a stream: {error}") from error
    if header.v != PROTOCOL:
        raise DescriptorError(f"version {header.v} of streams is not known here")
    return header


def _mode(storage: Storage) -> Mode:
    return Mode.LATEST if storage is Storage.CACHE else Mode.RELIABLE


def _report(followed: _Followed, gap: Gap) -> None:
    if followed.storage is Storage.CACHE and gap.reason is GapReason.SUPERSEDED:
        followed.inbox.supersede(len(gap))
    else:
        followed.inbox.report(gap)


def _take_in(followed: _Followed, item: Item) -> None:
    try:
        header = read_header(item.header)
    except DescriptorError as error:
        end_lease(item.lease)
        item.fail("invalid", str(error))
        followed.inbox.unreadable += 1
        logger.warning("stream %r: %s", item.topic, error)
        return
    item.ack("displayed")
    if followed.storage is Storage.CACHE:
        received = _Received(header, lease=item.lease)
    else:
        try:
            received = _Received(header, item.lease.copy())
        except StaleSlotError:
            return  # a gap comes for it
    followed.inbox.put(received, epoch=item.epoch, sequence=item.sequence)


def _open(received: _Received, deserializer: Deserializer | None) -> Any:
    header = received.header
    raised = header.raised
    if raised is not None:
        received.release()
        return StreamException(header.code, raised.message, raised.traceback, type_name=raised.type)
    return decode(header.encoding, received.copy(), deserializer)
