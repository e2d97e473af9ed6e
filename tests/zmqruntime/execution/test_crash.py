"""What is left after a crash: servers, workers and groups that are killed for real."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import Backoff, Deadline, UnavailableError, ZMQServer
from zmqruntime.execution import (
    ExecutionServer,
    ExecutionStatus,
    JobLostError,
    JobRecord,
    ServerLost,
    Settings,
    ZMQExecutionClient,
)
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from tests.zmqruntime.execution.conftest import Jobs

SOON = 30.0  # seconds; far more than any of this takes
S = ExecutionStatus


def server_pid(client: ZMQExecutionClient) -> int:
    return client.client.welcome.process.pid


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def marked(journal_folder: Path) -> list[int]:
    """Find processes of the servers whose journal lies in a folder, and of their workers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if is_gone(int(folder.name)):
            continue
        ours = str(journal_folder / "run").encode() in environ
        if ours and (b"server_program" in command or b"_worker" in command):
            found.append(int(folder.name))
    return found


def wait_until_gone(pid: int) -> bool:
    deadline, waits = Deadline(SOON), Backoff(first=0.01, longest=0.2)
    while not is_gone(pid) and not deadline.expired:
        threading.Event().wait(waits.next())
    return is_gone(pid)


def begun(client: ZMQExecutionClient, kind: str, payload: Any, **options: Any) -> str:
    job = client.submit(kind, payload, **options)
    events = (e for e in client.events(job, timeout=SOON) if e.kind == "progress")
    assert next(events).seq > 2
    return job


@pytest.mark.req("B.15", "F.5")
def test_a_killed_server_keeps_what_waits_and_says_what_is_lost(jobs: Jobs, tmp_path: Path) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        done = client.submit("echo", 1, key="done")
        client.wait(done, SOON)
        running = begun(client, "obedient", str(tmp_path / "pid"))
        log = tmp_path / "ran"
        waiting = [client.submit("mark", {"path": str(log), "name": str(n)}) for n in range(5)]
        worker = int((tmp_path / "pid").read_text())
        os.kill(server_pid(client), signal.SIGKILL)
        assert wait_until_gone(worker), "workers die with their server"
        record = client.wait(running, SOON)
        assert (record.state, record.code) == (S.LOST, "lost")
        assert "the server ended while it ran" in record.message
        for job in waiting:
            assert client.wait(job, SOON).state is S.COMPLETED
        assert [line.split()[0] for line in log.read_text().splitlines()] == list("01234")
        assert client.submit("echo", 1, key="done") == done
        assert client.result(done)["payload"] == 1
        assert client.server_status()["epoch"] == 2
        with pytest.raises(JobLostError):
            client.result(running)
        states = [e.state for e in client.events(running) if e.kind == "state"]
        assert states == ["queued", "running", "lost"]


@pytest.mark.req("B.15")
def test_what_may_be_run_again_is_after_a_crash(jobs: Jobs, tmp_path: Path) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        log = tmp_path / "ran"
        job = client.submit("mark", {"path": str(log), "seconds": 60}, retryable=True)
        while not log.exists():
            client.status(job)
        os.kill(server_pid(client), signal.SIGKILL)
        assert client.status(job, timeout=SOON).record.state in (S.QUEUED, S.RUNNING)
        while len(log.read_text().splitlines()) < 2:
            client.status(job)
        record = client.status(job).record
        assert record.attempt == 2
        client.cancel(job)
        client.wait(job, SOON)


