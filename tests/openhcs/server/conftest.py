"""Who serves runs in these tests, and on which plate."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from tests.openhcs.server.served_runs import SOON, WELLS, Program, Serve, settings_of

from openhcs.server import RunClient, RunServer
from openhcs.testing import synthetic_plate
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one plate, ``p1``; read-only in what tests do with it."""
    folder = tmp_path_factory.mktemp("screens")
    synthetic_plate(folder / "p1", wells=WELLS, grid=(1, 2), z=1, size_px=128, seed=2)
    return folder


@pytest.fixture(autouse=True)
def own_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep lock files, keys and logs out of the user's folders."""
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def serve(screens: Path, tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def make(**further: Any) -> RunClient:
            endpoint = free_endpoint()
            server = RunServer(endpoint, settings_of(screens, tmp_path, **further))
            stack.enter_context(server)
            client = stack.enter_context(RunClient(endpoint))
            client.connect_or_raise(SOON)
            return client

        yield make


@pytest.fixture
def program(screens: Path, tmp_path: Path) -> Iterator[Program]:
    made = Program(free_endpoint(), screens, tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.end(signal.SIGTERM)
