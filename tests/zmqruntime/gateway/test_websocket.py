from __future__ import annotations

import json
import queue
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from zmqruntime import (
    EndpointInUse,
    InsecureBindError,
    InvalidEndpointError,
    PeerLostError,
    ZMQClient,
)
from zmqruntime.gateway import PixelReceiver, WebSocketCarrier, WebSocketGateway
from zmqruntime.session import (
    SessionClient,
    SessionRejectedError,
    SessionServer,
    token_authenticator,
)
from zmqruntime.testing import FaultProxy, serve_in_thread
from zmqruntime.testing.conformance import ReferenceScene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

    from zmqruntime.session import Grant, Hello, LinkPeer

SOON = 10.0  # seconds; far more than any of this takes
GAMMA = ("layer", "layer-0", "gamma")


@contextmanager
def serving(**options: Any) -> Iterator[tuple[SessionServer, WebSocketGateway, str]]:
    scene = ReferenceScene()
    own = {name: options.pop(name) for name in ("heartbeat_s", "authenticate") if name in options}
    with (
        serve_in_thread() as server,
        SessionServer(server, scene.baseline, **own) as sessions,
        WebSocketGateway(sessions, **{"port": 0, **options}) as gateway,
        ZMQClient(server.endpoint) as client,
    ):
        scene.add_to(sessions)
        client.connect(SOON)
        assert client.control.token is not None
        yield sessions, gateway, client.control.token


@pytest.fixture
def place() -> Iterator[tuple[SessionServer, WebSocketGateway, str]]:
    with serving() as found:
        yield found


def hello_of(token: str | None, **changes: Any) -> str:
    features = {"notify_state": True, "notify_scene": True, "notify_stream": True}
    payload: dict[str, Any] = {
        "protocol": 1,
        "client": {"name": "raw", "version": "1"},
        "extras": {"features": features},
    }
    if token is not None:
        payload["auth"] = {"token": token}
    return json.dumps(
        {"type": "session.hello", "id": "h", "timestamp": 0, "payload": payload | changes}
    )


@pytest.mark.req("004.1", "T8", "001.5")
@pytest.mark.parametrize("protocols", [(1,), (2,)])
def test_clients_of_both_carriers_share_one_scene(
    place: tuple[SessionServer, WebSocketGateway, str], protocols: tuple[int, ...]
) -> None:
    sessions, gateway, token = place
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with (
        SessionClient(WebSocketCarrier(gateway.url, token=token), protocols=protocols) as one,
        SessionClient.over_zmq(sessions.server.endpoint, protocols=(2,)) as two,
    ):
        one.connect(SOON)
        two.connect(SOON)
        two.on("notify.layers", told.put)
        assert one.update(*GAMMA, 1.5).result(SOON).applied_value == 1.5
        assert told.get(timeout=SOON).controls == {"gamma": 1.5}
        assert one.call("conformance.echo", text="a") == {"text": "a"}
        assert {each.carrier for each in sessions.sessions} == {"websocket", "zmq"}


@pytest.mark.req("004.15", "004.23", "F.28")
@pytest.mark.parametrize("token", [None, "guessed"])
def test_a_hello_without_the_token_is_rejected_and_the_socket_closed(
    place: tuple[SessionServer, WebSocketGateway, str], token: str | None
) -> None:
    _, gateway, _ = place
    with connect(gateway.url) as raw:
        raw.send(hello_of(token))
        reject = json.loads(raw.recv(SOON))
        assert (reject["type"], reject["id"]) == ("session.reject", "h")
        assert reject["payload"]["code"] == "auth_failed"
        with pytest.raises(ConnectionClosed):
            raw.recv(SOON)
        assert raw.close_code == 1008
    client = SessionClient(WebSocketCarrier(gateway.url, token=token))
    with pytest.raises(SessionRejectedError):
        client.connect(SOON)
    client.close()


