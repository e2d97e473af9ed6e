"""Runs on a server when something breaks: the server, who follows, the link, one at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from tests.openhcs.server.served_runs import (
    PIPELINE,
    SOON,
    WELLS,
    Program,
    Serve,
    Watched,
    connected,
    every_well_is_done_once,
    order,
)

from openhcs.execution import ResultFolder
from openhcs.pipeline import Outcome, RunStarted, WellFinished
from openhcs.results import open_results
from openhcs.server import RunClient, fetch_results
from openhcs.testing import synthetic_plate
from zmqruntime.execution import ExecutionStatus, ServerLost
from zmqruntime.testing import free_endpoint, proxy_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openhcs.pipeline import Event

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def done(events: list[Event]) -> list[str]:
    """Name the wells that were done, and not taken over from before."""
    ended = [event for event in events if isinstance(event, WellFinished)]
    return [event.well for event in ended if event.outcome is Outcome.OK and not event.reused]


def begun(events: list[Event]) -> int:
    return sum(isinstance(event, RunStarted) for event in events)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_run_goes_on_when_its_server_is_back(
    program: Program, tmp_path: Path, number: signal.Signals
) -> None:
    with connected(program) as client:
        run = Watched(client, client.submit_run(order()).job)
        run.wait_for(lambda events: bool(done(events)))
        workers = psutil.Process(program.pid).children(recursive=True)
        program.end(number)
        gone, alive = psutil.wait_procs(workers, SOON)
        assert gone
        assert not alive  # whoever starts the server again does not meet the run of before
        program.start()
        assert run.ended().state is ExecutionStatus.COMPLETED
        assert begun(run.events) == 2
        assert every_well_is_done_once(run.events)
        fetch_results(client, "mine", tmp_path / "home")
        assert open_results(tmp_path / "home").completed


def test_a_forced_run_keeps_what_it_did_itself_before_its_server_ended(program: Program) -> None:
    with connected(program) as client:
        Watched(client, client.submit_run(order()).job).ended()
        run = Watched(client, client.submit_run(order(force=True)).job)
        run.wait_for(lambda events: bool(done(events)))
        program.end(signal.SIGTERM)
        program.start()
        assert run.ended().state is ExecutionStatus.COMPLETED
        assert begun(run.events) == 2
        assert every_well_is_done_once(run.events)
        assert sorted(done(run.events)) == list(WELLS)  # and none is of the first run
        (reused,) = {
            event.done for event in run.events if isinstance(event, RunStarted) and event.done
        }
        assert set(reused) <= set(done(run.events))


@pytest.mark.parametrize("cancels", [False, True], ids=["has its turn", "is cancelled"])
def test_a_run_waits_for_another_with_the_same_results(
    serve: Serve, tmp_path: Path, cancels: bool
) -> None:
    client = serve()
    there = tmp_path / "results" / "local" / "mine"
    with ResultFolder(there).held():
        job = client.submit_run(order()).job
        next(event for event in client.events(job, timeout=SOON) if "waits" in event.message)
        if cancels:
            client.cancel(job)
            assert client.wait(job, SOON).state is ExecutionStatus.CANCELLED
            return
    assert client.wait(job, SOON).state is ExecutionStatus.COMPLETED
    assert client.result(job)["outcome"] == "ok"


def test_runs_that_are_submitted_with_the_same_results_are_all_done(
    serve: Serve, tmp_path: Path
) -> None:
    client = serve(runs=2)
    with RunClient(client.endpoint) as other:
        other.connect_or_raise(SOON)
        jobs = [each.submit_run(order(force=each is other)).job for each in (client, other)]
        records = [client.wait(job, SOON) for job in jobs]
    assert [record.state for record in records] == [ExecutionStatus.COMPLETED] * 2
    assert [client.result(job)["outcome"] for job in jobs] == ["ok"] * 2
    assert open_results(tmp_path / "results" / "local" / "mine").completed


def test_a_run_that_waited_has_its_turn_after_the_server_was_killed(program: Program) -> None:
    with connected(program) as client:
        first = Watched(client, client.submit_run(order("first")).job)
        first.wait_for(lambda events: bool(events))
        second = client.submit_run(order("second"))
        program.end(signal.SIGKILL)
        program.start()
        assert first.ended().state is ExecutionStatus.COMPLETED
        assert client.wait(second.job, SOON).state is ExecutionStatus.COMPLETED


def test_a_server_that_stays_away_is_said_and_its_run_is_followed_later(program: Program) -> None:
    with connected(program, patience=0.5) as client:
        run = Watched(client, client.submit_run(order()).job)
        run.wait_for(lambda events: bool(events))
        program.end(signal.SIGKILL)
        with pytest.raises(ServerLost):
            run.ended()
    program.start()
    with connected(program) as client:
        later = Watched(client, run.job)
        assert later.ended().state is ExecutionStatus.COMPLETED
        assert isinstance(later.events[0], RunStarted)


def test_a_run_goes_on_when_who_follows_is_killed(program: Program, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline.py"
    pipeline.write_text(PIPELINE)
    words = [sys.executable, "-m", "openhcs", "run", "--server", str(program.endpoint.port)]
    words[-1] = f"localhost:{program.endpoint.port}"
    words += ["screens/p1", str(pipeline), "--out", str(tmp_path / "home")]
    with connected(program) as client:
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            next(line for line in follower.stdout if " of 4" in line)
            follower.kill()
        again = subprocess.run(words, capture_output=True, text=True, timeout=SOON, check=False)
        assert again.returncode == 0, again.stderr
        assert "4 wells: 4 ok" in again.stdout
        assert open_results(tmp_path / "home").completed
        assert all(record.state is ExecutionStatus.COMPLETED for record in client.jobs())


def test_a_link_that_is_cut_is_made_again_and_nothing_is_missed(
    serve: Serve, tmp_path: Path
) -> None:
    direct = serve()
    with (
        proxy_endpoint(direct.endpoint) as proxy,
        RunClient(proxy.endpoint) as client,
    ):
        client.connect_or_raise(SOON)
        run = Watched(client, client.submit_run(order()).job)
        run.wait_for(lambda events: bool(events))
        proxy.cut()
        proxy.heal()
        assert run.ended().state is ExecutionStatus.COMPLETED
        assert sorted(done(run.events)) == list(WELLS)
        assert begun(run.events) == 1
        fetch_results(client, "mine", tmp_path / "home")
        assert open_results(tmp_path / "home").completed


@pytest.fixture
def long_run(tmp_path: Path) -> Iterator[Program]:
    """Serve a plate that is not done before anybody can say something."""
    wells = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 9)]
    synthetic_plate(tmp_path / "long" / "p1", wells=wells, grid=(1, 1), z=1, size_px=128)
    made = Program(free_endpoint(), tmp_path / "long", tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGTERM)


@pytest.mark.parametrize("leaves", [False, True], ids=["waits", "leaves"])
def test_ctrl_c_while_the_server_is_away_is_heard_when_it_is_back(
    long_run: Program, tmp_path: Path, leaves: bool
) -> None:
    program = long_run
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    words = [sys.executable, "-m", "openhcs", "run", "screens/p1", str(tmp_path / "pipeline.py")]
    words += ["--server", f"localhost:{program.endpoint.port}", "--leave", "mine"]
    with connected(program) as client:  # the server is there
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            next(line for line in follower.stdout if " of 64" in line)
            program.end(signal.SIGKILL)
            next(line for line in follower.stdout if "waiting for it" in line)
            follower.send_signal(signal.SIGINT)
            next(line for line in follower.stdout if "cancelled when it is back" in line)
            if leaves:
                next(line for line in follower.stdout if "leaves the run" in line)
                follower.send_signal(signal.SIGINT)
                assert "stays on the server" in follower.stdout.read()
                assert follower.wait(SOON) == 130
            program.start()
            if not leaves:
                assert "Stopped." in follower.stdout.read()
                assert follower.wait(SOON) == 130
        (record,) = client.jobs(timeout=SOON)
        wanted = ExecutionStatus.COMPLETED if leaves else ExecutionStatus.CANCELLED
        assert client.wait(record.id, SOON).state is wanted


@pytest.mark.parametrize("ending", ["rst", "fin"])
def test_a_link_that_is_slow_and_cut_over_and_over_loses_nothing(
    serve: Serve, tmp_path: Path, ending: str
) -> None:
    direct = serve()
    with proxy_endpoint(direct.endpoint) as proxy, RunClient(proxy.endpoint) as client:
        proxy.delay(0.05)
        client.connect_or_raise(SOON)
        over = threading.Event()

        def cut() -> None:
            while not over.wait(0.7):
                proxy.cut(ending)
                over.wait(0.2)
                proxy.heal()
                proxy.delay(0.05)

        cutting = threading.Thread(target=cut)
        cutting.start()
        try:
            run = Watched(client, client.submit_run(order()).job)
            assert run.ended().state is ExecutionStatus.COMPLETED
            assert sorted(done(run.events)) == list(WELLS)
            assert begun(run.events) == 1
            assert client.result(run.job)["outcome"] == "ok"
            fetch_results(client, "mine", tmp_path / "home")
        finally:
            over.set()
            cutting.join()
            proxy.heal()
        assert open_results(tmp_path / "home").completed
        assert [record.id for record in client.jobs(timeout=SOON)] == [run.job]
    there = tmp_path / "results" / "local" / "mine"
    for path in (path for path in (tmp_path / "home").rglob("*.parquet") if path.is_file()):
        name = path.relative_to(tmp_path / "home")
        assert path.read_bytes() == (there / name).read_bytes()


def test_a_worker_that_is_killed_costs_one_well_one_more_try(serve: Serve) -> None:
    client = serve()
    run = Watched(client, client.submit_run(order()).job)
    run.wait_for(lambda events: bool(done(events)))
    deadline = time.monotonic() + SOON
    worker = None
    while worker is None and time.monotonic() < deadline and run.thread.is_alive():
        worker = next(
            (
                each
                for each in psutil.Process().children(recursive=True)
                if any("openhcs.execution._worker" in word for word in each.cmdline())
            ),
            None,
        )
    if worker is not None:
        worker.kill()
    assert run.ended().state is ExecutionStatus.COMPLETED
    assert sorted(done(run.events)) == list(WELLS)
    assert client.result(run.job)["outcome"] == "ok"
