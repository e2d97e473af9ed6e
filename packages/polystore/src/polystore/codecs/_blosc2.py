"""Any elements, shuffled by bits or bytes and compressed: fast, and gains on noise."""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import check_taken, frozen, is_listed, new_encoded
from polystore._errors import StreamError
from polystore.codecs._imagecodecs import PACKAGE, decoding, encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["Blosc2Codec", "Blosc2Compressor", "check_chunk", "compress", "decompress_into"]

MOST_BYTES = 2**31 - 2**16
_BLOCK_MOST_BYTES = 16 * 1024**2
_HEADER = struct.Struct("<BBBBiii6sBB6sBB")


class Blosc2Compressor(StrEnum):
    """What compresses the shuffled bytes, and how they are shuffled for it."""

    LZ4 = "lz4"
    """LZ4 after a shuffle of bits: the fastest."""
    ZSTD = "zstd"
    """Zstandard, level 1, after a shuffle of bytes: about a tenth smaller, at half the speed."""


_SHUFFLE = {Blosc2Compressor.LZ4: "bitshuffle", Blosc2Compressor.ZSTD: "shuffle"}
_FORMAT = {Blosc2Compressor.LZ4: 1, Blosc2Compressor.ZSTD: 4}


class Blosc2Codec:
    """Lossless, for elements of every type, in chunks of C-Blosc2.

    Parameters
    ----------
    compressor
        Which one; the id is ``blosc2-lz4`` or ``blosc2-zstd``.
    threads
        So many encode and decode one array; 1 leaves the other cores to the pipeline.

    Notes
    -----
    The format of a chunk is that of C-Blosc2. Of what a chunk may ask for, a decoder does only
    what an encoder of ours asks for: a chunk that names filters or compressors of other kinds,
    which the library would look for in files or load as plugins, is refused.
    """

    package = PACKAGE
    lossy = False

    def __init__(
        self, compressor: Blosc2Compressor = Blosc2Compressor.LZ4, *, threads: int = 1
    ) -> None:
        self._compressor = Blosc2Compressor(compressor)
        self._threads = threads

    @property
    def id(self) -> str:
        """``blosc2-lz4`` or ``blosc2-zstd``."""
        return f"blosc2-{self._compressor}"

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to every type, from one element to 2 GiB."""
        return is_listed(dtype) and 0 < _nbytes(dtype, shape) <= MOST_BYTES

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Compress.

        Raises
        ------
        CodecError
            If the array is empty or larger than 2 GiB.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        stream = compress(array, self._compressor, self.id, self._threads)
        return new_encoded(self, array, stream, {"level": 1, "shuffle": _SHUFFLE[self._compressor]})

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Decompress, once the chunk was found to be of the announced size.

        Raises
        ------
        StreamError
            If it is not, is damaged, or asks for what no encoder of ours does.
        MissingExtraError
            If imagecodecs is not installed.
        """
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(
                f"{encoded.codec} cannot be of {encoded.dtype} and shape {encoded.shape}"
            )
        check_chunk(encoded.stream, encoded.nbytes, self._compressor)
        made = np.zeros(encoded.shape, encoded.dtype)
        decompress_into(made.reshape(-1).view(np.uint8), encoded, encoded.stream, self._threads)
        return frozen(made)


def compress(
    array: NDArray[Any], compressor: Blosc2Compressor, codec: str, threads: int = 1
) -> bytes:
    """Compress the elements of an array, in C order, to one chunk."""
    # of bytes the library would take 8 for one element, whatever typesize says; not of signed ones
    flat = np.ascontiguousarray(array).reshape(-1).view(f"i{array.dtype.itemsize}")
    with encoding(codec) as imagecodecs:
        return bytes(
            imagecodecs.blosc2_encode(
                flat,
                level=1,
                compressor=compressor.value,
                shuffle=_SHUFFLE[compressor],
                typesize=array.dtype.itemsize,
                numthreads=threads,
            )
        )


def decompress_into(
    out: NDArray[np.uint8], encoded: Encoded, chunk: memoryview, threads: int = 1
) -> None:
    """Decompress a checked chunk to exactly as many bytes as `out` has."""
    with decoding(encoded) as imagecodecs:
        written = imagecodecs.blosc2_decode(chunk, numthreads=threads, out=out.data)
    if len(written) != out.nbytes:
        raise StreamError(f"{encoded.codec}: {len(written)} bytes came of {out.nbytes} announced")


def check_chunk(chunk: memoryview, nbytes: int, compressor: Blosc2Compressor) -> None:
    """Refuse a chunk that is not one of `nbytes` bytes as `compress` makes them.

    Raises
    ------
    StreamError
        If it is not.
    """
    if chunk.nbytes < _HEADER.size:
        raise StreamError(f"a chunk of blosc2 has {_HEADER.size} bytes at least: {chunk.nbytes}")
    (
        *_,
        flags,
        _,  # bytes of an element, which the library may choose anew
        said_nbytes,
        block_bytes,
        said_length,
        filters,
        own_codec,
        _,
        _,
        _,
        more_flags,
    ) = _HEADER.unpack_from(chunk)
    if said_nbytes != nbytes:
        raise StreamError(f"the chunk says to hold {said_nbytes} bytes, announced are {nbytes}")
    if said_length != chunk.nbytes:
        raise StreamError(f"the chunk says to have {said_length} bytes and has {chunk.nbytes}")
    if not 0 < block_bytes <= min(nbytes, _BLOCK_MOST_BYTES):
        raise StreamError(f"the chunk of {nbytes} bytes has blocks of {block_bytes}")
    extended, copied, delta = flags & 0x05 == 0x05, flags & 0x02, flags & 0x08
    compressed = flags >> 5 == _FORMAT[compressor]
    special, others = more_flags >> 4 & 0x07, more_flags & 0x8F
    if (
        not extended
        or delta
        or others
        or special > 3  # zeros, NaN, one value; 4 is "whatever was in memory"
        or not (compressed or copied)
        or own_codec > 5
        or max(filters) > 2  # none, bytes, bits; others are plugins
    ):
        raise StreamError(f"the chunk of blosc2-{compressor} asks for what is not done here")


def _nbytes(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    count = dtype.itemsize
    for side in shape:
        count *= side
    return count
