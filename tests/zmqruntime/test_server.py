from __future__ import annotations

import json
import os
import queue
import signal
import socket as stdlib_socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import (
    ControlTimeout,
    EndpointInUse,
    Feed,
    ForbiddenError,
    HandshakeError,
    Hello,
    InsecureBindError,
    LoopStoppedError,
    Peer,
    PeerLostError,
    ServiceError,
    Subscriber,
    UnavailableError,
    Welcome,
    Work,
    ZMQClient,
    ZMQServer,
    find_services,
    start_service,
)
from zmqruntime.control._handshake import choose_version
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = str(Path(__file__).parent / "services" / "service_program.py")
SOON = 10.0  # seconds; far more than any of this takes


@pytest.mark.req("002.6")
def test_a_client_is_welcomed_by_the_server_it_asked_for() -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint, app="desk") as client:
        welcome = client.connect()
        assert welcome == client.welcome == client.connect()
        assert client.connected
        assert welcome.server.name == "test"
        assert (welcome.server.id, welcome.incarnation) == (server.server_id, server.incarnation)
        assert welcome.ports == server.ports
        assert welcome.process.pid == os.getpid()
        assert welcome.bound == ("127.0.0.1",)
        assert welcome.capabilities == ("*",)
        assert [peer.hello.app.name for peer in server.control.peers if peer.hello] == ["desk"]
    with pytest.raises(LoopStoppedError):
        server.start()


def test_both_sides_can_add_to_the_handshake() -> None:
    seen: list[tuple[Any, str]] = []

    def hook(hello: Hello, peer: Peer) -> dict[str, Any]:
        seen.append((hello.extras["probe"], str(peer)))
        return {"probe_answer": b"answer"}

    with serve_in_thread() as server:
        server.hello_hooks.append(hook)
        with ZMQClient(server.endpoint, app="desk", hello_extras=lambda: {"probe": "p"}) as client:
            assert client.connect().extras == {"probe_answer": b"answer"}
    assert seen[0][0] == "p"
    assert seen[0][1].startswith(f"desk (pid {os.getpid()}")


def test_pushes_reach_the_peer_that_said_hello_and_its_loss_is_noticed() -> None:
    lost: queue.SimpleQueue[Peer] = queue.SimpleQueue()
    news: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    with serve_in_thread() as server:
        server.control.on_peer_lost(lost.put)
        with ZMQClient(server.endpoint) as stays:
            stays.connect()
            with ZMQClient(server.endpoint, app="goes") as client:
                client.control.on_push("news", news.put)
                client.connect()
                (peer,) = (each for each in server.control.peers if each.hello.app.name == "goes")  # type: ignore[union-attr]
                server.control.push(peer.id, "news", {"n": 7})
                assert news.get(timeout=SOON) == {"n": 7}
            assert lost.get(timeout=SOON).id == peer.id
            server.control.push(peer.id, "news", {"n": 8})
            assert stays.control.request("ping")["counters"]["dropped"] >= 1
            assert len(server.control.peers) == 1


def test_a_ping_tells_strangers_little_and_the_owner_everything() -> None:
    with serve_in_thread() as server:
        server.work = Work(state="busy", task="plate 3", queued=2)
        with ZMQClient(server.endpoint) as client, zmq.Context() as context:
            assert client.connect().work == server.work
            pong = client.control.request("ping")
            assert pong["work"] == {"state": "busy", "task": "plate 3", "queued": 2}
            assert (pong["app"], pong["pid"], pong["ready"]) == ("test", os.getpid(), True)
            assert pong["bound"] == ["127.0.0.1"]
            with context.socket(zmq.REQ) as socket:
                socket.connect(server.endpoint.control_url)
                socket.send_string(json.dumps({"v": 1, "id": "1", "type": "ping"}))
                assert json.loads(socket.recv())["body"] == {"ready": True, "v_min": 1, "v_max": 1}


def test_ready_is_what_the_service_says() -> None:
    server = ZMQServer("test", free_endpoint())
    server.start(ready=False)
    with server, ZMQClient(server.endpoint) as client:
        client.connect()
        assert client.control.request("ping")["ready"] is False
        server.report_ready()
        assert client.control.request("ping")["ready"] is True


@pytest.mark.req("S.3")
def test_without_the_token_hello_is_refused_until_it_is_right() -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint, token="wrong") as client:
        for _ in range(2):
            with pytest.raises(HandshakeError, match="token") as caught:
                client.connect()
        assert isinstance(caught.value.__cause__, ForbiddenError)
        with pytest.raises(PeerLostError):
            _ = client.welcome


