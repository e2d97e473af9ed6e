from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import (
    CodecError,
    MissingExtraError,
    Payload,
    StreamError,
    UnknownCodecError,
    WireSizeError,
    coding_of,
    decode,
    encode,
)
from polystore.codecs import (
    Blosc2Codec,
    Blosc2Compressor,
    Codec,
    Codecs,
    Deviation,
    Encoded,
    JpegCodec,
    JpegXlCodec,
    QuantizedCodec,
    RawCodec,
    Subsampling,
    WebpCodec,
    ZstdCodec,
    standard_codecs,
)
from polystore.testing import CodecTests
from polystore.testing.strategies import arrays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class TestRawCodec(CodecTests):
    def make(self) -> Codec:
        return RawCodec()


class TestBlosc2Lz4Codec(CodecTests):
    def make(self) -> Codec:
        return Blosc2Codec(Blosc2Compressor.LZ4)


class TestBlosc2ZstdCodec(CodecTests):
    def make(self) -> Codec:
        return Blosc2Codec(Blosc2Compressor.ZSTD, threads=2)


class TestJpegXlCodec(CodecTests):
    def make(self) -> Codec:
        return JpegXlCodec()


class TestZstdCodec(CodecTests):
    def make(self) -> Codec:
        return ZstdCodec(3)


class TestJpegCodec(CodecTests):
    def make(self) -> Codec:
        return JpegCodec(measured=True)

    def arrays(self, codec: Codec) -> Iterator[NDArray[Any]]:
        for array in super().arrays(codec):
            if array.shape[2:] == (4,):  # JPEG has no transparency
                array[..., 3] = 255
            yield array


class TestQuantizedCodec(CodecTests):
    def make(self) -> Codec:
        return QuantizedCodec()


class TestQuantizedCodecOfFewLevels(CodecTests):
    def make(self) -> Codec:
        return QuantizedCodec(8.0, read_noise=0.0)


class TestWebpCodec(CodecTests):
    def make(self) -> Codec:
        return WebpCodec(measured=True)


class Reverse:
    """What a third party would write, kept small: bytes back to front."""

    id = "acme-reverse"
    package = "acme-codecs"
    lossy = False

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        return RawCodec().takes(dtype, shape)

    def encode(self, array: NDArray[Any]) -> Encoded:
        if not self.takes(array.dtype, array.shape):
            raise CodecError(f"no {array.dtype}")
        return Encoded(
            codec=self.id,
            package=self.package,
            dtype=array.dtype,
            shape=array.shape,
            stream=memoryview(array.tobytes()[::-1]),
        )

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        if encoded.stream.nbytes != encoded.nbytes:
            raise StreamError("it has another length")
        turned = bytes(encoded.stream)[::-1]
        return np.frombuffer(turned, encoded.dtype).reshape(encoded.shape)


class TestCodecOfAThirdParty(CodecTests):
    def make(self) -> Codec:
        return Reverse()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_every_array_that_a_lossless_codec_takes_comes_back_the_same(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 12), min_size=0, max_size=4)))
    array = data.draw(arrays(shape))
    for codec in standard_codecs():
        if not codec.lossy and codec.takes(array.dtype, array.shape):
            back = codec.decode(codec.encode(array))
            assert (back.dtype, back.shape) == (array.dtype, array.shape), codec.id
            assert back.tobytes() == array.tobytes(), codec.id


@pytest.mark.parametrize("shape", [(255, 257), (256, 256), (1025, 1), (1, 1025), (600, 1100)])
def test_planes_of_every_16_bit_number_come_back_bit_for_bit(shape: tuple[int, int]) -> None:
    plane = np.resize(np.arange(65536, dtype=np.uint16), shape)
    for codec in standard_codecs():
        if not codec.lossy and codec.takes(plane.dtype, plane.shape):
            np.testing.assert_array_equal(codec.decode(codec.encode(plane)), plane)


