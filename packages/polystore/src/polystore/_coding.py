"""An array as a stream of bytes, and what makes one of the other."""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from polystore._dtypes import DTYPES
from polystore._errors import CodecError, UnknownCodecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

__all__ = [
    "RAW",
    "Codec",
    "Deviation",
    "Encoded",
    "Parameter",
    "check_id",
    "check_taken",
    "frozen",
    "is_listed",
    "new_encoded",
    "new_lossy",
    "unknown_codec",
]

RAW = "raw"
"""Id of what is not encoded."""

Parameter: TypeAlias = str | int | float | bool

_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far a decoded array is from the one that was encoded, as measured.

    Attributes
    ----------
    largest
        Largest absolute difference of one element.
    mean_square
        Mean of the squared differences.
    peak
        Largest value that an element can have: 255 for 8 bits.
    """

    largest: float
    mean_square: float
    peak: float

    @property
    def psnr_db(self) -> float:
        """Peak signal-to-noise ratio in dB; infinite where nothing differs."""
        if self.mean_square == 0:
            return math.inf
        return 10 * math.log10(self.peak**2 / self.mean_square)

    @classmethod
    def between(cls, original: NDArray[Any], decoded: NDArray[Any]) -> Deviation:
        """Measure.

        Parameters
        ----------
        original, decoded
            Integers of the same type and shape.

        Raises
        ------
        CodecError
            If the two differ in type or shape, or are not integers.
        """
        if original.dtype != decoded.dtype or original.shape != decoded.shape:
            raise CodecError(
                f"{original.dtype} {original.shape} cannot be compared with "
                f"{decoded.dtype} {decoded.shape}"
            )
        if original.dtype.kind not in "ui":
            raise CodecError(f"a deviation is of integers, not of {original.dtype}")
        peak = float(np.iinfo(original.dtype).max)
        if not original.size:
            return cls(largest=0.0, mean_square=0.0, peak=peak)
        wide = np.dtype("f4" if original.itemsize <= 2 else "f8")
        flat = np.abs(np.subtract(original, decoded, dtype=wide)).ravel()
        return cls(
            largest=float(flat.max()),
            mean_square=float(np.square(flat, dtype=np.float64).mean()),
            peak=peak,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """A plane or tile as a stream of bytes, with all that it takes to make an array of it again.

    Attributes
    ----------
    codec
        Id of the codec that made the stream.
    package
        What to install to have that codec, as ``"polystore[codecs]"``.
    dtype, shape
        Of the array, as it was encoded and as it comes back; announced, not proved by the stream.
    stream
        The bytes; one dimension, contiguous, of bytes, read-only.
    parameters
        What the codec was told, as ``{"quality": 85}``, and what it needs to decode.
    lossy
        Whether what comes back may differ.
    deviation
        By how much it does, where that was measured.
    crc32
        Of the stream, as `zlib.crc32` gives it; None where nobody checks, as for raw bytes.
    """

    codec: str
    package: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    stream: memoryview
    parameters: Mapping[str, Parameter] = field(default_factory=lambda: MappingProxyType({}))
    lossy: bool = False
    deviation: Deviation | None = None
    crc32: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the array, which decoding will take."""
        return math.prod(self.shape) * self.dtype.itemsize


@runtime_checkable
class Codec(Protocol):
    """Makes a stream of bytes of one plane or tile, and the array again of such a stream.

    Called by whoever encodes or decodes, from that thread; several threads may use one codec at
    the same time unless it says otherwise. `polystore.testing.CodecTests` is what it has to pass.
    """

    @property
    def id(self) -> str:
        """What its streams are marked with on the wire; small letters, digits, ``-`` and ``.``.

        Never used again for another format.
        """
        ...

    @property
    def package(self) -> str:
        """What to install to have it; the error at an end without it says so."""
        ...

    @property
    def lossy(self) -> bool:
        """Whether what comes back may differ from what was encoded."""
        ...

    def takes(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Say whether arrays of this type and shape can be encoded."""
        ...

    def encode(self, array: NDArray[Any]) -> Encoded:
        """Encode; the array may be in any order of bytes and memory, and is not changed.

        Raises
        ------
        CodecError
            If the array is not one that it takes.
        MissingExtraError
            If the library that does the work is not installed.
        """
        ...

    def decode(self, encoded: Encoded) -> NDArray[Any]:
        """Make a read-only array of the announced type and shape.

        What the stream says about its own size is compared with what is announced before memory
        is taken for it. The announced size itself is checked by `Codecs` and by `decode`.

        Raises
        ------
        StreamError
            If the stream is cut off, damaged, or not of what is announced.
        MissingExtraError
            If the library that does the work is not installed.
        """
        ...


def check_id(codec_id: str) -> None:
    """Refuse what cannot be the id of a codec.

    Raises
    ------
    CodecError
        If it is not of small letters, digits, ``-`` and ``.``, 64 at most.
    """
    if not _ID.fullmatch(codec_id):
        raise CodecError(
            f"{codec_id!r} cannot be the id of a codec: use small letters, digits, - and ., "
            "64 at most"
        )


def new_encoded(
    codec: Codec,
    array: NDArray[Any],
    stream: bytes | bytearray | memoryview,
    parameters: Mapping[str, Parameter] | None = None,
    deviation: Deviation | None = None,
) -> Encoded:
    """Put together what `codec` made of `array`."""
    return Encoded(
        codec=codec.id,
        package=codec.package,
        dtype=array.dtype,
        shape=array.shape,
        stream=memoryview(stream).toreadonly(),
        parameters=MappingProxyType(dict(parameters or {})),
        lossy=codec.lossy,
        deviation=deviation,
        crc32=None if codec.id == RAW else zlib.crc32(stream),
    )


def new_lossy(
    codec: Codec,
    array: NDArray[Any],
    stream: bytes | bytearray | memoryview,
    parameters: Mapping[str, Parameter],
    *,
    measured: bool,
) -> Encoded:
    """Put together what a lossy codec made; if `measured`, with how far the result is off."""
    encoded = new_encoded(codec, array, stream, parameters)
    if not measured:
        return encoded
    return replace(encoded, deviation=Deviation.between(array, codec.decode(encoded)))


def is_listed(dtype: np.dtype[Any]) -> bool:
    """Say whether payloads may hold elements of this type."""
    return dtype.names is None and dtype.kind + str(dtype.itemsize) in DTYPES


def check_taken(codec: Codec, array: NDArray[Any]) -> None:
    """Refuse an array that `codec` does not take.

    Raises
    ------
    CodecError
        If it does not.
    """
    if not codec.takes(array.dtype, array.shape):
        raise CodecError(
            f"the codec {codec.id!r} takes no array of {array.dtype} and shape {array.shape}: "
            "choose another, or send it raw"
        )


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Make an array read-only and return it."""
    array.flags.writeable = False
    return array


def unknown_codec(codec_id: str, package: str, known: Iterable[str]) -> UnknownCodecError:
    """Make the error that says what to install or to pass."""
    there = ", ".join(sorted(known)) or "none"
    source = f"install {package} and add its codec" if package else "ask the sender what it is of"
    return UnknownCodecError(
        f"the array is encoded with {codec_id!r}; the codecs here are: {there}. Pass "
        f"codecs=standard_codecs() of polystore.codecs, or {source}"
    )
