"""Rendered frames in parts: what changed, what a receiver holds, and how good it is."""

from __future__ import annotations

from polystore.tiles._assemble import Assembler, Picture, Taken
from polystore.tiles._cache import CachedTile, TileCache
from polystore.tiles._client import ClientTiles
from polystore.tiles._codecs import decode_with, encode_with
from polystore.tiles._dirty import dirty_tiles, merged_rect
from polystore.tiles._encodes import Body, Encode, SharedEncodes
from polystore.tiles._feed import Parcel, Parts, TileFeed
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
from polystore.tiles._prefetch import Motion, Wanted, WantedTile
from polystore.tiles._quality import Choice, Ladder, Reason, Rung
from polystore.tiles._raw import Contrast, Lane, LaneChoice, choose_lane, composite
from polystore.tiles._settle import Settle, outwards

__all__ = [
    "EXACT",
    "TILES_VERSION",
    "Assembler",
    "Body",
    "CachedTile",
    "Choice",
    "ClientTiles",
    "Contrast",
    "Encode",
    "Frame",
    "FrameHeader",
    "FrameLedger",
    "Ladder",
    "Lane",
    "LaneChoice",
    "Motion",
    "Parcel",
    "PartHeader",
    "Parts",
    "Picture",
    "Raster",
    "Reason",
    "Rect",
    "Rung",
    "Samples",
    "Settle",
    "Settled",
    "SharedEncodes",
    "Taken",
    "Tile",
    "TileCache",
    "TileFeed",
    "TileGrid",
    "TileMessage",
    "TileRequest",
    "Wanted",
    "WantedTile",
    "choose_lane",
    "composite",
    "content_hash",
    "decode_with",
    "dirty_tiles",
    "encode_with",
    "from_header",
    "merged_rect",
    "outwards",
    "to_header",
]
