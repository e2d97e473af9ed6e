"""Runs in jobs of a real SLURM, whose jobs end, whose node is drained and whose controller dies."""

from __future__ import annotations

import os
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from tests.openhcs.slurm_site import MISSING, SlurmSite

from openhcs._errors import ClusterError
from openhcs.cli import main
from openhcs.execution import RunResult, SlurmJobs, run, slurm_executor
from openhcs.pipeline import (
    Event,
    Outcome,
    Plan,
    WellFinished,
    WellRetried,
    compile_pipeline,
    default_pipeline,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

if MISSING:
    pytest.skip(f"{', '.join(MISSING)}: not installed", allow_module_level=True)
if find_spec("dask_jobqueue") is None:  # importing it here would take Ctrl-C for itself
    pytest.skip("dask_jobqueue is not installed", allow_module_level=True)
pytestmark = pytest.mark.timeout(300)  # jobs start slowly on a busy computer

WELLS = tuple(f"{row}{column:02d}" for row in "AB" for column in range(1, 7))
LOOPBACK = {"interface": "lo"}


@pytest.fixture(scope="module")
def site() -> Iterator[SlurmSite]:
    """A site of this module's own."""
    before = os.environ.get("SLURM_CONF")
    with SlurmSite() as started:
        os.environ["SLURM_CONF"] = str(started.conf)
        try:
            yield started
        finally:
            if before is None:
                del os.environ["SLURM_CONF"]
            else:
                os.environ["SLURM_CONF"] = before


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A plate of twelve small wells and the default pipeline."""
    folder = tmp_path_factory.mktemp("plates") / "plate"
    synthetic_plate(folder, wells=WELLS, grid=(1, 2), z=1, size_px=96, cells_per_field=4)
    return compile_pipeline(default_pipeline(), open_plate(folder))


def jobs(per_job: int = 1, **options: Any) -> SlurmJobs:
    return SlurmJobs(
        workers=2, per_job=per_job, memory="1GB", options={**LOOPBACK, **options}, ask_s=1.0
    )


def in_jobs(
    plan: Plan, out: Path, asked: SlurmJobs, on_event: Callable[[Event], None] = lambda _: None
) -> RunResult:
    with slurm_executor(asked, out.parent / "shared") as executor:
        while not executor.wait_for_worker(1.0):
            pass
        return run(plan, out, executor=executor, on_event=on_event)


def after_wells(count: int, act: Callable[[], object]) -> Callable[[Event], None]:
    """Do something once, when so many wells are finished."""
    finished: list[str] = []

    def look(event: Event) -> None:
        if isinstance(event, WellFinished):
            finished.append(event.well)
            if len(finished) == count:
                act()

    return look


def objects(out: Path) -> Any:
    return pq.read_table(out / "wells.parquet").drop_columns(["seconds"])


def test_a_run_in_jobs_gives_what_a_run_here_gives(
    site: SlurmSite, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "cwd"
    here.mkdir()
    monkeypatch.chdir(here)
    result = in_jobs(plan, tmp_path / "jobs", jobs(per_job=2))
    assert result.completed
    assert run(plan, tmp_path / "local").completed
    assert objects(tmp_path / "jobs").equals(objects(tmp_path / "local"))
    assert not list(here.iterdir())  # what jobs print lies with the results
    assert list((tmp_path / "shared" / "logs").glob("openhcs-*.err"))
    wait_until(lambda: not site.jobs())


def test_jobs_that_end_in_mid_run_are_submitted_anew(
    site: SlurmSite, plan: Plan, tmp_path: Path
) -> None:
    seen: list[Event] = []
    first: list[str] = []

    def end_all() -> None:
        first.extend(site.jobs())
        site.run("scancel", *first)

    act = after_wells(2, end_all)

    def on_event(event: Event) -> None:
        seen.append(event)
        act(event)

    result = in_jobs(plan, tmp_path / "out", jobs(), on_event)
    assert result.completed
    assert len(first) == 2
    assert any(isinstance(event, WellRetried) for event in seen)
    logs = tmp_path / "shared" / "logs"
    assert len(list(logs.glob("openhcs-*.err"))) >= 4


def test_a_controller_that_dies_in_mid_run_changes_nothing(
    site: SlurmSite, plan: Plan, tmp_path: Path
) -> None:
    result = in_jobs(plan, tmp_path / "out", jobs(), after_wells(2, site.kill_controller))
    try:
        assert result.completed
        assert not any(well.outcome is Outcome.LOST for well in result.wells)
    finally:
        site.start_controller()
        wait_until(lambda: site.run("sinfo", "--noheader", "--format=%T") in {"idle", "mixed"})
        site.run("scancel", f"--user={os.getuid()}")  # nobody could, while it was away


def test_what_slurm_refuses_is_said_in_its_words(
    site: SlurmSite, plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = tmp_path / "cluster.toml"
    options.write_text('queue = "nowhere"\ninterface = "lo"\n')
    words = ["--slurm", "--workers", "2", "--job-memory", "1GB", "--slurm-options", str(options)]
    assert main(["run", str(plan.index.root), "--out", str(tmp_path / "out"), *words]) != 0
    assert "SLURM takes no jobs: sbatch: error: invalid partition" in capsys.readouterr().err
    assert not site.jobs()


def test_jobs_that_end_before_they_have_a_worker_are_not_submitted_for_ever(
    site: SlurmSite, plan: Plan, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such module: distributed >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(ClusterError, match=r"before they had a worker; .* no such module"):
        in_jobs(plan, tmp_path / "out", jobs(python=str(broken)))
    assert not site.jobs()


def test_what_jobs_wait_for_is_told_and_waiting_does_not_end_a_run(
    site: SlurmSite, plan: Plan, tmp_path: Path
) -> None:
    told: list[str] = []
    site.drain("cleaning")
    try:
        with slurm_executor(jobs(), tmp_path / "slurm", tell=told.append) as executor:
            assert not executor.wait_for_worker(0.1)
            wait_until(lambda: bool(told))
            assert "Jobs that wait in SLURM's queue: " in told[0]
            site.resume()
            while not executor.wait_for_worker(1.0):
                pass
            assert run(plan, tmp_path / "out", executor=executor).completed
    finally:
        site.resume()


def wait_until(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(600):
        if condition():
            return
        waiting.wait(0.1)
    pytest.fail("what was waited for did not come")
