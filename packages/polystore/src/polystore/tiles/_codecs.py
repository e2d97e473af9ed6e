"""Codecs of planes, as those that encode and decode the parts of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._coding import Encoded
from polystore._errors import TileError
from polystore.tiles._headers import EXACT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from polystore._coding import Codec
    from polystore.codecs import Codecs
    from polystore.tiles._assemble import Decode
    from polystore.tiles._encodes import Body, Encode
    from polystore.tiles._headers import PartHeader
    from polystore.tiles._quality import Rung

__all__ = ["decode_with", "encode_with"]


def encode_with(codecs: Mapping[str, Codec]) -> Encode:
    """Make what a `TileFeed` encodes parts with.

    Parameters
    ----------
    codecs
        By the names of the rungs: their own codecs, each with its quality. A receiver is told a
        codec's id and no parameters, so one that needs them to decode, as `DeltaCodec`, is none.

    Notes
    -----
    The function raises `TileError` for a rung that has no codec here, names another, or is exact
    where the codec is lossy; `CodecError` for pixels that its codec does not take; and
    `MissingExtraError` if the library that does the work is not installed.
    """

    def encode(rung: Rung, pixels: NDArray[Any]) -> Body:
        codec = codecs.get(rung.name)
        if codec is None or codec.id != rung.codec:
            there = ", ".join(f"{name}: {each.id}" for name, each in codecs.items())
            raise TileError(f"rung {rung.name!r} is of {rung.codec!r}; the codecs are {there}")
        if rung.quality == EXACT and codec.lossy:
            raise TileError(f"rung {rung.name!r} is exact, and its codec {codec.id!r} is lossy")
        # a copy, because a codec may refer to the pixels, and those are drawn over
        return bytes(codec.encode(pixels).stream)

    return encode


def decode_with(codecs: Codecs) -> Decode:
    """Make what an `Assembler` decodes parts with.

    Parameters
    ----------
    codecs
        Those of the rungs, as ``standard_codecs()``.

    Notes
    -----
    The function raises `WireError` where a part's codec is not here, or its bytes are damaged or
    not of the size that its header says.
    """

    def decode(part: PartHeader, body: bytes | bytearray | memoryview) -> NDArray[Any]:
        return codecs.decode(
            Encoded(
                codec=part.codec,
                package="",
                dtype=np.dtype(part.raster.dtype),
                shape=part.raster.shape_of(part.area),
                stream=memoryview(body).cast("B").toreadonly(),
            )
        )

    return decode
