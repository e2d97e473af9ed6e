"""Tiles of 8 bits for the eye: the quickest, and near enough while a view moves."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import check_taken, frozen, new_lossy
from polystore._errors import CodecError, StreamError
from polystore.codecs._imagecodecs import PACKAGE, decoding, encoding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._coding import Encoded

__all__ = ["JpegCodec", "Subsampling"]

_SIDE_MOST = 65_500
_OPAQUE = 255
_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 ... SOF15
_BASELINE, _SCAN = 0xC0, 0xDA


class Subsampling(StrEnum):
    """How many pixels share one colour; brightness is kept for each."""

    NONE = "444"
    """Each has its own: magenta beside green stays magenta beside green."""
    WIDTH = "422"
    """Two beside each other share."""
    BOTH = "420"
    """Four share: a third smaller and twice as fast, and fine coloured detail is blurred."""


class JpegCodec:
    """Lossy, for 8-bit grey (y, x), RGB (y, x, 3) and opaque RGBA (y, x, 4).

    Parameters
    ----------
    quality
        From 1 to 100; above 95 it costs much and shows little.
    subsampling
        How many pixels share one colour.
    measured
        Whether to decode again and state the deviation in `Encoded.deviation`; takes as long as
        decoding does.

    Raises
    ------
    ValueError
        If the quality is another.

    Notes
    -----
    The format is ITU-T T.81, baseline. It has no transparency: RGBA of which a pixel is not opaque
    is refused, and what comes back is opaque.
    """

    id = "jpeg"
    package = PACKAGE
    lossy = True

    def __init__(
        self,
        quality: int = 85,
        *,
        subsampling: Subsampling = Subsampling.NONE,
        measured: bool = False,
    ) -> None:
        if not 1 <= quality <= 100:
            raise ValueError(f"the quality of JPEG is 1 to 100, not {quality}")
        self._quality = quality
        self._subsampling = Subsampling(subsampling)
        self._measured = measured

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say yes to 8-bit grey, RGB and RGBA, up to 65,500 pixels a side."""
        return _is_tile(dtype, shape) and max(shape[:2]) <= _SIDE_MOST

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Compress.

        Raises
        ------
        CodecError
            If the array is not such a tile, or a pixel of it is not opaque.
        MissingExtraError
            If imagecodecs is not installed.
        """
        check_taken(self, array)
        tile = np.ascontiguousarray(array)
        if tile.ndim == 3 and tile.shape[2] == 4 and bool((tile[..., 3] != _OPAQUE).any()):
            raise CodecError("JPEG has no transparency, and a pixel is not opaque: use webp")
        options: dict[str, str] = {}
        if tile.ndim == 3:
            options["subsampling"] = self._subsampling.value
        if tile.ndim == 3 and tile.shape[2] == 4:
            options |= {"colorspace": "RGBA", "outcolorspace": "YCBCR"}
        with encoding(self.id) as imagecodecs:
            stream = imagecodecs.jpeg8_encode(tile, level=self._quality, **options)
        told = {"quality": self._quality, "subsampling": self._subsampling.value}
        return new_lossy(self, array, stream, told, measured=self._measured)

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Decompress, once the header was found to be of the announced size.

        Raises
        ------
        StreamError
            If it is not, or the stream is cut off, damaged or not baseline.
        MissingExtraError
            If imagecodecs is not installed.
        """
        if not self.takes(encoded.dtype, encoded.shape):
            raise StreamError(f"JPEG cannot be of {encoded.dtype} and shape {encoded.shape}")
        _check_header(encoded.stream, encoded.shape)
        made = np.zeros(encoded.shape, np.uint8)
        color = {3: "RGB", 4: "RGBA"}.get(encoded.shape[-1]) if len(encoded.shape) == 3 else None
        with decoding(encoded) as imagecodecs:
            imagecodecs.jpeg8_decode(encoded.stream, outcolorspace=color, out=made)
        return frozen(made)


def _is_tile(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return (
        dtype == np.uint8
        and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)))
        and min(shape) > 0
    )


def _check_header(stream: memoryview, shape: tuple[int, ...]) -> None:
    """Walk the segments up to the first scan (T.81, annex B) and compare size and channels."""
    if stream[:2] != _START or stream[-2:] != _END:
        raise StreamError("the stream is no JPEG, or is cut off")
    components = 3 if len(shape) == 3 else 1
    found = False
    at = 2
    while at + 4 <= stream.nbytes:
        if stream[at] != 0xFF:
            raise StreamError(f"the stream of JPEG has no segment at byte {at}")
        kind = stream[at + 1]
        if kind == 0xFF:  # filling
            at += 1
            continue
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        body = stream[at + 4 : at + 2 + length]
        if length < 2 or body.nbytes != length - 2:
            raise StreamError(f"the stream of JPEG is cut off in segment {kind:#04x}")
        if kind in _FRAMES:
            if kind != _BASELINE or found or body.nbytes < 6:
                raise StreamError("the stream of JPEG is not baseline")
            height = int.from_bytes(body[1:3], "big")
            width = int.from_bytes(body[3:5], "big")
            if (body[0], height, width, body[5]) != (8, *shape[:2], components):
                raise StreamError(
                    f"the stream of JPEG says {height} x {width} pixels of {body[5]} x {body[0]} "
                    f"bits, announced is {shape}"
                )
            found = True
        elif kind == _SCAN:
            # several scans would make the decoder keep all coefficients
            if not found or not body.nbytes or body[0] != components:
                raise StreamError("the stream of JPEG has no frame, or several scans")
            return
        at += 2 + length
    raise StreamError("the stream of JPEG has no scan")
