"""A payload on its way out: checked, viewed as bytes, and turned into the frames of messages."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import msgspec

from zmqruntime._errors import PayloadTooLargeError
from zmqruntime.carriers._inline import check_sizes
from zmqruntime.carriers._layout import as_bytes
from zmqruntime.data._stream_messages import (
    DATA_VERSION,
    MAX_HEADER_BYTES,
    MAX_KEY_CHARS,
    MOST_STATE_VERSION,
    Part,
    TransportHeader,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from typing_extensions import Buffer

    from zmqruntime.carriers._inline import InlineLimits
    from zmqruntime.carriers._layout import SlotReference
    from zmqruntime.data._outbox import Outbox

    Encoded = tuple[bytes, Sequence[Buffer]] | tuple[bytes, Sequence[Buffer], int | None]
    Encode = Callable[[], Encoded]

__all__ = ["Outgoing", "check_key", "check_state_version", "frozen", "loss_message"]

_WHOLE = Part(0, 1)


class Run(Protocol):
    """The run of a stream to which a message belongs."""

    epoch: str
    incarnation: str
    filter: bytes
    outbox: Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A payload that can be sent.

    Attributes
    ----------
    header
        The application's description of it.
    buffers
        Its bytes.
    key
        The application's name for it.
    sizes, total
        Bytes of each buffer, and together.
    state_version
        Number of the state that it shows; None when it shows none.
    """

    header: bytes
    buffers: tuple[memoryview, ...]
    key: str
    sizes: tuple[int, ...]
    total: int
    state_version: int | None = None

    @classmethod
    def of(
        cls,
        header: bytes,
        buffers: Sequence[Buffer],
        key: str,
        *,
        limits: InlineLimits,
        state_version: int | None = None,
    ) -> Self:
        """Check a payload.

        Parameters
        ----------
        header, buffers, key, state_version
            As `Publisher.publish` takes them.
        limits
            What is permitted.

        Returns
        -------
        Outgoing
            Views, no copies.

        Raises
        ------
        PayloadTooLargeError
            If header, key or payload are too large.
        ValueError
            If a buffer is not contiguous, or the version is negative.
        """
        check_key(key)
        check_state_version(state_version)
        if len(header) > MAX_HEADER_BYTES:
            raise PayloadTooLargeError(
                f"the header of {key!r} has {len(header)} bytes, at most {MAX_HEADER_BYTES} go"
            )
        views = tuple(as_bytes(buffer) for buffer in buffers)
        sizes = tuple(view.nbytes for view in views)
        total = check_sizes(sizes, limits=limits)
        return cls(
            header=bytes(header),
            buffers=views,
            key=key,
            sizes=sizes,
            total=total,
            state_version=state_version,
        )

    @classmethod
    def encoded(
        cls, encode: Encode, key: str, *, limits: InlineLimits, state_version: int | None = None
    ) -> Self:
        """Encode a payload that was offered, and check it.

        Parameters
        ----------
        encode, key, state_version
            As `Publisher.offer` takes them; a version that is encoded counts before one that is
            given.
        limits
            What is permitted.

        Raises
        ------
        Exception
            Whatever the application's function raises, and as `of` does.
        """
        header, buffers, *drawn = encode()
        version = drawn[0] if drawn else state_version
        return cls.of(header, buffers, key, limits=limits, state_version=version)

    def owned(self) -> Self:
        """Return the payload in bytes that nobody changes: itself if they are that already."""
        if all(type(view.obj) is bytes for view in self.buffers):
            return self
        buffers = tuple(memoryview(frozen(view)) for view in self.buffers)
        return replace(self, buffers=buffers)

    def message(
        self,
        lane: Run,
        sequence: int,
        *,
        ref: SlotReference | None = None,
        part: Part = _WHOLE,
        chunks: Sequence[bytes | memoryview] = (),
        again: int = 0,
        retained: bool = False,
    ) -> list[bytes | memoryview]:
        """Make the frames of one message.

        Parameters
        ----------
        lane
            The run of the stream it belongs to; losses not yet told are told with it.
        sequence
            Number of the payload.
        ref
            Where the bytes lie in shared memory, or None.
        part, chunks
            Which part of an inline payload, and its bytes.
        again, retained
            As in `TransportHeader`.

        Returns
        -------
        list[bytes | memoryview]
            Topic, transport header, payload header, chunks.
        """
        transport = TransportHeader(
            v=DATA_VERSION,
            epoch=lane.epoch,
            seq=sequence,
            target=lane.incarnation,
            key=self.key,
            t_ns=time.time_ns(),
            mono_ns=time.monotonic_ns(),
            sizes=self.sizes,
            ref=ref,
            part=part,
            lost=lane.outbox.notes(),
            again=again,
            retained=retained,
            state_version=self.state_version,
        )
        header = b"" if part.index else self.header
        return [lane.filter, msgspec.msgpack.encode(transport), header, *chunks]


def loss_message(lane: Run) -> list[bytes | memoryview]:
    """Make the frames of a message that only tells of losses; it needs no room."""
    transport = TransportHeader(
        v=DATA_VERSION,
        epoch=lane.epoch,
        seq=0,
        target=lane.incarnation,
        lost=lane.outbox.notes(),
    )
    return [lane.filter, msgspec.msgpack.encode(transport), b""]


def check_key(key: str) -> None:
    """Make sure that a key can be sent.

    Raises
    ------
    PayloadTooLargeError
        If it is longer than 1024 characters.
    """
    if len(key) > MAX_KEY_CHARS:
        raise PayloadTooLargeError(f"a key has at most {MAX_KEY_CHARS} characters, not {len(key)}")


def check_state_version(version: int | None) -> None:
    """Make sure that a number can name a state.

    Raises
    ------
    ValueError
        If it is negative, or needs more than 63 bits.
    """
    if version is not None and not 0 <= version <= MOST_STATE_VERSION:
        raise ValueError(f"a state has a number from 0 to 2**63 - 1, not {version}")


def frozen(chunk: memoryview) -> bytes | memoryview:
    """Return bytes that nobody changes: the chunk itself where it is of `bytes`, else a copy."""
    return chunk if type(chunk.obj) is bytes else bytes(chunk)
