from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import sys
from typing import TYPE_CHECKING

import pytest

from polystore import NotDurableError, NotStoredError, NotWrittenError
from polystore.files import (
    Checksum,
    atomic_file,
    atomic_folder,
    delete_file,
    write_bytes,
    write_json,
)
from polystore.files._atomic import commit_folder, partial_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127])
def test_a_name_as_long_as_the_disk_allows_can_be_written(tmp_path: Path, name: str) -> None:
    write_bytes(tmp_path / name, b"x")
    assert names(tmp_path) == [name]
    with pytest.raises(NotWrittenError, match="shorter name"):
        write_bytes(tmp_path / (name + "xx"), b"x")


def test_a_file_is_deleted_with_its_checksum(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x", checksum=Checksum.SHA256)
    delete_file(tmp_path / "a")
    assert names(tmp_path) == []
    with pytest.raises(NotStoredError, match="a: there is no such file"):
        delete_file(tmp_path / "a")


def test_what_the_disk_does_not_confirm_is_told_from_what_was_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = os.fsync

    def fails_for_folders(number: int) -> None:
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        synced(number)

    monkeypatch.setattr(os, "fsync", fails_for_folders)
    with pytest.raises(NotDurableError, match="a is written, but the disk did not confirm"):
        write_bytes(tmp_path / "a", b"new", fsync=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]