def test_extras_that_fail_are_raised_by_connect() -> None:
    with (
        serve_in_thread() as server,
        ZMQClient(server.endpoint, hello_extras=lambda: {"x": 1 // 0}) as client,
        pytest.raises(HandshakeError, match="division"),
    ):
        client.connect(SOON)


def test_who_connects_a_client_that_is_closed_meanwhile_is_told_and_nothing_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    composing, closed = threading.Event(), threading.Event()

    def extras() -> dict[str, Any]:
        composing.set()
        assert closed.wait(SOON)
        return {}

    with serve_in_thread() as server:
        client = ZMQClient(server.endpoint, hello_extras=extras)

        def close() -> None:
            assert composing.wait(SOON)
            client.close()

        closing = threading.Thread(target=close)
        closing.start()
        with pytest.raises(LoopStoppedError, match="closed"):
            client.connect(10 * SOON)
        while not client.control.closed:  # closed, while the hello is still being composed
            closing.join(0.001)
        closed.set()
        closing.join(SOON)
        assert client.control.counters["failed_callbacks"] == 0
        with pytest.raises(LoopStoppedError):
            client.connect(SOON)
    assert not caplog.records


def test_a_hook_that_fails_refuses_the_hello(caplog: pytest.LogCaptureFixture) -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        server.hello_hooks.append(lambda *_: {"x": 1 // 0})
        with pytest.raises(HandshakeError, match="division"):
            client.connect(SOON)
        server.hello_hooks.clear()
        client.connect(SOON)
    assert caplog.records[0].exc_info is not None


@pytest.mark.req("S.1")
def test_an_insecure_server_serves_everybody_and_is_stopped_by_its_owner_only() -> None:
    with (
        serve_in_thread({"n": lambda *_: {"n": 1}}, insecure=True) as server,
        ZMQClient(server.endpoint, token="") as client,
    ):
        welcome = client.connect()
        assert welcome.insecure
        assert welcome.capabilities == ("call:*", "command:*", "pipeline:*", "state:*", "topic:*")
        assert client.control.request("n") == {"n": 1}
        with pytest.raises(ForbiddenError, match="service:shutdown"):
            client.control.request("shutdown")
        assert not server.wait_for_stop_request(0.0)
    with pytest.raises(InsecureBindError):
        ZMQServer("test", free_endpoint(), bind_address="0.0.0.0")


def test_a_shutdown_by_the_owner_asks_the_program_once() -> None:
    asked: list[str] = []
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        server.on_stop_request(asked.append)
        client.connect()
        client.control.request("shutdown")
        client.control.request("shutdown")
        assert server.wait_for_stop_request(SOON)
        client.control.request("ping")
    assert len(asked) == 1
    assert "asked to stop" in asked[0]


@pytest.mark.req("F.3")
def test_a_second_server_is_refused_and_the_first_goes_on() -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        client.connect()
        second = ZMQServer("test", server.endpoint)
        with pytest.raises(EndpointInUse) as caught:
            second.start()
        assert caught.value.pid == os.getpid()
        second.stop()
        other_app = ZMQServer("other", server.endpoint)
        with pytest.raises(EndpointInUse, match=f"taken by test, process {os.getpid()}"):
            other_app.start()
        assert client.control.request("ping")["app"] == "test"
        assert [each.app for each in find_services()] == ["test"]
        with ZMQClient(server.endpoint) as another:
            another.connect()


@pytest.mark.req("F.2")
def test_a_foreign_program_on_the_port_is_left_alone() -> None:
    endpoint = free_endpoint()
    with stdlib_socket.create_server(("127.0.0.1", endpoint.port)) as foreign:
        with pytest.raises(EndpointInUse):
            ZMQServer("test", endpoint).start()
        with stdlib_socket.create_connection(foreign.getsockname()) as visitor:
            assert visitor.getpeername() == foreign.getsockname()
    with ZMQServer("test", endpoint) as server, ZMQClient(server.endpoint) as client:
        client.connect()


def test_stopping_from_the_loop_is_refused_rather_than_waiting_for_itself() -> None:
    with serve_in_thread() as server:
        with pytest.raises(RuntimeError, match="request_stop"):
            server.loop.submit(server.stop).result(SOON)
        server.stop()
        server.stop()


def test_a_client_closed_twice_is_closed() -> None:
    client = ZMQClient(free_endpoint())
    client.close()
    client.close()
    assert client.closed


def test_nobody_there_is_a_control_timeout() -> None:
    with (
        ZMQClient(free_endpoint()) as client,
        pytest.raises(ControlTimeout, match="is the service running"),
    ):
        client.connect(timeout=0.05)


def test_a_client_that_was_early_is_connected_once_the_server_is_there() -> None:
    endpoint = free_endpoint()
    with ZMQClient(endpoint) as client:
        with pytest.raises(ControlTimeout):
            client.connect(timeout=0.05)
        with ZMQServer("test", endpoint):
            assert client.connect(SOON).server.name == "test"


def test_a_service_that_starts_again_is_greeted_again() -> None:
    endpoint = free_endpoint()
    welcomes: queue.SimpleQueue[Welcome] = queue.SimpleQueue()
    lost = threading.Event()
    with ZMQClient(endpoint) as client:
        client.on_welcome(welcomes.put)
        client.on_lost(lambda _: lost.set())
        with ZMQServer("test", endpoint) as first:
            name = client.connect(SOON).server.id
            assert welcomes.get(timeout=SOON).incarnation == first.incarnation
        assert lost.wait(SOON)
        with ZMQServer("test", endpoint) as second:
            assert welcomes.get(timeout=SOON).incarnation == second.incarnation
            assert client.welcome.server.id == name
            assert client.control.request("ping")["ready"]


@pytest.mark.req("F.35")
def test_what_was_asked_while_a_service_was_away_is_not_refused_by_its_successor() -> None:
    endpoint = free_endpoint()
    lost = threading.Event()
    with ZMQClient(endpoint) as client:
        client.on_lost(lambda _: lost.set())
        with ZMQServer("test", endpoint):
            client.connect(SOON)
        assert lost.wait(SOON)
        answers = [client.control.request_nowait("greet", timeout=SOON) for _ in range(20)]
        server = ZMQServer("test", endpoint)  # with a token that the client does not know yet
        server.control.handle("greet", lambda *_: {"text": "hello"})
        with server:
            assert {answer.result(SOON).body["text"] for answer in answers} == {"hello"}
        assert not [name for name in server.control.counters if name.startswith("refused")]


@pytest.mark.req("F.4")
@pytest.mark.parametrize("behaviour", ["serve", "fork"])
def test_a_killed_service_is_noticed_before_any_heartbeat(tmp_path: Path, behaviour: str) -> None:
    """Even when a worker that it forked keeps its sockets open."""
    endpoint = free_endpoint()
    words = [sys.executable, PROGRAM, "test", str(endpoint.port), behaviour]
    lost = threading.Event()
    with (
        start_service(words, log_path=tmp_path / "log", timeout=SOON) as process,
        ZMQClient(endpoint) as client,
    ):
        client.connect()
        client.on_lost(lambda _: lost.set())
        hanging = client.control.request_nowait("hang", timeout=60)
        client.control.request("ping")
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(PeerLostError):
            hanging.result(2.0)  # heartbeats take three seconds
        assert lost.wait(SOON)
        assert not client.connected
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.req("F.34")
def test_a_stopped_service_is_not_a_lost_one(
    tmp_path: Path, suspend: Callable[[int], None]
) -> None:
    endpoint = free_endpoint()
    words = [sys.executable, PROGRAM, "test", str(endpoint.port)]
    lost = threading.Event()
    with (
        start_service(words, log_path=tmp_path / "log", timeout=SOON) as process,
        ZMQClient(endpoint) as client,
    ):
        client.connect()
        client.on_lost(lambda _: lost.set())
        suspend(process.pid)
        with pytest.raises(ControlTimeout):
            client.control.request("pid", timeout=0.2)
        assert not lost.is_set()
        os.kill(process.pid, signal.SIGCONT)
        assert client.control.request("pid", timeout=SOON) == {"pid": process.pid}


@pytest.mark.parametrize(("v_min", "v_max", "chosen"), [(1, 1, 1), (0, 9, 1), (1, 2, 1)])
def test_the_highest_common_protocol_is_spoken(v_min: int, v_max: int, chosen: int) -> None:
    assert choose_version(v_min, v_max) == chosen


@pytest.mark.parametrize(("v_min", "v_max"), [(2, 3), (0, 0), (2, 1)])
def test_no_common_protocol_is_refused(v_min: int, v_max: int) -> None:
    with pytest.raises(UnavailableError) as caught:
        choose_version(v_min, v_max)
    assert caught.value.code == "unsupported_version"


@pytest.mark.parametrize("body", [{}, {"v_min": 1, "v_max": 1, "app": {"name": 3}}])
def test_a_malformed_hello_is_refused(body: dict[str, Any]) -> None:
    with serve_in_thread() as server, ZMQClient(server.endpoint) as client:
        client.connect()
        with pytest.raises(ValueError, match="malformed"):
            client.control.request("hello", body)


def test_whoever_asks_late_for_stop_requests_is_told_too() -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    with serve_in_thread() as server:
        server.request_stop("the plate is done")
        server.request_stop("again")
        server.on_stop_request(told.put)
        assert told.get(timeout=SOON) == "the plate is done"


@pytest.mark.parametrize("end", [Feed, Subscriber])
def test_what_publishes_or_receives_says_that_its_server_does_not_run_yet(end: type[Any]) -> None:
    server = ZMQServer("camera", free_endpoint())
    with pytest.raises(ServiceError, match=r"'camera' at .* does not run yet: call its start"):
        end(server)
    with server, end(server):
        pass
    with pytest.raises(LoopStoppedError):
        end(server)
