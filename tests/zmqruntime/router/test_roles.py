"""What a key may do with a router, over real connections, and that it is written down."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from zmqruntime import ForbiddenError, ZMQServer
from zmqruntime.router import RouterClient, RouterServer
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 10.0


class Lamp:
    on = False

    def switch(self, on: bool) -> bool:
        self.on = on
        return self.on


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFolder:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return KeyFolder(tmp_path / "keys")


@pytest.fixture
def server(keys: KeyFolder, tmp_path: Path) -> Iterator[RouterServer]:
    service = ZMQServer(
        "lamp",
        free_endpoint(),
        bind_address="127.0.0.1",
        keys=keys,
        audit=tmp_path / "audit.jsonl",
    )
    server = RouterServer(service)
    server.expose("lamp", Lamp(), ["switch", "on"])
    server.add_named_call("light", "lamp", "switch", [True])
    server.add_stream("lamp", 50, "lamp", "on")
    server.get_stream_fn("secret")("hidden")
    with server:
        yield server
    service.stop()


@contextmanager
def client_of(
    server: RouterServer, keys: KeyFolder, role: str | None, *capabilities: str
) -> Iterator[RouterClient]:
    pair = KeyPair.make("guest")
    keys.authorize(
        pair.public, name=f"guest-{role}", role=role, capabilities=frozenset(capabilities)
    )
    reach = ClientKeys(pair, keys.server_pair().public)
    with RouterClient(server.endpoint, keys=reach) as client:
        yield client


@pytest.mark.req("003.14")
def test_an_operator_calls_and_a_viewer_only_looks_and_both_are_written_down(
    server: RouterServer, keys: KeyFolder, tmp_path: Path
) -> None:
    with (
        client_of(server, keys, "operator") as operator,
        client_of(server, keys, "viewer") as viewer,
    ):
        assert operator.call("lamp", "switch", [True]) is True
        assert operator.call_by_name("light") is True
        operator.disable_stream("lamp")
        operator.enable_stream("lamp")
        for ask in (
            lambda: viewer.call("lamp", "switch", [False]),
            lambda: viewer.call("lamp", "on"),
            lambda: viewer.call("lamp", "__class__"),
            lambda: viewer.call_by_name("light"),
            lambda: viewer.disable_stream("lamp"),
            lambda: viewer.remove_stream("lamp"),
        ):
            with pytest.raises(ForbiddenError):
                ask()
        assert viewer.get_exposed() == {"objects": {}, "named_calls": {}}
        assert "on" in operator.get_exposed()["objects"]["lamp"]
        viewer.configure_stream("lamp")
        assert viewer.get_stream("lamp", block=True, timeout=SOON)[1] is True
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    verdicts = {(line.get("capability"), line.get("verdict")) for line in lines}
    assert ("call:lamp.switch", "allowed") in verdicts
    assert ("call:lamp.switch", "denied") in verdicts
    assert ("command:disable_stream", "denied") in verdicts


@pytest.mark.req("003.14")
def test_who_may_not_follow_a_stream_is_told_so_and_does_not_see_it(
    server: RouterServer, keys: KeyFolder
) -> None:
    with client_of(server, keys, None, "topic:subscribe:lamp") as client:
        streams = client.get_stream_configurations()
        assert list(streams["periodic_streams"]) == ["lamp"]
        assert streams["manual_streams"] == {}
        client.configure_stream("secret")
        with pytest.raises(ForbiddenError, match="topic:subscribe:secret"):
            client.get_stream("secret", block=True)
        with pytest.raises(ForbiddenError):
            client.wait_for_stream("secret")
        client.configure_stream("lamp")
        assert client.get_stream("lamp", block=True, timeout=SOON)[1] is False
