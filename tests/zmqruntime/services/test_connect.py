from __future__ import annotations

import os
import signal
import socket as stdlib_socket
import sys
import threading
from pathlib import Path

import pytest

from zmqruntime import (
    Endpoint,
    PeerLostError,
    ServiceManager,
    ServiceStartError,
    ZMQServiceManager,
)
from zmqruntime.testing import free_endpoint, serve_in_thread

PROGRAM = str(Path(__file__).with_name("service_program.py"))
SOON = 10.0  # seconds; far more than any of this takes


class Recorder(ServiceManager):
    """Writes down the steps, and fails at the one it is told to."""

    def __init__(self, *, connected: bool = False, running: bool = False, fail: str = "") -> None:
        super().__init__()
        self.steps: list[str] = []
        self.connected, self.running, self.fail = connected, running, fail

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if name == self.fail:
            raise PeerLostError("the cable is out")

    def is_connected(self) -> bool:
        self._step("is_connected")
        return self.connected

    def is_service_running(self) -> bool:
        self._step("is_service_running")
        return self.running

    def _connect_to_service(self, timeout: float) -> None:
        assert 0 < timeout <= SOON
        self._step("_connect_to_service")

    def _start_service(self) -> None:
        self._step("_start_service")

    def _wait_and_connect(self, timeout: float) -> None:
        assert 0 < timeout <= SOON
        self._step("_wait_and_connect")


@pytest.mark.req("002.9")
@pytest.mark.parametrize(
    ("connected", "running", "steps"),
    [
        (True, True, ["is_connected"]),
        (False, True, ["is_connected", "is_service_running", "_connect_to_service"]),
        (
            False,
            False,
            ["is_connected", "is_service_running", "_start_service", "_wait_and_connect"],
        ),
    ],
)
def test_the_steps_come_in_order(connected: bool, running: bool, steps: list[str]) -> None:
    manager = Recorder(connected=connected, running=running)
    assert manager.connect(SOON) is True
    assert manager.steps == steps
    assert manager.last_error is None


@pytest.mark.req("002.26")
@pytest.mark.parametrize(
    ("running", "fail", "step"),
    [
        (True, "_connect_to_service", "attach"),
        (False, "_start_service", "start"),
        (False, "_wait_and_connect", "wait"),
        (False, "is_connected", "look"),
    ],
)
def test_a_failure_is_false_and_leaves_the_reason(running: bool, fail: str, step: str) -> None:
    manager = Recorder(running=running, fail=fail)
    assert manager.connect(SOON) is False
    assert manager.last_error is not None
    assert manager.last_error.step == step
    assert "the cable is out" in str(manager.last_error)
    assert isinstance(manager.last_error.__cause__, PeerLostError)
    with pytest.raises(ServiceStartError) as caught:
        manager.connect_or_raise(SOON)
    assert caught.value is manager.last_error
    manager.fail = ""
    assert manager.connect(SOON) is True
    assert manager.last_error is None


def manager_for(
    tmp_path: Path, endpoint: Endpoint, *behaviour: str, persistent: bool = False
) -> ZMQServiceManager:
    return ZMQServiceManager(
        "test",
        endpoint,
        command=[sys.executable, PROGRAM, "test", str(endpoint.port), *behaviour],
        log_path=tmp_path / f"{endpoint.port}.log",
        persistent=persistent,
    )


