"""What functions on single planes cost beside the calls of numpy and scipy that do their work.

A plane of 1080 x 1080 uint16, in turn: processor time, which does not depend on who else is busy.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from _rows import Row
from scipy import ndimage

from openhcs.functions import (
    Stack,
    correct_illumination,
    gaussian_px,
    median,
    project_max,
    project_mean,
    project_min,
    project_std,
    project_sum,
    subtract_background,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["rows"]

SIDE, DEPTH = 1080, 5
DARK = 100.0
PIXEL_UM = (0.65, 0.65)
WIDE_PX = 25.0 / PIXEL_UM[0]
PROJECTIONS: Sequence[tuple[str, Callable[[Stack], Any], Callable[..., NDArray[Any]]]] = (
    ("project_max", project_max, lambda stack: stack.max(axis=0)),
    ("project_mean", project_mean, lambda stack: np.rint(stack.mean(axis=0)).astype(np.uint16)),
    ("project_min", project_min, lambda stack: stack.min(axis=0)),
    ("project_sum", project_sum, lambda stack: stack.sum(axis=0)),
    ("project_std", project_std, lambda stack: stack.std(axis=0).astype(np.float32)),
)


@dataclass(frozen=True)
class Cost:
    """A function, and what it is held against."""

    name: str
    ours: Callable[[], Any]
    limit: Callable[[], Any]
    most: float
    megapixels: float = SIDE * SIDE / 1e6


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; medians of `repeats`."""
    return [_row(cost, repeats) for cost in _costs()]


def _costs() -> list[Cost]:
    rng = np.random.default_rng(2)
    plane = rng.poisson(600, (SIDE, SIDE)).astype(np.uint16)
    stack = [rng.poisson(600, (SIDE, SIDE)).astype(np.uint16) for _ in range(DEPTH)]
    loaders = [partial(np.asarray, each) for each in stack]
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    flat = (1.2 - 0.3 * (x**2 + y**2)).astype(np.float32)
    prepared: dict[str, NDArray[Any]] = {
        "source": np.asarray(2, np.uint8),
        "confidence": np.asarray(2, np.uint8),
        "dark_source": np.asarray(3, np.uint8),
        "fields": np.asarray(64),
        "dark": np.asarray(DARK, np.float32),
        "flat": flat,
    }
    return [
        Cost(
            "correct_illumination; limit the same in numpy",
            lambda: correct_illumination(plane, prepared=prepared),
            lambda: _flat_field(plane, flat),
            1.2,
        ),
        Cost(
            "gaussian_px, 1.5 px; limit gaussian_filter",
            lambda: gaussian_px(plane, sigma_px=1.5),
            lambda: ndimage.gaussian_filter(plane.astype(np.float32), 1.5),
            1.25,
        ),
        Cost(
            "gaussian_px, 50 px; limit gaussian_filter",
            lambda: gaussian_px(plane, sigma_px=50.0),
            lambda: ndimage.gaussian_filter(plane.astype(np.float32), 50.0),
            0.1,
        ),
        Cost(
            "median, 3 px; limit median_filter",
            lambda: median(plane, size_px=3),
            lambda: ndimage.median_filter(plane, size=3),
            1.1,
        ),
        Cost(
            "subtract_background, 25 µm; limit grey_opening",
            lambda: subtract_background(plane, pixel_um=PIXEL_UM, radius_um=25.0),
            lambda: ndimage.grey_opening(plane, size=(round(2 * WIDE_PX) + 1,) * 2),
            1.0,
        ),
        *(
            Cost(
                f"{name} of {DEPTH} planes; limit a stack in numpy",
                partial(project, Stack(loaders)),
                partial(_stacked, loaders, reduced),
                1.0,
                DEPTH * SIDE * SIDE / 1e6,
            )
            for name, project, reduced in PROJECTIONS
        ),
    ]


def _stacked(
    loaders: Sequence[Callable[[], NDArray[np.uint16]]],
    reduced: Callable[[NDArray[np.uint16]], NDArray[Any]],
) -> NDArray[Any]:
    return reduced(np.stack([load() for load in loaders]))


def _flat_field(plane: NDArray[np.uint16], flat: NDArray[np.float32]) -> NDArray[np.uint16]:
    even = (plane.astype(np.float32) - np.float32(DARK)) / flat
    counts: NDArray[np.uint16] = np.clip(np.rint(even), 0, 65535).astype(np.uint16)
    return counts


def _row(cost: Cost, repeats: int) -> Row:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for times, call in zip(taken, (cost.ours, cost.limit), strict=True):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    ours, limit = (statistics.median(times[1:]) for times in taken)
    return Row(
        row=cost.name,
        value=ours / cost.megapixels * 1e3,
        unit="ms CPU/Mpx",
        limit=limit / cost.megapixels * 1e3,
        ratio=ours / limit,
        target=f"<= {cost.most:g}",
        met=ours <= cost.most * limit,
    )
