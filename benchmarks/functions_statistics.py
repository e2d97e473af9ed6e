"""Statistics of wells and plates: processor time beside numpy, scipy or csv doing the bare work.

A plate of 384 wells, a well of 1,000 objects with 40 features, and a compound of 24 wells.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _turns import at_most
from scipy import stats
from scipy.optimize import curve_fit

from openhcs.functions import (
    aggregate_objects,
    b_score,
    cell_counts,
    dose_response,
    edge_effect,
    flag_outliers,
    percent_of_control,
    replicate_correlation,
    robust_z,
    ssmd,
    z_prime,
)
from openhcs.plates import read_platemap

if TYPE_CHECKING:
    from _rows import Row
    from numpy.typing import NDArray

__all__ = ["rows"]

ROWS, COLUMNS = 16, 24
OBJECTS, FEATURES = 1000, 40
ROUNDS = 20
PLANES = 3456
REPLICATES = 4
BOUNDS = ([-1e3, -1e3, 1e-3, -10.0], 1e3)


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; medians of `repeats`."""
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
        platemap = _platemap(Path(folder))
        return [
            *_assay(rng, repeats),
            *_plates(rng, repeats),
            *_wells(rng, repeats),
            at_most(
                "read_platemap, 384 wells; limit csv.reader and a dictionary",
                lambda: read_platemap(platemap),
                lambda: _bare_platemap(platemap),
                target=6,
                repeats=repeats,
                unit="ms/plate",
            ),
        ]


def _assay(rng: np.random.Generator, repeats: int) -> list[Row]:
    """Measure what looks at controls and at single compounds."""
    positive, negative = rng.normal(10, 1, 32), rng.normal(100, 5, 32)
    plate = rng.normal(100, 5, ROWS * COLUMNS)
    controls = {"positive": positive, "negative": negative}
    doses = np.repeat(np.geomspace(0.01, 100, 8), 3)
    responses = _curve(doses, 5.0, 100.0, 1.0, -1.2) + rng.normal(0, 2, doses.size)
    start = (responses.min(), responses.max(), 1.0, -1.0)
    return [
        at_most(
            "z_prime and ssmd, plain and robust; limit their means, deviations and medians",
            lambda: [
                of(positive, negative, robust=robust)
                for of in (z_prime, ssmd)
                for robust in (False, True)
            ],
            lambda: [_moments(group) for _ in range(2) for group in (positive, negative)],
            target=2.5,
            repeats=repeats,
            unit="ms/plate",
        ),
        at_most(
            "robust_z and percent_of_control, 384 wells; limit two medians and two divisions",
            lambda: (robust_z(plate), percent_of_control(plate, **controls)),
            lambda: (
                (plate - np.median(plate)) / np.median(np.abs(plate - np.median(plate))),
                (plate - negative.mean()) / (positive.mean() - negative.mean()),
            ),
            target=3,
            repeats=repeats,
            unit="ms/plate",
        ),
        at_most(
            "dose_response, 24 wells of a compound; limit scipy's bounded curve_fit, begun near",
            lambda: dose_response(doses, responses),
            lambda: curve_fit(_curve, doses, responses, start, bounds=BOUNDS),
            target=5,
            repeats=repeats,
            unit="ms/compound",
        ),
    ]


