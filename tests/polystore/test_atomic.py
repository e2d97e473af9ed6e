from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from polystore import NotWrittenError
from polystore.backends import _atomic as atomic
from polystore.backends import (
    atomic_file,
    atomic_folder,
    leftovers,
    remove_leftovers,
    write_bytes,
    write_json,
)
from polystore.backends._atomic import commit_folder, partial_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(code: str, *arguments: str, stdin: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=stdin, stdout=subprocess.PIPE, text=True
    )


def kill_after(child: subprocess.Popen[str], lines: int) -> None:
    """Kill a child that prints a line per write, after so many of them."""
    assert child.stdout is not None
    for _ in range(lines):
        assert child.stdout.readline()
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


def test_a_document_comes_back_and_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    for document in ({"wells": ["A01"]}, {"µm": 1.5}):
        write_json(file, document, fsync=True)
        assert json.loads(file.read_bytes()) == document
    assert names(tmp_path) == ["a.json"]


def test_a_document_that_is_no_json_changes_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    for wrong in (float("nan"), {1, 2}):
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a.json", wrong)
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_an_error_while_writing_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_bytes(file, b"old")

    def fail() -> None:
        with atomic_file(file) as stream:
            stream.write(b"half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotWrittenError, match=r"nowhere/a was not written.*does not exist"):
        write_bytes(tmp_path / "nowhere" / "a", b"")
    with pytest.raises(OSError, match="nowhere"), atomic_folder(tmp_path / "nowhere" / "b"):
        pass


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_the_place_of_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exchange: bool
) -> None:
    if not exchange:
        # what every system but Linux does
        monkeypatch.setattr(sys, "platform", "darwin")
    target = tmp_path / "image"
    for number in (1, 2):
        with atomic_folder(target, fsync=True) as folder:
            (folder / f"{number}").write_text("x")
        assert names(target) == [str(number)]
        assert names(tmp_path) == ["image"]


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("a file")
    with atomic_folder(tmp_path / "image") as folder:
        (folder / "1").write_text("x")
    assert names(tmp_path / "image") == ["1"]


def test_an_error_while_filling_a_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with atomic_folder(target) as folder:
        (folder / "old").write_text("x")

    def fail() -> None:
        with atomic_folder(target) as folder:
            (folder / "new").write_text("x")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["image"]


JSON_LOOP = """
import sys
from polystore.backends import write_json
number = 0
while True:
    number += 1
    write_json(sys.argv[1], [number] * 20_000)
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 5, 9])
def test_a_killed_writer_leaves_the_old_document_or_the_new(tmp_path: Path, lines: int) -> None:
    file = tmp_path / "a.json"
    kill_after(start(JSON_LOOP, str(file)), lines)
    document = json.loads(file.read_bytes())
    assert len(document) == 20_000
    assert len(set(document)) == 1
    assert document[0] >= lines
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a.json"]


FOLDER_LOOP = """
import sys
from polystore.backends import atomic_folder
number = 0
while True:
    number += 1
    with atomic_folder(sys.argv[1]) as folder:
        for name in range(20):
            (folder / str(name)).write_text(str(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 3, 8])
def test_a_killed_writer_leaves_the_old_folder_or_the_new(tmp_path: Path, lines: int) -> None:
    target = tmp_path / "image"
    kill_after(start(FOLDER_LOOP, str(target)), lines)
    contents = [file.read_text() for file in target.iterdir()]
    assert len(contents) == 20
    assert len(set(contents)) == 1
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["image"]


WRITE_HALF = """
import os, sys
from pathlib import Path
from polystore.backends._atomic import partial_path
for name in ("file", "folder"):
    partial = partial_path(Path(sys.argv[1]) / name)
    partial.mkdir() if name == "folder" else partial.write_text("half")
print("ready", flush=True)
sys.stdin.read()
"""


def test_leftovers_are_those_of_processes_that_are_gone(tmp_path: Path) -> None:
    nested = tmp_path / "A" / "1"
    nested.mkdir(parents=True)
    (nested / ".hidden").write_text("not ours")
    child = start(WRITE_HALF, str(nested), stdin=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert leftovers(tmp_path) == []
    child.kill()
    child.communicate()
    assert len(leftovers(tmp_path)) == 2
    mine = partial_path(nested / "mine")
    mine.write_text("being written")
    assert len(remove_leftovers(tmp_path)) == 2
    assert names(nested) == sorted([".hidden", mine.name])


def test_a_folder_moved_aside_by_a_killed_writer_is_moved_back(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    aside = tmp_path / f".image.{gone}-{atomic._host()}-00000000.replaced"
    aside.mkdir()
    (aside / "old").write_text("x")
    remove_leftovers(tmp_path)
    assert names(tmp_path / "image") == ["old"]


def in_small_disk(act: Callable[[], None]) -> None:
    """Run with files of at most 50 kB, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        act()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_does_not_fit_is_named_and_the_old_one_stays(tmp_path: Path) -> None:
    file = tmp_path / "table.bin"
    write_bytes(file, b"old")

    def write() -> None:
        with pytest.raises(NotWrittenError, match=r"table\.bin was not written"):
            write_bytes(file, bytes(100_000))

    in_small_disk(write)
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["table.bin"]


def test_a_folder_that_cannot_be_renamed_is_named(tmp_path: Path) -> None:
    partial = partial_path(tmp_path / "image")
    with pytest.raises(NotWrittenError, match="image was not written"):
        commit_folder(partial, tmp_path / "image")