@pytest.mark.req("S.13")
def test_a_stranger_may_send_4_kib_and_a_client_a_megabyte(
    place: tuple[SessionServer, WebSocketGateway, str],
) -> None:
    _, gateway, token = place
    with connect(gateway.url) as raw:
        raw.send("x" * 5000)
        with pytest.raises(ConnectionClosed):
            raw.recv(SOON)
        assert raw.close_code == 1009
    with connect(gateway.url, max_size=None) as raw:
        raw.send(hello_of(token))
        assert json.loads(raw.recv(SOON))["type"] == "session.welcome"
        raw.recv(SOON)
        text = "x" * 900_000
        call = {"name": "conformance.echo", "args": {"text": text}}
        raw.send(json.dumps({"type": "call.command", "id": "c", "timestamp": 0, "payload": call}))
        assert json.loads(raw.recv(SOON))["payload"]["result"] == {"text": text}
        raw.send("x" * 1_100_000)
        with pytest.raises(ConnectionClosed):
            raw.recv(SOON)
        assert raw.close_code == 1009


@pytest.mark.req("S.13")
def test_pages_of_other_origins_are_refused() -> None:
    with serving(origins=["https://lab.example"]) as (_, gateway, _token):
        evil, good = Origin("https://evil.example"), Origin("https://lab.example")
        with pytest.raises(InvalidStatus, match="403"), connect(gateway.url, origin=evil):
            pass
        with connect(gateway.url, origin=good), connect(gateway.url):
            pass


def test_other_paths_are_not_there(place: tuple[SessionServer, WebSocketGateway, str]) -> None:
    _, gateway, _ = place
    url = gateway.url.replace("/state", "/metrics")
    with pytest.raises(InvalidStatus, match="404"), connect(url):
        pass


@pytest.mark.req("S.13")
def test_other_computers_are_refused_without_tls() -> None:
    with serve_in_thread() as server, SessionServer(server, ReferenceScene().baseline) as sessions:
        with pytest.raises(InsecureBindError, match="without TLS"):
            WebSocketGateway(sessions, host="0.0.0.0")
        assert WebSocketGateway(sessions, host="0.0.0.0", insecure=True).host == "0.0.0.0"


def test_a_port_that_is_taken_is_named(place: tuple[SessionServer, WebSocketGateway, str]) -> None:
    sessions, gateway, _ = place
    with pytest.raises(EndpointInUse, match=str(gateway.port)):
        WebSocketGateway(sessions, port=gateway.port).start()
    with pytest.raises(InvalidEndpointError):
        WebSocketGateway(sessions, host="203.0.113.7", insecure=True, port=0).start()
    with pytest.raises(InvalidEndpointError, match="ws"):
        WebSocketCarrier("http://localhost/state")
    with pytest.raises(ValueError, match="flood"):
        WebSocketCarrier("ws://localhost/state", longest_wait=0)


