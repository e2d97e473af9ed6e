from __future__ import annotations

import json
from typing import Any

import pytest

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._instructions import (
    Close,
    Deliver,
    Greet,
    Heard,
    Malformed,
    Pulse,
    Welcomed,
)
from zmqruntime.session._machine import ClientMachine, ServerMachine, State
from zmqruntime.testing import FakeClock
from zmqruntime.testing.conformance import golden_envelopes

SESSION = "srv-aa9d41c07be2f318"  # that of the golden envelopes


def text(name: str, protocol: int = 2, **changes: Any) -> str:
    return json.dumps({**json.loads(golden_envelopes(protocol)[name]), **changes})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def server(clock: FakeClock) -> ServerMachine:
    return ServerMachine(SESSION, clock=clock)


@pytest.fixture
def open_server(server: ServerMachine) -> ServerMachine:
    server.received(text("session.hello"))
    server.welcome(2)
    return server


@pytest.mark.req("004.3")
def test_a_hello_is_greeted_and_nothing_else_is_listened_to(server: ServerMachine) -> None:
    (greet,) = server.received(text("session.hello", 1))
    assert isinstance(greet, Greet)
    assert greet.hello.client.name == "napari-ios"


@pytest.mark.req("004.3")
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (text("call.command", 1), "unexpected_message"),
        (text("state.update"), "unexpected_message"),
        ("{", "invalid_json"),
        ('{"type": "session.hello"}', "invalid_payload"),
        ("x" * 5000, "too_large"),
    ],
)
def test_anything_but_a_hello_ends_the_session(server: ServerMachine, data: str, word: str) -> None:
    malformed, close = server.received(data)
    assert isinstance(malformed, Malformed)
    assert isinstance(close, Close)
    assert (close.word, close.hello) == (word, True)
    assert server.state is State.CLOSED
    assert server.received(text("session.hello")) == []


def test_a_client_has_5_seconds_to_say_hello(server: ServerMachine, clock: FakeClock) -> None:
    assert server.due == 105.0
    clock.advance(4.9)
    assert server.tick() == []
    clock.advance(0.1)
    (close,) = server.tick()
    assert isinstance(close, Close)
    assert (close.word, close.hello) == ("timeout", True)
    assert server.due is None


@pytest.mark.req("F.29")
def test_two_missed_heartbeats_end_the_session(
    open_server: ServerMachine, clock: FakeClock
) -> None:
    found = []
    for _ in range(3):
        clock.advance(15.0)
        found += open_server.tick()
    assert [type(each) for each in found] == [Pulse, Pulse, Close]
    close = found[-1]
    assert isinstance(close, Close)
    assert (close.code, close.word) == (1011, "timeout")


@pytest.mark.req("F.29")
def test_who_slept_itself_asks_twice_before_it_gives_the_other_up(
    open_server: ServerMachine, clock: FakeClock
) -> None:
    clock.advance(3600.0)
    found = open_server.tick()
    for _ in range(2):
        clock.advance(14.9)
        assert open_server.tick() == []
        clock.advance(0.1)
        found += open_server.tick()
    assert [type(each) for each in found] == [Pulse, Pulse, Close]


@pytest.mark.req("F.29")
@pytest.mark.parametrize("name", ["ack", "heartbeat", "call.command", "notify.telemetry"])
def test_any_frame_of_the_session_proves_its_life(
    open_server: ServerMachine, clock: FakeClock, name: str
) -> None:
    for _ in range(10):
        clock.advance(14.9)
        open_server.received(text(name))
        assert open_server.tick() == []


def test_protocol_1_has_no_heartbeat(server: ServerMachine, clock: FakeClock) -> None:
    server.received(text("session.hello", 1))
    server.welcome(1)
    assert server.due is None
    clock.advance(1000)
    assert server.tick() == []


def test_a_heartbeat_is_to_be_acknowledged_by_its_name(open_server: ServerMachine) -> None:
    assert open_server.received(text("heartbeat")) == [Heard("s1")]
    assert open_server.received(text("ack")) == []


@pytest.mark.req("F.28")
def test_a_frame_cannot_name_another_session(open_server: ServerMachine) -> None:
    (malformed,) = open_server.received(text("call.command", session="srv-other"))
    assert isinstance(malformed, Malformed)
    assert malformed.error.code == "unexpected_message"
    assert open_server.state is State.OPEN


@pytest.mark.parametrize("name", ["notify.scene", "ack.state", "session.welcome", "reply.command"])
def test_what_only_servers_say_is_refused(open_server: ServerMachine, name: str) -> None:
    (malformed,) = open_server.received(text(name))
    assert isinstance(malformed, Malformed)


