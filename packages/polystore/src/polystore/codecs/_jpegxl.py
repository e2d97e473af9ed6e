"""Planes of 8 and 16 bits, predicted from their neighbours: the smallest that is still fast."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import check_taken, frozen, new_encoded
from polystore._errors import StreamError
from polystore.codecs._imagecodecs import PACKAGE, decoding, encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["JpegXlCodec"]

_KINDS = {"b1": "u1", "u1": "u1", "i1": "u1", "u2": "u2", "i2": "u2"}
_SIDE_MOST = 2**28  # the format allows 2**30 for each side and 2**40 pixels
_PIXELS_MOST = 2**31
_SIGNATURE = bytes.fromhex("0000000c4a584c200d0a870a")
_CODESTREAM = b"\xff\x0a"


class JpegXlCodec:
    """Lossless JPEG XL for integers of 8 and 16 bits.

    An array of more than two axes is encoded as one plane, its leading axes one below the other;
    8-bit arrays whose last axis is 3 or 4 long as colour.

    Parameters
    ----------
    effort
        From 1, fast, to 9, small. Above 1 it is several times slower and gains a few percent.
    threads
        So many encode and decode one array; 1 leaves the other cores to the pipeline.

    Raises
    ------
    ValueError
        If the effort is another.

    Notes
    -----
    The format is ISO/IEC 18181. Streams that carry more than one still plane (previews,
    animations, further channels, another orientation) are refused.
    """

    id = "jpegxl"
    package = PACKAGE
    lossy = False

    def __init__(self, effort: int = 1, *, threads: int = 1) -> None:
        if not 1 <= effort <= 9:
            raise ValueError(f"the effort of JPEG XL is 1 to 9, not {effort}")
        self._effort = effort
        self._threads = threads

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to planes of booleans and of integers of 8 and 16 bits."""
        if dtype.names is not None or dtype.kind + str(dtype.itemsize) not in _KINDS:
            return False
        if len(shape) < 2 or not 0 < math.prod(shape) <= _PIXELS_MOST:
            return False
        return max(_as_image(dtype, shape)[:2]) <= _SIDE_MOST

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Compress.

        Raises
        ------
        CodecError
            If the array is empty, has one axis, or is not of 8 or 16 bits.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        image = native.view(_unsigned(array.dtype)).reshape(_as_image(array.dtype, array.shape))
        with encoding(self.id) as imagecodecs:
            stream = imagecodecs.jpegxl_encode(
                image, lossless=True, effort=self._effort, numthreads=self._threads
            )
        return new_encoded(self, array, stream, {"effort": self._effort})

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Decompress, once the header was found to be of the announced size and depth.

        Raises
        ------
        StreamError
            If it is not, or the stream is cut off, damaged or more than one still plane.
        MissingExtraError
            If imagecodecs is not installed.
        """
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(f"JPEG XL cannot be of {encoded.dtype} and shape {encoded.shape}")
        shape = _as_image(encoded.dtype, encoded.shape)
        codestream = _codestream(encoded.stream)
        _check_header(codestream, shape, encoded.dtype.itemsize * 8)
        out = np.empty(shape, _unsigned(encoded.dtype))
        with decoding(encoded) as imagecodecs:
            imagecodecs.jpegxl_decode(codestream, index=0, numthreads=self._threads, out=out)
        made = out.reshape(encoded.shape).view(encoded.dtype.newbyteorder("="))
        return frozen(made.astype(encoded.dtype, copy=False))


def _unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"u{dtype.itemsize}")


def _as_image(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 3 and shape[2] in (3, 4) and dtype.itemsize == 1:
        return shape
    return (math.prod(shape[:-1]), shape[-1])


def _codestream(stream: memoryview) -> memoryview:
    """Find the codestream in a file of boxes; a bare one is itself."""
    if stream[:2] == _CODESTREAM:
        return stream
    if stream[:12] != _SIGNATURE:
        raise StreamError("the stream is no JPEG XL")
    at = len(_SIGNATURE)
    while at + 8 <= stream.nbytes:
        length = int.from_bytes(stream[at : at + 4], "big") or stream.nbytes - at
        kind = bytes(stream[at + 4 : at + 8])
        if length < 8 or at + length > stream.nbytes:
            raise StreamError(f"the stream of JPEG XL is cut off in its part {kind!r}")
        if kind == b"jxlc":
            return stream[at + 8 : at + length]
        if kind not in {b"ftyp", b"jxll"}:
            raise StreamError(f"the stream of JPEG XL has a part {kind!r}, which is not read here")
        at += length
    raise StreamError("the stream of JPEG XL has no codestream")


class _Bits:
    """Reads numbers of any count of bits, lowest first."""

    def __init__(self, stream: memoryview) -> None:
        self._value = int.from_bytes(stream[:64], "little")  # a header is far shorter
        self._left = min(stream.nbytes, 64) * 8

    def take(self, count: int) -> int:
        if count > self._left:
            raise StreamError("the stream of JPEG XL ends in its header")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def side(self) -> int:
        return self.take((9, 13, 18, 30)[self.take(2)]) + 1


def _check_header(codestream: memoryview, shape: tuple[int, ...], bits: int) -> None:
    """Compare size, depth and channels with what is announced (18181-1, annex D)."""
    read = _Bits(codestream)
    if read.take(16) != int.from_bytes(_CODESTREAM, "little"):
        raise StreamError("the stream is no JPEG XL")
    small = read.take(1)  # sides are multiples of 8 up to 256
    height = (read.take(5) + 1) * 8 if small else read.side()
    ratio = read.take(3)
    if ratio:
        part, whole = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        width = height * part // whole
    else:
        width = (read.take(5) + 1) * 8 if small else read.side()
    if (height, width) != shape[:2]:
        raise StreamError(f"the stream says {height} x {width} pixels, announced are {shape[:2]}")
    channels = shape[2] if len(shape) == 3 else 1
    if read.take(1):  # all as usual, which is to convert colours
        raise StreamError("the stream of JPEG XL is not lossless")
    if read.take(1):
        raise StreamError("the stream of JPEG XL has an orientation, a preview or an animation")
    if read.take(1):
        raise StreamError(f"the stream of JPEG XL is of floats, announced are {bits} bits")
    selector = read.take(2)
    depth = (8, 10, 12)[selector] if selector < 3 else read.take(6) + 1
    if depth != bits:
        raise StreamError(f"the stream of JPEG XL has {depth} bits, announced are {bits}")
    read.take(1)
    extra = read.take(2)
    if extra > 1 or extra != (channels == 4) or (extra and not read.take(1)):
        raise StreamError(f"the stream of JPEG XL does not have {channels} channels")
    if read.take(1):  # colours converted to another space
        raise StreamError("the stream of JPEG XL is not lossless")
