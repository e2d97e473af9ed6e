"""The newest frame at coarser levels, made once for all who want it so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import TileError
from polystore._halving import halve_mean
from polystore.tiles._frame import Frame, FrameLedger, Samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Levels"]


class Levels:
    """Frames of one ledger, made smaller when they are asked for. Not safe for threads.

    Parameters
    ----------
    epoch, lane, tile_px
        Those of the ledger.
    """

    def __init__(self, epoch: str, *, lane: str, tile_px: int) -> None:
        self._epoch = epoch
        self._lane = lane
        self._tile_px = tile_px
        self._ledgers: dict[int, FrameLedger] = {}

    def at(self, newest: Frame, level: int) -> Frame:
        """Give the newest frame of the ledger at a level, its own or a coarser one.

        Raises
        ------
        TileError
            If its pixels have no mean.
        """
        header = newest.header
        if level == header.raster.level:
            return newest
        ledger = self._ledgers.get(level)
        if ledger is None:
            ledger = FrameLedger(self._epoch, lane=self._lane, tile_px=self._tile_px)
            self._ledgers[level] = ledger
        made = ledger.newest
        if made is not None and made.header.frame == header.frame:
            return made
        pixels = newest.cut()
        for _ in range(level - header.raster.level):
            pixels = _halved(pixels)
        return ledger.show(
            pixels,
            state_version=header.state_version,
            samples=Samples.SINGLE if header.raster.samples == 1 else Samples.RGB,
            level=level,
            full_size=(header.raster.height, header.raster.width),
            number=header.frame,
        )


def _halved(pixels: NDArray[Any]) -> NDArray[Any]:
    try:
        if pixels.ndim == 2:
            return halve_mean(pixels)
    except TypeError as error:
        raise TileError(f"a plane of {pixels.dtype} is not sent coarser: {error}") from error
    return np.stack([halve_mean(pixels[..., at]) for at in range(pixels.shape[2])], axis=-1)
