"""The scene of a well: cells on one continuous canvas, the same for every tile and channel."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.testing._geometry import canvas_shape, overlap_bands
from openhcs.testing._outlines import CELL_SCALE, LOBE, Ellipses, draw_cells, draw_nuclei
from openhcs.testing._spec import Seed, generator, well_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from openhcs.testing._outlines import Drawing
    from openhcs.testing._spec import PlateSpec

__all__ = ["Cells", "Scene", "background_counts"]

NUCLEUS_COUNTS = 1400.0  # median of the first channel, above the background
CELL_COUNTS = (500.0, 700.0, 420.0, 600.0)  # medians of the others, in turn
BACKGROUND_COUNTS = (180.0, 140.0, 220.0, 160.0)
EDGE_UM = 0.45  # half width of a soft edge
DRAWN_TOGETHER = 12  # cells: for one alone, calls of NumPy cost more than what they do
GAP_UM = 2.5  # least room between two separate nuclei
TRIES = 60  # places tried for a nucleus before the well counts as full
BRIGHTNESS_CV = 0.15  # of cells of one well
MOTION_UM = 0.6  # standard deviation of the step between two time points


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of a well as columns, shape (cells,).

    Parameters
    ----------
    x_um, y_um
        Centre from the centre of the well; x to the right, y downward.
    major_um, minor_um
        Semi-axes of the nucleus.
    angle
        Degrees from the x axis to the major axis, towards +y.
    lobes
        Phases of the waves along a cell's outline, in radians, shape (cells, 2).
    brightness
        Factor on the channels' medians, shape (cells, channels); the effect of the well's
        condition is in it.
    """

    x_um: NDArray[np.float64]
    y_um: NDArray[np.float64]
    major_um: NDArray[np.float64]
    minor_um: NDArray[np.float64]
    angle: NDArray[np.float64]
    lobes: NDArray[np.float64]
    brightness: NDArray[np.float64]


def _median_counts(channel: int) -> float:
    """Say how much light a cell adds to a channel where it is brightest, in the median."""
    return CELL_COUNTS[(channel - 1) % len(CELL_COUNTS)] if channel else NUCLEUS_COUNTS


def background_counts(channel: int) -> float:
    """Say how bright a channel is where there is no cell, on average over the field."""
    return BACKGROUND_COUNTS[channel % len(BACKGROUND_COUNTS)]


