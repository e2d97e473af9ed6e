"""Thousands of wrong envelopes to a session server, on its control socket and on its gateway.

Each is answered, or counted, or ends the session of who sent it; another client of the same server
notices nothing. The WebSocket messages go through a real client, text and binary ones.
"""

from __future__ import annotations

import json
import logging
import socket as stdlib_socket
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from zmqruntime import ZMQClient
from zmqruntime.gateway import PixelReceiver, WebSocketCarrier, WebSocketGateway
from zmqruntime.session import SessionClient, SessionServer
from zmqruntime.testing import Mutator, serve_in_thread
from zmqruntime.testing.conformance import ReferenceScene, golden_envelopes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zmqruntime import Endpoint, ZMQServer
    from zmqruntime.session import SessionRecord

    Rounds = Callable[[int, int], int]

SOON = 20.0  # seconds; far more than any of this takes
TOGETHER = 25
MINE = ("view", "bystander", "place")
ODD_TEXTS = (
    b"", b"{", b"[]", b"null", b'"session.hello"', b"\xef\xbb\xbf{}", b'{"type":"call.command"}',
    b'{"type":"\\ud800"}', b'{"type":"notify.state","type":"x.y"}', b'{"type":"a.b","pay":1e999}',
    b'{"type":"a.b","timestamp":' + b"9" * 400 + b"}", b'{"type":"a.b","payload":' + b"[" * 2000,
    b'{"type":"a.b","payload":{"x":' * 40 + b"1" + b"}}" * 40, b"\xff\xfe\x00", b"{" * 3000,
    b'{"type":"call.command","payload":{"args":[' + b"0," * 1500 + b"0]}}", b'{"type":"."}',
)  # fmt: skip
CALLS: dict[int, dict[str, Any]] = {
    1: {"name": "conformance.echo", "args": {}},
    2: {"command": "conformance.echo", "args": [], "kwargs": {}, "origin": ""},
}


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode(data: bytes) -> dict[str, Any]:
    """Read an answer: of a session, or of the control socket to what looks like neither."""
    decoder = msgspec.json if data[:1] == b"{" else msgspec.msgpack
    answer: dict[str, Any] = decoder.decode(data)
    return answer


