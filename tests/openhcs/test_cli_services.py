"""What runs is listed and stopped; what crashed is listed until it is forgotten."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from openhcs.cli import main
from zmqruntime import start_service
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from pathlib import Path

SOON = 20.0  # seconds; far more than any of this takes
PROGRAM = (
    "import sys; from zmqruntime import Endpoint, ZMQServer\n"
    "ZMQServer('viewer', Endpoint(port=int(sys.argv[1])), bind_address='127.0.0.1')"
    ".serve_until_signal()"
)


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the services of a test to itself."""
    base = tmp_path / "run"
    base.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))


@pytest.fixture
def crashed(tmp_path: Path) -> int:
    """The port of a viewer that was killed."""
    port = free_endpoint().port
    words = [sys.executable, "-c", PROGRAM, str(port)]
    with start_service(words, log_path=tmp_path / "log", timeout=SOON) as process:
        process.kill()
    return port


def test_the_crashed_are_listed_last_and_forgotten_when_told(
    crashed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_in_thread(app="zebra"):
        assert main(["services"]) == 0
        rows = capsys.readouterr().out.splitlines()[1:]
        assert [row.split()[0] for row in rows] == ["zebra", "viewer"]
        assert rows[1].split()[-1] == "crashed"
        assert main(["stop", "--crashed"]) == 0
        assert capsys.readouterr().out == f"had crashed, forgotten: viewer on port {crashed}\n"
        assert main(["services"]) == 0
        out = capsys.readouterr().out
        assert "zebra" in out
        assert "crashed" not in out


def test_a_crashed_one_is_forgotten_by_its_port(
    crashed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stop", str(crashed)]) == 0
    assert main(["services"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing runs"
    assert main(["stop", str(crashed)]) == 1
    assert "nothing of ours" in capsys.readouterr().err


def test_stopping_nothing_in_particular_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == 2
    assert "--crashed" in capsys.readouterr().err
