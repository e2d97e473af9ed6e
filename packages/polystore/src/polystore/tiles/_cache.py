"""Tiles that a receiver keeps by what they show, so that what comes back is not sent again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._bounded import BoundedMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CachedTile", "TileCache"]


@dataclass(frozen=True, slots=True, eq=False)
class CachedTile:
    """Pixels of a tile, and how good they are.

    Attributes
    ----------
    pixels
        Read-only.
    quality
        0 to 100; 100 is exact.
    """

    pixels: NDArray[Any]
    quality: int


class TileCache:
    """Decoded tiles by the hash of their content; the one used longest ago gives way.

    The hash is of the pixels before they were encoded, so that it says the same of a tile at every
    quality, and where in a frame a tile lies does not matter. Not safe for threads.

    Parameters
    ----------
    most_bytes
        Bound of the bytes of all pixels together; it is never exceeded, not for a moment.

    Raises
    ------
    ValueError
        If it is below 0.
    """

    def __init__(self, most_bytes: int) -> None:
        self._tiles: BoundedMap[str, CachedTile] = BoundedMap(most_bytes)
        self.hits = 0
        """How often `get` found what was asked for."""
        self.misses = 0
        """How often it did not."""

    def __len__(self) -> int:
        return len(self._tiles)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self._tiles.nbytes

    @property
    def most_bytes(self) -> int:
        """Bound of `nbytes`."""
        return self._tiles.most_bytes

    @property
    def evicted(self) -> int:
        """How many gave way to others."""
        return self._tiles.evicted

    def get(self, content: str, quality: int = 0) -> CachedTile | None:
        """Look a tile up, at least as good as asked for; None if it is not there."""
        found = self._tiles.peek(content)
        if found is None or found.quality < quality:
            self.misses += 1
            return None
        self.hits += 1
        return self._tiles.get(content)

    def put(self, content: str, quality: int, pixels: NDArray[Any]) -> bool:
        """Keep a tile, unless a better one of this content is there.

        Parameters
        ----------
        content
            Hash of the pixels before they were encoded.
        quality
            How good these are, 0 to 100.
        pixels
            Copied where they are part of something larger, which would be kept alive otherwise.

        Returns
        -------
        bool
            False if it is larger than the whole budget.
        """
        found = self._tiles.peek(content)
        if found is not None and found.quality >= quality:
            self._tiles.get(content)
            return True
        if pixels.nbytes > self.most_bytes:
            return False
        kept = pixels
        if kept.base is not None or kept.flags.writeable:
            kept = np.array(pixels, order="C", copy=True)
            kept.flags.writeable = False
        return self._tiles.put(content, CachedTile(kept, quality), kept.nbytes)

    def clear(self) -> None:
        """Forget everything."""
        self._tiles.clear()
