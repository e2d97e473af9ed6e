"""Damaged images and odd folders of every format: something is said, soon, within some memory."""

from __future__ import annotations

import os
import re
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from tests.openhcs.formats.hostile_plates import (
    EVERY,
    WITH_FILES,
    bounded,
    is_said,
    opened,
    plates,
    texts,
)

from openhcs._errors import PlaneUnreadableError
from openhcs.plates import Description, PlateIndex, open_plate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["plates"]


def tiff(
    height: int, width: int, *, compression: int = 1, following: int = 0, counted: int = 2048
) -> bytes:
    """A TIFF file of one strip of 2048 bytes, whatever its header says."""
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, compression),
        (262, 3, 1),
        (273, 4, 8 + 2 + 9 * 12 + 4),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, counted),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + struct.pack("<I", following) + bytes(range(256)) * 8


def many_pages(count: int) -> bytes:
    """A TIFF file whose images all have the same pixels."""
    first = tiff(32, 32)
    head, entries, pixels = first[:8], first[8:118], first[122:]
    parts = [head]
    for number in range(count):
        after = 8 + (number + 1) * 114 if number + 1 < count else 0
        parts += [entries, struct.pack("<I", after)]
    return b"".join(parts).replace(struct.pack("<I", 122), struct.pack("<I", 8), 1) + pixels


def encoded(path: Path, pixels: Any, **how: Any) -> bytes:
    tifffile.imwrite(path, pixels, **how)
    return path.read_bytes()


def damages(scratch: Path, data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "no TIFF": b"\x93NUMPY" * 200,
        "only its start": data[:8],
        "still being copied": data[: len(data) * 2 // 3],
        "without its last byte": data[:-1],
        "10^6 x 10^6 pixels": tiff(10**6, 10**6),
        "10^6 x 10^6 pixels, packed": tiff(10**6, 10**6, compression=5),
        "2^32 x 2^32 pixels": tiff(2**32 - 1, 2**32 - 1, compression=50000),
        "no pixels": tiff(0, 0),
        "10^5 images": many_pages(100_000),
        "images without an end": tiff(32, 32, following=8),
        "a strip of 4 GiB": tiff(32, 32, counted=2**32 - 1),
        "colours": encoded(scratch, np.zeros((32, 32, 3), np.uint8), photometric="rgb"),
        "complex pixels": encoded(scratch, np.zeros((32, 32), np.complex64)),
        "another type": encoded(scratch, np.full((32, 32), np.nan, np.float32)),
        "another size": encoded(scratch, np.zeros((500, 600), np.uint16)),
    }


@WITH_FILES
def test_images_that_are_damaged_or_say_too_much_are_named(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder)
    assert whole.plate is not None
    usual = {plane.path: index_of(whole.plate, plane.path) for plane in whole.plate}
    paths = sorted(images_of(whole.plate, folder))
    # what is taken from a first file to be so of all, and what a look at every file finds
    for file, deep in ((paths[0], False), (paths[-1], True)):
        data = file.read_bytes()
        path = file.relative_to(folder).as_posix()
        for what, odd in damages(tmp_path / "scratch.tif", data).items():
            file.write_bytes(odd)
            found = opened(name, folder, deep=deep)
            listed = name == "ome-tiff" and "images" in what  # only those count
            assert is_said(found, whole) or listed, what
            assert all(str(file) in text for text in found.unread), what
            # the same to a plate that is open already
            with bounded():
                for plane in usual[path]:
                    with pytest.raises(PlaneUnreadableError, match=re.escape(file.name)):
                        whole.plate.read(plane)
        file.write_bytes(data)


def images_of(index: PlateIndex, folder: Path) -> list[Path]:
    return [folder / plane.path for plane in index if plane.path]


def index_of(index: PlateIndex, path: str | None) -> list[Any]:
    return [plane for plane in index if plane.path == path]


@WITH_FILES
def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder)
    assert whole.plate is not None
    makers: tuple[Callable[[Path], object], ...] = (
        os.mkfifo,
        lambda path: path.symlink_to(path.name),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.mkdir(),
    )
    image = images_of(whole.plate, folder)[0]
    for file in (image, *texts(folder)):
        data = file.read_bytes()
        for make in makers[: len(makers) if file == image else -1]:
            file.unlink()
            make(file)
            found = opened(name, folder, deep=False)
            quiet = file.suffix in {".wpi", ".wpp", ".mxprotocol", ".json"} or (
                "descriptor" in file.name
            )
            assert is_said(found, whole) or quiet, (file, make)
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
            file.write_bytes(data)


@EVERY
def test_folders_with_odd_entries_are_read_and_the_entries_named(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    whole = opened(name, folder)
    assert whole.plate is not None
    (folder / "round").symlink_to(".", target_is_directory=True)
    (folder / "itself").symlink_to("itself")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"1")
    (folder / "a\nline.txt").write_bytes(b"1")
    (folder / ("x" * 250)).write_bytes(b"1")
    found = opened(name, folder)
    assert found.plate is not None
    assert len(found.plate) == len(whole.plate)
    assert not found.unread
    assert found.codes["LINK_IGNORED"] == 1
    assert found.codes["SPECIAL_IGNORED"] == 1
    assert found.codes["UNMATCHED_NAME"] == 1


@EVERY
@pytest.mark.usefixtures("permissions_bind")
def test_a_folder_that_may_not_be_listed_costs_what_is_in_it(
    tmp_path: Path, plates: Callable[[str, Path], Path], name: str
) -> None:
    folder = plates(name, tmp_path)
    closed = folder / "closed"
    closed.mkdir()
    (closed / "within.txt").write_bytes(b"1")
    closed.chmod(0)
    try:
        found = opened(name, folder)
    finally:
        closed.chmod(0o700)
    assert found.plate is not None
    assert found.codes["FOLDER_UNREADABLE"] == 1
    again = opened(name, folder)
    assert again.plate is not None
    assert again.plate.facts.identity != found.plate.facts.identity


@WITH_FILES
def test_a_file_that_goes_while_its_folder_is_listed_is_not_there(
    tmp_path: Path,
    plates: Callable[[str, Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    folder = plates(name, tmp_path)
    (folder / "copying.tmp").write_bytes(b"1")
    listed = os.scandir

    def scandir(place: str) -> Any:
        entries = listed(place)
        if place == str(folder.resolve()):
            rows = list(entries)
            with suppress(FileNotFoundError):
                (folder / "copying.tmp").unlink()
            return Entries(rows)
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    found = opened(name, folder)
    assert found.plate is not None
    assert "copying" not in str(found.plate.findings)


class Entries(list[Any]):
    """What `os.scandir` gives: it is closed by leaving a block."""

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_numbers_that_have_nothing_in_common_are_not_multiplied(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    pixels = encoded(tmp_path / "one.tif", np.zeros((2, 2), np.uint16))
    for number in range(300):
        name = f"{'ABCDEFGH'[number % 8]}{number // 8 % 12 + 1:02d}_{number}_{number}_{number}.tif"
        (folder / name).write_bytes(pixels)
    described = Description(
        pattern=r"(?P<well>[A-H]\d\d)_(?P<field>\d+)_(?P<z>\d+)_(?P<t>\d+)\.tif"
    )
    with bounded():
        index = open_plate(folder, cache=False, described=described)
    assert len(index.select(kind=None)) == 300
    said = next(finding for finding in index.findings if finding.code == "MISSING_PLANE")
    assert "lead one to expect" in said.message
