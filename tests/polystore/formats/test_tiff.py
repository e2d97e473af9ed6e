from __future__ import annotations

import io
import json
import random
import struct
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile

from polystore import ChecksumError, Components, FormatError, Payload, UnreadableError
from polystore.backends import DiskStore
from polystore.files import Checksum
from polystore.formats import (
    Format,
    Formats,
    OmeTiffFormat,
    TiffFormat,
    read_plane,
    standard_formats,
    write_plane,
)
from polystore.testing import FormatTests, assert_equal, samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from polystore.formats import TiffCompression

PLANE = np.random.default_rng(0).integers(0, 4000, (40, 30), np.uint16)


class TestTiff(FormatTests):
    def make(self) -> Format:
        return TiffFormat()

    def holds(self, payload: Payload) -> bool:
        return payload.kind in self.make().kinds and payload.array.size > 0


class TestCompressedTiff(TestTiff):
    damaged_files = 100

    def make(self) -> Format:
        return TiffFormat(compression="zlib")


class TestOmeTiff(TestTiff):
    def make(self) -> Format:
        return OmeTiffFormat()

    def holds(self, payload: Payload) -> bool:
        return super().holds(payload) and payload.array.dtype.name not in {
            "int64",
            "uint64",
            "float16",
        }


def written(made: Format, payload: Payload) -> io.BytesIO:
    stream = io.BytesIO()
    made.write(payload, stream)
    stream.seek(0)
    return stream


