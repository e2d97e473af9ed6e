from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from zmqruntime import ServiceStartError, ZMQClient, find_services, launch_service, start_service
from zmqruntime.processes._identity import Identity, identity_of, signal_process, wait_for_exit
from zmqruntime.services._spawn import log_tail
from zmqruntime.testing import free_endpoint

PROGRAM = str(Path(__file__).with_name("service_program.py"))
SOON = 10.0  # seconds; far more than any of this takes

OWNER = """
import os, sys
from pathlib import Path
from zmqruntime import start_service
process = start_service(sys.argv[3:], log_path=Path(sys.argv[1]), persistent=sys.argv[2] == "yes")
print(process.pid, flush=True)
sys.stdin.read()
"""


def command(*behaviour: str, port: int | None = None) -> list[str]:
    return [sys.executable, PROGRAM, "test", str(port or free_endpoint().port), *behaviour]


@pytest.mark.req("002.7")
def test_a_service_says_when_it_is_ready_and_ends_in_order(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    log = tmp_path / "logs" / "test.log"
    with start_service(command(port=endpoint.port), log_path=log, timeout=SOON) as process:
        assert process.readiness is not None
        assert process.readiness.pid == process.pid
        assert process.readiness.ports.control == endpoint.port
        assert process.alive
        assert os.getpgid(process.pid) == process.pid
    assert process.stop() == process.returncode == 0
    assert log_tail(log) == "ended in order"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_service_that_ends_early_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceStartError, match="names no colour") as caught:
        start_service(command("fail"), log_path=tmp_path / "log", timeout=SOON)
    error = caught.value
    assert "ended with exit status 1" in str(error)
    assert (error.step, error.command[0]) == ("wait", sys.executable)
    assert error.log_tail == "the configuration names no colour"


def test_a_service_that_is_late_is_reported_and_killed(tmp_path: Path) -> None:
    process = launch_service(command("mute"), log_path=tmp_path / "log")
    with pytest.raises(ServiceStartError, match=r"not ready within 0\.05 s"):
        process.wait_ready(0.05)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ServiceStartError, match="stopped before it was ready"):
        process.wait_ready(SOON)


def test_a_service_that_babbles_is_reported_and_killed(tmp_path: Path) -> None:
    with pytest.raises(ServiceStartError, match="no readiness"):
        start_service(command("babble"), log_path=tmp_path / "log", timeout=SOON)


def test_a_program_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ServiceStartError, match="no-such-program"):
        start_service([str(tmp_path / "no-such-program")], log_path=tmp_path / "log")


def test_a_service_deaf_to_sigterm_is_killed(tmp_path: Path) -> None:
    process = launch_service(command("deaf"), log_path=tmp_path / "log")
    process.wait_ready(SOON)
    listening = [each for each in find_services(timeout=SOON) if each.pid == process.pid]
    assert listening[0].answering
    assert process.stop(timeout=0.2) == -signal.SIGKILL
    assert process.stop() == process.returncode


def start_through_an_owner(tmp_path: Path, persistent: str) -> tuple[subprocess.Popen[str], int]:
    words = [sys.executable, "-c", OWNER, str(tmp_path / "log"), persistent, *command()]
    owner = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def identity(pid: int) -> Identity:
    found = identity_of(pid)
    assert found is not None
    return found


def test_a_service_ends_with_its_owner_even_a_killed_one(tmp_path: Path) -> None:
    owner, pid = start_through_an_owner(tmp_path, "no")
    service = identity(pid)
    with owner:
        owner.kill()
    assert wait_for_exit(service, SOON)
    assert log_tail(tmp_path / "log") == "ended in order"


def test_a_persistent_service_outlives_its_owner(tmp_path: Path) -> None:
    owner, pid = start_through_an_owner(tmp_path, "yes")
    service = identity(pid)
    try:
        with owner:
            owner.kill()
        assert not wait_for_exit(service, 0.1)
        found = {each.pid: each for each in find_services(timeout=SOON)}
        assert found[pid].answering
    finally:
        signal_process(service, signal.SIGTERM)
    assert wait_for_exit(service, SOON)


def test_a_child_of_a_service_does_not_find_the_pipes(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to see what a process holds open")
    endpoint = free_endpoint()
    with (
        start_service(command(port=endpoint.port), log_path=tmp_path / "log", timeout=SOON),
        ZMQClient(endpoint) as client,
    ):
        client.connect()
        seen = client.control.request("child")["seen"]
    assert "ZMQRUNTIME_" not in seen
    assert seen.count("pipe:") == 2  # its own output and error output


@pytest.mark.req("F.15")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_signals_are_one(tmp_path: Path, number: signal.Signals) -> None:
    process = start_service(command(), log_path=tmp_path / "log", timeout=SOON)
    os.kill(process.pid, number)
    os.kill(process.pid, number)
    assert process.identity is not None
    assert wait_for_exit(process.identity, SOON)
    assert process.stop() == 0
    assert log_tail(tmp_path / "log") == "ended in order"


def test_there_is_no_tail_without_a_log(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") == ""
    log = tmp_path / "long"
    log.write_text("".join(f"line {n}\n" for n in range(5000)))
    assert log_tail(log).splitlines() == [f"line {n}" for n in range(4980, 5000)]