@pytest.mark.req("F.35")
@pytest.mark.timeout(60)  # of 30 visits that double their pauses to 5 s, the last comes much later
def test_a_carrier_comes_again_as_soon_as_it_was_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SOON)
        port = listening.getsockname()[1]
        carrier = WebSocketCarrier(f"ws://127.0.0.1:{port}/state", longest_wait=0.01)
        carrier.open(lambda: None, lambda _message: None, lambda _reason: None)
        try:
            for _ in range(30):
                listening.accept()[0].close()
        finally:
            carrier.close(1000, "enough")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for this computer, in one file."""
    path = tmp_path / "gateway.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-keyout", str(path), "-out", str(tmp_path / "certificate.pem")]
    command += ["-days", "2", "-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    return path


@pytest.mark.req("S.13")
def test_tls_is_served_and_client_certificates_are_seen(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.load_cert_chain(certificate)
    seen: list[Any] = []

    def authenticate(hello: Hello, peer: LinkPeer) -> Grant:
        seen.append(peer.certificate)
        return token_authenticator(hello, peer)

    with serving(tls=context, authenticate=authenticate) as (_, gateway, token):
        assert gateway.url.startswith("wss://")
        carrier = WebSocketCarrier(gateway.url, token=token, tls=trusting)
        with SessionClient(carrier) as client:
            client.connect(SOON)
        assert seen == [{"commonName": "gateway"}]
        anonymous = ssl.create_default_context(cafile=str(certificate))
        refused = pytest.raises((WebSocketException, OSError))
        with refused, connect(gateway.url, ssl=anonymous) as raw:
            raw.recv(SOON)


def _all_of(raw: ClientConnection) -> Iterator[str | bytes]:
    """Read until the other side closes, however it does."""
    try:
        yield from raw
    except ConnectionClosed:
        return


@pytest.mark.req("F.29")
def test_a_silent_session_is_closed_with_1011_whatever_pings_say() -> None:
    with (
        serving(heartbeat_s=0.7, ping_s=1.0) as (_, gateway, token),
        connect(gateway.url) as raw,
    ):
        raw.send(hello_of(token, protocols=[2], features={"notify.scene": True}))
        types = [json.loads(text)["type"] for text in _all_of(raw)]
        assert types[-1] == "session.goodbye"
        assert raw.close_code == 1011


def test_a_client_comes_back_and_goes_on_after_its_connection_broke(
    place: tuple[SessionServer, WebSocketGateway, str],
) -> None:
    sessions, gateway, token = place
    with FaultProxy(("127.0.0.1", gateway.port)) as proxy:
        url = f"ws://127.0.0.1:{proxy.port}/state"
        with SessionClient(WebSocketCarrier(url, token=token)) as client:
            told: queue.SimpleQueue[Any] = queue.SimpleQueue()
            client.on("notify.layers", told.put)
            client.connect(SOON)
            proxy.break_connections()
            for number in range(5):
                sessions.set("layer", "layer-0", "gamma", number)
            assert [told.get(timeout=SOON).controls["gamma"] for _ in range(5)] == [*range(5)]
            assert client.update(*GAMMA, 1.5).result(SOON).version == 6
            assert client.counters["topics.reset"] == 0
            assert client.welcomes > 1


@pytest.mark.req("F.32")
def test_a_client_that_does_not_read_delays_nobody(
    place: tuple[SessionServer, WebSocketGateway, str],
) -> None:
    sessions, gateway, token = place
    with (
        connect(gateway.url, max_queue=1) as slow,
        SessionClient(WebSocketCarrier(gateway.url, token=token)) as quick,
    ):
        slow.send(hello_of(token))
        slow.recv(SOON)
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        quick.connect(SOON)
        quick.on("notify.layers", told.put)
        text = "x" * 20_000
        for number in range(1500):
            sessions.set("layer", "layer-0", f"note {number}", text)
            if number >= 100:  # no further ahead, or the quick one would be behind as well
                assert f"note {number - 100}" in told.get(timeout=SOON).controls
        record = next(each for each in sessions.sessions if each.client == "raw")
        assert record.counters["dropped"] > 0
        types = set()
        while record.counters.get("dropped"):
            frame = json.loads(slow.recv(SOON))
            types.add(frame["type"])
            if frame["type"] == "notify.scene" and "notify.state" in types:
                break
        assert types == {"notify.scene", "notify.state"}


@pytest.mark.req("001.20", "F.28")
def test_thirty_lines_of_websocket_get_one_correct_frame(
    place: tuple[SessionServer, WebSocketGateway, str],
) -> None:
    _, gateway, token = place
    with connect(gateway.url) as state:
        state.send(hello_of(token, protocols=[2], features={"notify.scene": True}))
        welcome = json.loads(state.recv(SOON))
        ticket = welcome["payload"]["data"]["ticket"]
        with connect(gateway.pixels_url) as lane:
            opened = threading.Event()
            gateway.pixels.on_opened(lambda _session: opened.set())
            lane.send(json.dumps({"type": "lane.open", "ticket": ticket}))
            assert json.loads(lane.recv(SOON))["session"] == welcome["session"]
            assert opened.wait(SOON)
            pixels = bytes(range(256)) * 64
            assert gateway.pixels.offer(
                welcome["session"], lambda: [b"128x128 uint8", pixels], state_version=7
            )
            frame = lane.recv(SOON)
    assert isinstance(frame, bytes)
    length = int.from_bytes(frame[:4], "big")
    assert frame[4 + length :] == b"128x128 uint8" + pixels


def test_a_callback_for_a_lane_that_fails_leaves_it_open(
    place: tuple[SessionServer, WebSocketGateway, str], caplog: pytest.LogCaptureFixture
) -> None:
    _, gateway, token = place
    opened: queue.SimpleQueue[str] = queue.SimpleQueue()

    def broken(_session: str) -> None:
        raise ArithmeticError("no key frame today")

    gateway.pixels.on_opened(broken)
    gateway.pixels.on_opened(opened.put)
    with SessionClient(WebSocketCarrier(gateway.url, token=token)) as client:
        client.connect(SOON)
        assert client.data is not None
        with PixelReceiver(gateway.pixels_url, str(client.data.ticket)) as lane:
            assert opened.get(timeout=SOON) == client.session_id
            assert gateway.pixels.offer(client.session_id, lambda: [b"h", b"abc"], key="first")
            assert lane.receive(SOON).key == "first"
    assert "no key frame today" in caplog.text


@pytest.mark.req("F.28")
def test_a_ticket_opens_one_lane_once(place: tuple[SessionServer, WebSocketGateway, str]) -> None:
    _, gateway, token = place
    with SessionClient(WebSocketCarrier(gateway.url, token=token)) as client:
        client.connect(SOON)
        assert client.data is not None
        ticket = str(client.data.ticket)
        opened: queue.SimpleQueue[str] = queue.SimpleQueue()
        gateway.pixels.on_opened(opened.put)
        with PixelReceiver(gateway.pixels_url, ticket) as lane:
            assert opened.get(timeout=SOON) == client.session_id
            for attempt in (ticket, "guessed", "x" * 300):
                with pytest.raises(PeerLostError):
                    PixelReceiver(gateway.pixels_url, attempt)
            assert gateway.pixels.offer(client.session_id, lambda: [b"h", b"abc"], key="first")
            frame = lane.receive(SOON)
            assert (frame.key, bytes(frame.header), bytes(frame.parts[0])) == (
                "first",
                b"h",
                b"abc",
            )
            another = client.call("session.ticket")["ticket"]
            with PixelReceiver(gateway.pixels_url, another):
                assert opened.get(timeout=SOON) == client.session_id
                with pytest.raises(PeerLostError, match="anew"):
                    lane.receive(SOON)
        client.close()
    with pytest.raises(PeerLostError):
        PixelReceiver(gateway.pixels_url, ticket)


@pytest.mark.req("F.31", "F.32")
def test_frames_are_left_out_before_they_are_encoded(
    place: tuple[SessionServer, WebSocketGateway, str],
) -> None:
    _, gateway, token = place
    with SessionClient(WebSocketCarrier(gateway.url, token=token)) as client:
        client.connect(SOON)
        assert client.data is not None
        opened = threading.Event()
        gateway.pixels.on_opened(lambda _session: opened.set())
        with PixelReceiver(gateway.pixels_url, str(client.data.ticket)) as lane:
            assert opened.wait(SOON)
            encoded = 0
            frame = bytes(4 << 20)

            def encode() -> list[bytes]:
                nonlocal encoded
                encoded += 1
                return [b"h", frame]

            taken = [gateway.pixels.offer(client.session_id, encode) for _ in range(200)]
            assert encoded == sum(taken) < 200, "the receiver has not read yet"
            received = [lane.receive(SOON) for _ in range(encoded)]
            assert sum(each.skipped for each in received) + len(received) <= 200
            (record,) = gateway.pixels.lanes
            assert record.sent == encoded
            assert record.superseded == 200 - encoded
            assert not gateway.pixels.offer("srv-nobody", encode)


def test_a_socket_that_never_speaks_is_closed(
    place: tuple[SessionServer, WebSocketGateway, str],
) -> None:
    _, gateway, _ = place
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.settimeout(2 * SOON)
        raw.sendall(b"\0" * 100 + b"\r\n\r\n")
        while raw.recv(4096):
            pass


def test_ends_are_orderly_in_any_order() -> None:
    with serving() as (sessions, gateway, token):
        with SessionClient(WebSocketCarrier(gateway.url, token=token)) as client:
            client.connect(SOON)
            lost: queue.SimpleQueue[str] = queue.SimpleQueue()
            client.on_lost(lost.put)
            sessions.close()
            assert lost.get(timeout=SOON)
        gateway.stop()
        gateway.stop()
    assert not [each for each in threading.enumerate() if each.name.startswith("gateway-")]
