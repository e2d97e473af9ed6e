"""What a run would do on a server, before it is submitted: the words of a plan there, in bounds."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.openhcs.server.served_runs import (
    PIPELINE,
    SOON,
    Serve,
    order,
    settings_of,
    wait_until,
)

from openhcs.cli import main
from openhcs.execution import ResultFolder
from openhcs.server import RunClient, RunServer, TextFile
from zmqruntime import BusyError, DeadlineError, ForbiddenError, InvalidRequestError
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WIDTH = 100


def test_a_plan_on_a_server_says_what_one_there_says(
    serve: Serve, screens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    client = serve(memory_bytes=2 << 30)
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    words = [str(screens / "p1"), str(tmp_path / "pipeline.py"), "--workers", "1"]
    words += ["--memory", "2GiB", "--out", str(tmp_path / "results" / "local" / "mine"), "--json"]
    assert main(["plan", *words]) == 0
    here = json.loads(capsys.readouterr().out)
    answer = client.plan_run(order(), as_json=True)
    there = json.loads(answer.told)
    assert (answer.status, answer.wrong) == (0, "")
    assert there.keys() == here.keys()
    for name, value in here.items():
        # what is free, how long things take and how long paths are is another matter there
        if not name.startswith(("free", "peak")) and "second" not in name:
            assert there[name] == value, name
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    shown = client.plan_run(order(), width=WIDTH).told
    assert main(["plan", *words[:-1]]) == 0
    for line in capsys.readouterr().out.splitlines():
        if not any(word in line.lower() for word in ("free", "time", "memory")):
            assert line in shown.splitlines()
    assert list(client.jobs()) == []
    assert not (tmp_path / "results" / "local").exists()
    assert not list((tmp_path / "jobs").glob("plan-*"))


@pytest.mark.parametrize(
    ("submission", "said"),
    [
        ({"text": PIPELINE.replace('channel="DAPI"', 'channel="XX"')}, "pipeline.py:7"),
        ({"platemap": TextFile(name="map.csv", content=b"well,a\nZZ99,1\n")}, "map.csv, line 2"),
    ],
)
def test_what_cannot_run_is_said_with_file_and_line(
    serve: Serve, submission: dict[str, Any], said: str
) -> None:
    answer = serve().plan_run(order(**submission))
    assert answer.status == 2
    assert said in answer.wrong
    assert "jobs/" not in answer.wrong  # nothing of where the server keeps its own


def test_a_plan_is_refused_where_a_run_is(serve: Serve) -> None:
    client = serve()
    with pytest.raises(ForbiddenError, match="it may read screens"):
        client.plan_run(order(options={"plate": "secret/p1"}))
    with pytest.raises(InvalidRequestError, match=r"pipeline\.py:1:1"):
        client.plan_run(order(text="import os"))
    with pytest.raises(InvalidRequestError, match="leads out of"):
        client.plan_run(order(options={"plate": "screens/../x"}))


def test_a_plan_says_what_is_finished_already_also_while_a_run_works(
    serve: Serve, tmp_path: Path
) -> None:
    client = serve()
    assert client.wait(client.submit_run(order()).job, SOON).state == "completed"
    with ResultFolder(tmp_path / "results" / "local" / "mine").held():
        assert "4 finished" in client.plan_run(order()).told.replace("4 are finished", "4 finished")


@pytest.fixture
def slow(
    screens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[RunServer, RunClient]]:
    """Give a server whose plans never end, and a client of it."""
    endless = (sys.executable, "-c", "import sys; sys.stdin.read()")
    monkeypatch.setattr("openhcs.server._server.plan_command", lambda: endless)
    endpoint = free_endpoint()
    with RunServer(endpoint, settings_of(screens, tmp_path)) as server, RunClient(endpoint) as one:
        one.connect_or_raise(SOON)
        yield server, one


def makers() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process(os.getpid()).children()
        if any("sys.stdin.read" in word for word in each.cmdline())
    ]


def test_plans_that_do_not_end_keep_nobody_from_an_answer(
    slow: tuple[RunServer, RunClient],
) -> None:
    _, client = slow
    failed: list[Exception] = []

    def ask() -> None:
        try:
            client.plan_run(order())
        except Exception as error:  # noqa: BLE001  # looked at below
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(makers()) == 2)
    body = {"submission": {"results": "mine", "options": {"plate": "screens/p1"}}}
    with pytest.raises(BusyError, match="4 plans of yours"):
        client.client.control.request("run.plan", body, timeout=5)
    assert client.roots() == ("screens",)
    assert client.server_status()["counts"]["running"] == 0
    client.close()  # whoever asked is gone
    for thread in threads:
        thread.join(SOON)
    assert len(failed) == 4
    wait_until(lambda: not makers())


def test_a_plan_that_takes_too_long_is_ended(
    slow: tuple[RunServer, RunClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openhcs.server._plans.PLAN_S", 0.2)
    with pytest.raises(DeadlineError, match=r"it takes more than 0.2 s: choose fewer wells"):
        slow[1].plan_run(order())
    assert not makers()


def test_a_server_that_stops_leaves_no_plan_behind(slow: tuple[RunServer, RunClient]) -> None:
    server, client = slow
    client.client.control.request_nowait(
        "run.plan", {"submission": {"results": "m", "options": {"plate": "screens/p1"}}}, timeout=60
    )
    wait_until(makers)
    server.stop()
    assert not makers()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit(3)", "status 3"),
        ("print('x' * (9 << 20))", "more than 8 MB"),
        ("import os; os.kill(os.getpid(), 9)", "status -9"),
    ],
)
def test_a_process_that_fails_is_said(
    screens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    command = (sys.executable, "-c", program)
    monkeypatch.setattr("openhcs.server._server.plan_command", lambda: command)
    endpoint = free_endpoint()
    with RunServer(endpoint, settings_of(screens, tmp_path)), RunClient(endpoint) as client:
        client.connect_or_raise(SOON)
        with pytest.raises(Exception, match=said):
            client.plan_run(order())
