from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq

from zmqruntime import (
    Endpoint,
    EndpointInUse,
    Feed,
    FeedReader,
    InvalidEndpointError,
    Item,
    Publisher,
    Subscriber,
    Transport,
    ZMQClient,
    ZMQServer,
    find_services,
    stop_service,
)
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 10.0  # seconds; far more than any of this takes
PROGRAM = """
import sys
from zmqruntime import Endpoint, ZMQServer
server = ZMQServer("test", Endpoint(port=int(sys.argv[1]), transport="ipc"))
server.start(ready=False)
server.install_signal_handlers()
print("ready", flush=True)
server.serve_until_signal()
"""


@pytest.fixture(autouse=True)
def short_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep locks and sockets in a folder whose name leaves room for theirs."""
    with tempfile.TemporaryDirectory(prefix="zr-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder) / "zmqruntime"


def on(transport: str) -> Endpoint:
    return Endpoint(port=free_endpoint().port, transport=transport)


def serve(endpoint: Endpoint) -> ZMQServer:
    return ZMQServer("test", endpoint, bind_address="127.0.0.1")


@pytest.mark.req("000.12")
@pytest.mark.parametrize("transport", list(Transport))
def test_a_stream_is_the_same_over_every_transport(transport: str) -> None:
    with serve(on(transport)) as server, Subscriber(server) as subscriber:
        with ZMQClient(server.endpoint) as client:
            client.connect(SOON)
            with Publisher(client, "planes", use_shared_memory=False) as publisher:
                for number in range(5):
                    publisher.publish(b"h", [bytes(100_000)], key=str(number), timeout=SOON)
                seen: list[str] = []
                while len(seen) < 5:
                    assert subscriber.wait(SOON)
                    for item in subscriber.receive():
                        assert isinstance(item, Item)
                        assert item.lease.copy() == (bytes(100_000),)
                        seen.append(item.key)
                assert publisher.flush(SOON) == ()
        assert seen == ["0", "1", "2", "3", "4"]


@pytest.mark.req("000.12")
@pytest.mark.parametrize("transport", list(Transport))
def test_a_feed_is_the_same_over_every_transport(transport: str) -> None:
    with (
        serve(on(transport)) as server,
        Feed(server) as feed,
        ZMQClient(server.endpoint) as client,
        FeedReader(client) as reader,
    ):
        client.connect(SOON)
        reader.subscribe("frames")
        assert reader.wait_subscribed("frames", SOON)
        feed.publish("frames", b"h", [b"pixels"])
        assert reader.wait(SOON)
        [item] = reader.receive()
        assert isinstance(item, Item)
        assert item.lease.copy() == (b"pixels",)


@pytest.mark.req("000.12")
def test_a_plain_req_socket_may_ask_over_ipc() -> None:
    with serve(on("ipc")) as server, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        socket.connect(server.endpoint.control_url)
        socket.send(b'{"v": 1, "type": "ping", "id": "1"}')
        assert b'"pong"' in socket.recv()


def test_nobody_else_can_reach_the_socket_files(short_folder: Path) -> None:
    with serve(on("ipc")) as server, Subscriber(server):
        port = server.endpoint.port
        for name in (f"test-{port}.sock", f"test-{port}.data.sock"):
            status = (short_folder / name).lstat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == 0o600
        assert stat.S_IMODE(short_folder.lstat().st_mode) == 0o700
    assert not list(short_folder.glob("*.sock"))


@pytest.mark.req("F.3")
def test_a_second_server_does_not_take_the_socket_file_of_the_first() -> None:
    with serve(on("ipc")) as server, ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        with pytest.raises(EndpointInUse, match=str(os.getpid())):
            serve(server.endpoint).start()
        assert client.control.request("ping")["app"] == "test"
        with ZMQClient(server.endpoint) as another:
            another.connect(SOON)


def test_what_a_killed_server_left_is_in_nobodys_way(short_folder: Path) -> None:
    endpoint = on("ipc")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(endpoint.port)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert (short_folder / f"test-{endpoint.port}.sock").exists()
    with serve(endpoint) as server, ZMQClient(server.endpoint) as client:
        client.connect(SOON)
    assert not list(short_folder.glob("*.sock"))


def test_a_client_comes_back_when_the_server_does() -> None:
    endpoint = on("ipc")
    with ZMQClient(Endpoint(port=endpoint.port, transport="ipc", app="test")) as client:
        for _ in range(3):
            with serve(endpoint):
                client.connect(SOON)
                assert client.control.request("ping", timeout=SOON)["app"] == "test"


def test_a_service_on_a_socket_file_is_found_and_stopped() -> None:
    endpoint = on("ipc")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(endpoint.port)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        [record] = find_services(timeout=SOON)
        assert record.answering
        assert record.endpoint == Endpoint("127.0.0.1", endpoint.port, transport="ipc", app="test")
        stop_service(record, timeout=SOON)
        assert process.wait(SOON) == 0


def test_a_file_that_is_no_socket_is_left_alone(short_folder: Path) -> None:
    endpoint = on("ipc")
    short_folder.mkdir(mode=0o700)
    path = short_folder / f"test-{endpoint.port}.sock"
    path.write_text("a letter")
    with pytest.raises(InvalidEndpointError, match="remove it"):
        serve(endpoint).start()
    assert path.read_text() == "a letter"


def test_a_name_that_is_too_long_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    with pytest.raises(InvalidEndpointError, match=r"at most 107.*XDG_RUNTIME_DIR"):
        _ = Endpoint(port=5555, transport="ipc", app="test").control_url


def test_a_client_that_names_no_application_needs_one_that_serves() -> None:
    with pytest.raises(InvalidEndpointError, match="start it, or name"):
        ZMQClient(on("ipc"))


def test_what_cannot_be_reached_by_a_socket_file_is_refused() -> None:
    with pytest.raises(InvalidEndpointError, match="use tcp"):
        Endpoint("192.0.2.7", transport="ipc")
    with pytest.raises(InvalidEndpointError, match="names files"):
        Endpoint(transport="ipc", app="../else")
    with pytest.raises(InvalidEndpointError, match="not known"):
        Endpoint(transport="udp")
    with pytest.raises(InvalidEndpointError, match="between 1 and 65535"):
        Endpoint.parse("ipc://viewer:99999")


def test_an_endpoint_reads_what_it_writes() -> None:
    endpoint = Endpoint(port=5599, transport="ipc", app="viewer")
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert Endpoint.parse("ipc://viewer") == Endpoint(transport="ipc", app="viewer")
