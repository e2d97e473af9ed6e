"""Texture of objects: how often which grey levels lie beside each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Interval

from openhcs.functions._checks import checked_labels, plane_like, positive
from openhcs.functions._finite import finite
from openhcs.functions._pixels import ObjectPixels
from openhcs.functions._quantities import PositiveUm  # noqa: TC001  # read when compiling
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns, PlaneArray

__all__ = ["measure_texture"]

Levels: TypeAlias = Annotated[int, Interval(ge=2, le=64)]
Ranges: TypeAlias = dict[str, tuple[float, float]] | None

_CELLS = 1 << 21
"""Entries of co-occurrence matrices that are held at once."""


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("texture", Kind.TABLE),),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def measure_texture(
    channels: ChannelPlanes,
    *,
    labels: NDArray[Any],
    pixel_um: tuple[float, float],
    distance_um: PositiveUm = 2.0,
    levels: Levels = 16,
    ranges: Ranges = None,
) -> Columns:
    """Measure the texture of every object by which grey levels lie beside each other.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each; loaded one at a time.
    labels
        Shape (y, x), integer: 0 is background.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    distance_um
        Distance of the pixels that are compared, in µm; at least one pixel is taken.
    levels
        How many grey levels are told apart, 2 to 64.
    ranges
        By channel, the values at which the first level begins and the last one ends; what lies
        outside counts to these. A channel that is not named, or None for all: each object from its
        own least to its own greatest value, so that its texture says nothing of its brightness.

    Returns
    -------
    Columns
        One row per object: ``ObjectNumber`` and, for each channel, ``Texture_`` with
        ``AngularSecondMoment``, ``Contrast``, ``Correlation``, ``Variance``,
        ``InverseDifferenceMoment``, ``SumAverage``, ``SumVariance``, ``SumEntropy``, ``Entropy``,
        ``DifferenceVariance``, ``DifferenceEntropy``, ``InfoMeas1``, ``InfoMeas2``: the mean over
        four directions; entropies in bits. NaN for objects that hold no two such pixels,
        or one that is not finite.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers (y, x), or a parameter is out of its range.

    Notes
    -----
    Haralick, Shanmugam & Dinstein, IEEE Trans. Syst. Man Cybern. 3 (1973) 610-621, features 1 to
    13, from symmetric matrices in which both pixels belong to the object. Levels by object are the
    fixed bin number of the Image Biomarker Standardisation Initiative (Zwanenburg et al., Radiology
    295 (2020) 328-338), levels by range its fixed bin size. The correlation of an even object is 1.
    All objects are counted at once.
    """
    positive(distance_um=distance_um)
    if not 2 <= levels <= 64:
        raise ValueError(f"levels is {levels}; it must be from 2 to 64")
    for name, (low, high) in (ranges or {}).items():
        if name not in channels:
            raise ValueError(f"ranges: {name!r} is no channel; there are {', '.join(channels)}")
        if not high > low:
            raise ValueError(f"ranges: {name} goes from {low} to {high}, which is no range")
    pixels = ObjectPixels.of(checked_labels(labels, pixel_um))
    table: dict[str, NDArray[Any]] = {"ObjectNumber": pixels.numbers}
    count = pixels.numbers.size
    grey: dict[str, NDArray[np.uint8]] = {}
    known: dict[str, NDArray[np.bool_]] = {}
    for name in channels:
        plane = plane_like(channels, name, labels.shape, "the labels")
        grey[name] = _grey(finite(plane), pixels, levels, (ranges or {}).get(name))
        known[name] = np.ones(count, bool)
        known[name][pixels.objects[~np.isfinite(plane.ravel()[pixels.flat])]] = False
    sums = {name: {feature: np.zeros(count) for feature in _NAMES} for name in grey}
    directions = np.zeros(count)
    for step in _steps(distance_um, pixel_um):
        first, second = _pairs(pixels, labels.shape, step)
        directions += np.bincount(pixels.objects[first], minlength=count) > 0
        for name, own in grey.items():
            _add_features(sums[name], own, (first, second), pixels.objects[first], levels)
    for name, features in sums.items():
        whole = directions * known[name]
        for feature, total in features.items():
            # An object without pairs in one direction has the mean of the others.
            mean = np.full(count, np.nan)
            np.divide(total, directions, out=mean, where=whole > 0)
            table[f"Texture_{feature}_{name}"] = mean
    return table


def _steps(distance_um: float, pixel_um: tuple[float, float]) -> list[tuple[int, int]]:
    """Give where the other pixel lies (y, x), in four directions of half a turn."""
    steps = []
    for direction in range(4):
        angle = direction * math.pi / 4
        y = round(distance_um * math.sin(angle) / pixel_um[0])
        x = round(distance_um * math.cos(angle) / pixel_um[1])
        if y == 0 and math.sin(angle) > 0.5:
            y = 1
        if x == 0 and abs(math.cos(angle)) > 0.5:
            x = 1 if math.cos(angle) > 0 else -1
        steps.append((y, x))
    return steps


def _pairs(
    pixels: ObjectPixels, shape: tuple[int, ...], step: tuple[int, int]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give pairs of pixels of one object, by their places in the list of pixels."""
    height, width = shape
    y, x = np.divmod(pixels.flat, max(width, 1))
    inside = (y + step[0] < height) & (x + step[1] >= 0) & (x + step[1] < width)
    first = np.flatnonzero(inside)
    place = np.full(height * width, -1, np.intp)
    place[pixels.flat] = np.arange(pixels.flat.size)
    second = place[pixels.flat[first] + step[0] * width + step[1]]
    same = (second >= 0) & (pixels.objects[first] == pixels.objects[second])
    return first[same], second[same]


