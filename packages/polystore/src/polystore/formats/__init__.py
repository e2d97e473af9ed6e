"""Payloads as files that others read too: NPY, TIFF, PNG, CSV, Parquet, ROI zip, JSON, text."""

from __future__ import annotations

from polystore.formats._csv import CsvFormat
from polystore.formats._format import Format
from polystore.formats._json import JsonFormat
from polystore.formats._npy import NpyFormat
from polystore.formats._ome_tiff import OmeTiffFormat
from polystore.formats._parquet import ParquetFormat
from polystore.formats._png import PngFormat
from polystore.formats._registry import Formats, standard_formats
from polystore.formats._roi_zip import RoiZipFormat
from polystore.formats._text import TextFormat
from polystore.formats._tiff import TiffCompression, TiffFormat
from polystore.formats._tiff_planes import (
    TiffHeader,
    map_plane,
    read_header,
    read_plane,
    write_plane,
)

__all__ = [
    "CsvFormat",
    "Format",
    "Formats",
    "JsonFormat",
    "NpyFormat",
    "OmeTiffFormat",
    "ParquetFormat",
    "PngFormat",
    "RoiZipFormat",
    "TextFormat",
    "TiffCompression",
    "TiffFormat",
    "TiffHeader",
    "map_plane",
    "read_header",
    "read_plane",
    "standard_formats",
    "write_plane",
]
