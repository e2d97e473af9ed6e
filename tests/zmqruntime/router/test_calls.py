from __future__ import annotations

import array
import contextlib
import ctypes
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import (
    ControlTimeout,
    DeadlineError,
    DescriptorError,
    ForbiddenError,
    FrameError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    Peer,
    PeerLostError,
    Request,
    RequestError,
)
from zmqruntime.control._codec import Encoding
from zmqruntime.router import ExposeError, RouterClient, RouterServer, RPCException
from zmqruntime.router._calls import CallDesk, NamedCall, attachments, merge
from zmqruntime.router._expose import Exposure
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SOON = 15.0


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Instrument:
    def __init__(self) -> None:
        self.gain = 1.5
        self.release = threading.Event()
        self.hanging = threading.Event()
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return {"args": args, "kwargs": kwargs}

    def give(self, value: Any) -> Any:
        return value

    def image(self, width: int, height: int) -> memoryview:
        data = array.array("H", (n % 65536 for n in range(width * height)))
        return memoryview(data).cast("B").cast("H", [height, width])

    def zeros(self, size: int) -> bytearray:
        return bytearray(size)

    def total(self, pixels: memoryview) -> dict[str, Any]:
        flat = pixels.cast("B").cast("H")
        return {"shape": pixels.shape, "format": pixels.format, "sum": sum(flat)}

    def fail(self, kind: str) -> None:
        raise {"value": ValueError, "exit": SystemExit, "odd": OddError}[kind]("gain \ud800 is off")

    def refuse(self) -> None:
        raise NotFoundError("no such filter")

    def unsendable(self) -> Any:
        return {"file": threading.Lock()}

    def hang(self) -> str:
        self.hanging.set()
        self.release.wait(SOON)
        return "done"

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        threading.Event().wait(0.01)
        with self.lock:
            self.inside -= 1


EXPOSED = [
    "echo", "enter", "fail", "gain", "give", "hang", "image", "refuse", "total", "unsendable",
    "zeros",
]  # fmt: skip


@pytest.fixture
def instrument() -> Iterator[Instrument]:
    instrument = Instrument()
    yield instrument
    instrument.release.set()


@pytest.fixture
def server(instrument: Instrument) -> Iterator[RouterServer]:
    server = RouterServer(free_endpoint())
    server.expose("it", instrument, EXPOSED)
    with server:
        yield server


@pytest.fixture
def client(server: RouterServer) -> Iterator[RouterClient]:
    with RouterClient(server.endpoint) as client:
        yield client


@pytest.mark.req("003.2")
def test_methods_are_called_and_attributes_read(
    client: RouterClient, instrument: Instrument
) -> None:
    assert client.call("it", "echo", [1, "a"], {"b": [None, 2.5]}) == {
        "args": [1, "a"],
        "kwargs": {"b": [None, 2.5]},
    }
    assert client.call("it", "gain") == 1.5
    instrument.gain = 2.0
    assert client.call("it", "gain") == 2.0


@pytest.mark.req("003.2")
def test_a_result_comes_with_its_time_and_whose_clock_that_is(
    client: RouterClient, server: RouterServer
) -> None:
    before = time.monotonic_ns()
    at, value = client.call("it", "gain", get_timestamp=True)
    assert value == 1.5
    assert before <= at.mono_ns <= time.monotonic_ns()
    assert abs(at.wall_ns - time.time_ns()) < 60e9
    assert at.server_id == server.service.server_id


@pytest.mark.req("003.11")
def test_arrays_travel_both_ways_with_format_and_shape(client: RouterClient) -> None:
    image = client.call("it", "image", [640, 480])
    assert (image.format, image.shape, image.itemsize) == ("H", (480, 640), 2)
    assert image[1, 2] == 642
    assert client.call("it", "total", [image]) == {
        "shape": [480, 640],
        "format": "H",
        "sum": sum(n % 65536 for n in range(640 * 480)),
    }


