"""The header of a payload: what it says, and that it says nothing that cannot be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from polystore._dtypes import DTYPES
from polystore._errors import WireHeaderError, WireSizeError, WireVersionError
from polystore._kinds import Kind
from polystore._provenance import SOURCES_MOST
from polystore._typed import msgpack_decoder
from polystore.wire._codings import CodingEntry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ARRAYS_MOST",
    "HEADER_MOST_BYTES",
    "OLDEST_VERSION",
    "PAYLOAD_MOST_BYTES",
    "PLAIN_REGIONS",
    "TEXT",
    "WIRE_VERSION",
    "ArrayEntry",
    "Buffer",
    "Header",
    "MadeEntry",
    "check_buffers",
    "least_version",
    "read_header",
    "write_header",
]

WIRE_VERSION = 3
"""Number of the newest format that this module writes and reads."""
OLDEST_VERSION = 1
"""Number of the oldest."""
HEADER_MOST_BYTES = 64 * 1024
"""Longest header that is written or read."""
PAYLOAD_MOST_BYTES = 4 * 1024**3
"""Largest payload, all buffers together."""
ARRAYS_MOST = 1024
"""Most arrays of one payload."""
TEXT = "text"
"""Type of an array of text."""
PLAIN_REGIONS = (("vertices", "f4"), ("offsets", "i8"), ("labels", "i8"))
"""Arrays of polygons of one ring each, as versions 1 and 2 know them."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_ORDERS = frozenset("<>|")

_Size = Annotated[int, msgspec.Meta(ge=0, le=PAYLOAD_MOST_BYTES)]
_Name = Annotated[str, msgspec.Meta(max_length=4096)]
_Source = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class ArrayEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One array of a payload in its header."""

    name: _Name
    dtype: Annotated[str, msgspec.Meta(max_length=4)]
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=8)]
    sizes: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=3)]
    codec: CodingEntry | None = None
    unit: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    missing: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, once decoded."""
        return math.prod(self.shape) * int(self.dtype[2:])

    def check(self, kind: Kind) -> None:
        """Refuse an array that contradicts itself.

        Raises
        ------
        WireHeaderError
            If it does, or is of a type that is not allowed.
        """
        what = f"array {self.name!r}"
        if self.codec is not None:
            self.codec.check(kind)
        if (self.missing or self.unit is not None) and kind not in (Kind.TABLE, Kind.REGIONS):
            raise WireHeaderError(f"{what} is no column: it has no unit and misses no values")
        sizes = self.sizes
        if self.missing:
            rows = self.shape[0] if len(self.shape) == 1 else -1
            if not sizes or sizes[-1] != (rows + 7) // 8 or rows < 0:
                raise WireHeaderError(f"{what} needs a bit for each row that may be missing")
            sizes = sizes[:-1]
        if self.dtype == TEXT:
            if self.codec is not None:
                raise WireHeaderError(f"{what} is text, which cannot be encoded")
            if len(self.shape) != 1 or len(sizes) != 2:
                raise WireHeaderError(f"{what} is text: it has one dimension and two buffers")
            if sizes[0] != (self.shape[0] + 1) * 8:
                raise WireHeaderError(f"{what}: {sizes[0]} bytes of offsets for {self.shape[0]}")
            return
        order, element = self.dtype[:1], self.dtype[1:]
        if order not in _ORDERS or element not in DTYPES or (order == "|") != (element[-1] == "1"):
            raise WireHeaderError(f"{what} is of type {self.dtype!r}, which is not allowed")
        if len(sizes) != 1:
            raise WireHeaderError(f"{what} has {len(sizes)} buffers instead of one")
        if self.codec is not None:
            if not sizes[0]:
                raise WireHeaderError(f"{what} is encoded in no bytes")
            return
        needed = math.prod(self.shape) * int(element[1:])
        if needed != sizes[0]:
            raise WireHeaderError(
                f"{what} of shape {self.shape} and type {self.dtype} needs {needed} bytes, "
                f"{sizes[0]} are announced"
            )


class MadeEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A `Provenance` in a header."""

    sources: Annotated[tuple[_Source, ...], msgspec.Meta(max_length=SOURCES_MOST)] = ()
    software: _Source | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Everything that there is to know before a buffer is looked at."""

    v: int
    kind: Kind
    arrays: Annotated[tuple[ArrayEntry, ...], msgspec.Meta(max_length=ARRAYS_MOST)]
    components: Annotated[dict[str, str | int], msgspec.Meta(max_length=16)] = {}
    name: _Name = ""
    axes: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = ()
    pixel_um: tuple[float, float] | None = None
    origin_um: tuple[float, float] | None = None
    units: _Name | None = None
    channel_name: _Name | None = None
    contrast_limits: tuple[float, float] | None = None
    run: _Name | None = None
    lossy: bool = False
    made: MadeEntry | None = None


class _Version(msgspec.Struct, frozen=True):
    v: int


_ENCODER = msgspec.msgpack.Encoder()
_VERSION: msgspec.msgpack.Decoder[_Version] = msgpack_decoder(_Version)
_HEADER: msgspec.msgpack.Decoder[Header] = msgpack_decoder(Header)


def least_version(
    kind: Kind, arrays: Sequence[ArrayEntry], *, lossy: bool, made: MadeEntry | None
) -> int:
    """Give the oldest version that can say this."""
    if (
        made is not None
        or (kind is Kind.REGIONS and len(arrays) > len(PLAIN_REGIONS))
        or any(array.missing or array.unit is not None for array in arrays)
    ):
        return 3
    if lossy or any(array.codec is not None for array in arrays):
        return 2
    return OLDEST_VERSION


def write_header(header: Header) -> bytes:
    """Write a header."""
    return _ENCODER.encode(header)


def read_header(header: Buffer) -> Header:
    """Read a header, and check all that can be checked without the buffers.

    Raises
    ------
    WireVersionError
        If it is of another version.
    WireHeaderError
        If it is no header, or contradicts itself.
    """
    if len(header) > HEADER_MOST_BYTES:
        raise WireHeaderError(
            f"the header has {len(header)} bytes and may have {HEADER_MOST_BYTES}"
        )
    try:
        version = _VERSION.decode(header).v
        if not OLDEST_VERSION <= version <= WIRE_VERSION:
            raise WireVersionError(
                f"the header is of version {version}, this is version {WIRE_VERSION}: "
                "use the same polystore at both ends"
            )
        fields = _HEADER.decode(header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireHeaderError(f"the header cannot be read: {error}") from error
    least = least_version(fields.kind, fields.arrays, lossy=fields.lossy, made=fields.made)
    if least > version:
        raise WireHeaderError(f"the header is of version {version} and says what only {least} can")
    if not fields.lossy and any(array.codec and array.codec.lossy for array in fields.arrays):
        raise WireHeaderError("an array is encoded with loss, and the header does not say so")
    for array in fields.arrays:
        array.check(fields.kind)
    return fields


def check_buffers(fields: Header, buffers: Sequence[Buffer]) -> list[memoryview]:
    """Compare buffers with what the header says of them.

    Raises
    ------
    WireSizeError
        If they are not as many or as long, or too long together.
    """
    sizes = [size for array in fields.arrays for size in array.sizes]
    wanted = sum(sizes) + sum(array.nbytes for array in fields.arrays if array.codec)
    if wanted > PAYLOAD_MOST_BYTES:
        raise WireSizeError(f"{wanted} bytes are announced, {PAYLOAD_MOST_BYTES} are allowed")
    if len(buffers) != len(sizes):
        raise WireSizeError(f"{len(sizes)} buffers are announced, {len(buffers)} came")
    views: list[memoryview] = []
    for number, (buffer, size) in enumerate(zip(buffers, sizes, strict=True)):
        view = memoryview(buffer)
        if view.nbytes != size:
            raise WireSizeError(
                f"buffer {number} is announced with {size} bytes, {view.nbytes} came"
            )
        if not view.c_contiguous:
            raise WireSizeError(f"buffer {number} is not contiguous")
        views.append(view)
    return views
