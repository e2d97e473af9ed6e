"""What scientific arrays mean, where they are kept, and how a stream of them becomes a view."""

from __future__ import annotations

from polystore._components import COMPONENTS, Components, ComponentValue
from polystore._errors import (
    BasePlaneError,
    ChecksumError,
    CodecError,
    ColumnTypeError,
    FormatError,
    KeyNameError,
    LayoutError,
    LockedError,
    MissingExtraError,
    NotDurableError,
    NotStoredError,
    NotWrittenError,
    PayloadError,
    PolystoreError,
    ProjectionError,
    ReadOnlyError,
    RoiError,
    StorageError,
    StreamError,
    TileError,
    UnknownBackendError,
    UnknownCodecError,
    UnknownFormatError,
    UnreadableError,
    WireError,
    WireHeaderError,
    WireSizeError,
    WireVersionError,
    WriteOnlyError,
)
from polystore._files import FileManager
from polystore._keys import (
    KEY_MOST_BYTES,
    PART_MOST_BYTES,
    Folder,
    check_folder,
    check_key,
    key_of,
)
from polystore._kinds import Kind
from polystore._payload import Data, Payload
from polystore._protocols import Backend, Capabilities, DataSink, Reader, Writer
from polystore._provenance import Provenance
from polystore._region import Region, RegionKind
from polystore._regions import Overlap, Regions
from polystore._tables import Column, Table
from polystore._wire import coding_of, decode, encode
from polystore._wire_codecs import Coding
from polystore._wire_header import HEADER_MOST_BYTES, PAYLOAD_MOST_BYTES, WIRE_VERSION

__all__ = [
    "COMPONENTS",
    "HEADER_MOST_BYTES",
    "KEY_MOST_BYTES",
    "PART_MOST_BYTES",
    "PAYLOAD_MOST_BYTES",
    "WIRE_VERSION",
    "Backend",
    "BasePlaneError",
    "Capabilities",
    "ChecksumError",
    "CodecError",
    "Coding",
    "Column",
    "ColumnTypeError",
    "ComponentValue",
    "Components",
    "Data",
    "DataSink",
    "FileManager",
    "Folder",
    "FormatError",
    "KeyNameError",
    "Kind",
    "LayoutError",
    "LockedError",
    "MissingExtraError",
    "NotDurableError",
    "NotStoredError",
    "NotWrittenError",
    "Overlap",
    "Payload",
    "PayloadError",
    "PolystoreError",
    "ProjectionError",
    "Provenance",
    "ReadOnlyError",
    "Reader",
    "Region",
    "RegionKind",
    "Regions",
    "RoiError",
    "StorageError",
    "StreamError",
    "Table",
    "TileError",
    "UnknownBackendError",
    "UnknownCodecError",
    "UnknownFormatError",
    "UnreadableError",
    "WireError",
    "WireHeaderError",
    "WireSizeError",
    "WireVersionError",
    "WriteOnlyError",
    "Writer",
    "check_folder",
    "check_key",
    "coding_of",
    "decode",
    "encode",
    "key_of",
]