def test_a_large_result_comes_in_several_frames(client: RouterClient) -> None:
    assert client.call("it", "zeros", [40_000_000], timeout=30).nbytes == 40_000_000


def test_arguments_beyond_the_cap_are_refused_here_and_the_connection_lives(
    client: RouterClient,
) -> None:
    with pytest.raises(PayloadTooLargeError, match="at most"):
        client.call("it", "give", [bytearray(17 << 20)])
    assert client.call("it", "give", [bytearray(15 << 20)], timeout=30).nbytes == 15 << 20


@pytest.mark.req("003.11")
@pytest.mark.req("F.27")
@pytest.mark.parametrize(
    ("value", "deserializer", "expected"),
    [
        ({"n": [1, 2.5, None, "é"]}, "msgpack", {"n": [1, 2.5, None, "é"]}),
        ({"n": [1, 2.5, None, "é"]}, "json", {"n": [1, 2.5, None, "é"]}),
        ({"n": b"bytes"}, "msgpack", {"n": b"bytes"}),
        (b"bytes", None, b"bytes"),
        (b"17", int, 17),
        (b'{"n": 1}', json.loads, {"n": 1}),
        ([True, b""], "msgpack", [True, b""]),
    ],
)
def test_every_codec_carries_what_it_can(
    client: RouterClient, value: object, deserializer: Any, expected: object
) -> None:
    assert client.call("it", "give", [value], deserializer=deserializer) == expected


@pytest.mark.req("003.11")
@pytest.mark.req("F.27")
@pytest.mark.parametrize("deserializer", ["msgpack", "json", None, bytes])
def test_exceptions_come_through_every_codec(client: RouterClient, deserializer: Any) -> None:
    with pytest.raises(RPCException) as caught:
        client.call("it", "fail", ["value"], deserializer=deserializer)
    assert (caught.value.code, caught.value.type_name) == ("exception", "ValueError")


@pytest.mark.req("003.11")
@pytest.mark.parametrize("deserializer", ["json", None])
def test_a_codec_that_cannot_hold_the_result_says_so(
    client: RouterClient, deserializer: Any
) -> None:
    with pytest.raises(InvalidRequestError, match=r"it\.echo cannot be sent"):
        client.call("it", "echo", [b"x"], deserializer=deserializer)
    if deserializer == "json":
        with pytest.raises(InvalidRequestError, match="buffer"):
            client.call("it", "image", [2, 2], deserializer="json")
    else:
        image = client.call("it", "image", [2, 2], deserializer=None)
        assert image == bytes([0, 0, 1, 0, 2, 0, 3, 0])


def test_a_serializer_of_the_server_meets_a_deserializer_of_the_client() -> None:
    server = RouterServer(free_endpoint())
    server.expose("it", Instrument(), ["give"], serializer=lambda value: repr(value).encode())
    with server, RouterClient(server.endpoint) as client:
        assert client.call("it", "give", [[1, 2]], deserializer=bytes.decode) == "[1, 2]"
        assert client.call("it", "give", [[1, 2]]) == [1, 2]


def test_what_a_deserializer_raises_is_the_callers_own(client: RouterClient) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        client.call("it", "give", [b"no number"], deserializer=int)
    with pytest.raises(ValueError, match="deserializer"):
        client.call("it", "give", [1], deserializer="pickle")


@pytest.mark.req("003.13")
def test_an_exception_comes_as_type_message_and_traceback_text(client: RouterClient) -> None:
    with pytest.raises(RPCException, match="gain") as caught:
        client.call("it", "fail", ["value"])
    error = caught.value
    assert (error.code, error.type_name, error.message) == (
        "exception",
        "ValueError",
        r"gain \ud800 is off",
    )
    assert "in fail" in error.traceback_text
    assert "exposed.function" not in error.traceback_text
    assert isinstance(error, RequestError | RuntimeError)
    assert error.__cause__ is None


@pytest.mark.req("003.13")
@pytest.mark.parametrize(("kind", "type_name"), [("exit", "SystemExit"), ("odd", "OddError")])
def test_odd_exceptions_are_answered_too_and_end_nothing(
    client: RouterClient, kind: str, type_name: str
) -> None:
    for _ in range(20):  # more than there are workers
        with pytest.raises(RPCException) as caught:
            client.call("it", "fail", [kind])
        assert caught.value.type_name.rpartition(".")[2] == type_name
    assert client.call("it", "gain") == 1.5


def test_an_error_of_zmqruntime_in_a_function_is_an_exception_like_any_other(
    client: RouterClient,
) -> None:
    with pytest.raises(RPCException) as caught:
        client.call("it", "refuse")
    assert caught.value.type_name.endswith("NotFoundError")


def test_what_cannot_be_sent_is_refused_on_either_side(client: RouterClient) -> None:
    with pytest.raises(InvalidRequestError, match=r"it\.unsendable cannot be sent.*lock"):
        client.call("it", "unsendable")
    with pytest.raises(FrameError, match=r"\['args'\]\[0\]"):
        client.call("it", "give", [object()])


@pytest.mark.req("003.2")
@pytest.mark.req("F.24")
@pytest.mark.req("F.36")
@pytest.mark.parametrize(
    ("obj", "attr"),
    [
        ("it", "__class__"),
        ("it", "__reduce__"),
        ("it", "lock"),
        ("it", "echo.__func__"),
        ("it.echo", "__func__"),
        ("nothing", "echo"),
        ("it", "x" * 200),
    ],
)
def test_what_is_not_exposed_is_not_found(client: RouterClient, obj: str, attr: str) -> None:
    with pytest.raises(NotFoundError):
        client.call(obj, attr)


def test_a_value_is_read_without_arguments(client: RouterClient) -> None:
    with pytest.raises(InvalidRequestError, match="not a function"):
        client.call("it", "gain", [3])


@pytest.mark.req("F.24")
def test_a_call_that_takes_too_long_ends_for_the_caller_and_blocks_nobody(
    client: RouterClient, instrument: Instrument
) -> None:
    with pytest.raises(ControlTimeout):
        client.call("it", "hang", timeout=0.2)
    with ThreadPoolExecutor(8) as pool:
        hanging = [pool.submit(client.call, "it", "hang", timeout=2 * SOON) for _ in range(8)]
        assert client.call("it", "gain") == 1.5
        assert client.connection.control.request("ping")["ready"]
        instrument.release.set()
        assert [each.result(SOON) for each in hanging] == ["done"] * 8
    assert client.connection.control.counters["late"] <= 1


@pytest.mark.req("F.24")
def test_without_a_server_a_call_ends_at_its_deadline() -> None:
    with RouterServer(free_endpoint()) as server:
        client = RouterClient(server.endpoint)
        client.connect()
    with pytest.raises((ControlTimeout, PeerLostError)):
        client.call("it", "gain", timeout=0.2)
    client.close()


def test_calls_of_an_object_can_take_turns(instrument: Instrument) -> None:
    server = RouterServer(free_endpoint())
    server.expose("it", instrument, ["enter", "hang"], take_turns=True)
    with server, RouterClient(server.endpoint) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.call("it", "enter"), range(16)))
        assert instrument.most == 1
        hanging = pool.submit(client.call, "it", "hang")
        assert instrument.hanging.wait(SOON)
        with pytest.raises((DeadlineError, ControlTimeout)):
            client.call("it", "enter", timeout=0.1)
        instrument.release.set()
        assert hanging.result(SOON) == "done"


# named calls


