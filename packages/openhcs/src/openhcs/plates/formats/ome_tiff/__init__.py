"""OME-TIFF plates: a companion file with TIFF files, or TIFF files that hold the metadata."""

from __future__ import annotations

from openhcs.plates.formats.ome_tiff._reader import OmeTiff

__all__ = ["OmeTiff"]
