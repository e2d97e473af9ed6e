"""Whose jobs a peer sees and cancels, on a server with keys."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from zmqruntime import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    Peer,
    ZMQServer,
)
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


def test_a_submission_is_looked_at_before_it_is_accepted(tmp_path: Path) -> None:
    def prepare(kind: str, payload: object, peer: Peer) -> object:
        if payload == "no":
            raise ForbiddenError(f"{peer} may not {kind} that")
        return {"said": payload, "by": peer.client}

    with (
        ExecutionServer(
            ZMQServer("execution", free_endpoint()),
            journal=tmp_path / "jobs.db",
            functions={"echo": "job_functions:echo"},
            prepare=prepare,
        ) as server,
        ZMQExecutionClient(server.server.endpoint) as client,
    ):
        server.server.control.handle(
            "about", lambda request, peer: {"about": server.payload(request.body["id"], peer)}
        )
        assert client.connect(), client.last_error
        with pytest.raises(ForbiddenError, match="may not echo that"):
            client.submit("echo", "no")
        assert list(client.jobs()) == []
        with pytest.raises(InvalidRequestError, match="no jobs of kind"):
            client.submit("other", "no")
        job = client.submit("echo", "yes", key="once")
        assert client.submit("echo", "yes", key="once") == job
        with pytest.raises(ConflictError):
            client.submit("echo", "else", key="once")
        kept = {"said": "yes", "by": "owner"}
        assert client.result(job, SOON)["payload"] == kept
        assert client.client.control.request("about", {"id": job}) == {"about": kept}
        with pytest.raises(NotFoundError):
            client.client.control.request("about", {"id": "0" * 16})
