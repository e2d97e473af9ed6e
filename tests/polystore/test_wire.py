from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import (
    HEADER_MOST_BYTES,
    Components,
    Kind,
    Payload,
    PayloadError,
    WireError,
    WireHeaderError,
    WireSizeError,
    WireVersionError,
    decode,
    encode,
)
from polystore.testing import assert_equal
from polystore.testing.strategies import payloads

DTYPES = ["b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def image(shape: tuple[int, ...] = (3, 4)) -> Payload:
    return Payload(
        data=np.arange(np.prod(shape), dtype=np.uint16).reshape(shape),
        components=Components(step="stitch", well="B03", channel=1),
        name="stitched",
        pixel_um=(0.5, 0.5),
        channel_name="DAPI",
        contrast_limits=(10, 200),
        run="run-1",
    )


def with_header(payload: Payload, **changes: Any) -> tuple[bytes, list[memoryview]]:
    header, buffers = encode(payload)
    fields = msgspec.msgpack.decode(header)
    fields.update(changes)
    return msgspec.msgpack.encode(fields), buffers


@settings(max_examples=150, deadline=None)
@given(payload=payloads())
def test_every_payload_comes_back_bit_for_bit(payload: Payload) -> None:
    header, buffers = encode(payload)
    assert_equal(decode(header, buffers), payload)
    assert_equal(decode(header, [bytes(buffer) for buffer in buffers]), payload)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", DTYPES)
def test_every_type_comes_back_in_its_byte_order(kind: str, order: str) -> None:
    dtype = np.dtype(order + kind)
    payload = Payload(data=np.arange(6).reshape(2, 3).astype(dtype))
    back = decode(*encode(payload)).array
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, payload.array)


def test_no_pixel_is_copied_either_way() -> None:
    payload = image()
    header, buffers = encode(payload)
    assert np.shares_memory(np.frombuffer(buffers[0], np.uint8), payload.array)
    assert np.shares_memory(decode(header, buffers).array, payload.array)


def test_what_is_decoded_is_read_only_even_from_writable_memory() -> None:
    header, buffers = encode(image())
    back = decode(header, [bytearray(buffers[0])]).array
    with pytest.raises(ValueError, match="read-only"):
        back[0, 0] = 1


def test_a_view_with_gaps_is_sent_as_it_looks() -> None:
    whole = np.arange(64, dtype=np.uint16).reshape(8, 8)
    payload = Payload(data=whole[::2, 1::3])
    np.testing.assert_array_equal(decode(*encode(payload)).array, whole[::2, 1::3])


@pytest.mark.req("000.10", "002.10")
def test_the_header_reads_as_json_with_shape_and_type() -> None:
    header, _ = encode(image())
    fields = json.loads(json.dumps(msgspec.msgpack.decode(header)))
    assert fields["arrays"] == [
        {"name": "data", "dtype": "<u2", "shape": [3, 4], "sizes": [24]},
    ]
    assert fields["components"] == {"step": "stitch", "well": "B03", "channel": 1}


def test_the_bytes_of_version_1_stay_as_they_are() -> None:
    header, buffers = encode(
        Payload(data=np.zeros((1, 2), "<u2"), components=Components(well="A01"))
    )
    assert header == bytes.fromhex(
        "85a17601a46b696e64a5696d616765a66172726179739184a46e616d65a464617461a56474797065a33c7532"
        "a57368617065920102a573697a65739104aa636f6d706f6e656e747381a477656c6ca3413031a46178657392"
        "a179a178"
    )
    assert [bytes(buffer) for buffer in buffers] == [b"\0\0\0\0"]


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"v": 2}, WireVersionError, "version 2"),
        ({"v": "1"}, WireHeaderError, "v"),
        ({"kind": "video"}, WireHeaderError, "video"),
        ({"kind": "points"}, WireHeaderError, "points"),
        ({"kind": "regions"}, WireHeaderError, "regions"),
        ({"kind": "text"}, WireHeaderError, "text"),
        ({"axes": ["x", "y"]}, WireHeaderError, "axes"),
        ({"axes": ["z", "y", "x"]}, WireHeaderError, "axes"),
        ({"components": {"plate": 1}}, WireHeaderError, "plate"),
        ({"components": {"channel": -1}}, WireHeaderError, "channel"),
        ({"components": {"channel": "one"}}, WireHeaderError, "channel"),
        ({"pixel_um": [0.0, 1.0]}, WireHeaderError, "pixel_um"),
        ({"pixel_um": [float("nan"), 1.0]}, WireHeaderError, "pixel_um"),
        ({"contrast_limits": [2.0, 1.0]}, WireHeaderError, "contrast_limits"),
        ({"pickle": b""}, WireHeaderError, "pickle"),
    ],
)
def test_a_header_that_lies_is_refused(
    changes: dict[str, Any], error: type[WireError], what: str
) -> None:
    header, buffers = with_header(image(), **changes)
    with pytest.raises(error, match=what):
        decode(header, buffers)


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"dtype": "|O"}, WireHeaderError, "O"),
        ({"dtype": "<O8"}, WireHeaderError, "dtype|O8"),
        ({"dtype": "<c8"}, WireHeaderError, "c8"),
        ({"dtype": "<U4"}, WireHeaderError, "U4"),
        ({"dtype": "=u2"}, WireHeaderError, "u2"),
        ({"dtype": "|u2"}, WireHeaderError, "u2"),
        ({"dtype": "text"}, WireHeaderError, "text"),
        ({"shape": [-1, 4]}, WireHeaderError, "shape"),
        ({"shape": [3, 5]}, WireHeaderError, "30 bytes"),
        ({"shape": [2**40, 2**40]}, WireHeaderError, "shape"),
        ({"shape": [1] * 9}, WireHeaderError, "shape"),
        ({"shape": [3, 4.0]}, WireHeaderError, "shape"),
        ({"sizes": [12, 12]}, WireHeaderError, "buffers"),
        ({"sizes": []}, WireHeaderError, "buffers"),
        ({"shape": [3, 2], "sizes": [12]}, WireSizeError, "24 came"),
        ({"name": "pixels"}, WireHeaderError, "data"),
    ],
)
def test_an_array_that_lies_is_refused(
    changes: dict[str, Any], error: type[WireError], what: str
) -> None:
    entry = {"name": "data", "dtype": "<u2", "shape": [3, 4], "sizes": [24]} | changes
    header, buffers = with_header(image(), arrays=[entry])
    with pytest.raises(error, match=what):
        decode(header, buffers)