@pytest.mark.req("003.3")
@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((), None, {"args": [1, 2], "kwargs": {"c": 3}}),
        ([9], None, {"args": [9, 2], "kwargs": {"c": 3}}),
        ([9, 8, 7], None, {"args": [9, 8, 7], "kwargs": {"c": 3}}),
        ({1: 8}, None, {"args": [1, 8], "kwargs": {"c": 3}}),
        ({2: 7, 0: 9}, {"d": 4}, {"args": [9, 2, 7], "kwargs": {"c": 3, "d": 4}}),
        ((), {"c": None}, {"args": [1, 2], "kwargs": {"c": None}}),
    ],
)
def test_named_calls_take_other_arguments_by_index_and_keyword(
    server: RouterServer, client: RouterClient, args: Any, kwargs: Any, expected: Any
) -> None:
    server.add_named_call("usual", "it", "echo", [1, 2], {"c": 3})
    assert client.call_by_name("usual", args, kwargs) == expected
    assert client.call_by_name("usual") == {"args": [1, 2], "kwargs": {"c": 3}}


def test_named_calls_that_cannot_be_made_are_refused(
    server: RouterServer, client: RouterClient
) -> None:
    server.add_named_call("usual", "it", "echo", [1])
    with pytest.raises(InvalidRequestError, match="argument 3"):
        client.call_by_name("usual", {3: 1})
    with pytest.raises(NotFoundError, match="no named call"):
        client.call_by_name("unusual")
    with pytest.raises(ExposeError, match="already"):
        server.add_named_call("usual", "it", "echo")
    with pytest.raises(ExposeError, match="expose it first"):
        server.add_named_call("private", "it", "lock")
    with pytest.raises(InvalidRequestError):
        client.connection.control.request("call_named", {"name": "usual", "args": {"-1": 1}})
    server.remove_named_call("usual")
    with pytest.raises(NotFoundError):
        client.call_by_name("usual")


def test_arguments_with_arrays_can_be_given_by_index(
    server: RouterServer, client: RouterClient
) -> None:
    server.add_named_call("sum", "it", "total", [None])
    assert client.call_by_name("sum", {0: array.array("H", [1, 2, 3])})["sum"] == 6


def test_merging_leaves_no_hole() -> None:
    assert merge([], {0: "a", 1: "b"}) == ["a", "b"]
    with pytest.raises(InvalidRequestError):
        merge(["a"], {2: "c"})


# who may


def desk() -> CallDesk:
    exposure = Exposure()
    exposure.add("it", Instrument(), ["gain", "echo"])
    desk = CallDesk(exposure, server_id=lambda: "server")
    desk.add_named(NamedCall(name="usual", obj="it", attr="echo"))
    return desk


def peer(*grants: str) -> Peer:
    return Peer(
        id=b"p", owner=False, permitted=True, encoding=Encoding.MSGPACK, grants=frozenset(grants)
    )


@pytest.mark.req("003.14")
def test_an_operator_may_call_and_a_viewer_may_not() -> None:
    request = Request(type="call", body={"obj": "it", "attr": "gain"})
    named = Request(type="call_named", body={"name": "usual"})
    operator, viewer = peer("call:*", "topic:*"), peer("topic:*")
    assert desk().on_call(request, operator).body["value"] == 1.5
    assert desk().on_call_named(named, operator).body["value"] == {"args": [], "kwargs": {}}
    for handler, asked in ((desk().on_call, request), (desk().on_call_named, named)):
        with pytest.raises(ForbiddenError) as caught:
            handler(asked, viewer)
        assert caught.value.details["capability"].startswith("call:it.")


@pytest.mark.req("003.14")
def test_a_grant_for_one_attribute_is_for_that_alone() -> None:
    narrow = peer("call:it.gain")
    request = Request(type="call", body={"obj": "it", "attr": "gain"})
    assert desk().on_call(request, narrow).body["value"] == 1.5
    for attr in ("echo", "lock", "gain.x", "*"):
        with pytest.raises(ForbiddenError):
            desk().on_call(Request(type="call", body={"obj": "it", "attr": attr}), narrow)


