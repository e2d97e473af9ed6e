"""What differs between two frames, tile by tile."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polystore._errors import TileError
from polystore.tiles._grid import Rect, Tile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from polystore.tiles._grid import TileGrid

__all__ = ["dirty_tiles", "merged_rect", "span"]

Span: TypeAlias = tuple[Tile, int, int]
"""Tiles side by side: the one at the top left, and how many rows and columns they are."""


def dirty_tiles(
    before: NDArray[Any], after: NDArray[Any], grid: TileGrid, level: int = 0
) -> tuple[Tile, ...]:
    """List the tiles that differ between two frames.

    Parameters
    ----------
    before, after
        Two frames of one type and shape, (y, x) or (y, x, samples), of the size that the grid's
        level has. Each row has to be contiguous; rows may lie in any order, as in a picture that
        was read bottom up and turned over.
    grid
        How they are cut.
    level
        Which level they are.

    Returns
    -------
    tuple
        The tiles in which any bit differs, row by row. Numbers that are equal and not the same
        bits, as 0.0 and -0.0, differ; NaN of the same bits do not.

    Raises
    ------
    TileError
        If shapes or types do not fit, or rows are not contiguous.

    Notes
    -----
    Compares 8 bytes at a time, a row of tiles at once, so that what it writes stays in the
    processor's cache: about two passes over memory for two frames, where a comparison of each
    tile by itself takes five times as long.
    """
    size = grid.size(level)
    if before.shape != after.shape or before.dtype != after.dtype or after.shape[:2] != size:
        raise TileError(
            f"two frames of {size} were expected, not {before.dtype} {before.shape} and "
            f"{after.dtype} {after.shape}"
        )
    ones, others, step = _words(before, after, grid.tile_px)
    differ = np.empty((min(grid.tile_px, size[0]), ones.shape[1]), bool)
    dirty: list[Tile] = []
    for row, top in enumerate(range(0, size[0], grid.tile_px)):
        one = ones[top : top + grid.tile_px]
        strip = differ[: len(one)]
        np.not_equal(one, others[top : top + grid.tile_px], out=strip)
        if strip.any():
            columns = np.logical_or.reduceat(strip.any(axis=0), np.arange(0, strip.shape[1], step))
            dirty += [Tile(level, row, int(column)) for column in np.flatnonzero(columns)]
    return tuple(dirty)


def span(tiles: Iterable[Tile]) -> Span | None:
    """Find the least rectangle of tiles that covers all of some, of one level.

    Returns
    -------
    tuple or None
        The tile at the top left and the numbers of rows and columns; None without any tile.
    """
    places = tuple(tiles)
    if not places:
        return None
    rows = [tile.row for tile in places]
    columns = [tile.column for tile in places]
    corner = Tile(places[0].level, min(rows), min(columns))
    return corner, max(rows) - corner.row + 1, max(columns) - corner.column + 1


def merged_rect(tiles: Iterable[Tile], grid: TileGrid) -> Rect | None:
    """Return the one rectangle that covers all of some tiles, of one level, or None without any.

    For receivers to which many small pictures are dearer than one larger: a browser decodes a
    tile in 1 ms, however small.

    Raises
    ------
    ValueError
        If the grid has no such tile.
    """
    found = span(tiles)
    return None if found is None else grid.rect(*found)


def _words(
    before: NDArray[Any], after: NDArray[Any], tile_px: int
) -> tuple[NDArray[Any], NDArray[Any], int]:
    """View both as rows of the longest words that divide tiles; gives words per tile, too."""
    pixel = after.dtype.itemsize * math.prod(after.shape[2:])
    rows = []
    for frame in (before, after):
        if pixel == 0 or not frame[:1].flags.c_contiguous:
            raise TileError(f"rows of a frame have to be contiguous: {frame.strides}")
        rows.append(frame.reshape(frame.shape[0], -1).view(np.uint8))
    # an address that is no multiple of the word would have numpy copy each piece before comparing
    word = math.gcd(
        8,
        tile_px * pixel,
        *(row.shape[1] for row in rows),
        *(row.strides[0] for row in rows),
        *(row.__array_interface__["data"][0] for row in rows),
    )
    one, other = (row.view(f"u{word}") for row in rows)
    return one, other, tile_px * pixel // word
