from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the locks and tokens of a test to itself."""
    base = tmp_path / "run"
    base.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    return base / "zmqruntime"


@pytest.fixture
def shm() -> Iterator[Path]:
    """Make a folder in shared memory, where nobody else's segments are."""
    folder = Path(tempfile.mkdtemp(prefix="zmqruntime-test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def suspend() -> Callable[[int], None]:
    """Stop a child of this process, and come back when it does nothing any more."""

    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # the signal alone takes a moment to arrive

    return stop
