from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openhcs.plates._tiff import TiffHeaderError, read_tiff_header

if TYPE_CHECKING:
    from pathlib import Path

SMALL = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize(
    "layout", [{}, {"rowsperstrip": 3}, {"tile": (16, 16)}, {"compression": 8}]
)
def test_a_header_is_what_a_full_reader_finds(
    tmp_path: Path, byteorder: Any, bigtiff: bool, dtype: str, layout: dict[str, Any]
) -> None:
    file = tmp_path / "a.tif"
    pixels = np.zeros((20, 30), dtype)
    tifffile.imwrite(
        file,
        pixels,
        byteorder=byteorder,
        bigtiff=bigtiff,
        description="d" * 5000,
        software="MetaSeries",
        metadata=None,
        **layout,
    )
    size = file.stat().st_size
    header = read_tiff_header(file, size=size)
    assert (header.height, header.width, header.dtype) == (20, 30, dtype)
    assert (header.software, header.description) == ("MetaSeries", b"d" * 5000)
    with tifffile.TiffFile(file) as opened:
        page = opened.pages.first
        ends = np.add(page.dataoffsets, page.databytecounts)
        assert (header.compression, header.end) == (page.compression, ends.max())


@SMALL
@given(cut=st.integers(0, 7000))
def test_a_file_cut_short_is_named(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((40, 50), np.uint16), description="x" * 3000, metadata=None)
    whole = file.read_bytes()
    file.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(TiffHeaderError, match=r"file|directory"):
        read_tiff_header(file, size=file.stat().st_size)


@SMALL
@given(start=st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b""]), rest=st.binary(max_size=200))
def test_any_bytes_are_refused_without_harm(tmp_path: Path, start: bytes, rest: bytes) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(start + rest)
    with contextlib.suppress(TiffHeaderError):
        read_tiff_header(file, size=len(start + rest))


def test_colours_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((4, 4, 3), np.uint8), photometric="rgb")
    with pytest.raises(TiffHeaderError, match="several samples"):
        read_tiff_header(file, size=file.stat().st_size)


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 277, 339])
def test_a_tag_that_claims_millions_of_values_does_no_harm(tmp_path: Path, tag: int) -> None:
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, np.zeros((8, 9), np.uint16), metadata=None)
    raw = bytearray(file.read_bytes())
    start, entries = int.from_bytes(raw[4:8], "little"), raw[8] + 256 * raw[9]
    assert start == 8
    for place in range(10, 10 + 12 * entries, 12):
        if int.from_bytes(raw[place : place + 2], "little") == tag:
            raw[place + 4 : place + 8] = (1 << 24).to_bytes(4, "little")
    file.write_bytes(raw)
    with contextlib.suppress(TiffHeaderError):
        read_tiff_header(file, size=file.stat().st_size)
