from __future__ import annotations

import itertools
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import (
    Backoff,
    BusyError,
    ConflictError,
    ControlTimeout,
    DeadlineError,
    Endpoint,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    ZMQClient,
    ZMQServer,
    start_service,
)
from zmqruntime.execution import (
    ExecutionServer,
    ExecutionStatus,
    History,
    JobCancelledError,
    JobEvent,
    JobFailedError,
    JobUnfinishedError,
    JournalCorruptError,
    Settings,
    ZMQExecutionClient,
)
from zmqruntime.testing import free_endpoint, write_finished_jobs

if TYPE_CHECKING:
    from tests.zmqruntime.execution.conftest import Served

PROGRAM = str(Path(__file__).parent / "server_program.py")

SOON = 20.0  # seconds; far more than any of this takes
S = ExecutionStatus


def hold(client: ZMQExecutionClient, fifo: Path, **options: Any) -> str:
    """Occupy a worker until the FIFO is written to."""
    job = client.submit("when_told", str(fifo), **options)
    begun = (event for event in client.events(job, timeout=SOON) if event.phase == "begun")
    assert next(begun).kind == "progress"
    return job


def test_a_job_is_run_and_its_result_is_fetched(served: Served) -> None:
    client = served()
    payload = {"wells": ["A01", "Ö12"], "sigma": 1.5, "raw": b"\x00\xff", "none": None}
    job = client.submit("echo", payload)
    record = client.wait(job, SOON)
    assert record.state is S.COMPLETED
    assert (record.kind, record.attempt, record.client) == ("echo", 1, "owner")
    assert record.started is not None
    assert client.result(job)["payload"] == payload


def test_a_worker_is_warm_and_used_again(served: Served) -> None:
    client = served()
    pids = {client.result(client.submit("echo"), SOON)["pid"] for _ in range(5)}
    assert len(pids) == 1


@pytest.mark.req("F.21")
def test_a_function_that_raises_fails_with_its_traceback(served: Served) -> None:
    client = served()
    job = client.submit("fail", 7)
    record = client.wait(job, SOON)
    assert (record.state, record.code, record.message) == (
        S.FAILED, "error", "LookupError: no plate 7",
    )  # fmt: skip
    assert "in fail" in record.traceback
    with pytest.raises(JobFailedError, match="no plate 7") as caught:
        client.result(job)
    assert caught.value.record == record


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("nothing", "partial", "returned None"),
        ("odd", "error", "lock is unsupported"),
    ],
)
def test_what_is_no_result_is_no_success(
    served: Served, kind: str, code: str, message: str
) -> None:
    client = served()
    record = client.wait(client.submit(kind), SOON)
    assert (record.state, record.code) == (S.FAILED, code)
    assert message in record.message


@pytest.mark.req("F.21")
def test_one_bad_unit_never_loses_the_others(served: Served) -> None:
    client = served()
    job = client.submit(
        "units", {"good": ["A01", "A02"], "bad": ["A03"]}, units=["A01", "A02", "A03", "A04"]
    )
    record = client.wait(job, SOON)
    assert (record.state, record.code) == (S.FAILED, "partial")
    assert (record.expected, record.reported, record.bad) == (4, 2, 1)
    assert "A04" in record.message
    assert "A03" in record.message
    found = client.units(job)
    assert {name: unit.value for name, unit in found.items() if unit.ok} == {
        "A01": {"cells": 3},
        "A02": {"cells": 3},
    }
    assert found["A03"].message == "ValueError: A03 is out of focus"


def test_all_units_reported_are_a_success_without_a_value(served: Served) -> None:
    client = served()
    job = client.submit("units", {"good": ["A01", "A02"]}, units=["A02", "A01"])
    assert client.result(job, SOON) is None
    none = client.submit("units", {}, units=["A01"])
    assert client.wait(none, SOON).code == "partial", "empty is not success"


def test_a_unit_that_nobody_expects_fails_the_function(served: Served) -> None:
    client = served()
    job = client.submit("units", {"good": ["B01"]}, units=["A01"])
    assert "'B01' is not one of the 1 expected" in client.wait(job, SOON).message


