"""Tiles that came before the header of their frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore.tiles._headers import FrameHeader, PartHeader, Raster, Settled

__all__ = ["EarlyTile", "EarlyTiles", "rank"]


@dataclass(frozen=True, slots=True, eq=False)
class EarlyTile:
    """A tile of a frame whose header has not come."""

    frame: int
    quality: int
    raster: Raster
    pixels: NDArray[Any]


class EarlyTiles:
    """Keeps one frame's worth of them at most, the newest of each place. Not safe for threads."""

    def __init__(self) -> None:
        self._tiles: dict[int, EarlyTile] = {}

    def clear(self) -> None:
        """Forget all of them."""
        self._tiles.clear()

    def wanted(self, part: PartHeader, places: list[int]) -> list[int]:
        """List the places of a part of a frame to come for which it replaces what is kept."""
        if any(
            early.raster != part.raster and (early.frame, -early.raster.level) < rank(part)
            for early in self._tiles.values()
        ):
            self._tiles.clear()
        return [at for at in places if self._is_later(at, part)]

    def put(self, at: int, tile: EarlyTile) -> None:
        """Keep a tile that is wanted."""
        self._tiles[at] = tile

    def take_up_to(self, header: FrameHeader) -> list[tuple[int, EarlyTile]]:
        """Give those of frames up to one whose header has come, and keep the others."""
        there = [
            (at, early)
            for at, early in self._tiles.items()
            if (early.frame, -early.raster.level) <= rank(header)
        ]
        for at, _ in there:
            del self._tiles[at]
        return there

    def _is_later(self, at: int, part: PartHeader) -> bool:
        newest = next(iter(self._tiles.values()), None)
        if newest is not None and newest.raster != part.raster:
            return False
        there = self._tiles.get(at)
        return there is None or (part.frame, part.quality) > (there.frame, there.quality)


def rank(message: FrameHeader | PartHeader | Settled) -> tuple[int, int]:
    """Order what is sent: by the frame, and what is drawn finer after what is coarser."""
    return message.frame, -message.raster.level
