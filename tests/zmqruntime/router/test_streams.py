from __future__ import annotations

import array
import json
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from zmqruntime import FrameError, GapReason, InvalidRequestError, NotFoundError, ZmqRuntimeError
from zmqruntime.router import (
    ExposeError,
    RouterServer,
    Storage,
    StreamEmpty,
    StreamException,
    Timestamp,
    UnknownStreamError,
)
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.zmqruntime.router.conftest import Counter

    from zmqruntime.router import RouterClient

    Connect = Callable[[RouterServer], RouterClient]

SOON = 10.0


def next_of(client: RouterClient, name: str, timeout: float = SOON) -> Any:
    return client.get_stream(name, block=True, timeout=timeout)[1]


# rates


@pytest.mark.req("003.4")
@pytest.mark.req("F.25")
def test_a_stream_keeps_its_rate_although_its_function_takes_most_of_a_period(
    server: RouterServer,
) -> None:
    ticks: list[tuple[float, int]] = []  # when, and which one it is, those that were missed too
    done = threading.Event()

    def work() -> None:
        ticks.append((time.monotonic(), len(ticks) + server.stream_counters("frame")["missed"]))
        threading.Event().wait(0.02)
        if len(ticks) == 60:
            done.set()

    server.add_stream_from_callable("frame", 30, work)
    assert done.wait(3 * SOON)
    server.disable_stream("frame")
    began, first = ticks[0]
    late = [(at - began) * 30 - (number - first) for at, number in ticks]
    # On a busy machine some are late, and none the later for it; waiting a period after each call
    # would be late by 0.6 periods more each time, 24 after forty.
    assert min(late[40:]) < 12


@pytest.mark.req("003.10")
def test_streams_of_one_rate_share_a_thread_that_ends_with_the_last_one(
    server: RouterServer, counter: Counter
) -> None:
    names: defaultdict[float, set[str]] = defaultdict(set)

    def note(hz: float) -> Callable[[], int]:
        def function() -> int:
            names[hz].add(threading.current_thread().name)
            return counter()

        return function

    for hz in (50, 100):
        for letter in "abc":
            server.add_stream_from_callable(f"{letter}{hz}", hz, note(hz))
    assert counter.wait_for(60)
    assert {hz: len(each) for hz, each in names.items()} == {50: 1, 100: 1}
    assert names[50].isdisjoint(names[100])
    threads = [thread for thread in threading.enumerate() if thread.name in names[50]]
    for letter in "abc":
        server.remove_stream(f"{letter}50")
    for thread in threads:
        thread.join(SOON)
        assert not thread.is_alive()


@pytest.mark.req("003.7")
@pytest.mark.req("F.25")
def test_a_disabled_stream_never_calls_its_function(
    server: RouterServer, client: RouterClient, counter: Counter
) -> None:
    server.add_stream_from_callable("off", 200, counter, enabled=False)
    other = type(counter)()
    server.add_stream_from_callable("on", 200, other)
    assert other.wait_for(20)
    assert counter.calls == 0
    for _ in range(3):
        client.enable_stream("off")
        client.enable_stream("off")
        assert counter.wait_for(counter.calls + 3)
        client.disable_stream("off")
        client.disable_stream("off")
        calls, others = counter.calls, other.calls
        assert other.wait_for(others + 20)
        assert counter.calls == calls
    assert client.get_stream_configurations()["periodic_streams"]["off"]["enabled"] is False


@pytest.mark.req("003.7")
def test_disabling_waits_for_the_call_that_is_under_way(server: RouterServer) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def slow() -> None:
        begun.set()
        go_on.wait(SOON)
        ended.append(True)

    server.add_stream_from_callable("slow", 100, slow)
    assert begun.wait(SOON)
    with ThreadPoolExecutor(1) as pool:
        disabling = pool.submit(server.disable_stream, "slow")
        assert not ended
        go_on.set()
        disabling.result(SOON)
        assert ended == [True]