@pytest.mark.req("B.8")
def test_the_same_key_is_the_same_job(served: Served) -> None:
    client = served()
    job = client.submit("echo", 1, key="plate 7")
    assert client.submit("echo", 1, key="plate 7") == job
    client.wait(job, SOON)
    assert client.submit("echo", 1, key="plate 7") == job
    assert client.result(job)["payload"] == 1
    assert client.server_status()["counts"]["completed"] == 1
    with pytest.raises(ConflictError, match=job):
        client.submit("echo", 2, key="plate 7")


def test_two_that_submit_the_same_at_once_get_one_job(served: Served) -> None:
    client = served()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.submit("echo", key="plate 8")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_jobs_run_by_priority_then_in_order(served: Served, tmp_path: Path, fifo: Path) -> None:
    client = served()
    first = hold(client, fifo)
    log = tmp_path / "order"
    names = [("c", 0), ("d", 0), ("a", 5), ("e", -1), ("b", 5)]
    ids = {
        name: client.submit("mark", {"path": str(log), "name": name}, priority=priority)
        for name, priority in names
    }
    positions = {name: client.status(id_).position for name, id_ in ids.items()}
    assert positions == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    status = client.status(first)
    assert status.position is None
    assert (status.work.state, status.work.queued) == ("busy", 5)
    assert first in status.work.task
    fifo.write_text("go")
    for id_ in ids.values():
        client.wait(id_, SOON)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["a", "b", "c", "d", "e"]


def test_several_workers_run_as_many_jobs_at_once(served: Served, tmp_path: Path) -> None:
    client = served(Settings(workers=2))
    files = [tmp_path / name for name in ("one", "two", "three")]
    ids = [client.submit("obedient", str(path)) for path in files]
    for id_ in ids[:2]:
        assert any(e.phase == "waiting" for e in take(client, id_, 3))
    counts = client.server_status()["counts"]
    assert (counts["running"], counts["queued"]) == (2, 1)
    assert files[0].read_text() != files[1].read_text()
    for id_ in ids:
        client.cancel(id_)
        assert client.wait(id_, SOON).state is S.CANCELLED
    assert not files[2].exists() or client.wait(ids[2]).attempt == 1


def take(client: ZMQExecutionClient, job: str, count: int) -> list[JobEvent]:
    return [*itertools.islice(client.events(job, timeout=SOON), count)]


@pytest.mark.req("F.20", "F.19")
def test_cancelling_one_job_touches_no_other(served: Served, tmp_path: Path, fifo: Path) -> None:
    client = served(Settings(workers=2))
    other = hold(client, fifo)
    job = client.submit("obedient", str(tmp_path / "pid"))
    waiting = client.submit("echo", 3)
    take(client, job, 3)
    assert client.cancel(job).state in (S.CANCELLING, S.CANCELLED)
    record = client.wait(job, SOON)
    assert (record.state, record.code, record.message) == (
        S.CANCELLED, "cancelled", "cancelled by owner",
    )  # fmt: skip
    assert client.result(waiting, SOON)["payload"] == 3
    assert client.status(other).record.state is S.RUNNING
    fifo.write_text("done")
    assert client.result(other, SOON) == "done"
    with pytest.raises(JobCancelledError):
        client.result(job)
    assert client.cancel(job) == record, "what is over stays as it is"
    assert client.cancel(other).state is S.COMPLETED


def test_what_waits_is_cancelled_at_once_and_never_runs(
    served: Served, tmp_path: Path, fifo: Path
) -> None:
    client = served()
    hold(client, fifo)
    job = client.submit("mark", {"path": str(tmp_path / "ran")})
    assert client.cancel(job).state is S.CANCELLED
    fifo.write_text("go")
    assert client.result(client.submit("echo", 1), SOON)["payload"] == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.req("F.19")
