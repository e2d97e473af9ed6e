from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from zmqruntime import Endpoint, ServiceStopError, find_services, start_service, stop_service
from zmqruntime.processes._identity import wait_for_exit
from zmqruntime.processes._runtime_dir import runtime_dir
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = str(Path(__file__).with_name("service_program.py"))
SOON = 10.0  # seconds; far more than any of this takes


def command(endpoint: Endpoint, *behaviour: str) -> list[str]:
    return [sys.executable, PROGRAM, "test", str(endpoint.port), *behaviour]


def test_services_are_found_until_they_stop() -> None:
    assert find_services() == []
    with serve_in_thread(app="one") as one, serve_in_thread(app="two") as two:
        (runtime_dir() / "nonsense-1.lock").write_text("nonsense")
        found = find_services(timeout=SOON)
        assert [each.app for each in found] == ["one", "two"]
        assert [each.endpoint for each in found] == [
            dataclasses.replace(each.endpoint, host="127.0.0.1") for each in (one, two)
        ]
        assert all(each.alive and each.answering and each.ready for each in found)
        assert {each.pid for each in found} == {os.getpid()}
        assert found[0].work == one.work
        with pytest.raises(ServiceStopError, match="this process"):
            stop_service(found[0])
    assert find_services() == []


def test_a_service_is_asked_to_stop(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with start_service(command(endpoint), log_path=tmp_path / "log", timeout=SOON) as process:
        (record,) = find_services(timeout=SOON)
        stop_service(record)
        assert process.stop() == 0
        assert find_services() == []
        stop_service(record)


def test_a_service_that_does_not_listen_is_told_and_not_killed(
    tmp_path: Path, suspend: Callable[[int], None]
) -> None:
    with start_service(
        command(free_endpoint(), "deaf"), log_path=tmp_path / "log", timeout=SOON
    ) as process:
        (record,) = find_services(timeout=SOON)
        suspend(process.pid)
        (silent,) = find_services(timeout=0.05)
        assert (silent.alive, silent.answering, silent.ready) == (True, False, None)
        with pytest.raises(ServiceStopError, match=f"process {process.pid}"):
            stop_service(record, timeout=0.1)
        assert process.alive
        process.kill()


@pytest.mark.req("S.15")
def test_a_crashed_service_is_shown_and_whoever_has_its_pid_now_is_left_alone(
    tmp_path: Path,
) -> None:
    endpoint = free_endpoint()
    with start_service(command(endpoint), log_path=tmp_path / "log", timeout=SOON) as process:
        (record,) = find_services(timeout=SOON)
        older = msgspec.structs.replace(record.identity, start_time=record.identity.start_time - 1)
        stop_service(dataclasses.replace(record, identity=older))
        assert process.alive
        os.kill(process.pid, signal.SIGKILL)
        assert wait_for_exit(record.identity, SOON)
        (crashed,) = find_services()
        assert (crashed.alive, crashed.answering) == (False, False)
    with start_service(command(endpoint), log_path=tmp_path / "log", timeout=SOON):
        stop_service(crashed)
        (again,) = find_services(timeout=SOON)
        assert again.alive
        assert again.server_id == crashed.server_id


def test_what_a_crashed_service_left_is_cleared_when_it_is_stopped(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with start_service(command(endpoint), log_path=tmp_path / "log", timeout=SOON) as process:
        (record,) = find_services(timeout=SOON)
        os.kill(process.pid, signal.SIGKILL)
        assert wait_for_exit(record.identity, SOON)
    (crashed,) = find_services()
    stop_service(crashed)
    assert find_services() == []
    lock = runtime_dir() / f"test-{endpoint.port}.lock"
    assert [*runtime_dir().iterdir()] == [lock]  # it keeps the name of the server
    stop_service(crashed)
    with start_service(command(endpoint), log_path=tmp_path / "log", timeout=SOON):
        (again,) = find_services(timeout=SOON)
        assert again.server_id == crashed.server_id
