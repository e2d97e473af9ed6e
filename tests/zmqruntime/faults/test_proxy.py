"""The fault proxy itself: what it is told to do to a link, it does, and nothing else."""

from __future__ import annotations

import doctest
import importlib
import socket
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from zmqruntime import EndpointInUse, ZMQClient
from zmqruntime.testing import FaultProxy, proxy_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 10.0  # seconds; far more than any of this takes


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, and ends its side when the client has."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while chunk := connection.recv(65536):
                    connection.sendall(chunk)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(SOON)


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with echo() as address, FaultProxy(address) as proxy:
        yield proxy


@contextmanager
def connect(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.address, timeout=SOON) as client:
        yield client


def read(client: socket.socket, count: int) -> bytes:
    text = b""
    while len(text) < count:
        chunk = client.recv(count - len(text))
        assert chunk, f"the connection ended after {text!r}"
        text += chunk
    return text


def say(client: socket.socket, text: bytes) -> None:
    client.sendall(text)
    assert read(client, len(text)) == text


def test_bytes_pass_both_ways_and_are_counted(proxy: FaultProxy) -> None:
    text = bytes(range(256)) * 40_000
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(text,))
        sender.start()
        assert read(client, len(text)) == text
        sender.join(SOON)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""  # the end of one way is passed on, and then of the other
    assert proxy.wait_for(lambda: proxy.connections == 0)
    assert proxy.counters["to_server"] == proxy.counters["to_client"] == len(text)
    assert proxy.counters["accepted"] == 1


def test_a_reader_that_does_not_read_makes_the_sender_wait(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(1 << 30))


def test_a_cut_link_is_reset_and_refuses_until_it_is_healed(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy.address, timeout=SOON)
    proxy.heal()
    with connect(proxy) as client:
        say(client, b"after")
    assert proxy.counters["broken"] == 1


def test_a_link_can_end_in_order(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.cut("fin")
        assert client.recv(1) == b""


def test_an_end_that_is_not_told_talks_to_nobody(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.cut(told="to_server")
        client.sendall(b"is anybody there?")
        assert proxy.wait_for(lambda: proxy.counters["swallowed"] == 17)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SOON)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_connections_break_and_new_ones_are_let_in(proxy: FaultProxy) -> None:
    with connect(proxy) as first:
        say(first, b"one")
        proxy.break_connections()
        with pytest.raises(ConnectionResetError):
            first.recv(1)
        with connect(proxy) as second:
            say(second, b"two")


@pytest.mark.parametrize("count", [0, 1, 1000, 65_537, 300_000])
def test_a_link_breaks_after_exactly_so_many_bytes(count: int) -> None:
    got = bytearray()
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def swallow() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    while chunk := connection.recv(65536):
                        got.extend(chunk)
                except ConnectionResetError:
                    ended.set()

        thread = threading.Thread(target=swallow, daemon=True)
        thread.start()
        with FaultProxy(server.getsockname()) as proxy, connect(proxy) as client:
            proxy.cut_after(count, ending="rst")
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                client.sendall(bytes(64 << 20))
            thread.join(SOON)
            assert proxy.counters["to_server"] == count
    assert ended.is_set()
    assert len(got) <= count  # a reset takes back what the reader had not read yet


def test_a_link_that_stands_still_loses_nothing(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.pause()
        client.sendall(b"meanwhile")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(SOON)
        proxy.resume("to_server")
        assert proxy.wait_for(lambda: proxy.counters["to_server"] == 15)
        assert proxy.counters["to_client"] == 6
        proxy.resume("to_client")
        assert read(client, 9) == b"meanwhile"


def test_swallowed_bytes_are_gone_and_their_connection_with_them(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.swallow("to_client")
        client.sendall(b"an answer to this is lost")
        assert proxy.wait_for(lambda: proxy.counters["swallowed"] == 25)
        assert proxy.counters["to_server"] == 31
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        say(client, b"after")


def test_a_delayed_link_takes_longer_each_way(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.delay(0.1)
        begun = time.monotonic()
        say(client, b"now")
        assert time.monotonic() - begun >= 0.2
        proxy.heal()
        say(client, b"after")


def test_a_limited_link_lets_through_what_it_may(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        proxy.limit(200_000)
        begun = time.monotonic()
        text = bytes(60_000)
        client.sendall(text)
        assert read(client, len(text)) == text
        assert time.monotonic() - begun >= 0.25  # 0.3 s, less the first slice
        proxy.limit(None)
        say(client, text)


def test_a_server_that_is_not_there_is_a_reset() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = server.getsockname()
    with FaultProxy(address) as lonely:
        with pytest.raises(ConnectionResetError), connect(lonely) as client:
            client.recv(1)
        assert lonely.counters["unreachable"] == 1


def test_an_address_that_is_taken_is_named(proxy: FaultProxy) -> None:
    with pytest.raises(EndpointInUse, match=str(proxy.port)):
        FaultProxy(("127.0.0.1", 1), listen=proxy.address)


def test_nonsense_is_refused(proxy: FaultProxy) -> None:
    refused: list[Callable[[], None]] = [
        lambda: proxy.cut("bang"),
        lambda: proxy.pause("sideways"),
        lambda: proxy.delay(-1),
        lambda: proxy.limit(0),
        lambda: proxy.cut_after(-1),
        lambda: proxy.cut_after(1, "both"),
    ]
    for nonsense in refused:
        with pytest.raises(ValueError, match=r"\w"):
            nonsense()


def test_a_closed_proxy_is_closed_and_leaves_nothing() -> None:
    with echo() as address:
        proxy = FaultProxy(address)
        with connect(proxy) as client:
            say(client, b"before")
            proxy.close()
            proxy.close()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(proxy.address, timeout=SOON)
        with pytest.raises(ValueError, match="closed"):
            proxy.heal()
        assert not [each for each in threading.enumerate() if each.name == f"faults-{proxy.port}"]


def test_an_idle_proxy_sleeps(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        say(client, b"before")
        turns = []
        select = proxy._switch._selector.select

        def count(timeout: float | None) -> object:
            turns.append(timeout)
            return select(timeout)

        proxy._switch._selector.select = count  # type: ignore[method-assign, assignment]  # only counts
        proxy.pause()
        client.sendall(b"held back")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert len(turns) < 10
        client.settimeout(SOON)
        proxy.resume()
        assert read(client, 9) == b"held back"


def test_both_channels_of_a_service_lie_behind_the_proxy() -> None:
    with (
        serve_in_thread({"add": lambda request, _: {"sum": sum(request.body["of"])}}) as server,
        proxy_endpoint(server.endpoint) as proxy,
        proxy_endpoint(server.endpoint) as other,
        ZMQClient(proxy.endpoint) as client,
    ):
        assert proxy.endpoint != other.endpoint
        assert proxy.endpoint.data_port == server.endpoint.data_port
        lost, back = threading.Event(), threading.Event()
        client.on_lost(lambda _reason: lost.set())
        client.connect(SOON)
        client.on_welcome(lambda _welcome: back.set())
        assert client.control.request("add", {"of": [1, 2]}) == {"sum": 3}
        assert proxy.connections == 1
        proxy.cut()
        assert lost.wait(SOON)
        proxy.heal()
        assert back.wait(SOON)
        assert client.control.request("add", {"of": [3, 4]}) == {"sum": 7}


@pytest.mark.parametrize("name", ["_clock", "_endpoint_proxy", "_faults", "_faulty_link"])
def test_examples_are_true(name: str) -> None:
    module = importlib.import_module(f"zmqruntime.testing.{name}")
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed
