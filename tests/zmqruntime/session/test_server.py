from __future__ import annotations

import json
import queue
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import Endpoint, ZMQClient
from zmqruntime.session import (
    Applied,
    Baseline,
    Change,
    Command,
    CommandError,
    EnvelopeLimits,
    Grant,
    Hello,
    JournalError,
    LinkPeer,
    Reference,
    Retention,
    SessionClient,
    SessionRejectedError,
    SessionServer,
    StateAck,
    StateRejectedError,
    protocol1,
    protocol2,
)
from zmqruntime.session._errors import code_for
from zmqruntime.testing import free_endpoint, proxy_endpoint, serve_in_thread
from zmqruntime.testing.conformance import ReferenceScene, ZMQConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = str(Path(__file__).with_name("session_program.py"))
SOON = 10.0  # seconds; far more than any of this takes
GAMMA = ("layer", "layer-0", "gamma")
FEATURES = {"notify_state": True, "notify_scene": True, "notify_stream": True}
STREAM = protocol1.StreamPayload(codec="h264", fps=60, width=1920, height=1080)


@contextmanager
def serving(
    *, insecure: bool = False, **options: Any
) -> Iterator[tuple[SessionServer, ReferenceScene]]:
    scene = ReferenceScene()
    with (
        serve_in_thread(insecure=insecure) as server,
        SessionServer(server, scene.baseline, **options) as sessions,
    ):
        scene.add_to(sessions)
        yield sessions, scene


@contextmanager
def client_of(endpoint: Endpoint, **options: Any) -> Iterator[SessionClient]:
    with SessionClient.over_zmq(endpoint, **options) as client:
        client.connect(SOON)
        yield client


class Raw:
    """A peer of the control socket that says whatever it likes."""

    def __init__(self, sessions: SessionServer, token: str | None) -> None:
        self.connection = ZMQConnection(sessions.server.endpoint.control_url)
        self.token = token

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.connection.close()

    def say(self, type_: str, payload: Any, **more: Any) -> None:
        envelope = {"type": type_, "timestamp": 0.0, "payload": payload, **more}
        self.connection.send(json.dumps(envelope))

    def hear(self) -> dict[str, Any]:
        text = self.connection.receive(SOON)
        assert text is not None
        heard: dict[str, Any] = json.loads(text)
        return heard

    def hello(self, **changes: Any) -> dict[str, Any]:
        payload: dict[str, Any] = {
            "protocol": 1,
            "client": {"name": "raw", "version": "1"},
            "extras": {"features": FEATURES},
        }
        if self.token is not None:
            payload["auth"] = {"token": self.token}
        self.say("session.hello", payload | changes, id="h1")
        return self.hear()


def token_of(sessions: SessionServer) -> str:
    with ZMQClient(sessions.server.endpoint) as client:
        client.connect(SOON)
        token = client.control.token
    assert token is not None
    return token


@pytest.fixture
def place() -> Iterator[tuple[SessionServer, ReferenceScene]]:
    with serving() as found:
        yield found


@pytest.mark.req("001.5", "004.1", "T8", "R7")
@pytest.mark.parametrize("protocols", [(1,), (2,), (1, 2)])
def test_a_slider_moves_for_everybody(
    place: tuple[SessionServer, ReferenceScene], protocols: tuple[int, ...]
) -> None:
    sessions, scene = place
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with (
        client_of(sessions.server.endpoint, protocols=protocols) as one,
        client_of(sessions.server.endpoint, protocols=(1,)) as two,
    ):
        two.on("notify.state", told.put)
        ack = one.update(*GAMMA, 1.5).result(SOON)
        assert ack == StateAck(applied_value=1.5, version=1)
        assert (one.value(*GAMMA), one.confirmed(*GAMMA), scene.gamma) == (1.5, 1.5, 1.5)
        assert told.get(timeout=SOON).value == 1.5
        assert two.value(*GAMMA) == 1.5
        with pytest.raises(StateRejectedError, match="gamma must be positive") as caught:
            one.update(*GAMMA, -2.0).result(SOON)
        assert caught.value.code in ("InvalidValue", "state.bad_value")
        assert one.value(*GAMMA) == 1.5


