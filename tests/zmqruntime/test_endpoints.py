from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import Endpoint, EndpointInUse, InsecureBindError, InvalidEndpointError
from zmqruntime._endpoints import bind_host, bind_socket, is_loopback


@pytest.mark.req("002.8")
@pytest.mark.parametrize(("control", "data"), [(5555, 6555), (5565, 6565), (7777, 8777)])
def test_the_data_port_is_a_thousand_above_the_control_port(control: int, data: int) -> None:
    endpoint = Endpoint(port=control)
    assert endpoint.control_url == f"tcp://127.0.0.1:{control}"
    assert endpoint.data_url == f"tcp://127.0.0.1:{data}"
    assert endpoint.data_port == data


@pytest.mark.req("000.2")
@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "tcp://127.0.0.1:5555"),
        ("192.0.2.7", "tcp://192.0.2.7:5555"),
        ("scope-3.example.org", "tcp://scope-3.example.org:5555"),
        ("2001:db8::7", "tcp://[2001:db8::7]:5555"),
    ],
)
def test_a_host_becomes_one_url(host: str, url: str) -> None:
    endpoint = Endpoint(host)
    assert endpoint.control_url == url
    assert endpoint.data_url == url.replace("5555", "6555")
    with pytest.raises(InvalidEndpointError, match="every interface"):
        Endpoint("*")
    assert Endpoint().control_bind_url("*") == "tcp://*:5555"


@pytest.mark.req("000.2")
def test_ipv6_hosts_are_bracketed() -> None:
    endpoint = Endpoint("::1", 5555)
    assert endpoint.control_url == "tcp://[::1]:5555"
    assert str(endpoint) == "[::1]:5555"


@pytest.mark.parametrize(
    ("host", "port", "transport", "offset"),
    [
        ("", 5555, "tcp", 1000),
        ("*", 5555, "tcp", 1000),
        ("a b", 5555, "tcp", 1000),
        ("http://x", 5555, "tcp", 1000),
        ("localhost", 0, "tcp", 1000),
        ("localhost", 65000, "tcp", 1000),
        ("localhost", 500, "tcp", -1000),
        ("localhost", 5555, "tcp", 0),
        ("localhost", 5555, "udp", 1000),
    ],
)
def test_what_cannot_exist_is_refused(host: str, port: int, transport: str, offset: int) -> None:
    with pytest.raises(InvalidEndpointError):
        Endpoint(host, port, transport, offset)


@given(
    st.sampled_from(["localhost", "10.0.0.7", "::1", "fe80::1", "scope-3.lab.example"]),
    st.integers(1, 64535),
)
def test_an_endpoint_can_be_read_back_from_its_text(host: str, port: int) -> None:
    endpoint = Endpoint(host, port)
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert Endpoint.parse(f"tcp://{endpoint}") == endpoint


@pytest.mark.parametrize("text", ["localhost", "::1", "[::1]", " scope-3 "])
def test_a_text_without_port_gets_the_default(text: str) -> None:
    assert Endpoint.parse(text, default_port=7777).port == 7777


@pytest.mark.parametrize("text", ["", ":5555", "a:b:c", "host:port", "ipc:///tmp/x", "a:999999"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidEndpointError):
        Endpoint.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_a_named_error(text: str) -> None:
    with suppress(InvalidEndpointError):
        Endpoint.parse(text)


@pytest.mark.req("000.7")
@pytest.mark.parametrize(
    ("asked", "insecure", "host"),
    [
        ("*", False, "127.0.0.1"),
        ("*", True, "*"),
        ("localhost", False, "127.0.0.1"),
        ("127.0.0.1", False, "127.0.0.1"),
        ("::1", False, "::1"),
        ("0.0.0.0", True, "0.0.0.0"),
    ],
)
def test_without_keys_only_loopback_is_served(asked: str, insecure: bool, host: str) -> None:
    assert bind_host(asked, insecure=insecure) == host


@pytest.mark.parametrize("asked", ["0.0.0.0", "10.0.0.7", "::"])
def test_an_open_bind_without_keys_says_what_to_do(asked: str) -> None:
    with pytest.raises(InsecureBindError, match=r"keys make.*insecure") as caught:
        bind_host(asked)
    assert isinstance(caught.value, PermissionError)


def test_a_host_name_is_no_bind_address() -> None:
    with pytest.raises(InvalidEndpointError):
        bind_host("scope-3.lab.example", insecure=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("h", False)],
)
def test_names_are_not_resolved_to_find_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.req("F.2")
def test_a_port_that_a_foreign_program_holds_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign, zmq.Context() as context:
        with context.socket(zmq.ROUTER) as router, pytest.raises(EndpointInUse) as caught:
            bind_socket(router, f"tcp://127.0.0.1:{foreign.getsockname()[1]}")
        assert caught.value.pid == os.getpid()
        assert f"(process {os.getpid()})" in str(caught.value)
        with socket.create_connection(foreign.getsockname()) as visitor:
            assert visitor.getpeername() == foreign.getsockname()


def test_an_address_of_another_computer_cannot_be_bound() -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        pytest.raises(InvalidEndpointError, match=r"192\.0\.2\.1"),
    ):
        bind_socket(router, "tcp://192.0.2.1:5555")


STRAY_BYTES = """
import random, socket, zmq
from zmqruntime._endpoints import bind_socket
from zmqruntime.testing import free_endpoint
rng = random.Random(1)
for _ in range(200):
    endpoint = free_endpoint()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        bind_socket(router, endpoint.control_url)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", endpoint.port)) as visitor:
                visitor.sendall(rng.randbytes(200))
"""


def test_stray_bytes_while_a_socket_closes_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", STRAY_BYTES], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
