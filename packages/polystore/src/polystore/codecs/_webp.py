"""Tiles of 8 bits for the eye: smaller than JPEG, slower, and with transparency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import check_taken, frozen, new_lossy
from polystore._errors import StreamError
from polystore.codecs._imagecodecs import PACKAGE, decoding, encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["WebpCodec"]

_SIDE_MOST = 16_383
_ANIMATED = 0x02


class WebpCodec:
    """Lossy, for 8-bit RGB (y, x, 3) and RGBA (y, x, 4).

    Transparency itself is kept exactly; the colours below it are not.

    Parameters
    ----------
    quality
        From 0 to 100.
    method
        From 0, fast, to 6, small.
    measured
        Whether to decode again and state the deviation in `Encoded.deviation`; takes as long as
        decoding does.

    Raises
    ------
    ValueError
        If quality or method is another.

    Notes
    -----
    The format is RFC 9649; one still picture, its colours lossy.
    """

    id = "webp"
    package = PACKAGE
    lossy = True

    def __init__(self, quality: int = 75, *, method: int = 0, measured: bool = False) -> None:
        if not 0 <= quality <= 100 or not 0 <= method <= 6:
            raise ValueError(
                f"the quality of WebP is 0 to 100 and its method 0 to 6, not {quality} and {method}"
            )
        self._quality = quality
        self._method = method
        self._measured = measured

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to 8-bit RGB and RGBA, up to 16,383 pixels a side."""
        return (
            dtype == np.uint8
            and len(shape) == 3
            and shape[2] in (3, 4)
            and min(shape[:2]) > 0
            and max(shape[:2]) <= _SIDE_MOST
        )

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Compress.

        Raises
        ------
        CodecError
            If the array is not such a tile.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        with encoding(self.id) as imagecodecs:
            stream = imagecodecs.webp_encode(
                np.ascontiguousarray(array),
                level=self._quality,
                lossless=False,
                method=self._method,
                numthreads=1,
            )
        told = {"quality": self._quality, "method": self._method}
        return new_lossy(self, array, stream, told, measured=self._measured)

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Decompress, once the header was found to be of the announced size.

        Raises
        ------
        StreamError
            If it is not, or the stream is cut off, damaged or an animation.
        MissingExtraError
            If imagecodecs is not installed.
        """
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(f"WebP cannot be of {encoded.dtype} and shape {encoded.shape}")
        _check_header(encoded.stream, encoded.shape)
        made = np.zeros(encoded.shape, np.uint8)
        with decoding(encoded) as imagecodecs:
            imagecodecs.webp_decode(encoded.stream, hasalpha=encoded.shape[2] == 4, out=made)
        return frozen(made)


def _check_header(stream: memoryview, shape: tuple[int, ...]) -> None:
    """Compare the length, and the size in the first chunk (RFC 9649), with what is announced."""
    if stream.nbytes < 30 or bytes(stream[:4]) + bytes(stream[8:12]) != b"RIFFWEBP":
        raise StreamError("the stream is no WebP, or is cut off")
    if int.from_bytes(stream[4:8], "little") + 8 != stream.nbytes:
        raise StreamError("the stream of WebP is not as long as it says")
    kind = bytes(stream[12:16])
    if kind == b"VP8 ":
        width = int.from_bytes(stream[26:28], "little") & 0x3FFF
        height = int.from_bytes(stream[28:30], "little") & 0x3FFF
    elif kind == b"VP8X" and not stream[20] & _ANIMATED:
        width = int.from_bytes(stream[24:27], "little") + 1
        height = int.from_bytes(stream[27:30], "little") + 1
    else:
        raise StreamError("the stream of WebP is not one still picture of lossy colours")
    if (height, width) != shape[:2]:
        raise StreamError(
            f"the stream of WebP says {height} x {width} pixels, announced is {shape}"
        )
