"""A payload as a small header and the buffers it is about, and back.

The header is one msgpack map. It says everything there is to know before a buffer is looked at::

    v           1; 2 where an array is encoded or the payload is lossy
    kind        "image", "labels", "points", "regions", "table" or "text"
    arrays      one entry for each array: {name, dtype, shape, sizes}
    components  {plate, step, well, field, channel, z, t}, those that apply
    name, axes, pixel_um, origin_um, units, channel_name, contrast_limits, run, lossy
                left out where empty, unknown or false

``dtype`` is the array's type in numpy's short form with its byte order, as ``"<u2"``; ``sizes``
are the lengths in bytes of the buffers that hold it, which follow each other in the order of
``arrays``. One buffer holds the elements in C order. Text is ``dtype`` ``"text"`` with two
buffers: ``shape[0] + 1`` offsets (``<i8``) and the UTF-8 bytes they point into. Image, labels and
points are one array called ``data``; regions are ``vertices``, ``offsets`` and ``labels``; each
column of a table is an array of its own name.

The array of an image or of labels may be encoded. Its entry then has ``codec``, a map::

    id          of the codec, as "jpegxl"
    package     what provides it, as "polystore[codecs]"
    crc32       of the encoded bytes
    lossy       true where what comes back may differ; else left out
    parameters  what the codec was told and needs, names to numbers or text
    deviation   {largest, mean_square, peak}, where that was measured

``dtype`` and ``shape`` are those of the array as it comes back, ``sizes`` has the length of the
encoded bytes.

A header of another version is refused by its number, not read as far as it goes. What version 1
can say is written as version 1, so that its readers go on reading it.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
import numpy as np

from polystore._components import Components, ComponentValue
from polystore._errors import (
    PayloadError,
    WireHeaderError,
    WireSizeError,
    WireVersionError,
)
from polystore._kinds import Kind
from polystore._payload import DTYPES, Column, Data, Payload
from polystore._regions import Regions
from polystore._wire_codecs import Coding, CodingEntry, coded, decoded, to_coding, to_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from polystore._coding import Codec
    from polystore.codecs import Codecs

__all__ = [
    "HEADER_MOST_BYTES",
    "PAYLOAD_MOST_BYTES",
    "WIRE_VERSION",
    "coding_of",
    "decode",
    "encode",
]

WIRE_VERSION = 2
"""Number of the newest format that this module writes and reads."""
HEADER_MOST_BYTES = 64 * 1024
"""Longest header that is written or read."""
PAYLOAD_MOST_BYTES = 4 * 1024**3
"""Largest payload, all buffers together."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_OLDEST = 1
_ORDERS = frozenset("<>|")
_TEXT = "text"
_REGIONS = (("vertices", "f4"), ("offsets", "i8"), ("labels", "i8"))

_Size = Annotated[int, msgspec.Meta(ge=0, le=PAYLOAD_MOST_BYTES)]
_Name = Annotated[str, msgspec.Meta(max_length=4096)]


