from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest

from polystore import Kind, Payload, UnreadableError
from polystore.formats import Format, PngFormat
from polystore.testing import FormatTests, assert_equal

PNG = PngFormat()
PLANE = np.random.default_rng(0).integers(0, 65536, (13, 9), np.uint16)


class TestPng(FormatTests):
    def make(self) -> Format:
        return PngFormat()

    def holds(self, payload: Payload) -> bool:
        if payload.kind not in {Kind.IMAGE, Kind.LABELS}:
            return False
        array = payload.array
        if array.dtype.name not in {"bool", "uint8", "uint16"} or not array.size:
            return False
        return array.size == array.shape[-1] * array.shape[-2] or (
            payload.axes[0] == "channel" and array.shape[:-2] == (3,)
        )


def written(payload: Payload) -> bytes:
    stream = io.BytesIO()
    PNG.write(payload, stream)
    return stream.getvalue()


def read(content: bytes) -> Payload:
    return PNG.read(io.BytesIO(content), "plane.png")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def made(width: int, height: int, *, depth: int = 8, color: int = 0, coded: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", coded) + chunk(b"IEND", b"")
    )


def test_libpng_opens_them() -> None:
    assert np.array_equal(imagecodecs.png_decode(written(Payload(data=PLANE))), PLANE)
    mask = PLANE > 30_000
    opened = imagecodecs.png_decode(written(Payload(data=mask, kind=Kind.LABELS)))
    assert np.array_equal(opened, mask.astype(np.uint8))
    rgb = np.random.default_rng(0).integers(0, 256, (3, 8, 7), np.uint8)
    opened = imagecodecs.png_decode(written(Payload(data=rgb, axes=("channel", "y", "x"))))
    assert np.array_equal(opened, np.moveaxis(rgb, 0, -1))


def test_the_size_of_a_pixel_and_the_note_are_chunks_of_the_standard() -> None:
    content = written(Payload(data=PLANE, pixel_um=(0.5, 0.25), name="µ"))
    at = content.index(b"pHYs")
    assert struct.unpack_from(">IIB", content, at + 4) == (4_000_000, 2_000_000, 1)
    at = content.index(b"tEXtpolystore\x00")
    assert content[at + 14 :].startswith(b'{"polystore": 1, "kind": "image", "name": "\\u00b5"')


@pytest.mark.parametrize("samples", [0, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_others_wrote_is_a_plain_image(samples: int, dtype: type[np.unsignedinteger]) -> None:
    shape = (5, 6, samples) if samples else (5, 6)
    array = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    payload = read(bytes(imagecodecs.png_encode(array)))
    axes = ("channel", "y", "x") if samples else ("y", "x")
    expected = np.ascontiguousarray(np.moveaxis(array, -1, 0)) if samples else array
    assert_equal(payload, Payload(data=expected, axes=axes))


@pytest.mark.parametrize(
    "content",
    [
        made(60_000, 60_000, coded=zlib.compress(bytes(1000))),
        made(999_999, 999_999, depth=1, coded=zlib.compress(bytes(1_000_000))),
        made(0, 5),
        made(5, 5, depth=3, coded=zlib.compress(bytes(30))),
        made(5, 5, color=7, coded=zlib.compress(bytes(30))),
        made(5, 5, coded=zlib.compress(bytes(10))),
        made(5, 5, coded=b"no deflate"),
        made(5, 5),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b""),
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"short") + chunk(b"IEND", b""),
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31) + b"IHDR",
    ],
)
def test_a_file_that_lies_or_is_damaged_is_an_error(content: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"plane\.png"):
        read(content)


def test_a_bit_that_differs_is_an_error() -> None:
    content = bytearray(written(Payload(data=PLANE)))
    content[len(content) // 2] ^= 1
    with pytest.raises(UnreadableError, match="checksum of its chunk b'IDAT' differs"):
        read(bytes(content))


def test_an_animation_is_not_read_as_its_first_frame() -> None:
    content = written(Payload(data=PLANE))
    end = 8 + 25
    animated = content[:end] + chunk(b"acTL", struct.pack(">II", 2, 0)) + content[end:]
    with pytest.raises(UnreadableError, match="animated"):
        read(animated)


def test_a_note_that_contradicts_the_pixels_is_an_error() -> None:
    content = written(Payload(data=np.full((4, 5), 7, np.uint8)))
    at = content.index(b"tEXt")
    length = struct.unpack_from(">I", content, at - 4)[0]
    text = content[at + 4 : at + 4 + length]
    for old, new in (
        (b'"|u1"', b'"<u2"'),
        (b'"|u1"', b'"|b1"'),
        (b'"|u1"', b'"|O1"'),
        (b"[4, 5]", b"[4, 6]"),
        (b', "shape": [4, 5]', b""),
        (b'"image"', b'"cube"'),
    ):
        assert old in text
        other = chunk(b"tEXt", text.replace(old, new))
        with pytest.raises(UnreadableError, match=r"plane\.png"):
            read(content[: at - 4] + other + content[at + 8 + length :])


def test_every_bit_that_flips_is_noticed() -> None:
    content = written(Payload(data=PLANE))
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(UnreadableError):
            read(bytes(damaged))
