"""Where payloads are kept: memory, files written whole or not at all, OME-Zarr plates."""

from __future__ import annotations

from polystore.backends._atomic import (
    atomic_file,
    atomic_folder,
    delete_file,
    write_bytes,
    write_json,
)
from polystore.backends._check import store_problems
from polystore.backends._checksums import Checksum, check_file, read_bytes
from polystore.backends._disk import DiskStore
from polystore.backends._documents import read_json, update_json
from polystore.backends._groups import OmeVersion
from polystore.backends._image_parts import (
    ImagePart,
    PartWriter,
    create_image,
    finish_image,
)
from polystore.backends._layout import Acquisition, ImageSlot, PlateLayout
from polystore.backends._leftovers import leftovers, remove_leftovers
from polystore.backends._memory import MemoryBackend
from polystore.backends._multiscales import ChannelMeta, ImageMeta
from polystore.backends._ngff import Problem, metadata_problems
from polystore.backends._plate_read import (
    PlateReader,
    open_image,
    open_labels,
    read_labels,
    read_plate,
)
from polystore.backends._plates import create_plate, extend_plate, settle_plate
from polystore.backends._remote import RemoteStore
from polystore.backends._remote_access import RemoteAccess
from polystore.backends._stream import Publish, StreamingBackend
from polystore.backends._tiff import TiffHeader, read_header, read_plane, write_plane
from polystore.backends._virtual import Source, VirtualBackend
from polystore.backends._zarr import ImageWriter
from polystore.backends._zarr_labels import LabelsWriter, write_labels
from polystore.backends._zarr_read import ImageReader

__all__ = [
    "Acquisition",
    "ChannelMeta",
    "Checksum",
    "DiskStore",
    "ImageMeta",
    "ImagePart",
    "ImageReader",
    "ImageSlot",
    "ImageWriter",
    "LabelsWriter",
    "MemoryBackend",
    "OmeVersion",
    "PartWriter",
    "PlateLayout",
    "PlateReader",
    "Problem",
    "Publish",
    "RemoteAccess",
    "RemoteStore",
    "Source",
    "StreamingBackend",
    "TiffHeader",
    "VirtualBackend",
    "atomic_file",
    "atomic_folder",
    "check_file",
    "create_image",
    "create_plate",
    "delete_file",
    "extend_plate",
    "finish_image",
    "leftovers",
    "metadata_problems",
    "open_image",
    "open_labels",
    "read_bytes",
    "read_header",
    "read_json",
    "read_labels",
    "read_plane",
    "read_plate",
    "remove_leftovers",
    "settle_plate",
    "store_problems",
    "update_json",
    "write_bytes",
    "write_json",
    "write_labels",
    "write_plane",
]