def test_a_function_may_disable_or_remove_its_own_stream(server: RouterServer) -> None:
    done = threading.Event()

    def once() -> None:
        server.disable_stream("once")
        server.remove_stream("once")
        done.set()

    server.add_stream_from_callable("once", 100, once)
    assert done.wait(SOON)
    assert server.get_stream_configurations()["periodic_streams"] == {}


@pytest.mark.req("003.7")
def test_streams_are_added_and_removed_while_it_runs_and_removing_twice_is_harmless(
    server: RouterServer, client: RouterClient, counter: Counter
) -> None:
    client.configure_stream("late")
    server.add_stream_from_callable("late", 100, counter)
    assert next_of(client, "late") >= 1
    client.remove_stream("late")
    client.remove_stream("late")
    server.remove_stream("late")
    calls = counter.calls
    with pytest.raises(NotFoundError, match="late"):
        client.enable_stream("late")
    assert client.get_stream_configurations()["periodic_streams"] == {}
    assert counter.calls == calls
    server.add_stream_from_callable("late", 200, lambda: "again")
    while next_of(client, "late") != "again":
        pass


@pytest.mark.req("003.13")
def test_what_a_function_raises_comes_as_data_and_the_stream_goes_on(
    server: RouterServer, client: RouterClient, counter: Counter
) -> None:
    def sometimes() -> Any:
        number = counter()
        if number % 3 == 1:
            raise KeyError("shutter")
        if number % 3 == 2:
            return threading.Lock()
        return number

    client.configure_stream("s", "queue")
    server.add_stream_from_callable("s", 50, sometimes)
    seen: dict[str, Any] = {}
    while len(seen) < 3:
        data = next_of(client, "s")
        seen[data.code if isinstance(data, StreamException) else "value"] = data
    raised = seen["exception"]
    assert (raised.type_name, raised.message) == ("KeyError", "'shutter'")
    assert "in sometimes" in raised.traceback_text
    assert isinstance(raised, ZmqRuntimeError)
    assert "lock" in seen["invalid"].message
    assert server.stream_counters("s")["failed"] >= 1


def test_even_sys_exit_in_a_function_does_not_end_its_thread(
    server: RouterServer, client: RouterClient, counter: Counter
) -> None:
    def leave() -> None:
        counter()
        raise SystemExit

    client.configure_stream("s")
    server.add_stream_from_callable("s", 50, leave)
    assert counter.wait_for(3)
    assert next_of(client, "s").type_name == "SystemExit"


@pytest.mark.req("003.4")
def test_an_exposed_attribute_can_be_streamed(server: RouterServer, client: RouterClient) -> None:
    class Stage:
        position = 4.5

        def image(self) -> array.array[int]:
            return array.array("H", [1, 2, 3])

    server.expose("stage", Stage(), ["position", "image"])
    server.add_stream("where", 50, "stage", "position")
    server.add_stream("seen", 50, "stage", "image")
    client.configure_stream("where")
    client.configure_stream("seen")
    assert next_of(client, "where") == 4.5
    image = next_of(client, "seen")
    assert (image.format, image.tolist()) == ("H", [1, 2, 3])
    with pytest.raises(ExposeError, match="expose it first"):
        server.add_stream("private", 50, "stage", "__dict__")


@pytest.mark.parametrize(
    ("name", "hz", "encoding"),
    [
        ("", 10, "msgpack"),
        ("zero\0byte", 10, "msgpack"),
        ("\ud800", 10, "msgpack"),
        ("é" * 101, 10, "msgpack"),
        ("s", 0, "msgpack"),
        ("s", float("nan"), "msgpack"),
        ("s", 10, "pickle"),
        ("taken", 10, "msgpack"),
    ],
)
def test_streams_that_cannot_be_are_refused(
    server: RouterServer, name: str, hz: float, encoding: str
) -> None:
    server.get_stream_fn("taken")
    with pytest.raises(ExposeError):
        server.add_stream_from_callable(name, hz, lambda: None, encoding=encoding)
    assert server.get_stream_configurations()["periodic_streams"] == {}


# application-controlled


