"""TIFF headers: the tags of images and where their directories are, read without a TIFF library.

A plate has tens of thousands of files, and a reader needs five tags of some of them. Walking one
directory costs some 10 µs, a fiftieth of what a general library takes to open the file.
"""

from __future__ import annotations

import itertools
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

__all__ = [
    "TiffHeader",
    "TiffHeaderError",
    "check_extent",
    "count_pages",
    "read_page_offsets",
    "read_tiff_header",
    "read_tiff_pages",
]

_BLOCK = 16384
_MOST_TEXT = 1 << 20
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_STRIPS = 1 << 20
MOST_PLANE_BYTES = 8 << 30
"""Pixels of one image; more is never asked of memory on a file's word."""

_MOST_EXPANSION = {1: 1, 5: 2048, 8: 1100, 32773: 64, 32946: 1100}
_UNKNOWN_EXPANSION = 1 << 17
"""Bytes that one byte of a file may stand for: as it is, LZW, deflate, PackBits, and any other."""
_MOST_PAGES = 1 << 22

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_DESCRIPTION, _STRIP_OFFSETS, _SAMPLES, _STRIP_COUNTS, _SOFTWARE = 270, 273, 277, 279, 305
_TILE_OFFSETS, _TILE_COUNTS, _SAMPLE_FORMAT = 324, 325, 339
_KINDS = {1: "uint", 2: "int", 3: "float"}


class TiffHeaderError(ValueError):
    """A file is not a TIFF image, or ends before its header says; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffHeader:
    """What the first image of a TIFF file says about itself.

    Parameters
    ----------
    height, width
        Pixels.
    dtype
        Name of the element type: ``uint16``.
    compression
        Number of the codec; 1 is none.
    photometric
        0 when white is 0, 1 when black is 0, 3 with a colour map.
    software
        Tag 305, empty without.
    description
        Tag 270 as bytes, empty without.
    end
        Where the pixel data end, bytes from the start of the file.
    more
        Whether further images follow in the file.
    """

    height: int
    width: int
    dtype: str
    compression: int
    photometric: int
    software: str
    description: bytes
    end: int
    more: bool = False


def check_extent(height: int, width: int, bits: int, *, compression: int, size: int) -> None:
    """Refuse an image whose header promises more than its file can hold.

    Parameters
    ----------
    height, width
        Pixels.
    bits
        Of a pixel.
    compression
        Number of the codec in TIFF.
    size
        Bytes of the file.

    Raises
    ------
    TiffHeaderError
        If it does: memory for it must not be asked for.
    """
    if not (0 < height < 1 << 31 and 0 < width < 1 << 31):
        raise TiffHeaderError(f"the image has {height} x {width} pixels")
    due = height * width * bits // 8
    said = f"the image has {height} x {width} pixels of {bits} bits"
    if due > size * _MOST_EXPANSION.get(compression, _UNKNOWN_EXPANSION):
        raise TiffHeaderError(f"{said} by its header, which a file of {size} bytes does not hold")
    if due > MOST_PLANE_BYTES:
        raise TiffHeaderError(f"{said}, more than the {MOST_PLANE_BYTES >> 30} GiB that are read")


def read_tiff_header(
    path: str | Path, *, size: int, most_text_bytes: int = _MOST_TEXT, pixels: bool = True
) -> TiffHeader:
    """Read the header of a TIFF or BigTIFF file.

    Parameters
    ----------
    path
        The file.
    size
        Its bytes; what the header refers to must lie within.
    most_text_bytes
        Texts that are longer are taken to be empty.
    pixels
        Whether pixels of a type that is not supported, or beyond the end of the file, are errors.

    Returns
    -------
    TiffHeader
        Of the first image.

    Raises
    ------
    TiffHeaderError
        If it is no TIFF file, is cut short, or holds pixels of no supported type.
    OSError
        If the file cannot be read.

    Notes
    -----
    Adobe, TIFF 6.0 (1992); the BigTIFF extension. Reads the first 16 KiB and, where the directory
    lies elsewhere, once more.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return _Walk(descriptor, size, most_text_bytes).header(pixels=pixels)
    finally:
        os.close(descriptor)