@pytest.mark.req("002.7")
def test_what_runs_is_used_and_what_does_not_is_started(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with manager_for(tmp_path, endpoint) as first, manager_for(tmp_path, endpoint) as second:
        assert not first.is_service_running()
        assert first.connect(SOON), first.last_error
        assert first.process is not None
        assert second.is_service_running()
        assert second.connect(SOON), second.last_error
        assert second.process is None
        assert second.client.control.request("pid") == {"pid": first.process.pid}
        second.close()
        assert first.is_connected()
        with manager_for(tmp_path, free_endpoint()) as elsewhere:
            assert elsewhere.connect(SOON), elsewhere.last_error
            pid = elsewhere.client.control.request("pid")["pid"]
        process = first.process
        assert first.client.control.request("pid") != {"pid": pid}
    assert process.returncode == 0
    assert not first.is_connected()
    with pytest.raises(ServiceStartError, match="connect"):
        _ = first.client


@pytest.mark.req("F.4")
@pytest.mark.req("F.33")
def test_a_killed_service_is_started_again(tmp_path: Path) -> None:
    lost = threading.Event()
    endpoint = free_endpoint()
    with manager_for(tmp_path, endpoint) as manager:
        assert manager.connect(SOON), manager.last_error
        manager.client.on_lost(lambda _: lost.set())
        killed = manager.client.control.request("pid")["pid"]
        os.kill(killed, signal.SIGKILL)
        assert lost.wait(SOON)
        assert not manager.is_connected()
        assert manager.connect(SOON), manager.last_error
        assert manager.client.control.request("pid")["pid"] != killed
        ports = manager.client.welcome.ports
        assert (ports.control, ports.data) == (endpoint.port, endpoint.data_port)


def test_a_service_that_ends_before_it_answers_is_started_again(tmp_path: Path) -> None:
    endpoint, asked = free_endpoint(), threading.Event()

    class Telling(ZMQServiceManager):
        def _connect_to_service(self, timeout: float) -> None:
            asked.set()
            super()._connect_to_service(timeout)

    with manager_for(tmp_path, endpoint) as first:
        assert first.connect(SOON), first.last_error
        assert first.process is not None
        ending = first.process.pid
        os.kill(ending, signal.SIGSTOP)  # alive, and says nothing: as one that is being killed
        with Telling(
            "test",
            endpoint,
            command=[sys.executable, PROGRAM, "test", str(endpoint.port)],
            log_path=tmp_path / "second.log",
        ) as second:
            connecting = threading.Thread(target=second.connect, args=(60.0,))
            connecting.start()
            assert asked.wait(SOON)
            os.kill(ending, signal.SIGKILL)
            connecting.join(60.0)
            assert second.last_error is None
            assert second.client.control.request("pid")["pid"] not in (ending, None)


def test_a_persistent_service_is_left_running(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with manager_for(tmp_path, endpoint, persistent=True) as manager:
        assert manager.connect(SOON), manager.last_error
        process = manager.process
        assert process is not None
    assert process.alive
    with manager_for(tmp_path, endpoint) as manager:
        assert manager.connect(SOON), manager.last_error
        assert manager.client.control.request("pid") == {"pid": process.pid}
    assert process.alive
    process.stop()


def test_a_service_that_fails_is_false_with_command_and_log(tmp_path: Path) -> None:
    with manager_for(tmp_path, free_endpoint(), "fail") as manager:
        assert not manager.connect(SOON)
        error = manager.last_error
        assert error is not None
        assert error.step == "wait"
        assert PROGRAM in error.command
        assert "names no colour" in error.log_tail


@pytest.mark.req("F.2")
def test_a_foreign_program_on_the_port_is_reported_and_left_alone(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with (
        stdlib_socket.create_server(("127.0.0.1", endpoint.port)) as foreign,
        manager_for(tmp_path, endpoint) as manager,
    ):
        assert not manager.connect(SOON)
        assert "taken by another program" in str(manager.last_error)
        with stdlib_socket.create_connection(foreign.getsockname()) as visitor:
            assert visitor.getpeername() == foreign.getsockname()


def test_another_application_on_the_port_is_reported() -> None:
    with serve_in_thread(app="other") as server, ZMQServiceManager("test", server.endpoint) as m:
        assert not m.connect(SOON)
        assert m.last_error is not None
        assert m.last_error.step == "attach"
        assert "'other', not 'test'" in str(m.last_error)


@pytest.mark.req("F.33")
def test_managers_that_start_at_once_share_one_service(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    with manager_for(tmp_path, endpoint) as first, manager_for(tmp_path, endpoint) as second:
        threads = [
            threading.Thread(target=manager.connect, args=(SOON,)) for manager in (first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert first.is_connected(), first.last_error
        assert second.is_connected(), second.last_error
        assert first.client.welcome.incarnation == second.client.welcome.incarnation


def test_services_of_other_computers_are_not_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another computer"):
        ZMQServiceManager("test", Endpoint("10.0.0.7"), command=["x"], log_path=tmp_path / "log")
    with pytest.raises(ValueError, match="log_path"):
        ZMQServiceManager("test", Endpoint(), command=["x"])
