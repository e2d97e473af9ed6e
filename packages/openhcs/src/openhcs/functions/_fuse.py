"""Tiles laid down as one image, blended where they overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from openhcs.functions._convert import to_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Blend", "Mosaic", "fuse", "laid_out", "mosaic_shape"]

Blend: TypeAlias = Literal["linear", "maximum"]
"""How tiles become one where they overlap: by a mean that fades over, or by the better one."""

_BAND_ROWS = 128


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Tiles as one image.

    Attributes
    ----------
    pixels
        Shape (Y, X), the pixel type of the tiles; 0 where there is no tile.
    covered
        Where there is one, shape (Y, X).
    """

    pixels: NDArray[Any]
    covered: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a tile lies along one axis: from `start`, displaced by the `fraction` of a pixel."""

    start: int
    stop: int
    fraction: np.float32


def mosaic_shape(positions_px: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int]:
    """Give the (Y, X) that holds all tiles, whose (y, x) positions are 0 or more."""
    height, width = (
        max(_span(float(at), size).stop for at in positions_px[:, axis])
        for axis, size in enumerate(shape)
    )
    return height, width


def laid_out(
    positions_px: NDArray[np.float64], *, shape: tuple[int, int], canvas: tuple[int, int]
) -> NDArray[np.bool_]:
    """Say where on a canvas `fuse` has tiles.

    Parameters
    ----------
    positions_px, shape, canvas
        As for `fuse`.
    """
    covered = np.zeros(canvas, dtype=bool)
    for at in positions_px:
        y, x = (_span(float(p), size) for p, size in zip(at, shape, strict=True))
        covered[y.start : y.stop, x.start : x.stop] = True
    return covered


def fuse(
    loaders: Sequence[Callable[[], NDArray[Any]]],
    positions_px: NDArray[np.float64],
    *,
    shape: tuple[int, int],
    canvas: tuple[int, int],
    blend: Blend = "linear",
) -> Mosaic:
    """Blend tiles into one image.

    Parameters
    ----------
    loaders
        Give the pixels of each tile, shape (y, x), all of one type. Each is called once.
    positions_px
        (y, x) of the first pixel of each tile on the canvas, shape (n, 2), 0 or more.
    shape
        (y, x) of a tile.
    canvas
        (Y, X) of the mosaic.
    blend
        ``linear``: the mean of the tiles by their weights. ``maximum``: the tile of the largest
        weight alone.

    Raises
    ------
    ValueError
        If there are no tiles, or they differ in shape or type.

    Notes
    -----
    The weight of a pixel is its distance to the tile's edge, in y times in x. A tile between whole
    pixels is interpolated linearly, so what lies at 150.25 in the tile's own pixels lies at
    150.25 plus its position; the outermost row and column, which have one neighbour only, are
    left out then. Worked on in bands of 128 rows, with the tiles of a band in memory. About 8 ms
    per tile of 1080 by 1080 px.
    """
    spans = [[_span(p, size) for p, size in zip(at, shape, strict=True)] for at in positions_px]
    order = sorted(range(len(spans)), key=lambda n: (spans[n][0].start, spans[n][1].start))
    covered = np.zeros(canvas, dtype=bool)
    pixels: NDArray[Any] | None = None
    loaded: dict[int, NDArray[Any]] = {}
    for top in range(0, canvas[0], _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, canvas[0])
        total = np.zeros((bottom - top, canvas[1]), dtype=np.float32)
        weight = np.zeros_like(total)
        for n in order:
            y, x = spans[n]
            if y.stop <= top or y.start >= bottom:
                continue
            if n not in loaded:
                loaded[n] = _checked(loaders[n](), shape, None if pixels is None else pixels.dtype)
                if pixels is None:
                    pixels = np.zeros(canvas, dtype=loaded[n].dtype)
            with np.errstate(invalid="ignore"):  # of infinite pixels
                _lay(loaded[n], y, x, positions_px[n], total, weight, top, bottom, blend)
        loaded = {n: tile for n, tile in loaded.items() if spans[n][0].stop > bottom}
        np.greater(weight, 0, out=covered[top:bottom])
        if blend == "linear":
            np.divide(total, weight, out=total, where=covered[top:bottom])
        if pixels is not None:
            pixels[top:bottom] = to_dtype(total, pixels.dtype).pixels
    if pixels is None:
        message = "there are no tiles to fuse"
        raise ValueError(message)
    return Mosaic(pixels, covered)


def _span(position: float, size: int) -> _Span:
    """Give the canvas pixels that a tile reaches along one axis, interpolation included."""
    whole = int(np.floor(position))
    fraction = np.float32(position - whole)
    if fraction == 0:
        return _Span(whole, whole + size, fraction)
    return _Span(whole + 1, whole + size, fraction)


def _checked(
    tile: NDArray[Any], shape: tuple[int, int], dtype: np.dtype[Any] | None
) -> NDArray[Any]:
    if tile.shape != shape or (dtype is not None and tile.dtype != dtype):
        message = f"a tile is {tile.shape} {tile.dtype}, the others are {shape} {dtype or ''}"
        raise ValueError(message.rstrip())
    return tile


def _lay(
    tile: NDArray[Any],
    y: _Span,
    x: _Span,
    position: NDArray[np.float64],
    total: NDArray[np.float32],
    weight: NDArray[np.float32],
    top: int,
    bottom: int,
    blend: Blend,
) -> None:
    """Add the part of a tile within a band of the canvas, weighted, or put it where it weighs most.

    `total` holds weighted sums then, or pixels.
    """
    begin, end = max(y.start, top), min(y.stop, bottom)
    first = begin - int(np.floor(position[0]))
    rows = end - begin
    if y.fraction:
        piece = tile[first : first + rows] * (1 - y.fraction)
        piece += tile[first - 1 : first - 1 + rows] * y.fraction
    else:
        piece = tile[first : first + rows].astype(np.float32)
    if x.fraction:
        right = piece[:, 1:] * (1 - x.fraction)
        piece = piece[:, :-1]
        piece *= x.fraction
        piece += right
    ramp_y = _ramp(y, position[0], tile.shape[0])[begin - y.start : end - y.start]
    ramp = np.multiply.outer(ramp_y, _ramp(x, position[1], tile.shape[1]))
    there = (slice(begin - top, end - top), slice(x.start, x.stop))
    if blend == "maximum":
        heavier = ramp > weight[there]
        np.copyto(total[there], piece, where=heavier)
        np.maximum(weight[there], ramp, out=weight[there])
        return
    piece *= ramp
    total[there] += piece
    weight[there] += ramp


def _ramp(span: _Span, position: float, size: int) -> NDArray[np.float32]:
    """Give the distance to the nearer end of a tile for each canvas pixel of its span."""
    inside = np.arange(span.start, span.stop) - position + 0.5
    return np.asarray(np.minimum(inside, size - inside), dtype=np.float32)
