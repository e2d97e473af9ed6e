from __future__ import annotations

import logging
import threading
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import ConflictError, Deadline, Endpoint, InsecureBindError, ZMQClient
from zmqruntime.router import ExposeError, RouterClient, RouterServer, StreamEmpty
from zmqruntime.router._route import check_route, follow_route
from zmqruntime.security import ClientKeys, KeyFolder, KeyPair
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Connect = Callable[[RouterServer], RouterClient]

SOON = 10.0


@contextmanager
def publisher() -> Iterator[tuple[zmq.Socket[bytes], str]]:
    """Give a PUB socket as any program could have it; XPUB, to see who listens."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.rcvtimeo = int(SOON * 1000)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        yield socket, f"tcp://127.0.0.1:{port}"


def next_of(client: RouterClient, name: str, timeout: float = SOON) -> Any:
    return client.get_stream(name, block=True, timeout=timeout)[1]


def stands(server: RouterServer, name: str, state: str) -> dict[str, Any]:
    """Wait until a relay stands so."""
    return stands_anywhere([server], name, state)


def stands_anywhere(servers: list[RouterServer], name: str, state: str) -> dict[str, Any]:
    """Wait until a relay of one of several servers stands so."""
    deadline = Deadline(2 * SOON)
    waiting = threading.Event()
    while not deadline.expired:
        relays = [each.get_stream_configurations()["zmq_streams"][name] for each in servers]
        for relay in relays:
            if relay["state"] == state:
                return relay
        waiting.wait(0.01)
    raise AssertionError(relays)


@pytest.mark.req("003.6")
def test_messages_of_any_pub_socket_are_passed_on(server: RouterServer, connect: Connect) -> None:
    client = connect(server)
    with publisher() as (source, address):
        server.add_zmq_stream("camera", address)
        client.configure_stream("camera", "queue")
        assert client.wait_for_stream("camera")
        assert source.recv() == b"\x01"
        source.send_multipart([b"topic", b"one"])
        source.send(b"two")
        assert next_of(client, "camera") == [b"topic", b"one"]
        assert next_of(client, "camera") == [b"two"]
        assert server.stream_counters("camera") == {"sent": 2, "refused": 0}
        late = connect(server)
        late.configure_stream("camera")
        assert next_of(late, "camera") == [b"two"]  # the last value was kept


@pytest.mark.req("003.6")
@pytest.mark.req("003.7")
@pytest.mark.req("F.26")
def test_a_relay_can_be_switched_and_removed_and_then_holds_no_socket(
    server: RouterServer, connect: Connect
) -> None:
    client = connect(server)
    with publisher() as (source, address):
        server.add_zmq_stream("camera", address, False, topic="frame")
        client.configure_stream("camera", "queue")
        assert client.wait_for_stream("camera")
        for _ in range(2):
            client.enable_stream("camera")
            client.enable_stream("camera")
            assert source.recv() == b"\x01frame"
            source.send(b"frame 1")
            source.send(b"other")
            assert next_of(client, "camera") == [b"frame 1"]
            client.disable_stream("camera")
            client.disable_stream("camera")
            assert source.recv() == b"\x00frame"
            source.send(b"frame 2")
        client.enable_stream("camera")
        assert source.recv() == b"\x01frame"
        monitor = source.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        monitor.rcvtimeo = int(SOON * 1000)
        client.remove_stream("camera")
        client.remove_stream("camera")
        assert source.recv() == b"\x00frame"
        monitor.recv_multipart()  # the connection is gone
        source.disable_monitor()
        monitor.close()
        assert server.get_stream_configurations()["zmq_streams"] == {}
        with pytest.raises(StreamEmpty):
            client.get_stream("camera")


def test_chatter_is_logged_by_topic_and_size_if_asked(
    server: RouterServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(server)
    with publisher() as (source, address), caplog.at_level(logging.INFO):
        server.add_zmq_stream("camera", address, log_chatter=True)
        client.configure_stream("camera")
        source.recv()
        source.send_multipart([b"topic", b"x" * 100])
        next_of(client, "camera")
    assert "relay 'camera': b'topic', 105 bytes" in caplog.text


def test_a_message_of_very_many_frames_is_refused_and_the_relay_lives(
    server: RouterServer, connect: Connect
) -> None:
    client = connect(server)
    with publisher() as (source, address):
        server.add_zmq_stream("camera", address)
        client.configure_stream("camera", "queue")
        assert client.wait_for_stream("camera")
        source.recv()
        source.send_multipart([b"x"] * 100)
        source.send(b"two")
        assert next_of(client, "camera") == [b"two"]
        assert server.stream_counters("camera")["refused"] == 1


@pytest.mark.req("003.6")
@pytest.mark.req("B.12")
def test_three_servers_in_a_row_pass_a_stream_on_with_its_first_time(connect: Connect) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(RouterServer(free_endpoint())) for _ in range(4)]
        send = servers[0].get_stream_fn("frame")
        for before, after in pairwise(servers):
            after.add_zmq_stream("frame", before.endpoint)
        last = connect(servers[-1])
        last.configure_stream("frame", "queue")
        for server in servers[1:]:
            stands(server, "frame", "live")
        send("first")
        at, data = last.get_stream("frame", block=True, timeout=SOON)
        assert (data, at.server_id) == ("first", servers[0].service.server_id)
        late = connect(servers[-1])
        late.configure_stream("frame")
        assert late.get_stream("frame", block=True, timeout=SOON) == (at, "first")
        for number in range(200):
            send([number, bytearray(1000)])
        assert [next_of(last, "frame")[0] for _ in range(200)] == list(range(200))
        path = last.connection.control.request("get_route", {"name": "frame"})["path"]
        assert path == [server.service.server_id for server in servers]


@pytest.mark.req("003.6")
@pytest.mark.req("B.12")
def test_a_circle_of_servers_is_refused_with_its_way(connect: Connect) -> None:
    with ExitStack() as stack:
        a, b, c = (stack.enter_context(RouterServer(free_endpoint())) for _ in range(3))
        b.add_zmq_stream("frame", a.endpoint)
        c.add_zmq_stream("frame", b.endpoint)
        a.add_zmq_stream("frame", c.endpoint)
        reason = stands_anywhere([a, b, c], "frame", "refused")["reason"]
        assert "has been here before" in reason
        for server in (a, b, c):  # all are well otherwise
            assert connect(server).get_version()["protocol"] == 1


@pytest.mark.req("B.12")
def test_a_server_does_not_relay_from_itself(server: RouterServer) -> None:
    server.add_zmq_stream("mirror", server.endpoint, source="mirror")
    assert "here before" in stands(server, "mirror", "refused")["reason"]
    server.get_stream_fn("origin")
    server.add_zmq_stream("copy", server.endpoint, source="origin")
    assert "here before" in stands(server, "copy", "refused")["reason"]


@pytest.mark.req("B.12")
def test_a_stream_passes_through_eight_servers_and_no_more() -> None:
    check_route("i", list("abcdefg"))
    with pytest.raises(ConflictError, match="8 servers"):
        check_route("i", list("abcdefgh"))
    with pytest.raises(ConflictError, match="a > b"):
        check_route("a", ["a", "b"])
    assert follow_route(lambda _name: None, "a", "s", [], 1.0) == ["a"]
    with ExitStack() as stack:
        servers = [stack.enter_context(RouterServer(free_endpoint())) for _ in range(9)]
        servers[0].get_stream_fn("s")("value")
        for before, after in pairwise(servers):
            after.add_zmq_stream("s", before.endpoint)
        for server in servers[1:8]:
            stands(server, "s", "live")
        assert "8" in stands(servers[8], "s", "refused")["reason"]


def test_relays_that_were_added_before_the_start_look_for_their_sources_then(
    server: RouterServer, connect: Connect
) -> None:
    server.get_stream_fn("s")("value")
    second = RouterServer(free_endpoint())
    second.add_zmq_stream("s", server.endpoint)
    assert second.get_stream_configurations()["zmq_streams"]["s"]["state"] == "waiting"
    second.start()
    second.start()
    client = connect(second)
    client.configure_stream("s")
    assert next_of(client, "s") == "value"
    second.stop()
    second.stop()
    third = RouterServer(free_endpoint())
    third.add_zmq_stream("s", server.endpoint)
    third.stop()


def test_a_relay_waits_for_its_source_and_follows_it_through_a_restart(
    server: RouterServer, connect: Connect
) -> None:
    endpoint = free_endpoint()
    server.add_zmq_stream("frame", endpoint)
    client = connect(server)
    client.configure_stream("frame", "queue")
    assert client.wait_for_stream("frame")
    for run in range(2):
        with RouterServer(endpoint) as source:
            source.get_stream_fn("frame")(run)
            assert next_of(client, "frame") == run
            stands(server, "frame", "live")
        stands(server, "frame", "waiting")


@pytest.mark.req("003.7")
def test_a_relay_of_a_router_can_be_switched_and_removed(
    server: RouterServer, connect: Connect
) -> None:
    client = connect(server)
    client.configure_stream("here", "queue")
    assert client.wait_for_stream("here")
    with RouterServer(free_endpoint()) as source:
        send = source.get_stream_fn("there")
        server.add_zmq_stream("here", f"router://127.0.0.1:{source.endpoint.port}", source="there")
        send(1)
        assert next_of(client, "here") == 1
        client.disable_stream("here")
        client.disable_stream("here")
        stands(server, "here", "disabled")
        send(2)
        client.enable_stream("here")
        assert next_of(client, "here") == 2  # the last value, when it came back
        threads = {thread.name for thread in threading.enumerate()}
        assert "relay-here" in threads
        client.remove_stream("here")
        assert "relay-here" not in {thread.name for thread in threading.enumerate()}
        assert len(source.service.control.peers) <= 1


@pytest.mark.req("B.12")
@pytest.mark.req("003.14")
def test_a_relay_shows_its_key_and_what_it_may_not_read_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    keys = KeyFolder(tmp_path / "keys")
    pair, narrow = KeyPair.make("relay"), KeyPair.make("narrow")
    public = keys.server_pair().public
    keys.authorize(pair.public, name="relay", role="viewer")
    only_a = frozenset({"topic:subscribe:a"})
    keys.authorize(narrow.public, name="narrow", role=None, capabilities=only_a)
    with ExitStack() as stack:
        source = stack.enter_context(RouterServer(free_endpoint(), keys=keys))
        relay = stack.enter_context(RouterServer(free_endpoint()))
        source.get_stream_fn("a")("open")
        source.get_stream_fn("b")("closed")
        trusted, half = (
            stack.enter_context(ZMQClient(source.endpoint, keys=ClientKeys(each, public)))
            for each in (pair, narrow)
        )
        trusted.connect()
        half.connect()
        relay.add_zmq_stream("a", trusted)
        relay.add_zmq_stream("half a", half, source="a")
        relay.add_zmq_stream("half b", half, source="b")
        for name in ("a", "half a"):
            stands(relay, name, "live")
        assert "topic:subscribe:b" in stands(relay, "half b", "refused")["reason"]
        client = stack.enter_context(RouterClient(relay.endpoint))
        for name in ("a", "half a", "half b"):
            client.configure_stream(name)
        assert next_of(client, "a") == next_of(client, "half a") == "open"
        with pytest.raises(StreamEmpty):
            client.get_stream("half b")


@pytest.mark.parametrize(
    "address",
    ["", "camera", "udp://127.0.0.1:1", "tcp://", "inproc://x", f"ipc://{'x' * 200}"],
)
def test_what_is_no_address_is_refused(server: RouterServer, address: str) -> None:
    with pytest.raises(ExposeError):
        server.add_zmq_stream("camera", address)
    assert server.get_stream_configurations()["zmq_streams"] == {}


def test_a_pub_socket_on_another_computer_has_to_be_asked_for_aloud(server: RouterServer) -> None:
    with pytest.raises(InsecureBindError, match="insecure=True"):
        server.add_zmq_stream("camera", "tcp://192.0.2.1:5600")
    server.add_zmq_stream("camera", "tcp://192.0.2.1:5600", insecure=True)
    with pytest.raises(ExposeError, match="already"):
        server.add_zmq_stream("camera", Endpoint(port=5600))