@pytest.mark.parametrize("step", [0.25, 1.0, 20.0])
@pytest.mark.parametrize("gain", [0.5, 4.0])
def test_quantized_plane_is_off_by_half_a_step_of_its_noise_and_says_by_how_much(
    step: float, gain: float
) -> None:
    plane = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    codec = QuantizedCodec(step, gain=gain, offset=100, read_noise=3)
    encoded = codec.encode(plane)
    back = QuantizedCodec().decode(encoded)  # whose own steps are others
    off = np.abs(back.astype(np.int64) - plane)
    noise = np.sqrt(9 + gain * np.maximum(plane.astype(float) - 100, 0))
    # a step is as high as where it begins; within it the noise is hardly another
    assert bool((off <= np.maximum(0.5, step * noise / 2 * 1.001)).all())
    assert encoded.deviation == Deviation.between(plane, back)
    assert encoded.lossy


def test_quantized_plane_is_smaller_than_without_loss_and_only_for_previews() -> None:
    rng = np.random.default_rng(0)
    plane = (100 + rng.poisson(300, (512, 512))).astype(np.uint16)
    codec = QuantizedCodec()
    assert codec.encode(plane).stream.nbytes < 0.8 * JpegXlCodec().encode(plane).stream.nbytes
    with pytest.raises(CodecError, match="preview=True"):
        encode(Payload(data=plane), codec=codec)
    header, buffers = encode(Payload(data=plane), codec=codec, preview=True)
    back = decode(header, buffers, codecs=standard_codecs())
    assert back.lossy
    coding = coding_of(header)
    assert coding is not None
    assert coding.deviation == Deviation.between(plane, back.array)


@pytest.mark.parametrize("told", [{"step": 0.0}, {"gain": -1.0}, {"offset": float("nan")}])
def test_steps_that_are_none_are_refused(told: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="have to be above 0"):
        QuantizedCodec(**told)


def picture(channels: int = 3) -> NDArray[np.uint8]:
    """Blobs of several colours, with edges."""
    y, x = np.mgrid[:96, :128]
    waves = [127 + 120 * np.sin(y / (5 + 3 * c)) * np.cos(x / (9 - 2 * c)) for c in range(3)]
    made = np.dstack(waves).astype(np.uint8)
    made[40:60, 30:90] = (255, 0, 255)
    alpha = np.full((96, 128), 255, np.uint8)
    return np.dstack([made, alpha]) if channels == 4 else made


@pytest.mark.req("001.7")
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("codec", "least_db"),
    [
        (JpegCodec(75, measured=True), 30),
        (JpegCodec(85, measured=True), 32),
        (JpegCodec(95, measured=True), 37),
        (JpegCodec(85, subsampling=Subsampling.BOTH, measured=True), 20),
        (WebpCodec(75, measured=True), 20),
        (WebpCodec(95, method=4, measured=True), 20),
    ],
    ids=["jpeg-75", "jpeg-85", "jpeg-95", "jpeg-85-420", "webp-75", "webp-95"],
)
def test_tiles_for_the_eye_come_back_near_enough_and_the_deviation_is_true(
    codec: Codec, least_db: float, channels: int
) -> None:
    tile = picture(channels)
    encoded = codec.encode(tile)
    back = codec.decode(encoded)
    assert encoded.stream.nbytes < tile.nbytes / 4
    assert encoded.lossy
    assert encoded.deviation is not None
    difference = tile.astype(float) - back
    assert encoded.deviation.largest == np.abs(difference).max()
    psnr_db = 10 * np.log10(255**2 / np.square(difference).mean())
    assert encoded.deviation.psnr_db == pytest.approx(psnr_db)
    assert psnr_db > least_db
    if channels == 4:
        assert (back[..., 3] == 255).all()


@pytest.mark.req("001.7")
def test_more_quality_is_nearer_and_larger() -> None:
    tile = picture()
    for make in (JpegCodec, WebpCodec):
        found = [make(quality, measured=True).encode(tile) for quality in (30, 60, 90)]
        sizes = [each.stream.nbytes for each in found]
        psnr = [each.deviation.psnr_db for each in found if each.deviation is not None]
        assert sizes == sorted(sizes)
        assert psnr == sorted(psnr)
        assert [each.parameters["quality"] for each in found] == [30, 60, 90]


