"""Segmentation against truth; its cost, and that of features and image quality, beside libraries'.

Nuclei are counted on synthetic plates of 800 nuclei in a mm2, of which none, a fifth, or all touch
another one. Costs are those of one field of 1080 x 1080 with 300 nuclei, a fifth of which touch;
ours and the limit run in turn, so that whatever else the computer does falls on both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _rows import Row
from _turns import at_most
from imagecodecs import lzw_decode, lzw_encode
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.measure import regionprops

from openhcs.functions import (
    exclude_fields,
    measure_image_quality,
    measure_objects,
    segment_nuclei,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

__all__ = ["PIXEL_UM", "SIDE", "nuclei_field", "rows"]

SIDE, NUCLEI, TOUCHING = 1080, 300, 0.2
PIXEL_UM = (0.65, 0.65)
WELLS = ("A03", "C05", "F08", "H10")
LEAST_PX = 46  # the area of a disk of 5 um, the smallest that is asked for
SAME: Mapping[str, Callable[[Any], float]] = {
    "AreaShape_Area": lambda region: region.area,
    "AreaShape_Center_X": lambda region: region.centroid[1],
    "AreaShape_Center_Y": lambda region: region.centroid[0],
    "AreaShape_BoundingBoxMinimum_X": lambda region: region.bbox[1],
    "AreaShape_BoundingBoxMinimum_Y": lambda region: region.bbox[0],
    "AreaShape_BoundingBoxMaximum_X": lambda region: region.bbox[3],
    "AreaShape_BoundingBoxMaximum_Y": lambda region: region.bbox[2],
    "AreaShape_Eccentricity": lambda region: region.eccentricity,
    "AreaShape_EquivalentDiameter": lambda region: region.equivalent_diameter_area,
    "AreaShape_Extent": lambda region: region.extent,
    "AreaShape_MajorAxisLength": lambda region: region.axis_major_length,
    "AreaShape_MinorAxisLength": lambda region: region.axis_minor_length,
    "AreaShape_Perimeter": lambda region: region.perimeter,
    "Intensity_IntegratedIntensity_DAPI": lambda region: region.image_intensity.sum(),
    "Intensity_MaxIntensity_DAPI": lambda region: region.intensity_max,
    "Intensity_MeanIntensity_DAPI": lambda region: region.intensity_mean,
    "Intensity_MinIntensity_DAPI": lambda region: region.intensity_min,
    "Intensity_StdIntensity_DAPI": lambda region: region.intensity_std,
    "Intensity_MedianIntensity_DAPI": lambda region: region.intensity_median,
}


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
        unit="s CPU/Mpx",
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
        unit="s CPU/field",
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
        unit="ms CPU/plane",
        limit=limit * 1e3,
        ratio=ours / limit,
        target="ratio <= 0.1",
        met=ours <= 0.1 * limit,
    )
    told = measure_image_quality(plane)
    rule = at_most(
        "exclude_fields by 2 bounds; limit measure_image_quality of the plane",
        lambda: exclude_fields(
            plane, quality=told, at_least={"snr": 5.0}, at_most={"saturated_fraction": 0.01}
        ),
        lambda: measure_image_quality(plane),
        target=0.05,
        repeats=repeats,
        unit="ms CPU/plane",
    )
    return [*_counted(), segmentation, features, _equal(labels, plane), quality, rule]


def _counted() -> list[Row]:
    """Find the nuclei of fields whose nuclei are known."""
    found = []
    for touching, least in ((0.0, 0.95), (TOUCHING, 0.95), (1.0, 0.95)):
        with tempfile.TemporaryDirectory(prefix="openhcs-bench-") as folder:
            plate = Path(folder) / "plate"
            truth = synthetic_plate(
                plate,
                wells=WELLS,
                grid=(1, 1),
                channels=("DAPI",),
                z=1,
                size_px=SIDE,
                pixel_um=PIXEL_UM[0],
                touching=touching,
                seed=3,
            )
            index = open_plate(plate)
            counts = np.zeros(3, dtype=np.int64)
            for plane in index:
                even = (index.read(plane) - truth.spec.offset) / truth.illumination[0]
                seen = np.clip(np.rint(even), 0, 65535).astype(np.uint16)
                labels = segment_nuclei(seen, pixel_um=PIXEL_UM)
                tile = truth.of_well(truth.tiles, plane.well)
                top, left = (round(float(tile[name][0])) for name in ("y_px", "x_px"))
                expected = truth.expected_labels(plane.well)
                counts += _matches(expected[top : top + SIDE, left : left + SIDE], labels)
        right, true, all_found = counts.tolist()
        f1 = 2 * right / (true + all_found)
        found.append(
            Row(
                row=f"nuclei found, F1 at IoU 0.5, {touching:.0%} touch ({true} nuclei)",
                value=f1,
                unit="F1",
                limit=1.0,
                ratio=f1,
                target=f">= {least}",
                met=f1 >= least,
            )
        )
    return found


def _matches(expected: NDArray[Any], found: NDArray[Any]) -> tuple[int, int, int]:
    """Count pairs that overlap by half of their union, and the objects of both."""
    shape = int(expected.max()) + 1, int(found.max()) + 1
    pairs = np.ravel_multi_index((expected.ravel(), found.ravel()), shape)
    shared = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    areas = shared.sum(axis=1), shared.sum(axis=0)
    union = areas[0][:, None] + areas[1][None, :] - shared
    right = int((shared[1:, 1:] > 0.5 * union[1:, 1:]).sum())
    # What the field cuts to a few pixels at its border is no nucleus that anybody could find.
    true = int((areas[0][1:] >= LEAST_PX).sum())
    return min(right, true), true, int((areas[1][1:] > 0).sum())


def _equal(labels: NDArray[Any], plane: NDArray[Any]) -> Row:
    """Compare features with those of scikit-image."""
    table = measure_objects({"DAPI": plane}, labels=labels, pixel_um=PIXEL_UM)
    regions = regionprops(labels, plane)  # type: ignore[no-untyped-call]  # skimage's
    largest = 0.0
    for name, of in SAME.items():
        theirs = np.array([of(region) for region in regions], dtype=np.float64)
        away = np.abs(np.asarray(table[name], np.float64) - theirs)
        largest = max(largest, float((away / np.maximum(np.abs(theirs), 1e-9)).max()))
    return Row(
        row=f"measure_objects away from regionprops, {len(SAME)} features",
        value=largest,
        unit="of the value",
        limit=1e-6,
        ratio=largest / 1e-6,
        target="<= 1e-6",
        met=largest <= 1e-6,
    )


def _in_turn(
    repeats: int, ours: Callable[[], object], limit: Callable[[], object]
) -> tuple[float, float]:
    """Give the median processor time of two calls that run in turn, after one round to warm up."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for times, call in zip(taken, (ours, limit), strict=True):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
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
