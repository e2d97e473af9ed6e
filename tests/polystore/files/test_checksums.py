from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polystore import ChecksumError, LayoutError, MissingExtraError, NotStoredError, UnreadableError
from polystore.files import Checksum, check_file, read_bytes, read_json, write_bytes, write_json
from polystore.files._checksums import Sum, read_sums, sum_of, sum_path, sums_text
from polystore.formats import read_plane, write_plane
from polystore.omezarr import (
    ImageReader,
    ImageWriter,
    PlateLayout,
    create_plate,
    open_image,
    settle_plate,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLANE = np.random.default_rng(0).poisson(300, (90, 130)).astype(np.uint16)
KINDS = list(Checksum)


def flip(file: Path, at: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1 << bit
    file.write_bytes(content)


def write_it(file: Path, kind: Checksum) -> None:
    match file.suffix:
        case ".tif":
            write_plane(file, PLANE, checksum=kind)
        case ".json":
            write_json(file, {"pixel_um": 0.65}, checksum=kind)
        case _:
            write_bytes(file, b"0123456789", checksum=kind)


READERS: dict[str, Callable[..., object]] = {
    "a.tif": read_plane,
    "a.json": read_json,
    "a": read_bytes,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(READERS))
def test_a_flipped_bit_is_an_error_that_names_the_file_and_what_to_do(
    tmp_path: Path, name: str, kind: Checksum
) -> None:
    file = tmp_path / name
    write_it(file, kind)
    READERS[name](file)
    assert check_file(file)
    rng = np.random.default_rng(0)
    for at in rng.integers(0, file.stat().st_size, 20):
        flip(file, at, bit := int(rng.integers(8)))
        for read in (READERS[name], check_file):
            with pytest.raises(ChecksumError, match=rf"{name} is not what was stored.*a copy"):
                read(file)
        flip(file, at, bit)
    assert check_file(file)
    if name == "a.json":
        # the digit that nobody would notice
        file.write_text(file.read_text().replace("0.65", "0.66"))
        assert read_json(file, verify=False) == {"pixel_um": 0.66}
        with pytest.raises(OSError, match="not what was stored"):
            read_json(file)


def test_nothing_is_compared_where_no_checksum_was_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_bytes(file, b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert check_file(file) is False
    file.write_bytes(b"two")
    assert read_bytes(file) == b"two"
    with pytest.raises(NotStoredError, match="b: there is no such file"):
        check_file(tmp_path / "b")
    with pytest.raises(NotStoredError, match="b: there is no such file"):
        read_bytes(tmp_path / "b")


def test_a_file_stored_anew_without_a_checksum_has_none(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_bytes(file, b"one", checksum=Checksum.SHA256)
    write_bytes(file, b"two", checksum=Checksum.XXH128)
    assert {each.kind for each in read_sums(file)} == {Checksum.XXH128}
    write_bytes(file, b"three")
    assert read_bytes(file) == b"three"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_beside_a_file_and_is_no_checksum_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a"
    for content in (b"", b"nonsense", b"XXH128 (a) = 12\n", b"\xff" * 100_000):
        file.write_bytes(b"x")
        sum_path(file).write_bytes(content)
        with pytest.raises(UnreadableError, match=r"\.a\.sum holds no checksums"):
            read_bytes(file)
        # storing it again mends it
        write_bytes(file, b"y", checksum=Checksum.SHA256)
        assert check_file(file)


def test_the_programs_that_check_sums_understand_them(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a (1).tif", b"x" * 1000, checksum=Checksum.SHA256)
    program = shutil.which("sha256sum")
    assert program is not None
    command = [program, "--check", ".a (1).tif.sum"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told == "a (1).tif: OK\n"


# settings: the folder is the same for all examples, and each writes anew
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(name=st.text(min_size=1), contents=st.lists(st.binary(), min_size=1, max_size=3))
def test_checksums_come_back_whatever_the_file_is_called(
    tmp_path: Path, name: str, contents: list[bytes]
) -> None:
    sums: set[Sum] = {sum_of(each, kind) for each in contents for kind in KINDS}
    try:
        text = sums_text(name, sums)
    except UnicodeEncodeError:
        return  # no file can be called so
    (tmp_path / ".a.sum").write_bytes(text)
    assert read_sums(tmp_path / "a") == sums


def test_whoever_reads_while_a_file_is_replaced_is_not_alarmed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_bytes(file, b"0" * 5000, checksum=Checksum.XXH128)
    done = threading.Event()

    def replace() -> None:
        for number in range(1, 200):
            write_bytes(file, str(number % 10).encode() * 5000, checksum=Checksum.XXH128)
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    while not done.is_set():
        assert len(set(read_bytes(file))) == 1
        assert check_file(file)
    writer.join()


def test_several_who_replace_a_file_leave_one_that_agrees_with_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "a"

    def replace(digit: str) -> None:
        for _ in range(30):
            write_bytes(file, digit.encode() * 1000, checksum=Checksum.SHA256)

    writers = [threading.Thread(target=replace, args=(digit,)) for digit in "123"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(set(read_bytes(file))) == 1
    assert len(read_sums(file)) == 1


def test_without_xxhash_the_error_says_what_to_do_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "a", b"x", checksum=Checksum.XXH128)
    monkeypatch.setitem(sys.modules, "xxhash", None)
    for act in (
        lambda: read_bytes(tmp_path / "a"),
        lambda: write_bytes(tmp_path / "b", b"", checksum=Checksum.XXH128),
    ):
        with pytest.raises(MissingExtraError, match=r"polystore\[checksums\]"):
            act()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.sum", "a"]


def make_plate(tmp_path: Path) -> tuple[Path, Path]:
    plate = tmp_path / "p.zarr"
    create_plate(plate, PlateLayout.regular("p", rows=1, columns=2, wells=["A01"], images=["0"]))
    with ImageWriter(plate, "A01", "0", (1, 90, 130), np.uint16, checksum=True) as image:
        image.write_plane(PLANE)
        image.commit()
    write_labels(plate, "A01", "0", "nuclei", PLANE.astype(np.uint32), checksum=True)
    return plate, plate / "A" / "1" / "0"


def test_a_flipped_bit_in_pixels_of_a_plate_is_an_error(tmp_path: Path) -> None:
    plate, group = make_plate(tmp_path)
    rng = np.random.default_rng(0)
    for folder in (group, group / "labels" / "nuclei"):
        shard = next(path for path in (folder / "0").rglob("0") if path.is_file())
        named = 0
        for at in rng.integers(0, shard.stat().st_size, 40):
            flip(shard, at, bit := int(rng.integers(8)))
            with pytest.raises(UnreadableError, match="0") as caught:
                ImageReader(folder).read()
            named += isinstance(caught.value, ChecksumError)
            flip(shard, at, bit)
        # a damaged index of a shard may say other things first
        assert named > 30
    np.testing.assert_array_equal(open_image(plate, "A01", "0").read(), PLANE)


def test_levels_that_are_added_later_have_checksums_too(tmp_path: Path) -> None:
    plate = tmp_path / "p.zarr"
    wells = {"A01": (3, 510, 510), "A02": (3, 515, 515)}
    create_plate(plate, PlateLayout.regular("p", rows=1, columns=2, wells=wells, images=["0"]))
    for well, shape in wells.items():
        with ImageWriter(plate, well, "0", shape, np.uint16, checksum=True) as image:
            for channel in range(3):
                image.write_plane(np.full(shape[1:], 7, np.uint16), c=channel)
            image.commit()
    settle_plate(plate)
    document = read_json(plate / "A" / "1" / "0" / "1" / "zarr.json")
    assert document["codecs"][0]["configuration"]["codecs"][-1] == {"name": "crc32c"}
    assert (open_image(plate, "A01", "0").read(1) == 7).all()


def test_a_version_without_checksums_says_so(tmp_path: Path) -> None:
    layout = PlateLayout.regular("p", rows=1, columns=2, wells=["A01"], images=["0"])
    create_plate(tmp_path / "p.zarr", layout, version="0.4")
    with pytest.raises(LayoutError, match=r"0\.4 has no checksum"):
        ImageWriter(tmp_path / "p.zarr", "A01", "0", (1, 9, 9), np.uint16, checksum=True)
    assert not [each for each in (tmp_path / "p.zarr" / "A" / "1").iterdir() if each.is_dir()]


def test_who_reads_while_a_file_is_replaced_again_and_again_is_not_told_that_it_is_damaged(
    tmp_path: Path,
) -> None:
    path, over = tmp_path / "a.bin", threading.Event()
    contents = (b"a" * 10, b"b" * 10)
    write_bytes(path, contents[0], checksum=Checksum.SHA256)

    def read() -> set[bytes]:
        found = set()
        while not over.is_set():
            found.add(read_bytes(path))
        return found

    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read) for _ in range(3)]
        try:
            for number in range(200):
                write_bytes(path, contents[number % 2], checksum=Checksum.SHA256)
        finally:
            over.set()
        assert set().union(*(each.result() for each in reading)) <= set(contents)
