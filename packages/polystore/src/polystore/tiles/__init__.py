"""Rendered frames in parts: what changed, what a receiver holds, and how good it is."""

from __future__ import annotations

from polystore.tiles._assemble import Assembler, Picture, Taken
from polystore.tiles._cache import CachedTile, TileCache
from polystore.tiles._dirty import dirty_tiles, merged_rect
from polystore.tiles._frame import Frame, FrameLedger, Samples, content_hash
from polystore.tiles._grid import Rect, Tile, TileGrid
from polystore.tiles._headers import (
    EXACT,
    TILES_VERSION,
    FrameHeader,
    PartHeader,
    Raster,
    Settled,
    TileMessage,
    TileRequest,
    from_header,
    to_header,
)

__all__ = [
    "EXACT",
    "TILES_VERSION",
    "Assembler",
    "CachedTile",
    "Frame",
    "FrameHeader",
    "FrameLedger",
    "PartHeader",
    "Picture",
    "Raster",
    "Rect",
    "Samples",
    "Settled",
    "Taken",
    "Tile",
    "TileCache",
    "TileGrid",
    "TileMessage",
    "TileRequest",
    "content_hash",
    "dirty_tiles",
    "from_header",
    "merged_rect",
    "to_header",
]
