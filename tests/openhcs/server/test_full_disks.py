"""Disks that are full: of results, of what a server tells, and of who fetches."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.openhcs.server.served_runs import SOON, WELLS, Serve, Watched, order, wait_until

from openhcs._errors import ResultFolderError
from openhcs.execution import ResultFolder
from openhcs.pipeline import WellFinished
from openhcs.results import open_results
from openhcs.server import fetch_results
from zmqruntime.execution import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from openhcs.pipeline import Event

    Disk = Callable[[str, str], Path]

KEPT = """from openhcs import Pipeline, Step
from openhcs.functions import measure_image_quality, project_max

pipeline = Pipeline(Step(measure_image_quality), Step(project_max, keep=True))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount disks of a size, which lie in memory."""
    if os.name != "posix":
        pytest.skip("needs the right to mount a file system")
    with ExitStack() as stack:

        def mount(name: str, size: str) -> Path:
            place = tmp_path / name
            place.mkdir()
            words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
            return place

        yield mount


def fill(place: Path) -> Path:
    """Take all that is left of a disk, and give the file that does."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError:
            return filler


def ended(events: list[Event]) -> list[str]:
    return [event.well for event in events if isinstance(event, WellFinished)]


def test_a_full_disk_of_results_stops_the_run_and_is_named(serve: Serve, disk: Disk) -> None:
    place = disk("results", "30m")
    client = serve()
    run = Watched(client, client.submit_run(order(text=KEPT)).job)
    run.wait_for(lambda events: bool(ended(events)))
    filler = fill(place)
    assert run.ended().state is ExecutionStatus.COMPLETED  # it came to an end
    value = client.result(run.job)
    assert value["outcome"] != "ok"
    assert f"the disk of {place / 'local' / 'mine'} is full" in value["reason"]
    filler.unlink()
    again = Watched(client, client.submit_run(order(text=KEPT)).job)
    again.ended()
    assert client.result(again.job)["outcome"] == "ok"
    assert again.events[0].done  # type: ignore[union-attr]  # what was finished is kept
    assert open_results(place / "local" / "mine").completed


def test_a_run_goes_on_and_is_told_whole_where_its_events_find_no_room(
    serve: Serve, disk: Disk, tmp_path: Path
) -> None:
    place = disk("jobs", "8m")
    client = serve()
    run = Watched(client, client.submit_run(order(text=KEPT)).job)
    run.wait_for(lambda events: bool(events))
    filler = fill(place)
    folder = ResultFolder(tmp_path / "results" / "local" / "mine")

    def finished() -> int:
        records = [folder.read_record(well) or {} for well in WELLS]
        return sum(record.get("outcome") == "ok" for record in records)

    wait_until(lambda: finished() >= 2)  # while nothing can be told of them
    filler.unlink()
    assert run.ended().state is ExecutionStatus.COMPLETED
    assert client.result(run.job)["outcome"] == "ok"
    assert sorted(ended(run.events)) == list(WELLS)
    assert not [note for note in client.result(run.job)["notes"] if "could not be written" in note]


def test_a_disk_that_fills_up_while_results_are_fetched_is_named_and_the_fetch_goes_on(
    serve: Serve, disk: Disk
) -> None:
    client = serve()
    job = client.submit_run(order(text=KEPT)).job
    assert client.wait(job, SOON).state is ExecutionStatus.COMPLETED
    place = disk("desk", "20m")
    home = place / "home"
    filler = place / "filler"

    def progress(_here: int, _total: int) -> None:
        if not filler.exists():
            fill(place)

    said = "make room.*the same command goes on"
    with pytest.raises(ResultFolderError, match=said) as caught:
        fetch_results(client, "mine", home, on_progress=progress)
    assert str(home) in str(caught.value)
    assert ResultFolder(home).read_run() is None
    assert not list(home.rglob("*.partial"))
    with pytest.raises(ResultFolderError):
        open_results(home)
    filler.unlink()
    rest = fetch_results(client, "mine", home)
    assert rest.files > 0
    assert open_results(home).completed
