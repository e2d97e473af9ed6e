"""Layout of an arena's file, which its owner writes and its readers check.

A page that says what it is, 64 bytes for each slot, then the slots. The numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

__all__ = [
    "FILE",
    "MAGIC",
    "MAX_SLOTS",
    "PAGE",
    "READY",
    "SLOT",
    "SLOT_BYTES",
    "STATE",
    "VERSION",
    "WRITING",
    "SlotReference",
    "aligned",
    "as_bytes",
    "crc_of",
    "first_slot",
    "own_pid_namespace",
    "packed_bytes",
    "read_pid_namespace",
]

ALIGNMENT = 64
MAX_SLOTS = 64
PAGE = 4096
MAGIC = b"zr-arena"
VERSION = 1
FILE = struct.Struct("<8sIIQIxxxxQQ")  # magic, version, slots, slot bytes, pid, start, namespace
SLOT = struct.Struct("<IIQQQQQ")  # state, pid, generation, sequence, length, start, checksum
SLOT_BYTES = 64
STATE = struct.Struct("<I")
WRITING, READY = 1, 2
_SUMMED = 1 << 32
"""Set in a checksum that was left, so that none is 0 and a sum of 0 is not none."""


class SlotReference(msgspec.Struct, frozen=True, array_like=True):
    """Where the buffers of a payload lie in a segment; this is what crosses the socket.

    Attributes
    ----------
    shm_name
        Name of the segment; its owner has announced it on the control channel before.
    slot, generation
        The slot, from 0, and which filling of it, from 1.
    spans
        Offset from the start of the segment and length of each buffer, in bytes.
    """

    shm_name: str
    slot: int
    generation: int
    spans: tuple[tuple[int, int], ...]


def as_bytes(buffer: Buffer) -> memoryview:
    """View a buffer as plain bytes.

    Parameters
    ----------
    buffer
        Anything C-contiguous in a native format: bytes, bytearray, memoryview, most arrays.

    Returns
    -------
    memoryview
        The same memory, one byte per item.

    Raises
    ------
    ValueError
        If the memory is not in one piece, or is of a format that has no bytes (objects).
    """
    view = memoryview(buffer)
    if view.nbytes == 0:
        return memoryview(b"")
    try:
        return view.cast("B")
    except (TypeError, NotImplementedError) as error:
        msg = (
            f"a buffer of format {view.format!r}, shape {view.shape} cannot be sent as it lies "
            f"({error}); pass contiguous bytes, e.g. a uint8 view of it"
        )
        raise ValueError(msg) from error


def packed_bytes(sizes: Sequence[int]) -> int:
    """Say how much room buffers need in one slot, in bytes, each at a multiple of 64."""
    return sum(aligned(size) for size in sizes)


def aligned(size: int, to: int = ALIGNMENT) -> int:
    """Round bytes up to a multiple."""
    return -(-size // to) * to


def first_slot(slots: int) -> int:
    """Return the offset of the first slot, in bytes."""
    return PAGE + aligned(slots * SLOT_BYTES, PAGE)


def crc_of(buffers: Sequence[memoryview]) -> int:
    """Sum the bytes of a payload up, as a slot keeps it."""
    total = 0
    for buffer in buffers:
        total = zlib.crc32(buffer, total)
    return total | _SUMMED


def own_pid_namespace() -> int:
    """Return the number of the pid namespace in which this process lives."""
    return Path("/proc/self/ns/pid").stat().st_ino


def read_pid_namespace(head: bytes) -> int | None:
    """Read from the first bytes of a segment in which pid namespace its owner's pid counts.

    Parameters
    ----------
    head
        At least the first 48 bytes of the file.

    Returns
    -------
    int | None
        Number of the namespace; None where the file is no arena (a probe, or not yet written).
    """
    if len(head) < FILE.size or not head.startswith(MAGIC):
        return None
    namespace: int = FILE.unpack_from(head)[6]
    return namespace
