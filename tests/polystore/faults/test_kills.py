"""Writers killed at random moments, and before every step they take on the disk."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polystore import UnreadableError
from polystore.backends import DiskStore, ZarrStore
from polystore.files import check_file, leftovers, read_bytes, read_json, remove_leftovers
from polystore.formats import read_plane
from polystore.omezarr import (
    LabelPartWriter,
    PartWriter,
    open_image,
    open_labels,
    read_labels,
    read_plate,
    settle_plate,
    store_problems,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from polystore.omezarr import ImageReader

SOAK = bool(os.environ.get("POLYSTORE_SOAK"))
MOMENTS = 200 if SOAK else 20
MOMENTS_OF_MORE = 200 if SOAK else 4
REPETITIONS = 50
PROGRAM = Path(__file__).with_name("writers_program.py")
NOISE = np.random.default_rng(0).integers(0, 500, (96, 96)).astype(np.uint16)


class Writers:
    """The program that starts processes which write."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._living: int | None = None
        assert self.line() == "ready"

    def line(self) -> str:
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line, "the program of writers has ended"
        return line.strip()

    def ask(self, **request: Any) -> None:
        assert self._program.stdin is not None
        self._program.stdin.write(json.dumps(request, default=str) + "\n")
        self._program.stdin.flush()

    def prepare(self, kind: str, target: Path) -> None:
        self.ask(kind="prepare", what=kind, target=target)
        assert self.line() == "prepared"

    def start(self, kind: str, target: Path, number: int, steps: int | None = None) -> int:
        self.ask(kind=kind, target=target, number=number, steps=steps)
        self._living = int(self.line().removeprefix("pid "))
        return self._living

    def end(self) -> tuple[list[str], int]:
        """What a process said that it did, and how it ended."""
        did = []
        while not (line := self.line()).startswith("dead "):
            did.append(line.removeprefix("did "))
        self._living = None
        return did, int(line.removeprefix("dead "))

    def close(self) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        if self._living is not None:
            os.kill(self._living, signal.SIGKILL)
        self._program.stdin.close()
        self._program.wait()
        self._program.stdout.close()


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    program = Writers()
    yield program
    program.close()


def one(values: Any) -> int:
    """The one number that all of them are."""
    found = np.unique(np.asarray(values))
    assert len(found) == 1, f"a mixture of {found}"
    return int(found[0])


def number_of_image(target: Path) -> int:
    image = open_image(target, "A01", "0")
    planes = [image.read(c=channel) - NOISE for channel in range(2)]
    coarse = [image.read(1, c=channel) for channel in range(2)]
    np.testing.assert_array_equal(coarse[0], coarse[1])
    return one([one(planes), image.attributes["number"]])


def number_of_labels(target: Path) -> int:
    labels = open_labels(target, "A01", "0", "nuclei")
    assert open_image(target, "A01", "0").label_names == ("nuclei",)
    return one([one(labels.read() - NOISE), labels.attributes["number"]])


def number_of_payload(target: Path) -> int:
    store = ZarrStore(target)
    assert store.keys() == ["a/b"]
    payload = store.load("a/b")
    return one([one(payload.array - NOISE), int(payload.run or -1)])


def number_of_plate(target: Path) -> int:
    """How many images its first well has; a plate that can be read has all its wells."""
    return len(read_plate(target).wells["A01"]) - 1


def number_of_settled(target: Path) -> int:
    """What an image shows whose plate is settled again and again; the other stays what it is."""
    plate = read_plate(target)
    assert {"A01", "A02"} <= plate.wells.keys()
    other = open_image(target, "A02", "0")
    np.testing.assert_array_equal(other.read(), NOISE)
    np.testing.assert_array_equal(read_labels(target, "A02", "0", "nuclei"), NOISE)
    image = open_image(target, "A01", "0")
    number = image.attributes["number"]
    assert image.shapes[0][-1] == 96 + number % 8 * 8
    for level in range(image.level_count):
        assert one(image.read(level)) == number
    return int(number)


def check_it_can_be_settled(target: Path) -> None:
    """Whatever was interrupted, doing it again leaves a plate as it has to be."""
    wells = settle_plate(target).wells
    assert {well: [image.path for image in images] for well, images in wells.items()} == {
        "A01": ["0"],
        "A02": ["0"],
    }
    one_image, other = (open_image(target, well, "0") for well in wells)
    assert one_image.level_count == other.level_count
    number_of_settled(target)
    assert store_problems(target) == ()


