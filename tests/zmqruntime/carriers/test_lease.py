"""A lease ends exactly once, and nobody looks through it afterwards."""

from __future__ import annotations

import gc
import struct
from collections import Counter

import pytest

from zmqruntime import Lease, LeaseInUseError, LeaseReleasedError, StaleSlotError

DATA = b"0123456789"


class Desk:
    """Where a lease comes from: counts what happens to it."""

    def __init__(self, *, stale: bool = False) -> None:
        self.stale = stale
        self.seen: Counter[str] = Counter()

    def lease(self) -> Lease:
        return Lease(
            (memoryview(DATA)[:4], memoryview(DATA)[4:]),
            check=self.check,
            on_release=lambda: self.seen.update(released=1),
            on_copy=lambda count: self.seen.update(copied=count),
        )

    def check(self) -> None:
        assert not self.seen["released"], "the slot may be somebody else's by now"
        if self.stale:
            raise StaleSlotError("overwritten")


def test_mapping_copies_nothing_and_release_ends_the_views() -> None:
    desk = Desk()
    lease = desk.lease()
    head, tail = lease.map()
    assert (bytes(head), bytes(tail), lease.nbytes) == (b"0123", b"456789", 10)
    assert head.readonly
    lease.release()
    assert lease.released
    assert desk.seen == {"released": 1}
    with pytest.raises(ValueError, match="released"):
        head.tobytes()


def test_a_copy_is_ones_own_and_ends_the_lease() -> None:
    desk = Desk()
    lease = desk.lease()
    assert lease.copy() == (b"0123", b"456789")
    assert desk.seen == {"released": 1, "copied": 10}
    assert lease.nbytes == 0


@pytest.mark.parametrize("use", ["map", "copy", "release", "__enter__"])
def test_a_lease_that_ended_is_of_no_use(use: str) -> None:
    lease = Desk().lease()
    lease.release()
    with pytest.raises(LeaseReleasedError, match="released before"):
        getattr(lease, use)()


def test_an_array_that_still_looks_keeps_the_lease() -> None:
    desk = Desk()
    lease = desk.lease()
    head, _ = lease.map()
    looking = struct.iter_unpack("B", head)  # holds the memory, as an array would
    with pytest.raises(LeaseInUseError, match="use copy"):
        lease.release()
    assert not lease.released
    assert not desk.seen
    del looking
    lease.release()
    assert desk.seen == {"released": 1}


def test_a_with_block_releases_what_was_not_released() -> None:
    mapped, copied = Desk(), Desk()
    with mapped.lease() as lease:
        lease.map()
    with copied.lease() as lease:
        lease.copy()
    assert mapped.seen["released"] == copied.seen["released"] == 1


@pytest.mark.parametrize("use", ["copy", "release"])
def test_overwritten_memory_is_an_error_and_the_lease_ends(use: str) -> None:
    desk = Desk(stale=True)
    lease = desk.lease()
    with pytest.raises(StaleSlotError):
        getattr(lease, use)()
    assert desk.seen["released"] == 1


def test_overwritten_memory_is_not_mapped() -> None:
    desk = Desk(stale=True)
    lease = desk.lease()
    with pytest.raises(StaleSlotError):
        lease.map()
    desk.stale = False
    lease.release()


def test_a_forgotten_lease_is_released_with_a_warning() -> None:
    desk = Desk()

    def forget() -> None:
        desk.lease()
        gc.collect()

    with pytest.warns(ResourceWarning, match="without release"):
        forget()
    assert desk.seen["released"] == 1
