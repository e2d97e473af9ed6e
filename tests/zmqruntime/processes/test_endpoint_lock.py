from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest

from zmqruntime import EndpointInUse, ServiceError
from zmqruntime.processes._endpoint_lock import EndpointLock
from zmqruntime.processes._identity import (
    current_identity,
)
from zmqruntime.processes._lock_record import read_lock, read_token
from zmqruntime.processes._runtime_dir import runtime_dir

if TYPE_CHECKING:
    from pathlib import Path


def hold(app: str, port: int) -> EndpointLock:
    lock = EndpointLock(app, port)
    lock.acquire(host="localhost", data_port=port + 1000, token="t")
    return lock


@pytest.mark.req("F.3")
def test_a_second_holder_is_refused_with_the_first_one_named() -> None:
    with hold("napari", 5555) as lock:
        with pytest.raises(EndpointInUse, match=f"process {os.getpid()}") as caught:
            hold("napari", 5555)
        assert (caught.value.pid, caught.value.app) == (os.getpid(), "napari")
        assert caught.value.since is not None
        record = read_lock(lock.path)
        assert record is not None
        assert record.identity == current_identity()
        with hold("fiji", 5565):
            pass


def test_the_server_keeps_its_name_and_the_lock_file_stays() -> None:
    with hold("napari", 5555) as lock:
        first = read_lock(lock.path)
    between = read_lock(lock.path)
    with hold("napari", 5555) as lock:
        second = read_lock(lock.path)
    assert first is not None
    assert between is not None
    assert second is not None
    assert between.identity is None
    assert first.server_id == between.server_id == second.server_id


def test_files_are_private_and_the_token_goes_with_the_lock(runtime_folder: Path) -> None:
    lock = hold("napari", 5555)
    assert stat.S_IMODE(runtime_folder.stat().st_mode) == 0o700
    for path in (lock.path, lock.token_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_token(5555) == "t"
    assert read_token(5556) is None
    lock.release()
    lock.release()
    assert not lock.token_path.exists()
    assert read_token(5555) is None


@pytest.mark.req("F.37")
def test_a_token_that_a_killed_holder_had_begun_to_write_goes_with_the_next_start() -> None:
    left = runtime_dir() / "napari-5555.0f0f0f0f.tmp"
    other = runtime_dir() / "napari-5556.0f0f0f0f.tmp"
    for draft in (left, other):
        draft.write_text("half a tok")
    with hold("napari", 5555):
        assert not left.exists()
        assert other.exists()


def test_a_forked_child_does_not_keep_the_lock() -> None:
    lock = hold("napari", 5555)
    begun_read, begun_write = os.pipe()
    end_read, end_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end_write)
        os.write(begun_write, b"!")
        os.read(end_read, 1)
        os._exit(0)
    try:
        os.read(begun_read, 1)
        lock.close()  # as the end of this process would
        hold("napari", 5555).release()
    finally:
        for descriptor in (begun_read, begun_write, end_read, end_write):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_links_are_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    (runtime_dir() / "napari-5555.lock").symlink_to(target)
    with pytest.raises(ServiceError, match=r"napari-5555\.lock"):
        hold("napari", 5555)
    assert target.read_text() == "keep"


def test_a_lock_file_with_nonsense_is_taken_over() -> None:
    path = runtime_dir() / "napari-5555.lock"
    path.write_bytes(b"\xff nonsense, and longer than what is written over it" * 20)
    assert read_lock(path) is None
    with hold("napari", 5555):
        record = read_lock(path)
        assert record is not None
        assert record.port == 5555


def test_a_folder_that_others_can_enter_is_refused() -> None:
    folder = runtime_dir()
    folder.chmod(0o755)
    with pytest.raises(ServiceError, match="chmod 700"):
        runtime_dir()


def test_without_a_session_folder_the_state_folder_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runtime_dir() == tmp_path / ".local" / "state" / "zmqruntime" / "run"


@pytest.mark.parametrize("app", ["", "Napari", "../x", "a b", "-x"])
def test_a_name_that_cannot_name_files_is_refused(app: str) -> None:
    with pytest.raises(ValueError, match="app"):
        EndpointLock(app, 5555)


def grow_old(path: Path) -> None:
    month_ago = time.time() - 31 * 24 * 3600
    os.utime(path, (month_ago, month_ago))


def test_what_nobody_has_used_for_a_month_is_removed_by_the_next_that_starts() -> None:
    with hold("napari", 5555) as old:
        pass
    killed = hold("fiji", 5565)
    killed.close()  # as a kill does: the record and the token stay
    with hold("jobs", 5575) as recent:
        pass
    for lock in (old, killed):
        grow_old(lock.path)
    with hold("viewer", 5585):
        assert not old.path.exists()
        assert not killed.path.exists()
        assert not killed.token_path.exists()
        assert recent.path.exists()


def test_what_serves_for_longer_than_a_month_is_left_alone(runtime_folder: Path) -> None:
    with hold("napari", 5555) as serving:
        foreign = runtime_folder / "notes-1.lock.txt"
        foreign.touch()
        for path in (serving.path, foreign):
            grow_old(path)
        with hold("fiji", 5565):
            assert serving.path.exists()
            assert read_token(5555) == "t"
            assert foreign.exists()
        with pytest.raises(EndpointInUse):
            hold("napari", 5555)


def test_two_that_start_while_the_file_is_removed_as_old_do_not_both_hold_it() -> None:
    outcomes: list[EndpointLock] = []
    refused: list[EndpointInUse] = []
    with hold("napari", 5555) as lock:
        path = lock.path

    def start(app: str, port: int) -> None:
        try:
            outcomes.append(hold(app, port))
        except EndpointInUse as error:
            refused.append(error)

    for turn in range(20):
        grow_old(path)
        threads = [
            threading.Thread(target=start, args=("napari", 5555)),
            threading.Thread(target=start, args=("fiji", 6000 + turn)),
            threading.Thread(target=start, args=("napari", 5555)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        holders = [each for each in outcomes if each.app == "napari"]
        assert len(holders) <= 1
        assert len(refused) == 2 - len(holders)
        if holders:
            assert read_token(5555) == "t"
        for each in outcomes:
            each.release()
        outcomes.clear()
        refused.clear()
        path.touch()