def others(array: np.ndarray[Any, Any], **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    stream.seek(0)
    return stream


def read(stream: io.BytesIO) -> Payload:
    return TiffFormat().read(stream, "plane.tif")


@pytest.mark.parametrize("made", [TiffFormat(), OmeTiffFormat()])
def test_tifffile_opens_them(made: Format) -> None:
    for sample in samples():
        if made.refusal(sample.payload) is not None:
            continue
        array = sample.payload.array
        opened = tifffile.imread(written(made, sample.payload))
        same_shape = array.shape if made.name == "TIFF" else opened.shape
        assert opened.shape == same_shape, sample.what
        native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        assert opened.dtype == native.dtype, sample.what
        assert opened.tobytes() == native.tobytes(), sample.what


@pytest.mark.parametrize("compression", ["none", "lzw", "zlib"])
def test_the_functions_for_planes_read_them(tmp_path: Path, compression: TiffCompression) -> None:
    stack = np.stack([PLANE, PLANE + 1])
    for made in (TiffFormat(compression=compression), OmeTiffFormat(compression=compression)):
        file = tmp_path / f"a{made.suffixes[0]}"
        file.write_bytes(written(made, Payload(data=stack)).getvalue())
        assert np.array_equal(read_plane(file, 1), stack[1])


def test_the_size_of_a_pixel_is_where_others_look_for_it() -> None:
    payload = Payload(data=PLANE, pixel_um=(0.65, 0.325), name="a <&> b\x00", channel_name="DAPI")
    with tifffile.TiffFile(written(TiffFormat(), payload)) as tif:
        tags = tif.pages[0].tags  # type: ignore[union-attr]  # a full page
        assert tags["ResolutionUnit"].value == 3
        x, y = tags["XResolution"].value, tags["YResolution"].value
        assert (x[0] / x[1], y[0] / y[1]) == pytest.approx((1e4 / 0.325, 1e4 / 0.65))
    with tifffile.TiffFile(written(OmeTiffFormat(), payload)) as tif:
        assert tif.ome_metadata is not None
        root = ET.fromstring(tif.ome_metadata)
    (pixels,) = root.findall(".//{*}Pixels")
    assert (pixels.get("PhysicalSizeY"), pixels.get("PhysicalSizeX")) == ("0.65", "0.325")
    assert pixels.get("PhysicalSizeXUnit") == "µm"
    (channel,) = root.findall(".//{*}Channel")
    assert channel.get("Name") == "DAPI"
    (image,) = root.findall(".//{*}Image")
    assert image.get("Name") == "a <&> b\N{REPLACEMENT CHARACTER}"


def test_sizes_that_no_tag_can_say_are_in_the_note() -> None:
    payload = Payload(data=PLANE, pixel_um=(1e-300, 1e300))
    for made in (TiffFormat(), OmeTiffFormat()):
        assert_equal(made.read(written(made, payload), "file"), payload)


@pytest.mark.parametrize(
    ("array", "options", "axes"),
    [
        (PLANE, {}, ("y", "x")),
        (PLANE.astype(">u2"), {"byteorder": ">"}, ("y", "x")),
        (PLANE, {"compression": "lzw"}, ("y", "x")),
        (PLANE, {"tile": (16, 16)}, ("y", "x")),
        (PLANE, {"description": "a microscope's words", "metadata": None}, ("y", "x")),
        (np.stack([PLANE] * 4), {"photometric": "minisblack", "metadata": None}, ("z", "y", "x")),
        (np.stack([PLANE] * 4), {"photometric": "minisblack"}, ("z", "y", "x")),
        (np.zeros((2, 3, 4, 5, 6), "u2"), {"imagej": True}, ("t", "z", "channel", "y", "x")),
        (
            np.zeros((2, 3, 5, 6), "u2"),
            {"ome": True, "photometric": "minisblack", "metadata": {"axes": "CZYX"}},
            ("channel", "z", "y", "x"),
        ),
        (np.zeros((9, 8, 3), "u1"), {"photometric": "rgb"}, ("channel", "y", "x")),
        (
            np.zeros((3, 9, 8), "u1"),
            {"photometric": "rgb", "planarconfig": "separate"},
            ("channel", "y", "x"),
        ),
    ],
)
def test_what_others_wrote_is_a_plain_image(
    array: np.ndarray[Any, Any], options: dict[str, Any], axes: tuple[str, ...]
) -> None:
    payload = read(others(array, **options))
    assert payload.axes == axes
    assert payload.components == Components()
    squeezed = array.squeeze()
    if squeezed.shape[-1] == 3:
        squeezed = np.moveaxis(squeezed, -1, 0)
    assert np.array_equal(payload.array, squeezed)
    assert payload.array.dtype.isnative


def test_what_ome_xml_of_others_says_is_taken_over() -> None:
    metadata = {
        "axes": "YX",
        "PhysicalSizeX": 325,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.00065,
        "PhysicalSizeYUnit": "mm",
        "Channel": {"Name": ["GFP"]},
    }
    payload = read(others(PLANE, ome=True, photometric="minisblack", metadata=metadata))
    assert payload.pixel_um == pytest.approx((0.65, 0.325))
    assert payload.channel_name == "GFP"
    metadata["PhysicalSizeYUnit"] = "reference frame"
    payload = read(others(PLANE, ome=True, photometric="minisblack", metadata=metadata))
    assert payload.pixel_um is None


def test_a_file_of_several_images_is_an_error_that_says_what_to_do() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as tif:
        tif.write(PLANE, photometric="minisblack")
        tif.write(PLANE[:10, :10], photometric="minisblack")
    stream.seek(0)
    with pytest.raises(UnreadableError, match=r"plane\.tif holds 2 images.*read_plane"):
        read(stream)


def test_axes_that_payloads_have_not_are_an_error() -> None:
    stream = others(
        np.zeros((2, 3, 4, 5), "u2"), photometric="minisblack", metadata={"axes": "AHYX"}
    )
    with pytest.raises(UnreadableError, match=r"axes 'AHYX'.*read_plane"):
        read(stream)


def test_planes_in_other_files_are_an_error_and_not_black(tmp_path: Path) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        'SizeX="30" SizeY="40" SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" '
        'SamplesPerPixel="1"/><TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="a.tif">'
        'urn:uuid:a</UUID></TiffData><TiffData IFD="0" FirstZ="1" PlaneCount="1"><UUID '
        'FileName="b.tif">urn:uuid:b</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "b.tif", PLANE, metadata=None)
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, PLANE, metadata=None, description=xml)
    with file.open("rb") as stream, pytest.raises(UnreadableError, match="are in another file"):
        TiffFormat().read(stream, str(file))


