"""A payload as a small header and the buffers it is about, and back.

The header is one msgpack map that says everything there is to know before a buffer is looked at:
version, kind, arrays, components, units, provenance. The page "Payloads" of the protocol describes
it so that it can be written in another language. A header of another version is refused by its
number, not read as far as it goes; what an older version can say is written as that version, so
that its readers go on reading it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from polystore._components import Components
from polystore._errors import PayloadError, WireHeaderError
from polystore._kinds import Kind
from polystore._payload import Data, Payload
from polystore._provenance import Provenance
from polystore.regions._regions import Regions
from polystore.wire._arrays import (
    read_array,
    read_table,
    read_texts,
    write_array,
    write_table,
    write_texts,
)
from polystore.wire._codings import Coding, coded, decoded, to_coding, to_entry
from polystore.wire._header import (
    ARRAYS_MOST,
    HEADER_MOST_BYTES,
    PAYLOAD_MOST_BYTES,
    TEXT,
    ArrayEntry,
    Buffer,
    Header,
    MadeEntry,
    check_buffers,
    least_version,
    read_header,
    write_header,
)
from polystore.wire._regions import read_regions, write_regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polystore._coding import Codec
    from polystore.codecs import Codecs

__all__ = ["coding_of", "decode", "encode"]


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
            arrays: tuple[ArrayEntry, ...] = (write_array("data", data, buffers),)
        else:
            if data.nbytes > PAYLOAD_MOST_BYTES:
                raise _too_large(data.nbytes)
            stream = encoded.stream
            buffers.append(stream)
            entry = to_entry(encoded)
            arrays = (ArrayEntry("data", data.dtype.str, data.shape, (stream.nbytes,), entry),)
            lossy = lossy or encoded.lossy
    elif isinstance(data, Regions):
        arrays = write_regions(data, buffers)
    elif isinstance(data, str):
        arrays = (write_texts("data", (data,), buffers),)
    else:
        arrays = write_table(payload.table, buffers)
    made = None if payload.provenance is None else _made(payload.provenance)
    header = write_header(
        Header(
            v=least_version(payload.kind, arrays, lossy=lossy, made=made),
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
            made=made,
        )
    )
    if len(header) > HEADER_MOST_BYTES or len(arrays) > ARRAYS_MOST:
        raise PayloadError(
            f"{len(arrays)} arrays need a header of {len(header)} bytes; at most {ARRAYS_MOST} "
            f"arrays and {HEADER_MOST_BYTES} bytes can be sent: send fewer columns at a time, or "
            "name fewer sources"
        )
    if (size := sum(buffer.nbytes for buffer in buffers)) > PAYLOAD_MOST_BYTES:
        raise _too_large(size)
    return header, buffers


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
    fields = read_header(header)
    views = check_buffers(fields, buffers)
    made = fields.made
    try:
        return Payload(
            data=_data(fields, views, codecs),
            components=Components.from_dict(dict(fields.components)),
            kind=fields.kind,
            name=fields.name,
            axes=fields.axes,
            pixel_um=fields.pixel_um,
            origin_um=fields.origin_um,
            units=fields.units,
            channel_name=fields.channel_name,
            contrast_limits=fields.contrast_limits,
            run=fields.run,
            provenance=None if made is None else _provenance(made),
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
    fields = read_header(header)
    for array in fields.arrays:
        if array.codec is not None:
            return to_coding(array.codec, stream_nbytes=array.sizes[0], nbytes=array.nbytes)
    return None


def _data(fields: Header, views: list[memoryview], codecs: Codecs | None) -> Data:
    match fields.kind:
        case Kind.IMAGE | Kind.LABELS | Kind.POINTS:
            array = _only(fields)
            if array.codec is not None:
                dtype = np.dtype(array.dtype)
                return decoded(array.codec, dtype, array.shape, views[0], codecs)
            return read_array(array, views[0])
        case Kind.TEXT:
            array = _only(fields)
            if array.dtype != TEXT or array.shape != (1,):
                raise WireHeaderError("text has to be one array of one text")
            return read_texts(array, views[0], views[1])[0]
        case Kind.REGIONS:
            return read_regions(fields.arrays, views)
        case Kind.TABLE:
            return read_table(fields.arrays, iter(views))


def _only(fields: Header) -> ArrayEntry:
    if len(fields.arrays) != 1 or fields.arrays[0].name != "data":
        raise WireHeaderError(f"{fields.kind} has to be one array called data")
    return fields.arrays[0]


def _made(provenance: Provenance) -> MadeEntry:
    return MadeEntry(sources=provenance.sources, software=provenance.software)


def _provenance(made: MadeEntry) -> Provenance:
    return Provenance(sources=made.sources, software=made.software)


def _too_large(nbytes: int) -> PayloadError:
    return PayloadError(
        f"the payload is {nbytes} bytes and at most {PAYLOAD_MOST_BYTES} can be sent: "
        "send it plane by plane"
    )
