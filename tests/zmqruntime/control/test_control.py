from __future__ import annotations

import json
import os
import queue
import random
import signal
import socket as stdlib_socket
import sys
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq

from zmqruntime import (
    App,
    BusyError,
    ControlClient,
    ControlServer,
    ControlTimeout,
    DeadlineError,
    ForbiddenError,
    FrameError,
    Hello,
    InternalError,
    InvalidRequestError,
    IOThread,
    LoopStoppedError,
    NotFoundError,
    Peer,
    PeerLostError,
    ProcessInfo,
    Reply,
    Request,
    RequestError,
    UnavailableError,
    ZMQClient,
)
from zmqruntime.loop._polling import Deadline
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 15.0  # seconds; far more than any of this takes
TOKEN = "token-of-the-tests"
HELLO = Hello(
    v_min=1,
    v_max=1,
    app=App(name="tests"),
    peer_id="peer",
    incarnation="first",
    process=ProcessInfo(pid=1, start_time=1, uid=1),
)


@pytest.fixture
def server() -> Iterator[ControlServer]:
    with IOThread("server") as loop:
        server = ControlServer(loop, free_endpoint().control_url, token=TOKEN)
        server.handle("echo", lambda request, _peer: request.body, on_loop=True)
        server.handle("slow-echo", lambda request, _peer: request.body)
        server.open()
        yield server
        server.close()


@pytest.fixture
def client(server: ControlServer) -> Iterator[ControlClient]:
    with connected_to(server.url) as client:
        yield client


@contextmanager
def connected_to(url: str, *, token: str | None = TOKEN) -> Iterator[ControlClient]:
    with IOThread("client") as loop:
        client = ControlClient(loop, url, token=token)
        client.open()
        yield client
        client.close()


