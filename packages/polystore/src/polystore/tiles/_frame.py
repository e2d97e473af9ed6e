"""A rendered frame that names the state it shows, and which of its tiles changed when."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._dtypes import DTYPES
from polystore._errors import TileError
from polystore.tiles._dirty import dirty_tiles
from polystore.tiles._headers import FrameHeader, Raster

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore.tiles._grid import Rect, Tile

__all__ = ["Frame", "FrameLedger", "Samples", "content_hash"]


class Samples(StrEnum):
    """What the values of a pixel are, in their order in memory."""

    RGB = "rgb"
    RGBA = "rgba"
    BGR = "bgr"
    BGRA = "bgra"
    SINGLE = "single"
    """One value, of any type: a plane of an image as it was measured."""


_COUNT = {Samples.RGB: 3, Samples.RGBA: 4, Samples.BGR: 3, Samples.BGRA: 4}


def content_hash(pixels: NDArray[Any]) -> str:
    """SHA-256 of pixels, packed, top down and little-endian, in hexadecimal digits.

    Parameters
    ----------
    pixels
        Shape (y, x), or (y, x, 3) with red, green and blue.

    Notes
    -----
    Hashes an array that is packed already as it is; others are copied.
    """
    packed = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    return hashlib.sha256(packed.view(np.uint8).data).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One frame of a `FrameLedger`.

    Attributes
    ----------
    header
        What it is made of, as receivers are told.
    pixels
        The memory that was handed over, read-only: shape (y, x) or (y, x, samples).
    samples
        What the last axis holds.
    dirty
        Tiles that differ from the frame before it.
    """

    header: FrameHeader
    pixels: NDArray[Any]
    samples: Samples
    dirty: tuple[Tile, ...]

    def cut(self, rect: Rect | None = None) -> NDArray[Any]:
        """Pixels of a rectangle as they travel: packed, top down, little-endian, without alpha.

        Parameters
        ----------
        rect
            In pixels of the frame's level; all of it if None.

        Returns
        -------
        ndarray
            Shape (y, x) or (y, x, 3). Copied unless it is packed as it lies.
        """
        part = self.pixels if rect is None else self.pixels[rect.slices]
        if self.samples in {Samples.SINGLE, Samples.RGB}:
            return np.ascontiguousarray(part, dtype=np.dtype(self.header.raster.dtype))
        # one sample of all pixels after the other: numpy copies runs of three bytes far slower
        packed = np.empty((*part.shape[:2], 3), part.dtype)
        for at, name in enumerate("rgb"):
            packed[..., at] = part[..., self.samples.value.index(name)]
        return packed


class FrameLedger:
    """Numbers frames and knows in which each tile changed last. Not safe for threads.

    Of all frames only the newest is referred to, never a copy: who hands one over leaves it as
    it is until the next `show` has returned, and draws the next into other memory.

    Parameters
    ----------
    epoch
        Names this life of the sender, differently after every start.
    lane
        Names the view or channel.
    tile_px
        Height and width of a tile.
    """

    def __init__(self, epoch: str, *, lane: str = "", tile_px: int = 256) -> None:
        self._epoch = epoch
        self._lane = lane
        self._tile_px = tile_px
        self._newest: Frame | None = None

    @property
    def newest(self) -> Frame | None:
        """The frame that was shown last."""
        return self._newest

    def show(
        self,
        pixels: NDArray[Any],
        *,
        state_version: int,
        samples: Samples = Samples.RGBA,
        level: int = 0,
        full_size: tuple[int, int] | None = None,
        number: int | None = None,
    ) -> Frame:
        """Take in the next frame.

        Parameters
        ----------
        pixels
            Shape (y, x, 3) or (y, x, 4) and 8 bits, or (y, x) where `samples` is single.
            Rows are contiguous, from the top; a picture that was read bottom up is handed over
            as ``picture[::-1]``, which copies nothing.
        state_version
            Version of the state that it shows, never lower than before.
        samples
            What the last axis holds. Alpha is compared and not sent.
        level
            1 if it was drawn half as high and wide as the full frame, and so on.
        full_size
            Height and width of the full frame, if they are not ``2**level`` times those of
            `pixels`.
        number
            Number of the frame, higher than those before; the next one if None.

        Returns
        -------
        Frame
            With all tiles dirty where the frame before was of another size or level.

        Raises
        ------
        TileError
            If the pixels are not what `samples` and `level` say, state or number go back, or the
            memory is that of the frame before, with which it could not be compared.
        """
        raster = self._raster(pixels, samples, level, full_size)
        before = self._newest
        first = 0 if before is None else before.header.frame + 1
        number = first if number is None else number
        if number < first:
            raise TileError(f"frame {number} comes after frame {first - 1}")
        grid = raster.grid
        dirty = grid.tiles(level)
        changed = [number] * len(dirty)
        if before is not None:
            if state_version < before.header.state_version:
                raise TileError(
                    f"a frame of state {state_version} after one of {before.header.state_version}"
                )
            if np.may_share_memory(before.pixels, pixels):
                raise TileError(
                    "the frame lies in the memory of the one before: draw into another buffer, "
                    "or nothing can be found to have changed"
                )
            if before.header.raster == raster and before.samples is samples:
                dirty = dirty_tiles(before.pixels, pixels, grid, level)
                changed = list(before.header.changed)
            for tile in dirty:
                changed[grid.index(tile)] = number
        view = pixels.view()
        view.flags.writeable = False
        frame = Frame(
            header=FrameHeader(
                epoch=self._epoch,
                lane=self._lane,
                frame=number,
                state_version=state_version,
                raster=raster,
                changed=tuple(changed),
            ),
            pixels=view,
            samples=samples,
            dirty=dirty,
        )
        self._newest = frame
        return frame

    def _raster(
        self,
        pixels: NDArray[Any],
        samples: Samples,
        level: int,
        full_size: tuple[int, int] | None,
    ) -> Raster:
        single = samples is Samples.SINGLE
        what = f"pixels of {pixels.dtype} {pixels.shape}"
        if single:
            if pixels.ndim != 2 or pixels.dtype.kind + str(pixels.dtype.itemsize) not in DTYPES:
                raise TileError(f"{what} are no plane of numbers")
        elif pixels.dtype != np.uint8 or pixels.shape[2:] != (_COUNT[samples],):
            raise TileError(f"{what} are not {_COUNT[samples]} bytes for each pixel ({samples})")
        if not pixels[:1].flags.c_contiguous:
            raise TileError(f"rows have to be contiguous: {what} have strides {pixels.strides}")
        height, width = pixels.shape[:2]
        full = full_size or (height * 2**level, width * 2**level)
        try:
            raster = Raster(
                height=full[0],
                width=full[1],
                level=level,
                tile_px=self._tile_px,
                dtype=pixels.dtype.newbyteorder("<").str,
                samples=1 if single else 3,
            )
        except ValueError as error:
            raise TileError(f"{what} cannot be cut into tiles: {error}") from error
        if raster.grid.size(level) != (height, width):
            raise TileError(f"level {level} of {full} is {raster.grid.size(level)}, not {what}")
        return raster