def read_page_offsets(descriptor: int, *, size: int) -> tuple[tuple[int, ...], str]:
    """Find the directories of all images of a TIFF file, without those of smaller copies.

    Parameters
    ----------
    descriptor
        Of the file, which is open.
    size
        Its bytes.

    Returns
    -------
    tuple
        Bytes from the start of the file, in the order of the images; and why there are no more
        where the list breaks off, else an empty text.

    Raises
    ------
    TiffHeaderError
        If it is no TIFF file.
    OSError
        If the file cannot be read.

    Notes
    -----
    The list is a chain through the file: one read of up to 16 KiB for each image.
    """
    offsets: list[int] = []
    walk = _Walk(descriptor, size)
    try:
        offsets.extend(walk.offsets())
    except TiffHeaderError as error:
        if not offsets:
            raise
        return tuple(offsets), str(error)
    return tuple(offsets), ""


def count_pages(path: str | Path, *, size: int) -> int:
    """Count the images of a TIFF file, as far as its list of them is whole.

    Parameters
    ----------
    path
        The file.
    size
        Its bytes.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    TiffHeaderError
        If it is no TIFF file.
    OSError
        If the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return len(read_page_offsets(descriptor, size=size)[0])
    finally:
        os.close(descriptor)


def read_tiff_pages(
    path: str | Path, *, size: int, pages: Collection[int]
) -> dict[int, TiffHeader | str]:
    """Read the headers of some images of a TIFF file.

    Parameters
    ----------
    path
        The file.
    size
        Its bytes.
    pages
        Which images, 0-based.

    Returns
    -------
    dict
        For each of them its header, or one clause that says why it has none.

    Raises
    ------
    TiffHeaderError
        If it is no TIFF file.
    OSError
        If the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        walk = _Walk(descriptor, size)
        offsets: list[int] = []
        broken = ""
        try:
            offsets.extend(itertools.islice(walk.offsets(), max(pages, default=-1) + 1))
        except TiffHeaderError as error:
            broken = str(error)
        headers: dict[int, TiffHeader | str] = {}
        for page in pages:
            if page >= len(offsets):
                headers[page] = broken or f"the file has {len(offsets)} images, and none is {page}"
                continue
            try:
                headers[page] = walk.header(offsets[page])
            except TiffHeaderError as error:
                headers[page] = str(error)
    finally:
        os.close(descriptor)
    return headers