def test_a_job_that_does_not_listen_is_ended_by_force_with_its_children(
    served: Served, tmp_path: Path
) -> None:
    client = served(Settings(grace=0.5))
    job = client.submit("stubborn", str(tmp_path / "pids"))
    take(client, job, 3)
    client.cancel(job)
    assert client.client.control.request("ping")["work"]["state"] == "busy"
    assert client.status(job).record.state is S.CANCELLING  # asked while it is being cancelled
    record = client.wait(job, SOON)
    assert record.state is S.CANCELLED
    assert "by force" in record.message
    waits = Backoff(first=0.001, longest=0.1)
    for pid in (tmp_path / "pids").read_text().split():
        while not is_gone(int(pid)):  # a child is killed with its worker, and ends by itself
            threading.Event().wait(waits.next())
    assert client.result(client.submit("echo", 2), SOON)["payload"] == 2


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


@pytest.mark.req("B.8")
def test_a_deadline_ends_what_runs_and_what_waits(served: Served, tmp_path: Path) -> None:
    client = served(Settings(grace=1.0))
    listens = client.submit("obedient", None, deadline=0.3)
    waits = client.submit("mark", {"path": str(tmp_path / "ran")}, deadline=0.1)
    for job in (listens, waits):
        record = client.wait(job, SOON)
        assert (record.state, record.code) == (S.FAILED, "deadline")
    assert "before its turn" in client.status(waits).record.message
    assert not (tmp_path / "ran").exists()
    client.wait(client.submit("noop"), SOON)
    deaf = client.submit("stubborn", str(tmp_path / "pids"), deadline=1.0)
    record = client.wait(deaf, SOON)
    assert (record.state, record.code) == (S.FAILED, "deadline")
    assert "by force" in record.message


@pytest.mark.req("F.21")
def test_a_worker_that_dies_loses_its_job_alone_and_keeps_what_it_reported(served: Served) -> None:
    client = served()
    job = client.submit("die", {"unit": "A01"}, units=["A01", "A02"])
    after = client.submit("echo", 4)
    record = client.wait(job, SOON)
    assert (record.state, record.code) == (S.LOST, "lost")
    assert "SIGKILL" in record.message
    assert client.units(job)["A01"].value == 1
    assert client.result(after, SOON)["payload"] == 4


def test_what_may_be_run_again_is_and_every_attempt_counts(served: Served) -> None:
    client = served(Settings(attempts=3))
    job = client.submit("die", {"until": 3}, retryable=True)
    assert client.result(job, SOON) == {"attempt": 3}
    states = [e.state for e in client.events(job, timeout=SOON) if e.kind == "state"]
    assert states == ["queued", "running", "queued", "running", "queued", "running", "completed"]
    hopeless = client.submit("die", {}, retryable=True)
    record = client.wait(hopeless, SOON)
    assert (record.state, record.attempt) == (S.LOST, 3)


@pytest.mark.req("F.13")
def test_20_000_reports_make_a_success_with_a_gap_that_can_be_seen(served: Served) -> None:
    client = served()
    job = client.submit("storm", 20_000)
    events = list(client.events(job, timeout=SOON))
    assert client.wait(job, SOON).state is S.COMPLETED
    seqs = [event.seq for event in events]
    assert seqs == sorted(seqs)
    assert seqs[-1] == 20_003, "every report has a number: queued, running, 20 000, completed"
    assert len(seqs) < 20_003
    assert (events[-1].kind, events[-1].state) == ("state", "completed")
    assert events[-2].fraction == 1.0
    assert client.status(job).record.events == 20_003
    kept = list(client.events(job, timeout=SOON))
    assert len(kept) <= 1000
    assert kept[-1] == events[-1]


