from __future__ import annotations

import array
import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmqruntime import DescriptorError, FrameError
from zmqruntime.router._codecs import Serializers, decode, encode

# a machine that is busy with others makes few inputs in a second
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@PATIENT
@given(plain, st.sampled_from(["msgpack", "json"]))
def test_plain_values_come_back_in_both_encodings(value: object, encoding: str) -> None:
    try:
        written = encode(value, encoding)
    except FrameError:
        assert encoding == "json"  # infinities have no word there
        return
    assert decode(written.encoding, written.frames, None) == value


def test_json_is_json() -> None:
    written = encode({"é": [1, 2.5, None]}, "json")
    assert json.loads(bytes(written.frames[0])) == {"é": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("value", "encoding", "words"),
    [
        (array.array("H", [1]), "json", "buffer"),
        ({"deep": b"x"}, "json", r"\['deep'\]"),
        (float("nan"), "json", "json"),
        (float("inf"), "json", "json"),
        (2**70, "msgpack", "msgpack"),
        ("\ud800", "msgpack", "msgpack"),
        ({1: 2}, "raw", "serializer"),
        ("text", "raw", "serializer"),
        (None, "jpeg", "serializer"),
    ],
)
def test_what_an_encoding_cannot_hold_is_refused_by_name(
    value: object, encoding: str, words: str
) -> None:
    with pytest.raises(FrameError, match=words):
        encode(value, encoding)


def test_bytes_travel_as_they_are_and_through_functions_at_both_ends() -> None:
    assert decode("raw", encode(b"as they are", "raw").frames, None) == b"as they are"
    assert decode("raw", encode(memoryview(b"abcd")[::2], "raw").frames, None) == b"ac"
    written = encode({"n": 3}, "mine", lambda value: str(value["n"]).encode())
    assert written.encoding == "mine"
    assert decode(written.encoding, written.frames, lambda data: {"n": int(data)}) == {"n": 3}


@PATIENT
@given(st.sampled_from(["msgpack", "json"]), st.lists(st.binary(max_size=40), max_size=3))
def test_whatever_comes_is_read_or_refused(encoding: str, frames: list[bytes]) -> None:
    with contextlib.suppress(DescriptorError):
        decode(encoding, frames, None)


def test_nesting_without_end_is_refused() -> None:
    deep = b"\x81\xa5value" + b"\x91" * 100_000
    for encoding, frame in (("json", b"[" * 100_000), ("msgpack", deep)):
        with pytest.raises(DescriptorError):
            decode(encoding, [frame], None)


def test_encodings_are_known_by_name() -> None:
    def jpeg(value: Any) -> bytes:
        return bytes(value)

    serializers = Serializers({"jpeg": jpeg})
    assert serializers.resolve("jpeg") == ("jpeg", jpeg)
    assert serializers.resolve(None) == ("raw", None)
    assert serializers.resolve(jpeg) == ("raw", jpeg)
    assert serializers.resolve("json") == ("json", None)
    with pytest.raises(ValueError, match="jpeg"):
        serializers.resolve("png")
    with pytest.raises(ValueError, match="itself"):
        Serializers({"json": jpeg})