def number_of_parts(writer: PartWriter | LabelPartWriter, image: ImageReader) -> int:
    """What all parts show that are there; the others are said to be missing, at every level."""
    number = int(image.attributes["number"])
    missing = set(writer.missing())
    own = image.attributes["polystore"]
    assert own.get("unfinished") or not missing
    for part in writer.parts:
        for level in range(image.level_count):
            rows, columns = (
                slice(start >> level, -(-stop >> level))
                for start, stop in ((each.start, each.stop) for each in part.region)
            )
            try:
                found = image.read(level, region=(rows, columns))
            except UnreadableError:
                assert part in missing
            else:
                assert level or part not in missing
                assert one(found) == number
    return number


def number_of_part(writer: PartWriter | LabelPartWriter, image: ImageReader) -> int | None:
    """What a part shows at all levels, or None where it is missing."""
    try:
        number = one(image.read())
    except UnreadableError:
        assert writer.missing() == writer.parts
        return None
    assert writer.missing() == ()
    return one([number, *(one(image.read(level)) for level in range(image.level_count))])


def number_of_key(target: Path, suffix: str) -> int:
    found = DiskStore(target).load(f"a.{suffix}")
    assert DiskStore(target).keys() == [f"a.{suffix}"]
    if suffix == "txt":
        return one(list(map(int, found.text.split())))
    number = found.components.field
    assert number is not None
    if suffix == "zip":
        assert len(found.regions) == 50
        assert one(found.regions.vertices[1::3, 1]) == number
        assert one(found.regions.vertices[::3, 0] == np.float32(0.1)) == 1
    elif suffix in {"csv", "parquet"}:
        assert one(found.table["number"]) == number
        assert set(found.table["name"]) == {f"cell {number}"}
    else:
        assert one(found.array - NOISE) == number
    return number


def of_key(suffix: str) -> Callable[[Path], int]:
    return lambda target: number_of_key(target, suffix)


PLACE = ("A01", "0")
NUMBERS: dict[str, Callable[[Path], int | None]] = {
    "file": lambda file: one(np.frombuffer(read_bytes(file), "<u4")),
    "summed": lambda file: one(np.frombuffer(read_bytes(file), "<u4")) if check_file(file) else -1,
    "tiff": lambda file: one(read_plane(file) - NOISE) if check_file(file) else -1,
    "document": lambda file: one(read_json(file)),
    "update": lambda file: one([read_json(file)["number"], read_json(file)["again"][-1]]),
    "folder": lambda folder: one([int(each.read_text()) for each in folder.iterdir()]),
    "image": number_of_image,
    "labels": number_of_labels,
    "payload": number_of_payload,
    "plate": number_of_plate,
}
MORE: dict[str, Callable[[Path], int | None]] = {
    "settled plate": number_of_settled,
    "image parts": lambda target: number_of_parts(
        PartWriter(target, *PLACE), open_image(target, *PLACE)
    ),
    "label parts": lambda target: number_of_parts(
        LabelPartWriter(target, *PLACE, "nuclei"), open_labels(target, *PLACE, "nuclei")
    ),
    "part again": lambda target: number_of_part(
        PartWriter(target, *PLACE), open_image(target, *PLACE)
    ),
    "label part again": lambda target: number_of_part(
        LabelPartWriter(target, *PLACE, "nuclei"), open_labels(target, *PLACE, "nuclei")
    ),
}
MORE |= {f"{each} of 0.4": MORE[each] for each in tuple(MORE)}
MORE |= {f"{each} of 0.4": NUMBERS[each] for each in ("image", "labels", "plate")}
SUFFIXES = ("npy", "tif", "ome.tif", "png", "csv", "parquet", "json", "zip", "txt")
MORE |= {f"key.{suffix}": of_key(suffix) for suffix in SUFFIXES}
EVERY = NUMBERS | MORE
STRIDES = {} if SOAK else {kind: 5 for kind in MORE if "again" not in kind}
"""So many steps are left out between two kills."""
LEAVES = {"summed": {".it.sum"}, "tiff": {".it.sum"}}


def check_nothing_is_left(kind: str, target: Path) -> None:
    remove_leftovers(target.parent)
    assert leftovers(target.parent) == []
    there = {path.name for path in target.parent.iterdir()}
    assert there == {"it", *LEAVES.get(kind, set())}
    if target.is_dir():
        hidden = {path.name for path in target.rglob(".*")}
        assert hidden <= {".zarray", ".zattrs", ".zgroup"}
    if kind.startswith("settled plate"):
        check_it_can_be_settled(target)


