"""Shifts between channels that are known, as `register_channels` finds them.

Pairs of planes of one scene of Gaussian cells, the second up to 20 px off, a fifth as bright; and
pairs that have nothing in common, of which none may be believed.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
from _rows import Row
from functions_stitching import SIDE, scene_light
from scipy.fft import rfft2

from openhcs.functions import register_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["rows"]

PIXEL_UM = (0.65, 0.65)
MAX_PX, PAIRS = 20.0, 12


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; times are medians of `repeats`."""
    rng = np.random.default_rng(1)
    errors, believed, pairs = [], 0, []
    for number in range(PAIRS):
        offset = rng.uniform(-MAX_PX, MAX_PX, 2)
        first, second = _plane(rng, number, np.zeros(2), 1.0), _plane(rng, number, offset, 0.2)
        other = _plane(rng, number + PAIRS, offset, 1.0)
        pairs.append((first, second))
        found = register_channels(
            {"first": first, "second": second, "other": other},
            pixel_um=PIXEL_UM,
            max_shift_um=(MAX_PX + 4) * PIXEL_UM[0],
        ).registration
        errors.append((found["dy_px"][1] - offset[0], found["dx_px"][1] - offset[1]))
        believed += int(found["confidence"][2] > 0)
    rms = float(np.sqrt(np.mean(np.square(errors))))
    return [
        Row(
            row=f"registration error, {PAIRS} pairs of channels",
            value=rms,
            unit="px rms",
            limit=0.1,
            ratio=rms / 0.1,
            target="<= 0.1 px",
            met=rms <= 0.1,
        ),
        Row(
            row=f"pairs with nothing in common that are believed, of {PAIRS}",
            value=float(believed),
            unit="pairs",
            limit=0.0,
            ratio=None,
            target="none",
            met=believed == 0,
        ),
        _cost(pairs[0], repeats),
    ]


def _plane(
    rng: np.random.Generator, scene: int, offset: NDArray[np.float64], gain: float
) -> NDArray[np.uint16]:
    cells = np.random.default_rng(scene)
    count = 300
    light = scene_light(
        cells.uniform(-40, SIDE + 40, (count, 2)) + offset,
        cells.uniform(3, 9, (count, 2)),
        gain * cells.lognormal(6.5, 0.5, count),
    )
    noisy = rng.poisson(light) + rng.normal(100, 3, light.shape)
    counts: NDArray[np.uint16] = np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)
    return counts


def _cost(pair: tuple[NDArray[np.uint16], NDArray[np.uint16]], repeats: int) -> Row:
    """Time a pair beside three Fourier transforms of a plane."""
    ours, limit = [], []
    planes = dict(zip(("first", "second"), pair, strict=True))
    plane = pair[0].astype(np.float32)
    for _ in range(repeats):
        start = time.process_time()
        register_channels(planes, pixel_um=PIXEL_UM)
        ours.append(time.process_time() - start)
        start = time.process_time()
        for _ in range(3):
            rfft2(plane)
        limit.append(time.process_time() - start)
    value, least = statistics.median(ours), statistics.median(limit)
    return Row(
        row="register_channels, a pair of 1080 x 1080; limit three rfft2",
        value=value * 1e3,
        unit="ms CPU",
        limit=least * 1e3,
        ratio=value / least,
        target="<= 40",
        met=value <= 40 * least,
    )
