from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import ZMQClient, ZMQServer
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from zmqruntime import Peer, Request


@pytest.fixture(autouse=True)
def state_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep audit logs and keys of a test to itself."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder that nobody else can enter, with nothing in it."""
    path = tmp_path / "private"
    path.mkdir(mode=0o700)
    return path


@dataclass
class House:
    """A server's folder of keys, and clients of several kinds."""

    keys: KeyFolder
    pairs: dict[str, KeyPair] = field(default_factory=dict)

    def client_keys(self, name: str, role: str | None = "operator", **more: Any) -> ClientKeys:
        """Authorise a new key, unless its role is None, and return what reaches the server."""
        pair = self.pairs.setdefault(name, KeyPair.make(name))
        if role is not None:
            self.keys.authorize(pair.public, name=name, role=role, **more)
        return ClientKeys(pair, self.keys.server_pair().public)

    @contextmanager
    def serve(
        self,
        handlers: Mapping[str, Callable[[Request, Peer], Any]] | None = None,
        *,
        capabilities: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Iterator[ZMQServer]:
        """Serve with keys on loopback while the block runs."""
        server = ZMQServer(
            "test", free_endpoint(), bind_address="127.0.0.1", keys=self.keys, **more
        )
        for type_, handler in (handlers or {}).items():
            server.control.handle(
                type_, handler, on_loop=True, capability=(capabilities or {}).get(type_)
            )
        with server:
            yield server


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Keys of a server, with nobody authorised yet."""
    return House(KeyFolder(tmp_path / "keys"))


@pytest.fixture
def connect() -> Iterator[Callable[..., ZMQClient]]:
    """Make clients that are closed when the test ends."""
    clients: list[ZMQClient] = []

    def make(server: ZMQServer, keys: ClientKeys | None = None, **more: Any) -> ZMQClient:
        clients.append(ZMQClient(server.endpoint, keys=keys, **more))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