@pytest.mark.req("003.5")
@pytest.mark.req("003.10")
def test_sixteen_threads_send_at_once_and_nothing_is_lost(
    server: RouterServer, connect: Connect
) -> None:
    clients = [connect(server) for _ in range(3)]
    functions = [server.get_stream_fn(f"stream {number % 4}") for number in range(16)]
    for client in clients:
        for number in range(4):
            client.configure_stream(f"stream {number}", "queue", limit=5000)
    for number in range(4):  # the last value is kept, so everybody will have this one
        functions[number](["ready", 0])
    for client in clients:
        for number in range(4):
            assert next_of(client, f"stream {number}") == ["ready", 0]

    def send(worker: int) -> None:
        for count in range(100):
            functions[worker]([worker, count])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(send, range(16)))
    for client in clients:
        for number in range(4):
            got: defaultdict[int, list[int]] = defaultdict(list)
            for _ in range(400):
                worker, count = next_of(client, f"stream {number}")
                got[worker].append(count)
            assert got == {worker: list(range(100)) for worker in range(number, 16, 4)}
            assert client.take_gaps(f"stream {number}") == []
    assert len(server.service.control.peers) == 3  # one connection each


@pytest.mark.req("003.5")
def test_the_application_may_give_the_timestamp(server: RouterServer, client: RouterClient) -> None:
    send = server.get_stream_fn("s", set_timestamp=True)
    client.configure_stream("s", "queue")
    assert client.wait_for_stream("s")
    given = Timestamp(wall_ns=12, mono_ns=34, server_id="camera clock")
    send("first", given)
    send("second", 1_000_000_000)
    assert client.get_stream("s", block=True, timeout=SOON) == (given, "first")
    at, data = client.get_stream("s", block=True, timeout=SOON)
    assert (at.wall_ns, at.server_id, data) == (1_000_000_000, server.service.server_id, "second")
    with pytest.raises(TypeError, match="a timestamp"):
        send("third")
    with pytest.raises(TypeError, match="no timestamp"):
        server.get_stream_fn("s")("third", given)


def test_what_the_application_sends_may_be_changed_at_once(
    server: RouterServer, client: RouterClient
) -> None:
    send = server.get_stream_fn("frames")
    client.configure_stream("frames", "queue")
    send("ready")
    assert next_of(client, "frames") == "ready"
    frame = bytearray(200_000)
    for number in range(10):
        frame[:] = bytes([number]) * len(frame)
        send(frame)
    for number in range(10):
        assert bytes(next_of(client, "frames")) == bytes([number]) * 200_000


def test_sending_what_cannot_travel_is_the_senders_error(server: RouterServer) -> None:
    with pytest.raises(FrameError, match="lock"):
        server.get_stream_fn("s")(threading.Lock())


@pytest.mark.req("003.7")
def test_streams_of_the_application_can_be_removed_but_not_switched(
    server: RouterServer, client: RouterClient
) -> None:
    send = server.get_stream_fn("s")
    for switch in (client.enable_stream, client.disable_stream, server.disable_stream):
        with pytest.raises(InvalidRequestError, match="application"):
            switch("s")
    client.remove_stream("s")
    with pytest.raises(ExposeError, match="removed"):
        send(1)


def test_a_removed_streams_last_value_is_not_kept(server: RouterServer, connect: Connect) -> None:
    server.get_stream_fn("s")("old")
    server.remove_stream("s")
    client = connect(server)
    client.configure_stream("s", "queue")
    client.configure_stream("other", "queue")
    server.get_stream_fn("other")("marker")
    assert next_of(client, "other") == "marker"
    server.get_stream_fn("s")("new")
    assert next_of(client, "s") == "new"


# receiving


@pytest.mark.req("003.8")
def test_an_empty_stream_is_a_zmq_again_and_an_error_of_ours(
    server: RouterServer, client: RouterClient
) -> None:
    server.get_stream_fn("s")
    client.configure_stream("s")
    for block, timeout in ((False, None), (True, 0.05)):
        with pytest.raises(StreamEmpty, match="'s'") as caught:
            client.get_stream("s", block=block, timeout=timeout)
        assert isinstance(caught.value, zmq.Again)
        assert isinstance(caught.value, ZmqRuntimeError)
        assert caught.value.errno == zmq.EAGAIN
    with pytest.raises(UnknownStreamError, match="configure_stream"):
        client.get_stream("t")


