"""Stitching against truth, and its cost beside one Fourier transform of the same tiles.

Nine tiles of 1080 x 1080 with an overlap of 10 % are rendered from cells whose places are known
exactly, each tile at a fraction of a pixel and up to 5 px away from where the stage says. Then for
other overlaps, up to 100 px away, and with few cells: which pairs are believed that are not right,
how many of those are found whose tiles overlap in truth by 20 px and lie within the limit, what
that costs, and how far tiles lie from their places where all are connected.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from _rows import Row
from scipy.fft import rfft2

from openhcs.functions import Tile, stitch
from openhcs.functions._align import PairStatus, align
from openhcs.functions._fuse import fuse, mosaic_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MAX_SHIFT_PX", "PIXEL_UM", "SIDE", "Well", "made_well", "rows", "scene_light"]

SIDE, GRID, OVERLAP, JITTER_PX = 1080, 3, 0.1, 5.0
PIXEL_UM = (0.65, 0.65)
MAX_SHIFT_PX = (0.15 * SIDE, 0.15 * SIDE)
FAR_PX = 2.0


@dataclass(frozen=True, slots=True)
class Well:
    """Tiles and where they lie, (y, x) in px of shape (n, 2): by the stage, and in truth."""

    tiles: list[NDArray[np.uint16]]
    stage_px: NDArray[np.float64]
    true_px: NDArray[np.float64]

    def as_tiles(self) -> list[Tile]:
        """Give the tiles as a pipeline hands them over."""
        return [
            Tile(
                field=n,
                y_um=float(y) * PIXEL_UM[0],
                x_um=float(x) * PIXEL_UM[1],
                load=lambda n=n: self.tiles[n],  # type: ignore[misc]
            )
            for n, (y, x) in enumerate(self.stage_px)
        ]


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; times are medians of `repeats`."""
    well = made_well(GRID, GRID)
    found = stitch({"DAPI": well.as_tiles()}, pixel_um=PIXEL_UM)
    placed = np.column_stack([found.tiles["y_px"], found.tiles["x_px"]])
    error = placed - well.true_px
    error -= error.mean(axis=0)
    rms = float(np.sqrt(np.mean(np.square(error))))
    worst = float(np.abs(error).max())

    empty = made_well(GRID, GRID, cells_per_mpx=0)
    alone = stitch({"DAPI": empty.as_tiles()}, pixel_um=PIXEL_UM)
    placed = np.column_stack([alone.tiles["y_px"], alone.tiles["x_px"]])
    moved = float(np.abs(placed - (empty.stage_px - empty.stage_px[0])).max())

    transform, aligned, fused = _costs(well, repeats)
    return [
        Row("stitching error, rms", rms, "px", 0.1, rms / 0.1, "<= 0.1 px", rms <= 0.1),
        Row("stitching error, largest", worst, "px", 0.5, worst / 0.5, "<= 0.5 px", worst <= 0.5),
        Row(
            "empty overlaps: tiles moved off the stage position",
            moved,
            "px",
            None,
            None,
            "stage-only, <= 0.01 px",
            alone.stitch["verdict"] == "stage-only" and moved <= 0.01,
        ),
        Row(
            "finding positions, per tile",
            aligned * 1e3,
            "ms CPU",
            transform * 1e3,
            aligned / transform,
            "<= 5 x one rfft2 of the tile",
            aligned <= 5 * transform,
        ),
        Row(
            "fusing, per tile",
            fused * 1e3,
            "ms CPU",
            transform * 1e3,
            fused / transform,
            "<= 3 x one rfft2 of the tile",
            fused <= 3 * transform,
        ),
        *(
            row
            for case in product((60, 400), (0.05, 0.1, 0.15), (2, 8, 30, 100))
            for row in _far(*case)
        ),
    ]


