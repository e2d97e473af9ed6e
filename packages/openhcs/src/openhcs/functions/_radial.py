"""How brightness is spread between the middle of an object and its edge."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from annotated_types import Interval

from openhcs.functions._checks import checked_labels, plane_like
from openhcs.functions._pixels import ObjectPixels
from openhcs.functions._registry import Axes, Kind, Output, function

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._inputs import ChannelPlanes, Columns

__all__ = ["measure_radial_distribution"]

Rings: TypeAlias = Annotated[int, Interval(ge=2, le=20)]

_WEDGES = 8


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("radial_distribution", Kind.TABLE),),
    inputs={"labels": (Kind.LABELS, None)},
    needs=frozenset({"pixel_um"}),
)
def measure_radial_distribution(
    channels: ChannelPlanes,
    *,
    labels: NDArray[Any],
    pixel_um: tuple[float, float],
    rings: Rings = 4,
) -> Columns:
    """Measure how the brightness of every object is spread from its middle to its edge.

    Parameters
    ----------
    channels
        Planes by channel name, shape (y, x) each; loaded one at a time.
    labels
        Shape (y, x), integer: 0 is background.
    pixel_um
        Size of a pixel (y, x) in µm, greater than 0.
    rings
        How many rings, 2 to 20; the first is the innermost.

    Returns
    -------
    Columns
        One row per object: ``ObjectNumber`` and, for each channel and ring, such as ``1of4``:
        ``RadialDistribution_FracAtD``, the part of the object's brightness that is in the ring;
        ``RadialDistribution_MeanFrac``, that over the part of its pixels, 1 where brightness is
        even; ``RadialDistribution_RadialCV``, standard deviation over mean of the means of up to
        eight wedges of the ring. NaN where a ring has no pixel or an object no brightness, or
        one that is not finite.

    Raises
    ------
    ValueError
        If shapes differ, labels are no integers (y, x), or a parameter is out of its range.

    Notes
    -----
    Names follow CellProfiler. A pixel's ring is that of its distance to the edge of the object,
    over the largest such distance in the object: rings follow the outline, and are right for
    objects that bend. The edge is also where an object touches another, or the border of the
    plane. Wedges are of 45 degrees about the centroid.
    """
    if not 2 <= rings <= 20:
        raise ValueError(f"rings is {rings}; it must be from 2 to 20")
    pixels = ObjectPixels.of(checked_labels(labels, pixel_um))
    count = pixels.numbers.size
    ring = _rings(labels, pixels, pixel_um, rings)
    wedge = _wedges(labels.shape, pixels, pixel_um)
    cell = (pixels.objects * rings + ring) * _WEDGES + wedge
    areas = np.bincount(cell, minlength=count * rings * _WEDGES).reshape(count, rings, _WEDGES)
    table: dict[str, NDArray[Any]] = {"ObjectNumber": pixels.numbers}
    for name in channels:
        plane = plane_like(channels, name, labels.shape, "the labels")
        values = plane.ravel()[pixels.flat].astype(np.float64)
        summed = np.bincount(cell, weights=values, minlength=count * rings * _WEDGES)
        sums = summed.astype(np.float64).reshape(count, rings, _WEDGES)
        in_ring = sums.sum(axis=2)
        part = _over(in_ring, in_ring.sum(axis=1, keepdims=True))
        part[areas.sum(axis=2) == 0] = np.nan
        of_pixels = areas.sum(axis=2) / np.maximum(pixels.areas, 1)[:, None]
        even = _over(part, of_pixels)
        variation = _variation(sums, areas)
        for number in range(rings):
            place = f"{name}_{number + 1}of{rings}"
            table[f"RadialDistribution_FracAtD_{place}"] = part[:, number]
            table[f"RadialDistribution_MeanFrac_{place}"] = even[:, number]
            table[f"RadialDistribution_RadialCV_{place}"] = variation[:, number]
    return table


def _rings(
    labels: NDArray[Any], pixels: ObjectPixels, pixel_um: tuple[float, float], rings: int
) -> NDArray[np.intp]:
    """Give the ring of each pixel, 0 for the innermost."""
    from scipy.ndimage import distance_transform_edt

    if pixels.flat.size == 0:
        return np.zeros(0, np.intp)
    # Room around the plane, so that its border is an edge as well.
    framed = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), labels.dtype)
    framed[1:-1, 1:-1] = labels
    inner = framed[1:-1, 1:-1] != 0
    for beside in (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]):
        inner &= beside == labels
    distance = distance_transform_edt(inner, sampling=pixel_um).ravel()[pixels.flat]
    deepest = np.zeros(pixels.numbers.size)
    np.maximum.at(deepest, pixels.objects, distance)
    most = deepest[pixels.objects]
    depth = np.divide(distance, most, out=np.zeros_like(distance), where=most > 0)
    return np.clip(((1 - depth) * rings).astype(np.intp), 0, rings - 1)


def _wedges(
    shape: tuple[int, ...], pixels: ObjectPixels, pixel_um: tuple[float, float]
) -> NDArray[np.intp]:
    y, x = np.divmod(pixels.flat, max(shape[1], 1))
    mean_y, mean_x = (pixels.total(place) / pixels.areas for place in (y, x))
    angle = np.arctan2(
        (y - mean_y[pixels.objects]) * pixel_um[0], (x - mean_x[pixels.objects]) * pixel_um[1]
    )
    return np.clip(((angle + math.pi) / (2 * math.pi) * _WEDGES).astype(np.intp), 0, _WEDGES - 1)


def _variation(sums: NDArray[np.float64], areas: NDArray[np.intp]) -> NDArray[np.float64]:
    """Give standard deviation over mean of the means of the wedges that have pixels."""
    there = areas > 0
    means = np.divide(sums, areas, out=np.zeros_like(sums), where=there)
    count = there.sum(axis=2)
    mean = _over(means.sum(axis=2), count)
    with np.errstate(invalid="ignore"):  # of infinite pixels
        squared = np.where(there, np.square(means - mean[..., None]), 0.0)
    return _over(np.sqrt(_over(squared.sum(axis=2), count)), mean)


def _over(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    result = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    there = np.broadcast_to((below > 0) & (below < np.inf), result.shape)
    np.divide(above, below, out=result, where=there)
    return result
