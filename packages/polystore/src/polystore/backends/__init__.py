"""Where payloads are kept, each behind the same contract: memory, files, remote stores, streams."""

from __future__ import annotations

from polystore.backends._disk import DiskStore
from polystore.backends._memory import MemoryBackend
from polystore.backends._remote import RemoteStore
from polystore.backends._stream import Publish, StreamingBackend
from polystore.backends._virtual import Source, VirtualBackend
from polystore.backends._zarr import ZarrStore
from polystore.backends._zarr_read import ZarrReader
from polystore.remote._access import RemoteAccess

__all__ = [
    "DiskStore",
    "MemoryBackend",
    "Publish",
    "RemoteAccess",
    "RemoteStore",
    "Source",
    "StreamingBackend",
    "VirtualBackend",
    "ZarrReader",
    "ZarrStore",
]