@pytest.mark.req("003.8")
def test_a_cache_keeps_the_newest_and_a_queue_keeps_order_and_names_what_it_lost(
    server: RouterServer, client: RouterClient, connect: Connect
) -> None:
    send = server.get_stream_fn("s")
    queue = connect(server)
    client.configure_stream("s", Storage.CACHE)
    queue.configure_stream("s", "queue", limit=10)
    all_of_them = connect(server)
    all_of_them.configure_stream("s", "queue")
    send("ready")
    for each in (client, queue, all_of_them):
        assert next_of(each, "s") == "ready"
    for number in range(100):
        send(number)
    assert [next_of(all_of_them, "s") for _ in range(100)] == list(range(100))
    while (data := next_of(client, "s")) != 99:
        assert 0 <= data < 99
    with pytest.raises(StreamEmpty):
        client.get_stream("s")
    while queue.stream_counters("s")["missing"] < 90:
        assert queue.stream_counters("s")["waiting"] <= 10
    assert [next_of(queue, "s") for _ in range(10)] == list(range(90, 100))
    gaps = queue.take_gaps("s")
    assert (sum(map(len, gaps)), {gap.reason for gap in gaps}) == (90, {GapReason.EVICTED})
    assert client.stream_counters("s")["missing"] == 0


@pytest.mark.req("003.8")
def test_timestamps_say_when_by_two_clocks_and_whose(
    server: RouterServer, client: RouterClient
) -> None:
    send = server.get_stream_fn("s")
    client.configure_stream("s")
    before = time.monotonic_ns(), time.time_ns()
    send(1)
    at, _ = client.get_stream("s", block=True, timeout=SOON)
    assert before[0] <= at.mono_ns <= time.monotonic_ns()
    assert before[1] <= at.wall_ns <= time.time_ns()
    assert at.server_id == client.get_version()["server"]


@pytest.mark.req("F.26")
def test_topics_are_exact_and_any_text(server: RouterServer, client: RouterClient) -> None:
    names = ["frame", "frame_2", "frame é", "кадр", "框架 🎞", "f" * 200, "fra"]
    for name in names:
        client.configure_stream(name, "queue")
    for name in names:
        server.get_stream_fn(name)(name)
    for name in names:
        assert next_of(client, name) == name
    for name in names:
        with pytest.raises(StreamEmpty):
            client.get_stream(name)


@pytest.mark.req("003.11")
@pytest.mark.parametrize(
    ("encoding", "value", "deserializer", "expected"),
    [
        ("msgpack", {"a": [1, b"x"]}, None, {"a": [1, b"x"]}),
        ("json", {"a": [1, "é"]}, None, {"a": [1, "é"]}),
        (None, b"bytes", None, b"bytes"),
        ("raw", b'{"n": 1}', json.loads, {"n": 1}),
        (lambda value: str(value).encode(), 17, int, 17),
        ("mine", 17, int, 17),
    ],
)
def test_streams_have_every_codec(
    encoding: Any, value: Any, deserializer: Any, expected: Any, connect: Connect
) -> None:
    server = RouterServer(free_endpoint(), serializers={"mine": lambda value: str(value).encode()})
    with server:
        client = connect(server)
        client.configure_stream("s", deserializer=deserializer)
        server.add_stream_from_callable("s", 50, lambda: value, encoding=encoding)
        assert next_of(client, "s") == expected
        server.remove_stream("s")

        def fail() -> None:
            raise ValueError("none")

        server.add_stream_from_callable("t", 50, fail, encoding=encoding)
        client.configure_stream("t", deserializer=deserializer)
        assert next_of(client, "t").type_name == "ValueError"


