"""Which tiles one client holds, so that they are not sent to it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polystore._bounded import BoundedMap

if TYPE_CHECKING:
    from polystore.tiles._headers import FrameHeader, PartHeader, TileRequest

__all__ = ["ClientTiles"]


class ClientTiles:
    """The sender's table of what one client holds. Not safe for threads.

    What was sent counts as held until the client says that it lacks it: a receiver knows that by
    itself, from the header of any later frame. Of a tile whose content has not changed, the best
    that was sent counts, as at the receiver.

    Parameters
    ----------
    cache_bytes
        What the client's cache may hold; 0 without one. What it has by now is an estimate, of
        which an error costs one more request.
    """

    def __init__(self, cache_bytes: int = 0) -> None:
        self._told: FrameHeader | None = None
        self._held: dict[int, tuple[int, int, str | None]] = {}
        self._contents: BoundedMap[str, int] = BoundedMap(cache_bytes)

    @property
    def told(self) -> FrameHeader | None:
        """The header that was sent last."""
        return self._told

    @property
    def caches(self) -> bool:
        """Whether the client has a cache."""
        return self._contents.most_bytes > 0

    def lacking(self, header: FrameHeader, quality: int = 0) -> list[int]:
        """List the tiles of a frame of which the client holds none as good as that.

        Returns
        -------
        list
            Places among the tiles of the frame's level, row by row.
        """
        if self._told is None or _where(self._told) != _where(header):
            return list(range(len(header.changed)))
        lacking = []
        for at, changed in enumerate(header.changed):
            held = self._held.get(at)
            if held is None or held[0] < changed or held[1] < quality:
                lacking.append(at)
        return lacking

    def has_content(self, content: str, quality: int) -> bool:
        """Say whether the client's cache is thought to have a content, at least that good."""
        known = self._contents.peek(content)
        return known is not None and known >= quality

    def tell(self, header: FrameHeader) -> None:
        """Note that the header of a frame was sent; of another size or level, nothing is held."""
        if self._told is None or _where(self._told) != _where(header):
            self._held.clear()
        self._told = header

    def sent(self, part: PartHeader) -> None:
        """Note that a part of the frame told last was sent.

        Raises
        ------
        ValueError
            If it is of another.
        """
        told = self._told
        if told is None or (*_where(told), told.frame) != (*_where(part), part.frame):
            raise ValueError("a part is sent after the header of its frame")
        grid = part.raster.grid
        for tile in part.tiles:
            at = grid.index(tile)
            held = self._held.get(at)
            if held is None or held[0] < told.changed[at] or held[1] <= part.quality:
                self._held[at] = (part.frame, part.quality, part.content)
        if part.content is not None and self.caches:
            known = self._contents.get(part.content)
            if known is None or known < part.quality:
                pixels = part.area.height * part.area.width * part.raster.nbytes_per_pixel
                self._contents.put(part.content, part.quality, pixels)

    def asked(self, request: TileRequest) -> None:
        """Take in what the client lacks."""
        told = self._told
        if told is None:
            return
        if request.whole or request.epoch != told.epoch:
            self.forget()
            return
        if request.level == told.raster.level:
            rows, columns = told.raster.grid.counts(request.level)
            for row, column in request.tiles:
                if row < rows and column < columns:
                    held = self._held.pop(row * columns + column, None)
                    if held is not None and held[2] is not None:
                        self._contents.drop(held[2])

    def forget(self) -> None:
        """Count nothing as held, as after the client connected anew."""
        self._told = None
        self._held.clear()
        self._contents.clear()


def _where(header: FrameHeader | PartHeader) -> tuple[object, ...]:
    return header.epoch, header.lane, header.raster
