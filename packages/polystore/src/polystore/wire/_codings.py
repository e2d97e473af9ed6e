"""What a header says about an array that is encoded, and the array of it."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from polystore._coding import RAW, Deviation, Encoded, Parameter, check_id, unknown_codec
from polystore._errors import CodecError, StreamError, WireHeaderError
from polystore._kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from polystore._coding import Codec
    from polystore._payload import Payload
    from polystore.codecs import Codecs

__all__ = ["CODED_KINDS", "Coding", "CodingEntry", "coded", "decoded", "to_coding", "to_entry"]

CODED_KINDS = frozenset({Kind.IMAGE, Kind.LABELS})
"""Kinds whose array may be encoded."""

_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How the array of a payload was encoded, as its header says.

    Attributes
    ----------
    codec
        Id of the codec.
    package
        What to install to have it.
    lossy
        Whether what comes back may differ.
    parameters
        What the codec was told.
    deviation
        By how much it differs, where that was measured.
    stream_nbytes, nbytes
        Bytes as sent, and of the array.
    """

    codec: str
    package: str
    lossy: bool
    parameters: Mapping[str, Parameter]
    deviation: Deviation | None
    stream_nbytes: int
    nbytes: int


class DeviationEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `Deviation` in a header."""

    largest: float
    mean_square: float
    peak: float


class CodingEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The part ``codec`` of an array in a header."""

    id: _Name
    package: _Name
    crc32: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    lossy: bool = False
    parameters: Annotated[dict[_Name, bool | int | float | _Text], msgspec.Meta(max_length=32)] = {}
    deviation: DeviationEntry | None = None

    def check(self, kind: Kind) -> None:
        """Refuse what no sender of ours says.

        Raises
        ------
        WireHeaderError
            If the entry contradicts itself or the kind of the payload.
        """
        try:
            check_id(self.id)
        except CodecError as error:
            raise WireHeaderError(str(error)) from error
        if self.id == RAW or kind not in CODED_KINDS:
            raise WireHeaderError(f"{kind} cannot be encoded with {self.id!r}")
        if self.lossy and kind is Kind.LABELS:
            raise WireHeaderError("labels cannot be lossy")
        off = self.deviation
        if off is not None and not (
            all(math.isfinite(value) and value >= 0 for value in (off.largest, off.mean_square))
            and math.isfinite(off.peak)
            and off.peak > 0
        ):
            raise WireHeaderError("the deviation has to be of finite numbers, none below 0")


def coded(payload: Payload, codec: Codec, *, preview: bool) -> Encoded | None:
    """Encode the array of a payload; None where it goes as it is.

    Raises
    ------
    CodecError
        If the codec does not take it, or is lossy and may not be.
    MissingExtraError
        If the library that does the work is not installed.
    """
    if codec.id == RAW or payload.kind not in CODED_KINDS or not payload.array.size:
        return None
    if codec.lossy and payload.kind is Kind.LABELS:
        raise CodecError(
            f"labels cannot be encoded with {codec.id!r}, which is lossy: their numbers are names"
        )
    if codec.lossy and not preview:
        raise CodecError(
            f"the codec {codec.id!r} is lossy: say preview=True where an approximation will do"
        )
    encoded = codec.encode(payload.array)
    return encoded if encoded.stream.nbytes < payload.array.nbytes else None


def to_entry(encoded: Encoded) -> CodingEntry:
    """Say in a header how an array was encoded."""
    off = encoded.deviation
    return CodingEntry(
        id=encoded.codec,
        package=encoded.package,
        crc32=zlib.crc32(encoded.stream) if encoded.crc32 is None else encoded.crc32,
        lossy=encoded.lossy,
        parameters=dict(encoded.parameters),
        deviation=None if off is None else DeviationEntry(off.largest, off.mean_square, off.peak),
    )


def decoded(
    entry: CodingEntry,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    stream: memoryview,
    codecs: Codecs | None,
) -> NDArray[Any]:
    """Make the array that a header describes.

    Raises
    ------
    WireError
        If there is no such codec here, or the stream is not what was announced.
    MissingExtraError
        If the library that does the work is not installed.
    """
    if codecs is None:
        raise unknown_codec(entry.id, entry.package, ())
    encoded = Encoded(
        codec=entry.id,
        package=entry.package,
        dtype=dtype,
        shape=shape,
        stream=stream.cast("B").toreadonly(),
        parameters=dict(entry.parameters),
        lossy=entry.lossy,
        deviation=_deviation(entry),
        crc32=entry.crc32,
    )
    if codecs.get(entry.id, entry.package).lossy and not entry.lossy:
        raise WireHeaderError(f"{entry.id} is lossy, and the header says that it is not")
    array = codecs.decode(encoded)
    if (array.dtype, array.shape) != (dtype, shape):
        raise StreamError(
            f"{entry.id} made {array.dtype} {array.shape} of what was announced as {dtype} {shape}"
        )
    return array


def to_coding(entry: CodingEntry, *, stream_nbytes: int, nbytes: int) -> Coding:
    """Give what a header says as a value."""
    return Coding(
        codec=entry.id,
        package=entry.package,
        lossy=entry.lossy,
        parameters=MappingProxyType(dict(entry.parameters)),
        deviation=_deviation(entry),
        stream_nbytes=stream_nbytes,
        nbytes=nbytes,
    )


def _deviation(entry: CodingEntry) -> Deviation | None:
    off = entry.deviation
    if off is None:
        return None
    return Deviation(largest=off.largest, mean_square=off.mean_square, peak=off.peak)
