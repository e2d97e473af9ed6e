"""Preallocated shared memory in slots, written by one process and read by others on its host.

A file in ``/dev/shm``: a page that says what it is, 64 bytes per slot, then the slots. Pages are
reserved when the file is made, so that a full file system is an error then and not a SIGBUS later,
and they are written again and again: a fresh page costs some ten times as much as one that is
already there.

Of a slot it is known which filling (generation) it holds. Who reads checks it before and after.
That is what can go wrong between two processes that keep to it, so a checksum is left only if asked
for: the CRC of 8 MiB takes some eight times as long as their copy (15 against 1.8 ms, measured).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import DescriptorError, StaleSlotError
from zmqruntime.carriers._names import SHARED_MEMORY, SegmentName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

ALIGNMENT = 64
MAX_SLOTS = 64
MAX_SEGMENT_BYTES = 1 << 40
_PAGE = 4096
_MAGIC = b"zr-arena"
_VERSION = 1
_FILE = struct.Struct("<8sIIQIxxxxQQ")  # magic, version, slots, slot bytes, pid, start, namespace
_SLOT = struct.Struct("<IIQQQQQ")  # state, pid, generation, sequence, length, start, checksum
_SLOT_BYTES = 64
_STATE = struct.Struct("<I")
_WRITING, _READY = 1, 2
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
    return sum(_aligned(size) for size in sizes)


def _aligned(size: int, to: int = ALIGNMENT) -> int:
    return -(-size // to) * to


def _first_slot(slots: int) -> int:
    return _PAGE + _aligned(slots * _SLOT_BYTES, _PAGE)


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
    if len(head) < _FILE.size or not head.startswith(_MAGIC):
        return None
    namespace: int = _FILE.unpack_from(head)[6]
    return namespace


def create_segment(size: int, *, directory: Path) -> tuple[SegmentName, int]:
    """Make a file of this process in shared memory, with all its pages reserved.

    Parameters
    ----------
    size
        Bytes.
    directory
        Where; a tmpfs.

    Returns
    -------
    tuple[SegmentName, int]
        Its name and a descriptor open for reading and writing; the caller closes and unlinks.

    Raises
    ------
    OSError
        If there is no such folder, no right to write to it, or no room in it (ENOSPC). Nothing is
        left behind then.
    """
    name = SegmentName.mine()
    path = directory / str(name)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return name, descriptor


def open_segment(text: str, *, directory: Path) -> tuple[SegmentName, int, int]:
    """Open a file of another process of this user for reading, if it is what it should be.

    Parameters
    ----------
    text
        The name as announced.
    directory
        Where; a tmpfs.

    Returns
    -------
    tuple[SegmentName, int, int]
        The parts of the name, a read-only descriptor and the size in bytes; the caller closes.

    Raises
    ------
    DescriptorError
        If the name has another shape, or the file is missing, a link, no plain file, another
        user's, or larger than any of ours.
    """
    name = SegmentName.parse(text)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(directory / text, flags)
    except OSError as error:
        msg = f"segment {text} cannot be opened: {error.strerror}; refused"
        raise DescriptorError(msg) from error
    found = os.fstat(descriptor)
    if (
        not stat.S_ISREG(found.st_mode)
        or found.st_uid != os.getuid()
        or name.uid != found.st_uid
        or found.st_size > MAX_SEGMENT_BYTES
    ):
        os.close(descriptor)
        msg = (
            f"segment {text}: expected a plain file of uid {os.getuid()} of at most "
            f"{MAX_SEGMENT_BYTES} bytes, found mode {found.st_mode:o}, uid {found.st_uid}, "
            f"{found.st_size} bytes; refused"
        )
        raise DescriptorError(msg)
    return name, descriptor, found.st_size


def _sum(buffers: Sequence[memoryview]) -> int:
    total = 0
    for buffer in buffers:
        total = zlib.crc32(buffer, total)
    return total | _SUMMED


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits the object, not the segment
        path.unlink(missing_ok=True)


class Arena:
    """The owner's side: memory to fill.

    Parameters
    ----------
    slot_bytes
        Size of a slot; rounded up to whole pages.
    slots
        How many, 1 to 64.
    directory
        Where the file is made; a tmpfs.

    Raises
    ------
    ValueError
        If there are no slots, too many, or they are too large together.
    OSError
        If the file cannot be made; ENOSPC when shared memory is full. Nothing is left behind.

    Notes
    -----
    The file is unlinked by `close`, or else when the process ends in an orderly way; who maps it
    keeps what is mapped. A killed process leaves it to `sweep`.
    """

    def __init__(self, *, slot_bytes: int, slots: int = 8, directory: Path = SHARED_MEMORY) -> None:
        self.slot_bytes = _aligned(slot_bytes, _PAGE)
        self.slots = slots
        size = _first_slot(slots) + slots * self.slot_bytes
        if not 1 <= slots <= MAX_SLOTS or slot_bytes < 1 or size > MAX_SEGMENT_BYTES:
            msg = (
                f"an arena has 1 to {MAX_SLOTS} slots and at most {MAX_SEGMENT_BYTES} bytes, "
                f"not {slots} slots of {slot_bytes} bytes"
            )
            raise ValueError(msg)
        name, descriptor = create_segment(size, directory=directory)
        self._owner = name
        self.name = str(name)
        self._unlink = weakref.finalize(self, _remove, directory / self.name, name.pid)
        try:
            self._map = mmap.mmap(descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except OSError:
            self._unlink()
            raise
        finally:
            os.close(descriptor)
        _FILE.pack_into(
            self._map,
            0,
            _MAGIC,
            _VERSION,
            slots,
            self.slot_bytes,
            name.pid,
            name.start_ticks,
            own_pid_namespace(),
        )
        self._memory = memoryview(self._map)

    def fill(
        self,
        slot: int,
        generation: int,
        buffers: Sequence[memoryview],
        *,
        sequence: int,
        checksum: bool = False,
    ) -> SlotReference:
        """Copy buffers into a slot, one behind the other at multiples of 64 bytes.

        Parameters
        ----------
        slot, generation
            Slot to fill, which nobody reads, and the number of this filling.
        buffers
            Plain bytes, as from `as_bytes`.
        sequence
            Number of the payload; kept in the slot's header for who looks at it.
        checksum
            Whether to leave the CRC-32 of the buffers, for `ArenaView.verify`.

        Returns
        -------
        SlotReference
            Where the buffers lie now.

        Raises
        ------
        ValueError
            If the buffers do not fit.
        """
        needed = packed_bytes([buffer.nbytes for buffer in buffers])
        if needed > self.slot_bytes:
            msg = f"{needed} bytes do not fit into a slot of {self.slot_bytes}"
            raise ValueError(msg)
        head = _PAGE + slot * _SLOT_BYTES
        owner = self._owner
        total = _sum(buffers) if checksum else 0
        state = (owner.pid, generation, sequence, needed, owner.start_ticks, total)
        _SLOT.pack_into(self._map, head, _WRITING, *state)
        offset = _first_slot(self.slots) + slot * self.slot_bytes
        spans = []
        for buffer in buffers:
            self._memory[offset : offset + buffer.nbytes] = buffer
            spans.append((offset, buffer.nbytes))
            offset += _aligned(buffer.nbytes)
        _STATE.pack_into(self._map, head, _READY)
        return SlotReference(self.name, slot, generation, tuple(spans))

    def close(self) -> None:
        """Unlink the file and let go of the memory; a second call does nothing."""
        self._unlink()
        self._memory.release()
        with contextlib.suppress(BufferError):
            self._map.close()


class ArenaView:
    """A reader's side: the memory of another process, which it cannot change.

    Parameters
    ----------
    name
        Name of the segment, as announced by its owner on the control channel.
    owner_pid
        Process that announced it; another process' segment is refused.
    directory
        Where the file is; a tmpfs.

    Raises
    ------
    DescriptorError
        If the segment is not a well-formed arena of that process and of this user.
    """

    def __init__(self, name: str, *, owner_pid: int, directory: Path = SHARED_MEMORY) -> None:
        parts, descriptor, size = open_segment(name, directory=directory)
        try:
            head = os.pread(descriptor, _FILE.size, 0)
            if len(head) < _FILE.size:
                msg = f"segment {name} has {size} bytes, too few for an arena; refused"
                raise DescriptorError(msg)
            magic, version, slots, slot_bytes, pid, start, _space = _FILE.unpack(head)
            if (
                magic != _MAGIC
                or version != _VERSION
                or not 1 <= slots <= MAX_SLOTS
                or slot_bytes % _PAGE
                or size != _first_slot(slots) + slots * slot_bytes
                or pid != parts.pid
                or pid != owner_pid
                or start != parts.start_ticks
            ):
                msg = (
                    f"segment {name} does not describe itself as an arena (version {_VERSION}) of "
                    f"process {owner_pid} with {size} bytes; refused"
                )
                raise DescriptorError(msg)
            self._map = mmap.mmap(
                descriptor, size, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ
            )
        finally:
            os.close(descriptor)
        self.name = name
        self.slots: int = slots
        self.slot_bytes: int = slot_bytes

    def check(self, slot: int, generation: int) -> None:
        """Make sure that a slot still holds the filling that was announced.

        Parameters
        ----------
        slot, generation
            The slot, and the filling one means to read or has read.

        Raises
        ------
        StaleSlotError
            If the owner has written to the slot since.
        """
        state, _, found, *_ = _SLOT.unpack_from(self._map, _PAGE + slot * _SLOT_BYTES)
        if state != _READY or found != generation:
            msg = (
                f"slot {slot} of {self.name} was overwritten: expected filling {generation}, "
                f"found {found}; the payload is lost"
            )
            raise StaleSlotError(msg)

    def verify(self, slot: int, generation: int, buffers: Sequence[memoryview]) -> bool:
        """Compare the bytes of a filling with the checksum that its owner left.

        Parameters
        ----------
        slot, generation
            The slot, and the filling that was read.
        buffers
            Its bytes, as from `views`.

        Returns
        -------
        bool
            Whether there is a checksum.

        Raises
        ------
        StaleSlotError
            If the bytes are others, or the owner has written to the slot since.
        """
        self.check(slot, generation)
        *_, left = _SLOT.unpack_from(self._map, _PAGE + slot * _SLOT_BYTES)
        if not left:
            return False
        found = _sum(buffers)
        if found != left:
            msg = (
                f"slot {slot} of {self.name} holds other bytes than its owner wrote (checksum "
                f"{found & 0xFFFFFFFF:08x}, not {left & 0xFFFFFFFF:08x}); the payload is lost"
            )
            raise StaleSlotError(msg)
        return True

    def views(self, reference: SlotReference, sizes: Sequence[int]) -> tuple[memoryview, ...]:
        """View the buffers of a payload where they lie.

        Parameters
        ----------
        reference
            Where its sender says they are.
        sizes
            How long they should be, in bytes.

        Returns
        -------
        tuple[memoryview, ...]
            Read-only bytes, one per buffer.

        Raises
        ------
        DescriptorError
            If anything lies outside the slot, or is not of the size it should have.
        StaleSlotError
            If the slot holds another filling by now.
        """
        slot = reference.slot
        spans = reference.spans
        if reference.shm_name != self.name or not 0 <= slot < self.slots:
            msg = f"{self.name} has {self.slots} slots; slot {slot} of {reference.shm_name} refused"
            raise DescriptorError(msg)
        start = _first_slot(self.slots) + slot * self.slot_bytes
        end = start + self.slot_bytes
        for offset, length in spans:
            # Python's integers do not overflow; each bound is still checked by itself.
            if not start <= offset <= end or not 0 <= length <= end - offset:
                msg = (
                    f"bytes {offset}+{length} lie outside slot {slot} of {self.name} "
                    f"({start} to {end}); refused"
                )
                raise DescriptorError(msg)
        if [length for _, length in spans] != list(sizes):
            msg = f"{self.name}: spans {spans} do not have the sizes {list(sizes)}; refused"
            raise DescriptorError(msg)
        self.check(slot, reference.generation)
        # A memoryview of its own: releasing one payload's views leaves the next one's alone.
        memory = memoryview(self._map)
        return tuple(memory[offset : offset + length] for offset, length in spans)
