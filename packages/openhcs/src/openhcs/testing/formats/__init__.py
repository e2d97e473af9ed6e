"""Vendors' layouts that synthetic plates can be written in, and what one has to be."""

from __future__ import annotations

from openhcs.testing.formats._damage import COMMON_FAULTS, Bench, FaultKind, Injection
from openhcs.testing.formats._harmony import Phenix
from openhcs.testing.formats._hcs_ai import HcsAi
from openhcs.testing.formats._imagexpress import ImageXpressDatabase, ImageXpressExport
from openhcs.testing.formats._incell import InCell
from openhcs.testing.formats._layout import ExposedPlane, Layout, OneFilePerPlane, Page, PlateFile
from openhcs.testing.formats._named import Cellomics, NumberedChannels
from openhcs.testing.formats._ome_tiff import OmeTiffCompanion
from openhcs.testing.formats._ome_zarr import OmeZarr04, OmeZarr05
from openhcs.testing.formats._registry import LAYOUTS, as_layout, layout_of, quirks_of
from openhcs.testing.formats._scanr import ScanR, ScanRDescriptor
from openhcs.testing.formats._yokogawa import CQ1, CV8000

__all__ = [
    "COMMON_FAULTS",
    "CQ1",
    "CV8000",
    "LAYOUTS",
    "Bench",
    "Cellomics",
    "ExposedPlane",
    "FaultKind",
    "HcsAi",
    "ImageXpressDatabase",
    "ImageXpressExport",
    "InCell",
    "Injection",
    "Layout",
    "NumberedChannels",
    "OmeTiffCompanion",
    "OmeZarr04",
    "OmeZarr05",
    "OneFilePerPlane",
    "Page",
    "Phenix",
    "PlateFile",
    "ScanR",
    "ScanRDescriptor",
    "as_layout",
    "layout_of",
    "quirks_of",
]
