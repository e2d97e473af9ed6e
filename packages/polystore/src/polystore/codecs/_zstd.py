"""Any elements, compressed as they lie: for labels and masks, which repeat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import check_taken, frozen, is_listed, new_encoded
from polystore._errors import StreamError
from polystore.codecs._imagecodecs import PACKAGE, decoding, encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["ZstdCodec"]

_MAGIC = b"\x28\xb5\x2f\xfd"


class ZstdCodec:
    """Lossless, for elements of every type; Zstandard frames.

    Parameters
    ----------
    level
        From 1, fast, to 19, small.

    Raises
    ------
    ValueError
        If the level is another.

    Notes
    -----
    The format is that of RFC 8878.
    """

    id = "zstd"
    package = PACKAGE
    lossy = False

    def __init__(self, level: int = 1) -> None:
        if not 1 <= level <= 19:
            raise ValueError(f"the level of zstd is 1 to 19, not {level}")
        self._level = level

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to every type, from one element on."""
        return is_listed(dtype) and math.prod(shape) > 0

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Compress.

        Raises
        ------
        CodecError
            If the array is empty.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        with encoding(self.id) as imagecodecs:
            stream = imagecodecs.zstd_encode(flat, level=self._level)
        return new_encoded(self, array, stream, {"level": self._level})

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Decompress into exactly as many bytes as are announced.

        Raises
        ------
        StreamError
            If the stream is of another size, or damaged.
        MissingExtraError
            If imagecodecs is not installed.
        """
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(f"zstd cannot be of {encoded.dtype} and shape {encoded.shape}")
        if (said := _content_bytes(encoded.stream)) != encoded.nbytes:
            raise StreamError(f"the frame of zstd says {said} bytes, announced {encoded.nbytes}")
        made = np.zeros(encoded.shape, encoded.dtype)
        with decoding(encoded) as imagecodecs:
            written = imagecodecs.zstd_decode(
                encoded.stream, out=made.reshape(-1).view(np.uint8).data
            )
        if len(written) != made.nbytes:
            raise StreamError(f"zstd: {len(written)} bytes came of {made.nbytes} announced")
        return frozen(made)


def _content_bytes(frame: memoryview) -> int | None:
    """Read how many bytes a frame says to hold; None where it says nothing or is no frame."""
    if frame.nbytes < 6 or frame[:4] != _MAGIC:
        return None
    descriptor = frame[4]
    one_segment = bool(descriptor & 0x20)
    dictionary = (0, 1, 2, 4)[descriptor & 0x03]
    length = (int(one_segment), 2, 4, 8)[descriptor >> 6]
    start = 5 + (not one_segment) + dictionary
    if not length or dictionary or frame.nbytes < start + length:
        return None
    return int.from_bytes(frame[start : start + length], "little") + 256 * (length == 2)
