"""Errors of polystore; each leaf is also the builtin exception that it stands for.

::

    PolystoreError
    ├── PayloadError            ValueError              a value that cannot be a payload
    ├── ColumnTypeError         TypeError               a foreign column of a type that no table has
    ├── RoiError                ValueError              bytes or a file that hold no regions
    ├── WireError
    │   ├── WireVersionError    ValueError              another version of the format
    │   ├── WireHeaderError     ValueError              no header, or one that contradicts itself
    │   ├── WireSizeError       ValueError              buffers not as long as the header says
    │   ├── StreamError         ValueError              an encoded plane, damaged or another one
    │   ├── BasePlaneError      LookupError             the base of a difference is not here
    │   └── UnknownCodecError   LookupError             encoded by what is not here
    ├── StorageError
    │   ├── NotStoredError      FileNotFoundError       nothing is stored under this name
    │   ├── UnreadableError     OSError                 what is stored cannot be decoded
    │   │   └── ChecksumError   OSError                 it is not what was stored
    │   ├── NotWrittenError     OSError                 not written; the old one still stands
    │   │   └── LockedError     TimeoutError            somebody else has been changing it too long
    │   ├── NotDurableError     OSError                 written, and perhaps not on the disk
    │   ├── UnreachableError    ConnectionError         a remote store did not give an answer
    │   ├── AccessDeniedError   PermissionError         a remote store refuses
    │   ├── LayoutError         ValueError              a plate, image or label that does not fit
    │   ├── FormatError         ValueError              what a file format cannot hold
    │   ├── UnknownFormatError  LookupError             a name that says no format that is here
    │   ├── KeyNameError        ValueError              what cannot be a key, or not beside others
    │   ├── UnknownBackendError LookupError             no backend has this name
    │   ├── ReadOnlyError       io.UnsupportedOperation a source that was asked to write
    │   └── WriteOnlyError      io.UnsupportedOperation a sink that was asked to read
    ├── CodecError              ValueError              what a codec cannot encode, or may not
    ├── MissingExtraError       ImportError             an optional dependency is not installed
    ├── ProjectionError         ValueError              a payload that no layer can show
    └── TileError               ValueError              a frame that does not fit its tiles
"""

from __future__ import annotations

import io

__all__ = [
    "AccessDeniedError",
    "BasePlaneError",
    "ChecksumError",
    "CodecError",
    "ColumnTypeError",
    "FormatError",
    "KeyNameError",
    "LayoutError",
    "LockedError",
    "MissingExtraError",
    "NotDurableError",
    "NotStoredError",
    "NotWrittenError",
    "PayloadError",
    "PolystoreError",
    "ProjectionError",
    "ReadOnlyError",
    "RoiError",
    "StorageError",
    "StreamError",
    "TileError",
    "UnknownBackendError",
    "UnknownCodecError",
    "UnknownFormatError",
    "UnreachableError",
    "UnreadableError",
    "WireError",
    "WireHeaderError",
    "WireSizeError",
    "WireVersionError",
    "WriteOnlyError",
]


class PolystoreError(Exception):
    """Root of all errors that polystore raises on purpose."""


class PayloadError(PolystoreError, ValueError):
    """A value that cannot be a payload, or a component of one."""


class ColumnTypeError(PolystoreError, TypeError):
    """A column of another library's table has a type that ours have not; the message says which."""


class RoiError(PolystoreError, ValueError):
    """Bytes that are no ImageJ ROI or ROI zip, or regions that such a file cannot hold."""


class WireError(PolystoreError):
    """Frames that cannot be decoded."""


class WireVersionError(WireError, ValueError):
    """The header was written by another version of the format; the message names both."""


class WireHeaderError(WireError, ValueError):
    """The header is not one, or what it says cannot be."""


class WireSizeError(WireError, ValueError):
    """The buffers are not as many or as long as the header says."""


class StreamError(WireError, ValueError):
    """An encoded plane is cut off or damaged, or is not of the type and shape announced."""


class BasePlaneError(WireError, LookupError):
    """The earlier plane that a difference is to is not here; the message names its hash."""


class UnknownCodecError(WireError, LookupError):
    """A plane was encoded by a codec that is not here; the message says what provides it."""


class CodecError(PolystoreError, ValueError):
    """What a codec cannot encode, gains nothing from, or may not because it is lossy."""


class StorageError(PolystoreError):
    """Something could not be stored or read back."""


class NotStoredError(StorageError, FileNotFoundError):
    """Nothing is stored under this name."""


class UnreadableError(StorageError, OSError):
    """Something is stored under this name, and cannot be decoded; the message names the file."""


class ChecksumError(UnreadableError):
    """What is stored is not what was stored there once: a bit flipped, or somebody changed it."""


class NotWrittenError(StorageError, OSError):
    """Nothing was written; what stood there before still stands. The message names the target."""


class LockedError(NotWrittenError, TimeoutError):
    """Somebody else has been changing it for too long; the message says who."""


class NotDurableError(StorageError, OSError):
    """It is written and in its place, but the disk did not confirm that it has reached it."""


class UnreachableError(StorageError, ConnectionError):
    """A remote store is not there, has no such bucket, or did not answer in time."""


class AccessDeniedError(StorageError, PermissionError):
    """A remote store refuses the credentials, or what they ask for."""


class LayoutError(StorageError, ValueError):
    """A plate, image or label that does not fit what is there or what the format allows."""


class FormatError(StorageError, ValueError):
    """A payload that a file format cannot hold whole; the message says which formats could."""


class UnknownFormatError(StorageError, LookupError):
    """A name that ends in no suffix of a format that is here; the message lists them."""


class KeyNameError(StorageError, ValueError):
    """A name that cannot be a key, or cannot stand beside the keys there are."""


class UnknownBackendError(StorageError, LookupError):
    """No backend has this name; the message lists those there are."""


class ReadOnlyError(StorageError, io.UnsupportedOperation):
    """A place that is only read from was asked to write."""


class WriteOnlyError(StorageError, io.UnsupportedOperation):
    """A sink was asked to read."""


class MissingExtraError(PolystoreError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""


class ProjectionError(PolystoreError, ValueError):
    """A payload that no layer can show."""


class TileError(PolystoreError, ValueError):
    """A frame that does not fit its tiles, or the frame before it."""
