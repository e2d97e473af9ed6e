"""How far two channels show the same things, in every object and in the whole plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from openhcs.functions._canvas import bare_canvas
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

_AT_ONCE = 1 << 18
"""Pixels that are worked on at a time, so that they stay in the processor's cache."""

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
        ``Correlation_RWC_B_A``. NaN where there is nothing to compare, or a pixel
        is not finite. No columns without labels.
    colocalisation_by_plane
        The same for all pixels of the plane: ``pearson``, ``overlap``, ``manders``, ``rwc``; and
        ``threshold_A_B``, the threshold on A that was used in the pair with B; infinite where
        nothing is above it.
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
        Two or more planes by channel name, of one shape (y, x). All are held at once. Canvas of
        a stitched well that no tile covers is left out.
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
    bare = bare_canvas(planes.values())
    covered = {
        name: plane.ravel() if bare is None else plane[~bare] for name, plane in planes.items()
    }
    whole = _Pixels(None, np.array([covered[names[0]].size]))
    table: dict[str, NDArray[Any]] = {}
    record: dict[str, float] = {}
    inside: dict[str, NDArray[Any]] = {}
    objects: _Pixels | None = None
    if labels is not None:
        if checked_labels(labels, pixel_um).shape != shape:
            raise ValueError(f"the channels have shape {shape}, the labels {labels.shape}")
        listed = ObjectPixels.of(labels)
        objects = _Pixels(listed.objects, listed.areas)
        table["ObjectNumber"] = listed.numbers
        inside = {name: plane.ravel()[listed.flat] for name, plane in planes.items()}
    kinds = (_compared, _rank_weighted) if rank_weighted else (_compared,)
    for a, b in combinations(names, 2):
        levels = _levels(covered, a, b, threshold)
        record[f"threshold_{a}_{b}"], record[f"threshold_{b}_{a}"] = levels
        for compare in kinds:
            with np.errstate(invalid="ignore"):  # of infinite pixels
                for (kind, *of), value in compare(whole, covered[a], covered[b], (a, b), levels):
                    record[_PLANE_NAMES[kind].format(*of)] = float(value[0])
                if objects is None:
                    continue
                for feature, value in compare(objects, inside[a], inside[b], (a, b), levels):
                    table["Correlation_{}_{}_{}".format(*feature)] = value
    return Colocalisation(colocalisation=table, colocalisation_by_plane=record)


_PLANE_NAMES = {
    "Correlation": "pearson_{}_{}",
    "Overlap": "overlap_{}_{}",
    "Manders": "manders_{}_{}",
    "RWC": "rwc_{}_{}",
}


@dataclass(frozen=True, slots=True)
class _Pixels:
    """Pixels that are compared, a part at a time, so that a mosaic takes no more than a plane.

    Attributes
    ----------
    objects
        Row of the object of each pixel; None where all are of one.
    areas
        Pixels of each object.
    """

    objects: NDArray[np.intp] | None
    areas: NDArray[np.intp]

    def parts(self) -> Iterator[slice]:
        size = int(self.areas.sum())
        for start in range(0, size, _AT_ONCE):
            yield slice(start, min(start + _AT_ONCE, size))

    def total(self, values: NDArray[Any], part: slice) -> NDArray[np.float64]:
        if self.objects is None:
            return np.array([values.sum()], np.float64)
        sums = np.bincount(self.objects[part], weights=values, minlength=self.areas.size)
        return sums.astype(np.float64, copy=False)

    def spread(self, by_object: NDArray[np.float64], part: slice) -> NDArray[np.float64]:
        """Give each pixel what its object has."""
        return by_object if self.objects is None else by_object[self.objects[part]]


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
    values = plane if whole else plane[np.isfinite(plane)]
    histogram = Histogram.of(values.astype(np.float32), integer=whole)
    return math.inf if histogram is None else otsu(histogram).value


def _compared(
    pixels: _Pixels,
    a: NDArray[Any],
    b: NDArray[Any],
    names: tuple[str, str],
    levels: tuple[float, float],
) -> Iterator[tuple[tuple[str, str, str], NDArray[np.float64]]]:
    """Give each feature, the channels in its name, and its values by object."""
    one, two = names
    sums = np.zeros((2, pixels.areas.size))
    for part in pixels.parts():
        for row, values in enumerate((a, b)):
            sums[row] += pixels.total(values[part], part)
    mean_a, mean_b = sums / np.maximum(pixels.areas, 1)
    found = np.zeros((10, pixels.areas.size))
    for part in pixels.parts():
        first, second = a[part].astype(np.float64), b[part].astype(np.float64)
        off_a = first - pixels.spread(mean_a, part)
        off_b = second - pixels.spread(mean_b, part)
        above_a, above_b = first > levels[0], second > levels[1]
        both = above_a & above_b
        for row, values in enumerate(
            (
                off_a * off_b,
                off_a * off_a,
                off_b * off_b,
                first * second,
                first * first,
                second * second,
                first * above_a,
                second * above_b,
                first * both,
                second * both,
            )
        ):
            found[row] += pixels.total(values, part)
    yield ("Correlation", one, two), _over(found[0], np.sqrt(found[1] * found[2]))
    yield ("Overlap", one, two), _over(found[3], np.sqrt(found[4] * found[5]))
    yield ("Manders", one, two), _over(found[8], found[6])
    yield ("Manders", two, one), _over(found[9], found[7])


def _rank_weighted(
    pixels: _Pixels,
    a: NDArray[Any],
    b: NDArray[Any],
    names: tuple[str, str],
    levels: tuple[float, float],
) -> Iterator[tuple[tuple[str, str, str], NDArray[np.float64]]]:
    """Give the coefficients weighed by rank, as `_compared` gives the others."""
    one, two = names
    objects = np.zeros(a.size, np.intp) if pixels.objects is None else pixels.objects
    ranks_a, most_a = _ranks(a, objects, pixels.areas)
    ranks_b, most_b = _ranks(b, objects, pixels.areas)
    most = np.maximum(most_a, most_b)
    above_a, above_b = a > levels[0], b > levels[1]
    weight = (above_a & above_b) * (1 - np.abs(ranks_a - ranks_b) / most[objects])
    whole = slice(0, a.size)
    for name, other, values, above in ((one, two, a, above_a), (two, one, b, above_b)):
        together = pixels.total(values * weight, whole)
        yield ("RWC", name, other), _over(together, pixels.total(values * above, whole))


def _over(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full(above.size, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _ranks(
    values: NDArray[Any], objects: NDArray[np.intp], areas: NDArray[np.intp]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank values from 1 within each object, equal ones alike; give the highest rank of each."""
    order = np.lexsort((values, objects))
    of, ordered = objects[order], values[order]
    starts = np.cumsum(areas) - areas
    new = np.ones(ordered.size, bool)
    new[1:] = ordered[1:] != ordered[:-1]
    new[starts[areas > 0]] = True
    counted = np.cumsum(new)
    before = counted[starts[of]] - 1 if of.size else counted
    ranks = np.empty(values.size, np.int64)
    ranks[order] = counted - before
    most = np.zeros(areas.size, np.int64)
    np.maximum.at(most, objects, ranks)
    return ranks, most