def test_only_what_may_be_called_is_told(server: RouterServer, client: RouterClient) -> None:
    server.add_named_call("usual", "it", "give", [1])
    exposed = client.get_exposed()
    assert exposed["objects"]["it"]["gain"] == {"kind": "value", "return_type": ""}
    assert exposed["objects"]["it"]["image"] == {"kind": "function", "return_type": "memoryview"}
    assert exposed["named_calls"] == {"usual": {"obj": "it", "attr": "give"}}


words = st.text(max_size=5) | st.sampled_from(["it", "gain", "echo", "usual", "msgpack", "json"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
fields = ["obj", "attr", "name", "args", "kwargs", "buffers", "encoding"]


@pytest.mark.req("F.1")
@PATIENT
@given(
    st.dictionaries(st.sampled_from(fields), anything, max_size=5),
    st.lists(st.binary(max_size=8), max_size=2),
)
def test_whatever_is_asked_is_answered_or_refused(
    body: dict[str, Any], frames: list[bytes]
) -> None:
    asked = desk()
    for handler in (asked.on_call, asked.on_call_named):
        request = Request(type="call", body=body, attachments=tuple(frames))
        with contextlib.suppress(RequestError):
            handler(request, peer("call:*"))


# other programs


@pytest.mark.req("003.1")
@pytest.mark.req("002.21")
def test_a_plain_req_socket_can_call_in_json() -> None:
    server = RouterServer(free_endpoint(), bind_address="127.0.0.1", insecure=True)
    server.expose("it", Instrument(), EXPOSED)
    with server, zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(SOON * 1000))
        socket.connect(server.endpoint.control_url)

        def ask(**body: Any) -> Any:
            socket.send_json({"v": 1, "id": "1", "type": "call", "body": body})
            return socket.recv_multipart()

        answer = json.loads(ask(obj="it", attr="echo", args=[1], kwargs={"b": 2})[0])
        assert answer["body"]["value"] == {"args": [1], "kwargs": {"b": 2}}
        head, pixels = ask(obj="it", attr="image", args=[2, 1])
        assert json.loads(head)["body"]["buffers"] == [
            {"at": [], "format": "<H", "shape": [1, 2], "itemsize": 2}
        ]
        assert pixels == bytes([0, 0, 1, 0])
        answer = json.loads(ask(obj="it", attr="fail", args=["value"])[0])
        assert (answer["code"], answer["details"]["type"]) == ("exception", "ValueError")
        for broken in (
            {"obj": "it"},
            {"obj": 3, "attr": "gain"},
            {"obj": "it", "attr": "echo", "args": "text"},
            {"obj": "it", "attr": "echo", "encoding": "pickle"},
            {"obj": "it", "attr": "echo", "args": [None], "buffers": [{"at": ["args", 0]}]},
            {
                "obj": "it",
                "attr": "echo",
                "args": [None],
                "buffers": [{"at": ["args", 0], "format": "O", "shape": [1], "itemsize": 8}],
            },
        ):
            assert json.loads(ask(**broken)[0])["code"] == "invalid", broken
        assert json.loads(ask(obj="it", attr="gain")[0])["body"]["value"] == 1.5


def test_an_answer_that_cannot_be_read_is_an_error() -> None:
    with (
        serve_in_thread({"call": lambda *_: {"nothing": 1}}) as server,
        RouterClient(server.endpoint) as client,
        pytest.raises(DescriptorError),
    ):
        client.call("it", "gain")


def test_frames_are_cut_and_joined_to_fit_a_message() -> None:
    many = attachments([b"ab"] * 200)
    assert (len(many), b"".join(many)) == (1, b"ab" * 200)
    assert [len(frame) for frame in attachments([bytes(20 << 20)])] == [8 << 20, 8 << 20, 4 << 20]
    assert attachments([b"", (ctypes.c_uint16 * 2)(1, 2)]) == (b"\1\0\2\0",)
    with pytest.raises(PayloadTooLargeError):
        attachments([b"abc"], limit=2)