def _plates(rng: np.random.Generator, repeats: int) -> list[Row]:
    """Measure what looks at whole plates."""
    plate = rng.normal(100, 5, (ROWS, COLUMNS)) + np.linspace(0, 20, COLUMNS)
    replicates = rng.normal(100, 5, (REPLICATES, plate.size)) + plate.ravel()
    counts = rng.poisson(400, ROWS * COLUMNS)
    inner = np.zeros(plate.shape, bool)
    inner[1:-1, 1:-1] = True
    places = np.indices(plate.shape)
    return [
        at_most(
            f"b_score, 384 wells; limit {ROUNDS} rounds of numpy's nanmedian",
            lambda: b_score(plate),
            lambda: _polish(plate),
            target=1.5,
            repeats=repeats,
            unit="ms/plate",
        ),
        at_most(
            "edge_effect, 384 wells; limit scipy's Mann-Whitney and two Spearman",
            lambda: edge_effect(plate),
            lambda: (
                stats.mannwhitneyu(plate[~inner], plate[inner]),
                *(stats.spearmanr(place.ravel(), plate.ravel()) for place in places),
            ),
            target=1.5,
            repeats=repeats,
            unit="ms/plate",
        ),
        at_most(
            f"replicate_correlation, {REPLICATES} plates of 384; limit scipy's Pearson, Spearman",
            lambda: replicate_correlation(replicates),
            lambda: [
                of(replicates[a], replicates[b])
                for of in (stats.pearsonr, stats.spearmanr)
                for a in range(REPLICATES)
                for b in range(a)
            ],
            target=1.25,
            repeats=repeats,
            unit="ms/screen",
        ),
        at_most(
            "cell_counts, 384 wells; limit robust z in numpy",
            lambda: cell_counts(counts),
            lambda: (
                np.abs(counts - np.median(counts))
                > 5 * 1.4826 * np.median(np.abs(counts - np.median(counts)))
            ),
            target=5,
            repeats=repeats,
            unit="ms/plate",
        ),
    ]


def _wells(rng: np.random.Generator, repeats: int) -> list[Row]:
    """Measure what looks at the tables of objects and of planes."""
    objects = {f"Feature_{i}": rng.normal(0, 1, OBJECTS) for i in range(FEATURES)}
    planes: dict[str, Any] = {
        "well": np.repeat([f"A{i:02d}" for i in range(1, 25)], PLANES // 24),
        "field": np.tile(np.arange(9), PLANES // 9),
        "channel": np.tile(["DAPI", "GFP", "Cy5"], PLANES // 3),
        "Focus": rng.normal(0, 1, PLANES),
    }
    each = np.unique(planes["channel"])
    return [
        at_most(
            f"aggregate_objects, {OBJECTS} objects x {FEATURES}; limit numpy's mean, two medians",
            lambda: aggregate_objects(objects),
            lambda: [
                (values.mean(), np.median(np.abs(values - np.median(values))))
                for values in objects.values()
            ],
            target=1.5,
            repeats=repeats,
            unit="ms/well",
        ),
        at_most(
            f"flag_outliers, {PLANES} planes in 3 channels; limit robust z in numpy by channel",
            lambda: flag_outliers(planes, features=("Focus",), by=("channel",)),
            lambda: [_moments(planes["Focus"][planes["channel"] == name]) for name in each],
            target=10,
            repeats=repeats,
            unit="ms/plate",
        ),
    ]


def _moments(values: NDArray[np.float64]) -> tuple[float, ...]:
    middle = np.median(values)
    return (
        float(values.mean()),
        float(values.std(ddof=1)),
        float(middle),
        float(np.median(np.abs(values - middle))),
    )


def _polish(plate: NDArray[np.float64]) -> NDArray[np.float64]:
    residuals = plate.copy()
    for _ in range(ROUNDS):
        for axis in (1, 0):
            residuals = residuals - np.nanmedian(residuals, axis=axis, keepdims=True)
    return residuals


def _curve(dose: NDArray[Any], low: float, high: float, half: float, hill: float) -> NDArray[Any]:
    curve: NDArray[Any] = low + (high - low) / (1 + (np.abs(half) / dose) ** hill)
    return curve


def _platemap(folder: Path) -> Path:
    path = folder / "platemap.csv"
    lines = [
        f"{chr(65 + row)}{column + 1:02d},compound {column},{10.0 ** (row % 8 - 4):g},sample"
        for row in range(ROWS)
        for column in range(COLUMNS)
    ]
    path.write_text("\n".join(["well,compound,dose_um,role", *lines]) + "\n")
    return path


def _bare_platemap(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as lines:
        reader = csv.reader(lines)
        next(reader)
        return {line[0]: line[1:] for line in reader}
