"""A frame cut into tiles: levels, rows, columns and the rectangles that they cover."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Rect", "Tile", "TileGrid"]

SIDE_MOST_PX = 65_536
"""Longest side of a frame."""
TILES_MOST = 8192
"""Most tiles of one level: what is known of each fits into a header."""
LEVELS_MOST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """A rectangle of pixels, from the top left.

    Attributes
    ----------
    y, x
        Its first row and column.
    height, width
        Its rows and columns, at least one of each.

    Raises
    ------
    ValueError
        If it begins before 0 or is empty.
    """

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.y < 0 or self.x < 0 or self.height < 1 or self.width < 1:
            raise ValueError(f"a rectangle begins at 0 or later and is not empty: {self}")

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.y + self.height

    @property
    def right(self) -> int:
        """The first column to its right."""
        return self.x + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of its pixels in an array whose first axes are y and x."""
        return slice(self.y, self.bottom), slice(self.x, self.right)

    def distance(self, y: float, x: float) -> float:
        """Square of the distance in pixels from a point to the nearest of its pixels.

        0 inside. The square puts rectangles in the same order and needs no root.
        """
        above = max(self.y - y, 0.0, y - (self.bottom - 1))
        beside = max(self.x - x, 0.0, x - (self.right - 1))
        return above * above + beside * beside


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The place of one tile.

    Attributes
    ----------
    level
        0 is the full frame; each further level is half as high and wide.
    row, column
        From the top left, counted in tiles.
    """

    level: int
    row: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """How a frame is cut.

    The first tile is at the top left. Tiles of the last row and column are as small as what is
    left for them, and are not filled up.

    Attributes
    ----------
    height, width
        Size of the full frame in pixels.
    tile_px
        Height and width of a tile that is not cut by the edge.
    levels
        How many levels there are, 1 with the full frame alone. A level is half as high and wide
        as the one before, rounded up.

    Raises
    ------
    ValueError
        If a number is below 1, a side is longer than 65,536 pixels, or a level has more than
        8192 tiles.
    """

    height: int
    width: int
    tile_px: int = 256
    levels: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.height <= SIDE_MOST_PX and 1 <= self.width <= SIDE_MOST_PX):
            raise ValueError(
                f"a frame has 1 to {SIDE_MOST_PX} rows and columns, not {self.height} and "
                f"{self.width}"
            )
        if self.tile_px < 1 or not 1 <= self.levels <= LEVELS_MOST:
            raise ValueError(
                f"tiles have at least 1 pixel and there are 1 to {LEVELS_MOST} levels, not "
                f"{self.tile_px} and {self.levels}"
            )
        rows, columns = self.counts()
        if rows * columns > TILES_MOST:
            raise ValueError(
                f"{self.height} x {self.width} pixels are {rows * columns} tiles of "
                f"{self.tile_px} and may be {TILES_MOST}: use larger tiles"
            )

    def size(self, level: int = 0) -> tuple[int, int]:
        """Height and width of a level in pixels.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        if not 0 <= level < self.levels:
            raise ValueError(f"level {level} is none of {self.levels}")
        return -(-self.height // 2**level), -(-self.width // 2**level)

    def counts(self, level: int = 0) -> tuple[int, int]:
        """Rows and columns of tiles of a level.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        height, width = self.size(level)
        return -(-height // self.tile_px), -(-width // self.tile_px)

    def tiles(self, level: int = 0) -> tuple[Tile, ...]:
        """All tiles of a level, row by row.

        Raises
        ------
        ValueError
            If there is no such level.
        """
        rows, columns = self.counts(level)
        return tuple(Tile(level, row, column) for row in range(rows) for column in range(columns))

    def index(self, tile: Tile) -> int:
        """Place of a tile in `tiles` of its level.

        Raises
        ------
        ValueError
            If the grid has no such tile.
        """
        rows, columns = self.counts(tile.level)
        if not (0 <= tile.row < rows and 0 <= tile.column < columns):
            raise ValueError(f"{tile} is not among {rows} rows and {columns} columns")
        return tile.row * columns + tile.column

    def tile(self, index: int, level: int = 0) -> Tile:
        """Return the tile at a place in `tiles`.

        Raises
        ------
        ValueError
            If there is no such place.
        """
        rows, columns = self.counts(level)
        if not 0 <= index < rows * columns:
            raise ValueError(f"tile {index} is not among {rows} rows and {columns} columns")
        return Tile(level, *divmod(index, columns))

    def rect(self, tile: Tile, rows: int = 1, columns: int = 1) -> Rect:
        """Pixels of a tile, or of several side by side, in those of its level.

        Parameters
        ----------
        tile
            The one at the top left.
        rows, columns
            How many tiles it is high and wide.

        Raises
        ------
        ValueError
            If the grid has no such tiles.
        """
        self.index(tile)
        if rows < 1 or columns < 1:
            raise ValueError(f"{rows} rows and {columns} columns of tiles are none")
        self.index(Tile(tile.level, tile.row + rows - 1, tile.column + columns - 1))
        height, width = self.size(tile.level)
        y, x = tile.row * self.tile_px, tile.column * self.tile_px
        return Rect(
            y=y,
            x=x,
            height=min(rows * self.tile_px, height - y),
            width=min(columns * self.tile_px, width - x),
        )

    def tile_at(self, y: int, x: int, level: int = 0) -> Tile:
        """Return the tile that holds a pixel of a level.

        Raises
        ------
        ValueError
            If the level has no such pixel.
        """
        height, width = self.size(level)
        if not (0 <= y < height and 0 <= x < width):
            raise ValueError(f"pixel ({y}, {x}) is outside {height} x {width}")
        return Tile(level, y // self.tile_px, x // self.tile_px)
