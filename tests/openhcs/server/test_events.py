"""The file of a run's events: read back as they were, also after a write that was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from openhcs.pipeline import Event, Outcome, RunStarted, WellFinished
from openhcs.server._events import EventLog, plain_event, read_events, typed_event

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
    assert typed_event({"event": "OfALaterVersion"}) is None
    assert plain_event(EVENTS[1])["outcome"] == "failed"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the full disk that Linux has")
def test_a_full_disk_is_named_with_the_file() -> None:
    with EventLog(Path("/dev/full")) as log, pytest.raises(OSError, match="/dev/full"):
        log.append(EVENTS[0])
