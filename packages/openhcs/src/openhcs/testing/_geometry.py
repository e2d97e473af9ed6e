"""Where the tiles of a well lie: as the stage reports it, and in truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.testing._spec import Seed, generator

if TYPE_CHECKING:
    from openhcs.testing._spec import PlateSpec

__all__ = ["TilePlace", "canvas_shape", "overlap_bands", "tile_places"]

_SPLINE_PX = 3  # of canvas that sampling needs around a tile


@dataclass(frozen=True, slots=True, kw_only=True)
class TilePlace:
    """One field of a well.

    Parameters
    ----------
    field
        0-based, in the order of the format.
    grid_y, grid_x
        Its cell in the grid, 0-based from the top left.
    stage_x_um, stage_y_um
        Centre of the tile from the centre of the well as the stage reports it, rounded to
        0.01 µm; x to the right, y downward.
    x_um, y_um
        The same in truth.
    x_px, y_px
        Centre of the tile's first pixel on the true mosaic, in px.
    """

    field: int
    grid_y: int
    grid_x: int
    stage_x_um: float
    stage_y_um: float
    x_um: float
    y_um: float
    x_px: float
    y_px: float


def _margin_px(spec: PlateSpec) -> int:
    return math.ceil(spec.stage_error_px + spec.channel_shift_px) + _SPLINE_PX + 1


def _pitch_px(spec: PlateSpec) -> tuple[float, float]:
    return spec.size_px[0] * (1 - spec.overlap), spec.size_px[1] * (1 - spec.overlap)


def canvas_shape(spec: PlateSpec) -> tuple[int, int]:
    """Say how large the true mosaic of a well is, in px (y, x); the same for all wells."""
    margin = _margin_px(spec)
    height, width = (
        math.ceil((count - 1) * pitch + size) + 2 * margin
        for count, pitch, size in zip(spec.grid, _pitch_px(spec), spec.size_px, strict=True)
    )
    return height, width


def tile_places(
    spec: PlateSpec, row: int, col: int, order: tuple[tuple[int, int], ...]
) -> tuple[TilePlace, ...]:
    """Place the tiles of a well.

    Parameters
    ----------
    spec
        The plate.
    row, col
        The well, 0-based.
    order
        Grid cells (y, x) in the order in which the format numbers its fields.

    Returns
    -------
    tuple of TilePlace
        One per field, by field.
    """
    rng = generator(spec.seed, Seed.STAGE, row, col)
    errors = rng.uniform(-spec.stage_error_px, spec.stage_error_px, (*spec.grid, 2))
    height, width = canvas_shape(spec)
    pitch_y, pitch_x = _pitch_px(spec)
    places = []
    for field, (grid_y, grid_x) in enumerate(order):
        stage_y = round((grid_y - (spec.grid[0] - 1) / 2) * pitch_y * spec.pixel_um, 2)
        stage_x = round((grid_x - (spec.grid[1] - 1) / 2) * pitch_x * spec.pixel_um, 2)
        error_y, error_x = errors[grid_y, grid_x].tolist()
        y_um = stage_y + error_y * spec.pixel_um
        x_um = stage_x + error_x * spec.pixel_um
        places.append(
            TilePlace(
                field=field,
                grid_y=grid_y,
                grid_x=grid_x,
                stage_x_um=stage_x,
                stage_y_um=stage_y,
                x_um=x_um,
                y_um=y_um,
                x_px=x_um / spec.pixel_um + (width - spec.size_px[1]) / 2,
                y_px=y_um / spec.pixel_um + (height - spec.size_px[0]) / 2,
            )
        )
    return tuple(places)


def overlap_bands(spec: PlateSpec) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Say where tiles of neighbouring grid rows and columns overlap.

    Returns
    -------
    tuple of two lists
        First and last px along y of the overlaps between rows, then along x of those between
        columns, widened by the errors of stage and channels.
    """
    bands: list[list[tuple[float, float]]] = []
    margin = _margin_px(spec)
    reach = spec.stage_error_px + spec.channel_shift_px
    for count, pitch, size in zip(spec.grid, _pitch_px(spec), spec.size_px, strict=True):
        bands.append(
            [
                (
                    margin + step * pitch - reach,
                    margin + (step - 1) * pitch + size + reach,
                )
                for step in range(1, count)
            ]
        )
    return bands[0], bands[1]
