"""Runs: every well gets its result, whatever happens to the others, to workers and to the disk."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from openhcs._errors import ResultFolderError, RunError, WorkerLostError
from openhcs.execution import LocalExecutor, RunResult, WellTask, load_run, perform, run
from openhcs.functions import (
    correct_illumination,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
)
from openhcs.pipeline import (
    Event,
    Outcome,
    Pipeline,
    Plan,
    RunFinished,
    RunStarted,
    Step,
    StepFinished,
    WellFinished,
    WellRetried,
    WellStarted,
    compile_pipeline,
    default_pipeline,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image, open_labels, read_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

WELLS = ("A01", "A02", "B03")

FUNCTIONS = '''
"""Functions that misbehave on purpose; only the worker processes call them for real."""
from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from openhcs.functions import Axes, Kind, Output, Prepared, function

WORKER = "openhcs.execution._worker" in sys.modules and not hasattr(sys, "ps1")


def count(folder, name):
    """Add one to a count in a file, and give it."""
    with open(Path(folder) / name, "ab") as stream:
        stream.write(b"x")
        return stream.tell()


@function()
def die(plane, *, folder: str, times: int):
    """Kill the process that calls, the first few times."""
    if os.environ.get("OMP_NUM_THREADS") == "1" and plane.shape[0] != 64:
        if count(folder, "deaths") <= times:
            os.kill(os.getpid(), signal.SIGKILL)
    return plane


@function()
def orphan(plane, *, folder: str):
    """Kill the parent in the second well, then work on for ever."""
    if os.environ.get("OMP_NUM_THREADS") == "1" and plane.shape[0] != 64:
        if count(folder, "planes") == 5 and not (Path(folder) / "pid").exists():
            (Path(folder) / "pid").write_text(str(os.getpid()))
            os.kill(os.getppid(), signal.SIGKILL)
            while True:
                pass
    return plane


@function()
def stubborn(plane, *, folder: str):
    """Never end."""
    if os.environ.get("OMP_NUM_THREADS") == "1" and plane.shape[0] != 64:
        count(folder, "begun")
        while True:
            pass
    return plane


@function()
def stop(plane, *, folder: str, times: int):
    """End the process that calls, the first few times."""
    if plane.shape[0] == 96 and count(folder, "deaths") <= times:
        os._exit(1)
    return plane


@function()
def usurp(plane, *, folder: str):
    """Do as if the well were begun again meanwhile, on another computer."""
    if plane.shape[0] == 96 and (Path(folder) / "usurped").exists():
        path = Path(folder) / "out" / "records" / "A01.json"
        path.write_text(path.read_text().replace('"attempt": 1', '"attempt": 2'))
    return plane


@function()
def chatty(plane):
    """Print."""
    print("this goes to the log")
    return plane


@function(axes=Axes.CHANNEL_FIELDS, collapses=frozenset({"field"}))
def growing(channels):
    """Give images whose size depends on what they show."""
    side = 40 + int(next(iter(channels.values()))[0].load()[::7, ::5].sum()) % 20
    return {name: tiles[0].load()[:side, : side + 3] for name, tiles in channels.items()}


@function()
def full(plane):
    """Find the disk full."""
    if os.environ.get("OMP_NUM_THREADS") == "1" and plane.shape[0] != 64:
        raise OSError(28, "No space left on device")
    return plane


class Filling:
    """Find the disk full while learning."""

    def wanted(self, parameters, *, vendor, vendor_dark, available):
        return available

    def reads(self, parameters):
        return ()

    def summarise(self, plane, parameters):
        full(plane)
        return {"mean": plane.mean(keepdims=True)}

    def combine(self, summaries, parameters, *, shape, vendor, vendor_dark):
        return Prepared({})


@function(preparation=Filling())
def learning(plane, *, prepared):
    """Learn."""
    return plane


class Telling(Filling):
    """Tell where summaries are combined, and of how many planes."""

    def summarise(self, plane, parameters):
        return {"mean": plane.mean(keepdims=True)}

    def combine(self, summaries, parameters, *, shape, vendor, vendor_dark):
        return Prepared({}, {"pid": os.getpid(), "planes": len(summaries), "shape": list(shape)})


@function(preparation=Telling())
def taught(plane, *, prepared):
    """Learn, and be told on."""
    return plane


class Dull(Telling):
    """Learn nothing from planes of a real plate."""

    def combine(self, summaries, parameters, *, shape, vendor, vendor_dark):
        if shape[0] == 96:
            raise ValueError("all planes are dull")
        return Prepared({})


@function(preparation=Dull())
def dull(plane, *, prepared):
    """Fail to learn."""
    return plane
'''


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("execution") / "plate"
    synthetic_plate(folder, wells=WELLS, grid=(1, 2), overlap=0.3, z=2, size_px=96, seed=5)
    return folder


@pytest.fixture
def copied(plate: Path, tmp_path: Path) -> Path:
    """Give a plate that the test may spoil."""
    import shutil

    return Path(shutil.copytree(plate, tmp_path / "plate"))


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a module of functions that worker processes can import too."""
    import importlib

    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "misbehaving.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    yield importlib.import_module("misbehaving")
    del sys.modules["misbehaving"]


