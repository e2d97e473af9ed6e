"""One Zarr v3 array, written plane by plane into few files.

Compressed chunks are appended to a shard as they come, and its index is written at the end. So
an image of many planes is written in the memory of one chunk, and one level of it is two files.

Notes
-----
Zarr v3 core specification and its sharding codec (``sharding_indexed``, version 1.0): a shard is
the chunks, then for each of them offset and length as little-endian 64-bit numbers in C order,
then the CRC-32C of these. A chunk that is not there has both numbers 2**64 - 1 and is all zero.
"""

from __future__ import annotations

import math
from functools import cache
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from polystore._errors import MissingExtraError
from polystore.files._atomic import write_json, writing
from polystore.files._room import reserve
from polystore.omezarr._chunks import BLOSC, PlaneChunks, compressor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ShardedArray", "array_document", "crc32c", "shard_of"]

_SHARD_MOST_BYTES = 64 * 1024**2
_ABSENT = np.uint64(2**64 - 1)


class ShardedArray:
    """A Zarr v3 array that one process writes plane by plane.

    Parameters
    ----------
    folder
        Made here; must not exist.
    shape
        Of the whole array; the last two axes are y and x, all others are counted in planes.
    dtype
        Of the elements; written little-endian.
    names
        Of the axes.
    checksum
        Whether each chunk has a CRC-32C, which everything that reads Zarr compares.

    Raises
    ------
    NotWrittenError
        If the folder cannot be made.
    MissingExtraError
        If zarr is not installed.

    Notes
    -----
    All planes of one time point share a shard where they are at most 64 MiB together, and have
    one each otherwise, because readers may take in a whole shard to show one plane.
    """

    def __init__(
        self,
        folder: Path,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        names: tuple[str, ...],
        checksum: bool = False,
    ) -> None:
        self._compress = compressor()
        self._sum = chunk_crc32c() if checksum else None
        self._folder = folder
        self._shape = shape
        self._dtype = dtype.newbyteorder("<")
        self._names = names
        self._chunks = PlaneChunks(shape[-2], shape[-1], self._dtype)
        together = math.prod(shape[1:]) * dtype.itemsize <= _SHARD_MOST_BYTES
        planes = shape[1:-2] if together else (1,) * len(shape[1:-2])
        self._shard_planes = (1, *planes)
        self._shards: dict[tuple[int, ...], tuple[Path, NDArray[np.uint64], int]] = {}
        self._stream: IO[bytes] | None = None
        self._open_path = folder
        with writing(folder):
            folder.mkdir()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return self._shape

    def write_plane(self, index: tuple[int, ...], plane: NDArray[Any]) -> None:
        """Write the plane at `index`, one number for each axis before y and x.

        Raises
        ------
        NotWrittenError
            If it cannot be written.
        """
        shard = tuple(i // n for i, n in zip(index, self._shard_planes, strict=True))
        place = tuple(i % n for i, n in zip(index, self._shard_planes, strict=True))
        path, entries, end = self._shards.get(shard) or self._new_shard(shard)
        found = np.full((*self._chunks.grid, 2), _ABSENT, dtype=np.uint64)
        with writing(path):
            stream = self._stream_of(path)
            # not at the end of the file: a write that failed may have left something there
            stream.seek(end)
            for row, column, chunk in self._chunks.cut(plane):
                if _holds_something(chunk):
                    packed = self._compress(chunk)
                    reserve(stream, len(packed), start=end)
                    _write(stream, packed)
                    size = len(packed)
                    if self._sum is not None:
                        _write(stream, self._sum(packed).to_bytes(4, "little"))
                        size += 4
                    found[row, column] = end, size
                    end += size
        entries[place] = found
        self._shards[shard] = (path, entries, end)

    def close(self) -> None:
        """Write the indices and the metadata.

        Raises
        ------
        NotWrittenError
            If they cannot be written.
        """
        for path, entries, end in self._shards.values():
            with writing(path):
                stream = self._stream_of(path)
                stream.seek(end)
                _write(stream, _index(entries))
                stream.truncate()
        self.abandon()
        sides, grid = self._chunks.sides, self._chunks.grid
        document = array_document(
            self._shape,
            self._dtype,
            self._names,
            shard=(*self._shard_planes, grid[0] * sides[0], grid[1] * sides[1]),
            sides=sides,
            checksum=self._sum is not None,
        )
        write_json(self._folder / "zarr.json", document)

    def abandon(self) -> None:
        """Let go of what is open. Harmless after `close`, and twice."""
        if self._stream is not None:
            with writing(self._folder):
                self._stream.close()
            self._stream = None

    def _stream_of(self, path: Path) -> IO[bytes]:
        # the last one stays open: planes mostly come one after the other
        if self._stream is None or self._open_path != path:
            self.abandon()
            self._stream, self._open_path = path.open("r+b", buffering=0), path
        return self._stream

    def _new_shard(self, shard: tuple[int, ...]) -> tuple[Path, NDArray[np.uint64], int]:
        folder = self._folder
        with writing(folder):
            for name in ("c", *map(str, shard), "0"):
                folder = folder / name
                folder.mkdir(exist_ok=True)
        path = folder / "0"
        self.abandon()
        with writing(path):
            self._stream, self._open_path = path.open("w+b", buffering=0), path
        entries = np.full((*self._shard_planes, *self._chunks.grid, 2), _ABSENT, dtype=np.uint64)
        return path, entries, 0


def array_document(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    names: tuple[str, ...],
    *,
    shard: tuple[int, ...],
    sides: tuple[int, int],
    checksum: bool = False,
) -> dict[str, Any]:
    """Say what ``zarr.json`` says of an array.

    Parameters
    ----------
    shape
        Of the array.
    dtype
        Of its elements.
    names
        Of its axes.
    shard
        Shape of what is one file.
    sides
        Of a chunk, which is a part of one plane.
    checksum
        Whether each chunk ends with its CRC-32C.
    """
    sums = [{"name": "crc32c"}] if checksum else []
    order: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc = {**BLOSC, "typesize": dtype.itemsize, "shuffle": "bitshuffle"}
    sharding = {
        "chunk_shape": [*(1 for _ in shape[:-2]), *sides],
        "codecs": [order, {"name": "blosc", "configuration": blosc}, *sums],
        "index_codecs": [order, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "dimension_names": list(names),
        "storage_transformers": [],
    }


def shard_of(part: NDArray[Any], chunks: PlaneChunks) -> bytes:
    """Compress a part of a plane into a shard of its own."""
    compress = compressor()
    entries = np.full((*chunks.grid, 2), _ABSENT, dtype=np.uint64)
    pieces: list[bytes] = []
    end = 0
    for row, column, chunk in chunks.cut(part):
        if _holds_something(chunk):
            pieces.append(compress(chunk))
            entries[row, column] = end, len(pieces[-1])
            end += len(pieces[-1])
    return b"".join((*pieces, _index(entries)))


def _write(stream: IO[bytes], content: bytes) -> None:
    # without a buffer a write may stop short, as at the end of the disk
    left = memoryview(content)
    while left:
        left = left[stream.write(left) :]


def _holds_something(chunk: NDArray[Any]) -> bool:
    if chunk[0, 0] != 0 or chunk.any():
        return True
    # what is not written reads as 0, and -0 is another number to the last bit
    return chunk.dtype.kind == "f" and bool(np.signbit(chunk).any())


def _index(entries: NDArray[np.uint64]) -> bytes:
    index = entries.astype("<u8").tobytes()
    return index + crc32c(index).to_bytes(4, "little")


def chunk_crc32c() -> Callable[[bytes], int]:
    """Give what computes the CRC-32C of whole chunks, as fast as memory is read.

    Raises
    ------
    MissingExtraError
        If google-crc32c is not installed.
    """
    try:
        import google_crc32c
    except ImportError as error:
        raise MissingExtraError(
            "checksums of OME-Zarr need google-crc32c: install polystore[zarr]"
        ) from error
    compute: Callable[[bytes], int] = google_crc32c.value
    return compute


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli) of a few thousand bytes.

    Notes
    -----
    RFC 3720, appendix B.4. About 10 MB/s, which is plenty for an index.
    """
    table = _crc_table()
    value = 0xFFFFFFFF
    for byte in content:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)
