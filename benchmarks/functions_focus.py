"""The plane in best focus, as `best_focus` chooses it, against the one that was made sharp.

Synthetic plates whose focus lies anywhere within the stack: with cells as usual, with few, and with
a background that hides nothing. Each field is a well of its own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from _rows import Row
from scipy.ndimage import gaussian_laplace

from openhcs.functions import Stack, best_focus
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["rows"]

WELLS = tuple(f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13))
SIDE, DEPTH = 256, 7
SCENES = {"22 cells a field": 22.0, "3 cells a field": 3.0}


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; times are medians of `repeats`."""
    found: list[Row] = []
    stack: list[NDArray[np.uint16]] = []
    for scene, cells in SCENES.items():
        with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
            plate = Path(folder) / "plate"
            truth = synthetic_plate(
                plate,
                wells=WELLS,
                grid=(1, 1),
                z=DEPTH,
                size_px=SIDE,
                cells_per_field=cells,
                focus_spread_um=7.0,
                seed=11,
            )
            index = open_plate(plate)
            best = dict(zip(truth.tiles["well"], truth.tiles["best_z"], strict=True))
            for channel, name in enumerate(index.channel_names):
                right = 0
                for well in WELLS:
                    planes = list(index.select(wells=[well], channels=[channel]))
                    stack = [index.read(plane) for plane in planes]
                    chosen = best_focus(Stack([partial(np.asarray, each) for each in stack]))
                    right += chosen.focus["z"] == best[well]
                share = 100 * right / len(WELLS)
                found.append(
                    Row(
                        row=f"best focus right, {name}, {scene}, {DEPTH} planes",
                        value=share,
                        unit="% of fields",
                        limit=100.0,
                        ratio=share / 100,
                        target=">= 98 %",
                        met=share >= 98,
                    )
                )
    return [*found, _cost(stack, repeats)]


def _cost(stack: list[NDArray[np.uint16]], repeats: int) -> Row:
    """Time the choice beside the Laplacians alone."""
    ours, limit = [], []
    for _ in range(repeats):
        start = time.process_time()
        best_focus(Stack([partial(np.asarray, each) for each in stack]))
        ours.append(time.process_time() - start)
        start = time.process_time()
        for plane in stack:
            gaussian_laplace(plane.astype(np.float32), 1.0)
        limit.append(time.process_time() - start)
    megapixels = sum(plane.size for plane in stack) / 1e6
    value, least = statistics.median(ours) / megapixels, statistics.median(limit) / megapixels
    return Row(
        row="best_focus; limit gaussian_laplace",
        value=value * 1e3,
        unit="ms CPU/Mpx",
        limit=least * 1e3,
        ratio=value / least,
        target="<= 1.25",
        met=value <= 1.25 * least,
    )