@pytest.mark.req("F.14")
def test_a_slow_callback_delays_only_itself_and_hears_of_the_end(served: Served) -> None:
    client = served()
    job = client.submit("storm", 8000)
    heard: list[JobEvent] = []
    slow = threading.Event()

    def callback(event: JobEvent) -> None:
        heard.append(event)
        slow.wait(0.05)
        if event.kind == "progress":
            raise ValueError("a callback may fail")

    watch = client.watch(job, callback)
    assert client.wait(job, SOON).state is S.COMPLETED
    assert watch.join(SOON)
    assert heard[-1].state == "completed"
    assert watch.record is not None
    assert watch.record.state is S.COMPLETED
    late: list[JobEvent] = []
    assert client.watch(job, late.append).join(SOON)
    assert late[-1] == heard[-1]


def test_what_a_job_prints_is_its_log(served: Served) -> None:
    client = served(history=History(log_bytes=2000))
    job = client.submit("chatty", 3)
    client.wait(job, SOON)
    text = "".join(client.logs(job))
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("the last line, with a Å\nfrom a child\n")
    long = client.submit("chatty", 20_000)
    client.wait(long, SOON)
    text = "".join(client.logs(long))
    assert len(text) < 5000
    assert "line 19999" in text
    silent = client.submit("noop")
    client.wait(silent, SOON)
    assert list(client.logs(silent)) == []


@pytest.mark.req("F.18", "G.11")
def test_lists_come_in_pages_and_history_is_bounded(served: Served) -> None:
    client = served(history=History(jobs=20))
    ids = []
    for _ in range(45):
        ids.append(client.submit("noop"))
        client.wait(ids[-1], SOON)  # before it is forgotten
    answer = client.client.control.request("list", {"limit": 8})
    assert [job["id"] for job in answer["jobs"]] == ids[:-9:-1]
    assert answer["next"] is not None
    found = [record.id for record in client.jobs(page=8)]
    assert found == ids[: -len(found) - 1 : -1]
    assert len(found) == 20
    assert client.server_status()["counts"]["completed"] == 20
    with pytest.raises(NotFoundError, match="forgotten"):
        client.status(ids[0])
    assert [record.id for record in client.jobs(state="failed")] == []


def test_requests_that_make_no_sense_are_refused_by_name(served: Served) -> None:
    client = served()
    with pytest.raises(InvalidRequestError, match="known are"):
        client.submit("rm -rf")
    with pytest.raises(InvalidRequestError, match="deadline"):
        client.submit("noop", deadline=-1.0)
    with pytest.raises(InvalidRequestError, match="units"):
        client.submit("noop", units=[])
    with pytest.raises(InvalidRequestError, match="twice"):
        client.submit("noop", units=["A", "A"])
    for call in (client.status, client.cancel, client.wait, client.units):
        with pytest.raises(NotFoundError):
            call("no such job")
    with pytest.raises(NotFoundError):
        list(client.events("no such job"))
    assert client.result(client.submit("noop"), SOON) == {}


def test_a_line_that_is_full_takes_no_more(served: Served, fifo: Path) -> None:
    client = served(Settings(waiting=1))
    hold(client, fifo)
    waiting = client.submit("noop")
    with pytest.raises(BusyError, match="1 jobs wait already"):
        client.submit("noop", timeout=0.5)
    fifo.write_text("go")
    client.wait(waiting, SOON)


def test_waiting_has_an_end_of_its_own(served: Served, fifo: Path) -> None:
    client = served()
    job = hold(client, fifo)
    with pytest.raises(JobUnfinishedError, match="it is running") as caught:
        client.wait(job, 0.1)
    assert caught.value.record.id == job
    with pytest.raises(JobUnfinishedError):
        list(client.events(job, timeout=0.1))
    fifo.write_text("go")
    client.wait(job, SOON)


def test_any_number_may_wait_and_none_holds_a_thread(served: Served, fifo: Path) -> None:
    client = served()
    job = hold(client, fifo)
    short = client.client.control.request_nowait("wait", {"id": job}, timeout=0.05)
    with pytest.raises((ControlTimeout, DeadlineError)):
        short.result(SOON)
    waiting = [
        client.client.control.request_nowait("wait", {"id": job}, timeout=SOON) for _ in range(50)
    ]
    assert [record.id for record in client.jobs(timeout=SOON)] == [job], "others are answered"
    assert client.status(job).record.state is S.RUNNING
    assert not any(future.done() for future in waiting)
    fifo.write_text("go")
    assert {future.result(SOON).body["record"]["state"] for future in waiting} == {"completed"}
    assert client.wait(job, 0.0).state is S.COMPLETED, "what is over is told without waiting"