def planned(plate: Path, pipeline: Pipeline | None = None, **options: Any) -> Plan:
    index = open_plate(plate, cache=False)
    return compile_pipeline(pipeline or default_pipeline(index), index, **options)


def short(*steps: Step) -> Pipeline:
    return Pipeline(Step(project_max), *steps)


def outcomes(result: RunResult) -> dict[str, Outcome]:
    return {well.well: well.outcome for well in result.wells}


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        facts = path.stat()
        digest.update(f"{path}{facts.st_size}{facts.st_mtime_ns}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def contents(out: Path) -> dict[str, bytes]:
    """Give what a run found: images and tables, without what differs from run to run."""
    found = {}
    for folder in ("objects", "image_quality", "illumination", "stitch", "tiles", "stitch_pairs"):
        for path in sorted((out / folder).glob("*.parquet")):
            found[f"{folder}/{path.name}"] = repr(pq.read_table(path).to_pydict()).encode()
    for path in sorted((out / "plate.zarr").rglob("*")):
        if path.is_file():
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process whose parent was killed may stay as a zombie where nobody reaps it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    ended = threading.Event()

    def watch() -> None:
        while not condition():
            pass
        ended.set()

    threading.Thread(target=watch, daemon=True).start()
    assert ended.wait(20)


def test_the_default_pipeline_runs_and_leaves_the_raw_data_alone(
    plate: Path, tmp_path: Path
) -> None:
    before = fingerprint(plate)
    events: list[Event] = []
    plan = planned(plate)
    out = tmp_path / "out"
    result = run(plan, out, on_event=events.append)
    assert outcomes(result) == dict.fromkeys(WELLS, Outcome.OK)
    assert result.completed
    assert fingerprint(plate) == before

    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    ended = [event for event in events if isinstance(event, WellFinished)]
    assert sorted(event.well for event in ended) == sorted(WELLS)
    for well in WELLS:
        steps = [e.step for e in events if isinstance(e, StepFinished) and e.well == well]
        assert steps == [step.name for step in plan.steps]
    (image,) = ended[0].images
    assert (image.name, image.channels, image.labels) == ("stitched", ("DAPI", "GFP"), ("nuclei",))
    assert image.pixel_um == plan.pixel_um

    zarr = out / "plate.zarr"
    assert set(read_plate(zarr).wells) == set(WELLS)
    wells = pq.read_table(out / "wells.parquet").to_pydict()
    assert wells["well"] == list(WELLS)
    for position, well in enumerate(WELLS):
        objects = pq.read_table(out / "objects" / f"{well}.parquet")
        labels = open_labels(zarr, well, "stitched", "nuclei").read()
        assert len(objects) == len(np.unique(labels)) - 1 > 0
        assert wells["count"][position] == len(objects)
        assert open_image(zarr, well, "stitched").read(c=1).shape == labels.shape
        quality = pq.read_table(out / "image_quality" / f"{well}.parquet").to_pydict()
        assert len(quality["well"]) == 2 * 2 * 2
        assert set(quality["z"]) == {0, 1}
        assert "z" not in objects.column_names
    assert {"stitch_verdict", "image_quality_DAPI_mean"} <= set(wells)

    record = load_run(out)
    assert record.pipeline == plan.pipeline
    assert (record.outcome, record.wells) == (Outcome.OK, WELLS)
    document = json.loads((out / "run.json").read_text())
    assert document["versions"]["numpy"] == np.__version__
    assert document["steps"][1]["prepared"]["channels"]["DAPI"]["source"] in ("none", "estimate")

    again: list[Event] = []
    second = run(record.plan(), out, on_event=again.append)
    assert all(well.reused for well in second.wells)
    assert second.completed
    assert not any(isinstance(event, WellStarted | StepFinished) for event in again)


def test_the_number_of_workers_changes_nothing(plate: Path, tmp_path: Path) -> None:
    plan = planned(plate)
    run(plan, tmp_path / "one", workers=1)
    run(plan, tmp_path / "three", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_a_corrupt_plane_costs_its_well_and_no_other(copied: Path, tmp_path: Path) -> None:
    plan = planned(copied, short())
    spoiled = next(plane for plane in plan.index if plane.well == "A02")
    assert spoiled.path is not None
    path = copied / spoiled.path
    path.write_bytes(path.read_bytes()[:200])
    out = tmp_path / "out"
    result = run(plan, out, workers=1)
    assert outcomes(result) == {"A01": Outcome.OK, "A02": Outcome.FAILED, "B03": Outcome.OK}
    assert not result.completed
    failed = result.wells[1]
    assert failed.error is not None
    assert path.name in failed.error
    assert failed.traceback is not None
    log = (out / "run.log").read_text()
    assert "A02: failed" in log
    assert "Traceback" in log
    assert set(read_plate(out / "plate.zarr").wells) == {"A01", "B03"}
    table = pq.read_table(out / "wells.parquet").to_pydict()
    assert table["outcome"] == ["ok", "failed", "ok"]
    assert table["error"][1] == failed.error


def test_a_well_that_cannot_run_is_a_failed_well(copied: Path, tmp_path: Path) -> None:
    index = open_plate(copied, cache=False)
    gone_plane = next(plane for plane in index if plane.well == "B03" and plane.channel == 1)
    assert gone_plane.path is not None
    (copied / gone_plane.path).unlink()
    result = run(planned(copied, short()), tmp_path / "out", workers=1)
    assert outcomes(result)["B03"] is Outcome.FAILED
    assert "missing" in str(result.wells[2].error)
    assert outcomes(result)["A01"] is Outcome.OK


def test_fields_with_missing_planes_may_be_left_out(copied: Path, tmp_path: Path) -> None:
    index = open_plate(copied, cache=False)
    lost = next(plane for plane in index if plane.well == "B03" and plane.field == 1)
    assert lost.path is not None
    (copied / lost.path).unlink()
    pipeline = short(Step(segment_nuclei, channel="DAPI"), Step(measure_objects))
    out = tmp_path / "out"
    result = run(planned(copied, pipeline, missing="skip-group"), out, workers=1)
    assert result.completed
    fields = {
        well: set(pq.read_table(out / "objects" / f"{well}.parquet")["field"].to_pylist())
        for well in ("A01", "B03")
    }
    assert fields == {"A01": {0, 1}, "B03": {0}}
    assert {image.name for image in result.wells[2].images} == {"projectmax0"}


def test_a_worker_killed_once_costs_nothing(plate: Path, tmp_path: Path, functions: Any) -> None:
    events: list[Event] = []
    die = Step(functions.die, folder=str(tmp_path), times=1)
    plan = planned(plate, Pipeline(Step(project_max, keep=True), die))
    result = run(plan, tmp_path / "out", workers=1, on_event=events.append)
    assert result.completed
    (retried,) = [event for event in events if isinstance(event, WellRetried)]
    assert "SIGKILL" in retried.reason
    starts = [e.attempt for e in events if isinstance(e, WellStarted) and e.well == retried.well]
    assert starts == [1, 2]
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_executors_of_the_standard_library_do_the_tasks_too(plate: Path, tmp_path: Path) -> None:
    plan = planned(plate)
    run(plan, tmp_path / "ours", workers=1)
    events: list[Event] = []
    with ThreadPoolExecutor(2) as executor:
        result = run(plan, tmp_path / "theirs", executor=executor, on_event=events.append)
        assert executor.submit(int, "5").result() == 5  # who opened it closes it
    assert result.completed
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")
    for well in WELLS:
        kinds = [type(event) for event in events if getattr(event, "well", None) == well]
        assert kinds == [WellStarted, *[StepFinished] * len(plan.steps), WellFinished]


def test_a_pool_that_breaks_loses_its_wells_and_the_run_returns(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    plan = planned(plate, short(Step(functions.stop, folder=str(tmp_path), times=9, wells="A02")))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        result = run(plan, tmp_path / "out", executor=executor)
    assert outcomes(result) == {"A01": Outcome.OK, "A02": Outcome.LOST, "B03": Outcome.LOST}
    assert "terminated abruptly" in str(result.wells[1].error)
    assert run(plan, tmp_path / "out", workers=1).wells[0].reused


def test_a_task_whose_run_is_over_changes_nothing(plate: Path, tmp_path: Path) -> None:
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._turn import begin_turn

    plan = planned(plate, short(), wells=["A01"])
    out = tmp_path / "out"
    run_id = run(plan, out, workers=1).run_id
    before = contents(out)
    task = WellTask(
        folder=str(out), well="A01", keys={}, reused=(), prepared={}, run_id=run_id, attempt=1
    )
    lost = perform(task)  # as by a worker that was cut off and comes back
    assert lost["outcome"] == "lost"
    assert "is another one there" in lost["error"]
    begin_turn(ResultFolder(out), "next")
    assert perform(replace(task, run_id="next", attempt=2))["outcome"] == "ok"
    assert contents(out) == before


def test_a_task_that_was_begun_again_elsewhere_puts_nothing_in_place(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._turn import begin_turn

    plan = planned(plate, short(Step(functions.usurp, folder=str(tmp_path))), wells=["A01"])
    out = tmp_path / "out"
    assert run(plan, out, workers=1).completed
    (tmp_path / "usurped").touch()
    begin_turn(ResultFolder(out), "next")
    task = WellTask(
        folder=str(out), well="A01", keys={}, reused=(), prepared={}, run_id="next", attempt=1
    )
    assert perform(task)["outcome"] == "cancelled"
    assert json.loads((out / "records" / "A01.json").read_text())["attempt"] == 2
    assert not list(out.rglob("*.partial"))


def test_a_well_whose_worker_dies_twice_is_lost_and_the_run_is_not_complete(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    die = Step(functions.die, folder=str(tmp_path), times=2, wells="A01")
    plan = planned(plate, short(die))
    out = tmp_path / "out"
    result = run(plan, out, workers=1)
    assert outcomes(result) == {"A01": Outcome.LOST, "A02": Outcome.OK, "B03": Outcome.OK}
    assert result.outcome is Outcome.FAILED
    assert "SIGKILL" in str(result.wells[0].error)
    assert load_run(out, functions=[functions.die]).outcomes["A01"] is Outcome.LOST
    second = run(plan, out, workers=1)
    assert second.completed
    assert [well.reused for well in second.wells] == [False, True, True]


RUN = """
import sys
from pathlib import Path
from openhcs.execution import run
from openhcs.functions import project_max
from openhcs.pipeline import Pipeline, Step, compile_pipeline
from openhcs.plates import open_plate
import misbehaving

index = open_plate(sys.argv[1], cache=False)
step = Step(misbehaving.orphan, folder=sys.argv[3])
plan = compile_pipeline(Pipeline(Step(project_max), step), index)
run(plan, sys.argv[2], workers=1)
"""


def test_a_run_that_was_killed_leaves_no_process_and_is_taken_up_again(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    out = tmp_path / "out"
    killed = subprocess.run(
        [sys.executable, "-c", RUN, str(plate), str(out), str(tmp_path)], check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: gone(pid))
    assert load_run(out, functions=[functions.orphan]).outcome is None
    plan = planned(plate, short(Step(functions.orphan, folder=str(tmp_path))))
    result = run(plan, out, workers=1)
    assert result.completed
    assert [well.reused for well in result.wells] == [True, False, False]
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]


def test_cancelling_keeps_what_is_finished(plate: Path, tmp_path: Path) -> None:
    cancel = threading.Event()
    out = tmp_path / "out"
    events: list[Event] = []

    def stop_after_one(event: Event) -> None:
        events.append(event)
        if isinstance(event, WellFinished):
            cancel.set()

    result = run(planned(plate, short()), out, workers=1, on_event=stop_after_one, cancel=cancel)
    assert result.outcome is Outcome.CANCELLED
    assert outcomes(result)["A01"] is Outcome.OK
    assert Outcome.CANCELLED in outcomes(result).values()
    assert set(outcomes(result)) == set(WELLS)
    second = run(planned(plate, short()), out, workers=1)
    assert second.completed
    assert second.wells[0].reused


def test_cancelled_before_it_began_every_well_has_a_result(plate: Path, tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    result = run(planned(plate), tmp_path / "out", workers=1, cancel=cancel)
    assert outcomes(result) == dict.fromkeys(WELLS, Outcome.CANCELLED)


def test_a_task_that_does_not_stop_is_ended(plate: Path, tmp_path: Path, functions: Any) -> None:
    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._turn import begin_turn
    from openhcs.execution._work import write_work

    plan = planned(plate, short(Step(functions.stubborn, folder=str(tmp_path))))
    folder = ResultFolder(tmp_path / "out")
    with folder.opened(plate), (tmp_path / "log").open("wb") as log:
        write_work(folder, plan)
        begin_turn(folder, "r")
        task = WellTask(
            folder=str(folder.root), well="A01", keys={}, reused=(), prepared={}, run_id="r"
        )
        from openhcs.execution._plate import lay_out

        lay_out(plan, folder)
        with LocalExecutor(2, log, grace=0.1) as executor:
            futures = [executor.submit(perform, task) for _ in range(3)]
            wait_until(lambda: (tmp_path / "begun").exists())
            for future in futures:
                future.cancel()
            records = [_result(future) for future in futures]
            pids = executor.pids
        assert set(records) == {"cancelled"}
        assert all(map(gone, pids))


def _result(future: Future[dict[str, Any]]) -> str:
    try:
        return str(future.result(20)["outcome"])
    except Exception as error:  # noqa: BLE001  # the kind is the point
        return "cancelled" if type(error).__name__ == "CancelledError" else repr(error)


def test_what_functions_print_is_in_the_log(plate: Path, tmp_path: Path, functions: Any) -> None:
    out = tmp_path / "out"
    result = run(planned(plate, short(Step(functions.chatty)), wells=["A01"]), out, workers=1)
    assert result.completed
    assert "this goes to the log" in (out / "run.log").read_text()


def test_a_full_disk_stops_the_run_and_says_so(plate: Path, tmp_path: Path, functions: Any) -> None:
    result = run(planned(plate, short(Step(functions.full))), tmp_path / "out", workers=1)
    assert result.outcome is Outcome.FAILED
    assert "full: free space and give the same command" in str(result.reason)
    assert outcomes(result)["A01"] is Outcome.FAILED
    assert set(outcomes(result).values()) <= {Outcome.FAILED, Outcome.CANCELLED}


def test_a_disk_that_fills_up_while_a_step_learns_is_said_to_be_full(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    plan = planned(plate, Pipeline(Step(functions.learning)))
    result = run(plan, tmp_path / "out", workers=1)
    assert result.outcome is Outcome.FAILED
    assert "full: free space and give the same command" in str(result.reason)
    assert set(outcomes(result).values()) == {Outcome.CANCELLED}
    assert json.loads((tmp_path / "out" / "run.json").read_text())["reason"] == result.reason


def test_what_is_learned_of_a_plate_is_made_by_workers_channel_by_channel(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    plan = planned(plate, Pipeline(Step(functions.taught)))
    assert run(plan, tmp_path / "out", workers=2).completed
    note = json.loads((tmp_path / "out" / "prepared" / "taught" / "note.json").read_text())
    assert list(note["channels"]) == list(plan.channels)
    for found in note["channels"].values():
        assert found["pid"] != os.getpid()
        assert found["planes"] == len(WELLS) * 2  # fields
        assert found["shape"] == [96, 96]
    assert not [*(tmp_path / "out" / "work").glob("summaries-*")]


def test_a_channel_that_nothing_can_be_learned_from_is_named(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    plan = planned(plate, Pipeline(Step(functions.dull)))
    with pytest.raises(RunError, match=r"dull cannot learn from channel \w+: all planes are dull"):
        run(plan, tmp_path / "out", workers=1)
    assert "all planes are dull" in (tmp_path / "out" / "run.log").read_text()
    assert not [*(tmp_path / "out" / "work").glob("summaries-*")]


def test_one_folder_serves_one_run_at_a_time(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = planned(plate, short())
    refused: list[str] = []

    def second(event: Event) -> None:
        if isinstance(event, RunStarted):
            with pytest.raises(ResultFolderError) as caught:
                run(plan, out, workers=1)
            refused.append(str(caught.value))

    assert run(plan, out, workers=1, on_event=second).completed
    assert f"in use by process {os.getpid()}" in refused[0]


@pytest.mark.parametrize("place", ["inside", "foreign", "file"])
def test_a_folder_that_is_not_for_results_is_refused(
    plate: Path, tmp_path: Path, place: str
) -> None:
    plan = planned(plate, short())
    before = fingerprint(plate)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("a file")
    out = {"inside": plate / "out", "foreign": foreign, "file": tmp_path / "file"}[place]
    with pytest.raises(ResultFolderError):
        run(plan, out)
    assert fingerprint(plate) == before
    assert (foreign / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("blocked", ["", ".lock", "records", "run.log", "work"])
def test_a_folder_that_cannot_be_written_to_is_refused(
    plate: Path, tmp_path: Path, blocked: str
) -> None:
    # Where permissions stop nobody, as with root, something else has to be in the way.
    out = tmp_path / "file" / "out"
    if blocked:
        out = tmp_path / "out"
        (out / "run.log" if blocked in {".lock", "run.log"} else out).mkdir(parents=True)
        (out / ".lock").mkdir() if blocked == ".lock" else (out / ".lock").touch()
        if blocked in {"records", "work"}:
            (out / blocked).write_text("in the way")
    else:
        (tmp_path / "file").touch()
    with pytest.raises(ResultFolderError, match=str(out)):
        run(planned(plate, short()), out)


def test_a_worker_that_cannot_begin_is_reported(tmp_path: Path) -> None:
    task = WellTask(folder=str(tmp_path), well="A01", keys={}, reused=(), prepared={}, run_id="r")
    with (tmp_path / "log").open("wb") as log, LocalExecutor(1, log) as executor:
        record = executor.submit(perform, task).result(30)
        assert record["outcome"] == "failed"
        assert "plan.json" in record["error"]


def test_a_task_is_small_however_large_the_plate() -> None:
    from openhcs.execution._worker import encode_task

    keys = {f"step_{number}": "0" * 32 for number in range(50)}
    task = WellTask(
        folder="/" + "x" * 200, well="AF48", keys=keys, reused=tuple(keys), prepared={}, run_id="r"
    )
    assert len(encode_task(task)) < 20_000


def test_without_a_result_the_error_says_how_the_worker_ended() -> None:
    assert issubclass(WorkerLostError, RuntimeError)


def test_stitching_and_illumination_agree_with_a_plain_loop(plate: Path, tmp_path: Path) -> None:
    steps: Sequence[Step] = (
        Step(measure_image_quality),
        Step(correct_illumination, source="none"),
        Step(project_max),
        Step(stitch, reference="DAPI"),
    )
    out = tmp_path / "out"
    plan = planned(plate, Pipeline(*steps), wells=["A01"])
    run(plan, out, workers=1)
    from openhcs.functions import Tile

    tiles: dict[str, list[Tile]] = {}
    for channel, name in enumerate(plan.channels):
        for field in plan.index.fields:
            planes = list(plan.index.select(fields=[field], channels=[channel]))
            best = np.maximum(*(plan.index.read(plane) for plane in planes))
            place = planes[0]
            tiles.setdefault(name, []).append(
                Tile(field=field, x_um=place.x_um, y_um=place.y_um, load=best.copy)
            )
    assert plan.pixel_um is not None
    expected = stitch(tiles, pixel_um=plan.pixel_um, reference="DAPI").image
    for number, name in enumerate(plan.channels):
        found = open_image(out / "plate.zarr", "A01", "stitched").read(c=number)
        assert np.array_equal(found, expected[name])


def test_images_of_unlike_sizes_over_time_are_stored_and_taken_over_whole(
    tmp_path: Path, functions: Any
) -> None:
    folder = tmp_path / "moving"
    synthetic_plate(folder, wells=("A01",), grid=(1, 2), z=1, t=3, size_px=96, seed=8)
    out = tmp_path / "out"
    steps = (Step(functions.growing), Step(segment_nuclei, channel="DAPI"))
    plan = planned(folder, Pipeline(*steps, Step(measure_objects)))
    assert run(plan, out, workers=1).completed
    image = open_image(out / "plate.zarr", "A01", "growing")
    labels = open_labels(out / "plate.zarr", "A01", "growing", "nuclei")
    assert image.shapes[0][:3] == (3, 2, 1)
    assert labels.shapes[0][-2:] == image.shapes[0][-2:]
    sides = {int(np.count_nonzero(image.read(t=t).any(axis=1))) for t in range(3)}
    assert len(sides) > 1
    before = pq.read_table(out / "objects" / "A01.parquet")
    path = out / "objects" / "A01.parquet"
    path.unlink()
    assert run(plan, out, workers=1).completed
    assert pq.read_table(path).equals(before)


def test_a_result_that_cannot_be_saved_fails_its_well(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plan = planned(plate, short(Step(measure_image_quality)))
    assert run(plan, out, workers=1).completed
    (out / "image_quality" / "A02.parquet").unlink()
    (out / "image_quality" / "A02.parquet").mkdir()
    (out / "image_quality" / "A02.parquet" / "mine").write_text("in the way")
    result = run(plan, out, workers=1)
    assert outcomes(result) == {"A01": Outcome.OK, "A02": Outcome.FAILED, "B03": Outcome.OK}
    assert "A02.parquet" in str(result.wells[1].error)
