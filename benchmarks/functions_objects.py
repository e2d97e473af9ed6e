"""Segmentation, features and image quality, each beside the library calls that it is held against.

One field of 1080 x 1080 with 300 nuclei, a fifth of which touch. Ours and the limit run in turn, so
that whatever else the computer does falls on both.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from _rows import Row
from imagecodecs import lzw_decode, lzw_encode
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import regionprops

from openhcs.functions import measure_image_quality, measure_objects, segment_nuclei

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["PIXEL_UM", "SIDE", "nuclei_field", "rows"]

SIDE, NUCLEI, TOUCHING = 1080, 300, 0.2
PIXEL_UM = (0.65, 0.65)


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; medians of `repeats`."""
    plane = nuclei_field()
    megapixels = plane.size / 1e6
    labels = segment_nuclei(plane, pixel_um=PIXEL_UM)
    packed = lzw_encode(plane.tobytes())

    ours, limit = _in_turn(
        repeats, lambda: segment_nuclei(plane, pixel_um=PIXEL_UM), lambda: _bare_parts(plane)
    )
    segmentation = Row(
        row=f"segment_nuclei, {labels.max()} nuclei; limit gaussian, Otsu, label, EDT",
        value=ours / megapixels,
        unit="s/Mpx",
        limit=limit / megapixels,
        ratio=ours / limit,
        target="ratio <= 2 and value <= 0.15",
        met=ours <= 2 * limit and ours / megapixels <= 0.15,
    )
    ours, limit = _in_turn(
        repeats,
        lambda: measure_objects({"DAPI": plane}, labels=labels, pixel_um=PIXEL_UM),
        lambda: _by_regionprops(labels, plane),
    )
    features = Row(
        row=f"measure_objects, {labels.max()} objects; limit regionprops",
        value=ours,
        unit="s/field",
        limit=limit,
        ratio=limit / ours,
        target="ratio >= 10 and value <= 0.1",
        met=limit >= 10 * ours and ours <= 0.1,
    )
    ours, limit = _in_turn(
        repeats,
        lambda: measure_image_quality(plane),
        lambda: lzw_decode(packed, out=plane.nbytes),
    )
    quality = Row(
        row="measure_image_quality; limit LZW decode of the plane",
        value=ours * 1e3,
        unit="ms/plane",
        limit=limit * 1e3,
        ratio=ours / limit,
        target="ratio <= 0.1",
        met=ours <= 0.1 * limit,
    )
    return [segmentation, features, quality]


def _in_turn(
    repeats: int, ours: Callable[[], object], limit: Callable[[], object]
) -> tuple[float, float]:
    """Give the median seconds of two calls that run in turn, after one round to warm up."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for times, call in zip(taken, (ours, limit), strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    first, second = (statistics.median(times[1:]) for times in taken)
    return first, second


def _bare_parts(plane: NDArray[np.uint16]) -> None:
    smoothed = ndimage.gaussian_filter(plane.astype(np.float32), 0.7 / PIXEL_UM[0])
    mask = smoothed > threshold_otsu(smoothed)  # type: ignore[no-untyped-call]  # skimage's
    ndimage.label(mask)
    ndimage.distance_transform_edt(mask)


def _by_regionprops(labels: NDArray[Any], plane: NDArray[Any]) -> list[tuple[object, ...]]:
    """Measure what `measure_objects` measures, but for the local background."""
    found: list[tuple[object, ...]] = []
    for region in regionprops(labels, plane):  # type: ignore[no-untyped-call]  # skimage's
        values = region.image_intensity[region.image]
        found.append(
            (
                region.area,
                region.bbox,
                region.centroid,
                region.eccentricity,
                region.equivalent_diameter_area,
                region.extent,
                region.axis_major_length,
                region.axis_minor_length,
                region.orientation,
                region.perimeter,
                region.intensity_max,
                region.intensity_mean,
                region.intensity_min,
                region.intensity_std,
                values.sum(),
                np.quantile(values, (0.25, 0.5, 0.75)),
            )
        )
    return found


def nuclei_field() -> NDArray[np.uint16]:
    """Paint disks of 12 to 20 px with noise."""
    rng = np.random.default_rng(0)
    image = np.full((SIDE, SIDE), 200.0)
    grid = np.ogrid[:SIDE, :SIDE]
    placed: list[tuple[float, float, float]] = []
    while len(placed) < NUCLEI:
        radius, partner = rng.uniform(6, 10), -1
        y, x = rng.uniform(0, SIDE, 2)
        if placed and rng.random() < TOUCHING / 2:
            partner = int(rng.integers(len(placed)))
            angle = rng.uniform(0, 2 * np.pi)
            away = 0.9 * (radius + placed[partner][2])
            y = placed[partner][0] + away * np.sin(angle)
            x = placed[partner][1] + away * np.cos(angle)
        if all(
            np.hypot(y - other[0], x - other[1]) > other[2] + radius + 4
            for i, other in enumerate(placed)
            if i != partner
        ):
            placed.append((y, x, radius))
            box = tuple(slice(max(0, int(at) - 11), max(0, int(at) + 12)) for at in (y, x))
            rows_, columns = grid[0][box[0]], grid[1][:, box[1]]
            image[box][(rows_ - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.uniform(800, 1800)
    return rng.poisson(ndimage.gaussian_filter(image, 1.0)).astype(np.uint16)
