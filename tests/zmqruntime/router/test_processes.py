"""Servers and clients in processes of their own, and what becomes of one when another is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zmqruntime import Endpoint, EndpointInUse, PeerLostError, ZMQClient, ZMQServer
from zmqruntime.router import RouterClient, RouterServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 15.0
PROGRAM = Path(__file__).with_name("router_program.py")


@contextmanager
def program(role: str, endpoint: Endpoint) -> Iterator[subprocess.Popen[str]]:
    """Run the other end, and say when it is ready."""
    command = [sys.executable, str(PROGRAM), role, str(endpoint.port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                pytest.fail(f"{role} did not become ready: {process.communicate()[1]}")
            yield process
        finally:
            process.kill()


@pytest.mark.req("003.9")
@pytest.mark.req("003.15")
def test_clients_that_are_killed_leave_the_server_and_the_others_running() -> None:
    endpoint = free_endpoint()
    with program("serve", endpoint), RouterClient(endpoint) as client:
        client.configure_stream("frame", "queue")
        with ExitStack() as stack:
            victims = [
                stack.enter_context(program(role, endpoint))
                for role in ("call", "follow", "call", "follow")
            ]
            for victim in victims:
                victim.send_signal(signal.SIGKILL)
                victim.wait(SOON)
                assert client.call("device", "double", [4]) == 8
                client.get_stream("frame", block=True, timeout=SOON)
        assert client.take_gaps("frame") == []


@pytest.mark.req("003.9")
@pytest.mark.req("F.24")
def test_a_server_that_is_killed_gives_everybody_who_waits_an_error_and_is_found_again() -> None:
    endpoint = free_endpoint()
    with ExitStack() as stack:
        server = stack.enter_context(program("serve", endpoint))
        client = stack.enter_context(RouterClient(endpoint))
        client.configure_stream("frame")
        client.configure_stream("nothing")
        client.get_stream("frame", block=True, timeout=SOON)
        pool = stack.enter_context(ThreadPoolExecutor(3))
        call = pool.submit(client.call, "device", "hang", timeout=600)
        stream = pool.submit(client.get_stream, "nothing", True)
        timed = pool.submit(client.get_stream, "nothing", True, 600)
        client.call("device", "double", [1])  # the one before it is under way by now
        server.send_signal(signal.SIGKILL)
        for waiting in (call, stream, timed):
            with pytest.raises(PeerLostError):
                waiting.result(SOON)
        with pytest.raises(PeerLostError, match="not there"):
            client.get_stream("nothing", block=True)
        server.wait(SOON)
        stack.enter_context(program("serve", endpoint))
        assert client.call("device", "double", [3], timeout=SOON) == 6
        restarted = time.monotonic_ns()
        client.connect(SOON)
        while client.get_stream("frame", block=True, timeout=SOON)[0].mono_ns < restarted:
            pass


@pytest.mark.req("003.1")
def test_ports_follow_the_rule_unless_they_are_given() -> None:
    foreign = free_endpoint()
    rpc, broadcast = foreign.port, foreign.port + 1
    with (
        RouterServer(rpc_port=rpc, broadcast_port=broadcast) as server,
        RouterClient(rpc_port=rpc, broadcast_port=broadcast) as client,
    ):
        assert (server.service.ports.control, server.service.ports.data) == (rpc, broadcast)
        client.configure_stream("s")
        server.get_stream_fn("s")("value")
        assert client.get_stream("s", block=True, timeout=SOON)[1] == "value"
    usual = RouterServer()
    assert (usual.endpoint.port, usual.endpoint.data_port) == (5555, 6555)
    usual.stop()
    client = RouterClient()
    assert (client.connection.endpoint.port, client.connection.endpoint.data_port) == (5555, 6555)
    client.close()


def test_a_second_server_on_one_endpoint_is_refused_and_the_first_goes_on() -> None:
    with RouterServer(free_endpoint()) as first, RouterClient(first.endpoint) as client:
        with pytest.raises(EndpointInUse):
            RouterServer(first.endpoint).start()
        assert client.get_version()["server"] == first.service.server_id


def test_a_server_can_ride_on_a_service_of_the_program() -> None:
    with ExitStack() as stack:
        service = ZMQServer("mine", free_endpoint(), bind_address="127.0.0.1")
        service.control.handle("greet", lambda *_: {"text": "hello"})
        server = RouterServer(service)
        server.expose("text", str, ["upper"])
        stack.enter_context(server)
        connection = stack.enter_context(ZMQClient(service.endpoint))
        client = stack.enter_context(RouterClient(connection))
        assert client.call("text", "upper", ["a"]) == "A"
        assert connection.control.request("greet") == {"text": "hello"}
        server.stop()
        assert connection.control.request("greet") == {"text": "hello"}
        service.stop()