@contextmanager
def plain(kind: int, url: str, **options: int) -> Iterator[zmq.Socket[bytes]]:
    """Give a socket as any program could have it."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(url)
        yield socket


def ask(socket: zmq.Socket[bytes], **fields: Any) -> dict[str, Any]:
    message = {"v": 1, "id": "1", "token": TOKEN, **fields}
    envelope = [b""] if socket.type == zmq.DEALER else []
    socket.send_multipart([*envelope, msgspec.msgpack.encode(message)])
    reply: dict[str, Any] = msgspec.msgpack.decode(socket.recv_multipart()[-1])
    return reply


@pytest.mark.req("002.1")
def test_a_plain_req_socket_speaks_json(server: ControlServer) -> None:
    with plain(zmq.REQ, server.url) as socket:
        socket.send_string(json.dumps({"v": 1, "id": "a", "type": "ping"}))
        reply = socket.recv_json()
    assert reply == {
        "v": 1,
        "id": "a",
        "type": "pong",
        "body": {"ready": True, "v_min": 1, "v_max": 1},
    }


@pytest.mark.parametrize("option", ["REQ_CORRELATE", "REQ_RELAXED"])
def test_a_req_socket_with_options_gets_its_envelope_back(
    server: ControlServer, option: str
) -> None:
    with plain(zmq.REQ, server.url, **{option: 1}) as socket:
        for number in range(3):
            assert ask(socket, type="echo", body={"n": number})["body"] == {"n": number}


def test_a_peer_with_a_name_of_its_own_is_answered(server: ControlServer) -> None:
    with plain(zmq.DEALER, server.url) as socket:
        assert ask(socket, type="echo", body={"n": 1})["body"] == {"n": 1}


@pytest.mark.parametrize("type_", ["echo", "slow-echo"])
def test_a_request_gets_its_answer(client: ControlClient, type_: str) -> None:
    assert client.request(type_, {"well": "A01", "blob": b"\0\1"}) == {
        "well": "A01",
        "blob": b"\0\1",
    }


def test_attachments_go_both_ways(server: ControlServer, client: ControlClient) -> None:
    server.handle("turn", lambda request, _peer: Reply({}, "turned", request.attachments[::-1]))
    reply = client.call("turn", attachments=[b"one", b"", b"three"])
    assert (reply.type, reply.attachments) == ("turned", (b"three", b"", b"one"))


def test_several_requests_are_under_way_at_once(
    server: ControlServer, client: ControlClient
) -> None:
    gate = threading.Barrier(3)

    def meet(request: Request, _peer: Peer) -> dict[str, Any]:
        gate.wait(SOON)
        return {"n": request.body["n"]}

    server.handle("meet", meet)
    futures = [client.request_nowait("meet", {"n": number}) for number in range(3)]
    assert [future.result(SOON).body["n"] for future in futures] == [0, 1, 2]


@pytest.mark.req("F.19")
def test_a_ping_is_answered_while_every_worker_is_busy(
    server: ControlServer, client: ControlClient
) -> None:
    release, running = threading.Event(), threading.Semaphore(0)

    def block(_request: Request, _peer: Peer) -> None:
        running.release()
        release.wait(SOON)

    server.handle("block", block)
    blocked = [client.request_nowait("block", timeout=60) for _ in range(8)]
    for _ in range(4):
        assert running.acquire(timeout=SOON)
    assert client.request("ping")["ready"]
    release.set()
    for future in blocked:
        assert future.result(SOON).body == {}


def test_more_than_can_wait_is_refused_as_busy() -> None:
    release = threading.Event()
    with IOThread("server") as loop:
        server = ControlServer(loop, free_endpoint().control_url, token=TOKEN, workers=1)
        server.handle("block", lambda *_: {"done": release.wait(SOON)})
        server.open()
        with connected_to(server.url) as client:
            futures = [client.request_nowait("block", timeout=60) for _ in range(300)]
            with pytest.raises(BusyError) as caught:
                futures[299].result(SOON)
            assert caught.value.retryable
            release.set()
            assert futures[0].result(SOON).body == {"done": True}
        server.close()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (NotFoundError("no well Z99", details={"well": "Z99"}), "not_found"),
        (BusyError("later", retryable=True), "busy"),
        (ForbiddenError("not you"), "forbidden"),
    ],
)
def test_a_refusal_arrives_as_the_error_that_was_raised(
    server: ControlServer, client: ControlClient, raised: RequestError, code: str
) -> None:
    def refuse(_request: Request, _peer: Peer) -> None:
        raise raised

    server.handle("refuse", refuse)
    with pytest.raises(type(raised), match=str(raised)) as caught:
        client.request("refuse")
    error = caught.value
    assert (error.code, error.details, error.retryable) == (
        code,
        raised.details,
        raised.retryable,
    )


def test_a_handler_that_fails_is_answered_and_logged(
    server: ControlServer, client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.handle("divide", lambda *_: {"x": 1 // 0})
    server.handle("leave", lambda *_: sys.exit(3))
    for type_, raised in (("divide", "ZeroDivisionError"), ("leave", "SystemExit: 3")):
        with pytest.raises(InternalError, match=raised):
            client.request(type_)
        assert caplog.records[-1].exc_info is not None


def test_a_body_that_cannot_be_written_is_an_internal_error(
    server: ControlServer, client: ControlClient
) -> None:
    server.handle("object", lambda *_: {"x": object()})
    with pytest.raises(InternalError, match="plain"):
        client.request("object")
    with pytest.raises(FrameError, match="plain"):
        client.request("echo", {"x": object()})


def test_an_unknown_type_names_the_known_ones(client: ControlClient) -> None:
    with pytest.raises(InvalidRequestError, match="slow-echo") as caught:
        client.request("ehco")
    assert caught.value.code == "unknown_type"


def test_another_protocol_is_refused_with_the_range(server: ControlServer) -> None:
    with plain(zmq.REQ, server.url) as socket:
        reply = ask(socket, v=99, type="echo")
        assert (reply["code"], reply["details"]) == (
            "unsupported_version",
            {"v_min": 1, "v_max": 1},
        )
        assert ask(socket, v=99, type="ping")["type"] == "pong"


@pytest.mark.req("S.3")
@pytest.mark.parametrize("token", [None, "", "wrong", "ünïcode"])
def test_without_the_token_there_is_only_a_sign_of_life(
    server: ControlServer, token: str | None
) -> None:
    with plain(zmq.REQ, server.url) as socket:
        refusal = ask(socket, type="echo", token=token)
        assert refusal["code"] == "unauthenticated"
        assert ("that is not the token" in refusal["message"]) is (token is not None)
        assert ask(socket, type="ping", token=token)["body"]["ready"]


@pytest.mark.req("S.9")
def test_a_stranger_may_not_send_long_frames_and_the_owner_may(server: ControlServer) -> None:
    server.handle("command", lambda request, _peer: {"n": len(request.body["text"])})
    text = "x" * 200_000
    with plain(zmq.REQ, server.url) as socket:
        for token in (None, "wrong"):
            reply = ask(socket, type="command", body={"text": text}, token=token)
            assert reply["code"] == "too_large"
        assert ask(socket, type="command", body={"text": text})["body"] == {"n": 200_000}
        assert ask(socket, type="echo", body={"text": text})["code"] == "too_large"


def test_too_many_frames_are_refused(server: ControlServer) -> None:
    with plain(zmq.REQ, server.url) as socket:
        message = msgspec.msgpack.encode({"v": 1, "id": "1", "type": "echo", "token": TOKEN})
        socket.send_multipart([message, *[b"x"] * 63])
        assert msgspec.msgpack.decode(socket.recv())["code"] == "too_large"


@pytest.mark.req("F.12")
def test_whoever_sends_far_too_much_is_disconnected_and_others_are_served(
    server: ControlServer, client: ControlClient
) -> None:
    with plain(zmq.DEALER, server.url) as socket:
        with socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            socket.send_multipart([b"", bytes(17 * 1024 * 1024)])
            assert monitor.poll(int(SOON * 1000))
            socket.disable_monitor()
        assert client.request("echo", {"n": 1}) == {"n": 1}


def hostile_frames(rng: random.Random) -> list[bytes]:
    """Make a message as no client of ours would."""
    good = msgspec.msgpack.encode(
        {"v": 1, "id": "1", "type": "echo", "token": TOKEN, "body": {"n": [1, {"a": None}]}}
    )
    kind = rng.randrange(7)
    if kind == 0:
        return [rng.randbytes(rng.randrange(60)) for _ in range(rng.randrange(1, 5))]
    if kind == 1:
        return [b"", good[: rng.randrange(len(good))]]
    if kind == 2:
        broken = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        return [b"", bytes(broken)]
    if kind == 3:
        return [b"", b"{" + rng.randbytes(rng.randrange(40))]
    if kind == 4:
        return [b""] * rng.randrange(1, 12)
    if kind == 5:
        return [good, b"", b""]
    return [b"", b"\x91" * rng.randrange(1, 4000)]


@pytest.mark.req("F.1")
def test_two_thousand_hostile_messages_leave_the_server_alive(
    server: ControlServer, client: ControlClient, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(20240)
    with plain(zmq.DEALER, server.url, RCVHWM=0, SNDHWM=0) as socket:
        for number in range(2000):
            socket.send_multipart(hostile_frames(rng))
            if number % 100 == 0:
                assert client.request("echo", {"n": number}) == {"n": number}
        assert ask_last(socket) == {"n": "last"}
    assert client.request("echo", {"n": 1}) == {"n": 1}
    counters = server.counters
    assert counters["received"] >= 2000
    assert counters["refused.bad_frame"] > 500
    assert counters["refused.internal"] == 0
    assert not [each for each in caplog.records if each.exc_info]


def ask_last(socket: zmq.Socket[bytes]) -> dict[str, Any]:
    """Ask once more on a socket with many answers waiting, and return the answer to that."""
    message = {"v": 1, "id": "last", "type": "echo", "token": TOKEN, "body": {"n": "last"}}
    socket.send_multipart([b"", msgspec.msgpack.encode(message)])
    while True:
        last = socket.recv_multipart()[-1]
        if last[:1] == b"\x84" and b"last" in last:
            body: dict[str, Any] = msgspec.msgpack.decode(last)["body"]
            return body


def test_garbage_on_the_tcp_port_leaves_the_server_alive(
    server: ControlServer, client: ControlClient
) -> None:
    host, _, port = server.url.removeprefix("tcp://").partition(":")
    rng = random.Random(7)
    for _ in range(20):
        with stdlib_socket.create_connection((host, int(port))) as visitor:
            visitor.sendall(rng.randbytes(200))
    assert client.request("echo", {"n": 1}) == {"n": 1}


def test_a_notice_is_carried_out_and_not_answered(
    server: ControlServer, client: ControlClient
) -> None:
    told = threading.Event()
    server.handle("note", lambda *_: told.set(), on_loop=True)
    client.request("ping")
    client.notify("note")
    client.notify("unknown")
    assert told.wait(SOON)
    answered = server.counters["answered"]
    client.request("ping")
    assert server.counters["answered"] == answered + 1
    assert server.counters["refused.unknown_type"] == 1


def test_no_answer_in_time_is_a_control_timeout_and_the_socket_goes_on() -> None:
    """A ROUTER in the place of the server answers when the client has given up."""
    endpoint = free_endpoint()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        router.bind(endpoint.control_url)

        def answer() -> str:
            peer, _, frame = router.recv_multipart()
            request = msgspec.msgpack.decode(frame)
            reply = {"v": 1, "type": "ok", "id": request["id"]}
            router.send_multipart([peer, b"", msgspec.msgpack.encode(reply)])
            return str(request["type"])

        with connected_to(endpoint.control_url) as client:
            first = client.request_nowait("first", timeout=60)
            assert answer() == "first"
            assert first.result(SOON).body == {}, "it is connected, so that what follows is sent"
            with pytest.raises(ControlTimeout, match="did not answer 'block'") as caught:
                client.request("block", timeout=0.05)
            assert isinstance(caught.value, TimeoutError)
            last = client.request_nowait("last", timeout=60)
            assert (answer(), answer()) == ("block", "last")
            assert last.result(SOON).body == {}
            assert client.counters["late"] == 1


def test_a_request_whose_deadline_passed_is_not_begun() -> None:
    release = threading.Event()
    begun: list[str] = []
    with IOThread("server") as loop:
        server = ControlServer(loop, free_endpoint().control_url, token=TOKEN, workers=1)
        server.handle("block", lambda *_: {"late": release.wait(SOON)})
        server.handle("work", lambda request, _peer: begun.append(request.id))
        server.open()
        with connected_to(server.url) as client, plain(zmq.DEALER, server.url) as socket:
            ask(socket, type="ping")  # it is connected now, so that what follows arrives
            blocked = client.request_nowait("block", timeout=60)
            client.request("ping")
            message = {"v": 1, "id": "1", "type": "work", "token": TOKEN, "deadline_ms": 1}
            socket.send_multipart([b"", msgspec.msgpack.encode(message)])
            assert ask(socket, type="ping", id="2")["id"] == "2"
            with pytest.raises(ControlTimeout):
                client.request("work", timeout=0.05)
            client.request("ping")  # the server has seen both now; their deadlines run from then
            deadline = Deadline(0.05)
            while not deadline.expired:
                client.request("ping")
            release.set()
            assert blocked.result(SOON).body == {"late": True}
            assert msgspec.msgpack.decode(socket.recv_multipart()[-1])["code"] == "deadline"
        server.close()
    assert begun == []
    assert issubclass(DeadlineError, TimeoutError)


def test_nobody_at_the_address_is_a_control_timeout_that_says_so() -> None:
    with (
        connected_to(free_endpoint().control_url) as client,
        pytest.raises(ControlTimeout, match="was not sent: is the service running"),
    ):
        client.request("ping", timeout=0.05)


def test_a_client_that_was_not_opened_says_so_rather_than_waiting() -> None:
    client = ControlClient(IOThread("client"), free_endpoint().control_url)
    with pytest.raises(PeerLostError, match="open"):
        client.request("ping")
    client.close()
    client.loop.stop()


def test_a_request_on_the_loop_is_refused_rather_than_waiting_for_itself(
    client: ControlClient,
) -> None:
    with pytest.raises(RuntimeError, match="request_nowait"):
        client.loop.submit(client.request, "ping").result(SOON)


def test_a_key_is_carried_out_once(server: ControlServer, client: ControlClient) -> None:
    runs: list[int] = []
    release = threading.Event()

    def submit(_request: Request, _peer: Peer) -> dict[str, Any]:
        runs.append(1)
        release.wait(SOON)
        return {"run": len(runs)}

    server.handle("submit", submit)
    futures = [client.request_nowait("submit", key="k") for _ in range(3)]
    client.request("ping")
    release.set()
    assert [future.result(SOON).body for future in futures] == [{"run": 1}] * 3
    assert client.request("submit", key="k") == {"run": 1}
    assert client.request("submit", key="other") == {"run": 2}
    assert len(runs) == 2


def test_a_key_whose_request_failed_may_be_tried_again(
    server: ControlServer, client: ControlClient
) -> None:
    answers = iter([UnavailableError("not yet"), None])

    def submit(_request: Request, _peer: Peer) -> dict[str, Any]:
        if (error := next(answers)) is not None:
            raise error
        return {"run": 2}

    server.handle("submit", submit)
    with pytest.raises(UnavailableError):
        client.request("submit", key="k")
    assert client.request("submit", key="k") == {"run": 2}


def test_more_keys_than_are_remembered_forget_the_oldest(client: ControlClient) -> None:
    for number in range(300):
        client.request("echo", {"n": number}, key=str(number))
    assert client.request("echo", {"n": "again"}, key="299") == {"n": 299}
    assert client.request("echo", {"n": "again"}, key="0") == {"n": "again"}


def test_a_retryable_refusal_of_an_idempotent_request_is_tried_again(
    server: ControlServer, client: ControlClient
) -> None:
    answers = iter([BusyError("later", retryable=True)] * 2)

    def status(_request: Request, _peer: Peer) -> dict[str, Any]:
        for error in answers:
            raise error
        return {"state": "idle"}

    server.handle("status", status)
    assert client.request("status", idempotent=True) == {"state": "idle"}


def test_a_broken_connection_fails_what_may_not_be_repeated_and_repeats_the_rest() -> None:
    endpoint = free_endpoint()
    arrived = threading.Semaphore(0)
    lost, back = threading.Event(), threading.Event()

    def serve(loop: IOThread, answer: bool) -> ControlServer:
        def work(request: Request, _peer: Peer) -> dict[str, Any]:
            arrived.release()
            if not answer:
                lost.wait(SOON)
            return {"n": request.body["n"]}

        server = ControlServer(loop, endpoint.control_url, token=TOKEN)
        server.handle("work", work)
        server.open()
        return server

    with IOThread("first") as first, connected_to(endpoint.control_url) as client:
        client.on_lost(lambda _: lost.set())
        server = serve(first, answer=False)
        once = client.request_nowait("work", {"n": 1})
        again = client.request_nowait("work", {"n": 2}, idempotent=True)
        keyed = client.request_nowait("work", {"n": 3}, key="k")
        for _ in range(3):
            assert arrived.acquire(timeout=SOON)
        server.close()
        with pytest.raises(PeerLostError, match="may or may not have been carried out"):
            once.result(SOON)
        assert lost.wait(SOON)
        client.on_connected(back.set)
        with IOThread("second") as second:
            server = serve(second, answer=True)
            assert again.result(SOON).body == {"n": 2}
            assert keyed.result(SOON).body == {"n": 3}
            assert back.wait(SOON)
            server.close()


def test_closing_a_client_fails_what_waits() -> None:
    release = threading.Event()
    with serve_in_thread({"block": lambda *_: {"x": release.wait(SOON)}}) as server:
        with connected_to(server.control.url, token=None) as client:
            waiting = client.request_nowait("block")
            client.close()
            client.close()
            with pytest.raises(LoopStoppedError):
                waiting.result(SOON)
            with pytest.raises(LoopStoppedError):
                client.request("ping")
        release.set()


def test_a_server_that_is_closed_twice_is_closed(server: ControlServer) -> None:
    server.close()
    server.close()


def test_late_replies_and_nonsense_do_not_disturb_a_client() -> None:
    """A ROUTER in the place of the server answers wrongly first, then rightly."""
    endpoint = free_endpoint()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        router.bind(endpoint.control_url)
        with connected_to(endpoint.control_url) as client:
            client.on_push("news", lambda _: 1 // 0)
            news = threading.Event()
            client.on_push("news", lambda _: news.set())
            future = client.request_nowait("echo")
            peer, _, frame = router.recv_multipart()
            right = {"v": 1, "type": "ok", "id": msgspec.msgpack.decode(frame)["id"]}
            for wrong in (
                [b""],
                [b"", b"garbage"],
                [b"garbage"],
                [b"", msgspec.msgpack.encode({**right, "id": "unknown"})],
                [b"", msgspec.msgpack.encode({"v": 1, "type": "error", "message": "bad frame"})],
                [b"", msgspec.msgpack.encode({"v": 1, "type": "unheard-of"})],
                [b"", msgspec.msgpack.encode({"v": 1, "type": "news"})],
                [b"", msgspec.msgpack.encode(right)],
            ):
                router.send_multipart([peer, *wrong])
            assert future.result(SOON).body == {}
            assert news.is_set()
            assert client.counters == {"late": 1, "bad_frame": 4, "failed_callbacks": 1}


def test_callbacks_that_fail_are_counted_where_a_ping_shows_it() -> None:
    done = threading.Event()
    with serve_in_thread() as server, ZMQClient(server.endpoint) as watcher:
        server.control.on_peer_lost(lambda _: 1 // 0)
        server.control.on_peer_lost(lambda _: done.set())
        watcher.connect(SOON)
        assert "failed_callbacks" not in watcher.control.request("ping")["counters"]
        with ZMQClient(server.endpoint) as visitor:
            visitor.on_welcome(lambda _: 1 // 0)
            welcomed = threading.Event()
            visitor.on_welcome(lambda _: welcomed.set())
            visitor.connect(SOON)
            assert welcomed.wait(SOON)
            assert visitor.control.counters["failed_callbacks"] == 1
        assert done.wait(SOON)
        assert watcher.control.request("ping")["counters"]["failed_callbacks"] == 1
        assert not watcher.control.counters["failed_callbacks"]


@pytest.mark.parametrize("seed", range(3))
def test_many_threads_get_each_their_own_answers(client: ControlClient, seed: int) -> None:
    wrong: list[Any] = []

    def burst(name: int) -> None:
        rng = random.Random(seed * 100 + name)
        for number in range(60):
            body = {"name": name, "n": number}
            type_ = rng.choice(["echo", "slow-echo"])
            if client.request(type_, body) != body:
                wrong.append(body)

    threads = [threading.Thread(target=burst, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert wrong == []


def test_a_handler_that_needs_a_capability_refuses_who_was_not_given_it() -> None:
    with serve_in_thread(insecure=True) as server:
        server.control.handle("wipe", lambda *_: {}, capability="fs:root:write")
        server.control.handle("call", lambda *_: {}, capability="call:camera.snap")
        with ZMQClient(server.endpoint, token="") as stranger:
            stranger.connect()
            assert stranger.control.request("call") == {}
            with pytest.raises(ForbiddenError, match="fs:root:write") as refusal:
                stranger.control.request("wipe")
            assert refusal.value.details == {"capability": "fs:root:write"}
        with ZMQClient(server.endpoint) as owner:
            owner.connect()
            assert owner.control.request("wipe") == {}


@pytest.mark.parametrize("type_", ["on-loop", "on-worker"])
def test_a_handler_may_promise_its_answer(
    server: ControlServer, client: ControlClient, type_: str
) -> None:
    promises: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def promise(_request: Request, _peer: Peer) -> Future[Any]:
        future: Future[Any] = Future()
        promises.put(future)
        return future

    server.handle(type_, promise, on_loop=type_ == "on-loop")

    def ask(outcome: object) -> Future[Reply]:
        answer = client.request_nowait(type_, timeout=60)
        future = promises.get(timeout=SOON)
        assert client.request("echo", {"n": 1}) == {"n": 1}, "nobody waits for it"
        assert not answer.done()
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return answer

    assert ask({"n": 2}).result(SOON).body == {"n": 2}
    assert ask(None).result(SOON).body == {}
    assert ask(Reply({"id": "x"}, "accepted")).result(SOON).type == "accepted"
    with pytest.raises(NotFoundError, match="no such thing"):
        ask(NotFoundError("no such thing")).result(SOON)
    with pytest.raises(InternalError, match="LookupError: odd"):
        ask(LookupError("odd")).result(SOON)
    done: Future[Any] = Future()
    done.set_result({"n": 3})
    server.handle("done", lambda *_: done, on_loop=True)
    assert client.request("done") == {"n": 3}


def test_a_promise_that_is_not_kept_in_time_is_answered_with_the_deadline(
    server: ControlServer,
) -> None:
    promise: Future[Any] = Future()
    forgotten = threading.Event()
    promise.add_done_callback(lambda done: forgotten.set() if done.cancelled() else None)
    server.handle("promise", lambda *_: promise, on_loop=True)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(server.url)
        message = {"v": 1, "id": "1", "type": "promise", "token": TOKEN, "deadline_ms": 300}
        socket.send_multipart([b"", msgspec.msgpack.encode(message)])
        assert socket.poll(20_000)
        reply = msgspec.msgpack.decode(socket.recv_multipart()[1])
        assert (reply["id"], reply["code"]) == ("1", "deadline")
        assert forgotten.wait(SOON), "whoever made it need not keep it"
        socket.send_multipart([b"", msgspec.msgpack.encode({**message, "id": "2", "type": "echo"})])
        assert socket.poll(20_000)
        assert msgspec.msgpack.decode(socket.recv_multipart()[1])["id"] == "2", "one answer each"


def test_a_promise_with_a_key_is_kept_for_everybody_who_asked(
    server: ControlServer, client: ControlClient
) -> None:
    promises: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    def promise(_request: Request, _peer: Peer) -> Future[Any]:
        future: Future[Any] = Future()
        promises.put(future)
        return future

    server.handle("promise", promise, on_loop=True)
    answers = [client.request_nowait("promise", key="k", timeout=60) for _ in range(3)]
    promises.get(timeout=SOON).set_result({"n": 1})
    assert [answer.result(SOON).body for answer in answers] == [{"n": 1}] * 3
    assert promises.empty()


def test_a_thread_that_asks_alone_needs_no_other_thread(client: ControlClient) -> None:
    client.request("echo")
    client.loop.submit(int).result(SOON)
    before = client.loop.wakeups
    for number in range(50):
        assert client.request("echo", {"n": number}) == {"n": number}
    assert client.loop.wakeups - before <= 20  # heartbeats and timers; with two a request, 100


def test_a_push_is_heard_on_the_loop_while_a_thread_waits_for_its_answer(
    server: ControlServer,
) -> None:
    heard: list[str] = []
    told, go_on = threading.Event(), threading.Event()

    def greet(_request: Request, peer: Peer) -> None:
        server.push(peer.id, "greeting")
        go_on.wait(SOON)

    def on_greeting(_body: dict[str, Any]) -> None:
        heard.append(threading.current_thread().name)
        told.set()
        go_on.set()

    server.handle("greet", greet)

    def hello(_request: Request, peer: Peer) -> None:
        server.admit(peer, HELLO)

    server.handle("hello", hello, on_loop=True)
    with connected_to(server.url) as client:
        client.on_push("greeting", on_greeting)
        client.request("hello")
        client.request("greet", timeout=SOON)
        assert told.wait(SOON)
    assert heard == ["client"]


def test_a_slow_answer_does_not_keep_other_threads_from_asking(
    server: ControlServer, client: ControlClient
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: Request, _peer: Peer) -> dict[str, Any]:
        begun.set()
        go_on.wait(SOON)
        return request.body

    server.handle("slow", slow)
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(client.request("slow", {"n": 1})))
    thread.start()
    assert begun.wait(SOON)
    for number in range(20):
        assert client.request("echo", {"n": number}) == {"n": number}
    assert not answers
    go_on.set()
    thread.join(SOON)
    assert answers == [{"n": 1}]


def test_many_threads_share_one_connection(client: ControlClient) -> None:
    wrong: list[object] = []

    def ask(name: int) -> None:
        for number in range(100):
            body = {"name": name, "n": number}
            type_ = "slow-echo" if number % 7 == 0 else "echo"
            if (answer := client.request(type_, body)) != body:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive()
    assert not wrong
    assert not client.counters


def _wait_until_main_waits() -> None:
    """Come back when the main thread has been at one place for twenty looks: it waits there."""
    deadline, pause = Deadline(SOON), threading.Event()
    place, looks = (0, 0), 0
    while looks < 20 and not deadline.expired:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        before, place = place, (id(frame.f_code), frame.f_lasti)
        looks = looks + 1 if place == before else 0
        pause.wait(0.005)


def test_ctrl_c_while_waiting_leaves_the_connection_as_it_was(server: ControlServer) -> None:
    go_on = threading.Event()

    def interrupt(_request: Request, _peer: Peer) -> None:
        _wait_until_main_waits()  # it may be sending still
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait(SOON)

    server.handle("interrupt", interrupt)
    with connected_to(server.url) as client:
        client.request("echo")
        lost: list[str] = []
        client.on_lost(lost.append)
        with pytest.raises(KeyboardInterrupt):
            client.request("interrupt", timeout=SOON)
        assert client.request("echo", {"n": 1}) == {"n": 1}
        go_on.set()
        assert client.request("slow-echo", {"n": 2}) == {"n": 2}
        assert not lost


def test_ctrl_c_in_the_middle_of_a_message_begins_a_new_connection(client: ControlClient) -> None:
    client.request("echo")
    lost = threading.Event()
    client.on_lost(lambda _reason: lost.set())
    while not client.loop.turn.borrow():
        client.loop.submit(int).result(SOON)
    assert client._link.socket is not None
    client._link.socket.send(b"", zmq.SNDMORE)  # and here comes the interrupt
    client.loop.turn.give_back(clean=False)
    assert lost.wait(SOON)
    assert client.request("echo", {"n": 1}) == {"n": 1}


@pytest.mark.parametrize("attachment", ["text", 5, memoryview(b"every other")[::2]])
def test_what_cannot_be_attached_is_refused_before_anything_is_sent(
    client: ControlClient, attachment: Any
) -> None:
    attachments = [b"first", attachment]
    with pytest.raises(FrameError, match="attachment 2"):
        client.call("echo", attachments=attachments)
    with pytest.raises(FrameError, match="attachment 2"):
        client.request_nowait("echo", attachments=attachments)
    with pytest.raises(FrameError, match="at most 62"):
        client.call("echo", attachments=[b""] * 63)
    assert client.request("echo", {"n": 1}, timeout=SOON) == {"n": 1}


def test_a_reply_that_cannot_be_sent_is_no_beginning_of_anothers(server: ControlServer) -> None:
    text: Any = "text"
    server.handle("bad", lambda *_: Reply({}, attachments=(text,)))
    with connected_to(server.url) as one, connected_to(server.url) as other:
        with pytest.raises(InternalError, match="attachment 1"):
            one.request("bad", timeout=SOON)
        assert other.request("echo", {"n": 1}, timeout=SOON) == {"n": 1}
        assert one.request("echo", {"n": 2}, timeout=SOON) == {"n": 2}