def test_what_a_serializer_raises_comes_as_data(server: RouterServer, client: RouterClient) -> None:
    client.configure_stream("s")
    server.add_stream_from_callable("s", 50, lambda: "text", encoding=lambda value: value["no"])
    assert next_of(client, "s").type_name == "TypeError"


def test_what_a_deserializer_raises_is_the_readers_own_and_the_next_data_come(
    server: RouterServer, client: RouterClient
) -> None:
    send = server.get_stream_fn("s", encoding=None)
    client.configure_stream("s", "queue", deserializer=int)
    assert client.wait_for_stream("s")
    send(b"no number")
    send(b"17")
    with pytest.raises(ValueError, match="invalid literal"):
        next_of(client, "s")
    assert next_of(client, "s") == 17


def test_storage_can_be_changed_and_a_stream_forgotten(
    server: RouterServer, client: RouterClient
) -> None:
    send = server.get_stream_fn("s")
    send(1)
    client.configure_stream("s", "cache")
    assert next_of(client, "s") == 1
    client.configure_stream("s", "queue")
    assert next_of(client, "s") == 1  # it joined again, and the last value was kept for it
    for number in range(2, 5):
        send(number)
    assert [next_of(client, "s") for _ in range(3)] == [2, 3, 4]
    client.forget_stream("s")
    client.forget_stream("s")
    with pytest.raises(UnknownStreamError):
        client.get_stream("s")
    with pytest.raises(ValueError, match="stack"):
        client.configure_stream("s", "stack")


def test_streams_can_be_configured_before_there_is_a_server(counter: Counter) -> None:
    from zmqruntime.router import RouterClient

    endpoint = free_endpoint()
    client = RouterClient(endpoint)
    client.configure_stream("s")
    server = RouterServer(endpoint)
    server.add_stream_from_callable("s", 50, counter)
    with server:
        client.connect()
        assert next_of(client, "s") >= 1
        client.close()
        client.close()
    with pytest.raises(UnknownStreamError):
        client.get_stream("s")


def test_who_waits_for_a_stream_is_woken_when_the_client_is_closed(
    server: RouterServer, client: RouterClient
) -> None:
    server.get_stream_fn("s")
    client.configure_stream("s")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get_stream, "s", True, SOON)
        client.close()
        with pytest.raises(UnknownStreamError):
            waiting.result(SOON)


def test_who_waits_for_a_stream_that_is_configured_anew_goes_on_waiting(
    server: RouterServer, client: RouterClient
) -> None:
    send = server.get_stream_fn("s")
    client.configure_stream("s")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get_stream, "s", True, SOON)
        client.configure_stream("s", "queue")
        send("value")
        assert waiting.result(SOON)[1] == "value"


@pytest.mark.req("003.12")
def test_schema_says_which_streams_there_are(
    server: RouterServer, client: RouterClient, counter: Counter
) -> None:
    def temperature() -> float:
        return 21.5

    server.add_stream_from_callable("temperature", 2, temperature, enabled=False)
    server.add_stream_from_callable("untyped", 0.5, counter.__call__, encoding="json")
    server.get_stream_fn("log", encoding="json")
    server.add_zmq_stream("camera", "tcp://127.0.0.1:20999", enabled=False, log_chatter=True)
    expected = {
        "periodic_streams": {
            "temperature": {
                "encoding": "msgpack",
                "return_type": "float",
                "frequency_hz": 2,
                "enabled": False,
            },
            "untyped": {
                "encoding": "json",
                "return_type": "int",
                "frequency_hz": 0.5,
                "enabled": True,
            },
        },
        "manual_streams": {"log": {"encoding": "json"}},
        "zmq_streams": {
            "camera": {
                "address": "tcp://127.0.0.1:20999",
                "encoding": "msgpack",
                "enabled": False,
                "log_chatter": True,
                "state": "disabled",
                "reason": "",
            }
        },
    }
    assert client.get_stream_configurations() == expected
    assert server.get_stream_configurations() == expected
    version = client.get_version()
    assert (version["protocol"], version["app"]) == (1, "router")
    assert version["zmqruntime"]
