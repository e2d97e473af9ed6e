"""The illumination found on synthetic plates, against the one that they were made with.

Plates of 64 wells with few cells, and with so many that there is little else, in two channels:
nuclei, and whole cells that cover more. The corners have 0.4 of the light in the middle, which lies
off the centre. The cost stands beside reading one field of the usual size.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _rows import Row
from imagecodecs import lzw_decode, lzw_encode

from openhcs.functions import correct_illumination, spec_of
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["rows"]

WELLS = tuple(f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(3, 11))
SIDE, OFFSET = 432, 100.0
CELLS = (4, 30, 115)
USUAL = (1080, 1080)


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; times are medians of `repeats`."""
    found = []
    summaries: list[Mapping[str, NDArray[Any]]] = []
    for cells in CELLS:
        with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
            truth = synthetic_plate(
                Path(folder) / "plate",
                wells=WELLS,
                grid=(1, 1),
                z=1,
                size_px=SIDE,
                cells_per_field=cells,
                vignetting=0.4,
                offset=OFFSET,
                seed=5,
            )
            index = open_plate(Path(folder) / "plate")
            for channel, name in enumerate(index.channel_names):
                planes = [index.read(plane) for plane in index.select(channels=[channel])]
                true = truth.illumination[channel]
                found += _found(planes, true, f"{name}, {_covered(planes, true):.0%} foreground")
                summaries = _summaries(planes)
    return [*found, _cost(summaries, repeats)]


def _covered(planes: Sequence[NDArray[Any]], true: NDArray[np.float32]) -> float:
    """Give the share of pixels that are brighter by half than the background, evenly lit."""
    shares = []
    for plane in planes[:16]:
        even = (plane - OFFSET) / true
        shares.append(float((even > 1.5 * np.percentile(even, 5)).mean()))
    return statistics.mean(shares)


def _found(planes: Sequence[NDArray[Any]], true: NDArray[np.float32], name: str) -> list[Row]:
    auto, known = (_profile(planes, dark) for dark in (None, OFFSET))
    r = float(np.corrcoef(auto.ravel(), true.ravel())[0, 1])
    off, off_known = (float(np.sqrt(np.mean((each - true) ** 2))) for each in (auto, known))
    return [
        Row(f"illumination r, {name}", r, "r", 1.0, r, ">= 0.99", r >= 0.99),
        Row(
            f"illumination error, dark level given, {name}",
            off_known,
            "rms",
            0.02,
            off_known / 0.02,
            "<= 0.02",
            off_known <= 0.02,
        ),
        Row(
            f"illumination error, nothing given, {name}",
            off,
            "rms",
            0.02,
            off / 0.02,
            "<= 0.02",
            off <= 0.02,
        ),
    ]


def _summaries(planes: Sequence[NDArray[Any]]) -> list[Mapping[str, NDArray[Any]]]:
    preparation = spec_of(correct_illumination).preparation
    assert preparation is not None
    return [preparation.summarise(plane, {}) for plane in planes]


def _profile(planes: Sequence[NDArray[Any]], dark: float | None) -> NDArray[np.float32]:
    return _combined(_summaries(planes), planes[0].shape, dark)


def _combined(
    summaries: Sequence[Mapping[str, NDArray[Any]]], shape: tuple[int, ...], dark: float | None
) -> NDArray[np.float32]:
    preparation = spec_of(correct_illumination).preparation
    assert preparation is not None
    parameters = {"source": "estimate", "dark": dark}
    prepared = preparation.combine(summaries, parameters, shape=(shape[0], shape[1]), vendor=None)
    flat: NDArray[np.float32] = prepared.arrays["flat"]
    return flat


def _cost(summaries: Sequence[Mapping[str, NDArray[Any]]], repeats: int) -> Row:
    """Time the estimate of a channel beside decoding the fields that it is made from."""
    plane = np.random.default_rng(0).poisson(400, USUAL).astype(np.uint16)
    packed = lzw_encode(plane.tobytes())
    ours, limit = [], []
    for _ in range(repeats):
        start = time.process_time()
        _combined(summaries, USUAL, None)
        ours.append(time.process_time() - start)
        start = time.process_time()
        for _ in summaries:
            lzw_decode(packed, out=plane.nbytes)
        limit.append(time.process_time() - start)
    value, least = statistics.median(ours), statistics.median(limit)
    return Row(
        row=f"illumination of a channel; limit LZW decode of {len(summaries)} fields",
        value=value,
        unit="s CPU",
        limit=least,
        ratio=value / least,
        target="<= 4, once per plate",
        met=value <= 4 * least,
    )
