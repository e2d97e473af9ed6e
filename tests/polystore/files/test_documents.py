from __future__ import annotations

import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from polystore import LockedError, NotStoredError, NotWrittenError, UnreadableError
from polystore.files import Checksum, check_file, read_json, update_json, write_json
from polystore.files._locks import exclusive

if TYPE_CHECKING:
    from pathlib import Path


def test_a_document_is_changed_and_the_new_one_given_back(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    assert update_json(file, lambda old: [*old, 1], default=[]) == [1]
    assert update_json(file, lambda old: [*old, 2], default=[], checksum=Checksum.SHA256) == [1, 2]
    assert read_json(file) == [1, 2]
    assert check_file(file)
    with pytest.raises(NotStoredError, match=r"b\.json"):
        update_json(tmp_path / "b.json", lambda old: old)
    with pytest.raises(NotWrittenError, match=r"nowhere/a\.json was not written.*does not exist"):
        update_json(tmp_path / "nowhere" / "a.json", lambda old: old, default=1)


def test_a_change_that_fails_leaves_the_document_and_the_lock_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, 1)

    def fail(old: Any) -> Any:
        raise KeyError(old)

    with pytest.raises(KeyError):
        update_json(file, fail)
    with pytest.raises(ValueError, match="JSON"):
        update_json(file, lambda _: float("inf"))
    assert update_json(file, lambda old: old + 1) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_named_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    for act in (read_json, lambda path: update_json(path, lambda old: old, default=1)):
        with pytest.raises(UnreadableError, match=r"a\.json is no JSON"):
            act(file)
    assert file.read_bytes() == content


def test_who_waits_too_long_is_told_whom_for(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with (
        exclusive(file, timeout_s=0),
        pytest.raises(LockedError, match=r"a\.json was not changed: process \d+ of .* run again"),
    ):
        update_json(file, lambda old: old, default=1, timeout_s=0.01)
    assert list(tmp_path.iterdir()) == []


def renumbered(number: int, old: list[int]) -> list[int]:
    return [number] * len(old)


def test_readers_see_the_document_before_or_after_and_never_between(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, [0] * 1000)
    done = threading.Event()

    def change() -> None:
        for number in range(1, 200):
            update_json(file, partial(renumbered, number))
        done.set()

    writer = threading.Thread(target=change)
    writer.start()
    last = 0
    while not done.is_set():
        document = json.loads(file.read_bytes())
        assert len(set(document)) == 1
        assert document[0] >= last
        last = document[0]
    writer.join()
