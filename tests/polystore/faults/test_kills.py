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

from polystore.backends import ZarrStore
from polystore.files import check_file, leftovers, read_bytes, read_json, remove_leftovers
from polystore.formats import read_plane
from polystore.omezarr import open_image, open_labels, read_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOAK = bool(os.environ.get("POLYSTORE_SOAK"))
MOMENTS = 200 if SOAK else 20
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


NUMBERS: dict[str, Callable[[Path], int]] = {
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
LEAVES = {"summed": {".it.sum"}, "tiff": {".it.sum"}}


def check_nothing_is_left(kind: str, target: Path) -> None:
    remove_leftovers(target.parent)
    assert leftovers(target.parent) == []
    there = {path.name for path in target.parent.iterdir()}
    assert there == {"it", *LEAVES.get(kind, set())}
    if target.is_dir():
        assert not list(target.rglob(".*"))


@pytest.mark.parametrize("kind", [kind for kind in NUMBERS if kind != "plate"])
def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, writers: Writers, kind: str
) -> None:
    target = tmp_path / "it"
    writers.prepare(kind, target)
    chance = random.Random(kind)
    number = 0
    cycle_s = 0.1
    news = 0
    for _ in range(MOMENTS):
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
        number = NUMBERS[kind](target)
        assert number in {last, last + 1}, "what was finished is gone, or more is there than was"
        news += number > last
        if kind in {"summed", "tiff"}:
            assert check_file(target)
        check_nothing_is_left(kind, target)
    if SOAK:
        print(f"\n{kind}: {MOMENTS} kills, {number} writes, {news} unannounced")  # noqa: T201


@pytest.mark.parametrize("kind", list(NUMBERS))
def test_a_writer_killed_before_any_step_on_the_disk_leaves_the_old_or_the_new(
    tmp_path: Path, writers: Writers, kind: str
) -> None:
    target = tmp_path / "it"
    writers.prepare(kind, target)
    number = NUMBERS[kind](target)
    steps = 0
    status = -signal.SIGKILL
    seen = set()
    while status != 0:
        steps += 1
        before = number
        writers.start(kind, target, before, steps)
        _, status = writers.end()
        assert status in {0, -signal.SIGKILL}
        number = NUMBERS[kind](target)
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