def lying(**tags: int) -> io.BytesIO:
    """A file of one plane, of which numbers in the directory are others."""
    content = bytearray(others(PLANE, metadata=None).getvalue())
    codes = {"width": 256, "height": 257, "offset": 273, "rows": 278, "count": 279}
    at = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, at)[0]):
        place = at + 2 + 12 * entry
        code, kind = struct.unpack_from("<HH", content, place)
        for name, value in tags.items():
            if code == codes[name]:
                struct.pack_into("<H" if kind == 3 else "<I", content, place + 8, value)
    return io.BytesIO(content)


@pytest.mark.parametrize(
    "tags",
    [
        {"height": 60_000, "width": 60_000},
        {"height": 41},
        {"count": 2**31},
        {"offset": 2**31},
        {"offset": 100_000},
        {"count": 0},
        {"width": 0},
    ],
)
def test_a_directory_that_lies_is_an_error(tags: dict[str, int]) -> None:
    with pytest.raises(UnreadableError, match=r"plane\.tif"):
        read(lying(**tags))


def test_a_note_that_contradicts_the_pixels_is_an_error() -> None:
    content = written(TiffFormat(), Payload(data=PLANE)).getvalue()
    for old, new in (
        (b'"dtype": "<u2"', b'"dtype": "<f4"'),
        (b'"dtype": "<u2"', b'"dtype": "|O2"'),
        (b'"shape": [40, 30]}', b'"shape": [40, 99]}'),
        (b'"polystore": 1', b'"polystore": 7'),
        (b'"kind": "image"', b'"kind": "table"'),
    ):
        assert old in content
        with pytest.raises(UnreadableError, match=r"plane\.tif"):
            read(io.BytesIO(content.replace(old, new)))
    damaged = content.replace(b'{"polystore": 1', b'{"polystore": [')
    with pytest.raises(UnreadableError, match="cannot be read as TIFF: invalid image description"):
        read(io.BytesIO(damaged))


def test_the_note_is_in_the_json_of_the_description() -> None:
    payload = Payload(data=PLANE, components=Components(well="B03"))
    with tifffile.TiffFile(written(TiffFormat(), payload)) as tif:
        description = json.loads(tif.pages[0].tags[270].value)  # type: ignore[union-attr]
    assert description["shape"] == [40, 30]
    assert description["polystore"]["components"] == {"well": "B03"}


def test_what_tiff_cannot_hold_is_said_with_what_can() -> None:
    formats: Formats = standard_formats()
    with pytest.raises(FormatError, match=r"has no pixels.*NPY \(\.npy\)"):
        formats.to_bytes("a.tif", Payload(data=np.zeros((0, 4))))
    with pytest.raises(FormatError, match=r"no elements of type float16.*NPY.*TIFF \(\.tif\)"):
        formats.to_bytes("a.ome.tif", Payload(data=np.zeros((2, 4), "f2")))


def test_a_name_says_which_of_the_two_it_is() -> None:
    formats = standard_formats()
    assert formats.of("B03.ome.tif").name == "OME-TIFF"
    assert formats.of("B03.OME.TIFF").name == "OME-TIFF"
    assert formats.of("B03.tiff").name == "TIFF"
    assert formats.of("ome.tif").name == "TIFF"


NOISE = np.random.default_rng(0).poisson(300, (2, 60, 80)).astype(np.uint16) + np.uint16(1)
FLIPS = 600


def strips(content: bytes) -> list[tuple[int, int]]:
    """Where the strips of a file begin, and how many bytes they are."""
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        return [
            place
            for page in tif.pages
            for place in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]


