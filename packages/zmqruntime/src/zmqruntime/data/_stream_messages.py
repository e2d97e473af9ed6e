"""What crosses the sockets for a stream: attach, announce, acknowledge, and a header per message.

A stream goes from one producer to one subscriber. Who attaches is given an `epoch`, a word that
nobody can guess; each data message bears it, so a stranger on the data socket has no stream.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from zmqruntime._errors import DescriptorError
from zmqruntime._typed import msgpack_decoder
from zmqruntime.carriers._inline import MAX_BUFFERS
from zmqruntime.carriers._layout import SlotReference
from zmqruntime.carriers._negotiate import CarrierReason, HostIdentity
from zmqruntime.data._gaps import GapReason

__all__ = [
    "DATA_VERSION",
    "MAX_HEADER_BYTES",
    "AckStatus",
    "Acks",
    "Announce",
    "Attach",
    "Attached",
    "Began",
    "Detach",
    "Ended",
    "Failure",
    "LossNote",
    "Mode",
    "Opened",
    "Part",
    "Proof",
    "Proved",
    "Resend",
    "Resent",
    "Subscribe",
    "Subscribed",
    "TransportHeader",
    "check_topic",
    "decode_header",
    "feed_topic",
    "stream_topic",
]

DATA_VERSION = 1
MAX_HEADER_BYTES = 64 << 10
MAX_KEY_CHARS = 1024
MOST_STATE_VERSION = (1 << 63) - 1

_Topic = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\x00]+$")]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Label = Annotated[str, msgspec.Meta(max_length=256)]
_Natural = Annotated[int, msgspec.Meta(ge=0)]
_Positive = Annotated[int, msgspec.Meta(ge=1)]
StateVersion = Annotated[int, msgspec.Meta(ge=0, le=MOST_STATE_VERSION)]
_MOST_NUMBER = (1 << 63) - 1  # what is missing up to it can be counted, and the count be written


class Mode(StrEnum):
    """What happens when the receiver has no room.

    ``reliable``: the producer waits. ``latest``: a newer payload takes the place of an older one
    that has not been sent, before it is encoded.
    """

    RELIABLE = "reliable"
    LATEST = "latest"


class AckStatus(StrEnum):
    """What became of a payload at its receiver."""

    RECEIVED = "received"
    DISPLAYED = "displayed"
    FAILED = "failed"


class Attach(msgspec.Struct, frozen=True, kw_only=True):
    """A producer asks to take part: what, how, and from where."""

    topic: _Topic
    mode: Mode
    producer: _Label
    host: HostIdentity
    probe: _Label = ""
    challenge: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """The subscriber agrees: under which epoch, with how much room, on which carrier."""

    epoch: _Word
    subscriber: _Word
    incarnation: _Label
    host: HostIdentity
    messages: _Positive
    nbytes: _Positive
    shared_memory: bool
    probe_answer: _Label = ""


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """A producer names a segment of its own, before it refers to it."""

    epoch: _Word
    name: _Label


class Detach(msgspec.Struct, frozen=True, kw_only=True):
    """A producer leaves; what it has sent stays valid."""

    epoch: _Word


class Subscribe(msgspec.Struct, frozen=True, kw_only=True):
    """A reader asks a feed for a topic: how, with how much room, and from where.

    ``name`` is the reader's own: who comes again under it gets what it had not acknowledged.
    ``before`` is the epoch of the run that this one follows: who knows it may take that one's
    place, before the feed has noticed that its connection broke.
    """

    topic: _Topic
    mode: Mode
    reader: _Label
    name: _Word
    incarnation: _Label
    host: HostIdentity
    messages: _Positive
    nbytes: _Positive
    until: AckStatus = AckStatus.RECEIVED
    shared_memory: bool = False
    before: _Label = ""


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The feed agrees: under which epoch, with how much room, and with which riddle to solve."""

    epoch: _Word
    subscriber: _Word
    incarnation: _Label
    producer: _Label
    host: HostIdentity
    messages: _Positive
    nbytes: _Positive
    shared_memory: bool = False
    probe: _Label = ""
    challenge: Annotated[str, msgspec.Meta(max_length=64)] = ""
    resumed: bool = False


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """A feed sends from now on."""

    epoch: _Word


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A feed ends a run that its reader did not ask to end: why."""

    epoch: _Word
    reason: GapReason


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A reader's answer to the riddle; empty if it could not read it."""

    epoch: _Word
    answer: _Label = ""


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """What the feed concludes from the answer."""

    reason: CarrierReason


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A reader has opened a segment that was announced, or says why it could not."""

    epoch: _Word
    name: _Label
    error: Annotated[str, msgspec.Meta(max_length=1000)] = ""


class Resend(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver asks for numbers again."""

    epoch: _Word
    first: _Positive
    last: _Positive


