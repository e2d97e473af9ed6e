"""ArenaView: the memory of another process, read where it lies and checked before and after."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from zmqruntime._errors import DescriptorError, StaleSlotError
from zmqruntime.carriers._layout import (
    FILE,
    MAGIC,
    MAX_SLOTS,
    PAGE,
    READY,
    SLOT,
    SLOT_BYTES,
    VERSION,
    SlotReference,
    crc_of,
    first_slot,
)
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._segment import open_segment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["ArenaView"]


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
            head = os.pread(descriptor, FILE.size, 0)
            if len(head) < FILE.size:
                msg = f"segment {name} has {size} bytes, too few for an arena; refused"
                raise DescriptorError(msg)
            magic, version, slots, slot_bytes, pid, start, _space = FILE.unpack(head)
            if (
                magic != MAGIC
                or version != VERSION
                or not 1 <= slots <= MAX_SLOTS
                or slot_bytes % PAGE
                or size != first_slot(slots) + slots * slot_bytes
                or pid != parts.pid
                or pid != owner_pid
                or start != parts.start_ticks
            ):
                msg = (
                    f"segment {name} does not describe itself as an arena (version {VERSION}) of "
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
        state, _, found, *_ = SLOT.unpack_from(self._map, PAGE + slot * SLOT_BYTES)
        if state != READY or found != generation:
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
        *_, left = SLOT.unpack_from(self._map, PAGE + slot * SLOT_BYTES)
        if not left:
            return False
        found = crc_of(buffers)
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
        start = first_slot(self.slots) + slot * self.slot_bytes
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