def _grey(
    plane: PlaneArray, pixels: ObjectPixels, levels: int, limits: tuple[float, float] | None
) -> NDArray[np.uint8]:
    """Give the level of each pixel, 0 to levels - 1."""
    values = plane.ravel()[pixels.flat].astype(np.float64)
    if limits is None:
        count = pixels.numbers.size
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(low, pixels.objects, values)
        np.maximum.at(high, pixels.objects, values)
        width = np.where(high > low, high - low, 1.0)
        scaled = (values - low[pixels.objects]) / width[pixels.objects]
    else:
        scaled = (values - limits[0]) / (limits[1] - limits[0])
    return np.asarray(np.clip(scaled * levels, 0, levels - 1), np.uint8)


def _add_features(
    sums: Mapping[str, NDArray[np.float64]],
    grey: NDArray[np.uint8],
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    objects: NDArray[np.intp],
    levels: int,
) -> None:
    """Add the features of one direction, for so many objects at a time."""
    count = sums[_NAMES[0]].size
    at_once = max(1, _CELLS // levels**2)
    code = (objects * levels + grey[pairs[0]]) * levels + grey[pairs[1]]
    for start in range(0, count, at_once):
        end = min(start + at_once, count)
        own = code if at_once >= count else code[(objects >= start) & (objects < end)]
        counts = np.bincount(own - start * levels**2, minlength=(end - start) * levels**2)
        matrices = counts.reshape(end - start, levels, levels).astype(np.float64)
        matrices += matrices.transpose(0, 2, 1)
        totals = matrices.sum(axis=(1, 2))
        there = np.flatnonzero(totals)
        matrices = matrices[there] / totals[there, None, None]
        for name, values in _haralick(matrices):
            sums[name][start + there] += values


_NAMES = (
    "AngularSecondMoment",
    "Contrast",
    "Correlation",
    "Variance",
    "InverseDifferenceMoment",
    "SumAverage",
    "SumVariance",
    "SumEntropy",
    "Entropy",
    "DifferenceVariance",
    "DifferenceEntropy",
    "InfoMeas1",
    "InfoMeas2",
)


def _haralick(p: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Give the features of symmetric matrices of probabilities, shape (objects, levels, levels)."""
    levels = p.shape[1]
    flat = p.reshape(len(p), levels * levels)
    i, j = (grid.ravel() for grid in np.indices((levels, levels)))
    apart = np.square(i - j).astype(np.float64)
    sum_of = _gathered(flat, i + j, 2 * levels - 1)
    difference_of = _gathered(flat, np.abs(i - j), levels)
    one = p.sum(axis=2)
    grid = np.arange(levels, dtype=np.float64)
    mean = _weighed(one, grid)
    variance = _weighed(one, grid**2) - mean**2
    variance = np.where(variance > 1e-12, variance, 0.0)
    together = _weighed(flat, (i * j).astype(np.float64)) - mean**2
    correlation = np.ones(len(p))
    np.divide(together, variance, out=correlation, where=variance > 0)
    entropy, entropy_one = _entropy(flat), _entropy(one)
    # In a symmetric matrix both margins are alike, and so are both entropies of their product.
    product = 2 * entropy_one
    info = np.zeros(len(p))
    np.divide(entropy - product, entropy_one, out=info, where=entropy_one > 0)
    yield "AngularSecondMoment", np.square(flat).sum(axis=1)
    yield "Contrast", _weighed(flat, apart)
    yield "Correlation", correlation
    yield "Variance", variance
    yield "InverseDifferenceMoment", _weighed(flat, 1 / (1 + apart))
    yield "SumAverage", 2 * mean
    yield "SumVariance", _variance(sum_of)
    yield "SumEntropy", _entropy(sum_of)
    yield "Entropy", entropy
    yield "DifferenceVariance", _variance(difference_of)
    yield "DifferenceEntropy", _entropy(difference_of)
    yield "InfoMeas1", info
    yield "InfoMeas2", np.sqrt(1 - np.exp(-2 * math.log(2) * np.maximum(product - entropy, 0)))


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    return np.asarray(-(p * logs).sum(axis=1))


def _variance(p: NDArray[np.float64]) -> NDArray[np.float64]:
    grid = np.arange(p.shape[1], dtype=np.float64)
    return np.maximum(_weighed(p, grid**2) - _weighed(p, grid) ** 2, 0)


def _weighed(p: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum up each row with weights; a product of matrices would wake threads for so little."""
    return np.asarray(np.einsum("oc,c->o", p, weights))


def _gathered(p: NDArray[np.float64], group: NDArray[np.intp], groups: int) -> NDArray[np.float64]:
    """Sum up each row by group."""
    code = np.add.outer(np.arange(len(p)) * groups, group)
    summed = np.bincount(code.ravel(), weights=p.ravel(), minlength=len(p) * groups)
    return summed.astype(np.float64).reshape(len(p), groups)
