from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from zmqruntime import EndpointInUse, Subscriber, ZMQServer
from zmqruntime.processes._holder import Holder, holder_of
from zmqruntime.testing import free_endpoint

FOREIGN = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("up", flush=True)
    sys.stdin.read()
"""


NAME = Path(sys.executable).name[:15]


def start_foreign(port: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", FOREIGN, str(port)]
    foreign = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert foreign.stdout is not None
    assert foreign.stdout.readline() == "up\n"
    return foreign


def test_nobody_holds_a_free_port() -> None:
    assert holder_of(free_endpoint().port) is None


def test_a_port_that_is_connected_from_is_not_listened_on() -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        assert holder_of(client.getsockname()[1]) is None
        held = holder_of(server.getsockname()[1])
        assert held is not None
        assert held.pid == os.getpid()


@pytest.mark.req("F.2")
@pytest.mark.parametrize("channel", ["control", "data"])
def test_a_foreign_program_on_either_port_is_named_and_never_signalled(channel: str) -> None:
    endpoint = free_endpoint()
    port = endpoint.port if channel == "control" else endpoint.data_port
    with start_foreign(port) as foreign:
        assert holder_of(port) == Holder(foreign.pid, NAME)
        with pytest.raises(EndpointInUse, match=rf"{NAME!r} \(process {foreign.pid}\)") as caught:  # noqa: SIM117
            with ZMQServer("test", endpoint) as server, Subscriber(server):
                pass
        assert caught.value.pid == foreign.pid
        with socket.create_connection(("127.0.0.1", port)):
            assert foreign.poll() is None
        assert foreign.stdin is not None
        foreign.stdin.close()
        assert foreign.wait(10) == 0