class _Walk:
    def __init__(self, descriptor: int, size: int, most_text_bytes: int = _MOST_TEXT) -> None:
        self._descriptor = descriptor
        self._size = size
        self._most_text = most_text_bytes
        self._start = 0
        self._block = self._read(0, min(_BLOCK, size))
        self._first = self._begin()

    def offsets(self) -> Iterator[int]:
        offset, seen = self._first, set[int]()
        count_code, link_code = ("Q", "Q") if self._big else ("H", "I")
        width, entry = struct.calcsize(count_code), 20 if self._big else 12
        link = struct.calcsize(link_code)
        while offset:
            if offset in seen or len(seen) >= _MOST_PAGES:
                raise TiffHeaderError(f"its directories lead back to byte {offset}")
            count = self._count(offset, count_code)
            end = self._bytes(offset + width + count * entry, link)
            yield offset
            seen.add(offset)
            offset = struct.unpack(self._order + link_code, end)[0]

    def header(self, offset: int | None = None, *, pixels: bool = True) -> TiffHeader:
        tags = self._directory(self._first if offset is None else offset)
        width, height = self._number(tags, _WIDTH, 0), self._number(tags, _LENGTH, 0)
        if width < 1 or height < 1:
            raise TiffHeaderError(f"the image has {height} x {width} pixels")
        if pixels and self._number(tags, _SAMPLES, 1) != 1:
            raise TiffHeaderError("the image has several samples per pixel, such as colours")
        bits, kind = self._number(tags, _BITS, 1), self._number(tags, _SAMPLE_FORMAT, 1)
        dtype = f"{_KINDS.get(kind, '')}{bits}"
        if pixels and dtype not in _DTYPES:
            raise TiffHeaderError(f"pixels of {bits} bits and sample format {kind}")
        end = self._end(tags) if pixels else 0
        if end > self._size:
            raise TiffHeaderError(
                f"the file ends at byte {self._size}, its pixels end at byte {end}"
            )
        compression = self._number(tags, _COMPRESSION, 1)
        if pixels:
            check_extent(height, width, bits, compression=compression, size=self._size)
        return TiffHeader(
            height=height,
            width=width,
            dtype=dtype,
            compression=compression,
            photometric=self._number(tags, _PHOTOMETRIC, 1),
            software=self._text(tags, _SOFTWARE).decode("latin-1").strip(),
            description=self._text(tags, _DESCRIPTION),
            end=end,
            more=self._more,
        )

    def _begin(self) -> int:
        block = self._block
        order = {b"II": "<", b"MM": ">"}.get(block[:2])
        if order is None or len(block) < 8:
            raise TiffHeaderError("the file does not start as a TIFF file does")
        self._order = order
        magic = struct.unpack_from(order + "H", block, 2)[0]
        self._big = magic == 43
        if magic == 42:
            offset = struct.unpack(order + "I", block[4:8])[0]
        elif magic == 43 and len(block) >= 16:
            offset = struct.unpack(order + "Q", block[8:16])[0]
        else:
            raise TiffHeaderError("the file does not start as a TIFF file does")
        return int(offset)

    def _count(self, offset: int, code: str) -> int:
        width = struct.calcsize(code)
        count = struct.unpack(self._order + code, self._bytes(offset, width))[0]
        if not 0 < count < 4096:
            raise TiffHeaderError(f"the directory at byte {offset} has {count} entries")
        return int(count)

    def _directory(self, offset: int) -> dict[int, tuple[int, int, bytes]]:
        count_code, entry_code = ("Q", "HHQ8s") if self._big else ("H", "HHI4s")
        count = self._count(offset, count_code)
        entry = struct.Struct(self._order + entry_code)
        entries = self._bytes(offset + struct.calcsize(count_code), count * entry.size)
        past, link = offset + struct.calcsize(count_code) + len(entries), 8 if self._big else 4
        # A writer that stops short of the last bytes still leaves a whole image.
        self._more = past + link <= self._size and any(self._bytes(past, link))
        return {tag: (kind, n, value) for tag, kind, n, value in entry.iter_unpack(entries)}

    def _end(self, tags: dict[int, tuple[int, int, bytes]]) -> int:
        for offset_tag, count_tag in (
            (_STRIP_OFFSETS, _STRIP_COUNTS),
            (_TILE_OFFSETS, _TILE_COUNTS),
        ):
            offsets, counts = self._numbers(tags, offset_tag), self._numbers(tags, count_tag)
            if offsets and len(offsets) == len(counts):
                return max(map(sum, zip(offsets, counts, strict=True)))
        raise TiffHeaderError("the directory does not say where the pixels are")

    def _number(self, tags: dict[int, tuple[int, int, bytes]], tag: int, default: int) -> int:
        entry = tags.get(tag)
        if entry is None or entry[0] not in _CODES or entry[1] < 1:
            return default
        code = self._order + _CODES[entry[0]]
        if entry[1] > 1:
            found = self._numbers(tags, tag)
            return found[0] if found else default  # more values than any image has strips
        value: int = struct.unpack_from(code, entry[2])[0]
        return value

    def _numbers(self, tags: dict[int, tuple[int, int, bytes]], tag: int) -> tuple[int, ...]:
        entry = tags.get(tag)
        if entry is None or entry[0] not in _CODES or not 0 < entry[1] < _MOST_STRIPS:
            return ()
        return struct.unpack(f"{self._order}{entry[1]}{_CODES[entry[0]]}", self._value(entry))

    def _text(self, tags: dict[int, tuple[int, int, bytes]], tag: int) -> bytes:
        entry = tags.get(tag)
        if entry is None or _SIZES.get(entry[0]) != 1 or not 0 < entry[1] <= self._most_text:
            return b""
        return self._value(entry).rstrip(b"\0")

    def _value(self, entry: tuple[int, int, bytes]) -> bytes:
        length = _SIZES[entry[0]] * entry[1]
        if length <= len(entry[2]):
            return entry[2][:length]
        return self._bytes(
            struct.unpack(self._order + ("Q" if self._big else "I"), entry[2])[0], length
        )

    def _bytes(self, offset: int, length: int) -> bytes:
        place = offset - self._start
        if place >= 0 and place + length <= len(self._block):
            return self._block[place : place + length]
        if offset + length > self._size:
            raise TiffHeaderError(
                f"the file ends at byte {self._size}, its header goes on to {offset + length}"
            )
        if length > _BLOCK:
            return self._read(offset, length)
        self._block = self._read(offset, min(_BLOCK, self._size - offset))
        self._start = offset
        return self._block[:length]

    def _read(self, offset: int, length: int) -> bytes:
        os.lseek(self._descriptor, offset, os.SEEK_SET)
        block = os.read(self._descriptor, length)
        while 0 < len(block) < length and (more := os.read(self._descriptor, length - len(block))):
            block += more
        if len(block) < length:
            raise TiffHeaderError(f"the file ends at byte {offset + len(block)}")
        return block


_DTYPES = frozenset(
    {"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"}
    | {"float16", "float32", "float64"}
)
