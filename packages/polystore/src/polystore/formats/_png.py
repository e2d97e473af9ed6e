"""Planes as PNG.

The pixels are coded by libpng; the chunks around them are read and written here, so that what a
file says about its size is compared with what its bytes can hold before memory is taken.

Notes
-----
ISO/IEC 15948, sections 5 (structure) and 11 (chunks). The note is a ``tEXt`` chunk of the keyword
``polystore`` behind the header, the size of a pixel a ``pHYs`` chunk, in pixels per metre.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from polystore._errors import UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore.formats._guard import importing, reading
from polystore.formats._note import as_note, read_note
from polystore.wire._header import PAYLOAD_MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from polystore.formats._note import Note

__all__ = ["PngFormat"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEYWORD = b"polystore\x00"
_PACKAGE = "polystore[tiff]"
_TYPES = frozenset({"b1", "u1", "u2"})
_SIDE_MOST = 1_000_000  # of libpng
_DEFLATE_RATIO = 1032  # the most that deflate makes of one byte
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class PngFormat:
    """Planes of 8 or 16 bits as ``.png``, which everything opens.

    An image or labels of the axes y and x, of three channels, y and x (then red, green and blue),
    or with other axes of length 1. Truth values are 0 and 1 of 8 bits. Files of others are read
    as their samples: gray, or channels.

    Parameters
    ----------
    level
        Of compression, from 1 (quick) to 9 (small).
    """

    level: int = 1

    @property
    def name(self) -> str:
        """``"PNG"``."""
        return "PNG"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".png"``."""
        return (".png",)

    @property
    def package(self) -> str:
        """imagecodecs, which brings libpng."""
        return _PACKAGE

    @property
    def kinds(self) -> frozenset[Kind]:
        """What has pixels."""
        return frozenset({Kind.IMAGE, Kind.LABELS})

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what is no plane, or of other types or sizes than PNG has."""
        if payload.kind not in {Kind.IMAGE, Kind.LABELS}:
            return f"it holds pixels, and this is of kind {payload.kind}"
        array = payload.array
        if array.dtype.kind + str(array.dtype.itemsize) not in _TYPES:
            return f"it holds unsigned integers of 8 and 16 bits, and these are {array.dtype.name}"
        if not array.size:
            return f"an image of shape {array.shape} has no pixels, and a PNG file has some"
        if max(array.shape[-2:]) > _SIDE_MOST:
            return f"it holds at most {_SIDE_MOST} pixels in a row or column"
        sides = zip(payload.axes[:-2], array.shape, strict=False)
        planes = {axis: side for axis, side in sides if side != 1}
        if planes and planes != {"channel": 3}:
            return f"it holds one plane, or three channels, and this is {array.shape}"
        return None

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write the one plane.

        Raises
        ------
        MissingExtraError
            If imagecodecs is not installed.
        """
        with importing(self.name, _PACKAGE):
            from imagecodecs import png_encode
        array = payload.array
        planes = array.reshape((-1, *array.shape[-2:]))
        pixels = planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1)
        wide = np.uint16 if array.dtype.itemsize == 2 else np.uint8
        with importing(self.name, _PACKAGE):
            plain = np.ascontiguousarray(pixels, dtype=wide)
            # what imagecodecs makes room for is too little for very narrow images
            room = plain.nbytes + plain.nbytes // 8 + 16 * len(plain) + 4096
            coded = png_encode(plain, level=self.level, out=room)
        note = json.dumps(as_note(payload, dtype=array.dtype, shape=array.shape))
        # the signature, and IHDR with its length, name and checksum
        end = len(_SIGNATURE) + 25
        stream.write(coded[:end])
        if payload.pixel_um is not None:
            per_metre = [round(1e6 / side) for side in reversed(payload.pixel_um)]
            if all(1 <= number < 2**31 for number in per_metre):
                stream.write(_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
        stream.write(_chunk(b"tEXt", _KEYWORD + note.encode("ascii")))
        stream.write(coded[end:])

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read a plane.

        Raises
        ------
        UnreadableError
            If it is no PNG, is cut off or damaged, is larger than its bytes can be, or animated.
        MissingExtraError
            If imagecodecs is not installed.
        """
        with importing(self.name, _PACKAGE):
            from imagecodecs import png_decode
        with reading(where, self.name), importing(self.name, _PACKAGE):
            content = stream.read()
            shape, note = _checked(content, where)
            pixels: NDArray[Any] = png_decode(content)
            if pixels.shape[:2] != shape:
                raise UnreadableError(f"{where} says {shape} and holds {pixels.shape[:2]}")
            if pixels.ndim == 3:
                pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
            if note is None:
                axes = ("channel", "y", "x") if pixels.ndim == 3 else ("y", "x")
                pixels.flags.writeable = False
                return Payload(data=pixels, axes=axes)
            if note.shape is None or note.dtype is None:
                raise UnreadableError(f"{where}: its note says no type and shape")
            if note.dtype.itemsize != pixels.dtype.itemsize:
                raise UnreadableError(f"{where} holds {pixels.dtype}, its note says {note.dtype}")
            if note.dtype.kind == "b" and pixels.max(initial=0) > 1:
                raise UnreadableError(f"{where} holds more than the truth values that it says")
            pixels = pixels.astype(note.dtype, copy=False).reshape(note.shape)
            pixels.flags.writeable = False
            return note.payload(pixels)


def _checked(content: bytes, where: str) -> tuple[tuple[int, int], Note | None]:
    """Read height and width, and the note, and see that the bytes can hold the pixels."""
    if not content.startswith(_SIGNATURE):
        raise UnreadableError(
            f"{where} is no PNG file: "
            + (f"it begins with {content[:8]!r}" if content else "it is empty")
        )
    shape, row_bits, coded, note = (0, 0), 0, 0, None
    for number, (kind, data) in enumerate(_chunks(content, where)):
        if (number == 0) != (kind == b"IHDR"):
            raise UnreadableError(f"{where}: the header is not the first chunk, or not the only")
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack(">IIBB3x", data)
            if color not in _SAMPLES or not (width and height) or depth not in {1, 2, 4, 8, 16}:
                raise UnreadableError(f"{where} says it is {height} x {width}, of type {color}")
            shape, row_bits = (height, width), width * depth * _SAMPLES[color]
        elif kind == b"IDAT":
            coded += len(data)
        elif kind == b"acTL":
            raise UnreadableError(f"{where} is animated: save its frames one by one")
        elif kind == b"tEXt" and data[: len(_KEYWORD)] == _KEYWORD:
            note = read_note(bytes(data[len(_KEYWORD) :]), where)
    # what is decoded may have 4 samples of 2 bytes for a bit: a palette with an alpha channel
    if shape[0] * (row_bits // 8) > coded * _DEFLATE_RATIO or (
        shape[0] * shape[1] * 8 > PAYLOAD_MOST_BYTES
    ):
        raise UnreadableError(
            f"{where} says it is {shape[0]} x {shape[1]}, which {coded} bytes cannot be, or which "
            "is too large to be read at once"
        )
    return shape, note


def _chunks(content: bytes, where: str) -> Iterator[tuple[bytes, memoryview]]:
    view = memoryview(content)
    at = len(_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(view):
            raise UnreadableError(f"{where} is cut off at byte {len(view)}")
        length = int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(view):
            raise UnreadableError(f"{where} is cut off in its chunk {kind!r}")
        if zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise UnreadableError(f"{where} is damaged: the checksum of its chunk {kind!r} differs")
        yield kind, view[at + 8 : end]
        at = end + 4


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return len(data).to_bytes(4, "big") + kind + data + checksum.to_bytes(4, "big")
