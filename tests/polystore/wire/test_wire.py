from __future__ import annotations

import contextlib
import json
import tracemalloc
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import (
    HEADER_MOST_BYTES,
    CodecError,
    Components,
    Kind,
    Payload,
    PayloadError,
    StreamError,
    UnknownCodecError,
    WireError,
    WireHeaderError,
    WireSizeError,
    WireVersionError,
    coding_of,
    decode,
    encode,
)
from polystore.codecs import (
    Codec,
    Codecs,
    Encoded,
    JpegCodec,
    JpegXlCodec,
    RawCodec,
    ZstdCodec,
    standard_codecs,
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


@settings(max_examples=120, deadline=None)
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
        ({"v": 4}, WireVersionError, "version 4"),
        ({"v": 0}, WireVersionError, "version 0"),
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


@settings(max_examples=120, deadline=None)
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


NOISE = np.random.default_rng(0).poisson(100, (40, 50)).astype(np.uint16)


def coded(codec: Codec | None = None, **changes: Any) -> tuple[bytes, list[memoryview]]:
    """Encode a noisy plane, and change what the header says about how that was done."""
    header, buffers = encode(Payload(data=NOISE), codec=codec or ZstdCodec())
    fields = msgspec.msgpack.decode(header)
    array = fields["arrays"][0]
    fields.update({key: value for key, value in changes.items() if key in ("v", "kind", "lossy")})
    array.update({key: value for key, value in changes.items() if key in ("dtype", "shape")})
    array["codec"].update(
        {key: value for key, value in changes.items() if key not in fields | array}
    )
    return msgspec.msgpack.encode(fields), buffers


@settings(max_examples=60, deadline=None)
@given(payload=payloads(), data=st.data())
def test_every_payload_comes_back_bit_for_bit_from_a_lossless_codec(
    payload: Payload, data: st.DataObject
) -> None:
    codecs = standard_codecs()
    fitting = [
        codec
        for codec in codecs
        if not codec.lossy
        and (
            payload.kind not in {Kind.IMAGE, Kind.LABELS}
            or codec.takes(payload.array.dtype, payload.array.shape)
        )
    ]
    if fitting:
        codec = data.draw(st.sampled_from(fitting))
        assert_equal(decode(*encode(payload, codec=codec), codecs=codecs), payload)


def test_the_header_says_how_a_plane_was_encoded() -> None:
    header, buffers = encode(Payload(data=NOISE), codec=ZstdCodec(3))
    fields = json.loads(json.dumps(msgspec.msgpack.decode(header)))
    assert fields["v"] == 2
    assert fields["arrays"] == [
        {
            "name": "data",
            "dtype": "<u2",
            "shape": [40, 50],
            "sizes": [buffers[0].nbytes],
            "codec": {
                "id": "zstd",
                "package": "polystore[codecs]",
                "crc32": zlib.crc32(buffers[0]),
                "parameters": {"level": 3},
            },
        }
    ]
    coding = coding_of(header)
    assert coding is not None
    assert (coding.codec, coding.lossy, dict(coding.parameters)) == ("zstd", False, {"level": 3})
    assert (coding.stream_nbytes, coding.nbytes) == (buffers[0].nbytes, NOISE.nbytes)


class NumberOfVersion1(msgspec.Struct):
    v: int


class ArrayOfVersion1(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    sizes: tuple[int, ...]


class HeaderOfVersion1(msgspec.Struct, forbid_unknown_fields=True):
    v: int
    kind: str
    arrays: tuple[ArrayOfVersion1, ...]
    components: dict[str, str | int] = {}
    name: str = ""
    axes: tuple[str, ...] = ()
    pixel_um: tuple[float, float] | None = None
    origin_um: tuple[float, float] | None = None
    units: str | None = None
    channel_name: str | None = None
    contrast_limits: tuple[float, float] | None = None
    run: str | None = None


def test_a_reader_of_version_1_refuses_an_encoded_plane_by_its_number_and_reads_others() -> None:
    old = msgspec.msgpack.Decoder(HeaderOfVersion1)
    number = msgspec.msgpack.Decoder(NumberOfVersion1)
    for codec in (None, RawCodec()):
        header, _ = encode(image(), codec=codec)
        assert number.decode(header).v == 1
        assert old.decode(header).arrays[0].sizes == (24,)
    for header, _ in (
        encode(Payload(data=NOISE), codec=ZstdCodec()),
        encode(Payload(data=NOISE, lossy=True)),
    ):
        assert number.decode(header).v == 2
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            old.decode(header)


def test_without_codecs_an_encoded_plane_is_refused_and_the_error_says_what_to_do() -> None:
    header, buffers = encode(Payload(data=NOISE), codec=ZstdCodec())
    with pytest.raises(UnknownCodecError, match=r"'zstd'.*standard_codecs.*polystore\[codecs\]"):
        decode(header, buffers)
    with pytest.raises(UnknownCodecError, match="here are: raw"):
        decode(header, buffers, codecs=Codecs([RawCodec()]))


def test_raw_copies_nothing_and_what_gets_no_smaller_stays_raw() -> None:
    payload = image()
    _, buffers = encode(payload, codec=RawCodec())
    assert np.shares_memory(np.frombuffer(buffers[0], np.uint8), payload.array)
    for codec in standard_codecs():
        if not codec.lossy:
            tiny = Payload(data=np.arange(4, dtype=np.uint16).reshape(2, 2))
            header, buffers = encode(tiny, codec=codec)
            assert coding_of(header) is None
            assert buffers[0].nbytes == 8
    header, _ = encode(Payload(data=np.zeros((0, 5))), codec=JpegXlCodec())
    assert coding_of(header) is None


def test_what_a_codec_does_not_take_is_an_error_and_other_kinds_go_as_they_are() -> None:
    with pytest.raises(CodecError, match=r"'jpegxl' takes no array of float64"):
        encode(Payload(data=np.zeros((50, 50))), codec=JpegXlCodec())
    points = Payload(data=np.zeros((500, 2)), kind=Kind.POINTS)
    header, buffers = encode(points, codec=ZstdCodec())
    assert coding_of(header) is None
    assert buffers[0].nbytes == 8000


@pytest.mark.req("001.7")
def test_lossy_is_said_aloud_marked_and_travels_on() -> None:
    y, x = np.mgrid[:64, :64]
    grey = Payload(data=(y * 2 + x).astype(np.uint8), name="view")
    codec = JpegCodec(80, measured=True)
    with pytest.raises(CodecError, match="preview=True"):
        encode(grey, codec=codec)
    header, buffers = encode(grey, codec=codec, preview=True)
    coding = coding_of(header)
    assert coding is not None
    assert coding.lossy
    assert coding.deviation is not None
    assert coding.deviation.psnr_db > 35
    back = decode(header, buffers, codecs=standard_codecs())
    assert back.lossy
    assert np.abs(back.array.astype(int) - grey.array).max() == coding.deviation.largest
    assert decode(*encode(back)).lossy  # raw from here on, and still an approximation
    assert decode(*encode(back, codec=ZstdCodec()), codecs=standard_codecs()).lossy


def test_labels_are_never_lossy() -> None:
    labels = Payload(data=np.zeros((64, 64), np.uint8), kind=Kind.LABELS)
    with pytest.raises(CodecError, match="labels"):
        encode(labels, codec=JpegCodec(), preview=True)
    with pytest.raises(PayloadError, match="lossy"):
        Payload(data=np.zeros((64, 64), np.uint8), kind=Kind.LABELS, lossy=True)


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"v": 1}, WireHeaderError, "version 1"),
        ({"kind": "points"}, WireHeaderError, "points"),
        ({"kind": "table"}, WireHeaderError, "table"),
        ({"dtype": "|O"}, WireHeaderError, "O"),
        ({"dtype": "text"}, WireHeaderError, "text"),
        ({"dtype": "<u4"}, StreamError, "4000 bytes"),
        ({"shape": [40, 51]}, StreamError, "4000 bytes"),
        ({"shape": [40, -50]}, WireHeaderError, "shape"),
        ({"shape": [0, 50]}, StreamError, "shape"),
        ({"shape": [2**31, 2**31]}, WireSizeError, "allowed"),
        ({"shape": [2**32, 2**32]}, WireSizeError, "allowed"),
        ({"shape": [2**20, 2**11]}, WireSizeError, "allowed"),
        ({"shape": [2**20, 2**10]}, StreamError, "4000 bytes"),
        ({"id": "raw"}, WireHeaderError, "raw"),
        ({"id": "A b"}, WireHeaderError, "id of a codec"),
        ({"id": ""}, WireHeaderError, "id"),
        ({"id": "x" * 65}, WireHeaderError, "id"),
        ({"id": "jpegxl"}, StreamError, "JPEG XL"),
        ({"id": "jpeg"}, WireHeaderError, "jpeg is lossy"),
        ({"package": "x" * 65}, WireHeaderError, "package"),
        ({"crc32": 5}, StreamError, "checksum"),
        ({"crc32": -1}, WireHeaderError, "crc32"),
        ({"crc32": 2**32}, WireHeaderError, "crc32"),
        ({"parameters": {"a": [1]}}, WireHeaderError, "parameters"),
        ({"parameters": {str(n): n for n in range(33)}}, WireHeaderError, "parameters"),
        ({"deviation": {"largest": 1.0}}, WireHeaderError, "mean_square"),
        (
            {"deviation": {"largest": float("nan"), "mean_square": 1.0, "peak": 255.0}},
            WireHeaderError,
            "finite",
        ),
        (
            {"deviation": {"largest": -1.0, "mean_square": 1.0, "peak": 255.0}},
            WireHeaderError,
            "finite",
        ),
        ({"pickle": b""}, WireHeaderError, "pickle"),
    ],
)
def test_a_header_that_lies_about_an_encoded_plane_is_refused_before_anything_is_allocated(
    changes: dict[str, Any], error: type[WireError], what: str
) -> None:
    header, buffers = coded(**changes)
    codecs = standard_codecs()
    tracemalloc.start()
    try:
        with pytest.raises(error, match=what):
            decode(header, buffers, codecs=codecs)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_plane_that_is_encoded_in_no_bytes_is_refused() -> None:
    header, _ = coded()
    fields = msgspec.msgpack.decode(header)
    fields["arrays"][0]["sizes"] = [0]
    empty = np.zeros((0,), np.uint8).data
    with pytest.raises(WireHeaderError, match="no bytes"):
        decode(msgspec.msgpack.encode(fields), [empty], codecs=standard_codecs())


def test_a_codec_that_makes_another_array_than_announced_is_found() -> None:
    class Wrong(ZstdCodec):
        def decode(self, encoded: Encoded) -> Any:
            return super().decode(encoded)[1:]

    header, buffers = encode(Payload(data=NOISE), codec=ZstdCodec())
    with pytest.raises(StreamError, match=r"made uint16 \(39, 50\)"):
        decode(header, buffers, codecs=Codecs([Wrong()]))


@settings(max_examples=200, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 4096),
    flip=st.none() | st.integers(0, 1000),
)
def test_a_mangled_header_of_an_encoded_plane_is_a_typed_error_or_another_payload(
    edits: list[tuple[int, int]], cut: int | None, flip: int | None
) -> None:
    header, buffers = coded()
    mangled, stream = bytearray(header), bytearray(buffers[0])
    for at, value in edits:
        mangled[at % len(mangled)] = value
    if flip is not None:
        stream[flip % len(stream)] ^= 1
    with contextlib.suppress(WireError):
        decode(bytes(mangled[:cut]), [bytes(stream)], codecs=standard_codecs())
