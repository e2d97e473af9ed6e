"""Sessions of a server with keys: who a client is comes from its connection or its token."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import ZMQClient, ZMQServer
from zmqruntime.gateway import WebSocketCarrier, WebSocketGateway
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.session import (
    SessionClient,
    SessionClosedError,
    SessionRejectedError,
    SessionServer,
    StateRejectedError,
    ZMQCarrier,
)
from zmqruntime.testing import free_endpoint
from zmqruntime.testing.conformance import ReferenceScene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 10.0  # seconds; far more than any of this takes
GAMMA = ("layer", "layer-0", "gamma")


@contextmanager
def serving(keys: KeyFolder) -> Iterator[tuple[SessionServer, WebSocketGateway]]:
    scene = ReferenceScene()
    server = ZMQServer("test", free_endpoint(), bind_address="127.0.0.1", keys=keys)
    with (
        server,
        SessionServer(server, scene.baseline) as sessions,
        WebSocketGateway(sessions, port=0) as gateway,
    ):
        scene.add_to(sessions)
        yield sessions, gateway


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFolder:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return KeyFolder(tmp_path / "keys")


def client_of(sessions: SessionServer, keys: KeyFolder, pair: KeyPair) -> SessionClient:
    own = ClientKeys(pair, keys.server_pair().public)
    return SessionClient(ZMQCarrier(ZMQClient(sessions.server.endpoint, keys=own)))


@pytest.mark.req("004.15", "004.23")
def test_a_key_is_who_a_client_is_and_its_role_what_it_may_do(keys: KeyFolder) -> None:
    desk, wall = KeyPair.make("desk"), KeyPair.make("wall")
    keys.authorize(desk.public, name="desk", role="operator")
    keys.authorize(wall.public, name="wall", role="viewer")
    with (
        serving(keys) as (sessions, _),
        client_of(sessions, keys, desk) as operator,
        client_of(sessions, keys, wall) as viewer,
    ):
        operator.connect(SOON)
        viewer.connect(SOON)
        assert {each.principal for each in sessions.sessions} == {desk.public, wall.public}
        assert operator.update(*GAMMA, 1.5).result(SOON).version == 1
        with pytest.raises(StateRejectedError) as refused:
            viewer.update(*GAMMA, 1.5).result(SOON)
        assert refused.value.code == "state.forbidden"


@pytest.mark.req("004.15", "004.23")
def test_a_session_ends_when_its_key_is_revoked(keys: KeyFolder) -> None:
    desk = KeyPair.make("desk")
    keys.authorize(desk.public, name="desk", role="operator")
    with serving(keys) as (sessions, _), client_of(sessions, keys, desk) as client:
        closed: queue.SimpleQueue[Any] = queue.SimpleQueue()
        sessions.on_closed(lambda record, reason: closed.put((record.principal, reason)))
        client.connect(SOON)
        keys.revoke("desk")
        assert closed.get(timeout=SOON)[0] == desk.public
        assert sessions.sessions == ()


@pytest.mark.req("004.15", "S.13")
def test_a_gateway_of_a_server_with_keys_takes_tokens_that_were_lent_to_whoever_holds_them(
    keys: KeyFolder,
) -> None:
    with serving(keys) as (sessions, gateway):
        grants = frozenset({"topic:subscribe:*", "state:layer/*:write"})
        bearer = sessions.server.lend_token(key="", capabilities=grants)
        bound = sessions.server.lend_token(key=KeyPair.make("x").public, capabilities=grants)
        with SessionClient(WebSocketCarrier(gateway.url, token=bearer)) as client:
            client.connect(SOON)
            assert set(client.capabilities) == grants
            assert client.update(*GAMMA, 1.5).result(SOON).version == 1
            with pytest.raises(StateRejectedError):
                client.update("dims", "z", "step", 1).result(SOON)
        for token in (None, "guessed", bound):
            refused = SessionClient(WebSocketCarrier(gateway.url, token=token))
            with pytest.raises((SessionRejectedError, SessionClosedError)) as caught:
                refused.connect(SOON)
            refused.close()
            assert caught.value.code == "auth_failed"