class Scene:
    """The scene of one well.

    Parameters
    ----------
    spec
        The plate.
    row, col
        The well, 0-based; with the plate's seed they decide everything.

    Attributes
    ----------
    well
        Row and column.
    focus_um
        z of the sharp plane, from the middle of the stack.
    """

    def __init__(self, spec: PlateSpec, row: int, col: int) -> None:
        self._spec = spec
        self.well = (row, col)
        self._shape = canvas_shape(spec)
        self._name = well_name(row, col)
        rng = generator(spec.seed, Seed.SCENE, row, col)
        self.focus_um = float(rng.uniform(-1, 1)) * spec.focus_spread_um
        self._cells = self._place(rng)
        self._steps = rng.normal(0.0, MOTION_UM, (max(spec.t - 1, 1), 2, len(self._cells.x_um)))
        self._texture = self._make_texture()

    def cells(self, t: int) -> Cells:
        """Say where the cells are at a time point."""
        start = self._cells
        moved = self._steps[:t].sum(axis=0) if t else np.zeros((2, len(start.x_um)))
        return Cells(
            x_um=start.x_um + moved[0],
            y_um=start.y_um + moved[1],
            major_um=start.major_um,
            minor_um=start.minor_um,
            angle=start.angle,
            lobes=start.lobes,
            brightness=start.brightness,
        )

    def to_px(
        self, x_um: NDArray[np.float64], y_um: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Turn places from the well's centre into px (x, y) of the true mosaic."""
        height, width = self._shape
        return (
            x_um / self._spec.pixel_um + (width - 1) / 2,
            y_um / self._spec.pixel_um + (height - 1) / 2,
        )

    def render(self, t: int) -> tuple[NDArray[np.float32], NDArray[np.uint16], NDArray[np.float64]]:
        """Draw the cells of a time point.

        Parameters
        ----------
        t
            0-based.

        Returns
        -------
        tuple
            Canvases in focus, in counts above the camera's offset under even illumination, shape
            (channels, Y, X); label image of the nuclei, cell n as n + 1, shape (Y, X), where a
            nucleus that touches an earlier one yields the shared pixels; sum of the counts that
            each cell adds, shape (cells, channels).
        """
        spec = self._spec
        cells = self.cells(t)
        canvases = np.empty((len(spec.channels), *self._shape), np.float32)
        counts = np.empty((len(cells.x_um), len(spec.channels)))
        for channel, canvas in enumerate(canvases):
            canvas[...] = np.float32(background_counts(channel)) * (1 + self._texture)
            counts[:, channel] = _median_counts(channel) * cells.brightness[:, channel]
        labels = np.zeros(self._shape, np.uint16)
        sums = np.zeros_like(counts)
        for index, nucleus in self._drawings(cells, range(len(counts)), draw_nuclei):
            label = labels[nucleus.window]
            np.copyto(label, index + 1, where=nucleus.inside & (label == 0))
            canvases[0][nucleus.window] += nucleus.light * np.float32(counts[index, 0])
            sums[index, 0] = nucleus.light.sum() * counts[index, 0]
        if len(canvases) > 1:
            # Those drawn together have windows of one size, and light adds up in any order.
            by_size = np.argsort(cells.major_um).tolist()
            for index, cell in self._drawings(cells, by_size, draw_cells):
                for canvas, added in zip(canvases[1:], counts[index, 1:], strict=True):
                    canvas[cell.window] += cell.light * np.float32(added)
                sums[index, 1:] = cell.light.sum() * counts[index, 1:]
        return canvases, labels, sums

    def _make_texture(self) -> NDArray[np.float32] | np.float32:
        """Relative variation of the background, shared by the channels; shape (Y, X)."""
        spec = self._spec
        if spec.texture == 0 or self._name in spec.empty_wells:
            return np.float32(0)
        from scipy import ndimage

        rng = generator(spec.seed, Seed.TEXTURE, *self.well)
        white = rng.standard_normal(self._shape, dtype=np.float32)
        texture: NDArray[np.float32] = ndimage.gaussian_filter(
            white, 1.5, mode="nearest", truncate=2.5
        )
        texture *= np.float32(spec.texture / texture.std())
        for axis, bands in enumerate(self._empty_bands()):
            along = np.arange(self._shape[axis], dtype=np.float32)
            keep = np.ones_like(along)
            for first, last in bands:
                keep[(along >= first - 2) & (along <= last + 2)] = 0
            texture *= keep[:, None] if axis == 0 else keep[None, :]
        return texture

    def _empty_bands(self) -> tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]]:
        """Overlaps without content, along y and along x."""
        between_rows, between_columns = overlap_bands(self._spec)
        empty = self._spec.empty_overlaps
        return (
            between_rows if empty in {"rows", "all"} else (),
            between_columns if empty in {"columns", "all"} else (),
        )

    def _place(self, rng: np.random.Generator) -> Cells:
        """Choose the cells: touching pairs first, then single ones, none over another."""
        spec = self._spec
        height, width = self._shape
        area = height * width / (spec.size_px[0] * spec.size_px[1])
        wanted = 0 if self._name in spec.empty_wells else round(spec.cells_per_field * area)
        major = rng.uniform(5.8, 8.2, wanted)
        minor = major * rng.uniform(0.72, 0.98, wanted)
        angle = rng.uniform(0.0, 180.0, wanted)
        lobes = rng.uniform(0.0, 2 * math.pi, (wanted, 2))
        brightness = np.exp(rng.normal(0.0, BRIGHTNESS_CV, (wanted, len(spec.channels))))
        if len(spec.channels) > 1:
            effect = spec.condition(self._name).effect
            effect *= spec.layout_factor(self._name) * spec.well_factor(self._name)
            brightness[:, 1] *= effect
        extent_um = np.array([width - 1, height - 1]) * spec.pixel_um
        bands = [
            [
                (
                    (first - (size - 1) / 2) * spec.pixel_um,
                    (last - (size - 1) / 2) * spec.pixel_um,
                )
                for first, last in found
            ]
            for found, size in zip(self._empty_bands(), self._shape, strict=True)
        ]
        reach = CELL_SCALE * LOBE if len(spec.channels) > 1 else 1.0

        radii = major.tolist()
        x, y = np.zeros(wanted), np.zeros(wanted)
        placed: list[int] = []
        crowd = _Crowd(2 * max(radii, default=0.0) + GAP_UM)

        def free(index: int, at_x: float, at_y: float, partner: int | None) -> bool:
            room = reach * radii[index] + 4 * EDGE_UM
            for centre, found in ((at_y, bands[0]), (at_x, bands[1])):
                if any(first - room < centre < last + room for first, last in found):
                    return False
            return all(
                distance >= radii[other] + radii[index] + GAP_UM or other == partner
                for other, distance in crowd.near(at_x, at_y)
            )

        pairs = round(spec.touching * wanted / 2)
        for index in range(wanted):
            partner = placed[-1] if index < 2 * pairs and index % 2 and placed else None
            for _ in range(TRIES):
                if partner is None:
                    at_x, at_y = ((rng.random(2) - 0.5) * extent_um).tolist()
                else:
                    direction = float(rng.uniform(0.0, 360.0))
                    distance = 0.97 * (
                        _support(major[index], minor[index], angle[index] - direction)
                        + _support(major[partner], minor[partner], angle[partner] - direction)
                    )
                    at_x = x[partner] + distance * math.cos(math.radians(direction))
                    at_y = y[partner] + distance * math.sin(math.radians(direction))
                if free(index, at_x, at_y, partner):
                    x[index], y[index] = at_x, at_y
                    placed.append(index)
                    crowd.add(index, at_x, at_y)
                    break
        chosen = np.array(placed, np.intp)
        return Cells(
            x_um=x[chosen],
            y_um=y[chosen],
            major_um=major[chosen],
            minor_um=minor[chosen],
            angle=angle[chosen],
            lobes=lobes[chosen],
            brightness=brightness[chosen],
        )

    def _drawings(
        self,
        cells: Cells,
        order: Sequence[int],
        draw: Callable[[Ellipses, tuple[int, int]], Iterator[Drawing]],
    ) -> Iterator[tuple[int, Drawing]]:
        """Draw nuclei or cells with their indices, some at a time."""
        x, y = self.to_px(cells.x_um, cells.y_um)
        for first in range(0, len(order), DRAWN_TOGETHER):
            some = order[first : first + DRAWN_TOGETHER]
            ellipses = Ellipses(
                x=x[some],
                y=y[some],
                major=cells.major_um[some] / self._spec.pixel_um,
                minor=cells.minor_um[some] / self._spec.pixel_um,
                angle=np.radians(cells.angle[some]),
                lobes=cells.lobes[some],
                edge=EDGE_UM / self._spec.pixel_um,
            )
            yield from zip(some, draw(ellipses, self._shape), strict=True)


