"""Payloads as files that others read too: NPY, TIFF, OME-TIFF, PNG, JSON, text."""

from __future__ import annotations

from polystore.formats._format import Format
from polystore.formats._json import JsonFormat
from polystore.formats._npy import NpyFormat
from polystore.formats._ome_tiff import OmeTiffFormat
from polystore.formats._png import PngFormat
from polystore.formats._registry import Formats, standard_formats
from polystore.formats._text import TextFormat
from polystore.formats._tiff import TiffCompression, TiffFormat

__all__ = [
    "Format",
    "Formats",
    "JsonFormat",
    "NpyFormat",
    "OmeTiffFormat",
    "PngFormat",
    "TextFormat",
    "TiffCompression",
    "TiffFormat",
    "standard_formats",
]
