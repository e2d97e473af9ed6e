"""Who gets in, and who does not: real sockets against a server with keys."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import queue
import socket as stdlib_socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import (
    BusyError,
    Deadline,
    Endpoint,
    ForbiddenError,
    HandshakeError,
    InsecureBindError,
    Item,
    NotAttachedError,
    Peer,
    Publisher,
    Subscriber,
    ZMQClient,
    ZMQServer,
    find_services,
    stop_service,
)
from zmqruntime._endpoints import HANDSHAKE_MS
from zmqruntime.security import ClientKeys, KeyPair, Rate, Rates
from zmqruntime.security._connections import _site
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.zmqruntime.security.conftest import House

    from zmqruntime.security._gate import Gate

    Connect = Callable[..., ZMQClient]

SOON = 10.0  # seconds; far more than any of this takes
SNAP = {"snap": lambda _request, peer: {"name": peer.name, "key": peer.source.key}}
CAMERA = {"snap": "call:camera.snap"}


def until(condition: Callable[[], object]) -> None:
    """Wait for something that no event tells."""
    deadline, pause = Deadline(SOON), threading.Event()
    while not condition():
        assert not deadline.expired
        pause.wait(0.005)


@contextlib.contextmanager
def raw_socket(kind: int, url: str, keys: ClientKeys | None = None, **options: Any) -> Any:
    with zmq.Context() as context:
        socket = context.socket(kind)
        if keys is not None:
            keys.secure(socket)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        monitor = socket.get_monitor_socket(events)
        socket.connect(url)
        try:
            yield socket, monitor
        finally:
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close(linger=0)


def gate_of(server: ZMQServer) -> Gate:
    assert server.gate is not None
    return server.gate


def first_event(monitor: zmq.Socket[bytes]) -> int:
    assert monitor.poll(int(SOON * 1000))
    event, _ = struct.unpack("=HI", monitor.recv_multipart()[0])
    return int(event)


@pytest.mark.req("000.15", "S.2", "T3")
def test_an_authorised_key_is_let_in_and_is_who_it_is(house: House, connect: Connect) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server:
        keys = house.client_keys("desk")
        client = connect(server, keys)
        welcome = client.connect(SOON)
        assert welcome.capabilities == tuple(sorted(welcome.capabilities))
        assert "call:*" in welcome.capabilities
        assert not welcome.insecure
        assert client.control.request("snap") == {"name": "desk", "key": keys.pair.public}


@pytest.mark.req("000.15", "S.2")
def test_a_key_that_nobody_authorised_is_refused_with_what_to_do(
    house: House, connect: Connect
) -> None:
    with house.serve(SNAP) as server:
        client = connect(server, house.client_keys("stranger", role=None))
        with pytest.raises(HandshakeError, match=r"'stranger'.*not authorised.*keys authorize"):
            client.connect(SOON)
        assert server.gate is not None
        assert server.gate.counters["denied"] >= 1
        house.client_keys("stranger", role="viewer")  # let in meanwhile, without a restart
        until(lambda: client.connected)


@pytest.mark.req("000.15", "S.2")
def test_a_server_with_another_key_than_the_pinned_one_gets_nothing(
    house: House, connect: Connect
) -> None:
    heard: list[Peer] = []
    with house.serve({"snap": lambda _, peer: heard.append(peer)}) as server:
        right = house.client_keys("desk")
        wrong = ClientKeys(right.pair, KeyPair.make("impostor").public)
        with pytest.raises(HandshakeError, match="does not have the key that we were told"):
            connect(server, wrong).connect(SOON)
        assert not heard
        assert not server.control.peers


@pytest.mark.req("000.15", "S.2")
@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER, zmq.PUSH])
def test_a_client_without_keys_is_refused_by_a_server_with_keys(house: House, kind: int) -> None:
    with (
        house.serve(SNAP) as server,
        raw_socket(kind, server.endpoint.control_url) as (_, monitor),
    ):
        assert first_event(monitor) == zmq.EVENT_DISCONNECTED
        assert not server.control.counters["received"]


@pytest.mark.req("S.2")
def test_a_client_that_insists_on_keys_does_not_talk_to_a_server_without(
    house: House, connect: Connect
) -> None:
    with ZMQServer("test", free_endpoint(), bind_address="127.0.0.1") as server:
        with pytest.raises(HandshakeError, match="nothing was sent"):
            connect(server, house.client_keys("desk")).connect(SOON)
        assert not server.control.counters["received"]


@pytest.mark.req("S.2")
@pytest.mark.parametrize("own", ["none", "unknown", "wrong server"])
def test_the_data_socket_that_binds_asks_for_keys_as_well(house: House, own: str) -> None:
    keys = {
        "none": None,
        "unknown": house.client_keys("unknown", role=None),
        "wrong server": ClientKeys(house.client_keys("desk").pair, KeyPair.make("x").public),
    }[own]
    with (
        house.serve() as server,
        Subscriber(server) as subscriber,
        raw_socket(zmq.XPUB, server.endpoint.data_url, keys) as (_, monitor),
    ):
        assert first_event(monitor) == zmq.EVENT_DISCONNECTED
        assert not subscriber.counters["items"]


def test_images_travel_with_keys_as_without(house: House, connect: Connect) -> None:
    with house.serve() as server, Subscriber(server) as subscriber:
        client = connect(server, house.client_keys("camera"))
        client.connect(SOON)
        for shared in (True, False):
            with Publisher(client, "frames", use_shared_memory=shared) as publisher:
                publisher.publish(b"h", [b"x" * 70_000], key="1", timeout=SOON)
                assert subscriber.wait(SOON)
                (item,) = (each for each in subscriber.receive() if isinstance(each, Item))
                assert sum(map(len, item.lease.copy())) == 70_000


@pytest.mark.req("S.8", "F.37")
def test_data_under_the_epoch_of_another_key_are_dropped(house: House, connect: Connect) -> None:
    """Somebody who is let in, and has seen the names of a stream, still is not its producer."""
    with house.serve() as server, Subscriber(server) as subscriber:
        client = connect(server, house.client_keys("camera"))
        client.connect(SOON)
        with Publisher(client, "frames", use_shared_memory=False) as publisher:
            publisher.publish(b"h", [b"mine"], key="1", timeout=SOON)
            (producer,) = subscriber.producers
            with raw_socket(zmq.XPUB, server.endpoint.data_url, house.client_keys("mallory")) as (
                forger,
                _,
            ):
                topic = forger.recv()[1:]  # the subscription names the topic
                epoch = producer.epoch
                header = {
                    "v": 1, "topic": "frames", "epoch": epoch, "seq": 2, "t_ns": 0, "mono_ns": 0,
                    "target": server.incarnation, "carrier": "inline", "sizes": [6], "key": "2",
                }  # fmt: skip
                import msgspec

                before = subscriber.counters["foreign"]
                forger.send_multipart([topic, msgspec.msgpack.encode(header), b"h", b"forged"])
                until(lambda: subscriber.counters["foreign"] > before)
            publisher.publish(b"h", [b"mine too"], key="2", timeout=SOON)
            until(lambda: subscriber.counters["items"] == 2)
            assert producer.topic == "frames"


@pytest.mark.req("S.8")
def test_what_a_hello_says_of_itself_grants_nothing(house: House, connect: Connect) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server:
        boss = house.client_keys("boss", role="admin")
        keys = house.client_keys("guest", role="viewer")
        claims = {"key": boss.pair.public, "name": "boss", "owner": True, "grants": ["*"]}
        client = connect(server, keys, app="boss", role="admin", hello_extras=lambda: claims)
        assert client.connect(SOON).capabilities == ("topic:subscribe:*",)
        with pytest.raises(ForbiddenError, match=r"call:camera\.snap"):
            client.control.request("snap", claims)


@pytest.mark.req("S.8")
def test_a_routing_id_taken_from_another_key_takes_nothing_of_it(
    house: House, connect: Connect
) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server:
        connect(server, house.client_keys("boss", role="admin")).connect(SOON)
        (boss,) = server.control.peers
        with raw_socket(
            zmq.DEALER,
            server.endpoint.control_url,
            house.client_keys("guest", role="viewer"),
            ROUTING_ID=b"\x01" + boss.id[1:],
        ) as (socket, _):
            socket.send_multipart([b"", json.dumps({"v": 1, "id": "1", "type": "snap"}).encode()])
            assert socket.poll(int(SOON * 1000))
            assert json.loads(socket.recv_multipart()[1])["code"] == "forbidden"


@pytest.mark.req("003.14", "S.6", "S.7", "S.14", "004.15")
def test_an_operator_may_call_and_a_viewer_may_not_and_the_denial_is_written_down(
    house: House, connect: Connect
) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server:
        operator = connect(server, house.client_keys("desk", role="operator"))
        viewer = connect(server, house.client_keys("guest", role="viewer"))
        operator.connect(SOON)
        viewer.connect(SOON)
        assert operator.control.request("snap")["name"] == "desk"
        with pytest.raises(ForbiddenError, match="guest"):
            viewer.control.request("snap")
        for client in (operator, viewer):
            with pytest.raises(ForbiddenError, match="service:shutdown"):
                client.control.request("shutdown")
        lines = audit_of(server)
    told = {(line["who"], line["what"], line["verdict"]) for line in lines if "who" in line}
    assert ("desk", "snap", "ok") in told
    assert ("guest", "snap", "denied") in told
    assert ("guest", "shutdown", "denied") in told
    assert ("guest", "snap", "ok") not in told
    assert all(line["key"] and line["address"] == "127.0.0.1" for line in lines)
    assert any("ms" in line for line in lines)


def audit_of(server: ZMQServer) -> list[dict[str, Any]]:
    assert server.gate is not None
    assert server.gate.audit is not None
    text = server.gate.audit.path.read_text(encoding="utf-8")
    assert house_secrets_absent(text, server)
    return [json.loads(line) for line in text.splitlines()]


def house_secrets_absent(text: str, server: ZMQServer) -> bool:
    assert server.gate is not None
    assert server.gate._pair is not None
    return server.gate._pair.secret not in text and server._token not in text


@pytest.mark.req("S.2", "S.8")
def test_a_key_that_is_revoked_is_cut_on_both_channels_and_told_why(
    house: House, connect: Connect
) -> None:
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    gone: queue.SimpleQueue[Peer] = queue.SimpleQueue()
    with house.serve(SNAP) as server, Subscriber(server) as subscriber:
        server.control.on_peer_lost(gone.put)
        stays = connect(server, house.client_keys("other"))
        stays.connect(SOON)
        client = connect(server, house.client_keys("camera"))
        client.on_lost(lost.put)
        client.connect(SOON)
        with Publisher(client, "frames", use_shared_memory=False) as publisher:
            publisher.publish(b"h", [b"x"], key="1", timeout=SOON)
            until(lambda: subscriber.counters["items"] == 1)
            house.keys.revoke("camera")
            assert "revoked" in lost.get(timeout=SOON)
            assert gone.get(timeout=SOON).name == "camera"
            until(lambda: not subscriber.producers)
            until(lambda: gate_of(server).counters["cut"] == 2)  # control and data
            with pytest.raises(NotAttachedError):
                publisher.publish(b"h", [b"y"], key="2", timeout=0.05)
            with pytest.raises(HandshakeError, match=r"revoked.*keys authorize"):
                client.connect(SOON)
            assert stays.control.request("snap")["name"] == "other"
            house.client_keys("camera")
            until(lambda: client.connected)
            publisher.publish(b"h", [b"y"], key="3", timeout=SOON)
            until(lambda: subscriber.counters["items"] == 2)


@pytest.mark.req("S.8")
def test_a_peer_that_does_not_go_when_told_is_cut_off(house: House) -> None:
    """It reads nothing and says nothing: the connection ends under it."""
    with house.serve(SNAP) as server:
        keys = house.client_keys("stubborn")
        with raw_socket(zmq.DEALER, server.endpoint.control_url, keys) as (socket, monitor):
            assert first_event(monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
            socket.send_multipart([b"", json.dumps({"v": 1, "id": "1", "type": "snap"}).encode()])
            assert socket.poll(int(SOON * 1000))
            assert json.loads(socket.recv_multipart()[1])["type"] == "ok"
            house.keys.revoke("stubborn")
            assert first_event(monitor) == zmq.EVENT_DISCONNECTED


@pytest.mark.req("S.8")
def test_who_is_told_of_a_revoked_key_and_fails_saves_nobody_from_being_cut_off(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def broken(_key: str, _why: str) -> None:
        raise ArithmeticError("no time for that")

    with house.serve(SNAP) as server:
        gate_of(server).on_changed(broken)
        gate_of(server).on_changed(lambda _key, why: told.put(why))
        keys = house.client_keys("stubborn")
        with raw_socket(zmq.DEALER, server.endpoint.control_url, keys) as (socket, monitor):
            assert first_event(monitor) == zmq.EVENT_HANDSHAKE_SUCCEEDED
            socket.send_multipart([b"", json.dumps({"v": 1, "id": "1", "type": "snap"}).encode()])
            assert socket.poll(int(SOON * 1000))
            house.keys.revoke("stubborn")
            assert first_event(monitor) == zmq.EVENT_DISCONNECTED
            assert "revoked" in told.get(timeout=SOON)
    assert "no time for that" in caplog.text


@pytest.mark.req("S.8")
def test_a_revoked_key_is_refused_by_the_very_next_message(house: House) -> None:
    """Even if nobody has told the server that the folder changed."""
    with house.serve(SNAP) as server:
        keys = house.client_keys("desk")
        assert server.gate is not None
        assert server.gate._watch is not None
        server.loop.submit(server.gate._watch.close).result(SOON)
        with raw_socket(zmq.DEALER, server.endpoint.control_url, keys) as (socket, _):
            for expected in ("ok", "error"):
                message = json.dumps({"v": 1, "id": "1", "type": "snap"}).encode()
                socket.send_multipart([b"", message])
                assert socket.poll(int(SOON * 1000))
                assert json.loads(socket.recv_multipart()[1])["type"] == expected
                if expected == "ok":
                    house.keys.revoke("desk")


@pytest.mark.req("S.8")
def test_who_is_let_in_again_at_once_is_not_taken_for_who_was_cut(
    house: House, connect: Connect
) -> None:
    with house.serve(SNAP) as server:
        keys = house.client_keys("desk")
        for _ in range(3):
            connect(server, keys).connect(SOON)
            house.keys.revoke("desk")
            until(lambda: not server.control.peers)
            house.client_keys("desk")
            again = connect(server, keys)
            again.connect(SOON)
            assert again.control.request("snap")["name"] == "desk"


@pytest.mark.req("S.6", "S.7")
def test_a_role_that_is_changed_holds_from_the_next_hello(house: House, connect: Connect) -> None:
    welcomes: queue.SimpleQueue[tuple[str, ...]] = queue.SimpleQueue()
    with house.serve(SNAP, capabilities=CAMERA) as server:
        client = connect(server, house.client_keys("desk", role="viewer"))
        client.on_welcome(lambda welcome: welcomes.put(welcome.capabilities))
        client.connect(SOON)
        assert welcomes.get(timeout=SOON) == ("topic:subscribe:*",)
        house.client_keys("desk", role="operator")
        assert "call:*" in welcomes.get(timeout=SOON)
        assert client.control.request("snap")["name"] == "desk"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_socket_files_take_keys_as_well(house: House, transport: str) -> None:
    endpoint = Endpoint(port=free_endpoint().port, transport=transport, app="test")
    with ZMQServer("test", endpoint, bind_address="127.0.0.1", keys=house.keys):
        with ZMQClient(endpoint) as local:
            assert local.connect(SOON).capabilities == ("*",)
        with ZMQClient(endpoint, keys=house.client_keys("desk")) as client:
            assert "call:*" in client.connect(SOON).capabilities
            house.keys.revoke("desk")
            until(lambda: not client.connected)
            with pytest.raises((HandshakeError, TimeoutError)):
                client.connect(1.0)


@pytest.mark.req("S.3", "S.15")
def test_programs_of_this_user_on_this_computer_need_no_keys(house: House) -> None:
    with house.serve(SNAP) as server:
        (record,) = find_services(timeout=SOON)
        assert (record.answering, record.ready, record.server_key) == (
            True,
            True,
            server.server_key,
        )
        with ZMQClient(server.endpoint) as client:
            assert client.connect(SOON).capabilities == ("*",)
            assert client.control.request("ping")["server_key"] == server.server_key


def test_a_client_that_was_there_first_finds_the_keys_of_the_service_that_comes(
    house: House,
) -> None:
    endpoint = free_endpoint()
    with ZMQClient(endpoint) as client:
        with pytest.raises(TimeoutError):
            client.connect(0.05)
        with ZMQServer("test", endpoint, bind_address="127.0.0.1", keys=house.keys):
            assert client.connect(SOON).capabilities == ("*",)
        until(lambda: not client.connected)
        with ZMQServer("test", endpoint, bind_address="127.0.0.1"):
            assert client.connect(SOON).server.name == "test"


def test_a_service_with_keys_is_stopped_by_its_user(house: House, tmp_path: Path) -> None:
    import sys

    from zmqruntime import start_service

    endpoint = free_endpoint()
    source = (
        "import sys; from zmqruntime import Endpoint, ZMQServer\n"
        "ZMQServer('test', Endpoint(port=int(sys.argv[1])), bind_address='127.0.0.1',"
        " keys=sys.argv[2]).serve_until_signal()"
    )
    words = [sys.executable, "-c", source, str(endpoint.port), str(house.keys.path)]
    with start_service(words, log_path=tmp_path / "log", timeout=SOON) as process:
        (record,) = find_services(timeout=SOON)
        assert record.pid == process.pid
        stop_service(record, timeout=SOON)
        assert process.stop() == 0


@pytest.mark.req("S.1", "000.19", "R1", "R8")
@pytest.mark.parametrize(
    ("asked", "keyed", "insecure", "bound"),
    [
        ("*", False, False, "127.0.0.1"),
        ("*", True, False, "*"),
        ("*", False, True, "*"),
        ("127.0.0.1", True, False, "127.0.0.1"),
        ("0.0.0.0", True, False, "0.0.0.0"),
        ("0.0.0.0", False, True, "0.0.0.0"),
        ("0.0.0.0", False, False, None),
    ],
)
def test_what_a_server_listens_on_depends_on_its_keys(
    house: House, asked: str, keyed: bool, insecure: bool, bound: str | None
) -> None:
    keys = house.keys if keyed else None
    endpoint = free_endpoint()
    if bound is None:
        with pytest.raises(InsecureBindError, match=r"keys make.*insecure"):
            ZMQServer("test", endpoint, bind_address=asked)
        return
    with (
        ZMQServer("test", endpoint, bind_address=asked, keys=keys, insecure=insecure) as server,
        ZMQClient(endpoint) as client,
    ):
        welcome = client.connect(SOON)
        pong = client.control.request("ping")
        assert welcome.bound == (bound,)
        assert (pong["bound"], pong["insecure"]) == ([bound], insecure)
        assert welcome.insecure == insecure
        assert server.bound == bound


@pytest.mark.req("S.1", "000.19", "R1", "R8")
def test_what_is_narrowed_or_open_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), ZMQServer("test", free_endpoint()):
        pass
    assert "listens on 127.0.0.1 only, because it has no keys" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING), ZMQServer("test", free_endpoint(), insecure=True):
        pass
    assert "serves anybody who reaches" in caplog.text


def test_keys_and_insecure_exclude_each_other(house: House) -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        ZMQServer("test", free_endpoint(), keys=house.keys, insecure=True)


@pytest.mark.req("S.5")
def test_a_flood_of_connections_is_held_off_and_others_get_through(
    house: House, connect: Connect
) -> None:
    rates = Rates(connections=Rate(1.0, 20.0), silent_per_address=10, silent=15)
    with house.serve(SNAP, rates=rates) as server, contextlib.ExitStack() as stack:
        gate, flood = gate_of(server), []
        for _ in range(60):
            flood.append(stack.enter_context(stdlib_socket.socket()))
            flood[-1].bind(("127.0.0.2", 0))
            flood[-1].connect(("127.0.0.1", server.endpoint.port))
        until(lambda: gate.counters["refused_connections"] == 50)
        assert gate._connections.strangers <= 10
        for each in flood:
            each.settimeout(SOON)
        ended = sum(not each.recv(1024) or not each.recv(1024) for each in flood[10:])
        assert ended == 50
        client = connect(server, house.client_keys("desk"))
        client.connect(SOON)
        assert client.control.request("snap")["name"] == "desk"


@pytest.mark.req("S.5")
def test_who_connects_and_says_nothing_is_cut_off(house: House) -> None:
    with house.serve() as server, stdlib_socket.socket() as silent:
        socket = server.control._socket._socket
        assert socket is not None
        value = server.loop.submit(socket.getsockopt, zmq.HANDSHAKE_IVL).result(SOON)
        assert value == HANDSHAKE_MS == 5000
        silent.connect(("127.0.0.1", server.endpoint.port))
        silent.settimeout(SOON)
        while silent.recv(1024):  # the greeting, then the end
            pass


@pytest.mark.req("S.5")
def test_too_many_requests_of_one_key_are_put_off_and_do_not_slow_another(
    house: House, connect: Connect
) -> None:
    rates = Rates(requests=Rate(0.5, 20.0))
    with house.serve(SNAP, rates=rates) as server:
        eager = connect(server, house.client_keys("eager"))
        modest = connect(server, house.client_keys("modest"))
        eager.connect(SOON)
        modest.connect(SOON)
        asked = [eager.control.request_nowait("snap") for _ in range(30)]
        with pytest.raises(BusyError, match="too many requests") as caught:
            [each.result(SOON) for each in asked]
        assert caught.value.retryable
        assert modest.control.request("snap")["name"] == "modest"


@pytest.mark.req("S.5", "S.9")
def test_a_long_frame_of_a_key_that_was_revoked_is_not_decoded(house: House) -> None:
    with house.serve(SNAP) as server:
        keys = house.client_keys("desk")
        with raw_socket(zmq.DEALER, server.endpoint.control_url, keys) as (socket, _):
            socket.send_multipart([b"", json.dumps({"v": 1, "id": "1", "type": "snap"}).encode()])
            assert socket.poll(int(SOON * 1000))
            socket.recv_multipart()
            house.keys.revoke("desk")
            socket.send_multipart([b"", b"\xff" * 60_000])  # would be bad_frame if it were read
            until(
                lambda: (
                    server.control.counters["refused.unauthenticated"]
                    or (server.gate and server.gate.counters["cut"])
                )
            )
            assert not server.control.counters["refused.bad_frame"]


@pytest.mark.req("004.23")
def test_a_hello_without_token_or_key_is_refused_unless_it_is_insecure() -> None:
    for insecure in (False, True):
        with (
            ZMQServer(
                "test", free_endpoint(), bind_address="127.0.0.1", insecure=insecure
            ) as server,
            ZMQClient(server.endpoint, token="") as client,
        ):
            if insecure:
                assert client.connect(SOON).insecure
            else:
                with pytest.raises(HandshakeError, match="token"):
                    client.connect(SOON)


@pytest.mark.req("S.5", "F.1")
def test_strange_bytes_do_not_end_a_server_with_keys(house: House, connect: Connect) -> None:
    """Bytes of ZMTP 1 and 2, HTTP and none of these, also while the socket closes."""
    for strange in (
        b"\x01\x00", b"\xff" + bytes(8) + b"\x7f\x01\x05", b"GET / HTTP/1.1\r\n\r\n", bytes(64),
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x04\x26\x05READY" + bytes(40),
    ):  # fmt: skip
        with house.serve(SNAP) as server, Subscriber(server):
            for port in (server.endpoint.port, server.endpoint.data_port):
                for _ in range(5):
                    with stdlib_socket.create_connection(("127.0.0.1", port)) as stranger:
                        stranger.sendall(strange)
            client = connect(server, house.client_keys("desk"))
            client.connect(SOON)
            assert client.control.request("snap")["name"] == "desk"
            stranger = stdlib_socket.create_connection(("127.0.0.1", server.endpoint.port))
            stranger.sendall(strange)
        stranger.close()


@pytest.mark.req("S.4")
def test_a_token_lends_a_capability_to_one_key_on_one_server(
    house: House, connect: Connect
) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server, house.serve(SNAP) as other:
        admin = connect(server, house.client_keys("boss", role="admin"))
        admin.connect(SOON)
        guest, thief = (house.client_keys(name, role="viewer") for name in ("guest", "thief"))
        lent = admin.control.request(
            "token",
            {"key": guest.pair.public, "capabilities": ["call:camera.*"], "seconds": 60.0},
        )["token"]
        with connect(server, guest, token=lent) as client:
            assert "call:camera.*" in client.connect(SOON).capabilities
            assert client.control.request("snap")["name"] == "guest"
        with (
            connect(server, thief, token=lent) as client,
            pytest.raises(HandshakeError, match="another key"),
        ):
            client.connect(SOON)
        with (
            connect(other, guest, token=lent) as client,
            pytest.raises(HandshakeError, match="no token of this server"),
        ):
            client.connect(SOON)


@pytest.mark.req("S.4", "S.6")
def test_nobody_lends_what_he_may_not_do_himself(house: House, connect: Connect) -> None:
    with house.serve() as server:
        lender = connect(
            server, house.client_keys("lender", capabilities=frozenset({"token:lend"}))
        )
        lender.connect(SOON)
        body = {"key": house.client_keys("guest").pair.public, "capabilities": ["call:*"]}
        assert lender.control.request("token", body)["token"]
        for more in ("service:shutdown", "*", "fs:plates:read"):
            with pytest.raises(ForbiddenError, match="cannot lend"):
                lender.control.request("token", {**body, "capabilities": [more]})


@pytest.mark.req("S.6")
def test_publishing_takes_a_capability(house: House, connect: Connect) -> None:
    with house.serve() as server, Subscriber(server):
        viewer = connect(server, house.client_keys("guest", role="viewer"))
        viewer.connect(SOON)
        with Publisher(viewer, "frames") as publisher:
            until(lambda: "topic:publish:frames" in publisher.state.detail)


@pytest.mark.req("S.14")
def test_what_goes_beyond_use_is_refused_while_nobody_can_write_it_down(
    house: House, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server:
        admin = connect(server, house.client_keys("boss", role="admin"))
        admin.connect(SOON)
        assert server.gate is not None
        assert server.gate.audit is not None
        server.gate.audit.close()  # as a full disk: no line can be written
        assert admin.control.request("snap")["name"] == "boss"
        with pytest.raises(ConnectionError, match="audit log"):
            admin.control.request("shutdown")
        assert not server.wait_for_stop_request(0.0)
        assert admin.control.request("ping")["counters"]["gate.audit_lost"] >= 2
    assert "cannot be written" in caplog.text


@pytest.mark.req("S.14")
def test_who_is_denied_again_and_again_does_not_push_the_rest_out_of_the_log(
    house: House, connect: Connect
) -> None:
    with house.serve(SNAP, capabilities=CAMERA) as server:
        viewer = connect(server, house.client_keys("guest", role="viewer"))
        viewer.connect(SOON)
        for _ in range(150):
            with pytest.raises(ForbiddenError):
                viewer.control.request("snap")
        counters = gate_of(server).counters
        denied = [line for line in audit_of(server) if line["verdict"] == "denied"]
        assert 60 <= len(denied) < 150
        assert len(denied) + counters["denials_not_written"] == 150


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("localhost:0:0:77", "localhost:0:0:77"),
    ],
)
def test_who_has_many_addresses_is_one_site(address: str, site: str) -> None:
    assert _site(address) == site


@pytest.mark.req("S.8", "003.14")
def test_a_repeat_is_answered_to_whoever_asked_first_and_to_nobody_who_knows_the_key(
    house: House, connect: Callable[..., ZMQClient]
) -> None:
    numbers = itertools.count(1)
    with house.serve({"submit": lambda _request, _peer: {"run": next(numbers)}}) as server:
        mine, theirs = (connect(server, house.client_keys(name)) for name in ("ada", "eve"))
        mine.connect(10)
        theirs.connect(10)
        assert mine.control.request("submit", key="k") == {"run": 1}
        assert theirs.control.request("submit", key="k") == {"run": 2}
        assert mine.control.request("submit", key="k") == {"run": 1}
        assert theirs.control.request("submit", key="k") == {"run": 2}
        again = connect(server, house.client_keys("ada"))
        again.connect(10)
        assert again.control.request("submit", key="k") == {"run": 1}