@pytest.mark.req("G.11")
def test_a_status_takes_as_long_among_twenty_thousand_jobs_as_among_none(tmp_path: Path) -> None:
    medians = []
    for count in (0, 20_000):
        path = tmp_path / f"{count}.db"
        write_finished_jobs(path, count)
        server = ExecutionServer(
            ZMQServer("execution", free_endpoint()),
            journal=path,
            functions={"echo": "job_functions:echo"},
            history=History(jobs=20_000),
        )
        with server, ZMQExecutionClient(server.server.endpoint) as client:
            assert client.connect(), client.last_error
            assert client.server_status()["counts"]["completed"] == count
            times = []
            for _ in range(100):
                began = time.perf_counter()
                client.server_status()
                times.append(time.perf_counter() - began)
            medians.append(sorted(times)[50])
            reply = client.client.control.request("list", {})
            assert len(reply["jobs"]) == min(count, 50), "one page"
    assert medians[1] < 3 * medians[0]


@pytest.mark.req("002.16", "000.9")
def test_a_plain_sub_socket_hears_of_jobs_in_json(tmp_path: Path) -> None:
    server = ExecutionServer(
        ZMQServer("execution", free_endpoint()),
        journal=tmp_path / "jobs.db",
        functions={"storm": "job_functions:storm"},
        broadcast=True,
    )
    with (
        server,
        ZMQExecutionClient(server.server.endpoint) as client,
        zmq.Context() as context,
        context.socket(zmq.SUB) as socket,
    ):
        assert client.connect(), client.last_error
        socket.connect(f"tcp://127.0.0.1:{server.server.ports.data}")
        socket.subscribe(b"execution\0")
        first = {client.submit("storm", 10)}
        while not socket.poll(100):  # nobody says when a plain subscription has come
            first.add(client.submit("storm", 10))
        job = client.submit("storm", 5000)
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["record"]["state"] != "completed":
            assert socket.poll(20_000)
            news = json.loads(socket.recv_multipart()[2])
            if news["record"]["id"] == job:
                heard.append(news)
        assert {news["event"]["kind"] for news in heard} == {"state", "progress"}
        assert heard[-1]["event"]["state"] == "completed"
        for each in first:
            client.wait(each, SOON)