@pytest.mark.req("004.11")
def test_a_client_that_calls_no_command_drives_dims_and_camera(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, scene = place
    with client_of(sessions.server.endpoint, protocols=(1,)) as client:
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.on("notify.state", told.put)
        client.update("dims", "z", "step", 206).result(SOON)
        state = told.get(timeout=SOON)
        assert (state.axis_index, state.current_step) == (0, [206, 0, 0])
        assert client.update("camera", "main", "zoom", 2.5).result(SOON).applied_value == 2.5
        assert client.update("dims", "z", "step", 5000).result(SOON).applied_value == 679
        assert scene.step == 679


@pytest.mark.req("004.4", "004.6")
def test_nothing_is_heard_before_the_welcome_and_the_scene_is_first_after_it(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    sessions.configure_stream(protocol_1=STREAM)
    with Raw(sessions, token_of(sessions)) as raw:
        assert raw.hello()["type"] == "session.welcome"
        scene, stream = raw.hear(), raw.hear()
    assert (scene["type"], stream["type"]) == ("notify.scene", "notify.stream")
    assert scene["payload"]["state"] == {
        "current_step": [0, 0, 0],
        "ndisplay": 2,
        "volume_mode": "slice",
    }
    assert stream["payload"] == {"codec": "h264", "fps": 60, "width": 1920, "height": 1080}


@pytest.mark.req("004.15", "004.23", "F.28")
def test_a_hello_without_the_token_is_rejected(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    for token in (None, "guessed"):
        with Raw(sessions, token) as raw:
            reject = raw.hello()
            assert reject["type"] == "session.reject"
            assert reject["id"] == "h1"
            assert reject["payload"]["code"] == "auth_failed"
    assert sessions.sessions == ()
    assert sessions.counters["rejected.auth_failed"] == 2


def test_an_insecure_server_lets_everybody_in() -> None:
    with serving(insecure=True) as (sessions, _), Raw(sessions, None) as raw:
        assert raw.hello()["type"] == "session.welcome"


@pytest.mark.req("004.15", "004.23")
def test_a_client_may_do_what_it_was_granted_and_nothing_else() -> None:
    granted = {"topic:subscribe:*", "state:layer/layer-0/*:write", "command:conformance.*"}

    def authenticate(hello: Hello, _peer: LinkPeer) -> Grant:
        if hello.auth is None or hello.auth.token != "sesame":
            raise SessionRejectedError("auth_failed", "say the word")
        return Grant(
            principal="ali",
            may=lambda asked: any(fnmatchcase(asked, grant) for grant in granted),
            capabilities=tuple(sorted(granted)),
        )

    with serving(authenticate=authenticate) as (sessions, _):
        sessions.command("layer.create", lambda _command: None)
        with client_of(sessions.server.endpoint, auth="sesame") as client:
            assert set(client.capabilities) == granted
            assert client.update(*GAMMA, 1.5).result(SOON).version == 1
            for name in ("layer-1", "layer-0/gamma"):
                with pytest.raises(StateRejectedError) as refused:
                    client.update("layer", name, "gamma", 1.5).result(SOON)
                assert refused.value.code in ("state.forbidden", "state.unsupported")
            with pytest.raises(StateRejectedError) as refused:
                client.update("dims", "z", "step", 1).result(SOON)
            assert refused.value.code == "state.forbidden"
            with pytest.raises(CommandError) as forbidden:
                client.call("layer.create")
            assert forbidden.value.code == "command.forbidden"
        with (
            SessionClient.over_zmq(sessions.server.endpoint, auth="abra") as client,
            pytest.raises(SessionRejectedError, match="say the word"),
        ):
            client.connect(SOON)


@pytest.mark.req("004.15")
def test_a_slash_in_a_name_reaches_into_no_other_capability() -> None:
    asked: list[str] = []

    def authenticate(_hello: Hello, _peer: LinkPeer) -> Grant:
        def may(capability: str) -> bool:
            asked.append(capability)
            return True

        return Grant(principal="p", may=may)

    with (
        serving(authenticate=authenticate) as (sessions, _),
        client_of(sessions.server.endpoint) as client,
        pytest.raises(StateRejectedError),
    ):
        client.update("layer", "a/b%", "c", 1).result(SOON)
    assert "state:layer/a%2Fb%25/c:write" in asked


@pytest.mark.req("004.3")
def test_frames_before_hello_and_control_requests_do_not_disturb_one_another(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    with Raw(sessions, token_of(sessions)) as raw:
        raw.connection.send(json.dumps({"v": 1, "id": "1", "type": "ping"}))
        assert raw.hear()["type"] == "pong"
        assert raw.hello()["type"] == "session.welcome"
        raw.hear()
        raw.connection.send(json.dumps({"v": 1, "id": "2", "type": "ping"}))
        assert raw.hear()["type"] == "pong"
        raw.say("call.command", {"name": "nothing", "args": {}}, id="c")
        assert raw.hear()["payload"]["code"] == "NotImplemented"


def test_a_peer_that_names_its_own_socket_gets_no_session(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    with Raw(sessions, token_of(sessions)) as raw:
        raw.connection._socket.disconnect(sessions.server.endpoint.control_url)
        raw.connection._socket.setsockopt(zmq.ROUTING_ID, b"somebody")
        raw.connection._socket.connect(sessions.server.endpoint.control_url)
        assert raw.hello()["payload"]["code"] == "unsupported_client"
    assert sessions.sessions == ()


@pytest.mark.req("004.10")
def test_long_frames_are_refused_by_the_cap_of_their_sender(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    with Raw(sessions, token_of(sessions)) as raw:
        raw.connection.send('{"type": "session.hello", "more": "' + "x" * 5000 + '"}')
        assert raw.hear()["code"] == "too_large"
        assert raw.hello()["type"] == "session.welcome"
        raw.hear()
        raw.connection.send('{"type": "notify.state", "more": "' + "x" * 1024 * 1024 + '"}')
        assert raw.hear()["payload"]["code"] == "TooLarge"
        raw.say("call.command", {"name": "nothing", "args": {}}, id="c")
        assert raw.hear()["type"] == "error.command"


@pytest.mark.req("004.19")
def test_nothing_but_envelopes_is_ever_sent(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    sessions.configure_stream(protocol_1=STREAM)
    with Raw(sessions, token_of(sessions)) as raw:
        raw.hello()
        wire = [raw.hear(), raw.hear()]
        for seq in range(1, 4):
            change = {"scope": "dims", "target": "z", "key": "step", "value": seq}
            raw.say("notify.state", {**change, "client": {"id": "c", "seq": seq}})
            wire.append(raw.hear())
    assert {frame["type"] for frame in wire} == {"notify.scene", "notify.stream", "notify.state"}
    assert all(set(frame) <= {"type", "id", "timestamp", "payload"} for frame in wire)


@pytest.mark.req("004.12")
def test_old_names_are_refused_unless_they_are_asked_for(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    with Raw(sessions, token_of(sessions)) as raw:
        raw.hello()
        raw.hear()
        raw.connection.send('{"type": "dims.update", "axis": "z", "step": 3}')
        assert raw.hear()["type"] == "error.session"


@pytest.mark.req("004.12")
@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"type": "dims.update", "axis": "z", "step": 3}, [("dims", "z", "step", 3)]),
        (
            {"type": "view.update.set_ndisplay", "payload": {"ndisplay": 3}},
            [("view", "main", "ndisplay", 3)],
        ),
        (
            {"type": "layer.update.set_gamma", "layer_id": "layer-0", "gamma": 1.5},
            [("layer", "layer-0", "gamma", 1.5)],
        ),
        (
            {"type": "camera_update", "zoom": 2.0, "center": [1, 2]},
            [("camera", "main", "center", [1, 2]), ("camera", "main", "zoom", 2.0)],
        ),
        (
            {
                "type": "state.update",
                "scope": "dims",
                "target": "z",
                "key": "step",
                "value": 4,
                "client_id": "old",
                "client_seq": 9,
            },
            [("dims", "z", "step", 4)],
        ),
    ],
)
def test_old_names_are_read_and_counted_and_never_sent(
    message: dict[str, Any], told: list[tuple[Any, ...]]
) -> None:
    with serving(legacy=True) as (sessions, _), Raw(sessions, token_of(sessions)) as raw:
        raw.hello()
        raw.hear()
        raw.connection.send(json.dumps(message))
        for expected in told:
            heard = raw.hear()
            assert heard["type"] == "notify.state"
            payload = heard["payload"]
            found = (payload["scope"], payload["target"], payload["key"], payload["value"])
            assert found == expected
        assert sessions.legacy is not None
        assert sessions.legacy.counters == {message["type"]: 1}
        raw.connection.send(json.dumps({"type": message["type"]}))
        assert raw.hear()["type"] == "error.state"


@pytest.mark.req("B.9")
def test_a_conflict_and_a_lock_name_who_is_in_the_way(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    gone = threading.Event()
    sessions.on_closed(lambda *_: gone.set())
    with client_of(sessions.server.endpoint) as two:
        with client_of(sessions.server.endpoint) as one:
            version = one.update(*GAMMA, 1.5, expected_version=0).result(SOON).version
            with pytest.raises(StateRejectedError) as conflict:
                two.update(*GAMMA, 2.0, expected_version=0).result(SOON)
            assert conflict.value.code == "state.conflict"
            assert conflict.value.conflict_with == {
                "client": one.session_id,
                "version": version,
                "value": 1.5,
            }
            one.update(*GAMMA, 1.6, interaction_id="d", phase="start").result(SOON)
            with pytest.raises(StateRejectedError) as locked:
                two.update(*GAMMA, 2.0).result(SOON)
            assert locked.value.code == "state.locked"
            assert locked.value.conflict_with is not None
            assert locked.value.conflict_with["client"] == one.session_id
        assert gone.wait(SOON)  # its goodbye travels on a connection of its own
        assert two.update(*GAMMA, 2.0).result(SOON).applied_value == 2.0


@pytest.mark.req("004.9")
def test_commands_run_together_and_are_matched() -> None:
    with serving() as (sessions, _):
        together = threading.Barrier(3)

        def meet(command: Command) -> int:
            together.wait(SOON)
            return int(command.kwargs["n"])

        sessions.command("meet", meet)
        with client_of(sessions.server.endpoint, protocols=(1,)) as client:
            calls = [client.call_nowait("meet", n=number) for number in range(3)]
            assert [call.future.result(SOON) for call in calls] == [0, 1, 2]


def test_a_command_can_be_cancelled_and_reports_how_far_it_is(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    begun, progress = threading.Event(), queue.SimpleQueue[Any]()

    def long(command: Command) -> None:
        command.progress(0.5, "half")
        begun.set()
        assert command.cancelled.wait(SOON)
        command.raise_if_cancelled()

    sessions.command("long", long)
    with client_of(sessions.server.endpoint) as client:
        client.on("notify.progress", progress.put)
        call = client.call_nowait("long")
        assert begun.wait(SOON)
        assert progress.get(timeout=SOON).fraction == 0.5
        call.cancel()
        with pytest.raises(CommandError) as cancelled:
            call.future.result(SOON)
        assert cancelled.value.code == "command.cancelled"


def test_a_command_that_takes_too_long_is_answered_and_its_result_is_kept(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    go, runs = threading.Event(), []

    def late(command: Command) -> str:
        runs.append(command.name)
        assert go.wait(SOON)
        return "done"

    sessions.command("late", late)
    with client_of(sessions.server.endpoint) as client:
        with pytest.raises(CommandError) as deadline:
            client.call("late", timeout=0.05, key="k")
        assert deadline.value.code == "command.deadline"
        go.set()
        assert client.call("late", key="k") == "done"
        assert client.call("late", key="k") == "done"
    assert runs == ["late"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError("LayerExists", "taken", {"layer_id": "layer-7"}), "LayerExists"),
        (RuntimeError("broken"), "command.error"),
        (None, "command.error"),
    ],
)
def test_a_command_that_fails_says_so(
    place: tuple[SessionServer, ReferenceScene], error: Exception | None, code: str
) -> None:
    sessions, _ = place

    def fail(_command: Command) -> Any:
        if error is not None:
            raise error
        return object()

    sessions.command("fail", fail)
    with client_of(sessions.server.endpoint) as client:
        with pytest.raises(CommandError) as caught:
            client.call("fail")
        assert caught.value.code == code
        if isinstance(error, CommandError):
            assert caught.value.details == {"layer_id": "layer-7"}


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize(
    ("result", "code"),
    [("x" * 1024 * 1024, "command.too_large"), ("lost\udcff.tif", "command.error")],
)
def test_a_result_that_cannot_be_sent_is_an_answer_all_the_same(
    place: tuple[SessionServer, ReferenceScene], protocol: int, result: str, code: str
) -> None:
    sessions, _ = place
    sessions.command("fs.listdir", lambda _command: [result])
    with client_of(sessions.server.endpoint, protocols=(protocol,)) as client:
        with pytest.raises(CommandError) as caught:
            client.call("fs.listdir", timeout=SOON)
        assert caught.value.code == code_for(protocol, code)


@pytest.mark.req("B.8")
def test_a_key_is_that_of_its_command(place: tuple[SessionServer, ReferenceScene]) -> None:
    sessions, _ = place
    for name in ("layer.create", "layer.remove"):
        sessions.command(name, lambda command: command.name)
    with client_of(sessions.server.endpoint) as client:
        for name in ("layer.create", "layer.remove", "layer.create"):
            assert client.call(name, key="k") == name


def test_what_cannot_be_told_is_refused_where_it_is_said_and_breaks_nothing(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    odd = protocol2.LayersPayload(layer_id="layer-0", controls={"gamma": b"1"})
    sessions.reduce("odd", lambda _change: Applied(value=1, notices=[odd]))
    for value in (float("nan"), b"1", "\udcff"):
        with pytest.raises((TypeError, ValueError)):
            sessions.set(*GAMMA, value)
    with pytest.raises(TypeError):
        sessions.notify(odd)
    with client_of(sessions.server.endpoint) as client:
        with pytest.raises(StateRejectedError) as caught:
            client.update("odd", "main", "mode", "mip").result(SOON)
        assert caught.value.code == "state.error"
        assert client.update(*GAMMA, 1.5).result(SOON).version == 1


def test_what_is_too_long_for_an_envelope_is_refused_before_a_client_waits_for_it(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    long = "x" * 1024 * 1024
    sessions.reduce("odd", lambda _change: Applied(value=long))
    with pytest.raises(ValueError, match="reference"):
        sessions.set(*GAMMA, long)
    with pytest.raises(ValueError, match=r"notify\.layers takes"):
        sessions.notify(protocol2.LayersPayload(layer_id="layer-0", metadata={"note": long}))
    with client_of(sessions.server.endpoint) as client:
        with pytest.raises(StateRejectedError, match="reference"):
            client.update("odd", "main", "mode", "mip").result(SOON)
        assert client.update(*GAMMA, 1.5).result(SOON).version == 1


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_baseline_that_is_too_long_ends_the_session_and_says_why(protocol: int) -> None:
    baseline = Baseline(layers=[{"layer_id": "a", "thumbnail": "x" * 1024 * 1024}])
    with serve_in_thread() as server, SessionServer(server, lambda: baseline):
        told: queue.SimpleQueue[str] = queue.SimpleQueue()
        with SessionClient.over_zmq(server.endpoint, protocols=(protocol,)) as client:
            client.on_lost(told.put)
            client.on("error.session", lambda payload: told.put(payload.message))
            client.connect(SOON)
            assert "notify.scene takes" in told.get(timeout=SOON)


@pytest.mark.req("F.29")
def test_what_a_server_notifies_of_reaches_those_who_want_it(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    payloads = [
        protocol2.WorkPayload(state="busy", task="render"),
        protocol2.Trouble(domain="gpu", code="lost", message="gone", severity="warning"),
        protocol2.TelemetryPayload(queue_depth=3),
        protocol2.LevelPayload(current_level=2),
        Reference(name="thumbnail", uri="https://lab.example/x"),
        protocol2.StreamPayload(codec="h264", format="avcc", fps=60, frame_size=[640, 480]),
    ]
    with (
        client_of(sessions.server.endpoint) as wants,
        client_of(sessions.server.endpoint, protocols=(2,), topics=("notify.scene",)) as other,
    ):
        unasked: list[Any] = []
        for topic in protocol2.TOPICS[1:]:  # the scene comes by itself
            wants.on(topic, heard.put)
            other.on(topic, unasked.append)
        for payload in payloads:
            sessions.notify(payload)
        assert [heard.get(timeout=SOON) for _ in payloads] == payloads
        assert other.call("conformance.echo", a=1) == {"a": 1}
        assert unasked == []
        assert wants.counters["gaps"] == 0


def test_the_application_changes_things_too(place: tuple[SessionServer, ReferenceScene]) -> None:
    sessions, _ = place
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with client_of(sessions.server.endpoint) as client:
        client.on("notify.layers", heard.put)
        sessions.set("layer", "layer-0", "gamma", 1.25)
        assert heard.get(timeout=SOON).controls == {"gamma": 1.25}
        assert sessions.value(*GAMMA) == client.value(*GAMMA) == 1.25
        assert sessions.version == 1


def test_a_new_epoch_gives_everybody_a_baseline(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with client_of(sessions.server.endpoint) as client:
        client.on("notify.layers", heard.put)
        client.update(*GAMMA, 1.5).result(SOON)
        assert heard.get(timeout=SOON).controls == {"gamma": 1.5}
        client.on("notify.scene", heard.put)
        epoch = sessions.epoch
        sessions.reset()
        assert isinstance(heard.get(timeout=SOON), protocol2.ScenePayload)
        assert sessions.epoch == epoch + 1
        client.update(*GAMMA, 1.75).result(SOON)
        assert heard.get(timeout=SOON).controls == {"gamma": 1.75}
        assert client.counters["gaps"] == 0


@pytest.mark.req("004.5")
def test_a_session_can_be_ended_and_its_client_is_told_why(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place
    closed: queue.SimpleQueue[Any] = queue.SimpleQueue()
    sessions.on_closed(lambda record, reason: closed.put((record.client, reason)))
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    with client_of(sessions.server.endpoint, name="desk") as client:
        client.on_lost(lost.put)
        sessions.end(client.session_id, "maintenance", "come back later")
        assert closed.get(timeout=SOON) == ("desk", "maintenance")
        assert lost.get(timeout=SOON) == "come back later"
        assert client.wait_for_welcome(2, SOON), "it comes back by itself"


class Stalling:
    """A link whose client stops reading when it is told to."""

    polled = True

    def __init__(self, identify: Any) -> None:
        self.peer = LinkPeer(carrier="test", address="", identify=identify)
        self.stalled = False
        self.got: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def send(self, data: bytes) -> bool:
        if not self.stalled:
            self.got.put(json.loads(data))
        return not self.stalled

    def close(self, code: int, reason: str) -> None:
        assert (code, reason) == (1001, "shutdown")


@pytest.mark.req("F.32")
@pytest.mark.parametrize("protocol", [1, 2])
def test_a_client_that_does_not_read_delays_nobody_and_gets_a_baseline(protocol: int) -> None:
    with serving() as (sessions, _), client_of(sessions.server.endpoint) as quick:
        token = token_of(sessions)
        layers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        quick.on("notify.layers", layers.put)
        link = Stalling(sessions.server.control.identify)
        session = sessions.loop.submit(sessions.accept, link).result()
        hello = {
            "protocols": [protocol],
            "client": {"name": "slow", "version": "1"},
            "features": dict.fromkeys((*protocol2.TOPICS, *protocol1.CAPABILITIES), True),
            "auth": {"token": token},
        }
        envelope = {"type": "session.hello", "timestamp": 0, "frame_id": "h", "payload": hello}
        sessions.loop.submit(session.received, json.dumps(envelope)).result()
        assert [link.got.get(timeout=SOON)["type"] for _ in range(2)] == [
            "session.welcome",
            "notify.scene",
        ]
        link.stalled = True
        for number in range(1000):
            sessions.set("layer", "layer-0", f"note {number}", number)
        for number in range(1000):
            assert layers.get(timeout=SOON).controls == {f"note {number}": number}
        record = next(each for each in sessions.sessions if each.client == "slow")
        assert record.counters["dropped"] > 0
        assert record.waiting <= 512
        link.stalled = False
        heard: list[dict[str, Any]] = []
        while not heard or heard[-1]["type"] != "notify.scene":
            heard.append(link.got.get(timeout=SOON))
        if protocol == 2:
            gap = next(each["payload"] for each in heard if each["type"] == "notify.gap")
            assert (gap["topic"], gap["to"], gap["recover"]) == ("notify.layers", 1000, "snapshot")
            assert heard[-1]["payload"]["state_version"] == 1000
        sessions.set("layer", "layer-0", "gamma", 1.5)
        last = link.got.get(timeout=SOON)
        expected = {1: ("notify.state", 1001, "server_seq"), 2: ("notify.layers", 1, "seq")}
        type_, number, name = expected[protocol]
        assert (last["type"], {**last, **last["payload"]}[name]) == (type_, number)


@pytest.mark.req("F.29")
def test_a_silent_client_is_given_up_after_two_heartbeats() -> None:
    with serving(heartbeat_s=0.5) as (sessions, _):
        with Raw(sessions, token_of(sessions)) as raw:
            payload = {
                "protocols": [2],
                "client": {"name": "raw", "version": "1"},
                "features": {"notify.scene": True},
                "auth": {"token": raw.token},
            }
            raw.say("session.hello", payload, version=2, frame_id="h")
            types = [raw.hear()["type"]]
            while types[-1] != "session.goodbye":
                types.append(raw.hear()["type"])
        assert types[:2] == ["session.welcome", "notify.scene"]
        assert {*types[2:-1]} == {"heartbeat"}
        assert types.count("heartbeat") >= 2
        with client_of(sessions.server.endpoint) as client:
            acked = threading.Event()
            client.loop.call_later(2.0, acked.set)
            assert acked.wait(SOON)
            assert client.welcomes == 1, "one that answers stays"


def test_who_says_no_hello_is_rejected_in_time() -> None:
    with serving(hello_s=0.1) as (sessions, _):
        sessions.loop.submit(sessions.accept, _Silent()).result()
        done = threading.Event()
        sessions.loop.call_later(0.5, done.set)
        assert done.wait(SOON)
        assert sessions.counters["rejected.timeout"] == 1


class _Silent:
    """A link whose client says nothing."""

    polled = False

    @property
    def peer(self) -> LinkPeer:
        return LinkPeer(
            carrier="test", address="nowhere", identify=lambda _: pytest.fail("not asked")
        )

    def send(self, data: bytes) -> bool:
        return bool(json.loads(data)["type"] == "session.reject")

    def close(self, code: int, reason: str) -> None:
        assert (code, reason) == (1008, "timeout")


def test_clients_of_protocol_1_that_are_gone_make_room_for_others() -> None:
    with serving(most_sessions=2) as (sessions, _):
        token, ended, lost = token_of(sessions), threading.Event(), threading.Event()
        sessions.on_closed(lambda _record, _reason: lost.set())
        with Raw(sessions, token) as raw:
            assert raw.hello()["type"] == "session.welcome"
            assert raw.hear()["type"] == "notify.scene"  # the last that it is sent
            sessions.server.control.on_disconnected(ended.set)
        assert ended.wait(SOON)
        assert not lost.is_set(), "nothing was sent to it, so nothing shows that it is gone"
        with Raw(sessions, token) as second, Raw(sessions, token) as third:
            assert second.hello()["type"] == "session.welcome"
            assert lost.wait(SOON)
            assert third.hello()["type"] == "session.welcome"


def test_a_server_that_cannot_say_how_everything_is_rejects_and_goes_on() -> None:
    def baseline() -> Baseline:
        raise RuntimeError("no viewer yet")

    with serve_in_thread() as server, SessionServer(server, baseline) as sessions:
        with (
            SessionClient.over_zmq(server.endpoint) as client,
            pytest.raises(SessionRejectedError, match="RuntimeError") as rejected,
        ):
            client.connect(SOON)
        assert rejected.value.code == "internal"
        assert sessions.sessions == ()


def test_too_many_sessions_are_too_many() -> None:
    with (
        serving(most_sessions=1) as (sessions, _),
        client_of(sessions.server.endpoint),
        Raw(sessions, token_of(sessions)) as raw,
    ):
        assert raw.hello()["payload"]["code"] == "rate_limited"


@contextmanager
def program(endpoint: Endpoint, journal: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, PROGRAM, str(endpoint.port), str(journal)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.req("B.6", "F.32")
def test_a_killed_server_forgets_no_acknowledgement_and_clients_go_on(tmp_path: Path) -> None:
    endpoint, journal = free_endpoint(), tmp_path / "sessions.db"
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    acked: list[StateAck] = []
    with SessionClient.over_zmq(endpoint) as writer, SessionClient.over_zmq(endpoint) as reader:
        reader.on("notify.layers", lambda payload: seen.put(payload.controls["gamma"]))
        values = [1.0 + number for number in range(300)]
        futures: list[Any] = []
        with program(endpoint, journal) as first:
            writer.connect(SOON)
            reader.connect(SOON)
            futures += [writer.update(*GAMMA, value) for value in values[:150]]
            acked += [future.result(SOON) for future in futures[:50]]
            first.kill()  # with a hundred changes under way
        futures += [writer.update(*GAMMA, value) for value in values[150:]]
        with program(endpoint, journal):
            acks = [future.result(3 * SOON) for future in futures]
            assert [ack.applied_value for ack in acks] == values
            assert sorted(ack.version for ack in acks) == list(range(1, 301))
            assert acks[:50] == acked
            assert sorted(seen.get(timeout=SOON) for _ in values) == values
            assert reader.wait_for_welcome(2, SOON)
            assert reader.counters["topics.resumed"] > 0
            assert reader.counters["topics.reset"] == 0
            assert writer.version(*GAMMA) == 300


def test_without_a_journal_a_restart_is_a_reset_that_is_stated(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    states: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with SessionClient.over_zmq(endpoint) as client:
        client.on("session.welcome", states.put)
        with program(endpoint, tmp_path / "one.db"):
            client.connect(SOON)
            client.update(*GAMMA, 1.5).result(SOON)
        with program(endpoint, tmp_path / "another.db"):
            assert client.wait_for_welcome(2, 2 * SOON)
            states.get(timeout=SOON)
            state = states.get(timeout=SOON).features["notify.layers"].resume_state
            assert (state.status, state.reason, state.seq) == ("reset", "foreign", 0)
            assert client.update(*GAMMA, 1.5).result(SOON).version == 1


@pytest.mark.req("B.6")
def test_what_was_evicted_is_a_reset_that_is_stated() -> None:
    with (
        serving(retention=Retention(entries=2)) as (sessions, _),
        proxy_endpoint(sessions.server.endpoint) as proxy,
        client_of(proxy.endpoint, token=token_of(sessions)) as client,
    ):
        states: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.on("session.welcome", states.put)
        lost = threading.Event()
        client.on_lost(lambda _reason: lost.set())
        proxy.cut()
        assert lost.wait(SOON)
        for number in range(5):
            sessions.set("layer", "layer-0", "gamma", number)
        proxy.heal()
        state = states.get(timeout=2 * SOON).features["notify.layers"].resume_state
        assert (state.status, state.reason) == ("reset", "evicted")
        assert client.update(*GAMMA, 1.5).result(SOON).version == 6


@pytest.mark.req("B.6", "B.11")
def test_a_link_that_breaks_again_and_again_loses_no_change_and_repeats_none() -> None:
    with serving() as (sessions, _), proxy_endpoint(sessions.server.endpoint) as proxy:
        told: list[Any] = []
        with (
            client_of(proxy.endpoint, token=token_of(sessions)) as client,
            client_of(sessions.server.endpoint) as witness,
        ):
            witness.on("notify.layers", lambda payload: told.append(payload.controls["gamma"]))
            futures: list[Any] = []
            for number in range(1, 201):
                futures.append(client.update(*GAMMA, number))
                if number % 50 == 25:
                    proxy.break_connections()
            acks = [future.result(3 * SOON) for future in futures]
            assert sorted(ack.version for ack in acks) == list(range(1, 201))
            witness.call("conformance.echo")
            assert sorted(told) == list(range(1, 201))
            assert client.welcomes > 1


def test_a_journal_belongs_to_one_server(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with (
        serving(journal=path),
        serve_in_thread() as other,
        pytest.raises(JournalError, match="another server"),
    ):
        SessionServer(other, Baseline, journal=path)
    assert path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "text").write_text("no journal " * 100, encoding="utf-8")
    with serve_in_thread() as server, pytest.raises(JournalError, match="text"):
        SessionServer(server, Baseline, journal=tmp_path / "text")


def test_a_journal_outlives_a_clean_end(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with serving(journal=path) as (sessions, _), client_of(sessions.server.endpoint) as client:
        sessions.command("once", lambda _command: "first")
        client.update(*GAMMA, 1.5).result(SOON)
        assert client.call("once", key="k") == "first"
        epoch = sessions.epoch
    with serving(journal=path) as (sessions, _), client_of(sessions.server.endpoint) as client:
        sessions.command("once", lambda _command: "second")
        assert sessions.values() == {GAMMA: 1.5}
        assert (sessions.version, sessions.epoch) == (1, epoch)
        assert client.call("once", key="k") == "first"
        assert client.call("once", key="another") == "second"


def test_after_a_crash_of_the_machine_the_epoch_moves_on(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with serving(journal=path) as (sessions, _):
        epoch = sessions.epoch
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 0 WHERE name = 'clean'")
        db.execute("UPDATE meta SET value = 'another boot' WHERE name = 'boot'")
    db.close()
    with serving(journal=path) as (sessions, _):
        assert sessions.epoch == epoch + 1


def test_a_journal_that_cannot_be_written_stops_no_session(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with serving(journal=path) as (sessions, _), client_of(sessions.server.endpoint) as client:
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.on("notify.error", told.put)
        sessions.loop.submit(sessions._journal._db.execute, "PRAGMA max_page_count = 1").result()
        for number in range(20):
            sessions.set("layer", "layer-0", f"note {number}", "x" * 100_000)
        assert told.get(timeout=SOON).code == "journal.failed"
        assert client.update(*GAMMA, 1.5).result(SOON).applied_value == 1.5
        assert sessions.counters["journal_failed"] == 1


def test_a_reducer_that_breaks_is_an_answer_and_changes_nothing(
    place: tuple[SessionServer, ReferenceScene],
) -> None:
    sessions, _ = place

    def broken(change: Change) -> Applied:
        raise RuntimeError(f"cannot set {change.key}")

    sessions.reduce("volume", broken)
    sessions.reduce("odd", lambda _change: Applied(value=float("nan")))
    with client_of(sessions.server.endpoint) as client:
        for scope in ("volume", "odd"):
            with pytest.raises(StateRejectedError) as caught:
                client.update(scope, "main", "mode", "mip").result(SOON)
            assert caught.value.code == "state.error"
        assert sessions.version == 0


def test_limits_reach_the_client() -> None:
    with serving(limits=EnvelopeLimits(nbytes=64 * 1024)) as (sessions, _):
        welcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with SessionClient.over_zmq(sessions.server.endpoint) as client:
            client.on("session.welcome", welcome.put)
            client.connect(SOON)
            assert welcome.get(timeout=SOON).limits["envelope_bytes"] == 64 * 1024
