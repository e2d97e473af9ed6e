"""Runs on a server: the same results as here, told while they are made, and brought home."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from tests.openhcs.server.served_runs import PIPELINE, SOON, WELLS, Serve, Watched, order

import openhcs
from openhcs.pipeline import RunFinished, RunStarted, WellFinished, from_source
from openhcs.results import open_results
from openhcs.server import TextFile, fetch_results
from zmqruntime.execution import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from openhcs.pipeline import Event


def finished(events: Sequence[Event]) -> list[str]:
    return [event.well for event in events if isinstance(event, WellFinished)]


def test_a_run_on_a_server_gives_what_one_here_gives(
    serve: Serve, screens: Path, tmp_path: Path
) -> None:
    client = serve()
    watched = Watched(client, client.submit_run(order()).job)
    assert watched.ended().state is ExecutionStatus.COMPLETED
    assert isinstance(watched.events[0], RunStarted)
    assert isinstance(watched.events[-1], RunFinished)
    assert sorted(finished(watched.events)) == list(WELLS)
    assert client.result(watched.job)["outcome"] == "ok"

    home = tmp_path / "home"
    brought = fetch_results(client, "mine", home)
    assert brought.files > len(WELLS)
    assert brought.size_bytes == sum(
        path.stat().st_size for path in home.rglob("*") if path.is_file() and path.name[0] != "."
    )
    here = openhcs.run(screens / "p1", from_source(PIPELINE), out=tmp_path / "here", workers=1)
    there = open_results(home)
    assert there.wells.drop(["seconds"]).equals(here.wells.drop(["seconds"]))
    for well in WELLS:
        np.testing.assert_array_equal(
            np.asarray(there.image(well)), np.asarray(here.image(well)), err_msg=well
        )
    assert (home / "report.html").stat().st_size > 10_000
    assert fetch_results(client, "mine", home).files == 0


def test_what_is_finished_is_not_done_again_after_an_edit(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    first = Watched(client, client.submit_run(order()).job)
    first.ended()
    again = Watched(client, client.submit_run(order()).job)
    again.ended()
    assert again.job != first.job
    assert again.events[0].done == WELLS  # type: ignore[union-attr]
    home = tmp_path / "home"
    fetch_results(client, "mine", home)
    shorter = PIPELINE.replace("    Step(measure_objects),\n", "")
    edited = Watched(client, client.submit_run(order(text=shorter)).job)
    assert edited.ended().state is ExecutionStatus.COMPLETED
    fetch_results(client, "mine", home)
    assert not (home / "objects").exists() or not any((home / "objects").iterdir())
    assert pq.read_table(home / "wells.parquet").num_rows == len(WELLS)


def test_a_table_of_conditions_travels_with_the_submission(serve: Serve, tmp_path: Path) -> None:
    client = serve()
    rows = "".join(f"{well},dose {number}\n" for number, well in enumerate(WELLS))
    platemap = TextFile(name="map.csv", content=f"well,treatment\n{rows}".encode())
    watched = Watched(client, client.submit_run(order(platemap=platemap)).job)
    watched.ended()
    table = open_results(tmp_path / "results" / "local" / "mine").wells.to_pydict()
    column = next(name for name in table if "treatment" in name)
    assert table[column] == [f"dose {number}" for number in range(len(WELLS))]


def test_a_well_that_fails_is_told_and_the_others_are_brought(
    serve: Serve, screens: Path, tmp_path: Path
) -> None:
    root = tmp_path / "other"
    shutil.copytree(screens / "p1", root / "p1")
    image = next(path for path in sorted((root / "p1").rglob("*")) if "A02" in path.name)
    image.write_bytes(b"II*\0 no more of it")
    client = serve(roots={"other": root})
    job = client.submit_run(order(options={"plate": "other/p1"})).job
    watched = Watched(client, job)
    assert watched.ended().state is ExecutionStatus.COMPLETED  # it came to its end
    assert client.result(job)["outcome"] == "failed"
    (bad,) = [e for e in watched.events if isinstance(e, WellFinished) and e.outcome != "ok"]
    assert bad.well == "A02"
    assert "unreadable" in (bad.error or "")
    fetch_results(client, "mine", tmp_path / "home")
    assert "A02" in open_results(tmp_path / "home").errors


def test_one_run_of_two_is_cancelled(serve: Serve) -> None:
    client = serve(runs=2)
    kept = Watched(client, client.submit_run(order("kept")).job)
    gone = Watched(client, client.submit_run(order("gone")).job)
    gone.wait_for(lambda events: len(finished(events)) >= 1)
    client.cancel(gone.job)
    assert gone.ended().state is ExecutionStatus.CANCELLED
    assert kept.ended().state is ExecutionStatus.COMPLETED
    assert sorted(finished(kept.events)) == list(WELLS)
    again = Watched(client, client.submit_run(order("gone")).job)
    assert again.ended().state is ExecutionStatus.COMPLETED
    assert again.events[0].done  # type: ignore[union-attr]  # what was finished is kept


def test_a_run_that_waits_is_cancelled_before_its_turn(serve: Serve) -> None:
    client = serve(runs=1)
    first = Watched(client, client.submit_run(order("first")).job)
    first.wait_for(lambda events: bool(events))
    second = client.submit_run(order("second"))
    assert client.status(second.job).position == 1
    client.cancel(second.job)
    assert client.wait(second.job, SOON).state is ExecutionStatus.CANCELLED
    assert first.ended().state is ExecutionStatus.COMPLETED


def test_the_same_submission_follows_the_run_that_is_under_way(serve: Serve) -> None:
    client = serve()
    first = client.submit_run(order())
    same = client.submit_run(order())
    other = client.submit_run(order("other"))
    assert (same.job, same.followed, first.followed) == (first.job, True, False)
    assert other.job != first.job
    assert client.orders([first.job, other.job, "unknown"]) == {
        first.job: {"plate": "screens/p1", "results": "mine"},
        other.job: {"plate": "screens/p1", "results": "other"},
    }
    for job in (first.job, other.job):
        assert client.wait(job, SOON).state is ExecutionStatus.COMPLETED


def test_a_table_that_cannot_be_read_is_named_as_it_was_sent(serve: Serve) -> None:
    client = serve()
    table = TextFile(name="map.csv", content=b"well,a\nZZ99,1\n")
    record = client.wait(client.submit_run(order(platemap=table)).job, SOON)
    assert record.state is ExecutionStatus.FAILED
    assert record.message.startswith("PlateError: map.csv, line 2: ")


def test_a_pipeline_that_cannot_run_says_where(serve: Serve) -> None:
    client = serve()
    text = PIPELINE.replace('segment_nuclei, channel="DAPI"', 'segment_nuclei, channel="XX"')
    record = client.wait(client.submit_run(order(text=text)).job, SOON)
    assert record.state is ExecutionStatus.FAILED
    assert "pipeline.py:7" in record.message
    assert "XX" in record.message
