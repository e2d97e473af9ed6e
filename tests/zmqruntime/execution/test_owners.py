"""Whose jobs a peer sees and cancels, on a server with keys."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from zmqruntime import ForbiddenError, NotFoundError, ZMQServer
from zmqruntime.execution import ExecutionServer, ExecutionStatus, ZMQExecutionClient
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Login = Callable[..., ZMQExecutionClient]

SOON = 20.0


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Login]:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = KeyFolder(tmp_path / "keys")
    with ExitStack() as stack:
        server = ZMQServer("execution", free_endpoint(), bind_address="127.0.0.1", keys=folder)
        kinds = ("echo", "obedient")
        stack.enter_context(
            ExecutionServer(
                server,
                journal=tmp_path / "jobs.db",
                functions={kind: f"job_functions:{kind}" for kind in kinds},
                stop_grace=0.5,
            )
        )

        def make(name: str, role: str) -> ZMQExecutionClient:
            pair = KeyPair.make(name)
            folder.authorize(pair.public, name=name, role=role)
            keys = ClientKeys(pair, folder.server_pair().public)
            client = stack.enter_context(ZMQExecutionClient(server.endpoint, keys=keys))
            assert client.connect(), client.last_error
            return client

        yield make


@pytest.mark.req("S.8", "002.16")
def test_a_key_sees_and_cancels_its_own_jobs_only(login: Login) -> None:
    ada, bob = login("ada", "operator"), login("bob", "operator")
    job = ada.submit("obedient", key="plate 7")
    for call in (bob.status, bob.cancel, bob.wait, bob.units, lambda job: list(bob.logs(job))):
        with pytest.raises(NotFoundError):
            call(job)
    assert list(bob.jobs()) == []
    assert [record.id for record in ada.jobs()] == [job]
    theirs = bob.submit("echo", 1, key="plate 7")
    assert theirs != job, "a key of one client is none of another's"
    ada.cancel(job)
    record = ada.wait(job, SOON)
    assert record.state is ExecutionStatus.CANCELLED
    assert record.message.startswith("cancelled by ada")
    assert bob.result(theirs, SOON)["payload"] == 1


@pytest.mark.req("S.8")
def test_a_viewer_may_not_submit_and_an_admin_sees_all(login: Login) -> None:
    ada, eve, root = login("ada", "operator"), login("eve", "viewer"), login("root", "admin")
    with pytest.raises(ForbiddenError, match="pipeline:submit"):
        eve.submit("echo")
    job = ada.submit("obedient")
    assert [record.id for record in root.jobs()] == [job]
    root.cancel(job)
    assert ada.wait(job, SOON).state is ExecutionStatus.CANCELLED
