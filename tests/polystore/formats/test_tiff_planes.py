from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import tifffile

from polystore import ChecksumError, FormatError, NotStoredError, NotWrittenError, UnreadableError
from polystore.files import Checksum
from polystore.formats import map_plane, read_header, read_plane, write_plane

if TYPE_CHECKING:
    from pathlib import Path

PLANE = np.random.default_rng(0).poisson(300, (90, 130)).astype(np.uint16)


@pytest.mark.parametrize("compression", ["lzw", "none"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4", "f8"])
def test_a_plane_comes_back_bit_for_bit(
    tmp_path: Path, dtype: str, compression: Literal["lzw", "none"]
) -> None:
    file = tmp_path / "a.tif"
    plane = PLANE.astype(dtype)
    write_plane(file, plane, compression=compression, description="hello")
    header = read_header(file)
    assert (header.shape, header.dtype, header.pages) == ((90, 130), plane.dtype, 1)
    assert (header.compression, header.description) == (compression, "hello")
    for reader in (read_plane, tifffile.imread):
        back = reader(file)
        assert back.dtype == plane.dtype
        np.testing.assert_array_equal(back, plane)


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "lzw", "predictor": True},
        {"compression": "zlib"},
        {"compression": "packbits"},
        {"tile": (32, 32)},
        {"rowsperstrip": 7},
        {"bigtiff": True},
    ],
)
def test_planes_of_others_are_read_in_our_byte_order(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, PLANE, **options)
    back = read_plane(file)
    assert back.dtype == np.uint16
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, PLANE)


@pytest.mark.req("002.11")
@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 7}]
)
def test_pixels_that_lie_in_a_file_as_in_memory_are_mapped_and_not_read(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    file = tmp_path / "a.tif"
    tall = np.random.default_rng(0).integers(0, 2**16, (3, 4000, 5000), np.uint16)  # 120 MB
    tifffile.imwrite(file, tall, metadata=None, photometric="minisblack", **options)
    for page in (0, 2):
        tracemalloc.start()
        mapped = map_plane(file, page)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held < 4_000_000  # of 40 MB
        assert not mapped.flags.writeable
        np.testing.assert_array_equal(mapped, tall[page])
    write_plane(file, PLANE)  # another takes its place
    np.testing.assert_array_equal(mapped, tall[2])


@pytest.mark.parametrize(
    "options", [{"compression": "lzw"}, {"tile": (32, 32)}, {"dtype": np.uint8, "bitspersample": 1}]
)
def test_pixels_that_have_to_be_decoded_are_not_mapped(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    file = tmp_path / "a.tif"
    plane = PLANE.astype(options.pop("dtype", np.uint16)) > 300 if "dtype" in options else PLANE
    tifffile.imwrite(file, plane, **options)
    with pytest.raises(FormatError, match=r"a\.tif: .*read_plane"):
        map_plane(file)
    assert read_plane(file).shape == plane.shape


def test_a_file_is_compared_with_its_checksum_before_it_is_mapped(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    write_plane(file, PLANE, checksum=Checksum.SHA256)
    np.testing.assert_array_equal(map_plane(file), PLANE)
    whole = bytearray(file.read_bytes())
    whole[-1000] ^= 1
    file.write_bytes(whole)
    with pytest.raises(ChecksumError, match=r"a\.tif"):
        map_plane(file)
    assert map_plane(file, verify=False).shape == PLANE.shape
    with pytest.raises(UnreadableError, match="numbered 1"):
        map_plane(file, 1, verify=False)
    file.unlink()
    with pytest.raises(NotStoredError):
        map_plane(file)


def test_a_palette_is_not_applied(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    plane = PLANE.astype(np.uint8)
    tifffile.imwrite(file, plane, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    assert read_header(file).photometric == "palette"
    np.testing.assert_array_equal(read_plane(file), plane)


def test_a_page_is_read_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.stack([PLANE, PLANE + 1]), photometric="minisblack")
    assert read_header(file).pages == 2
    np.testing.assert_array_equal(read_plane(file, 1), PLANE + 1)
    for page in (2, -1):
        with pytest.raises(UnreadableError, match=r"a\.tif has 2 pages"):
            read_plane(file, page)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"this is text", r"a\.tif"),
        (b"II*\0", r"a\.tif"),
        (b"II*\0\xff\xff\0\0", r"a\.tif"),
    ],
)
def test_what_is_no_tiff_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(content)
    for read in (read_plane, read_header):
        with pytest.raises(UnreadableError, match=what):
            read(file)


@pytest.mark.parametrize("compression", ["lzw", None])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.95])
def test_a_file_that_is_cut_off_is_an_error_and_not_half_an_image(
    tmp_path: Path, compression: str | None, kept: float
) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, PLANE, compression=compression, rowsperstrip=9)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UnreadableError, match=r"a\.tif"):
        read_plane(file)


def test_damaged_bytes_are_an_error_or_an_image_of_the_right_shape(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    write_plane(file, PLANE, compression="lzw")
    content = file.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 8):
            damaged[at] = rng.integers(256)
        # the header is where damage does most
        damaged[rng.integers(8, 200)] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            read_plane(file)
        except UnreadableError as error:
            assert "a.tif" in str(error)  # noqa: PT017  # either outcome is right


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotStoredError, match=r"nothing\.tif"):
        read_plane(tmp_path / "nothing.tif")
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "nothing.tif")


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="y and x"):
        write_plane(tmp_path / "a.tif", np.zeros((2, 2, 2)))
    with pytest.raises(NotWrittenError, match=r"nowhere"):
        write_plane(tmp_path / "nowhere" / "a.tif", PLANE)
    assert not list(tmp_path.iterdir())