@pytest.mark.req("B.15")
def test_the_program_decides_of_what_it_can_take_up_again(jobs: Jobs, tmp_path: Path) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        taken, left = (
            client.submit("mark", {"path": str(tmp_path / name), "seconds": 60}, deadline=120.0)
            for name in ("taken", "left")
        )
        while not (tmp_path / "taken").exists():
            client.status(taken)
        os.kill(server_pid(client), signal.SIGKILL)
    asked: list[str] = []

    def recover(record: JobRecord) -> bool:
        asked.append(record.id)
        return True

    server = ExecutionServer(
        ZMQServer("execution", free_endpoint()),
        journal=tmp_path / "jobs.db",
        functions={"mark": "job_functions:mark"},
        settings=Settings(recover=recover),
    )
    with server, ZMQExecutionClient(server.server.endpoint) as client:
        assert client.connect(), client.last_error
        assert asked == [taken], "nobody is asked of what waits"
        while (tmp_path / "taken").read_text().count("\n") < 2:
            client.status(taken)
        record = client.status(taken).record
        assert (record.attempt, record.retryable) == (2, False)
        assert client.cancel(left).state is S.CANCELLED
        client.cancel(taken)
        assert client.wait(taken, SOON).state is S.COMPLETED, "it returned when asked"


@pytest.mark.req("F.5")
def test_a_server_that_does_not_come_back_is_lost_and_not_cancelled(
    jobs: Jobs, tmp_path: Path
) -> None:
    with jobs() as starter:
        assert starter.connect(), starter.last_error
        with ZMQExecutionClient(starter.endpoint, patience=0.3) as client:
            assert client.connect(), client.last_error
            job = begun(client, "obedient", str(tmp_path / "pid"))
            os.kill(server_pid(client), signal.SIGKILL)
            with pytest.raises(ServerLost, match=job):
                next(client.events(job))
            with pytest.raises(ServerLost, match=job):
                client.wait(job, SOON)
            assert starter.connect(), starter.last_error
            assert client.wait(job, SOON, patience=SOON).state is S.LOST


@pytest.mark.req("F.5")
def test_a_loss_that_is_noticed_just_as_somebody_begins_to_wait_is_mended(
    jobs: Jobs, tmp_path: Path
) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        job = begun(client, "obedient", str(tmp_path / "pid"))
        loop, pid = client.client.loop, server_pid(client)
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            release.wait(SOON)

        loop.call_soon(hold)
        assert held.wait(SOON)
        os.kill(pid, signal.SIGKILL)
        assert wait_until_gone(pid)
        client.client.control.declare_lost("its process has ended")
        records: list[JobRecord] = []
        thread = threading.Thread(target=lambda: records.append(client.wait(job, SOON)))
        thread.start()
        while len(loop._jobs) < 2:  # the loss, and a request that was made before it was seen
            threading.Event().wait(0.01)
        release.set()
        thread.join(SOON)
        assert [record.state for record in records] == [S.LOST]


@pytest.mark.req("B.8")
def test_a_repeat_that_waits_for_a_restart_is_answered_with_the_first_job(jobs: Jobs) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        first = client.submit("echo", 1, key="once")
        os.kill(server_pid(client), signal.SIGKILL)
        assert client.submit("echo", 1, key="once", timeout=SOON) == first
        client.wait(first, SOON)
        assert client.server_status()["counts"]["queued"] == 0


def test_a_worker_that_holds_the_interpreter_dies_with_its_server(
    jobs: Jobs, tmp_path: Path
) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        begun(client, "hold_interpreter", str(tmp_path / "pid"))
        pid = int((tmp_path / "pid").read_text())
        os.kill(server_pid(client), signal.SIGKILL)
        assert wait_until_gone(pid)


def test_a_stopped_worker_and_its_children_are_ended_at_the_next_start_at_the_latest(
    jobs: Jobs, tmp_path: Path
) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        job = begun(client, "stubborn", str(tmp_path / "pids"))
        pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        os.kill(pids[0], signal.SIGSTOP)
        os.kill(server_pid(client), signal.SIGKILL)
        assert client.wait(job, SOON).state is S.LOST
        assert all(wait_until_gone(pid) for pid in pids)


def test_a_server_that_is_asked_to_end_leaves_what_waits_for_the_next(
    jobs: Jobs, tmp_path: Path
) -> None:
    with jobs() as client:
        assert client.connect(), client.last_error
        running = begun(client, "obedient", str(tmp_path / "pid"))
        waiting = client.submit("echo", 5)
        again = client.submit("mark", {"path": str(tmp_path / "ran")})
        process = client.process
        assert process is not None
        assert process.stop() == 0
        assert is_gone(int((tmp_path / "pid").read_text()))
        assert client.wait(running, SOON).message.endswith("the server was stopped")
        assert client.result(waiting, SOON)["payload"] == 5
        client.wait(again, SOON)
        assert (tmp_path / "ran").read_text().count("\n") == 1


