"""OME-Zarr plates, 0.4 and 0.5."""

from __future__ import annotations

from openhcs.plates.formats.ome_zarr._reader import OmeZarr

__all__ = ["OmeZarr"]
