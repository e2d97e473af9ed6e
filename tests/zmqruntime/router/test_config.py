from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from zmqruntime import InsecureBindError
from zmqruntime.router import ExposeError, RouterClient, RouterServer
from zmqruntime.testing import free_endpoint

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOON = 10.0


class Camera:
    exposure = 10.0

    def snap(self, count: int = 1) -> list[int]:
        return [7] * count


def temperature() -> float:
    return 21.5


def shout(value: Any) -> bytes:
    return str(value).upper().encode()


FULL: dict[str, Any] = {
    "app": "rig",
    "version": "1.2",
    "rpc_port": 20500,
    "broadcast_port": 20501,
    "bind_address": "127.0.0.1",
    "insecure": False,
    "objects": {"camera": {"attributes": ["exposure", "snap"], "take_turns": True}},
    "named_calls": {
        "three": {"obj": "camera", "attr": "snap", "args": [3], "kwargs": {}},
    },
    "periodic_streams": {
        "frame": {
            "frequency_hz": 50.0,
            "obj": "camera",
            "attr": "snap",
            "encoding": "msgpack",
            "enabled": True,
        },
        "temperature": {
            "frequency_hz": 2.0,
            "function": "temperature",
            "encoding": "loud",
            "enabled": False,
        },
    },
    "manual_streams": {"log": {"encoding": "json"}},
    "zmq_streams": {
        "upstream": {
            "address": "router://127.0.0.1:20600",
            "enabled": False,
            "log_chatter": True,
            "source": "frame",
            "topic": "",
            "insecure": False,
        },
        "legacy": {
            "address": "tcp://127.0.0.1:20601",
            "enabled": True,
            "log_chatter": False,
            "topic": "frame",
            "insecure": False,
        },
    },
}
KNOWN: dict[str, Any] = {
    "objects": {"camera": Camera()},
    "functions": {"temperature": temperature},
    "serializers": {"loud": shout},
}


@pytest.mark.req("003.12")
def test_a_configuration_comes_back_as_it_was() -> None:
    server = RouterServer.from_config(FULL, **KNOWN)
    try:
        assert server.to_config() == FULL
        again = RouterServer.from_config(json.loads(json.dumps(server.to_config())), **KNOWN)
        assert again.to_config() == FULL
        again.stop()
    finally:
        server.stop()


@pytest.mark.req("003.12")
def test_a_configured_server_serves() -> None:
    endpoint = free_endpoint()
    ports = {"rpc_port": endpoint.port, "broadcast_port": endpoint.data_port}
    server = RouterServer.from_config({**FULL, **ports}, **KNOWN)
    with server, RouterClient(endpoint) as client:
        client.configure_stream("frame")
        client.configure_stream("temperature", deserializer=bytes.decode)
        client.configure_stream("log")
        assert client.call_by_name("three") == [7, 7, 7]
        assert client.get_stream("frame", block=True, timeout=SOON)[1] == [7]
        client.enable_stream("temperature")
        assert client.get_stream("temperature", block=True, timeout=SOON)[1] == "21.5"
        server.get_stream_fn("log", encoding="json")({"event": "started"})
        assert client.get_stream("log", block=True, timeout=SOON)[1] == {"event": "started"}
        assert client.get_version()["app"] == "rig"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"colour": "red"}, "colour"),
        ({"rpc_port": 0}, "rpc_port"),
        ({"objects": {"stage": {"attributes": ["move"]}}}, "no object 'stage'"),
        ({"objects": {"camera": {"attributes": ["__class__"]}}}, "underscore"),
        ({"named_calls": {"n": {"obj": "camera", "attr": "snap"}}}, "expose it first"),
        ({"periodic_streams": {"s": {"frequency_hz": 1, "function": "os.getpid"}}}, "no function"),
        ({"periodic_streams": {"s": {"frequency_hz": 1}}}, "either a function"),
        ({"periodic_streams": {"s": {"frequency_hz": 1, "obj": "camera"}}}, "either a function"),
        ({"periodic_streams": {"s": {"frequency_hz": "often", "function": "f"}}}, "frequency_hz"),
        ({"zmq_streams": {"s": {"address": "nowhere"}}}, "address"),
        ({"manual_streams": {"s": {"encoding": "pickle"}}}, "pickle"),
    ],
)
def test_a_configuration_that_cannot_be_says_where(part: dict[str, Any], words: str) -> None:
    with pytest.raises(ExposeError, match=words):
        RouterServer.from_config(part, **KNOWN)


def test_an_open_address_in_a_configuration_is_refused_like_any_other() -> None:
    with pytest.raises(InsecureBindError):
        RouterServer.from_config({"bind_address": "0.0.0.0"})


def test_what_has_no_name_cannot_be_written_down() -> None:
    with RouterServer(free_endpoint()) as server:
        server.add_stream_from_callable("s", 1, temperature)
        with pytest.raises(ExposeError, match="no name"):
            server.to_config()
        server.remove_stream("s")
        server.get_stream_fn("s", encoding=shout)
        with pytest.raises(ExposeError, match="no name"):
            server.to_config()
        server.remove_stream("s")
        server.expose("camera", Camera(), ["snap"])
        server.add_named_call("odd", "camera", "snap", [object()])
        with pytest.raises(ExposeError, match="not plain"):
            server.to_config()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@PATIENT
@given(
    st.dictionaries(
        st.sampled_from(["objects", "periodic_streams", "zmq_streams", "named_calls", "app"]), plain
    )
)
@example({"app": ""})
def test_any_other_map_is_refused_or_read(config: dict[str, Any]) -> None:
    try:
        server = RouterServer.from_config(config)
    except ExposeError:
        return
    server.stop()
