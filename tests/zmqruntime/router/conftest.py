from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from zmqruntime.router import RouterClient, RouterServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Counter:
    """A function that counts its calls, and lets others wait for them."""

    def __init__(self) -> None:
        self.calls = 0
        self._changed = threading.Condition()

    def __call__(self) -> int:
        with self._changed:
            self.calls += 1
            self._changed.notify_all()
            return self.calls

    def wait_for(self, calls: int, timeout: float = 10.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.calls >= calls, timeout)


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def server() -> Iterator[RouterServer]:
    with RouterServer(free_endpoint()) as server:
        yield server


@pytest.fixture
def connect() -> Iterator[Callable[[RouterServer], RouterClient]]:
    """Make clients that are closed when the test ends."""
    clients: list[RouterClient] = []

    def make(server: RouterServer) -> RouterClient:
        clients.append(RouterClient(server.endpoint))
        clients[-1].connect()
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(server: RouterServer, connect: Callable[[RouterServer], RouterClient]) -> RouterClient:
    return connect(server)
