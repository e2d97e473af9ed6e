"""Payloads inside the message: buffers cut into chunks and parts, and put together again.

A chunk is one frame. A part is one message; a payload larger than a part travels as several.
A buffer of one chunk needs no putting together, which takes as long as all the rest, so chunks are
as large as allocators reuse without asking the system for fresh pages (glibc: 32 MiB). Sans-IO:
frames in, frames out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmqruntime._errors import DescriptorError, PayloadTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

CHUNK_BYTES = MAX_CHUNK_BYTES = 16 << 20
PART_BYTES = 64 << 20
MAX_PAYLOAD_BYTES = 4 << 30
MAX_BUFFERS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineLimits:
    """Sizes at which inline payloads are cut, and refused.

    Attributes
    ----------
    chunk_bytes
        Largest frame, 1 to 16 MiB.
    part_bytes
        Most payload bytes in one message, at least a chunk.
    payload_bytes
        Largest payload.

    Raises
    ------
    ValueError
        If the sizes are out of order.
    """

    chunk_bytes: int = CHUNK_BYTES
    part_bytes: int = PART_BYTES
    payload_bytes: int = MAX_PAYLOAD_BYTES

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_bytes <= min(self.part_bytes, MAX_CHUNK_BYTES):
            msg = f"a chunk has 1 byte to 16 MiB and fits into a part: {self}"
            raise ValueError(msg)
        if not self.part_bytes <= self.payload_bytes <= MAX_PAYLOAD_BYTES:
            msg = f"a part fits into a payload of at most {MAX_PAYLOAD_BYTES} bytes: {self}"
            raise ValueError(msg)


DEFAULT_LIMITS = InlineLimits()


def check_sizes(sizes: Sequence[int], *, limits: InlineLimits = DEFAULT_LIMITS) -> int:
    """Add up what a payload says its buffers have, before anything is allocated.

    Parameters
    ----------
    sizes
        Bytes of each buffer.
    limits
        What is permitted.

    Returns
    -------
    int
        Bytes together.

    Raises
    ------
    PayloadTooLargeError
        If there are too many buffers or bytes.
    DescriptorError
        If a size is negative.
    """
    if len(sizes) > MAX_BUFFERS:
        msg = f"a payload has at most {MAX_BUFFERS} buffers, not {len(sizes)}"
        raise PayloadTooLargeError(msg)
    if any(size < 0 for size in sizes):
        msg = f"sizes of buffers cannot be negative: {list(sizes)[:8]}; refused"
        raise DescriptorError(msg)
    total = sum(sizes)
    if total > limits.payload_bytes:
        msg = f"a payload has at most {limits.payload_bytes} bytes, not {total}; split it"
        raise PayloadTooLargeError(msg)
    return total


def part_sizes(total: int, *, limits: InlineLimits = DEFAULT_LIMITS) -> tuple[int, ...]:
    """Say into which parts a payload is cut.

    Parameters
    ----------
    total
        Bytes of the payload.
    limits
        Where it is cut.

    Returns
    -------
    tuple[int, ...]
        Bytes of each part; an empty payload is one part of no bytes.
    """
    full, rest = divmod(total, limits.part_bytes)
    return (limits.part_bytes,) * full + ((rest,) if rest or not full else ())


def cut(
    buffers: Sequence[memoryview], *, limits: InlineLimits = DEFAULT_LIMITS
) -> Iterator[list[memoryview]]:
    """Cut a payload into parts of chunks, without copying.

    Parameters
    ----------
    buffers
        Plain bytes.
    limits
        Where it is cut.

    Yields
    ------
    list[memoryview]
        The chunks of one part. No chunk spans two buffers; an empty buffer has none.
    """
    part: list[memoryview] = []
    room = limits.part_bytes
    for buffer in buffers:
        start = 0
        while start < buffer.nbytes:
            if not room:
                yield part
                part, room = [], limits.part_bytes
            size = min(limits.chunk_bytes, room, buffer.nbytes - start)
            part.append(buffer[start : start + size])
            start += size
            room -= size
    yield part


class Assembly:
    """Put one payload together from the chunks of its parts.

    Parameters
    ----------
    sizes
        Bytes of each buffer, as its sender says.
    parts
        Of how many messages it consists, as its sender says.
    limits
        What is permitted.

    Raises
    ------
    PayloadTooLargeError
        If the payload would be too large.
    DescriptorError
        If it cannot have that number of parts.

    Notes
    -----
    A buffer that came as one chunk is handed on as it came; one of several chunks is copied into
    one piece, which `bytes_copied` counts. Memory is taken as chunks arrive, never because a header
    promises them.
    """

    def __init__(
        self, sizes: Sequence[int], parts: int, *, limits: InlineLimits = DEFAULT_LIMITS
    ) -> None:
        self._expected = part_sizes(check_sizes(sizes, limits=limits), limits=limits)
        if len(self._expected) != parts:
            msg = f"{sum(sizes)} bytes make {len(self._expected)} parts, not {parts}; refused"
            raise DescriptorError(msg)
        self._sizes = tuple(sizes)
        self._limits = limits
        self._parts = 0
        self._done: list[memoryview] = []
        self._open: bytearray | None = None
        self.bytes_copied = 0

    def add(self, part: int, chunks: Sequence[Buffer]) -> bool:
        """Take the chunks of the next part.

        Parameters
        ----------
        part
            Its number, from 0.
        chunks
            The frames, in order.

        Returns
        -------
        bool
            Whether the payload is whole.

        Raises
        ------
        DescriptorError
            If the part is not the next one, or its chunks do not have the bytes it should have.
        """
        views = [memoryview(chunk) for chunk in chunks]
        if part != self._parts or part >= len(self._expected):
            msg = f"part {part} came where part {self._parts} of {len(self._expected)} was due"
            raise DescriptorError(msg)
        if sum(view.nbytes for view in views) != self._expected[part] or any(
            not 0 < view.nbytes <= self._limits.chunk_bytes for view in views
        ):
            msg = (
                f"part {part} should have {self._expected[part]} bytes in chunks of at most "
                f"{self._limits.chunk_bytes}, not {[view.nbytes for view in views][:8]}"
            )
            raise DescriptorError(msg)
        self._parts += 1
        self._skip_empty()
        for view in views:
            self._append(view)
            self._skip_empty()
        return self._parts == len(self._expected)

    def buffers(self) -> tuple[memoryview, ...]:
        """View the buffers of a whole payload.

        Returns
        -------
        tuple[memoryview, ...]
            Read-only bytes, one per buffer.

        Raises
        ------
        DescriptorError
            If parts are missing.
        """
        if self._parts != len(self._expected) or len(self._done) != len(self._sizes):
            msg = f"{self._parts} of {len(self._expected)} parts have come"
            raise DescriptorError(msg)
        return tuple(view.toreadonly() for view in self._done)

    def _skip_empty(self) -> None:
        while len(self._done) < len(self._sizes) and not self._sizes[len(self._done)]:
            self._done.append(memoryview(b""))

    def _append(self, chunk: memoryview) -> None:
        if len(self._done) == len(self._sizes):
            msg = f"{len(self._sizes)} buffers are whole and more bytes came; refused"
            raise DescriptorError(msg)
        size = self._sizes[len(self._done)]
        have = 0 if self._open is None else len(self._open)
        if chunk.nbytes > size - have:
            msg = f"a chunk of {chunk.nbytes} bytes came where {size - have} were missing; refused"
            raise DescriptorError(msg)
        if chunk.nbytes == size:
            self._done.append(chunk)
            return
        if self._open is None:
            self._open = bytearray()
        self._open += chunk
        self.bytes_copied += chunk.nbytes
        if len(self._open) == size:
            self._done.append(memoryview(self._open))
            self._open = None
