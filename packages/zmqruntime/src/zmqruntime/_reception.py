"""One producer's stream at its receiver: messages in, items and gaps out.

Sans-IO: the subscriber's thread feeds it, the application's threads release and acknowledge. What
is to be told to the producer gathers here until the subscriber takes it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime._errors import DescriptorError, PayloadTooLargeError, StaleSlotError
from zmqruntime._gaps import Gap, GapReason, Recovery, SequenceCheck
from zmqruntime._stream_messages import Acks, AckStatus, Failure, Mode, stream_topic
from zmqruntime.carriers._arena import ArenaView
from zmqruntime.carriers._inline import DEFAULT_LIMITS, Assembly, InlineLimits
from zmqruntime.carriers._lease import Lease
from zmqruntime.carriers._negotiate import CarrierReason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from zmqruntime._credits import Credit
    from zmqruntime._stream_messages import Attach, TransportHeader

__all__ = ["Item", "ProducerStatus", "Reception"]

_MAX_ARENAS = 16
_MAX_TEXT = 1000
_BATCH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerStatus:
    """A producer as its receiver sees it.

    Attributes
    ----------
    producer, topic, mode
        Who sends what, and how.
    epoch
        Which run of the stream.
    carrier_reason
        Why its payloads come as they come.
    items, nbytes
        Payloads that arrived, and their bytes.
    bytes_copied
        Bytes copied on this side, while chunks were joined or payloads taken along.
    gaps
        Payloads that are missing.
    dropped
        Messages that were refused or came twice.
    leased
        Payloads the application has not released.
    """

    producer: str
    topic: str
    mode: Mode
    epoch: str
    carrier_reason: CarrierReason
    items: int
    nbytes: int
    bytes_copied: int
    gaps: int
    dropped: int
    leased: int


class Item:
    """One payload that arrived.

    Attributes
    ----------
    topic, producer
        What stream it belongs to, and who sent it.
    sequence
        Its number in the stream, from 1.
    key
        The producer's name for it.
    header
        The producer's description of it, opaque here.
    lease
        Access to its buffers; release it when done.
    sent_ns
        When it was handed over, nanoseconds since the epoch, by the producer's clock.
    """

    __slots__ = (
        "_reception",
        "_status",
        "header",
        "key",
        "lease",
        "producer",
        "sent_ns",
        "sequence",
        "topic",
    )

    def __init__(
        self, reception: Reception, transport: TransportHeader, header: bytes, lease: Lease
    ) -> None:
        self._reception = reception
        self._status: AckStatus | None = None
        self.topic = reception.topic
        self.producer = reception.producer
        self.sequence = transport.seq
        self.key = transport.key
        self.header = header
        self.lease = lease
        self.sent_ns = transport.t_ns

    def ack(self, status: AckStatus | str) -> None:
        """Tell the producer what became of the payload.

        Parameters
        ----------
        status
            ``received`` or ``displayed``. Once displayed or failed nothing more is told.

        Raises
        ------
        ValueError
            If it is another word; `fail` tells of failures.
        """
        status = AckStatus(status)
        if status is AckStatus.FAILED:
            raise ValueError("fail() says what failed; ack() takes 'received' or 'displayed'")
        if self._status in (None, AckStatus.RECEIVED) and self._status is not status:
            self._status = status
            self._reception.acknowledge(self.sequence, status)

    def fail(self, code: str, text: str) -> None:
        """Tell the producer that the payload could not be used.

        Parameters
        ----------
        code
            A word for programs.
        text
            A sentence for people: what happened, what to do.
        """
        if self._status in (None, AckStatus.RECEIVED):
            self._status = AckStatus.FAILED
            self._reception.refuse(self.sequence, code, text)

    def __repr__(self) -> str:
        return f"<Item {self.topic} {self.sequence} {self.key!r} from {self.producer}>"


class Reception:
    """One producer's stream.

    Parameters
    ----------
    attach
        What the producer asked for.
    epoch, subscriber, incarnation
        Names of this run, of this receiver, and of its process start.
    reason
        Why it has the carrier that it has.
    credit
        Room that it was granted; what comes beyond is refused.
    directory
        Where segments lie.
    limits
        Sizes of inline payloads.
    on_news
        Called, from any thread, when there is something to tell the producer.
    on_gap
        Called, from any thread, with a gap found while the application used a payload.
    """

    def __init__(
        self,
        attach: Attach,
        *,
        epoch: str,
        subscriber: str,
        incarnation: str,
        reason: CarrierReason,
        credit: Credit,
        directory: Path,
        limits: InlineLimits = DEFAULT_LIMITS,
        on_news: Callable[[Reception], object],
        on_gap: Callable[[Gap], object],
    ) -> None:
        self.topic = attach.topic
        self.producer = attach.producer
        self.mode = attach.mode
        self.host = attach.host
        self.epoch = epoch
        self.filter = stream_topic(attach.topic, subscriber)
        self.reason = reason
        self._incarnation = incarnation
        self._credit = credit
        self._directory = directory
        self._limits = limits
        self._on_news = on_news
        self._on_gap = on_gap
        self._check = SequenceCheck()
        self._arenas: dict[str, ArenaView] = {}
        self._assembly: Assembly | None = None
        self._assembling: TransportHeader | None = None
        self._assembled_header = b""
        self._items = self._nbytes = self._bytes_copied = self._gaps = self._dropped = 0
        self._lock = threading.Lock()  # guards what follows, and the counters
        self._leased: dict[int, int] = {}  # number -> bytes it was charged
        self._news: list[tuple[str, int, int | Failure]] = []
        self.closed = False

    @property
    def status(self) -> ProducerStatus:
        """The producer as it is seen now."""
        with self._lock:
            return ProducerStatus(
                producer=self.producer,
                topic=self.topic,
                mode=self.mode,
                epoch=self.epoch,
                carrier_reason=self.reason,
                items=self._items,
                nbytes=self._nbytes,
                bytes_copied=self._bytes_copied,
                gaps=self._gaps,
                dropped=self._dropped,
                leased=len(self._leased),
            )

    @property
    def holds(self) -> bool:
        """Whether the application has something to release, or there is something to tell."""
        with self._lock:
            return bool(self._leased or self._news)

    def announce(self, name: str) -> None:
        """Open a segment that the producer names on the control channel.

        Parameters
        ----------
        name
            Its name.

        Raises
        ------
        DescriptorError
            If the segment is not that producer's, or shared memory was not agreed on.
        """
        if self.reason is not CarrierReason.PROVED:
            raise DescriptorError(
                f"shared memory was not agreed on ({self.reason}); {name} refused"
            )
        if len(self._arenas) >= _MAX_ARENAS:
            del self._arenas[next(iter(self._arenas))]  # the oldest; what is mapped stays mapped
        self._arenas[name] = ArenaView(name, owner_pid=self.host.pid, directory=self._directory)

    def take(
        self, topic: bytes, transport: TransportHeader, header: bytes, chunks: Sequence[Buffer]
    ) -> list[Item | Gap]:
        """Take a message of this stream.

        Parameters
        ----------
        topic
            First frame.
        transport
            Second frame, decoded.
        header
            Third frame, opaque.
        chunks
            The frames after it.

        Returns
        -------
        list[Item | Gap]
            What the application should see, in order.
        """
        if topic != self.filter or transport.target != self._incarnation:
            self._count_dropped()
            return []
        found = self._book_losses(transport)
        if transport.seq == 0:
            return found
        if transport.part.index:
            if self._assembling is None or self._assembling.seq != transport.seq:
                self._count_dropped()  # its beginning was refused or is missing, and so reported
                self._give_back(1, sum(memoryview(chunk).nbytes for chunk in chunks))
                return found
        else:
            verdict = self._check.came(transport.seq)
            if not verdict.fresh:
                self._count_dropped()
                return found
            found += self._break_off(GapReason.LINK)
            if verdict.missing:
                found.append(self._gap(*verdict.missing, GapReason.LINK))
        try:
            item = self._accept(transport, header, chunks)
        except (DescriptorError, PayloadTooLargeError, StaleSlotError) as error:
            stale = isinstance(error, StaleSlotError)
            reason = GapReason.LEASE_EXPIRED if stale else GapReason.REFUSED
            self._assembly = self._assembling = None
            self._count_dropped()
            self.refuse(transport.seq, str(reason), str(error))
            size = (
                sum(memoryview(chunk).nbytes for chunk in chunks)
                if transport.ref is None
                else sum(transport.sizes)
            )
            self._release(transport.seq, size)
            found.append(self._gap(transport.seq, transport.seq, reason, str(error)))
            return found
        if item is not None:
            found.append(item)
        return found

    def close(self, reason: GapReason) -> list[Item | Gap]:
        """End the stream: its producer has left or is gone.

        Parameters
        ----------
        reason
            Why.

        Returns
        -------
        list[Item | Gap]
            What stays unfinished. Items that were handed out stay valid.
        """
        self.closed = True
        self._arenas.clear()
        return self._break_off(reason)

    def acknowledge(self, sequence: int, status: AckStatus) -> None:
        """Note what became of a payload, to be told."""
        self._tell((str(status), sequence, 0))

    def refuse(self, sequence: int, code: str, text: str) -> None:
        """Note that a payload could not be used, to be told."""
        self._tell(("failed", sequence, Failure(sequence, code[:64], text[:_MAX_TEXT])))

    def take_news(self) -> list[Acks]:
        """Hand over what is to be told to the producer, in messages of bounded size."""
        with self._lock:
            news, self._news = self._news, []
        return [self._message(news[at : at + _BATCH]) for at in range(0, len(news), _BATCH)]

    def sign_of_life(self) -> Acks:
        """Make a message without news, which prolongs leases."""
        return Acks(epoch=self.epoch)

    def _message(self, news: Sequence[tuple[str, int, int | Failure]]) -> Acks:
        room = [value for what, _, value in news if what == "credit" and isinstance(value, int)]

        def of(kind: str) -> tuple[int, ...]:
            return tuple(sequence for what, sequence, _ in news if what == kind)

        return Acks(
            epoch=self.epoch,
            messages=len(room),
            nbytes=sum(room),
            released=of("released"),
            received=of("received"),
            displayed=of("displayed"),
            failed=tuple(value for _, _, value in news if isinstance(value, Failure)),
        )

    def _accept(
        self, transport: TransportHeader, header: bytes, chunks: Sequence[Buffer]
    ) -> Item | None:
        if transport.ref is not None:
            return self._accept_leased(transport, header, chunks)
        if self._assembly is None:
            self._assembly = Assembly(transport.sizes, transport.part.count, limits=self._limits)
            self._assembling, self._assembled_header = transport, header
        whole = self._assembly.add(transport.part.index, chunks)
        arrived = sum(memoryview(chunk).nbytes for chunk in chunks)
        if not whole:
            self._give_back(1, arrived)
            return None
        assembly, header = self._assembly, self._assembled_header
        self._assembly = self._assembling = None
        self._copied(assembly.bytes_copied)
        return self._item(transport, header, assembly.buffers(), None, charged=arrived)

    def _accept_leased(
        self, transport: TransportHeader, header: bytes, chunks: Sequence[Buffer]
    ) -> Item:
        reference = transport.ref
        if reference is None or chunks:
            raise DescriptorError("a payload in shared memory has no frames of its own; refused")
        arena = self._arenas.get(reference.shm_name)
        if arena is None:
            raise DescriptorError(
                f"segment {reference.shm_name[:80]!r} was not announced by {self.producer}; refused"
            )
        views = arena.views(reference, transport.sizes)
        slot, generation = reference.slot, reference.generation
        return self._item(
            transport,
            header,
            views,
            lambda: self._check_slot(arena, slot, generation, transport.seq),
            charged=sum(transport.sizes),
        )

    def _check_slot(self, arena: ArenaView, slot: int, generation: int, sequence: int) -> None:
        try:
            arena.check(slot, generation)
        except StaleSlotError as error:
            self.refuse(sequence, str(GapReason.LEASE_EXPIRED), str(error))
            self._on_gap(self._gap(sequence, sequence, GapReason.LEASE_EXPIRED, str(error)))
            raise

    def _item(
        self,
        transport: TransportHeader,
        header: bytes,
        views: tuple[memoryview, ...],
        check: Callable[[], None] | None,
        *,
        charged: int,
    ) -> Item:
        sequence = transport.seq
        with self._lock:
            beyond = self._leased and (
                len(self._leased) >= self._credit.messages
                or sum(self._leased.values()) + charged > self._credit.nbytes
            )
        if beyond:
            raise DescriptorError(f"{self.producer} sent more than it was granted; refused")
        lease = Lease(
            views,
            check=check,
            on_release=lambda: self._release(sequence, charged),
            on_copy=self._copied,
        )
        with self._lock:
            self._items += 1
            self._nbytes += sum(transport.sizes)
            self._leased[sequence] = charged
        return Item(self, transport, header, lease)

    def _release(self, sequence: int, charged: int) -> None:
        with self._lock:
            self._leased.pop(sequence, None)
            self._news += [
                ("received", sequence, 0),
                ("released", sequence, 0),
                ("credit", sequence, charged),
            ]
        self._on_news(self)

    def _give_back(self, messages: int, nbytes: int) -> None:
        for _ in range(messages):
            self._tell(("credit", 0, nbytes))

    def _tell(self, news: tuple[str, int, int | Failure]) -> None:
        with self._lock:
            self._news.append(news)
        self._on_news(self)

    def _copied(self, nbytes: int) -> None:
        with self._lock:
            self._bytes_copied += nbytes

    def _count_dropped(self) -> None:
        with self._lock:
            self._dropped += 1

    def _book_losses(self, transport: TransportHeader) -> list[Item | Gap]:
        found: list[Item | Gap] = []
        for note in transport.lost:
            open_ = self._assembling
            if open_ is not None and note.first <= open_.seq <= note.last:
                found += self._break_off(note.reason)
            for first, last, named in self._check.lost(note.first, note.last):
                found.append(self._gap(first, last, note.reason if named else GapReason.LINK))
        return found

    def _break_off(self, reason: GapReason) -> list[Item | Gap]:
        open_, self._assembling, self._assembly = self._assembling, None, None
        if open_ is None:
            return []
        detail = f"{open_.key!r} was cut off after some of its {open_.part.count} parts"
        return [self._gap(open_.seq, open_.seq, reason, detail)]

    def _gap(self, first: int, last: int, reason: GapReason, detail: str = "") -> Gap:
        with self._lock:
            self._gaps += last - first + 1
        return Gap(
            topic=self.topic,
            epoch=self.epoch,
            first=first,
            last=last,
            reason=reason,
            recover=Recovery.REPLAY if self.mode is Mode.RELIABLE else Recovery.NONE,
            detail=detail,
        )
