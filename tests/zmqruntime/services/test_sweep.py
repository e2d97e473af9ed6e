"""What a killed process left in shared memory is removed, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from zmqruntime import Deadline, IOThread
from zmqruntime.carriers import Arena, Probe, SegmentName, sweep
from zmqruntime.services._sweeping import Sweeping

if TYPE_CHECKING:
    from pathlib import Path

MAKE = """
import os, sys
from pathlib import Path
from zmqruntime.carriers import Arena, Probe
arena = Arena(slot_bytes=4096, slots=2, directory=Path(sys.argv[1]))
probe = Probe(directory=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def owner(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.req("F.7")
def test_segments_of_a_killed_process_go_and_those_of_the_living_stay(shm: Path) -> None:
    mine = Arena(slot_bytes=4096, slots=1, directory=shm)
    with owner(shm) as other:
        assert len(list(shm.iterdir())) == 3
        assert sweep(shm) == ()
        other.kill()
        other.wait()
        removed = sweep(shm)
    assert len(removed) == 2
    assert [each.name for each in shm.iterdir()] == [mine.name]
    assert sweep(shm) == ()
    mine.close()


@pytest.mark.req("F.8")
def test_a_process_that_ends_as_it_should_leaves_nothing_but_a_probe_it_did_not_close(
    shm: Path,
) -> None:
    with owner(shm) as other:
        assert other.stdin is not None
        other.stdin.close()
        other.wait(10)
    assert [each.stat().st_size for each in shm.iterdir()] == [64]
    assert len(sweep(shm)) == 1


def test_what_is_not_ours_is_left_alone(shm: Path) -> None:
    gone = SegmentName(uid=os.getuid(), pid=4_000_000, start_ticks=1, token="0" * 16)
    other = SegmentName(uid=os.getuid() + 1, pid=4_000_000, start_ticks=1, token="1" * 16)
    kept = [str(other), "zr-notes", "zr-0-1-1-xyz", "image.tif"]
    for name in kept:
        (shm / name).write_bytes(b"x")
    folder = SegmentName(uid=os.getuid(), pid=4_000_000, start_ticks=1, token="2" * 16)
    (shm / str(folder)).mkdir()
    link = SegmentName(uid=os.getuid(), pid=4_000_000, start_ticks=1, token="3" * 16)
    (shm / str(link)).symlink_to(shm / "image.tif")
    (shm / str(gone)).write_bytes(b"")
    assert sweep(shm) == (str(gone),)
    assert {each.name for each in shm.iterdir()} == {*kept, str(folder), str(link)}


def test_a_pid_that_was_given_to_another_process_does_not_protect(shm: Path) -> None:
    reused = SegmentName(uid=os.getuid(), pid=os.getpid(), start_ticks=1, token="0" * 16)
    (shm / str(reused)).write_bytes(b"")
    assert not reused.owner_lives()
    assert sweep(shm) == (str(reused),)


def test_a_probe_closes_itself(shm: Path) -> None:
    with Probe(directory=shm) as probe:
        assert [each.name for each in shm.iterdir()] == [probe.name]
    assert list(shm.iterdir()) == []


@pytest.mark.req("F.7")
def test_what_is_left_behind_while_a_program_runs_is_swept_at_intervals(shm: Path) -> None:
    with IOThread("sweeper") as loop:
        sweeping = Sweeping(loop, shm, interval=0.02)
        process = owner(shm)
        assert len(list(shm.iterdir())) == 2
        process.kill()
        process.communicate()
        deadline, pause = Deadline(10), threading.Event()
        while list(shm.iterdir()):
            assert not deadline.expired
            pause.wait(0.01)
        sweeping.stop()
        sweeping.stop()
