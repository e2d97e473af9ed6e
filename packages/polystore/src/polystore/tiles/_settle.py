"""What comes after a movement: every pixel exactly, from the cursor outwards, and a proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polystore.tiles._headers import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from polystore.tiles._client import ClientTiles
    from polystore.tiles._grid import Tile, TileGrid
    from polystore.tiles._headers import FrameHeader, TileRequest

__all__ = ["Settle", "outwards"]


def outwards(
    tiles: Iterable[Tile], grid: TileGrid, cursor: tuple[float, float] | None
) -> list[Tile]:
    """Sort tiles of one level by their distance from a point.

    Parameters
    ----------
    tiles
        Of one level.
    grid
        Where they lie.
    cursor
        y and x in pixels of that level; the middle of the frame if None.
    """

    def order(tile: Tile) -> tuple[float, float, Tile]:
        height, width = grid.size(tile.level)
        y, x = (height / 2, width / 2) if cursor is None else cursor
        rect = grid.rect(tile)
        aside = (rect.y + rect.height / 2 - y) ** 2 + (rect.x + rect.width / 2 - x) ** 2
        return rect.distance(y, x), aside, tile

    return sorted(tiles, key=order)


class Settle:
    """When one client is sent what it does not hold exactly. Knows no frame; not safe for threads.

    Parameters
    ----------
    clock
        Gives the time in s.
    quiet_s
        How long nothing has changed before it begins.
    """

    def __init__(self, clock: Callable[[], float], *, quiet_s: float = 0.15) -> None:
        self._clock = clock
        self._quiet_s = quiet_s
        self._changed = clock()
        self._announced: int | None = None

    @property
    def deadline(self) -> float:
        """When it begins, unless something changes before."""
        return self._changed + self._quiet_s

    @property
    def due(self) -> bool:
        """Whether nothing has changed for long enough."""
        return self._clock() >= self.deadline

    def proven(self, header: FrameHeader) -> bool:
        """Whether the client was sent all of a frame exactly, and its hash."""
        return self._announced == header.frame

    def changed(self) -> None:
        """Note that the picture changed, or is about to: what was not sent yet is not sent."""
        self._changed = self._clock()
        self._announced = None

    def asked(self, request: TileRequest) -> None:
        """Take in what the client lacks: the proof comes again after what it asks for."""
        if request.tiles or request.whole or request.header:
            self._announced = None

    def next(
        self, header: FrameHeader, table: ClientTiles, cursor: tuple[float, float] | None = None
    ) -> list[Tile]:
        """List what to send exactly, the next one first; nothing before it is due.

        Parameters
        ----------
        header
            Of the newest frame.
        table
            What the client holds.
        cursor
            y and x in pixels, where the user looks.
        """
        if not self.due:
            return []
        grid = header.raster.grid
        level = header.raster.level
        lacking = [grid.tile(at, level) for at in table.lacking(header, EXACT)]
        return outwards(lacking, grid, cursor)

    def announce(self, header: FrameHeader, table: ClientTiles) -> bool:
        """Say whether the hash of the frame is to be sent now; True once for each frame."""
        if not self.due or self._announced == header.frame or table.lacking(header, EXACT):
            return False
        self._announced = header.frame
        return True
