"""How far two channels show the same things, in every object and in the whole plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from openhcs.functions._checks import checked_labels, plane_like
from openhcs.functions._costes import costes_thresholds
from openhcs.functions._pixels import ObjectPixels
from openhcs.functions._registry import Axes, Kind, Output, function
from openhcs.functions._threshold import Histogram, otsu

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns, PlaneArray

__all__ = ["Colocalisation", "measure_colocalisation"]

Thresholds: TypeAlias = Literal["costes", "otsu"] | dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Colocalisation:
    """What `measure_colocalisation` gives.

    Attributes
    ----------
    colocalisation
        One row per object: ``ObjectNumber`` and, for each pair of channels A and B,
        ``Correlation_Correlation_A_B`` (Pearson), ``Correlation_Overlap_A_B``,
        ``Correlation_Manders_A_B`` (the part of A's signal that lies where B is above its
        threshold) and ``Correlation_Manders_B_A``; where asked for, ``Correlation_RWC_A_B`` and
        ``Correlation_RWC_B_A``. NaN where there is nothing to compare. No columns without labels.
    colocalisation_by_plane
        The same for all pixels of the plane: ``pearson``, ``overlap``, ``manders``, ``rwc``; and
        ``threshold_A_B``, the threshold on A that was used in the pair with B.
    """

    colocalisation: Columns
    colocalisation_by_plane: Mapping[str, float]


@function(
    axes=Axes.CHANNELS,
    outputs=(
        Output("colocalisation", Kind.TABLE),
        Output("colocalisation_by_plane", Kind.RECORD),
    ),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def measure_colocalisation(
    channels: ChannelPlanes,
    *,
    pixel_um: tuple[float, float],
    labels: NDArray[Any] | None = None,
    threshold: Thresholds = "costes",
    rank_weighted: bool = False,
) -> Colocalisation:
    """Measure how far every two channels show the same things, in objects and in the plane.

    Parameters
    ----------
    channels
        Two or more planes by channel name, of one shape (y, x). All are held at once.
    pixel_um
        Size of a pixel (y, x) in µm; only asked whether it is one.
    labels
        Objects, shape (y, x); None where no earlier step gives any.
    threshold
        Above which a pixel shows signal, for Manders' coefficients: ``"costes"``, found for each
        pair where below it nothing correlates; ``"otsu"``, for each channel alone; or a level in
        the plane's units for each channel. All hold for the whole plane, never for one object.
    rank_weighted
        Whether to weigh Manders' coefficients by how alike the ranks of the two brightnesses are;
        takes a few times as long.

    Returns
    -------
    Colocalisation
        Columns by object and scalars for the plane.

    Raises
    ------
    ValueError
        If there is one channel alone, shapes differ, labels are no integers (y, x), or a channel
        has no level.

    Notes
    -----
    Pearson and overlap are taken over all pixels of an object and so want planes without
    background (`subtract_background`). Manders et al., J. Microsc. 169 (1993) 375-382: M1 is the
    sum of A where A and B are above their thresholds over the sum of A where A is. Costes et al.,
    Biophys. J. 86 (2004) 3993-4003. Ranks: Singan et al., BMC Bioinformatics 12 (2011) 407.
    """
    names = tuple(channels)
    if len(names) < 2:
        there = ", ".join(names) or "none"
        raise ValueError(f"two channels or more are compared; there is {there}")
    first = np.asarray(channels[names[0]])
    shape = first.shape
    planes = {names[0]: first}
    for name in names[1:]:
        planes[name] = plane_like(channels, name, shape, f"channel {names[0]!r}")
    table: dict[str, NDArray[Any]] = {}
    objects: ObjectPixels | None = None
    if labels is not None:
        if checked_labels(labels, pixel_um).shape != shape:
            raise ValueError(f"the channels have shape {shape}, the labels {labels.shape}")
        objects = ObjectPixels.of(labels)
        table["ObjectNumber"] = objects.numbers
        inside = {
            name: plane.ravel()[objects.flat].astype(np.float64) for name, plane in planes.items()
        }
    whole = _Everything.of(shape)
    record: dict[str, float] = {}
    for a, b in combinations(names, 2):
        levels = _levels(planes, a, b, threshold)
        record[f"threshold_{a}_{b}"], record[f"threshold_{b}_{a}"] = levels
        all_a, all_b = (planes[name].ravel().astype(np.float64) for name in (a, b))
        for feature, value in _compared(whole, all_a, all_b, (a, b), levels, rank_weighted):
            record[_PLANE_NAMES[feature[0]].format(*feature[1:])] = float(value[0])
        if objects is not None:
            found = _compared(objects, inside[a], inside[b], (a, b), levels, rank_weighted)
            for feature, value in found:
                table["Correlation_{}_{}_{}".format(*feature)] = value
    return Colocalisation(colocalisation=table, colocalisation_by_plane=record)


_PLANE_NAMES = {
    "Correlation": "pearson_{}_{}",
    "Overlap": "overlap_{}_{}",
    "Manders": "manders_{}_{}",
    "RWC": "rwc_{}_{}",
}


@dataclass(frozen=True, slots=True)
class _Everything:
    """A plane as one object, in the terms of `ObjectPixels`."""

    objects: NDArray[np.intp]
    areas: NDArray[np.intp]

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> _Everything:
        size = math.prod(shape)
        # One 0 seen as many, so that no memory is taken for it.
        return cls(np.broadcast_to(np.intp(0), (size,)), np.array([size]))

    def total(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return np.array([values.sum()], np.float64)


def _levels(
    planes: Mapping[str, PlaneArray], a: str, b: str, threshold: Thresholds
) -> tuple[float, float]:
    if threshold == "costes":
        return costes_thresholds(planes[a], planes[b])
    if threshold == "otsu":
        return _otsu(planes[a]), _otsu(planes[b])
    for name in (a, b):
        if isinstance(threshold, str) or name not in threshold:
            raise ValueError(
                f"threshold is {threshold!r}; it must be 'costes', 'otsu', or a level for each "
                f"channel: there is no level for channel {name!r}"
            )
    return float(threshold[a]), float(threshold[b])


def _otsu(plane: PlaneArray) -> float:
    whole = not np.issubdtype(plane.dtype, np.floating)
    histogram = Histogram.of(plane.astype(np.float32), integer=whole)
    return math.inf if histogram is None else otsu(histogram).value


def _compared(
    pixels: ObjectPixels | _Everything,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    names: tuple[str, str],
    levels: tuple[float, float],
    rank_weighted: bool,  # handed on as it is
) -> Iterator[tuple[tuple[str, str, str], NDArray[np.float64]]]:
    """Give each feature, the channels in its name, and its values by object."""
    one, two = names
    mean_a, mean_b = pixels.total(a) / pixels.areas, pixels.total(b) / pixels.areas
    off_a, off_b = a - mean_a[pixels.objects], b - mean_b[pixels.objects]
    yield (
        ("Correlation", one, two),
        _over(
            pixels.total(off_a * off_b), np.sqrt(pixels.total(off_a**2) * pixels.total(off_b**2))
        ),
    )
    yield (
        ("Overlap", one, two),
        _over(pixels.total(a * b), np.sqrt(pixels.total(a**2) * pixels.total(b**2))),
    )
    above_a, above_b = a > levels[0], b > levels[1]
    both = above_a & above_b
    signal_a, signal_b = pixels.total(a * above_a), pixels.total(b * above_b)
    yield ("Manders", one, two), _over(pixels.total(a * both), signal_a)
    yield ("Manders", two, one), _over(pixels.total(b * both), signal_b)
    if rank_weighted:
        ranks_a, most_a = _ranks(a, pixels)
        ranks_b, most_b = _ranks(b, pixels)
        most = np.maximum(most_a, most_b)
        weight = both * (1 - np.abs(ranks_a - ranks_b) / most[pixels.objects])
        yield ("RWC", one, two), _over(pixels.total(a * weight), signal_a)
        yield ("RWC", two, one), _over(pixels.total(b * weight), signal_b)


def _over(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full(above.size, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _ranks(
    values: NDArray[np.float64], pixels: ObjectPixels | _Everything
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank values from 1 within each object, equal ones alike; give the highest rank of each."""
    order = np.lexsort((values, pixels.objects))
    objects, ordered = pixels.objects[order], values[order]
    starts = np.cumsum(pixels.areas) - pixels.areas
    new = np.ones(ordered.size, bool)
    new[1:] = ordered[1:] != ordered[:-1]
    new[starts[pixels.areas > 0]] = True
    counted = np.cumsum(new)
    before = counted[starts[objects]] - 1 if objects.size else counted
    ranks = np.empty(values.size, np.int64)
    ranks[order] = counted - before
    most = np.zeros(pixels.areas.size, np.int64)
    np.maximum.at(most, pixels.objects, ranks)
    return ranks, most