@pytest.mark.req("002.6")
@pytest.mark.parametrize("victim", ["server", "worker", "all"])
def test_killed_at_random_moments_no_job_is_lost_or_run_twice(
    jobs: Jobs, tmp_path: Path, victim: str
) -> None:
    rounds = 200 if os.environ.get("ZMQRUNTIME_SOAK") else 6
    crash_repeatedly(jobs, tmp_path, victim, rounds=rounds)


def crash_repeatedly(jobs: Jobs, tmp_path: Path, victim: str, *, rounds: int) -> None:
    """Kill the server, a worker, or the group, again and again, under a stream of jobs."""
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    log = tmp_path / "ran"
    accepted: dict[str, str] = {}  # name -> id
    retryable: set[str] = set()
    with jobs(free_endpoint(), workers=2, attempts=50) as client:
        for number in range(rounds):
            assert client.connect(SOON), client.last_error
            pid = server_pid(client)
            moment = threading.Timer(dice.uniform(0.0, 0.4), kill, [victim, pid])
            moment.start()
            for n in range(dice.randrange(3, 12)):
                name = f"{number}.{n}"
                again = dice.random() < 0.3
                job = client.submit(
                    "mark",
                    {"path": str(log), "name": name, "seconds": dice.choice([0, 0, 0.05])},
                    key=name,
                    retryable=again,
                    timeout=SOON,
                )
                accepted[name] = job
                if again:
                    retryable.add(name)
            moment.join(SOON)
        assert client.connect(SOON), client.last_error
        records = {name: client.wait(job, SOON) for name, job in accepted.items()}
        runs = [line.split()[0] for line in log.read_text().splitlines()]
        for name, record in records.items():
            count = runs.count(name)
            said = f"{name}: {record.state} after {record.attempt}, ran {count}, seed {seed}"
            assert record.state in (S.COMPLETED, S.LOST), said
            assert count <= record.attempt, said
            if name not in retryable:
                assert record.attempt == 1, said
            if record.state is S.COMPLETED:
                assert count >= 1, said
            else:
                assert name not in retryable, said
        seqs = [records[name].seq for name in accepted]
        assert seqs == sorted(seqs), f"order of acceptance, seed {seed}"
        counts = client.server_status()["counts"]
        assert sum(counts.values()) == len(accepted), f"nothing by half, seed {seed}"
        left = marked(tmp_path)
        assert 1 <= len(left) <= 3, f"one server and two workers, not {left}, seed {seed}"
    assert marked(tmp_path) == []


def kill(victim: str, pid: int) -> None:
    """Kill the server, one of its workers, or all of them."""
    workers = [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if not is_gone(int(entry.name)) and parent_of(int(entry.name)) == pid
    ]
    for each in {"server": [pid], "worker": workers[:1], "all": [pid, *workers]}[victim]:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_a_full_disk_refuses_jobs_by_name_and_loses_none(jobs: Jobs, tmp_path: Path) -> None:
    with jobs(file_bytes=1 << 20) as client:
        assert client.connect(), client.last_error
        accepted = []

        def fill() -> None:
            for n in range(10_000):
                accepted.append(client.submit("echo", "x" * 20_000, key=f"job {n}"))  # noqa: PERF401

        with pytest.raises(UnavailableError, match=r"was not accepted.*make room") as caught:
            fill()
        assert str(tmp_path / "jobs.db") in str(caught.value)
        assert client.client.control.request("ping")["ready"]
        os.kill(server_pid(client), signal.SIGKILL)
    with jobs() as client:
        assert client.connect(), client.last_error
        listed = {record.id for record in client.jobs()}
        assert listed == set(accepted), "nothing is accepted by half"
        for job in accepted:
            assert client.wait(job, SOON).state in (S.COMPLETED, S.LOST)
