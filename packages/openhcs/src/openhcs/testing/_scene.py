"""The scene of a well: cells on one continuous canvas, the same for every tile and channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from openhcs.testing._geometry import canvas_shape, overlap_bands
from openhcs.testing._spec import Seed, generator, well_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from openhcs.testing._spec import PlateSpec

__all__ = ["Cells", "Scene", "background_counts"]

NUCLEUS_COUNTS = 1400.0  # median of the first channel, above the background
CELL_COUNTS = (500.0, 700.0, 420.0, 600.0)  # medians of the others, in turn
BACKGROUND_COUNTS = (180.0, 140.0, 220.0, 160.0)
EDGE_UM = 0.45  # half width of a soft edge
CELL_SCALE = 1.8  # axes of a cell against those of its nucleus
LOBE = 1.14  # largest radius of a cell against that of its smooth outline
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
        canvases = np.empty((len(spec.channels), *self._shape), np.float32)
        for channel in range(len(spec.channels)):
            background = background_counts(channel)
            canvases[channel] = background
            canvases[channel] += np.float32(background) * self._texture
        labels = np.zeros(self._shape, np.uint16)
        cells = self.cells(t)
        sums = np.zeros((len(cells.x_um), len(spec.channels)))
        for index, shape in enumerate(self._outlines(cells)):
            if shape.nucleus.size == 0:
                continue
            label = labels[shape.window]
            label[(shape.radius <= 1.0) & (label == 0)] = index + 1
            for channel in range(len(spec.channels)):
                drawn = shape.nucleus if channel == 0 else shape.cell
                counts = (
                    NUCLEUS_COUNTS
                    if channel == 0
                    else CELL_COUNTS[(channel - 1) % len(CELL_COUNTS)]
                )
                light = drawn * np.float32(counts * cells.brightness[index, channel])
                canvases[(channel, *shape.window)] += light
                sums[index, channel] = light.sum(dtype=np.float64)
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

        x = np.full(wanted, np.inf)
        y = np.full(wanted, np.inf)
        placed: list[int] = []

        def free(index: int, at_x: float, at_y: float, partner: int | None) -> bool:
            room = reach * major[index] + 4 * EDGE_UM
            for centre, found in ((at_y, bands[0]), (at_x, bands[1])):
                if any(first - room < centre < last + room for first, last in found):
                    return False
            least = major + major[index] + GAP_UM
            apart = np.hypot(x - at_x, y - at_y) >= least
            if partner is not None:
                apart[partner] = True
            return bool(apart.all())

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

    def _outlines(self, cells: Cells) -> Iterator[_Outline]:
        """Shapes of the cells on the canvas, in their order."""
        pixel = self._spec.pixel_um
        height, width = self._shape
        xs, ys = self.to_px(cells.x_um, cells.y_um)
        scale = CELL_SCALE if len(self._spec.channels) > 1 else 1.0
        for x, y, major, minor, angle, (first, second) in zip(
            xs.tolist(),
            ys.tolist(),
            (cells.major_um / pixel).tolist(),
            (cells.minor_um / pixel).tolist(),
            np.radians(cells.angle).tolist(),
            cells.lobes.tolist(),
            strict=True,
        ):
            reach = scale * LOBE * major + 6 * EDGE_UM / pixel + 1
            top, bottom = max(math.floor(y - reach), 0), min(math.ceil(y + reach) + 1, height)
            left, right = max(math.floor(x - reach), 0), min(math.ceil(x + reach) + 1, width)
            window = (slice(top, max(bottom, top)), slice(left, max(right, left)))
            down = np.arange(top, max(bottom, top), dtype=np.float32)[:, None] - np.float32(y)
            across = np.arange(left, max(right, left), dtype=np.float32)[None, :] - np.float32(x)
            cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
            u = (across * cos + down * sin) * np.float32(1 / major)
            v = (down * cos - across * sin) * np.float32(1 / minor)
            radius = np.sqrt(u * u + v * v)
            softness = np.float32(math.sqrt(major * minor) * pixel / EDGE_UM)
            # Even in both directions, so that the centroid stays at the centre.
            chromatin = 1 + np.float32(0.12) * np.cos(u * 5) * np.cos(v * 4)
            nucleus = _soft((radius - 1) * softness) * chromatin
            cell = nucleus
            if scale > 1:
                thickness = 1 - np.float32(0.5 / scale**2) * radius * radius
                around = np.arctan2(v, u)
                outline = 1 + np.float32(0.08) * np.cos(2 * around + np.float32(first))
                outline += np.float32(0.06) * np.cos(3 * around + np.float32(second))
                cell = _soft((radius - np.float32(scale) * outline) * softness) * thickness
            yield _Outline(window, radius, nucleus, cell)


@dataclass(frozen=True, slots=True)
class _Outline:
    """One cell on its window of the canvas.

    Parameters
    ----------
    window
        Rows and columns of the canvas.
    radius
        Distance from the centre in units of the nucleus' outline, shape of the window.
    nucleus, cell
        Relative light, shape of the window.
    """

    window: tuple[slice, slice]
    radius: NDArray[np.float32]
    nucleus: NDArray[np.float32]
    cell: NDArray[np.float32]


def _soft(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fall from 1 to 0 around distance 0, with width 1; exactly 0 from 6 on."""
    falling: NDArray[np.float32] = np.reciprocal(1 + np.exp(np.clip(2 * distance, -30, 12)))
    falling[distance >= 6] = 0
    return falling


def _support(major: float, minor: float, angle: float) -> float:
    """Radius of an ellipse in the direction `angle` degrees from its major axis."""
    along, across = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return major * minor / math.hypot(minor * along, major * across)
