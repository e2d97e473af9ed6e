"""The rows in which a plane differs from an earlier one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import check_taken, frozen, is_listed, new_encoded
from polystore._errors import BasePlaneError, CodecError, StreamError
from polystore.codecs._blosc2 import (
    MOST_BYTES,
    Blosc2Compressor,
    check_chunk,
    compress,
    decompress_into,
)
from polystore.codecs._imagecodecs import PACKAGE
from polystore.codecs._planes import EarlierPlanes, content_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["DeltaCodec"]

_COMPRESSOR = Blosc2Compressor.ZSTD
_MOST_ROWS = 0.5


class DeltaCodec:
    """Lossless difference to an earlier plane that the other end has too.

    Both ends keep planes in `EarlierPlanes`: those that were sent or came whole are added to them,
    those that this codec encodes or decodes it adds itself. The difference names its base by the
    hash of what it holds, and the result likewise, so that a base that is missing or is another
    one is an error and never a wrong picture.

    It gains where rows repeat: labels, masks, frames of which a part changes. Noise is new in each
    frame, and a difference of two noisy frames is noisier than either, so that a plane of which
    more than half of the rows differ is refused: `gains` says so beforehand.

    Parameters
    ----------
    planes
        What this end has.
    base
        Hash of the plane that `encode` refers to; None at an end that decodes only.

    Notes
    -----
    The stream is one bit per row (leading axes counted through, the highest bit of a byte first,
    bits of no row 0), set where the row differs; after it, where any does, one chunk as
    ``blosc2-zstd`` makes it of the exclusive or of those rows' bytes, in elements of the plane's
    own size.
    """

    id = "delta-xor"
    package = PACKAGE
    lossy = False

    def __init__(self, planes: EarlierPlanes, base: str | None = None) -> None:
        self._planes = planes
        self._base = base

    def against(self, base: str) -> DeltaCodec:
        """Return one that encodes the difference to another plane.

        Parameters
        ----------
        base
            Its content hash, as `EarlierPlanes.add` gave it. It has to be one that the other end
            has: one that it has acknowledged.
        """
        return DeltaCodec(self._planes, base)

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to every type, from one element to 2 GiB, of one axis or more."""
        count = math.prod(shape)
        return is_listed(dtype) and len(shape) > 0 and 0 < count * dtype.itemsize <= MOST_BYTES

    def gains(self, plane: NDArray[Any]) -> bool:
        """Say whether at most half of the rows differ from the base.

        It compares the bytes once, which takes a fraction of the time that encoding does. False
        too where there is no base, or one of another type or shape.
        """
        if self._base is None or self._base not in self._planes:
            return False
        base = self._planes.get(self._base)
        if (base.dtype, base.shape) != (plane.dtype, plane.shape):
            return False
        return bool(_differing(plane, base).mean() <= _MOST_ROWS)

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Encode the rows that differ, and keep the plane for the next.

        Raises
        ------
        CodecError
            If the array is empty, more than half of its rows differ, or no base was named.
        BasePlaneError
            If the base is not here any more, or is of another type or shape.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        if self._base is None:
            raise CodecError("a difference needs a base: name one with against()")
        base = self._base_of(self._base, array.dtype, array.shape)
        plane = np.array(array, order="C")  # kept for the next, whoever changes this one
        rows = _differing(plane, base)
        if rows.mean() > _MOST_ROWS:
            raise CodecError(
                f"{int(rows.sum())} of {rows.size} rows differ from the plane {self._base}: "
                "send this one whole"
            )
        stream = np.packbits(rows).tobytes()
        if rows.any():
            difference = _rows(plane)[rows] ^ _rows(base)[rows]
            elements = difference.view(f"u{array.dtype.itemsize}")
            stream += compress(elements, _COMPRESSOR, self.id)
        content = self._planes.keep(content_hash(plane), plane)
        return new_encoded(self, array, stream, {"base": self._base, "content": content})

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Apply a difference to its base, prove the result, and keep it for the next.

        Raises
        ------
        BasePlaneError
            If the base is not here, or is of another type or shape.
        StreamError
            If the stream is cut off or damaged, or the result is not what was encoded.
        MissingExtraError
            If imagecodecs is not installed.
        """
        what = f"{encoded.dtype} {encoded.shape}"
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(f"a difference cannot be of {what}")
        named, content = encoded.parameters.get("base"), encoded.parameters.get("content")
        if not isinstance(named, str) or not isinstance(content, str):
            raise StreamError("the difference does not name its base and its result")
        base = self._base_of(named, encoded.dtype, encoded.shape)
        count = math.prod(encoded.shape[:-1])
        mask = encoded.stream[: -(-count // 8)]
        if mask.nbytes * 8 < count:
            raise StreamError(f"the difference of {what} ends in its {count} bits of rows")
        bits = np.unpackbits(np.frombuffer(mask, np.uint8))
        if bits[count:].any():
            raise StreamError(f"the difference of {what} has more rows than {count}")
        rows = bits[:count].astype(bool)
        made = base.copy()
        if rows.any():
            chunk = encoded.stream[mask.nbytes :]
            differing = np.zeros((int(rows.sum()), _rows(made).shape[1]), np.uint8)
            check_chunk(chunk, differing.nbytes, _COMPRESSOR)
            decompress_into(differing.reshape(-1), encoded, chunk)
            _rows(made)[rows] ^= differing
        elif encoded.stream.nbytes != mask.nbytes:
            raise StreamError(f"the difference of {what} has rows that it does not name")
        if content_hash(made) != content:
            raise StreamError(f"the difference to {named} does not give the plane {content}")
        self._planes.keep(content, frozen(made))
        return made

    def _base_of(self, named: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        base = self._planes.get(named)
        if (base.dtype, base.shape) != (dtype, shape):
            raise BasePlaneError(
                f"the plane {named} is {base.dtype} {base.shape}, the difference to it is of "
                f"{dtype} {shape}"
            )
        return base


def _rows(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """View a contiguous array as its rows' bytes."""
    return plane.reshape(-1).view(np.uint8).reshape(math.prod(plane.shape[:-1]), -1)


def _differing(plane: NDArray[Any], base: NDArray[Any]) -> NDArray[np.bool_]:
    """Say for each row whether a bit of it differs; two NaN may, and -0.0 and 0.0 do."""
    mine, theirs = _rows(np.ascontiguousarray(plane)), _rows(base)
    if mine.shape[1] % 8 == 0:  # eight bytes at a time need an eighth of the memory
        mine, theirs = mine.view(np.uint64), theirs.view(np.uint64)
    made: NDArray[np.bool_] = (mine != theirs).any(axis=1)
    return made