def test_the_deviation_is_measured_only_where_that_was_asked_for() -> None:
    assert JpegCodec().encode(picture()).deviation is None
    assert WebpCodec().encode(picture()).deviation is None


def test_transparency_is_kept_by_webp_and_refused_by_jpeg() -> None:
    tile = picture(4)
    tile[:10, :, 3] = 100
    with pytest.raises(CodecError, match="webp"):
        JpegCodec().encode(tile)
    codec = WebpCodec()
    np.testing.assert_array_equal(codec.decode(codec.encode(tile))[..., 3], tile[..., 3])


def test_grey_tiles_are_taken_by_jpeg() -> None:
    grey = picture()[..., 0]
    codec = JpegCodec(90, measured=True)
    encoded = codec.encode(grey)
    assert codec.decode(encoded).shape == grey.shape
    assert encoded.deviation is not None
    assert encoded.deviation.psnr_db > 30


def test_a_deviation_of_nothing_is_none_and_of_different_things_is_an_error() -> None:
    plane = np.arange(6, dtype=np.uint16).reshape(2, 3)
    same = Deviation.between(plane, plane)
    assert (same.largest, same.psnr_db) == (0, float("inf"))
    assert Deviation.between(plane, plane + np.uint16(3)).largest == 3
    assert Deviation.between(plane[:0], plane[:0]).largest == 0
    for other in (plane.astype(np.int16), plane[:1]):
        with pytest.raises(CodecError, match="compared"):
            Deviation.between(plane, other)
    with pytest.raises(CodecError, match="float"):
        Deviation.between(plane.astype(float), plane.astype(float))


def test_a_registry_is_extended_and_each_is_its_own() -> None:
    codecs = standard_codecs()
    codecs.add(Reverse())
    plane = np.arange(12, dtype=np.uint16).reshape(3, 4)
    np.testing.assert_array_equal(codecs.decode(Reverse().encode(plane)), plane)
    assert "acme-reverse" in codecs
    assert "acme-reverse" not in standard_codecs()
    assert len(codecs) == len(standard_codecs()) + 1


def test_an_id_is_given_once() -> None:
    codecs = standard_codecs()
    with pytest.raises(CodecError, match="'jpegxl' already"):
        codecs.add(JpegXlCodec())


@pytest.mark.parametrize("name", ["", "Zstd", "a b", "-a", "x" * 65, "ä", "a\n"])
def test_an_id_that_cannot_be_sent_is_refused(name: str) -> None:
    codec = Reverse()
    codec.id = name
    with pytest.raises(CodecError, match="id of a codec"):
        Codecs([codec])


def test_an_unknown_id_is_an_error_that_says_what_to_install() -> None:
    encoded = Reverse().encode(np.zeros((2, 2)))
    with pytest.raises(UnknownCodecError, match=r"'acme-reverse'.*jpegxl.*install acme-codecs"):
        standard_codecs().decode(encoded)
    with pytest.raises(UnknownCodecError, match="ask the sender"):
        Codecs().get("nothing")


def test_what_would_be_larger_than_allowed_is_refused_unread() -> None:
    encoded = ZstdCodec().encode(np.zeros((1000, 1000), np.uint16))
    assert encoded.stream.nbytes < 1000
    with pytest.raises(WireSizeError, match="2000000 bytes, 1999999 are allowed"):
        standard_codecs(most_bytes=1_999_999).decode(encoded)


def test_one_wrong_bit_is_found() -> None:
    plane = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.uint16)
    codecs = standard_codecs()
    for codec in codecs:
        if codec.takes(plane.dtype, plane.shape) and codec.id != "raw":
            encoded = codec.encode(plane)
            stream = bytearray(encoded.stream)
            stream[len(stream) // 2] ^= 4
            damaged = dataclasses.replace(encoded, stream=memoryview(bytes(stream)))
            with pytest.raises(StreamError, match="checksum"):
                codecs.decode(damaged)


def test_settings_that_no_codec_has_are_refused() -> None:
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (JpegCodec, {"quality": 0}),
        (JpegCodec, {"quality": 101}),
        (JpegCodec, {"subsampling": "410"}),
        (WebpCodec, {"quality": 101}),
        (WebpCodec, {"method": 7}),
        (ZstdCodec, {"level": 0}),
        (JpegXlCodec, {"effort": 10}),
        (Blosc2Codec, {"compressor": "zlib"}),
    ]
    for make, options in wrong:
        with pytest.raises(ValueError, match=r"not|valid"):
            make(**options)


