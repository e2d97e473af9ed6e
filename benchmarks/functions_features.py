"""Features of objects and tracks: processor time beside the numpy, scipy or skimage that bounds it.

One field of 1080 x 1080 with 300 nuclei; for tracks, 300 objects over 20 time points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from _turns import at_most
from cp_measure.bulk import get_core_measurements
from functions_objects import PIXEL_UM, nuclei_field
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from skimage.feature import graycomatrix, graycoprops
from skimage.measure import regionprops
from skimage.morphology import disk

from openhcs.functions import (
    Stack,
    measure_cellprofiler,
    measure_colocalisation,
    measure_granularity,
    measure_intensity_quantiles,
    measure_neighbours,
    measure_radial_distribution,
    measure_texture,
    segment_nuclei,
    track_objects,
)

if TYPE_CHECKING:
    from _rows import Row
    from numpy.typing import NDArray

__all__ = ["rows"]

TIMES = 20
LEVELS = 16


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows; medians of `repeats`."""
    plane = nuclei_field()
    other = np.random.default_rng(1).poisson(plane).astype(np.uint16)
    labels = segment_nuclei(plane, pixel_um=PIXEL_UM)
    one, two = {"A": plane}, {"A": plane, "B": other}
    stack = _moving(labels)
    given: dict[str, Any] = {"labels": labels, "pixel_um": PIXEL_UM}
    return [
        at_most(
            "measure_cellprofiler, shape and intensity; limit cp_measure's two calls",
            lambda: measure_cellprofiler(one, **given),
            lambda: _by_cp_measure(plane, labels),
            target=1.15,
            repeats=repeats,
        ),
        at_most(
            "measure_colocalisation, 2 channels; limit sums of products, Pearson by bincount",
            lambda: measure_colocalisation(two, **given),
            lambda: _sums(plane, other, labels),
            target=2.5,
            repeats=repeats,
        ),
        at_most(
            "measure_granularity; limit scipy's openings by 8 disks of the reduced plane",
            lambda: measure_granularity(one, **given),
            lambda: _openings(plane),
            target=1,
            repeats=repeats,
        ),
        at_most(
            "measure_texture; limit scikit-image's matrices, object by object",
            lambda: measure_texture(one, **given),
            lambda: _matrices(plane, labels),
            target=0.25,
            repeats=repeats,
        ),
        at_most(
            "measure_radial_distribution; limit a distance transform and sums",
            lambda: measure_radial_distribution(one, **given),
            lambda: _distances(plane, labels),
            target=3,
            repeats=repeats,
        ),
        at_most(
            "measure_intensity_quantiles; limit two sorts of the objects' pixels",
            lambda: measure_intensity_quantiles(one, **given),
            lambda: _sorts(plane, labels),
            target=3,
            repeats=repeats,
        ),
        at_most(
            "measure_neighbours; limit a tree of the outlines and its pairs within 5 um",
            lambda: measure_neighbours({}, **given),
            lambda: _outline_pairs(labels),
            target=5,
            repeats=repeats,
        ),
        at_most(
            "track_objects, 300 objects; limit centres and a dense assignment of each two times",
            lambda: track_objects(stack, labels=stack, pixel_um=PIXEL_UM),
            lambda: _dense(stack),
            target=1.5,
            repeats=repeats,
            per=TIMES,
            unit="ms/time",
        ),
    ]


def _by_cp_measure(plane: NDArray[Any], labels: NDArray[Any]) -> None:
    measures = get_core_measurements()
    measures["sizeshape"](labels, None)
    measures["intensity"](labels, plane / 65535)


def _sums(
    a: NDArray[np.uint16], b: NDArray[np.uint16], labels: NDArray[np.int32]
) -> list[NDArray[Any]]:
    """Do the sums of a Pearson and of Manders, over the plane and over each object."""
    flat = labels.ravel()
    first, second = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    products = (first, second, first * first, second * second, first * second)
    bins = (first / first.max() * 1023).astype(np.intp)
    whole = [np.bincount(bins, weights=product) for product in products]
    return whole + [np.bincount(flat, weights=product) for product in products]


def _openings(plane: NDArray[np.uint16]) -> list[NDArray[Any]]:
    reduced = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2].astype(np.float32)
    reduced = reduced.reshape(reduced.shape[0] // 2, 2, -1, 2).mean(axis=(1, 3))
    disks = [disk(radius) for radius in range(1, 9)]  # type: ignore[no-untyped-call]  # skimage's
    return [ndimage.grey_opening(reduced, footprint=each) for each in disks]


def _matrices(plane: NDArray[np.uint16], labels: NDArray[np.int32]) -> list[Any]:
    found = []
    for region in regionprops(labels, plane):  # type: ignore[no-untyped-call]  # skimage's
        values, own = region.image_intensity, region.image
        low, high = values[own].min(), values[own].max()
        grey = np.clip((values - low) / max(high - low, 1) * LEVELS, 0, LEVELS - 1) + 1
        counts = graycomatrix(  # type: ignore[no-untyped-call]  # skimage's
            np.where(own, grey, 0).astype(np.uint8),
            [3],
            [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4],
            levels=LEVELS + 1,
            symmetric=True,
        )
        found += [
            graycoprops(counts, name)  # type: ignore[no-untyped-call]  # skimage's
            for name in ("contrast", "homogeneity", "ASM", "correlation", "entropy", "variance")
        ]
    return found


def _distances(plane: NDArray[np.uint16], labels: NDArray[np.int32]) -> NDArray[Any]:
    distance = ndimage.distance_transform_edt(labels)
    own = np.flatnonzero(labels)
    code = labels.ravel()[own] * 4 + np.minimum(distance.ravel()[own] / 3, 3).astype(np.intp)
    return np.bincount(code, weights=plane.ravel()[own])


def _sorts(plane: NDArray[np.uint16], labels: NDArray[np.int32]) -> None:
    own = np.flatnonzero(labels)
    keys = (labels.ravel()[own].astype(np.int64) << 16) | plane.ravel()[own]
    np.sort(keys)
    np.sort(keys)


def _outline_pairs(labels: NDArray[np.int32]) -> NDArray[Any]:
    cross = ndimage.generate_binary_structure(2, 1)
    inner = ndimage.minimum_filter(labels, footprint=cross) == labels
    places = np.argwhere((labels > 0) & ~inner) * PIXEL_UM
    pairs: NDArray[Any] = cKDTree(places).query_pairs(5.0, output_type="ndarray")
    return pairs


def _dense(stack: Stack) -> None:
    before: NDArray[np.float64] | None = None
    for plane in stack:
        flat = plane.ravel()
        y, x = np.indices(plane.shape)
        count = np.bincount(flat)
        centres = np.stack([np.bincount(flat, weights=at.ravel()) / count for at in (y, x)], axis=1)
        if before is not None:
            linear_sum_assignment(np.minimum(cdist(before, centres), 20.0))
        before = centres


def _moving(labels: NDArray[np.int32]) -> Stack:
    """Let all objects drift, a little more each time."""
    planes = [np.roll(labels, 2 * t, axis=t % 2) for t in range(TIMES)]
    return Stack([lambda plane=plane: plane for plane in planes])  # type: ignore[misc]
