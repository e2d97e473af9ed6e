"""Runs on a Dask cluster of real processes, which are killed, cut off, and never fitted."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from openhcs._errors import ClusterError
from openhcs.execution import DaskExecutor, RunResult, WellTask, perform, run
from openhcs.functions import project_max
from openhcs.pipeline import (
    Event,
    Outcome,
    Pipeline,
    Plan,
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

if TYPE_CHECKING:
    from collections.abc import Iterator

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.timeout(240)  # clusters start slowly on a busy computer

WELLS = ("A01", "A02", "B03", "B04")

FUNCTIONS = '''
"""Functions that misbehave on purpose, where a Dask worker calls them."""
from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from openhcs.functions import function


def there(plane):
    """Say whether this is a real plane, and not one that compiling tries."""
    return plane.shape[0] == 96


def count(folder, name):
    with open(Path(folder) / name, "ab") as stream:
        stream.write(b"x")
        return stream.tell()


@function()
def die(plane, *, folder: str, times: int):
    """Kill the process that calls, the first few times."""
    if there(plane) and count(folder, "deaths") <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return plane


@function()
def wait(plane, *, folder: str):
    """Wait until a file is there."""
    if there(plane):
        count(folder, "begun")
        while not (Path(folder) / "go").exists():
            time.sleep(0.01)
    return plane


@function()
def swell(plane):
    """Take up all memory."""
    held = []
    while there(plane):
        held.append(bytearray(os.urandom(1)) * 20_000_000)
        time.sleep(0.02)
    return plane
'''


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dask") / "plate"
    synthetic_plate(folder, wells=WELLS, grid=(1, 2), overlap=0.3, z=2, size_px=96, seed=5)
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder of modules that workers can import too."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "clustered.py").write_text(FUNCTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        yield folder
    sys.modules.pop("clustered", None)


@pytest.fixture(scope="module")
def functions(modules: Path) -> Any:  # noqa: ARG001  # where it is found
    import importlib

    return importlib.import_module("clustered")


@pytest.fixture(scope="module")
def cluster(modules: Path) -> Iterator[Any]:  # noqa: ARG001  # its workers look there too
    """Give two workers with nannies, which restart what is killed."""
    with local_cluster(2) as cluster:
        yield cluster


@contextmanager
def local_cluster(workers: int, **options: Any) -> Iterator[Any]:
    # Dask closes a nanny whose worker is not there 15 s after it died: the next one, here
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with (
        patient,
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            silence_logs=50,
            **options,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Give a scheduler in a process of its own, which can be killed."""
    place = tmp_path / "scheduler.json"
    command = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    with program(*command, "--no-dashboard", "--scheduler-file", str(place)) as process:
        address = wait_for(lambda: _address(place))
        yield process, address


def _address(place: Path) -> str | None:
    import json

    with suppress(OSError, ValueError):
        return str(json.loads(place.read_text())["address"])
    return None


@contextmanager
def program(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command], stderr=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def worker(address: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker without a nanny."""
    command = ["distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
    with program(*command, "--no-dashboard", **options) as process:
        yield process


def wait_for(condition: Any, seconds: float = 60) -> Any:
    """Wait until something is there, and give it."""
    found: list[Any] = []
    ended = threading.Event()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            value = condition()
            if value:
                found.append(value)
                ended.set()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        assert ended.wait(seconds)
    finally:
        stop.set()
    return found[0]


def planned(plate: Path, pipeline: Pipeline | None = None, **options: Any) -> Plan:
    index = open_plate(plate, cache=False)
    return compile_pipeline(pipeline or default_pipeline(index), index, **options)


def short(*steps: Step) -> Pipeline:
    return Pipeline(Step(project_max, keep=True), *steps)


def outcomes(result: RunResult) -> dict[str, Outcome]:
    return {well.well: well.outcome for well in result.wells}


def contents(out: Path) -> dict[str, bytes]:
    """Give every file that a run found something for, without what differs from run to run."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and name.split("/")[0] not in (
            "records", "work", "run.json", "run.log", "wells.parquet", ".lock", "prepared",
        ):  # fmt: skip
            found[name] = path.read_bytes()
    return found


