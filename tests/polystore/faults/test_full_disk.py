"""A disk that is full, for every writer: a small file system of its own, where one may be made."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pytest

from polystore import LayoutError, NotWrittenError
from polystore.files import (
    Checksum,
    atomic_folder,
    read_bytes,
    read_json,
    update_json,
    write_bytes,
    write_json,
)
from polystore.formats import read_plane, write_plane
from polystore.omezarr import (
    ImageWriter,
    PlateLayout,
    create_plate,
    extend_plate,
    open_image,
    read_labels,
    read_plate,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIZE_BYTES = 12 * 1024**2
NOISE = np.random.default_rng(0).integers(0, 60_000, (600, 600)).astype(np.uint16)


class Disk(Protocol):
    """Somewhere to write that can be full."""

    folder: Path

    def full(self, left: int) -> contextlib.AbstractContextManager[None]:
        """Have no more than `left` bytes to write in a block."""
        ...


class SmallDisk:
    """A file system of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def full(self, left: int) -> Iterator[None]:
        filler = self.folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)) == 4096:
                pass
        os.truncate(filler, filler.stat().st_size - left)
        try:
            yield
        finally:
            filler.unlink()


class LimitedFiles:
    """Files that may not be longer than what is left, where no file system can be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def full(self, left: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(params=["small disk", "limited files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "small disk":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(tmp_path)]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                try:
                    yield SmallDisk(tmp_path)
                finally:
                    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
                return
    yield LimitedFiles(tmp_path)


def write_folder(target: Path, number: int) -> None:
    with atomic_folder(target) as folder:
        for name in ("a", "b"):
            write_bytes(folder / name, str(number).encode() * 100_000)


def layout(images: int) -> PlateLayout:
    wells = [f"A{1 + each:02d}" for each in range(images)]
    names = [str(each) for each in range(images)]
    return PlateLayout.regular("p", rows=1, columns=12, wells=wells, images=names)


def write_image(target: Path, number: int) -> None:
    create_plate(target, layout(1))
    with ImageWriter(target, "A01", "0", (2, 600, 600), np.uint16) as image:
        for channel in range(2):
            image.write_plane(NOISE + np.uint16(number), c=channel)
        image.commit()


def write_plates_labels(target: Path, number: int) -> None:
    if not target.exists():
        write_image(target, 0)
    write_labels(target, "A01", "0", "nuclei", NOISE.astype(np.uint32) + np.uint32(number))


def write_plate(target: Path, number: int) -> None:
    if number == 1:
        create_plate(target, layout(1))
    else:
        extend_plate(target, layout(number))


def number_of_image(target: Path) -> int:
    planes = np.stack([open_image(target, "A01", "0").read(c=channel) for channel in range(2)])
    return one(planes - NOISE)


def one(values: Any) -> int:
    found = np.unique(np.asarray(values))
    assert len(found) == 1, f"a mixture of {found}"
    return int(found[0])


WRITERS: dict[str, tuple[Callable[[Path, int], object], Callable[[Path], int]]] = {
    "file": (
        lambda file, number: write_bytes(file, str(number).encode() * 100_000),
        lambda file: one([int(chr(each)) for each in set(read_bytes(file))]),
    ),
    "file with checksum": (
        lambda file, number: write_bytes(
            file, str(number).encode() * 100_000, checksum=Checksum.SHA256
        ),
        lambda file: one([int(chr(each)) for each in set(read_bytes(file))]),
    ),
    "document": (
        lambda file, number: write_json(file, [number] * 50_000),
        lambda file: one(read_json(file)),
    ),
    "update": (
        lambda file, number: update_json(file, lambda _: [number] * 50_000, default=0),
        lambda file: one(read_json(file)),
    ),
    "tiff": (
        lambda file, number: write_plane(file, NOISE + np.uint16(number)),
        lambda file: one(read_plane(file) - NOISE),
    ),
    "tiff with checksum": (
        lambda file, number: write_plane(
            file, NOISE + np.uint16(number), compression="lzw", checksum=Checksum.XXH128
        ),
        lambda file: one(read_plane(file) - NOISE),
    ),
    "folder": (write_folder, lambda folder: one([int(read_bytes(folder / n)[:1]) for n in "ab"])),
    "image": (write_image, number_of_image),
    "labels": (
        write_plates_labels,
        lambda target: one(read_labels(target, "A01", "0", "nuclei") - NOISE),
    ),
    "plate": (write_plate, lambda target: len(read_plate(target).wells["A01"])),
}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "filler"}


@pytest.mark.parametrize("left", [0, 16 * 1024])
@pytest.mark.parametrize("what", list(WRITERS))
def test_a_full_disk_is_an_error_that_names_what_was_not_written_and_leaves_the_old(
    disk: Disk, what: str, left: int
) -> None:
    if what == "plate" and left:
        left = 0  # a few documents always fit
    write, number_of = WRITERS[what]
    target = disk.folder / "it"
    write(target, 1)
    before = everything(disk.folder)
    with disk.full(left):
        with pytest.raises(NotWrittenError) as caught:
            write(target, 2)
        # while it is still full
        assert number_of(target) == 1
        assert everything(disk.folder) == before or what == "plate"
    assert caught.value.errno in {errno.ENOSPC, errno.EFBIG}
    assert f"{target}" in str(caught.value)
    assert "partial" not in str(caught.value)
    assert not [name for name in everything(disk.folder) if name.endswith(("partial", "lock"))]
    write(target, 2)
    assert number_of(target) == 2


@pytest.mark.parametrize("again", [True, False])
def test_a_plane_that_did_not_fit_is_missing_until_it_is_written_again(
    disk: Disk, *, again: bool
) -> None:
    plate = disk.folder / "p.zarr"
    create_plate(plate, layout(1))
    with ImageWriter(plate, "A01", "0", (2, 600, 600), np.uint16) as image:
        image.write_plane(NOISE, c=0)
        image.write_plane(NOISE, c=1)
        with disk.full(700_000 if isinstance(disk, LimitedFiles) else 100_000):
            with pytest.raises(NotWrittenError, match="0 was not written"):
                image.write_plane(NOISE + np.uint16(1), c=1)
            with pytest.raises(LayoutError, match="1 of 2 planes were not written"):
                image.commit()
        if again:
            image.write_plane(NOISE + np.uint16(1), c=1)
            image.commit()
    if again:
        read = open_image(plate, "A01", "0")
        np.testing.assert_array_equal(read.read(c=0), NOISE)
        np.testing.assert_array_equal(read.read(c=1), NOISE + np.uint16(1))
    assert not [name for name in everything(disk.folder) if name.endswith("partial")]


def test_a_plane_that_did_not_fit_is_in_no_level_of_an_image_that_may_be_partial(
    disk: Disk,
) -> None:
    plate = disk.folder / "p.zarr"
    create_plate(plate, layout(1))
    with ImageWriter(plate, "A01", "0", (2, 600, 600), np.uint16) as image:
        image.write_plane(NOISE, c=0)
        with disk.full(100_000), pytest.raises(NotWrittenError):
            image.write_plane(NOISE, c=1)
        image.commit(partial=True)
    read = open_image(plate, "A01", "0")
    for level in range(2):
        assert not read.read(level, c=1).any()