def _far(cells_per_mpx: float, overlap: float, error_px: int) -> list[Row]:
    """Say what becomes of a stage that is wrong by up to so many px."""
    well = made_well(
        GRID,
        GRID,
        cells_per_mpx=cells_per_mpx,
        overlap=overlap,
        jitter_px=error_px,
        seed=int(error_px + 1000 * overlap),
    )
    start = time.process_time()
    found = align(well.tiles, well.stage_px, shape=(SIDE, SIDE), max_shift_px=MAX_SHIFT_PX)
    seconds = (time.process_time() - start) / len(well.tiles)
    seen = right = wrong = 0
    for pair in found.pairs:
        truth = well.true_px[pair.second] - well.true_px[pair.first]
        moved = truth - (well.stage_px[pair.second] - well.stage_px[pair.first])
        overlapping = bool(np.all(SIDE - np.abs(truth) >= 20))
        seen += overlapping and bool(np.all(np.abs(moved) <= MAX_SHIFT_PX))
        if pair.status is PairStatus.ACCEPTED:
            close = float(np.abs(np.array(pair.shift_px) - moved).max()) <= FAR_PX
            right, wrong = right + close, wrong + (not close)
    error = well.stage_px + found.displacement_px - well.true_px
    error -= error.mean(axis=0)
    rms = float(np.sqrt(np.mean(np.square(error))))
    case = f"stage {error_px} px off, {overlap:.0%} overlap, {cells_per_mpx:g} cells/Mpx"
    said = f"{found.verdict}; {right} of {seen} pairs, {seconds * 1e3:.0f} ms CPU per tile"
    joined = found.verdict == "aligned" and not wrong
    return [
        Row(
            f"{case}: {said}",
            rms,
            "px rms",
            0.1,
            rms / 0.1,
            "<= 0.1 px where aligned",
            rms <= 0.1 or not joined,
        ),
        Row(f"{case}: pairs that are wrong", wrong, "pairs", 0, None, "none", not wrong),
    ]


def made_well(
    rows: int,
    columns: int,
    *,
    cells_per_mpx: float = 400,
    brightness: float = 1.0,
    empty_overlaps: bool = False,
    overlap: float = OVERLAP,
    jitter_px: float = JITTER_PX,
    seed: int = 7,
) -> Well:
    """Render the tiles of a well; with empty overlaps, cells keep to the middle of the tiles."""
    rng = np.random.default_rng(seed)
    step = SIDE * (1 - overlap)
    stage = np.array([(y * step, x * step) for y in range(rows) for x in range(columns)]) + 20
    true = stage + rng.uniform(-jitter_px, jitter_px, stage.shape)
    extent = np.array([rows, columns]) * step + SIDE
    count = int(cells_per_mpx * extent[0] * extent[1] / 1e6)
    places = rng.uniform(0, extent, (count, 2))
    radii = rng.uniform(3, 9, (count, 2))
    bright = brightness * rng.lognormal(6.5, 0.5, count)
    if empty_overlaps:
        within = (places - 20) % step
        inside = np.all((within > SIDE * overlap + 60) & (within < step - 60), axis=1)
        places, radii, bright = places[inside], radii[inside], bright[inside]
    tiles = []
    for corner in true:
        light = scene_light(places - corner, radii, bright)
        noisy = rng.poisson(light) + rng.normal(100, 3, light.shape)
        tiles.append(np.clip(np.rint(noisy), 0, 65535).astype(np.uint16))
    return Well(tiles, stage, true)


def scene_light(
    places: NDArray[np.float64], radii: NDArray[np.float64], bright: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sample a scene of Gaussian cells exactly, on a background of 50 photons."""
    light = np.full((SIDE, SIDE), 50.0)
    seen = np.all((places > -50) & (places < SIDE + 50), axis=1)
    for place, radius, brightness in zip(places[seen], radii[seen], bright[seen], strict=True):
        profiles, spans = [], []
        for centre, width in zip(place, radius, strict=True):
            span = slice(max(0, int(centre - 5 * width)), max(0, int(centre + 5 * width) + 2))
            at = np.arange(SIDE)[span]
            profiles.append(np.exp(-np.square((at - centre) / width) / 2))
            spans.append(span)
        light[spans[0], spans[1]] += brightness * np.multiply.outer(*profiles)
    return light


def _costs(well: Well, repeats: int) -> tuple[float, float, float]:
    """Give seconds of CPU per tile: one rfft2, finding positions, fusing; taken in turn."""
    shape = (SIDE, SIDE)
    positions = np.round(well.true_px - well.true_px.min(axis=0), 2)
    canvas = mosaic_shape(positions, shape)
    loads = [partial(np.asarray, tile) for tile in well.tiles]
    pixels = [tile.astype(np.float32) for tile in well.tiles]
    times = np.empty((repeats, 3))
    for turn in range(repeats):
        start = time.process_time()
        for tile in pixels:
            rfft2(tile)
        transformed = time.process_time()
        align(well.tiles, well.stage_px, shape=shape, max_shift_px=MAX_SHIFT_PX)
        aligned = time.process_time()
        fuse(loads, positions, shape=shape, canvas=canvas)
        times[turn] = np.diff([start, transformed, aligned, time.process_time()])
    transform, found, fused = np.median(times, axis=0) / len(well.tiles)
    return float(transform), float(found), float(fused)