def flipped(content: bytes, read: Callable[[bytes], NDArray[Any]]) -> tuple[list[Any], list[str]]:
    """What is read of files with one bit of their strips flipped, and what is said otherwise."""
    chance = random.Random(0)
    places = strips(content)
    found, said = [], []
    for _ in range(FLIPS):
        start, count = chance.choice(places)
        damaged = bytearray(content)
        damaged[start + chance.randrange(count)] ^= 1 << chance.randrange(8)
        try:
            found.append(read(bytes(damaged)))
        except UnreadableError as error:
            said.append(str(error))
    return found, said


def tiff(compression: TiffCompression) -> tuple[bytes, Callable[[bytes], NDArray[Any]]]:
    made = TiffFormat(compression=compression)
    return written(made, Payload(data=NOISE)).getvalue(), (
        lambda content: made.read(io.BytesIO(content), "a.tif").array
    )


def test_a_bit_that_flips_where_nothing_is_compressed_is_one_pixel() -> None:
    found, said = flipped(*tiff("none"))
    assert not said
    assert {int((each != NOISE).sum()) for each in found} == {1}


def test_every_bit_that_flips_in_what_zlib_compressed_is_noticed() -> None:
    found, said = flipped(*tiff("zlib"))
    assert all((each == NOISE).all() for each in found)  # of bits that mean nothing
    assert len(said) > 0.9 * FLIPS


def test_strips_of_lzw_that_are_longer_or_shorter_than_they_have_to_be_are_errors() -> None:
    found, said = flipped(*tiff("lzw"))
    assert len([text for text in said if "bytes, and are more" in text]) > 0.1 * FLIPS
    assert len([text for text in said if "bytes, and are" in text and "more" not in text]) > 0
    for each in found:
        # what is wrong is wrong as text of LZW is; nothing reads as if it had not been there
        assert each.shape == NOISE.shape
        assert each.any(axis=-1).all()


@pytest.mark.parametrize("compression", ["none", "lzw", "zlib"])
def test_a_block_of_a_strip_that_a_disk_lost_is_an_error_where_it_is_compressed(
    compression: TiffCompression,
) -> None:
    content, read = tiff(compression)
    for start, count in strips(content):
        for at in range(start, start + count - 512, 512):
            damaged = content[:at] + bytes(512) + content[at + 512 :]
            if compression == "none":
                assert (read(damaged) == 0).sum() == 256  # which only a checksum tells
            else:
                with pytest.raises(UnreadableError):
                    read(damaged)


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "plane.tif"])
def test_with_a_checksum_every_bit_that_flips_is_noticed(tmp_path: Path, name: str) -> None:
    store = DiskStore(tmp_path, checksum=Checksum.XXH128)
    if name == "plane.tif":
        write_plane(tmp_path / name, NOISE[0], compression="lzw", checksum=Checksum.XXH128)
    else:
        store.store(name, Payload(data=NOISE))
    content = (tmp_path / name).read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ChecksumError, match=name):
            store.load(name)
        with pytest.raises(ChecksumError, match=name):
            read_plane(tmp_path / name)


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", ">i4", "<f4", ">f8"])
def test_lzw_of_others_is_read_as_tifffile_reads_it(kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(100, 9, (3, 70, 50)).astype(kind)
    several: tuple[dict[str, Any], ...] = (
        {},
        {"rowsperstrip": 16},
        {"rowsperstrip": 1},
        {"predictor": True},
        {"tile": (32, 16)},
    )
    for number, options in enumerate(several):
        file = tmp_path / f"{number}.tif"
        with tifffile.TiffWriter(file, byteorder=">" if kind[0] == ">" else "<") as tif:
            tif.write(pixels, compression="lzw", photometric="minisblack", **options)
        np.testing.assert_array_equal(read_plane(file, 1), pixels[1])
        found = TiffFormat().read(io.BytesIO(file.read_bytes()), "a.tif").array
        np.testing.assert_array_equal(found, pixels)
        assert found.dtype == np.dtype(kind).newbyteorder("=")
