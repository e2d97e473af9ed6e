from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from zmqruntime import ZMQServer
from zmqruntime.execution import ExecutionServer, History, Settings, ZMQExecutionClient
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zmqruntime import Endpoint

HERE = Path(__file__).parent
PROGRAM = str(HERE / "server_program.py")
KINDS = (
    "chatty", "die", "echo", "fail", "hold_interpreter", "mark", "noop", "nothing", "obedient",
    "odd", "storm", "stubborn", "units", "when_told",
)  # fmt: skip


class Jobs(Protocol):
    """Makes clients of a server that runs in a process of its own, and is started at need."""

    def __call__(self, endpoint: Endpoint | None = None, **options: Any) -> ZMQExecutionClient: ...


class Served(Protocol):
    """Makes a server in this process and a client that is connected to it."""

    def __call__(
        self, settings: Settings | None = None, history: History | None = None
    ) -> ZMQExecutionClient: ...


@pytest.fixture(autouse=True)
def functions_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers find the functions of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with ExitStack() as stack:

        def make(endpoint: Endpoint | None = None, **options: Any) -> ZMQExecutionClient:
            endpoint = endpoint or free_endpoint()
            command = [sys.executable, PROGRAM, str(endpoint.port), str(tmp_path / "jobs.db")]
            return stack.enter_context(
                ZMQExecutionClient(
                    endpoint,
                    command=[*command, json.dumps(options)],
                    log_path=tmp_path / "server.log",
                )
            )

        yield make


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:

        def make(
            settings: Settings | None = None, history: History | None = None
        ) -> ZMQExecutionClient:
            server = stack.enter_context(
                ExecutionServer(
                    ZMQServer("execution", free_endpoint()),
                    journal=tmp_path / "jobs.db",
                    functions={kind: f"job_functions:{kind}" for kind in KINDS},
                    settings=settings,
                    history=history,
                    stop_grace=0.5,
                )
            )
            client = stack.enter_context(ZMQExecutionClient(server.server.endpoint))
            assert client.connect(), client.last_error
            return client

        yield make


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A named pipe: who opens it to read waits for who opens it to write."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path