def test_a_cluster_gives_what_local_processes_give_to_the_byte(
    plate: Path, tmp_path: Path, cluster: Any
) -> None:
    plan = planned(plate)
    events: list[Event] = []
    run(plan, tmp_path / "local", workers=2)
    with DaskExecutor(cluster) as executor:
        assert executor.workers == 2
        result = run(plan, tmp_path / "dask", executor=executor, on_event=events.append)
    assert result.completed
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "local")) > 20
    for well in WELLS:
        of_well = [event for event in events if getattr(event, "well", None) == well]
        assert isinstance(of_well[0], WellStarted)
        steps = [event.step for event in of_well if isinstance(event, StepFinished)]
        assert steps == [step.name for step in plan.steps]
        assert isinstance(of_well[-1], WellFinished)
    assert not list((tmp_path / "dask").rglob("*.partial"))
    # The scheduler hears of a task when it is begun, and then no oftener than once a second.
    said = [message for _, message in cluster.scheduler.get_events("openhcs")]
    ours = [message for message in said if message["run"] == result.run_id]
    begun = [message["task"] for message in ours if message["kind"] == "begun"]
    assert set(WELLS) <= set(begun)
    assert len(ours) - len(begun) <= sum(well.seconds for well in result.wells)


def test_the_command_lets_the_cluster_do_the_tasks(
    plate: Path, tmp_path: Path, cluster: Any
) -> None:
    words = [sys.executable, "-m", "openhcs", "run", str(plate), "--wells", "A*"]
    words += ["--dask", cluster.scheduler_address, "--out", str(tmp_path / "dask")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 wells: 2 ok" in done.stdout
    run(planned(plate, wells=["A01", "A02"]), tmp_path / "local", workers=2)
    found = contents(tmp_path / "dask")
    assert found.pop("report.html")
    assert found.pop("scores.parquet")
    assert found == contents(tmp_path / "local")
    refused = subprocess.run(
        [*words, "--workers", "2"], capture_output=True, text=True, timeout=120, check=False
    )
    assert refused.returncode == 2
    assert "leave --workers out" in refused.stderr


def test_a_killed_workers_well_is_begun_again(
    plate: Path, tmp_path: Path, cluster: Any, functions: Any
) -> None:
    events: list[Event] = []
    die = Step(functions.die, folder=str(tmp_path), times=1, wells="A02")
    with DaskExecutor(cluster) as executor:
        result = run(
            planned(plate, short(die)), tmp_path / "out", executor=executor, on_event=events.append
        )
    assert result.completed
    (retried,) = [event for event in events if isinstance(event, WellRetried)]
    assert retried.well == "A02"
    assert "was lost" in retried.reason
    assert "process " in retried.reason
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_well_whose_worker_is_killed_twice_is_lost_and_the_others_are_whole(
    plate: Path, tmp_path: Path, cluster: Any, functions: Any
) -> None:
    die = Step(functions.die, folder=str(tmp_path), times=99, wells="A02")
    plan = planned(plate, short(die))
    with DaskExecutor(cluster) as executor:
        result = run(plan, tmp_path / "out", executor=executor)
    assert outcomes(result) == {**dict.fromkeys(WELLS, Outcome.OK), "A02": Outcome.LOST}
    assert "was lost" in str(result.wells[1].error)
    # Dask's scheduler would have tried four times by itself
    assert (tmp_path / "deaths").stat().st_size == 2


def test_a_worker_without_memory_is_lost_for_that_reason(
    plate: Path, tmp_path: Path, functions: Any
) -> None:
    plan = planned(plate, short(Step(functions.swell)), wells=["A01"])
    with local_cluster(1, memory_limit="700MB") as small, DaskExecutor(small) as executor:
        result = run(plan, tmp_path / "out", executor=executor)
    assert outcomes(result) == {"A01": Outcome.LOST}
    assert "near its memory limit" in str(result.wells[0].error)


def test_cancelling_one_run_leaves_the_others_alone(
    plate: Path, tmp_path: Path, cluster: Any, functions: Any
) -> None:
    results: dict[str, RunResult] = {}
    cancel = threading.Event()
    plans = {}
    for name in ("kept", "dropped"):
        (tmp_path / name).mkdir()
        step = Step(functions.wait, folder=str(tmp_path / name))
        plans[name] = planned(plate, short(step), wells=["A01", "A02"])

    def one(name: str) -> None:
        with DaskExecutor(cluster) as executor:
            results[name] = run(
                plans[name],
                tmp_path / name / "out",
                executor=executor,
                cancel=cancel if name == "dropped" else None,
            )

    threads = [threading.Thread(target=one, args=(name,)) for name in plans]
    for name, thread in zip(plans, threads, strict=True):
        thread.start()
        if name == "kept":  # one worker for each; its second well comes when there is one again
            wait_for((tmp_path / name / "begun").exists)
            (tmp_path / name / "go").touch()
    wait_for((tmp_path / "dropped" / "begun").exists)
    cancel.set()
    threads[0].join(60)
    wait_for(lambda: b'"going":0' in turn(tmp_path / "dropped").replace(b" ", b""))
    (tmp_path / "dropped" / "go").touch()
    threads[1].join(60)
    assert outcomes(results["kept"]) == dict.fromkeys(("A01", "A02"), Outcome.OK)
    assert set(outcomes(results["dropped"]).values()) == {Outcome.CANCELLED}
    assert results["dropped"].outcome is Outcome.CANCELLED
    assert not list((tmp_path / "dropped").rglob("*.partial"))


def turn(folder: Path) -> bytes:
    return (folder / "out" / "work" / "turn.json").read_bytes()


def test_when_the_scheduler_is_killed_the_run_returns_and_is_taken_up_again(
    plate: Path,
    tmp_path: Path,
    scheduler: tuple[subprocess.Popen[bytes], str],
    functions: Any,
) -> None:
    process, address = scheduler
    out = tmp_path / "out"
    step = Step(functions.wait, folder=str(tmp_path), wells="A02,B03,B04")
    plan = planned(plate, short(step))

    def kill(event: Event) -> None:
        if isinstance(event, WellStarted) and event.well != "A01":
            process.kill()

    with worker(address), DaskExecutor(address, wait_s=180) as executor:
        result = run(plan, out, executor=executor, on_event=kill)
        assert outcomes(result) == {**dict.fromkeys(WELLS, Outcome.LOST), "A01": Outcome.OK}
        assert f"scheduler at {address} is gone" in str(result.wells[1].error)
        (tmp_path / "go").touch()
        again = run(plan, out, workers=1)
    assert again.completed
    assert [well.reused for well in again.wells] == [True, False, False, False]


def test_workers_of_another_version_are_refused(
    plate: Path, tmp_path: Path, scheduler: tuple[Any, str], modules: Path
) -> None:
    older = tmp_path / "older"
    (older / "openhcs-0.0.1.dist-info").mkdir(parents=True)
    (older / "openhcs-0.0.1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: openhcs\nVersion: 0.0.1\n"
    )
    plan = planned(plate, short(), wells=["A01"])
    environment = {**os.environ, "PYTHONPATH": f"{older}:{modules}"}
    with (
        worker(scheduler[1], env=environment),
        DaskExecutor(scheduler[1], wait_s=180) as executor,
        pytest.raises(ClusterError, match=r"worker tcp://.* openhcs is 0\.0\.1 there"),
    ):
        run(plan, tmp_path / "out", executor=executor)
    assert not (tmp_path / "out" / "records" / "A01.json").exists()


def test_workers_with_another_version_of_a_function_are_refused(
    plate: Path, tmp_path: Path, scheduler: tuple[Any, str], functions: Any
) -> None:
    (tmp_path / "clustered.py").write_text(FUNCTIONS.replace("@function()", "@function(version=2)"))
    plan = planned(plate, short(Step(functions.wait, folder=str(tmp_path))), wells=["A01"])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with (
        worker(scheduler[1], env=environment),
        DaskExecutor(scheduler[1], wait_s=180) as executor,
        pytest.raises(ClusterError, match="wait is version 2 here, but version 1 was planned"),
    ):
        run(plan, tmp_path / "out", executor=executor)


def test_workers_that_read_a_module_before_it_was_edited_are_refused(
    plate: Path, tmp_path: Path, scheduler: tuple[Any, str], functions: Any
) -> None:
    file = Path(functions.__file__)
    text = file.read_text()
    pipeline = short(Step(functions.wait, folder=str(tmp_path)))
    (tmp_path / "go").touch()
    with worker(scheduler[1]), DaskExecutor(scheduler[1], wait_s=180) as executor:
        plan = planned(plate, pipeline, wells=["A01"])
        assert run(plan, tmp_path / "out", executor=executor).completed
        file.write_text(f"{text}\n# edited\n")
        try:
            plan = planned(plate, pipeline, wells=["A01"])
            with pytest.raises(ClusterError, match="clustered was edited after it was read there"):
                run(plan, tmp_path / "out", executor=executor)
        finally:
            file.write_text(text)


@pytest.mark.parametrize("there", ["nothing", "another"])
def test_workers_that_do_not_see_the_very_folder_are_refused(
    plate: Path,
    tmp_path: Path,
    scheduler: tuple[Any, str],
    monkeypatch: pytest.MonkeyPatch,
    there: str,
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    plan = planned(plate, short(), wells=["A01"])
    if there == "another":
        run(plan, elsewhere / "out", workers=1)
    monkeypatch.chdir(here)
    # each process sees a folder of its own there, as each computer of a cluster has its own disk
    out = Path("/proc/self/cwd/out")
    with (
        worker(scheduler[1], cwd=elsewhere),
        DaskExecutor(scheduler[1], wait_s=180) as executor,
        pytest.raises(ClusterError) as caught,
    ):
        run(plan, out, executor=executor)
    assert "worker tcp://" in str(caught.value)
    lack = "cannot be seen" if there == "nothing" else "is another one there"
    assert f"the result folder {out} {lack}" in str(caught.value)


def test_without_workers_the_run_goes_on_for_a_while_only(
    plate: Path, tmp_path: Path, scheduler: tuple[Any, str], functions: Any
) -> None:
    plan = planned(plate, short(Step(functions.wait, folder=str(tmp_path))), wells=["A01"])
    with (
        worker(scheduler[1]) as only,
        DaskExecutor(scheduler[1], wait_s=180, patience_s=0.2) as executor,
    ):

        def kill(event: Event) -> None:
            if isinstance(event, WellStarted):
                only.kill()

        result = run(plan, tmp_path / "out", executor=executor, on_event=kill)
        assert outcomes(result) == {"A01": Outcome.LOST}
        assert "had no worker for" in str(result.wells[0].error)


def test_a_cluster_without_workers_or_scheduler_is_told(
    plate: Path, tmp_path: Path, scheduler: tuple[Any, str]
) -> None:
    plan = planned(plate, short())
    with (
        DaskExecutor(scheduler[1], wait_s=0.2) as executor,
        pytest.raises(ClusterError, match="has no workers"),
    ):
        run(plan, tmp_path / "out", executor=executor)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        DaskExecutor("tcp://127.0.0.1:9", wait_s=0.2)


def test_only_tasks_are_done(cluster: Any) -> None:
    with DaskExecutor(cluster) as executor:
        with pytest.raises(TypeError, match=r"submit\(perform, task\)"):
            executor.submit(os.getpid)
        executor.shutdown()
        task = WellTask(folder="/", well="A01", keys={}, reused=(), prepared={}, run_id="r")
        with pytest.raises(RuntimeError, match="shut down"):
            executor.submit(perform, task)
