"""Spots: where they are, how bright, and how many each object has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import MinLen, Unit

from openhcs.functions._blobs import Blobs, disk_sums, find_blobs
from openhcs.functions._checks import checked_labels, plane_like, positive
from openhcs.functions._device import ARRAYS, on_host
from openhcs.functions._pixels import ObjectPixels
from openhcs.functions._quantities import Counts, Factor, PositiveUm
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns

__all__ = ["Spots", "detect_spots"]

Diameters: TypeAlias = Annotated[tuple[PositiveUm, ...], MinLen(1), Unit("µm")]

_LEAST_DIAMETER_PX = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spots:
    """What `detect_spots` gives.

    Attributes
    ----------
    spots
        One row per spot: ``spot``, its number in the plane from 1, brightest first; ``channel``;
        ``ObjectNumber``, the object that it lies in, 0 for none; ``Y``, ``X`` in px and ``Y_um``,
        ``X_um`` of its centre, to a fraction of a pixel; ``Diameter_um``, that of the scale that
        fits best; ``Contrast``, its height above what surrounds it, and ``Intensity``, the sum over
        its disk above the local background, both in the plane's units.
    spots_by_object
        One row per object, also without a spot: ``ObjectNumber`` and, for each channel,
        ``Spots_Count``, ``Spots_Intensity`` (sum), ``Spots_MeanIntensity`` (NaN without a spot).
        No columns where no labels were given.
    spots_by_plane
        For each channel ``count``, ``outside`` (spots in no object, where there are labels),
        ``noise`` of the contrast and the ``threshold`` on it that was used.
    """

    spots: Columns
    spots_by_object: Columns
    spots_by_plane: Mapping[str, float]


@function(
    axes=Axes.CHANNELS,
    outputs=(
        Output("spots", Kind.TABLE),
        Output("spots_by_object", Kind.TABLE),
        Output("spots_by_plane", Kind.RECORD),
    ),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
    gpu=ARRAYS,
)
def detect_spots(
    channels: ChannelPlanes,
    *,
    pixel_um: tuple[float, float],
    labels: NDArray[Any] | None = None,
    diameters_um: Diameters = (1.5,),
    threshold_sd: Factor = 6.0,
    least_contrast: Counts = 0.0,
) -> Spots:
    """Find bright spots of known size, and count them in every object.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each; spots are looked for in every one that is handed
        over, so that a step is best limited to the channels that have some.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    labels
        Objects, shape (y, x); None where no earlier step gives any.
    diameters_um
        Diameters of the spots in µm, above 0. One scale is filtered for each; a spot that shows at
        several is counted once, at the one that fits best.
    threshold_sd
        How many standard deviations of the noise a spot has to stand out; above 0.
    least_contrast
        Least height above the surroundings in the plane's units; 0 or more.

    Returns
    -------
    Spots
        Tables of spots and of objects, and what holds for the whole plane.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers (y, x), a parameter is out of its range, or a
        diameter is less than two pixels.

    Notes
    -----
    A Laplacian of a Gaussian at scale sigma = diameter / sqrt(8), the scale at which it answers
    most to a disk of that diameter (Lindeberg, Int. J. Comput. Vis. 30 (1998) 79-116), normalised
    so that a Gaussian spot of standard deviation sigma gives its own height. Spots are local maxima
    over place and scale; a parabola through the neighbours of each gives its place. The noise is
    1.4826 times the median absolute deviation of the answer, which spots hardly touch while they
    cover less than a third of the plane; where a filter has set most of the background to 0, no
    noise is left to go by, and ``least_contrast`` has to say what a spot is. Cost: about 0.05 s/Mpx
    for each channel and diameter.
    """
    sigmas_px = _scales(diameters_um, pixel_um)
    positive(threshold_sd=threshold_sd)
    if not least_contrast >= 0:
        raise ValueError(f"least_contrast is {least_contrast}; it must be 0 or more")
    if labels is not None:
        labels = on_host(labels)
        checked_labels(labels, pixel_um)
    objects = None if labels is None else ObjectPixels.of(labels)
    tables: list[dict[str, NDArray[Any]]] = []
    by_object: dict[str, NDArray[Any]] = {}
    by_plane: dict[str, float] = {}
    if objects is not None:
        by_object["ObjectNumber"] = objects.numbers
    for name in channels:
        filtered = channels[name]
        plane = on_host(filtered)
        if labels is not None:
            plane_like(channels={name: plane}, name=name, shape=labels.shape, what="the labels")
        found = find_blobs(filtered, sigmas_px, threshold_sd, least_contrast)
        scale_um = np.asarray(sorted(diameters_um))[found.scale]
        intensity = disk_sums(plane, found, scale_um, pixel_um)
        inside = _inside(labels, found)
        tables.append(
            {
                "spot": np.arange(1, found.y.size + 1),
                "channel": np.full(found.y.size, name, f"U{max(len(name), 1)}"),
                "ObjectNumber": inside,
                "Y": found.y,
                "X": found.x,
                "Y_um": (found.y + 0.5) * pixel_um[0],
                "X_um": (found.x + 0.5) * pixel_um[1],
                "Diameter_um": scale_um,
                "Contrast": found.contrast,
                "Intensity": intensity,
            }
        )
        by_plane[f"count_{name}"] = int(found.y.size)
        if objects is not None:
            by_plane[f"outside_{name}"] = int(np.count_nonzero(inside == 0))
            by_object.update(_per_object(objects.numbers, inside, intensity, name))
        by_plane[f"noise_{name}"] = found.noise
        by_plane[f"threshold_{name}"] = found.threshold
    spots = (
        {column: np.concatenate([table[column] for table in tables]) for column in tables[0]}
        if tables
        else {}
    )
    return Spots(spots=spots, spots_by_object=by_object, spots_by_plane=by_plane)


def _scales(
    diameters_um: Sequence[float], pixel_um: tuple[float, float]
) -> list[tuple[float, float]]:
    if not diameters_um:
        raise ValueError("diameters_um is empty; give one diameter or more")
    for diameter in diameters_um:
        positive(diameters_um=diameter)
        if diameter < _LEAST_DIAMETER_PX * max(pixel_um):
            raise ValueError(
                f"diameters_um: {diameter:g} µm are less than two pixels of "
                f"{max(pixel_um):g} µm, which show no spot"
            )
    return [
        (diameter / math.sqrt(8) / pixel_um[0], diameter / math.sqrt(8) / pixel_um[1])
        for diameter in sorted(diameters_um)
    ]


def _inside(labels: NDArray[Any] | None, found: Blobs) -> NDArray[np.int64]:
    """Give the object at each centre."""
    if labels is None or found.y.size == 0:
        return np.zeros(found.y.size, np.int64)
    y = np.rint(found.y).astype(np.intp).clip(0, labels.shape[0] - 1)
    x = np.rint(found.x).astype(np.intp).clip(0, labels.shape[1] - 1)
    return np.asarray(labels[y, x], np.int64)


def _per_object(
    numbers: NDArray[np.int64], inside: NDArray[np.int64], intensity: NDArray[np.float64], name: str
) -> dict[str, NDArray[Any]]:
    of = inside != 0
    rows = np.searchsorted(numbers, inside[of])
    counts = np.bincount(rows, minlength=numbers.size)
    sums = np.bincount(rows, weights=intensity[of], minlength=numbers.size).astype(np.float64)
    means = np.full(numbers.size, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return {
        f"Spots_Count_{name}": counts,
        f"Spots_Intensity_{name}": sums,
        f"Spots_MeanIntensity_{name}": means,
    }
