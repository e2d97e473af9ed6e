"""Shared memory in slots: what is written is read, and nothing else can be."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import DescriptorError, StaleSlotError
from zmqruntime.carriers import Arena, ArenaView, SegmentName, SlotReference
from zmqruntime.carriers._layout import as_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = os.getpid()


@pytest.fixture
def arena(shm: Path) -> Iterator[Arena]:
    arena = Arena(slot_bytes=8192, slots=3, directory=shm)
    yield arena
    arena.close()


@given(st.lists(st.binary(max_size=900), max_size=8), st.integers(0, 2))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_written_is_read_at_aligned_places(
    arena: Arena, shm: Path, buffers: list[bytes], slot: int
) -> None:
    view = ArenaView(arena.name, owner_pid=HERE, directory=shm)
    reference = arena.fill(slot, 5, [memoryview(each) for each in buffers], sequence=1)
    found = view.views(reference, [len(each) for each in buffers])
    assert [bytes(each) for each in found] == buffers
    assert all(offset % 64 == 0 for offset, _ in reference.spans)
    assert all(each.readonly for each in found)


def test_a_slot_that_was_filled_again_is_stale(arena: Arena, shm: Path) -> None:
    view = ArenaView(arena.name, owner_pid=HERE, directory=shm)
    first = arena.fill(1, 1, [memoryview(b"old")], sequence=1)
    view.views(first, [3])
    arena.fill(1, 2, [memoryview(b"new")], sequence=2)
    with pytest.raises(StaleSlotError, match="expected filling 1, found 2"):
        view.views(first, [3])
    with pytest.raises(StaleSlotError):
        view.check(1, 1)
    view.check(1, 2)


def test_the_file_is_private_and_goes_with_its_owner(shm: Path) -> None:
    arena = Arena(slot_bytes=4096, slots=1, directory=shm)
    path = shm / arena.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert SegmentName.parse(arena.name).owner_lives()
    view = ArenaView(arena.name, owner_pid=HERE, directory=shm)
    reference = arena.fill(0, 1, [memoryview(b"kept")], sequence=1)
    arena.close()
    arena.close()
    assert not path.exists()
    assert bytes(view.views(reference, [4])[0]) == b"kept"


def test_an_arena_that_is_dropped_leaves_nothing(shm: Path) -> None:
    arena = Arena(slot_bytes=4096, slots=1, directory=shm)
    del arena
    assert list(shm.iterdir()) == []


def test_full_shared_memory_is_an_error_and_leaves_nothing(shm: Path) -> None:
    system = os.statvfs(shm)
    too_much = system.f_blocks * system.f_frsize + (1 << 20)
    with pytest.raises(OSError, match="No space") as found:
        Arena(slot_bytes=too_much, slots=1, directory=shm)
    assert found.value.errno == errno.ENOSPC
    assert list(shm.iterdir()) == []


BEYOND = 1 << 63


@pytest.mark.parametrize(
    ("slot", "spans", "sizes"),
    [
        (3, ((8192, 1),), [1]),  # no such slot
        (-1, ((8192, 1),), [1]),
        (0, ((0, 64),), [64]),  # the header of the file
        (0, ((16384, 64),), [64]),  # the next slot's
        (0, ((8192, 8193),), [8193]),  # longer than the slot
        (0, ((8192, BEYOND),), [BEYOND]),
        (0, ((BEYOND, BEYOND),), [BEYOND]),
        (0, ((8192, -1),), [-1]),
        (0, ((-64, 64),), [64]),
        (0, ((8192, 64),), [65]),  # not what the payload says
        (0, ((8192, 64),), []),
    ],
)
def test_spans_outside_the_slot_are_refused(
    arena: Arena, shm: Path, slot: int, spans: tuple[tuple[int, int], ...], sizes: list[int]
) -> None:
    arena.fill(0, 1, [memoryview(b"x" * 64)], sequence=1)
    view = ArenaView(arena.name, owner_pid=HERE, directory=shm)
    with pytest.raises(DescriptorError, match="refused"):
        view.views(SlotReference(arena.name, slot, 1, spans), sizes)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../etc/passwd",
        "psm_1234",
        "zr-0-1-2-00000000000000gg",
        "zr-0-1-2-0123456789abcdef\n",
        "zr-0-1-2-0123456789abcdef/../x",
        "zr-00-1-2-0123456789abcdef",
        "zr--1-2-3-0123456789abcdef",
    ],
)
@pytest.mark.req("F.11")
def test_names_of_another_shape_are_refused_and_not_touched(shm: Path, name: str) -> None:
    with pytest.raises(DescriptorError, match="not the name of a segment"):
        ArenaView(name, owner_pid=HERE, directory=shm)


def test_names_of_our_shape_come_back_as_they_were() -> None:
    name = SegmentName.mine()
    assert SegmentName.parse(str(name)) == name


def test_only_the_announcing_process_owns_its_segment(arena: Arena, shm: Path) -> None:
    with pytest.raises(DescriptorError, match="does not describe itself"):
        ArenaView(arena.name, owner_pid=HERE + 1, directory=shm)


def test_links_folders_and_other_files_are_refused(arena: Arena, shm: Path) -> None:
    link, folder, text, short = (str(SegmentName.mine()) for _ in range(4))
    (shm / link).symlink_to(shm / arena.name)
    (shm / folder).mkdir()
    (shm / text).write_bytes(b"no arena " * 1000)
    (shm / short).write_bytes(b"zr-arena")
    for name in (link, folder, text, short, str(SegmentName.mine())):
        with pytest.raises(DescriptorError, match="refused"):
            ArenaView(name, owner_pid=HERE, directory=shm)
    assert (shm / text).exists()


@pytest.mark.parametrize("slots", [0, 65])
def test_an_arena_has_a_bounded_number_of_slots(shm: Path, slots: int) -> None:
    with pytest.raises(ValueError, match="1 to 64 slots"):
        Arena(slot_bytes=4096, slots=slots, directory=shm)


def test_buffers_must_lie_in_one_piece(arena: Arena) -> None:
    with pytest.raises(ValueError, match="contiguous"):
        as_bytes(memoryview(b"abcdef")[::2])
    with pytest.raises(ValueError, match="do not fit"):
        arena.fill(0, 1, [memoryview(bytes(9000))], sequence=1)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that is the point
def test_a_forked_child_does_not_take_the_segment_along(shm: Path) -> None:
    arena = Arena(slot_bytes=4096, slots=1, directory=shm)
    child = os.fork()
    if child == 0:
        arena.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (shm / arena.name).exists()
    arena.close()
