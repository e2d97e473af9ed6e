"""OME-Zarr images, labels and plates, 0.4 and 0.5: written plane by plane, read as asked for."""

from __future__ import annotations

from polystore.omezarr._attributes import Problem, metadata_problems
from polystore.omezarr._check import store_problems
from polystore.omezarr._groups import Group, OmeVersion, read_group
from polystore.omezarr._image_parts import PartWriter, create_image, finish_image
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._image_write import ImageWriter
from polystore.omezarr._label_parts import LabelPartWriter, create_labels, finish_labels
from polystore.omezarr._labels import LabelsWriter, write_labels
from polystore.omezarr._layout import Acquisition, ImageSlot, PlateLayout
from polystore.omezarr._multiscales import ChannelMeta, ImageMeta
from polystore.omezarr._parts import ImagePart
from polystore.omezarr._places import LocalPlace, Pixels, Place
from polystore.omezarr._plate_read import (
    PlateReader,
    open_image,
    open_labels,
    read_labels,
    read_plate,
)
from polystore.omezarr._plates import create_plate, extend_plate, settle_plate
from polystore.omezarr._remote_place import RemoteFolder
from polystore.omezarr._upload import Upload, upload_store

__all__ = [
    "Acquisition",
    "ChannelMeta",
    "Group",
    "ImageMeta",
    "ImagePart",
    "ImageReader",
    "ImageSlot",
    "ImageWriter",
    "LabelPartWriter",
    "LabelsWriter",
    "LocalPlace",
    "OmeVersion",
    "PartWriter",
    "Pixels",
    "Place",
    "PlateLayout",
    "PlateReader",
    "Problem",
    "RemoteFolder",
    "Upload",
    "create_image",
    "create_labels",
    "create_plate",
    "extend_plate",
    "finish_image",
    "finish_labels",
    "metadata_problems",
    "open_image",
    "open_labels",
    "read_group",
    "read_labels",
    "read_plate",
    "settle_plate",
    "store_problems",
    "upload_store",
    "write_labels",
]
