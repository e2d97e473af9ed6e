"""The file of a run's events: read back as they were, also after a write that was cut off."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from openhcs.pipeline import Event, Outcome, PreparationFinished, RunStarted, WellFinished
from openhcs.server._events import EventLog, plain_event, read_events, typed_event

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS: list[Event] = [
    RunStarted(run_id="r", out=Path("/out"), wells=("A01",), done=(), steps=("stitch",), workers=2),
    WellFinished(well="A01", outcome=Outcome.FAILED, seconds=1.5, reused=False, error="µ"),
]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "events"
    assert read_events(path, 0) == ([], 0, False)
    with EventLog(path) as log:
        log.append(EVENTS[0])
    with path.open("ab") as file:
        file.write(b'{"event": "WellFin')  # whoever wrote was killed
    first, start, more = read_events(path, 0)
    assert ([typed_event(each) for each in first], more) == (EVENTS[:1], False)
    with EventLog(path) as log:
        log.append(EVENTS[1])
    rest, _, _ = read_events(path, start)
    assert [typed_event(each) for each in rest] == EVENTS[1:]
    assert read_events(path, 1 << 62) == ([], 1 << 62, False)
    assert typed_event({"event": "OfALaterVersion"}) is None
    assert plain_event(EVENTS[1])["outcome"] == "failed"


def test_an_event_of_an_older_version_lacks_what_was_added_since() -> None:
    older = {"event": "PreparationFinished", "step": "s", "seconds": 1.5, "reused": False}
    assert typed_event(older) == PreparationFinished(step="s", seconds=1.5, reused=False)
    newer = plain_event(
        PreparationFinished(step="s", seconds=1.5, reused=False, planes=9, without={"DAPI": "few"})
    )
    assert typed_event({**newer, "of_a_later_version": 1}) == typed_event(newer)


@contextmanager
def room(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as if its disk were full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("taken", [0, 1, 50, 150, 10_000])
def test_what_a_full_disk_does_not_take_is_written_when_there_is_room(
    tmp_path: Path, taken: int
) -> None:
    path = tmp_path / "events"
    with EventLog(path) as log:
        with room(taken):
            for event in EVENTS:
                log.append(event)
            lack = log.lack
        assert ("events of the run could not be written" in lack) is (taken < 10_000)
        assert (str(path) in lack) is (taken < 10_000)
        log.append(EVENTS[0])
        assert log.lack == ""
    found, _, more = read_events(path, 0)
    assert [typed_event(each) for each in found] == [*EVENTS, EVENTS[0]]
    assert not more


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_line_that_a_full_disk_cut_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with EventLog(path) as log, room(50):
        log.append(EVENTS[0])
    with EventLog(path) as log, room(50):  # the next attempt finds the disk as full
        log.append(EVENTS[1])
        assert log.lack
    with EventLog(path) as log:
        log.append(EVENTS[1])
    found, _, _ = read_events(path, 0)
    assert [typed_event(each) for each in found] == EVENTS[1:]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full disk that Linux has")
def test_no_more_events_are_kept_than_find_room_in_memory() -> None:
    long = WellFinished(
        well="A01", outcome=Outcome.FAILED, seconds=0, reused=False, error="x" * (16 << 20)
    )
    with EventLog(Path("/dev/full")) as log:
        for _ in range(3):
            log.append(long)
        with pytest.raises(OSError, match="/dev/full"):
            log.append(long)