def found_number(kind: str, target: Path, otherwise: int) -> int:
    found = EVERY[kind](target)
    if found is not None:
        return found
    assert "again" in kind  # only a part that is written again may be missing
    return otherwise


@pytest.mark.parametrize("kind", [kind for kind in EVERY if not kind.startswith("plate")])
def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, writers: Writers, kind: str
) -> None:
    target = tmp_path / "it"
    writers.prepare(kind, target)
    chance = random.Random(kind)
    number = 0
    cycle_s = 0.1
    news = 0
    moments = MOMENTS_OF_MORE if kind in MORE else MOMENTS
    for _ in range(moments):
        begun = time.perf_counter()
        pid = writers.start(kind, target, number)
        # the moment that is tried: not a wait for something
        select.select([], [], [], chance.uniform(0, 1.5 * cycle_s))
        os.kill(pid, signal.SIGKILL)
        did, status = writers.end()
        assert status == -signal.SIGKILL
        if did:
            cycle_s = (time.perf_counter() - begun) / len(did)
        last = int(did[-1]) if did else number
        number = found_number(kind, target, last)
        assert number in {last, last + 1}, "what was finished is gone, or more is there than was"
        news += number > last
        if kind in {"summed", "tiff"}:
            assert check_file(target)
        check_nothing_is_left(kind, target)
    if SOAK:
        print(f"\n{kind}: {moments} kills, {number} writes, {news} unannounced")  # noqa: T201


@pytest.mark.parametrize("kind", list(EVERY))
def test_a_writer_killed_before_any_step_on_the_disk_leaves_the_old_or_the_new(
    tmp_path: Path, writers: Writers, kind: str
) -> None:
    target = tmp_path / "it"
    writers.prepare(kind, target)
    number = found_number(kind, target, 0)
    steps = 1 - STRIDES.get(kind, 1)
    status = -signal.SIGKILL
    seen = set()
    while status != 0:
        steps += STRIDES.get(kind, 1)
        before = number
        writers.start(kind, target, before, steps)
        _, status = writers.end()
        assert status in {0, -signal.SIGKILL}
        number = found_number(kind, target, before)
        assert number in {before, before + 1}
        seen.add(number - before)
        check_nothing_is_left(kind, target)
    assert steps > 2
    assert 0 in seen
    assert number == before + 1


def test_no_update_of_a_document_is_lost_among_processes_and_threads(
    tmp_path: Path, writers: Writers
) -> None:
    for repetition in range(REPETITIONS):
        folder = tmp_path / str(repetition)
        folder.mkdir()
        check_that_all_updates_count(folder / "it", writers)
        assert [path.name for path in folder.iterdir()] == ["it"]


def check_that_all_updates_count(target: Path, writers: Writers) -> None:
    writers.ask(kind="count", target=target, processes=3, threads=2, each=4)
    dead = 0
    seen: dict[str, int] = {}
    while dead < 3:
        line = writers.line()
        if line.startswith("dead "):
            assert line == "dead 0"
            dead += 1
        elif line.startswith("did "):
            who = line.removeprefix("did ")
            seen[who] = seen.get(who, 0) + 1
    assert seen == read_json(target)
    assert len(seen) == 6
    assert set(seen.values()) == {4}


@pytest.mark.parametrize("repetition", range(20 if SOAK else 5))
def test_who_is_killed_while_holding_the_lock_holds_up_nobody(
    tmp_path: Path, writers: Writers, repetition: int
) -> None:
    target = tmp_path / "it"
    writers.ask(kind="count", target=target, processes=4, threads=2, each=10)
    chance = random.Random(repetition)
    seen: dict[str, int] = {}
    victims: set[str] = set()
    dead = 0
    while dead < 4:
        line = writers.line()
        dead += line.startswith("dead ")
        if not line.startswith("did "):
            continue
        who = line.removeprefix("did ")
        seen[who] = seen.get(who, 0) + 1
        pid = who.split("-")[0]
        if len(victims) < 2 and pid not in victims and chance.random() < 0.1:
            victims.add(pid)
            os.kill(int(pid), signal.SIGKILL)
    found = read_json(target)
    for who, count in found.items():
        # a change that was made and not announced is there; one that was announced is never gone
        assert count - seen.get(who, 0) in ({0, 1} if who.split("-")[0] in victims else {0})
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