class Resent(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the numbers come again; the others are no longer kept."""

    sequences: tuple[int, ...] = ()


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """A payload that could not be used: which, a word for programs, a sentence for people."""

    sequence: int
    code: str
    text: str


class Acks(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subscriber's news to one producer: room, released payloads, what became of them.

    Without any news it is a sign of life, which prolongs leases. ``held_us`` says of each payload
    in ``released`` for how many microseconds it lay here; ``copied`` counts bytes that were copied
    at the receiver since the message before.
    """

    epoch: str
    messages: _Natural = 0
    nbytes: _Natural = 0
    released: tuple[int, ...] = ()
    held_us: tuple[_Natural, ...] = ()
    received: tuple[int, ...] = ()
    displayed: tuple[int, ...] = ()
    failed: tuple[Failure, ...] = ()
    copied: _Natural = 0


class LossNote(msgspec.Struct, frozen=True, array_like=True):
    """Numbers that will not come, and why."""

    first: Annotated[int, msgspec.Meta(ge=1, le=_MOST_NUMBER)]
    last: Annotated[int, msgspec.Meta(ge=1, le=_MOST_NUMBER)]
    reason: GapReason


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Which part of a payload a message is, from 0, and of how many."""

    index: _Natural
    count: _Positive


class TransportHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Second frame of a data message.

    Attributes
    ----------
    v
        Version of the data protocol.
    epoch
        Which run of which stream.
    seq
        Number of the payload, from 1; 0 for a message that only tells of losses.
    target
        Incarnation of the receiver it is meant for.
    key
        The application's name for the payload.
    t_ns, mono_ns
        When it was handed over: nanoseconds since the epoch, and of the sender's monotonic clock.
    sizes
        Bytes of each buffer of the whole payload.
    ref
        Where the buffers lie in shared memory; None when they follow inline.
    part
        Which part of an inline payload this is.
    lost
        Numbers before `seq` that will not come.
    again
        Number under which the payload was sent before, in this run or the one before; 0 the first
        time.
    retained
        Whether it was published before the receiver asked, and kept for it.
    state_version
        Number of the state that the payload shows; None when it shows none.
    """

    v: int
    epoch: str
    seq: Annotated[int, msgspec.Meta(ge=0, le=_MOST_NUMBER)]
    target: str
    key: str = ""
    t_ns: int = 0
    mono_ns: int = 0
    sizes: Annotated[tuple[_Natural, ...], msgspec.Meta(max_length=MAX_BUFFERS)] = ()
    ref: SlotReference | None = None
    part: Part = Part(0, 1)
    lost: tuple[LossNote, ...] = ()
    again: _Natural = 0
    retained: bool = False
    state_version: StateVersion | None = None


_HEADER: msgspec.msgpack.Decoder[TransportHeader] = msgpack_decoder(TransportHeader)


def decode_header(frame: bytes) -> TransportHeader:
    """Read the second frame of a data message.

    Parameters
    ----------
    frame
        Bytes from anybody.

    Returns
    -------
    TransportHeader
        The checked header.

    Raises
    ------
    DescriptorError
        If it is too long, malformed, or of another version.
    """
    if len(frame) > MAX_HEADER_BYTES:
        raise DescriptorError(f"a transport header of {len(frame)} bytes was refused")
    try:
        header = _HEADER.decode(frame)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DescriptorError(f"this is no transport header: {error}") from error
    if header.v != DATA_VERSION:
        raise DescriptorError(f"data protocol {header.v} is not spoken here, only {DATA_VERSION}")
    return header


def stream_topic(topic: str, subscriber: str) -> bytes:
    """Say what the first frame of a credited message is.

    Parameters
    ----------
    topic
        Name of the stream, without zero bytes.
    subscriber
        Id of the one receiver.

    Returns
    -------
    bytes
        Both, each ended by a zero byte: ``frame`` is then no prefix of ``frame_2``.
    """
    return topic.encode() + b"\0" + subscriber.encode() + b"\0"


def feed_topic(topic: str, subscriber: str) -> bytes:
    """Say what the first frame of a feed's credited message is.

    Parameters
    ----------
    topic
        Name of the stream, without zero bytes.
    subscriber
        Secret id of the one reader in this run.

    Returns
    -------
    bytes
        A zero byte, then as `stream_topic`: who subscribes to what the feed tells everybody,
        ``name`` and a zero byte, gets nobody's own messages.
    """
    return b"\0" + stream_topic(topic, subscriber)


def check_topic(topic: str) -> None:
    """Make sure that a word can name a stream.

    Parameters
    ----------
    topic
        The name.

    Raises
    ------
    ValueError
        If it is empty, longer than 256 characters, or has a zero byte.
    """
    if not topic or "\0" in topic or len(topic) > 256:
        raise ValueError(f"a topic has 1 to 256 characters and no zero byte, not {topic!r}")
