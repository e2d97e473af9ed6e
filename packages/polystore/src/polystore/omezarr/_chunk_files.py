"""One Zarr v2 array, written plane by plane, each chunk a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polystore.files._atomic import write_json, writing
from polystore.omezarr._chunks import BLOSC, PlaneChunks, compressor

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ChunkedArray", "chunked_document"]


class ChunkedArray:
    """A Zarr v2 array that one process writes plane by plane.

    Chunks of zeros are written as well, so that a file that is gone is noticed.

    Parameters
    ----------
    folder
        Made here; must not exist.
    shape
        Of the whole array; the last two axes are y and x, all others are counted in planes.
    dtype
        Of the elements; written little-endian.

    Raises
    ------
    NotWrittenError
        If the folder cannot be made.
    MissingExtraError
        If zarr is not installed.
    """

    def __init__(self, folder: Path, *, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._compress = compressor()
        self._folder = folder
        self._shape = shape
        self._dtype = dtype.newbyteorder("<")
        self._chunks = PlaneChunks(shape[-2], shape[-1], self._dtype)
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
        folder = self._folder.joinpath(*map(str, index))
        with writing(folder):
            for row, column, chunk in self._chunks.cut(plane):
                place = folder / str(row)
                place.mkdir(parents=True, exist_ok=True)
                (place / str(column)).write_bytes(self._compress(chunk))

    def close(self) -> None:
        """Write the metadata.

        Raises
        ------
        NotWrittenError
            If they cannot be written.
        """
        document = chunked_document(self._shape, self._dtype, self._chunks.sides)
        write_json(self._folder / ".zarray", document)

    def abandon(self) -> None:
        """Do nothing: no file stays open."""


def chunked_document(
    shape: tuple[int, ...], dtype: np.dtype[Any], sides: tuple[int, int]
) -> dict[str, Any]:
    """Say what ``.zarray`` says of an array.

    Parameters
    ----------
    shape
        Of the array.
    dtype
        Of its elements.
    sides
        Of a chunk, which is a part of one plane.
    """
    return {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": [*(1 for _ in shape[:-2]), *sides],
        "dtype": dtype.str,
        "compressor": {"id": "blosc", **BLOSC, "shuffle": 2},
        "fill_value": 0,
        "order": "C",
        "filters": None,
        # the default of Zarr is ".", which OME-Zarr does not allow
        "dimension_separator": "/",
    }
