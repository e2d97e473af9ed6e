"""One producer's stream at its receiver: messages in, items and gaps out.

Sans-IO: the subscriber's thread feeds it, the application's threads release and acknowledge. What
is to be told to the producer gathers here until the subscriber takes it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import DescriptorError, PayloadTooLargeError, StaleSlotError
from zmqruntime.carriers._arena_view import ArenaView
from zmqruntime.carriers._inline import (
    DEFAULT_LIMITS,
    MAX_PAYLOAD_BYTES,
    Assembly,
    InlineLimits,
)
from zmqruntime.carriers._lease import Lease
from zmqruntime.carriers._negotiate import CarrierReason
from zmqruntime.data._credits import Credit
from zmqruntime.data._gaps import Gap, GapReason, Recovery, SequenceCheck
from zmqruntime.data._item import Item, ProducerStatus
from zmqruntime.data._lane_state import LaneState
from zmqruntime.data._stream_messages import Acks, AckStatus, Failure, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from zmqruntime.carriers._negotiate import HostIdentity
    from zmqruntime.data._stream_messages import TransportHeader

__all__ = ["Reception"]

_MAX_ARENAS = 16
_MAX_TEXT = 1000
_BATCH = 64


class Reception:
    """One producer's stream.

    Parameters
    ----------
    topic, producer, mode, host
        What stream it is, who sends it, how, and from where.
    epoch, topic_frame, incarnation
        Name of this run, first frame of its messages, and name of this receiver's process start.
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
        *,
        topic: str,
        producer: str,
        mode: Mode,
        host: HostIdentity,
        epoch: str,
        topic_frame: bytes,
        incarnation: str,
        reason: CarrierReason,
        credit: Credit,
        directory: Path,
        limits: InlineLimits = DEFAULT_LIMITS,
        on_news: Callable[[Reception], object],
        on_gap: Callable[[Gap], object],
    ) -> None:
        self.topic = topic
        self.producer = producer
        self.mode = mode
        self.host = host
        self.epoch = epoch
        self.filter = topic_frame
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
        self._items = self._nbytes = self._bytes_copied = 0
        self._gaps = self._superseded = self._dropped = 0
        self._lock = threading.Lock()  # guards what follows, and the counters
        self._leased: dict[int, tuple[int, float]] = {}  # number -> bytes charged, since when
        self._news: list[tuple[str, int, int | Failure]] = []
        self._copied_news = 0
        self.closed: GapReason | None = None

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
    def last(self) -> int:
        """The highest number accounted for."""
        return self._check.last

    @property
    def totals(self) -> dict[str, int]:
        """What has come, for counters."""
        with self._lock:
            return {
                "items": self._items,
                "bytes": self._nbytes,
                "bytes_copied": self._bytes_copied,
                "gaps": self._gaps,
                "dropped": self._dropped,
            }

    def state(self, *, now: float) -> LaneState:
        """Say how the stream stands.

        Parameters
        ----------
        now
            Monotonic seconds.
        """
        with self._lock:
            leased = tuple(self._leased.values())
            return LaneState(
                topic=self.topic,
                peer=self.producer,
                direction="in",
                mode=self.mode,
                carrier=self.reason.carrier,
                reason=self.reason,
                granted=self._credit,
                used=Credit(len(leased), sum(size for size, _ in leased)),
                lag_s=max((now - since for _, since in leased), default=0.0),
                sent=self._items,
                nbytes=self._nbytes,
                bytes_copied=self._bytes_copied,
                superseded=self._superseded,
                lost=self._gaps - self._superseded,
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
                else min(sum(transport.sizes), MAX_PAYLOAD_BYTES)  # no more was ever granted
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
        self.closed = reason
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
            copied, self._copied_news = self._copied_news, 0
        messages = [self._message(news[at : at + _BATCH]) for at in range(0, len(news), _BATCH)]
        if messages and copied:
            messages[0] = msgspec.structs.replace(messages[0], copied=copied)
        return messages

    def sign_of_life(self) -> Acks:
        """Make a message without news, which prolongs leases."""
        return Acks(epoch=self.epoch)

    def _message(self, news: Sequence[tuple[str, int, int | Failure]]) -> Acks:
        room = [value for what, _, value in news if what == "credit" and isinstance(value, int)]

        def of(kind: str) -> tuple[int, ...]:
            return tuple(sequence for what, sequence, _ in news if what == kind)

        released = [(number, held) for what, number, held in news if what == "released"]
        return Acks(
            epoch=self.epoch,
            messages=len(room),
            nbytes=sum(room),
            released=tuple(number for number, _ in released),
            held_us=tuple(held for _, held in released if isinstance(held, int)),
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
        return self._item(transport, header, assembly.buffers(), charged=arrived)

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
            lambda buffers: arena.verify(slot, generation, buffers),
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
        check: Callable[[], None] | None = None,
        verify: Callable[[tuple[memoryview, ...]], bool] | None = None,
        *,
        charged: int,
    ) -> Item:
        sequence = transport.seq
        with self._lock:
            beyond = self._leased and (
                len(self._leased) >= self._credit.messages
                or sum(size for size, _ in self._leased.values()) + charged > self._credit.nbytes
            )
        if beyond:
            raise DescriptorError(f"{self.producer} sent more than it was granted; refused")
        lease = Lease(
            views,
            check=check,
            verify=verify,
            on_release=lambda: self._release(sequence, charged),
            on_copy=self._copied,
        )
        with self._lock:
            self._items += 1
            self._nbytes += sum(transport.sizes)
            self._leased[sequence] = charged, time.monotonic()
        return Item(self, transport, header, lease)

    def _release(self, sequence: int, charged: int) -> None:
        now = time.monotonic()
        with self._lock:
            _, since = self._leased.pop(sequence, (0, now))
            self._news += [
                ("received", sequence, 0),
                ("released", sequence, round(1e6 * (now - since))),
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
            self._copied_news += nbytes

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
            if reason is GapReason.SUPERSEDED:
                self._superseded += last - first + 1
        return Gap(
            topic=self.topic,
            epoch=self.epoch,
            first=first,
            last=last,
            reason=reason,
            recover=Recovery.REPLAY if self.mode is Mode.RELIABLE else Recovery.NONE,
            detail=detail,
        )
