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

from polystore import (
    Components,
    Kind,
    LayoutError,
    NotWrittenError,
    Payload,
    Regions,
    Table,
    UnreadableError,
)
from polystore.backends import DiskStore
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
    ImageMeta,
    ImageWriter,
    LabelPartWriter,
    OmeVersion,
    PartWriter,
    PlateLayout,
    create_image,
    create_labels,
    create_plate,
    extend_plate,
    finish_image,
    finish_labels,
    open_image,
    open_labels,
    read_labels,
    read_plate,
    settle_plate,
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


def write_image(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    create_plate(target, layout(1), version=version)
    with ImageWriter(target, "A01", "0", (2, 600, 600), np.uint16) as image:
        for channel in range(2):
            image.write_plane(NOISE + np.uint16(number), c=channel)
        image.commit()


def write_plates_labels(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if not target.exists():
        write_image(target, 0, version)
    write_labels(target, "A01", "0", "nuclei", NOISE.astype(np.uint32) + np.uint32(number))


def write_plate(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        create_plate(target, layout(1), version=version)
    else:
        extend_plate(target, layout(number))


def settle(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        create_plate(target, layout(2), version=version)
        for well, side in (("A01", 40), ("A02", 60)):
            with ImageWriter(target, well, "0", (1, side, side), "u2") as image:
                image.write_plane(NOISE[:side, :side])
                image.commit()
    else:
        settle_plate(target)


def number_of_settled(target: Path) -> int:
    for well, side in (("A01", 40), ("A02", 60)):
        np.testing.assert_array_equal(open_image(target, well, "0").read(), NOISE[:side, :side])
    planned = [len(images) == 2 for images in read_plate(target).wells.values()]
    return 2 - one(planned)


def lay_out(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    create_plate(target, layout(1), version=version)
    meta = ImageMeta(attributes={"number": number})
    create_image(target, "A01", "0", (1, 600, 600), "u2", meta)


def lay_out_labels(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        lay_out(target, 0, version)
    create_labels(target, "A01", "0", "nuclei", "u2", attributes={"number": number})


def write_part(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        lay_out(target, 0, version)
    writer = PartWriter(target, "A01", "0")
    writer.write(writer.parts[0], NOISE + np.uint16(number))


def write_label_part(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        lay_out_labels(target, 1, version)
    writer = LabelPartWriter(target, "A01", "0", "nuclei")
    writer.write(writer.parts[0], NOISE + np.uint16(number))


def finish(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        write_part(target, 1, version)
    else:
        finish_image(target, "A01", "0")


def finish_plates_labels(target: Path, number: int, version: OmeVersion = OmeVersion.V05) -> None:
    if number == 1:
        write_label_part(target, 1, version)
    else:
        finish_labels(target, "A01", "0", "nuclei")


def image_of(target: Path) -> Any:
    return open_image(target, "A01", "0")


def labels_of(target: Path) -> Any:
    return open_labels(target, "A01", "0", "nuclei")


def payload_of(suffix: str, number: int) -> Payload:
    where = Components(well="B03", t=number)
    if suffix == "txt":
        return Payload(data=str(number) * 50_000, kind=Kind.TEXT)
    if suffix == "zip":
        polygons = Regions.from_polygons(list(NOISE.reshape(-1, 3, 2)[:600] / 7))
        return Payload(data=polygons, kind=Kind.REGIONS, components=where)
    if suffix in {"csv", "parquet"}:
        rows = Table({"number": NOISE.ravel()[:20_000] + np.uint16(number)})
        return Payload(data=rows, kind=Kind.TABLE, components=where)
    return Payload(data=NOISE + np.uint16(number), components=where)


def number_of_payload(payload: Payload) -> int:
    if payload.kind is Kind.TEXT:
        return one(list(map(int, payload.text)))
    number = payload.components.t
    assert number is not None
    if payload.kind is Kind.TABLE:
        assert one(np.asarray(payload.table["number"]) - NOISE.ravel()[:20_000]) == number
    elif payload.kind is Kind.IMAGE:
        assert one(payload.array - NOISE) == number
    return number


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
    "settled plate": (settle, number_of_settled),
    "laid out image": (lay_out, lambda target: int(image_of(target).attributes["number"])),
    "laid out labels": (lay_out_labels, lambda target: int(labels_of(target).attributes["number"])),
    "part": (write_part, lambda target: one(image_of(target).read() - NOISE)),
    "part of labels": (write_label_part, lambda target: one(labels_of(target).read() - NOISE)),
    "finished image": (
        finish,
        lambda target: 2 - ("unfinished" in image_of(target).attributes["polystore"]),
    ),
    "finished labels": (
        finish_plates_labels,
        lambda target: 1 + (image_of(target).label_names == ("nuclei",)),
    ),
}
SMALL = {"plate", "settled plate", "laid out image", "laid out labels"}
SMALL |= {"finished image", "finished labels"}
"""A few documents, which fit where anything does."""
IN_STEPS = {"plate"}
"""Where some of the documents may be there already."""


def of_04(write: Any) -> Callable[[Path, int], object]:
    return lambda target, number: write(target, number, OmeVersion.V04)


def stored_as(suffix: str) -> Callable[[Path, int], object]:
    return lambda target, number: DiskStore(target).store(f"a.{suffix}", payload_of(suffix, number))


def loaded_as(suffix: str) -> Callable[[Path], int]:
    return lambda target: number_of_payload(DiskStore(target).load(f"a.{suffix}"))


for _what in ("image", "labels", "plate", "part", "part of labels", *sorted(SMALL - IN_STEPS)):
    WRITERS[f"{_what} of 0.4"] = (of_04(WRITERS[_what][0]), WRITERS[_what][1])
for _suffix in ("npy", "tif", "ome.tif", "png", "csv", "parquet", "json", "zip", "txt"):
    WRITERS[f"key.{_suffix}"] = (stored_as(_suffix), loaded_as(_suffix))


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "filler"}


CASES = [
    (what, left)
    for what in WRITERS
    for left in ((0,) if what.removesuffix(" of 0.4") in SMALL else (0, 16 * 1024))
]


@pytest.mark.parametrize(("what", "left"), CASES)
def test_a_full_disk_is_an_error_that_names_what_was_not_written_and_leaves_the_old(
    disk: Disk, what: str, left: int
) -> None:
    write, number_of = WRITERS[what]
    target = disk.folder / "it"
    write(target, 1)
    before = everything(disk.folder)
    with disk.full(left):
        with pytest.raises(NotWrittenError) as caught:
            write(target, 2)
        # while it is still full
        assert number_of(target) == 1
        assert everything(disk.folder) == before or what.removesuffix(" of 0.4") in IN_STEPS
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


@pytest.mark.parametrize("version", list(OmeVersion))
def test_a_part_that_did_not_fit_is_missing_until_it_is_written_again(
    disk: Disk, version: OmeVersion
) -> None:
    plate = disk.folder / "p.zarr"
    create_plate(plate, layout(1), version=version)
    create_image(plate, "A01", "0", (1, 600, 600), "u2", part_px=300, coarsest_px=300)
    writer = PartWriter(plate, "A01", "0")
    first, second, *_ = writer.parts
    writer.write(first, NOISE[first.region])
    with disk.full(50_000), pytest.raises(NotWrittenError, match=f"{plate}"):
        writer.write(second, NOISE[second.region])
    assert writer.missing() == writer.parts[1:]
    np.testing.assert_array_equal(image_of(plate).read(region=first.region), NOISE[first.region])
    for level in range(2):
        rows, columns = (slice(each.start >> level, each.stop >> level) for each in second.region)
        with pytest.raises(UnreadableError, match="not been written yet"):
            image_of(plate).read(level, region=(rows, columns))
    assert not [name for name in everything(disk.folder) if name.endswith("partial")]
    for part in writer.missing():
        writer.write(part, NOISE[part.region])
    finish_image(plate, "A01", "0")
    np.testing.assert_array_equal(image_of(plate).read(), NOISE)
