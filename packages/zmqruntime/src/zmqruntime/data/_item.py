"""Item: one payload as its receiver's application sees it, and how its producer stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from zmqruntime.data._stream_messages import AckStatus, Mode

if TYPE_CHECKING:
    from zmqruntime.carriers._lease import Lease
    from zmqruntime.carriers._negotiate import CarrierReason
    from zmqruntime.data._stream_messages import TransportHeader

__all__ = ["Item", "ProducerStatus"]


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


class Origin(Protocol):
    """Whom a payload is from, and who is told what became of it."""

    topic: str
    producer: str
    epoch: str

    def acknowledge(self, sequence: int, status: AckStatus) -> None:
        """Note what became of a payload, to be told."""

    def refuse(self, sequence: int, code: str, text: str) -> None:
        """Note that a payload could not be used, to be told."""


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
    again
        Number under which it was sent before, in this run or the one before; 0 the first time.
    retained
        Whether it was published before this receiver took part, and kept for it.
    state_version
        Number of the state that it shows, as its producer said; None if it said none. What is sent
        again or was kept is older than what came before it: show no picture over one with a higher
        number.
    """

    __slots__ = (
        "_origin",
        "_status",
        "again",
        "header",
        "key",
        "lease",
        "producer",
        "retained",
        "sent_ns",
        "sequence",
        "state_version",
        "topic",
    )

    def __init__(
        self, origin: Origin, transport: TransportHeader, header: bytes, lease: Lease
    ) -> None:
        self._origin = origin
        self._status: AckStatus | None = None
        self.topic = origin.topic
        self.producer = origin.producer
        self.sequence = transport.seq
        self.key = transport.key
        self.header = header
        self.lease = lease
        self.sent_ns = transport.t_ns
        self.again = transport.again
        self.retained = transport.retained
        self.state_version = transport.state_version

    @property
    def epoch(self) -> str:
        """Which run of the stream it belongs to."""
        return self._origin.epoch

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
            self._origin.acknowledge(self.sequence, status)

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
            self._origin.refuse(self.sequence, code, text)

    def __repr__(self) -> str:
        return f"<Item {self.topic} {self.sequence} {self.key!r} from {self.producer}>"