@pytest.mark.req("004.10")
def test_a_malformed_frame_keeps_the_session_and_a_hundred_do_not(
    open_server: ServerMachine,
) -> None:
    for _ in range(99):
        assert [type(each) for each in open_server.received("{")] == [Malformed]
    assert [type(each) for each in open_server.received("{")] == [Malformed, Close]


def test_unknown_payload_keys_are_counted(open_server: ServerMachine) -> None:
    payload = {**json.loads(golden_envelopes(2)["call.command"])["payload"], "colour": "red"}
    (deliver,) = open_server.received(text("call.command", payload=payload))
    assert isinstance(deliver, Deliver)
    assert open_server.counters["unknown_keys"] == 1


@pytest.fixture
def client(clock: FakeClock) -> ClientMachine:
    return ClientMachine("c1", clock=clock)


def test_a_welcome_that_echoes_the_hello_opens_the_session(client: ClientMachine) -> None:
    (welcomed,) = client.received(text("session.welcome"))
    assert isinstance(welcomed, Welcomed)
    assert isinstance(welcomed.envelope, protocol2.Welcome)
    assert (client.state, client.protocol, client.session_id) == (State.OPEN, 2, SESSION)


@pytest.mark.req("004.13")
def test_a_server_may_answer_in_an_older_protocol(client: ClientMachine) -> None:
    welcome = json.loads(text("session.welcome", 1))
    del welcome["id"]
    (welcomed,) = client.received(json.dumps({**welcome, "frame_id": "c1"}))
    assert isinstance(welcomed, Welcomed)
    assert isinstance(welcomed.envelope, protocol1.Welcome)
    assert client.protocol == 1


@pytest.mark.req("004.4")
@pytest.mark.parametrize(
    "data",
    [
        text("session.welcome", frame_id="of somebody else"),
        text("notify.scene"),
        text("notify.scene", 1),
        "{",
        "[]",
        text("heartbeat"),
    ],
)
def test_a_client_leaves_when_the_answer_is_none(client: ClientMachine, data: str) -> None:
    (close,) = client.received(data)
    assert isinstance(close, Close)
    assert client.state is State.CLOSED
    assert client.rejection is None


@pytest.mark.req("004.5")
@pytest.mark.parametrize("protocol", [1, 2])
def test_a_reject_says_why(client: ClientMachine, protocol: int) -> None:
    (close,) = client.received(text("session.reject", protocol))
    assert isinstance(close, Close)
    assert close.silent
    assert client.rejection is not None
    assert client.rejection.code == close.word
    assert isinstance(client.rejection, PermissionError)


def test_a_client_waits_5_seconds_for_the_answer(client: ClientMachine, clock: FakeClock) -> None:
    clock.advance(5.0)
    (close,) = client.tick()
    assert isinstance(close, Close)
    assert close.word == "timeout"


@pytest.mark.req("F.29")
def test_a_client_notices_that_its_server_is_silent(
    client: ClientMachine, clock: FakeClock
) -> None:
    client.received(text("session.welcome"))
    found = []
    for _ in range(3):
        clock.advance(15.0)
        found += client.tick()
    assert [type(each) for each in found] == [Pulse, Pulse, Close]


@pytest.mark.req("F.29")
@pytest.mark.parametrize(
    "name",
    [
        "notify.error",
        "notify.scene.level",
        "notify.telemetry",
        "notify.gap",
        "notify.work",
        "notify.progress",
        "notify.reference",
        "ack.state",
        "reply.cancel",
    ],
)
def test_a_client_hands_on_every_type(client: ClientMachine, name: str) -> None:
    client.received(text("session.welcome"))
    (deliver,) = client.received(text(name))
    assert isinstance(deliver, Deliver)


@pytest.mark.req("F.29")
def test_a_goodbye_ends_it(client: ClientMachine) -> None:
    client.received(text("session.welcome"))
    (close,) = client.received(text("session.goodbye"))
    assert isinstance(close, Close)
    assert (close.word, close.silent) == ("timeout", True)
    assert client.state is State.CLOSED


@pytest.mark.req("004.13")
def test_a_notification_that_is_not_known_is_counted_and_ignored(client: ClientMachine) -> None:
    client.received(text("session.welcome"))
    weather = {"type": "notify.weather", "version": 2, "session": SESSION, "payload": {}}
    assert client.received(json.dumps(weather)) == []
    assert client.counters["malformed.unknown_type"] == 1