def test_no_elements_in_a_shape_too_large_to_express_are_refused() -> None:
    shape = [2**31, 0, 2**31, 2**31]
    entry = {"name": "data", "dtype": "<u2", "shape": shape, "sizes": [0]}
    header, _ = with_header(image(), arrays=[entry], axes=["t", "z", "y", "x"])
    with pytest.raises(WireHeaderError, match="shape"):
        decode(header, [b""])


def test_buffers_that_are_too_many_too_short_or_in_pieces_are_refused() -> None:
    header, buffers = encode(image())
    with pytest.raises(WireSizeError, match="2 came"):
        decode(header, [*buffers, b""])
    with pytest.raises(WireSizeError, match="0 came"):
        decode(header, [])
    with pytest.raises(WireSizeError, match="23 came"):
        decode(header, [buffers[0][:23]])
    with pytest.raises(WireSizeError, match="contiguous"):
        decode(header, [memoryview(bytes(48))[::2]])


@pytest.mark.parametrize("depth", [100, 60_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    nested = b"\x91" * depth + b"\xc0"
    for header in (nested, b"\x82\xa1v\x01\xa4deep" + nested, b"\x81\xa1v" + nested):
        with pytest.raises(WireError):
            decode(header, [])


def test_headers_of_too_many_bytes_are_refused_unread() -> None:
    with pytest.raises(WireHeaderError, match=str(HEADER_MOST_BYTES)):
        decode(bytes(HEADER_MOST_BYTES + 1), [])
    with pytest.raises(PayloadError, match="columns"):
        encode(Payload(data={"x" * 200 + str(n): np.zeros(1) for n in range(500)}, kind=Kind.TABLE))


def test_text_whose_offsets_lie_is_refused() -> None:
    header, buffers = encode(Payload(data={"gene": ("TP53", "MYC")}, kind=Kind.TABLE))
    for offsets in ([0, 9, 7], [1, 4, 7], [0, 4, 6], [0, -4, 7], [0, 2**62, 7]):
        with pytest.raises(WireSizeError, match="gene"):
            decode(header, [np.array(offsets, "<i8").tobytes(), buffers[1]])
    with pytest.raises(WireHeaderError, match="UTF-8"):
        decode(header, [buffers[0], b"\xff" * 7])


@settings(max_examples=200, deadline=None)
@given(
    payload=payloads(),
    edits=st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 4096),
)
def test_a_mangled_header_is_a_typed_error_or_another_payload(
    payload: Payload, edits: list[tuple[int, int]], cut: int | None
) -> None:
    header, buffers = encode(payload)
    mangled = bytearray(header)
    for at, value in edits:
        mangled[at % len(mangled)] = value
    with contextlib.suppress(WireError):
        decode(bytes(mangled[:cut]), buffers)


@settings(max_examples=200, deadline=None)
@given(header=st.binary(max_size=200), buffers=st.lists(st.binary(max_size=20), max_size=3))
def test_random_bytes_are_a_typed_error(header: bytes, buffers: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(header, list(buffers))


def test_encoding_needs_no_more_memory_for_a_larger_image() -> None:
    def peak(payload: Payload) -> int:
        tracemalloc.start()
        try:
            encode(payload)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(image((2, 2)))  # the first time, types are prepared
    assert peak(image((2048, 2048))) < 4 * peak(image((2, 2)))
