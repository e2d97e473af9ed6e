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
import weakref
from typing import TYPE_CHECKING

from zmqruntime.carriers._layout import (
    FILE,
    MAGIC,
    MAX_SLOTS,
    PAGE,
    READY,
    SLOT,
    SLOT_BYTES,
    STATE,
    VERSION,
    WRITING,
    SlotReference,
    aligned,
    crc_of,
    first_slot,
    own_pid_namespace,
    packed_bytes,
)
from zmqruntime.carriers._names import SHARED_MEMORY
from zmqruntime.carriers._segment import MAX_SEGMENT_BYTES, create_segment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Arena"]


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
        self.slot_bytes = aligned(slot_bytes, PAGE)
        self.slots = slots
        size = first_slot(slots) + slots * self.slot_bytes
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
        FILE.pack_into(
            self._map,
            0,
            MAGIC,
            VERSION,
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
        head = PAGE + slot * SLOT_BYTES
        owner = self._owner
        total = crc_of(buffers) if checksum else 0
        state = (owner.pid, generation, sequence, needed, owner.start_ticks, total)
        SLOT.pack_into(self._map, head, WRITING, *state)
        offset = first_slot(self.slots) + slot * self.slot_bytes
        spans = []
        for buffer in buffers:
            self._memory[offset : offset + buffer.nbytes] = buffer
            spans.append((offset, buffer.nbytes))
            offset += aligned(buffer.nbytes)
        STATE.pack_into(self._map, head, READY)
        return SlotReference(self.name, slot, generation, tuple(spans))

    def close(self) -> None:
        """Unlink the file and let go of the memory; a second call does nothing."""
        self._unlink()
        self._memory.release()
        with contextlib.suppress(BufferError):
            self._map.close()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child inherits the object, not the segment
        path.unlink(missing_ok=True)