class ZMQLine:
    """A DEALER socket, on which a session that was ended begins again with a hello."""

    hangs_up = False

    def __init__(self, url: str, mutator: Mutator) -> None:
        self._mutator = mutator
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        for option in (zmq.RCVHWM, zmq.SNDHWM, zmq.LINGER):
            self._socket.setsockopt(option, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        self._socket.connect(url)

    def open(self) -> None:
        pass

    def send(self, data: bytes) -> None:
        frames = [b"", data]
        if self._mutator.choice((False,) * 15 + (True,)):
            frames = self._mutator.frames(frames)
        self._socket.send_multipart(frames)

    def send_right(self, data: bytes) -> None:
        self._socket.send_multipart([b"", data])

    def receive(self) -> bytes | None:
        return self._socket.recv_multipart()[-1]

    def close(self) -> None:
        self._context.destroy(linger=0)


class WebSocketLine:
    """A real WebSocket client, which sends text, text that is none, and bytes."""

    hangs_up = True

    def __init__(self, url: str, mutator: Mutator) -> None:
        self._url = url
        self._mutator = mutator
        self._open = ExitStack()

    def open(self) -> None:
        self.close()
        options: dict[str, Any] = {"compression": None, "proxy": None, "max_queue": None}
        self._socket = self._open.enter_context(connect(self._url, **options))

    def send(self, data: bytes) -> None:
        kind = self._mutator.choice(("text",) * 8 + ("bytes", "pieces"))
        if not is_text(data) and self._mutator.choice((True,) * 7 + (False,)):
            kind = "bytes"  # as text it ends the connection, and what follows is not read
        middle = len(data) // 2
        whole = [data[:middle], b"", data[middle:]] if kind == "pieces" else data
        with suppress(ConnectionClosed):  # it is seen when the answer is read
            self._socket.send(whole, text=kind != "bytes")

    def send_right(self, data: bytes) -> None:
        with suppress(ConnectionClosed):
            self._socket.send(data, text=True)

    def receive(self) -> bytes | None:
        try:
            message = self._socket.recv(SOON)
        except ConnectionClosed:
            return None
        return message.encode() if isinstance(message, str) else message

    def close(self) -> None:
        self._open.close()


class Babbler:
    """A client that sends wrong envelopes, and begins a session anew when it was sent away."""

    def __init__(
        self, line: ZMQLine | WebSocketLine, protocol: int, token: str, mutator: Mutator
    ) -> None:
        self.line, self.protocol, self.mutator = line, protocol, mutator
        self.session = ""
        self.begun = self.calls = 0
        self.answers: dict[str, int] = {}
        self._golden = [json.loads(text) for text in golden_envelopes(protocol).values()]
        self._hello = json.loads(golden_envelopes(protocol)["session.hello"])
        self._hello["payload"]["auth"] = {"type": "bearer", "token": token}
        if protocol == 1:
            del self._hello["payload"]["auth"]["type"]
        self._golden.append(self._hello)

    def talk(self, taken: Callable[[], int], count: int) -> None:
        """Send until so many messages were taken, and wait for a right answer now and then."""
        while taken() < count:
            if not self.session:
                self.greet()
                continue
            for _ in range(TOGETHER):
                self.line.send(self.wrong())
            self.hear_an_answer()

    def greet(self) -> None:
        """Say hello, and before it, now and then, a wrong one."""
        self.line.open()
        self.begun += 1
        if self.mutator.choice((True, False)):
            wrong = self.mutator.value(self._hello)
            self.line.send_right(self.text(wrong))
            if self.line.hangs_up:
                self.hear(b"session.welcome")
                return
        name = f"hello-{self.begun}"
        right = {**self._hello, ("id" if self.protocol == 1 else "frame_id"): name}
        self.line.send_right(self.text(right))
        self.hear(name.encode())

    @staticmethod
    def text(value: Any) -> bytes:
        return json.dumps(value, default=lambda _: "bytes").encode()

    def wrong(self) -> bytes:
        """Make an envelope in which something is wrong, or which comes at the wrong moment."""
        if self.mutator.choice((False,) * 12 + (True,)):
            data = self.mutator.choice(ODD_TEXTS)
            return bytes(self.mutator.data(data)) if self.mutator.choice((True, False)) else data
        envelope = dict(self.mutator.choice(self._golden))
        if "session" in envelope and self.mutator.choice((True,) * 9 + (False,)):
            envelope["session"] = self.session
        for _ in range(self.mutator.choice((0, 1, 1, 2))):
            envelope = self.mutator.value(envelope)
        text = self.text(envelope)
        return self.mutator.data(text) if self.mutator.choice((False,) * 4 + (True,)) else text

    def hear_an_answer(self) -> None:
        """Ask for an echo, and read on until it is there or the session is over."""
        self.calls += 1
        name = f"echo-{self.calls}"
        call: dict[str, Any] = {"type": "call.command", "timestamp": 0}
        call["payload"] = CALLS[self.protocol]
        if self.protocol == 1:
            call |= {"id": name}
        else:
            call |= {"version": 2, "session": self.session, "frame_id": name}
        self.line.send_right(json.dumps(call).encode())
        self.hear(name.encode())

    def hear(self, until: bytes) -> None:
        """Read on until something is said, or the session is over."""
        while True:
            data = self.line.receive()
            answer: dict[str, Any] = {"type": "closed"} if data is None else decode(data)
            type_ = answer.get("type", "")
            self.answers[type_] = self.answers.get(type_, 0) + 1
            if type_ == "session.welcome":
                self.session = answer.get("session") or answer["payload"]["session"]["id"]
            elif type_ in ("closed", "session.reject", "session.goodbye"):
                self.session = ""
            over = type_ == "closed" or (type_ == "session.reject" and until.startswith(b"echo"))
            if over or (data is not None and until in data):
                return


class Tally:
    """How many messages the sessions of a server have taken in."""

    def __init__(self, sessions: SessionServer) -> None:
        self._sessions = sessions
        self._before = 0
        sessions.on_closed(self._closed)

    def __call__(self) -> int:
        now = sum(self._of(record) for record in self._sessions.sessions)
        return self._before + now + self.rejected

    @property
    def rejected(self) -> int:
        counters = self._sessions.counters
        return sum(count for name, count in counters.items() if name.startswith("rejected."))

    def _closed(self, record: SessionRecord, _reason: str) -> None:
        self._before += self._of(record)

    @staticmethod
    def _of(record: SessionRecord) -> int:
        names = [name for name in record.counters if name.startswith("malformed.")]
        return sum(record.counters.get(name, 0) for name in ("received", *names))


@contextmanager
def served() -> Iterator[tuple[ZMQServer, SessionServer, WebSocketGateway, str]]:
    scene = ReferenceScene()
    with (
        serve_in_thread() as server,
        SessionServer(server, scene.baseline) as sessions,
        WebSocketGateway(sessions, port=0) as gateway,
        ZMQClient(server.endpoint) as client,
    ):
        scene.add_to(sessions)
        client.connect(SOON)
        assert client.control.token is not None
        yield server, sessions, gateway, client.control.token


@contextmanager
def bystander(endpoint: Endpoint) -> Iterator[SessionClient]:
    """A client that came before, and must go on as if it were alone."""
    with SessionClient.over_zmq(endpoint, name="bystander") as client:
        lost: list[str] = []
        client.on_lost(lost.append)
        client.connect(SOON)
        yield client
        assert client.update(*MINE, 2.25).result(SOON).applied_value == 2.25
        assert client.call("conformance.echo", text="a") == {"text": "a"}
        assert client.welcomes == 1
        assert lost == []


@contextmanager
def bystander_of_pixels(
    gateway: WebSocketGateway, token: str
) -> Iterator[tuple[SessionClient, PixelReceiver]]:
    """A client whose lane is open."""
    with SessionClient(WebSocketCarrier(gateway.url, token=token)) as client:
        client.connect(SOON)
        assert client.data is not None
        assert isinstance(client.data.ticket, str)
        with PixelReceiver(gateway.pixels_url, client.data.ticket) as lane:
            yield client, lane


@pytest.mark.req("F.1", "G.8", "S.9", "004.10")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("carrier", ["zmq", "websocket"])
def test_wrong_envelopes_are_answered_or_counted_and_disturb_nobody(
    carrier: str, protocol: int, caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    caplog.set_level(logging.WARNING)
    mutator = Mutator(31 + protocol)
    with served() as (server, sessions, gateway, token), bystander(server.endpoint):
        tally = Tally(sessions)
        line: ZMQLine | WebSocketLine
        if carrier == "zmq":
            line = ZMQLine(server.endpoint.control_url, mutator)
        else:
            line = WebSocketLine(gateway.url, mutator)
        babbler = Babbler(line, protocol, token, mutator)
        try:
            babbler.talk(tally, rounds(1_000, 10_000))
        finally:
            line.close()
        malformed = sum(n for name, n in sessions.counters.items() if "malformed." in name)
        assert malformed > tally() / 3
        assert tally.rejected
        assert sessions.counters["opened"] > 2
        assert sessions.counters["commands"] > tally() / 100
        refusal = "error.session" if protocol == 1 else "notify.error"
        assert babbler.answers[refusal] > tally() / 5
    assert server.control.counters["refused.internal"] == 0
    assert not [each for each in caplog.records if each.exc_info]


@pytest.mark.req("F.1", "F.28", "G.8", "S.9")
@pytest.mark.timeout(900)
def test_wrong_messages_on_the_way_to_a_lane_open_none(
    caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    caplog.set_level(logging.WARNING)
    mutator = Mutator(41)
    options: dict[str, Any] = {"compression": None, "proxy": None}
    with served() as (_, _, gateway, token), bystander_of_pixels(gateway, token) as (client, lane):
        opened = closed = 0
        for _ in range(rounds(150, 10_000)):
            asked = {"type": "lane.open", "ticket": gateway.tickets.issue("nobody")}
            wrong = asked
            while wrong == asked:
                wrong = mutator.value(asked)
            first = Babbler.text(wrong)
            with connect(gateway.pixels_url, **options) as raw, suppress(ConnectionClosed):
                raw.send(mutator.data(first) if mutator.choice((True, False)) else first)
                answer = json.loads(raw.recv(SOON))
                opened += answer["type"] == "lane.opened"  # what was added is not looked at
                for _ in range(5):
                    raw.send(mutator.data(first))
            closed += raw.close_code == 1008
            assert gateway.pixels.offer(client.session_id, lambda: [b"header", b"pixels"])
            assert bytes(lane.receive(SOON).header) == b"header"
        assert closed > 2 * opened
    assert not [each for each in caplog.records if each.exc_info]


@pytest.mark.req("F.1", "G.8")
@pytest.mark.timeout(900)
def test_bytes_that_are_no_websocket_close_their_own_connection_only(
    caplog: pytest.LogCaptureFixture, rounds: Rounds
) -> None:
    caplog.set_level(logging.WARNING)
    mutator = Mutator(43)
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    upgrade = b"Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + key + b"\r\n"
    text = b"\x81\x82\0\0\0\0{}" + b"\x82\xfe\x01\0\0\0\0\0" + bytes(256) + b"\x88\x80\0\0\0\0"
    with served() as (server, _, gateway, _), bystander(server.endpoint):
        for number in range(rounds(300, 10_000)):
            request = b"GET /state HTTP/1.1\r\n" + upgrade
            wrong = mutator.data(request) + text if number % 2 else request + mutator.data(text)
            with stdlib_socket.create_connection(("127.0.0.1", gateway.port), SOON) as visitor:
                visitor.sendall(wrong)
        with SessionClient(WebSocketCarrier(gateway.url, token=server._token)) as client:
            client.connect(SOON)
            assert client.call("conformance.echo", text="a") == {"text": "a"}
    # websockets logs an assertion of its own when a visitor leaves while it is being refused
    ours = [each for each in caplog.records if not each.name.startswith("websockets")]
    assert not [each for each in ours if each.exc_info]
