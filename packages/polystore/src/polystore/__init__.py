"""What scientific arrays mean, where they are kept, and how a stream of them becomes a view."""

from __future__ import annotations

from polystore._components import COMPONENTS, Components, ComponentValue
from polystore._errors import (
    BasePlaneError,
    CodecError,
    FormatError,
    LayoutError,
    MissingExtraError,
    NotStoredError,
    NotWrittenError,
    PayloadError,
    PolystoreError,
    ProjectionError,
    StorageError,
    StreamError,
    TileError,
    UnknownCodecError,
    UnknownFormatError,
    UnreadableError,
    WireError,
    WireHeaderError,
    WireSizeError,
    WireVersionError,
    WriteOnlyError,
)
from polystore._kinds import Kind
from polystore._payload import Column, Data, Payload, Table
from polystore._protocols import DataSink, Reader, Writer
from polystore._regions import Regions
from polystore._wire import (
    HEADER_MOST_BYTES,
    PAYLOAD_MOST_BYTES,
    WIRE_VERSION,
    coding_of,
    decode,
    encode,
)
from polystore._wire_codecs import Coding

__all__ = [
    "COMPONENTS",
    "HEADER_MOST_BYTES",
    "PAYLOAD_MOST_BYTES",
    "WIRE_VERSION",
    "BasePlaneError",
    "CodecError",
    "Coding",
    "Column",
    "ComponentValue",
    "Components",
    "Data",
    "DataSink",
    "FormatError",
    "Kind",
    "LayoutError",
    "MissingExtraError",
    "NotStoredError",
    "NotWrittenError",
    "Payload",
    "PayloadError",
    "PolystoreError",
    "ProjectionError",
    "Reader",
    "Regions",
    "StorageError",
    "StreamError",
    "Table",
    "TileError",
    "UnknownCodecError",
    "UnknownFormatError",
    "UnreadableError",
    "WireError",
    "WireHeaderError",
    "WireSizeError",
    "WireVersionError",
    "WriteOnlyError",
    "Writer",
    "coding_of",
    "decode",
    "encode",
]