class _Array(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    name: _Name
    dtype: Annotated[str, msgspec.Meta(max_length=4)]
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=8)]
    sizes: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=2)]
    codec: CodingEntry | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, once decoded."""
        return math.prod(self.shape) * int(self.dtype[2:])


class _Header(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    v: int
    kind: Kind
    arrays: Annotated[tuple[_Array, ...], msgspec.Meta(max_length=1024)]
    components: dict[str, str | int] = {}
    name: _Name = ""
    axes: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)] = ()
    pixel_um: tuple[float, float] | None = None
    origin_um: tuple[float, float] | None = None
    units: _Name | None = None
    channel_name: _Name | None = None
    contrast_limits: tuple[float, float] | None = None
    run: _Name | None = None
    lossy: bool = False

    @property
    def least_version(self) -> int:
        """The oldest version that can say this."""
        return 2 if self.lossy or any(array.codec for array in self.arrays) else _OLDEST


class _Version(msgspec.Struct, frozen=True):
    v: int


_ENCODER = msgspec.msgpack.Encoder()
_VERSION = msgspec.msgpack.Decoder(_Version)
_HEADER = msgspec.msgpack.Decoder(_Header)


def encode(
    payload: Payload, *, codec: Codec | None = None, preview: bool = False
) -> tuple[bytes, list[memoryview]]:
    """Write a payload as a header and buffers.

    Parameters
    ----------
    payload
        What to write.
    codec
        Encodes the array of an image or of labels; None leaves it as it is. What does not get
        smaller is left as it is too, and so is every other kind; the header says which.
    preview
        Whether the codec may be lossy.

    Returns
    -------
    tuple
        The header, and read-only views of the payload's own memory, each of one dimension and of
        bytes. Only arrays that are not C-contiguous are copied, and text is encoded.

    Raises
    ------
    PayloadError
        If the header would be longer than `HEADER_MOST_BYTES` or the buffers longer than
        `PAYLOAD_MOST_BYTES`.
    CodecError
        If the codec does not take the array, or is lossy without `preview` or for labels.
    MissingExtraError
        If the library that the codec needs is not installed.
    """
    buffers: list[memoryview] = []
    data = payload.data
    lossy = payload.lossy
    if isinstance(data, np.ndarray):
        encoded = None if codec is None else coded(payload, codec, preview=preview)
        if encoded is None:
            arrays: tuple[_Array, ...] = (_array("data", data, buffers),)
        else:
            if data.nbytes > PAYLOAD_MOST_BYTES:
                raise _too_large(data.nbytes)
            stream = encoded.stream
            buffers.append(stream)
            entry = to_entry(encoded)
            arrays = (_Array("data", data.dtype.str, data.shape, (stream.nbytes,), entry),)
            lossy = lossy or encoded.lossy
    elif isinstance(data, Regions):
        arrays = (
            _array("vertices", data.vertices, buffers),
            _array("offsets", data.offsets, buffers),
            _array("labels", data.labels, buffers),
        )
    elif isinstance(data, str):
        arrays = (_texts("data", (data,), buffers),)
    else:
        arrays = tuple(
            _array(name, column, buffers)
            if isinstance(column, np.ndarray)
            else _texts(name, column, buffers)
            for name, column in data.items()
        )
    coded_or_lossy = lossy or any(array.codec is not None for array in arrays)
    header = _ENCODER.encode(
        _Header(
            v=WIRE_VERSION if coded_or_lossy else _OLDEST,
            kind=payload.kind,
            arrays=arrays,
            components=payload.components.to_dict(),
            name=payload.name,
            axes=payload.axes,
            pixel_um=payload.pixel_um,
            origin_um=payload.origin_um,
            units=payload.units,
            channel_name=payload.channel_name,
            contrast_limits=payload.contrast_limits,
            run=payload.run,
            lossy=lossy,
        )
    )
    if len(header) > HEADER_MOST_BYTES or len(arrays) > 1024:
        raise PayloadError(
            f"{len(arrays)} arrays need a header of {len(header)} bytes; at most 1024 arrays and "
            f"{HEADER_MOST_BYTES} bytes can be sent: send fewer columns at a time"
        )
    if (size := sum(buffer.nbytes for buffer in buffers)) > PAYLOAD_MOST_BYTES:
        raise _too_large(size)
    return header, buffers


def _too_large(nbytes: int) -> PayloadError:
    return PayloadError(
        f"the payload is {nbytes} bytes and at most {PAYLOAD_MOST_BYTES} can be sent: "
        "send it plane by plane"
    )


def decode(header: Buffer, buffers: Sequence[Buffer], *, codecs: Codecs | None = None) -> Payload:
    """Read a payload from a header and buffers.

    Everything the header says is checked before an array is made. Arrays are read-only views of
    `buffers`, which have to stay as they are for as long as the payload is used; text is copied.

    Parameters
    ----------
    header
        As `encode` gave it.
    buffers
        As many, in the same order; each has to be contiguous.
    codecs
        Those of this end, as `polystore.codecs.standard_codecs` gives them; without, encoded
        arrays are refused.

    Raises
    ------
    WireVersionError
        If the header is of another version.
    WireHeaderError
        If the header is no header, or contradicts itself.
    WireSizeError
        If the buffers are not as many or as long as the header says, or what was encoded would be
        larger than is allowed.
    UnknownCodecError
        If an array is encoded, and its codec is not here.
    StreamError
        If an encoded array is cut off, damaged or not what the header says.
    BasePlaneError
        If it is a difference to a plane that is not here.
    MissingExtraError
        If the library that a codec needs is not installed.
    """
    fields = _read_header(header)
    views = _read_buffers(fields, buffers)
    try:
        return Payload(
            data=_data(fields, views, codecs),
            components=Components.from_dict(_component_values(fields)),
            kind=fields.kind,
            name=fields.name,
            axes=fields.axes,
            pixel_um=fields.pixel_um,
            origin_um=fields.origin_um,
            units=fields.units,
            channel_name=fields.channel_name,
            contrast_limits=fields.contrast_limits,
            run=fields.run,
            lossy=fields.lossy,
        )
    except PayloadError as error:
        raise WireHeaderError(f"the header describes no payload: {error}") from error


def coding_of(header: Buffer) -> Coding | None:
    """Say how the array of a payload was encoded, from its header alone.

    Returns
    -------
    Coding or None
        None where nothing is encoded.

    Raises
    ------
    WireVersionError
        If the header is of another version.
    WireHeaderError
        If the header is no header, or contradicts itself.
    """
    fields = _read_header(header)
    for array in fields.arrays:
        _check_array(array, fields.kind)
        if array.codec is not None:
            return to_coding(array.codec, stream_nbytes=array.sizes[0], nbytes=array.nbytes)
    return None


def _array(name: str, array: NDArray[Any], buffers: list[memoryview]) -> _Array:
    flat = array.reshape(-1) if array.flags.c_contiguous else np.ascontiguousarray(array).ravel()
    # a view of bytes: the buffer protocol knows no big-endian element and no empty cast
    view = flat.view(np.uint8).data.toreadonly()
    buffers.append(view)
    return _Array(name, array.dtype.str, array.shape, (view.nbytes,))


def _texts(name: str, texts: Sequence[str], buffers: list[memoryview]) -> _Array:
    try:
        parts = [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise PayloadError(f"{name!r} holds text that is not Unicode: {error}") from error
    offsets = np.zeros(len(parts) + 1, dtype="<i8")
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    joined = b"".join(parts)
    buffers.append(offsets.view(np.uint8).data.toreadonly())
    buffers.append(memoryview(joined))
    return _Array(name, _TEXT, (len(parts),), (offsets.nbytes, len(joined)))


def _read_header(header: Buffer) -> _Header:
    if len(header) > HEADER_MOST_BYTES:
        raise WireHeaderError(
            f"the header has {len(header)} bytes and may have {HEADER_MOST_BYTES}"
        )
    try:
        version = _VERSION.decode(header).v
        if not _OLDEST <= version <= WIRE_VERSION:
            raise WireVersionError(
                f"the header is of version {version}, this is version {WIRE_VERSION}: "
                "use the same polystore at both ends"
            )
        fields = _HEADER.decode(header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireHeaderError(f"the header cannot be read: {error}") from error
    if fields.least_version > version:
        raise WireHeaderError(
            f"the header is of version {version} and says what only {fields.least_version} can"
        )
    if not fields.lossy and any(array.codec and array.codec.lossy for array in fields.arrays):
        raise WireHeaderError("an array is encoded with loss, and the header does not say so")
    return fields


def _read_buffers(fields: _Header, buffers: Sequence[Buffer]) -> list[memoryview]:
    sizes: list[int] = []
    for array in fields.arrays:
        _check_array(array, fields.kind)
        sizes.extend(array.sizes)
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


def _check_array(array: _Array, kind: Kind) -> None:
    what = f"array {array.name!r}"
    if array.codec is not None:
        array.codec.check(kind)
    if array.dtype == _TEXT:
        if array.codec is not None:
            raise WireHeaderError(f"{what} is text, which cannot be encoded")
        if len(array.shape) != 1 or len(array.sizes) != 2:
            raise WireHeaderError(f"{what} is text: it has one dimension and two buffers")
        if array.sizes[0] != (array.shape[0] + 1) * 8:
            raise WireHeaderError(f"{what}: {array.sizes[0]} bytes of offsets for {array.shape[0]}")
        return
    order, element = array.dtype[:1], array.dtype[1:]
    if order not in _ORDERS or element not in DTYPES or (order == "|") != (element[-1] == "1"):
        raise WireHeaderError(f"{what} is of type {array.dtype!r}, which is not allowed")
    if len(array.sizes) != 1:
        raise WireHeaderError(f"{what} has {len(array.sizes)} buffers instead of one")
    if array.codec is not None:
        if not array.sizes[0]:
            raise WireHeaderError(f"{what} is encoded in no bytes")
        return
    needed = math.prod(array.shape) * int(element[1:])
    if needed != array.sizes[0]:
        raise WireHeaderError(
            f"{what} of shape {array.shape} and type {array.dtype} needs {needed} bytes, "
            f"{array.sizes[0]} are announced"
        )


def _data(fields: _Header, views: list[memoryview], codecs: Codecs | None) -> Data:
    match fields.kind:
        case Kind.IMAGE | Kind.LABELS | Kind.POINTS:
            array = _only(fields)
            if array.dtype == _TEXT:
                raise WireHeaderError(f"{fields.kind} cannot be text")
            if array.codec is not None:
                dtype = np.dtype(array.dtype)
                return decoded(array.codec, dtype, array.shape, views[0], codecs)
            return _view(array, views[0])
        case Kind.TEXT:
            array = _only(fields)
            if array.dtype != _TEXT or array.shape != (1,):
                raise WireHeaderError("text has to be one array of one text")
            return _read_texts(array, views[0], views[1])[0]
        case Kind.REGIONS:
            if [(array.name, array.dtype[1:]) for array in fields.arrays] != list(_REGIONS):
                raise WireHeaderError("regions have to be vertices, offsets and labels")
            vertices, offsets, labels = map(_view, fields.arrays, views)
            return Regions(vertices, offsets, labels)
        case Kind.TABLE:
            columns: dict[str, Column] = {}
            rest = iter(views)
            for array in fields.arrays:
                if array.name in columns:
                    raise WireHeaderError(f"column {array.name!r} is there twice")
                columns[array.name] = (
                    _read_texts(array, next(rest), next(rest))
                    if array.dtype == _TEXT
                    else _view(array, next(rest))
                )
            return columns


def _only(fields: _Header) -> _Array:
    if len(fields.arrays) != 1 or fields.arrays[0].name != "data":
        raise WireHeaderError(f"{fields.kind} has to be one array called data")
    return fields.arrays[0]


def _view(array: _Array, view: memoryview) -> NDArray[Any]:
    try:
        if view.nbytes:
            made = np.frombuffer(view, dtype=np.dtype(array.dtype)).reshape(array.shape)
        else:
            made = np.zeros(array.shape, dtype=np.dtype(array.dtype))
    except ValueError as error:
        # an announced shape of no elements may still be larger than numpy can express
        raise WireHeaderError(f"array {array.name!r} cannot be of shape {array.shape}") from error
    made.flags.writeable = False
    return made


def _read_texts(array: _Array, offsets: memoryview, joined: memoryview) -> tuple[str, ...]:
    ends = np.frombuffer(offsets, dtype="<i8").tolist()
    if ends[0] != 0 or ends[-1] != joined.nbytes or any(b < a for a, b in pairwise(ends)):
        raise WireSizeError(f"array {array.name!r}: offsets do not divide {joined.nbytes} bytes")
    try:
        return tuple(str(joined[start:end], "utf-8") for start, end in pairwise(ends))
    except UnicodeDecodeError as error:
        raise WireHeaderError(f"array {array.name!r} is not UTF-8: {error}") from error


def _component_values(fields: _Header) -> dict[str, ComponentValue]:
    if len(fields.components) > 16:
        raise WireHeaderError(f"{len(fields.components)} components are too many")
    return dict(fields.components)
