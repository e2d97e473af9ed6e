"""Outlines of nuclei and cells, and the light within them, drawn some at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["CELL_SCALE", "LOBE", "Drawing", "Ellipses", "draw_cells", "draw_nuclei"]

CELL_SCALE = 1.8  # axes of a cell against those of its nucleus
LOBE = 1.14  # largest radius of a cell against that of its smooth outline
FAINT = 6  # so many half widths of a soft edge outside an outline there is no light


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipses:
    """Outlines of some nuclei on the canvas as columns, in px; angles in radians.

    `lobes` are those of `Cells`; `edge` is the half width of a soft edge, of all.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    major: NDArray[np.float64]
    minor: NDArray[np.float64]
    angle: NDArray[np.float64]
    lobes: NDArray[np.float64]
    edge: float

    @property
    def softness(self) -> NDArray[np.float32]:
        """Turn distances in units of the axes into half widths of the edge; shape (n, 1, 1)."""
        factors = np.sqrt(self.major * self.minor) / self.edge
        return factors.astype(np.float32)[:, None, None]

    def half_px(self, scale: float) -> int:
        """Say how many px windows need on each side to show all to the end of their soft edges.

        The outlines are so many times as large; along the major axis an edge is up to 1.2 times
        as wide as on average.
        """
        return math.ceil(float(self.major.max()) * scale + FAINT * 1.2 * self.edge) + 1

    def around(self, half: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give the places of pixels along the major and along the minor axis, in units of these.

        Parameters
        ----------
        half
            Pixels on each side of the one in the middle, which is next to the centre.

        Returns
        -------
        tuple of two arrays
            Shape (n, 2 half + 1, 2 half + 1).
        """
        along = np.arange(-half, half + 1)
        right = (along - (self.x - np.rint(self.x))[:, None])[:, None, :]
        down = (along - (self.y - np.rint(self.y))[:, None])[:, :, None]
        cos, sin = np.cos(self.angle)[:, None, None], np.sin(self.angle)[:, None, None]
        major, minor = self.major[:, None, None], self.minor[:, None, None]
        return (
            (right * cos / major).astype(np.float32) + (down * sin / major).astype(np.float32),
            (down * cos / minor).astype(np.float32) - (right * sin / minor).astype(np.float32),
        )

    def cut(
        self, light: NDArray[np.float32], inside: NDArray[np.bool_], shape: tuple[int, int]
    ) -> Iterator[Drawing]:
        """Take stacks of pictures apart, and cut off what lies beyond a canvas of that shape."""
        half = light.shape[1] // 2
        for x, y, drawn, filled in zip(
            np.rint(self.x).astype(int).tolist(),
            np.rint(self.y).astype(int).tolist(),
            light,
            inside,
            strict=True,
        ):
            rows, seen_rows = _span(y, half, shape[0])
            columns, seen_columns = _span(x, half, shape[1])
            seen = (seen_rows, seen_columns)
            yield Drawing((rows, columns), drawn[seen], filled[seen])


@dataclass(frozen=True, slots=True)
class Drawing:
    """A nucleus or a cell on its window of the canvas.

    Parameters
    ----------
    window
        Rows and columns of the canvas.
    light
        Relative light, shape of the window.
    inside
        Whether a pixel lies within the outline of the nucleus, shape of the window.
    """

    window: tuple[slice, slice]
    light: NDArray[np.float32]
    inside: NDArray[np.bool_]


def draw_nuclei(ellipses: Ellipses, shape: tuple[int, int]) -> Iterator[Drawing]:
    """Draw nuclei for a canvas of that shape."""
    u, v = ellipses.around(ellipses.half_px(1.0))
    radius = np.sqrt(u * u + v * v)
    light = _soft((radius - 1) * ellipses.softness)
    # Chromatin: even in both directions, so that the centroid stays at the centre.
    light *= 1 + np.float32(0.12) * np.cos(5 * u) * np.cos(4 * v)
    return ellipses.cut(light, radius <= 1, shape)


def draw_cells(ellipses: Ellipses, shape: tuple[int, int]) -> Iterator[Drawing]:
    """Draw the cells of these nuclei for a canvas of that shape."""
    u, v = ellipses.around(ellipses.half_px(CELL_SCALE * LOBE))
    square = u * u + v * v
    radius = np.sqrt(square)
    # Waves along the outline, two and three around: cos(n a + b) is the real part of
    # exp(i b) exp(i a)**n, and exp(i a) is the direction from the centre.
    direction = np.empty(u.shape, np.complex64)
    nonzero = np.maximum(radius, np.float32(1e-6))
    np.divide(u, nonzero, out=direction.real)
    np.divide(v, nonzero, out=direction.imag)
    two, three = (np.array([0.08, 0.06]) * np.exp(1j * ellipses.lobes)).astype(np.complex64).T
    waves = three[:, None, None] * direction
    waves += two[:, None, None]
    waves *= direction
    waves *= direction
    outline = CELL_SCALE * (1 + waves.real)
    light = _soft((radius - outline) * ellipses.softness)
    square *= np.float32(-0.5 / CELL_SCALE**2)
    square += 1
    light *= square  # thinner towards the edge
    return ellipses.cut(light, radius <= 1, shape)


def _span(middle: int, half: int, size: int) -> tuple[slice, slice]:
    """Find a window on one axis of a canvas of that size, and what part of the window that is."""
    start = middle - half
    first, end = max(start, 0), max(min(middle + half + 1, size), 0)
    return slice(first, end), slice(first - start, max(end, first) - start)


def _soft(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fall from 1 to 0 around distance 0, with width 1; exactly 0 from `FAINT` on."""
    falling = np.minimum(distance, FAINT)
    falling += falling
    np.exp(falling, out=falling)
    falling += 1
    np.reciprocal(falling, out=falling)
    falling *= distance < FAINT
    return falling
