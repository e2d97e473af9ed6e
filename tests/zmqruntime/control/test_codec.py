from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import (
    Encoding,
    FrameError,
    FrameTooLargeError,
    InvalidRequestError,
    Limits,
    Request,
)
from zmqruntime.control._codec import (
    check_counts,
    check_lengths,
    decode_envelope,
    decode_reply,
    decode_request,
    encode,
    encoding_of,
)
from zmqruntime.control._messages import RequestMessage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
_FINITE = st.floats(allow_nan=False, allow_infinity=False)
BODIES = st.dictionaries(TEXT, PLAIN, max_size=5)


@given(BODIES)
def test_a_request_survives_msgpack(body: dict[str, Any]) -> None:
    request = RequestMessage(v=1, type="command", id="7", body=body, token="t", key="k")
    frame = encode(request)
    assert encoding_of(frame) is Encoding.MSGPACK
    assert decode_request(frame) == request
    assert decode_envelope(frame).token == "t"
    check_counts(body, Limits())


@given(st.dictionaries(TEXT, st.none() | st.booleans() | _FINITE | TEXT))
def test_a_request_survives_json(body: dict[str, Any]) -> None:
    request = RequestMessage(v=1, type="command", id="7", body=body)
    frame = encode(request, Encoding.JSON)
    assert encoding_of(frame) is Encoding.JSON
    assert decode_request(frame) == request


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_named_error(frame: bytes) -> None:
    for decode in (decode_envelope, decode_request, decode_reply):
        with suppress(FrameError):
            decode(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x91" * 200_000,
        b'{"v":' + b"[" * 200_000,
        b'{"v":1,"type":"x","body":{"a":1e999}}{',
        msgspec.msgpack.encode({"v": 1, "type": "x" * 65}),
        msgspec.msgpack.encode({"v": 1, "type": "x", "id": "7" * 65}),
        msgspec.msgpack.encode({"v": 1, "type": "x", "deadline_ms": -1}),
        msgspec.msgpack.encode({"v": 1, "type": "x", "body": []}),
    ],
)
def test_hostile_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(FrameError):
        decode_request(frame)


def test_unknown_fields_are_ignored_and_missing_ones_default() -> None:
    request = decode_request(msgspec.msgpack.encode({"v": 1, "type": "x", "colour": "blue"}))
    assert (request.id, request.body, request.deadline_ms) == ("", {}, 5000)


@pytest.mark.parametrize(
    "value",
    [{"a": msgspec.msgpack.Ext(5, b"x")}, {"a": {1: 2}}, {"a": {(1, 2): 3}}, {"a": [{b"k": 1}]}],
)
def test_values_that_are_not_plain_are_refused(value: dict[str, Any]) -> None:
    frame = msgspec.msgpack.encode({"v": 1, "type": "x", "body": value})
    with pytest.raises(FrameError):
        check_counts(decode_request(frame).body, Limits())


def test_deep_and_crowded_bodies_are_refused() -> None:
    deep: Any = 0
    for _ in range(31):
        deep = [deep]
    check_counts({"a": deep}, Limits())
    with pytest.raises(FrameTooLargeError, match="deeper than 32"):
        check_counts({"a": [deep]}, Limits())
    check_counts({"a": [0] * 99_998}, Limits())
    with pytest.raises(FrameTooLargeError, match="100000"):
        check_counts({"a": [0] * 99_999}, Limits())


def test_lengths_depend_on_the_type() -> None:
    limits = Limits()
    long = b"x" * (limits.frame_bytes + 1)
    check_lengths([long], type_="command", limits=limits)
    with pytest.raises(FrameTooLargeError, match="65536"):
        check_lengths([long], type_="status", limits=limits)
    with pytest.raises(FrameTooLargeError, match="frames"):
        check_lengths([b""] * 64, type_="status", limits=limits)
    with pytest.raises(FrameTooLargeError, match="request of"):
        check_lengths([b"x", b"x" * limits.request_bytes], type_="status", limits=limits)


@pytest.mark.parametrize("wrong", [0, -1, 4097])
def test_caps_can_only_be_lowered(wrong: int) -> None:
    assert Limits(stranger_bytes=100).stranger_bytes == 100
    with pytest.raises(ValueError, match="stranger_bytes"):
        Limits(stranger_bytes=wrong)


def test_what_is_not_plain_cannot_be_written() -> None:
    with pytest.raises(FrameError, match="plain"):
        encode(RequestMessage(v=1, type="x", body={"a": object()}))


class _Order(msgspec.Struct):
    wells: list[str]
    count: int = 1


def test_a_body_is_read_as_a_typed_value() -> None:
    assert Request(type="x", body={"wells": ["A01"]}).parse(_Order).count == 1
    with pytest.raises(InvalidRequestError, match="wells"):
        Request(type="x", body={"wells": "A01"}).parse(_Order)