@pytest.mark.req("002.16")
def test_a_plain_req_socket_can_submit_and_ask_in_json(tmp_path: Path) -> None:
    with (
        ExecutionServer(
            ZMQServer("execution", free_endpoint(), bind_address="127.0.0.1", insecure=True),
            journal=tmp_path / "jobs.db",
            functions={"echo": "job_functions:echo"},
        ) as server,
        zmq.Context() as context,
        context.socket(zmq.REQ) as socket,
    ):
        socket.connect(server.server.endpoint.control_url)

        def ask(type_: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
            socket.send_json({"v": 1, "id": "1", "type": type_, "body": body, **more})
            assert socket.poll(20_000)
            reply = socket.recv_json()
            assert isinstance(reply, dict)
            return reply

        reply = ask("submit", {"kind": "echo", "payload": {"well": "A01"}}, key="k")
        assert reply["type"] == "accepted"
        job = reply["body"]["id"]
        over = ask("wait", {"id": job}, deadline_ms=20_000)
        assert over["body"]["record"]["state"] == "completed"
        assert ask("result", {"id": job})["body"]["value"]["payload"] == {"well": "A01"}
        again = ask("submit", {"kind": "echo", "payload": {"well": "A01"}}, key="k")
        assert again["body"]["id"] == job
        assert ask("status", {"id": 5})["code"] == "invalid"
        assert ask("follow", {"id": job})["code"] == "invalid"


def test_a_damaged_journal_stops_the_start_and_frees_the_address(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_text("my shopping list")
    endpoint = free_endpoint()
    server = ExecutionServer(
        ZMQServer("execution", endpoint), journal=path, functions={"echo": "job_functions:echo"}
    )
    with pytest.raises(JournalCorruptError, match=re.escape(str(path))):
        server.start()
    assert path.read_text() == "my shopping list"
    with ZMQServer("execution", endpoint):
        pass


def test_functions_are_named_by_the_server_alone(tmp_path: Path) -> None:
    server = ZMQServer("execution", free_endpoint())
    for bad in ("os.system", "os:system()", "os:__import__('os')", ":f", "a:b:c"):
        with pytest.raises(ValueError, match="module:function"):
            ExecutionServer(server, journal=tmp_path / "jobs.db", functions={"x": bad})
    with pytest.raises(ValueError, match="at least one"):
        ExecutionServer(server, journal=tmp_path / "jobs.db", functions={})
    server.stop()


def test_a_function_that_cannot_be_imported_fails_its_jobs_only(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with (
        ExecutionServer(
            ZMQServer("execution", endpoint),
            journal=tmp_path / "jobs.db",
            functions={"echo": "job_functions:echo", "gone": "no_such_module:f"},
        ),
        ZMQExecutionClient(endpoint) as client,
    ):
        assert client.connect(), client.last_error
        record = client.wait(client.submit("gone"), SOON)
        assert "No module named 'no_such_module'" in record.message
        assert client.result(client.submit("echo", 1), SOON)["payload"] == 1


@pytest.mark.req("002.1", "G.1")
def test_an_idle_server_sleeps_while_clients_are_connected(served: Served) -> None:
    client = served()
    job = client.submit("noop")
    assert list(client.events(job, timeout=SOON))[-1].state == "completed"
    client.wait(job, SOON)
    names = [t.name for t in threading.enumerate()]
    assert "execution-queue" in names
    threads = [
        thread.native_id
        for thread in threading.enumerate()
        if thread.name.startswith("execution-") and thread.native_id is not None
    ]
    let_pass(0.5)  # until what belongs to the job is over
    before = switches(os.getpid(), threads)
    let_pass(2.0)
    assert switches(os.getpid(), threads) - before <= 4, "libzmq's heartbeats have their own thread"


@pytest.mark.req("002.1", "G.1")
def test_an_idle_server_and_its_workers_sleep_while_nobody_is_connected(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    command = [sys.executable, PROGRAM, str(endpoint.port), str(tmp_path / "jobs.db")]
    with start_service(command, log_path=tmp_path / "log", timeout=SOON) as process:
        with ZMQExecutionClient(endpoint) as client:
            assert client.connect(), client.last_error
            worker = client.result(client.submit("echo"), SOON)["pid"]
        let_pass(1.0)
        before = switches(process.pid), switches(worker)
        let_pass(3.0)
        assert switches(process.pid) - before[0] <= 6, "all its threads, twice a second"
        assert switches(worker) - before[1] <= 1


def let_pass(seconds: float) -> None:
    """Let time pass in which nothing is to happen."""
    threading.Event().wait(seconds)


def switches(pid: int, threads: list[int] | None = None) -> int:
    """Count how often threads of a process, all or some, went to sleep of their own will."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if threads is None or int(task.name) in threads:
            status = (task / "status").read_text()
            total += int(status.partition("voluntary_ctxt_switches:")[2].split()[0])
    return total


@pytest.mark.req("002.1")
def test_strangers_may_do_nothing(served: Served) -> None:
    client = served()
    job = client.submit("noop")
    with ZMQClient(Endpoint(port=client.endpoint.port), token="wrong") as stranger:
        stranger.loop.start()
        stranger.control.open()
        for type_, body in (
            ("submit", {"kind": "noop"}),
            ("status", {"id": job}),
            ("cancel", {"id": job}),
            ("list", {}),
        ):
            with pytest.raises(ForbiddenError):
                stranger.control.request(type_, body)
    client.wait(job, SOON)