class _Crowd:
    """Nuclei that have a place, sorted into squares, so that neighbours are quickly found.

    Parameters
    ----------
    side_um
        Side of a square: the distance within which every neighbour must be found.
    """

    def __init__(self, side_um: float) -> None:
        self._side = side_um
        self._squares: dict[tuple[int, int], list[tuple[int, float, float]]] = {}

    def add(self, index: int, x_um: float, y_um: float) -> None:
        """Add a nucleus."""
        self._squares.setdefault(self._square(x_um, y_um), []).append((index, x_um, y_um))

    def near(self, x_um: float, y_um: float) -> Iterator[tuple[int, float]]:
        """Give the nuclei around a place, and perhaps some farther ones, with their distances."""
        column, row = self._square(x_um, y_um)
        for square in itertools.product(range(column - 1, column + 2), range(row - 1, row + 2)):
            for index, x, y in self._squares.get(square, ()):
                yield index, math.hypot(x - x_um, y - y_um)

    def _square(self, x_um: float, y_um: float) -> tuple[int, int]:
        return math.floor(x_um / self._side), math.floor(y_um / self._side)


def _support(major: float, minor: float, angle: float) -> float:
    """Radius of an ellipse in the direction `angle` degrees from its major axis."""
    along, across = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return major * minor / math.hypot(minor * along, major * across)
