from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from polystore.files import leftovers, remove_leftovers, update_json, write_bytes
from polystore.files._leftovers import aside_path, partial_path
from polystore.files._locks import exclusive, lock_path

if TYPE_CHECKING:
    from pathlib import Path

WRITE_HALF = """
import os, sys
from pathlib import Path
from polystore.files._leftovers import partial_path
for name in ("file", "folder"):
    partial = partial_path(Path(sys.argv[1]) / name)
    partial.mkdir() if name == "folder" else partial.write_text("half")
print("ready", flush=True)
sys.stdin.read()
"""
WRITER = ("pid", "start", "host", "boot", "space", "random")
FIELDS = re.compile(r"(.*)\.(\d+)-(\d+)-(\w{8})-(\w{8})-(\w{8})-(\w{8})\.partial")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE_HALF, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def written_by(target: Path, **fields: object) -> Path:
    """A partial file of a writer that differs from this process in some ways."""
    match = FIELDS.fullmatch(partial_path(target).name)
    assert match is not None
    parts = dict(zip(("target", *WRITER), match.groups(), strict=True))
    parts |= {name: str(value) for name, value in fields.items()}
    writer = "-".join(parts[name] for name in WRITER)
    path = target.with_name(f"{parts['target']}.{writer}.partial")
    path.write_text("half")
    return path


@pytest.fixture
def gone() -> int:
    """Id of a process that has ended."""
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_leftovers_are_those_of_processes_that_are_gone(tmp_path: Path) -> None:
    nested = tmp_path / "A" / "1"
    nested.mkdir(parents=True)
    (nested / ".hidden").write_text("not ours")
    child = start(nested)
    assert leftovers(tmp_path) == []
    child.kill()
    # nobody has asked how it ended, so that its number is still taken
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert len(leftovers(tmp_path)) == 2
    child.communicate()
    assert len(leftovers(tmp_path)) == 2
    mine = partial_path(nested / "mine")
    mine.write_text("being written")
    assert len(remove_leftovers(tmp_path)) == 2
    assert names(nested) == sorted([".hidden", mine.name])


def test_a_later_process_of_the_same_number_is_not_the_writer(tmp_path: Path) -> None:
    child = start(tmp_path)
    remains = written_by(tmp_path / "a", pid=child.pid, start=12345)
    own = written_by(tmp_path / "b", start=12345)
    assert leftovers(tmp_path) == sorted([remains, own])
    child.kill()
    child.communicate()


def test_what_another_computer_or_container_writes_is_left_alone(tmp_path: Path, gone: int) -> None:
    others = [
        written_by(tmp_path / "a", host="00000000", pid=gone),
        written_by(tmp_path / "b", space="00000001", pid=gone),
        # the same name of another computer, or a container of it: it is at work there
        written_by(tmp_path / "c", boot="00000000", pid=gone),
    ]
    assert leftovers(tmp_path) == []
    assert leftovers(tmp_path, unknown_after_s=3600) == []
    for path in others[:2]:
        os.utime(path, times=(time.time() - 7200,) * 2)
    assert leftovers(tmp_path, unknown_after_s=3600) == others[:2]
    assert leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path, unknown_after_s=3600) == others[:2]


def test_what_was_written_before_the_computer_was_started_is_left(tmp_path: Path) -> None:
    path = written_by(tmp_path / "a", boot="00000000")
    os.utime(path, times=(1e9, 1e9))
    assert remove_leftovers(tmp_path) == [path]


def test_a_folder_is_as_old_as_the_newest_file_in_it(tmp_path: Path) -> None:
    partial = written_by(tmp_path / "a", host="00000000")
    partial.unlink()
    (partial / "c" / "0").mkdir(parents=True)
    (partial / "c" / "0" / "0").write_text("just now")
    for path in (partial, partial / "c", partial / "c" / "0"):
        os.utime(path, times=(1e9, 1e9))
    assert leftovers(tmp_path, unknown_after_s=3600) == []
    os.utime(partial / "c" / "0" / "0", times=(1e9, 1e9))
    assert leftovers(tmp_path, unknown_after_s=3600) == [partial]


def test_a_folder_moved_aside_by_a_killed_writer_is_moved_back(tmp_path: Path, gone: int) -> None:
    partial = written_by(tmp_path / "image", pid=gone)
    partial.unlink()
    aside = aside_path(partial)
    aside.mkdir()
    (aside / "old").write_text("x")
    assert remove_leftovers(tmp_path) == [aside]
    assert names(tmp_path / "image") == ["old"]


def test_a_lock_that_nobody_holds_is_left_and_one_that_is_held_is_not(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    lock_path(tmp_path / "b.json").touch()
    with exclusive(file, timeout_s=0):
        assert remove_leftovers(tmp_path) == [lock_path(tmp_path / "b.json")]
        assert names(tmp_path) == [lock_path(file).name]
    assert names(tmp_path) == []
    lock_path(file).touch()  # as whoever is killed leaves it
    update_json(file, lambda old: old + 1, default=0)
    assert names(tmp_path) == ["a.json"]


def test_files_that_only_look_like_it_are_left_alone(tmp_path: Path) -> None:
    for name in (".a.partial", ".a.1-2-3.partial", "a.polystore-lock", ".a.lock", ".a.tif.sum"):
        write_bytes(tmp_path / name, b"x")
    before = names(tmp_path)
    assert remove_leftovers(tmp_path, unknown_after_s=0) == []
    assert names(tmp_path) == before