BLOSC2 = Blosc2Codec(Blosc2Compressor.LZ4)
CHUNK = np.random.default_rng(1).poisson(50, (40, 50)).astype(np.uint16)


@pytest.mark.parametrize(
    ("at", "byte", "what"),
    [
        (2, 0x25 | 0x08, "not done here"),  # a difference to another chunk
        (2, 0xC5, "not done here"),  # a compressor that is a plugin
        (2, 0x85, "not done here"),  # another compressor than the id says
        (2, 0x21, "not done here"),  # a header without what follows
        (4, 0xFF, "holds|hold"),
        (11, 0x7F, "blocks"),
        (12, 1, "bytes"),
        (16, 160, "not done here"),  # a filter that is a plugin
        (22, 200, "not done here"),  # a compressor that is a plugin
        (31, 0x08, "not done here"),  # the rest is in a file
        (31, 0x40, "not done here"),  # whatever was in memory
        (31, 0x80, "not done here"),
        (31, 0x01, "not done here"),
    ],
)
def test_a_chunk_that_asks_for_plugins_or_files_is_refused(at: int, byte: int, what: str) -> None:
    encoded = BLOSC2.encode(CHUNK)
    chunk = bytearray(encoded.stream)
    chunk[at] = byte
    with pytest.raises(StreamError, match=what):
        BLOSC2.decode(dataclasses.replace(encoded, stream=memoryview(bytes(chunk))))


def test_a_jpeg_that_is_progressive_or_in_several_scans_is_refused() -> None:
    import imagecodecs

    tile = picture()
    encoded = JpegCodec().encode(tile)
    stream = bytes(encoded.stream)
    at = stream.index(b"\xff\xc0")
    progressive = stream[:at] + b"\xff\xc2" + stream[at + 2 :]
    scan = stream.index(b"\xff\xda")
    several = stream[: scan + 4] + b"\x01" + stream[scan + 5 :]
    bits12 = stream[: at + 4] + b"\x0c" + stream[at + 5 :]
    lossless = imagecodecs.jpeg8_encode(tile, lossless=True)
    for other in (progressive, several, bits12, lossless):
        with pytest.raises(StreamError):
            JpegCodec().decode(dataclasses.replace(encoded, stream=memoryview(other)))


def test_an_animation_or_a_lossless_webp_is_refused() -> None:
    import imagecodecs

    tile = picture(4)
    tile[:10, :, 3] = 100
    encoded = WebpCodec().encode(tile)
    assert bytes(encoded.stream[12:16]) == b"VP8X"
    moving = bytearray(encoded.stream)
    moving[20] |= 2
    lossless = imagecodecs.webp_encode(tile, lossless=True)
    for other in (bytes(moving), lossless):
        with pytest.raises(StreamError, match="still"):
            WebpCodec().decode(dataclasses.replace(encoded, stream=memoryview(other)))


def test_a_jpeg_xl_that_is_not_one_still_plane_is_refused() -> None:
    import imagecodecs

    rng = np.random.default_rng(0)
    plane = rng.integers(0, 255, (40, 50), dtype=np.uint8)
    codec = JpegXlCodec()
    encoded = codec.encode(plane)
    moving = imagecodecs.jpegxl_encode(np.stack([plane, plane]), lossless=True, photometric="gray")
    lossy = imagecodecs.jpegxl_encode(plane, distance=2.0)
    floats = imagecodecs.jpegxl_encode(plane.astype(np.float32) / 255, lossless=True)
    deep = imagecodecs.jpegxl_encode(plane.astype(np.uint16), lossless=True)
    color = imagecodecs.jpegxl_encode(np.dstack([plane] * 3), lossless=True)
    for other in (moving, lossy, floats, deep, color):
        with pytest.raises(StreamError):
            codec.decode(dataclasses.replace(encoded, stream=memoryview(other)))


