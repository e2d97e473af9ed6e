"""A payload as a small header and the buffers it is about, and back.

The header is one msgpack map. It says everything there is to know before a buffer is looked at::

    v           1
    kind        "image", "labels", "points", "regions", "table" or "text"
    arrays      one entry for each array: {name, dtype, shape, sizes}
    components  {plate, step, well, field, channel, z, t}, those that apply
    name, axes, pixel_um, origin_um, units, channel_name, contrast_limits, run
                left out where empty or unknown

``dtype`` is the array's type in numpy's short form with its byte order, as ``"<u2"``; ``sizes``
are the lengths in bytes of the buffers that hold it, which follow each other in the order of
``arrays``. One buffer holds the elements in C order. Text is ``dtype`` ``"text"`` with two
buffers: ``shape[0] + 1`` offsets (``<i8``) and the UTF-8 bytes they point into. Image, labels and
points are one array called ``data``; regions are ``vertices``, ``offsets`` and ``labels``; each
column of a table is an array of its own name.

A header of another version is refused by its number, not read as far as it goes.
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["HEADER_MOST_BYTES", "PAYLOAD_MOST_BYTES", "WIRE_VERSION", "decode", "encode"]

WIRE_VERSION = 1
"""Number of the format that this module writes and reads."""
HEADER_MOST_BYTES = 64 * 1024
"""Longest header that is written or read."""
PAYLOAD_MOST_BYTES = 4 * 1024**3
"""Largest payload, all buffers together."""

Buffer: TypeAlias = bytes | bytearray | memoryview

_ORDERS = frozenset("<>|")
_TEXT = "text"
_REGIONS = (("vertices", "f4"), ("offsets", "i8"), ("labels", "i8"))

_Size = Annotated[int, msgspec.Meta(ge=0, le=PAYLOAD_MOST_BYTES)]
_Name = Annotated[str, msgspec.Meta(max_length=4096)]


class _Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    dtype: Annotated[str, msgspec.Meta(max_length=4)]
    shape: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=8)]
    sizes: Annotated[tuple[_Size, ...], msgspec.Meta(max_length=2)]


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


class _Version(msgspec.Struct, frozen=True):
    v: int


_ENCODER = msgspec.msgpack.Encoder()
_VERSION = msgspec.msgpack.Decoder(_Version)
_HEADER = msgspec.msgpack.Decoder(_Header)


def encode(payload: Payload) -> tuple[bytes, list[memoryview]]:
    """Write a payload as a header and buffers.

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
    """
    buffers: list[memoryview] = []
    data = payload.data
    if isinstance(data, np.ndarray):
        arrays: tuple[_Array, ...] = (_array("data", data, buffers),)
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
    header = _ENCODER.encode(
        _Header(
            v=WIRE_VERSION,
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
        )
    )
    if len(header) > HEADER_MOST_BYTES or len(arrays) > 1024:
        raise PayloadError(
            f"{len(arrays)} arrays need a header of {len(header)} bytes; at most 1024 arrays and "
            f"{HEADER_MOST_BYTES} bytes can be sent: send fewer columns at a time"
        )
    if (size := sum(buffer.nbytes for buffer in buffers)) > PAYLOAD_MOST_BYTES:
        raise PayloadError(
            f"the payload is {size} bytes and at most {PAYLOAD_MOST_BYTES} can be sent: "
            "send it plane by plane"
        )
    return header, buffers


def decode(header: Buffer, buffers: Sequence[Buffer]) -> Payload:
    """Read a payload from a header and buffers.

    Everything the header says is checked before an array is made. Arrays are read-only views of
    `buffers`, which have to stay as they are for as long as the payload is used; text is copied.

    Parameters
    ----------
    header
        As `encode` gave it.
    buffers
        As many, in the same order; each has to be contiguous.

    Raises
    ------
    WireVersionError
        If the header is of another version.
    WireHeaderError
        If the header is no header, or contradicts itself.
    WireSizeError
        If the buffers are not as many or as long as the header says.
    """
    fields = _read_header(header)
    views = _read_buffers(fields, buffers)
    try:
        return Payload(
            data=_data(fields, views),
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
        )
    except PayloadError as error:
        raise WireHeaderError(f"the header describes no payload: {error}") from error


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
        if version != WIRE_VERSION:
            raise WireVersionError(
                f"the header is of version {version}, this is version {WIRE_VERSION}: "
                "use the same polystore at both ends"
            )
        return _HEADER.decode(header)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireHeaderError(f"the header cannot be read: {error}") from error


def _read_buffers(fields: _Header, buffers: Sequence[Buffer]) -> list[memoryview]:
    sizes: list[int] = []
    for array in fields.arrays:
        _check_array(array)
        sizes.extend(array.sizes)
    if sum(sizes) > PAYLOAD_MOST_BYTES:
        raise WireSizeError(f"{sum(sizes)} bytes are announced, {PAYLOAD_MOST_BYTES} are allowed")
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


def _check_array(array: _Array) -> None:
    what = f"array {array.name!r}"
    if array.dtype == _TEXT:
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
    needed = math.prod(array.shape) * int(element[1:])
    if needed != array.sizes[0]:
        raise WireHeaderError(
            f"{what} of shape {array.shape} and type {array.dtype} needs {needed} bytes, "
            f"{array.sizes[0]} are announced"
        )


def _data(fields: _Header, views: list[memoryview]) -> Data:
    match fields.kind:
        case Kind.IMAGE | Kind.LABELS | Kind.POINTS:
            array = _only(fields)
            if array.dtype == _TEXT:
                raise WireHeaderError(f"{fields.kind} cannot be text")
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
