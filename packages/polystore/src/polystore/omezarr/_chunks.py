"""Planes cut into chunks and compressed: what arrays of Zarr v2 and v3 have in common."""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from polystore._errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["BLOSC", "PlaneArray", "PlaneChunks", "chunk_sides", "compressor"]

_CHUNK_PX = 1024
_BITSHUFFLE = 2
BLOSC = {"cname": "zstd", "clevel": 1, "blocksize": 2**20}
"""How chunks are compressed, in the words of both versions of Zarr.

With bit shuffling, in blocks of 1 MiB, which fit the cache of a core: beside the 32 KiB that Blosc
takes by itself, fields of cells are compressed 1.2 to 1.7 times as fast and read 1.5 to 2 times as
fast, into 1 to 7 % fewer bytes. Nobody reads less than a chunk, so nothing is lost by it.
"""


class PlaneArray(Protocol):
    """An array that one process writes plane by plane."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        ...

    def write_plane(self, index: tuple[int, ...], plane: NDArray[Any]) -> None:
        """Write the plane at `index`, one number for each axis before y and x.

        Raises
        ------
        NotWrittenError
            If it cannot be written.
        """
        ...

    def close(self) -> None:
        """Write what is left to be written; the metadata last.

        Raises
        ------
        NotWrittenError
            If they cannot be written.
        """
        ...

    def abandon(self) -> None:
        """Let go of what is open, where nothing more is to be written."""
        ...


def chunk_sides(height: int, width: int) -> tuple[int, int]:
    """Sides of the chunks of a plane: at most 1024, and as equal as can be."""
    return _chunk_side(height), _chunk_side(width)


def _chunk_side(length: int) -> int:
    return math.ceil(length / math.ceil(length / _CHUNK_PX))


class PlaneChunks:
    """How a plane is cut.

    Parameters
    ----------
    height, width
        Of the plane.
    dtype
        Of the elements as they are written.
    sides
        Of a chunk; None for at most 1024 each.

    Attributes
    ----------
    sides
        Of a chunk.
    grid
        Number of chunks along y and x.
    """

    def __init__(
        self,
        height: int,
        width: int,
        dtype: np.dtype[Any],
        *,
        sides: tuple[int, int] | None = None,
    ) -> None:
        self.sides = sides or chunk_sides(height, width)
        self.grid = (math.ceil(height / self.sides[0]), math.ceil(width / self.sides[1]))
        self._memory = np.empty(self.sides, dtype)

    def cut(self, plane: NDArray[Any]) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Give row, column and pixels of each chunk; those at the edge filled up with 0.

        A plane that is smaller than it was said to be has fewer of them. The pixels are in the
        same memory each time: new memory would cost as much as a tenth of compressing it.
        """
        height, width = self.sides
        down, along = math.ceil(plane.shape[0] / height), math.ceil(plane.shape[1] / width)
        chunk = self._memory
        for row, column in product(range(down), range(along)):
            part = plane[row * height : (row + 1) * height, column * width : (column + 1) * width]
            if part.shape != self.sides:
                chunk[...] = 0
            chunk[: part.shape[0], : part.shape[1]] = part
            yield row, column, chunk


class _Blosc:
    """Blosc with zstd, in the thread that calls."""

    def __init__(self) -> None:
        try:
            import numcodecs.blosc  # type: ignore[import-untyped]  # has no types
        except ImportError as error:
            raise MissingExtraError("OME-Zarr needs zarr: install polystore[zarr]") from error
        # zarr sets the same: work is spread over processes, and Blosc's threads do not survive fork
        numcodecs.blosc.use_threads = False
        self._call = numcodecs.blosc.compress

    def __call__(self, chunk: NDArray[Any]) -> bytes:
        packed: bytes = self._call(chunk, b"zstd", BLOSC["clevel"], _BITSHUFFLE, BLOSC["blocksize"])
        return packed


@cache
def compressor() -> _Blosc:
    """Give what compresses a chunk.

    Raises
    ------
    MissingExtraError
        If zarr is not installed.
    """
    return _Blosc()