def test_jpeg_xl_of_all_ratios_and_sizes_is_read() -> None:
    codec = JpegXlCodec()
    for shape in ((64, 64), (100, 120), (96, 128), (100, 150), (90, 160), (80, 100), (50, 100),
                  (8, 16), (256, 248), (264, 8), (9, 513), (700, 3), (1, 9000)):  # fmt: skip
        plane = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        np.testing.assert_array_equal(codec.decode(codec.encode(plane)), plane)


def test_without_the_library_the_error_names_the_extra() -> None:
    program = """
        import sys
        sys.modules["imagecodecs"] = None
        import numpy as np
        from polystore import MissingExtraError
        from polystore.codecs import RawCodec, standard_codecs
        plane = np.zeros((4, 4, 3), np.uint8)
        deep = np.zeros((4, 4), np.uint16)
        raw = RawCodec()
        assert (raw.decode(raw.encode(plane)) == plane).all()
        for codec in standard_codecs():
            if codec.id != "raw":
                try:
                    codec.encode(plane if codec.takes(plane.dtype, plane.shape) else deep)
                except MissingExtraError as error:
                    assert "polystore[codecs]" in str(error), error
                else:
                    raise SystemExit(f"{codec.id} needs nothing")
    """
    assert issubclass(MissingExtraError, ImportError)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


def test_neither_import_nor_a_registry_loads_the_library() -> None:
    program = """
        import sys
        import polystore
        assert "polystore.codecs" not in sys.modules
        from polystore.codecs import standard_codecs
        standard_codecs()
        assert "imagecodecs" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS bounds memory on Linux only")
def test_ten_thousand_damaged_streams_neither_crash_nor_take_more_memory_than_announced() -> None:
    program = """
        import dataclasses, random, resource
        import numpy as np
        from polystore import WireError
        from polystore.codecs import DeltaCodec, EarlierPlanes, standard_codecs
        from polystore.testing._codecs import _damage

        rng = np.random.default_rng(0)
        noise = rng.poisson(100, (48, 40)).astype(np.uint16)
        arrays = [
            noise,
            np.zeros((32, 32), np.uint16),
            np.indices((30, 70)).sum(0).astype(np.uint16),
            rng.integers(0, 255, (24, 30, 3), dtype=np.uint8),
            rng.integers(0, 255, (24, 30, 4), dtype=np.uint8),
            rng.random((5, 6, 7)),
        ]
        clear = arrays[4].copy()
        arrays[4][..., 3] = 255
        planes = EarlierPlanes()
        delta = DeltaCodec(planes, planes.add(noise))
        changed = noise.copy()
        changed[3:9] += 5
        samples = [(delta, delta.encode(changed))]
        for codec in standard_codecs():
            for array in [*arrays, clear]:
                if codec.id == "jpeg" and array is clear:
                    continue
                if codec.takes(array.dtype, array.shape):
                    samples.append((codec, codec.encode(array)))
        for codec, encoded in samples:
            codec.decode(encoded)
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
        chance = random.Random(0)
        refused = 0
        for number in range(10_000):
            codec, encoded = samples[number % len(samples)]
            damaged = dataclasses.replace(encoded, stream=_damage(encoded.stream, chance))
            try:
                back = codec.decode(damaged)
            except WireError:
                refused += 1
            else:
                assert (back.dtype, back.shape) == (encoded.dtype, encoded.shape)
        print(refused)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        timeout=110,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) > 5000


def test_the_checksum_is_that_of_the_stream() -> None:
    encoded = ZstdCodec().encode(np.zeros((8, 8)))
    assert encoded.crc32 == zlib.crc32(encoded.stream)
    assert RawCodec().encode(np.zeros((8, 8))).crc32 is None
