"""Features of objects against scikit-image and against numbers worked out by hand."""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skimage.measure import regionprops

from openhcs.functions import measure_objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.25)

_PROPERTIES = {
    "ObjectNumber": "label",
    "AreaShape_Area": "area",
    "AreaShape_Eccentricity": "eccentricity",
    "AreaShape_EquivalentDiameter": "equivalent_diameter_area",
    "AreaShape_Extent": "extent",
    "AreaShape_MajorAxisLength": "axis_major_length",
    "AreaShape_MinorAxisLength": "axis_minor_length",
    "AreaShape_Perimeter": "perimeter",
    "Intensity_MaxIntensity_DAPI": "intensity_max",
    "Intensity_MeanIntensity_DAPI": "intensity_mean",
    "Intensity_MinIntensity_DAPI": "intensity_min",
    "Intensity_StdIntensity_DAPI": "intensity_std",
}


def reference(labels: NDArray[Any], plane: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Measure the same with scikit-image, object by object."""
    rows: list[dict[str, float]] = []
    for region in regionprops(labels, plane):  # type: ignore[no-untyped-call]  # scikit-image
        row = {name: float(getattr(region, of)) for name, of in _PROPERTIES.items()}
        top, left, bottom, right = region.bbox
        row["AreaShape_BoundingBoxMinimum_Y"], row["AreaShape_BoundingBoxMinimum_X"] = top, left
        row["AreaShape_BoundingBoxMaximum_Y"], row["AreaShape_BoundingBoxMaximum_X"] = bottom, right
        row["AreaShape_Center_Y"], row["AreaShape_Center_X"] = region.centroid
        row["AreaShape_Orientation"] = math.degrees(region.orientation)
        values = region.image_intensity[region.image].astype(np.float64)
        row["Intensity_IntegratedIntensity_DAPI"] = values.sum()
        for name, q in (("LowerQuartile", 0.25), ("Median", 0.5), ("UpperQuartile", 0.75)):
            row[f"Intensity_{name}Intensity_DAPI"] = float(np.quantile(values, q))
        rows.append(row)
    return {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def blobs(seed: int, shape: tuple[int, int], count: int, radius: int) -> NDArray[np.int32]:
    """Paint disks that overlap and reach over the border; later ones on top."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for number in range(1, count + 1):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        size = rng.integers(1, radius + 1)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= size**2] = number
    return labels


def assert_equal_to_regionprops(labels: NDArray[Any], plane: NDArray[Any]) -> None:
    measured = measure_objects({"DAPI": plane}, labels=labels, pixel_um=PIXEL_UM)
    expected = reference(labels, plane)
    assert {len(column) for column in measured.values()} == {len(np.unique(labels[labels > 0]))}
    # Where a shape has no direction its angle is arbitrary, and eccentricity cancels to noise.
    long = expected.get("AreaShape_Eccentricity", np.zeros(0)) > 1e-3
    for name, values in expected.items():
        if name == "AreaShape_Orientation":
            apart = np.abs(measured[name] - values)[long]
            assert (np.minimum(apart, 180 - apart) < 1e-4).all()
        elif name == "AreaShape_Eccentricity" or name == "AreaShape_MinorAxisLength":
            assert measured[name] == pytest.approx(values, rel=1e-6, abs=1e-6)
        elif name == "Intensity_StdIntensity_DAPI":
            assert measured[name] == pytest.approx(values, rel=1e-6, abs=1e-3)
        else:
            assert measured[name] == pytest.approx(values, rel=1e-6), name


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(3, 60), st.integers(3, 60)),
    count=st.integers(0, 12),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64]),
)
def test_features_equal_those_of_regionprops(
    seed: int, shape: tuple[int, int], count: int, dtype: type[np.generic]
) -> None:
    rng = np.random.default_rng(seed)
    top = 250 if dtype is np.uint8 else 60_000
    plane = rng.uniform(0, top, shape).astype(dtype)
    assert_equal_to_regionprops(blobs(seed, shape, count, 12), plane)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_features_of_a_constant_plane(dtype: type[np.generic]) -> None:
    assert_equal_to_regionprops(blobs(1, (40, 50), 5, 8), np.full((40, 50), 17, dtype))


@pytest.mark.parametrize(
    "labels",
    [
        np.ones((20, 30), np.int32),
        np.pad(np.ones((1, 1), np.uint8), 5),
        np.pad(np.ones((1, 9), np.int64), 5),
        np.eye(12, dtype=np.uint16),
        np.kron(np.array([[1, 0, 1], [0, 1, 0]]), np.ones((3, 3), np.int32)),
        np.kron(np.arange(12).reshape(3, 4) * 1_000_000, np.ones((4, 4), np.int64)),
    ],
    ids=["all", "a pixel", "a line", "a diagonal", "in pieces", "numbers far apart"],
)
def test_features_of_odd_objects(labels: NDArray[Any]) -> None:
    plane = np.random.default_rng(2).integers(0, 65_535, labels.shape).astype(np.uint16)
    assert_equal_to_regionprops(labels.astype(np.int64), plane)


def test_without_objects_every_column_is_there_and_empty() -> None:
    plane = np.zeros((32, 32), np.uint16)
    some = measure_objects(
        {"DAPI": plane, "GFP": plane}, labels=np.eye(32, dtype=np.int32), pixel_um=PIXEL_UM
    )
    none = measure_objects(
        {"DAPI": plane, "GFP": plane}, labels=np.zeros((32, 32), np.int32), pixel_um=PIXEL_UM
    )
    assert list(none) == list(some)
    assert [column.dtype for column in none.values()] == [column.dtype for column in some.values()]
    assert all(column.shape == (0,) for column in none.values())


def test_a_rectangle_measures_what_it_should_in_um() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:20, 30:50] = 5
    columns = measure_objects({}, labels=labels, pixel_um=PIXEL_UM)
    row = {name: values.item() for name, values in columns.items()}
    assert row["ObjectNumber"] == 5
    assert row["AreaShape_Area"] == 200
    assert row["AreaShape_Area_um2"] == pytest.approx(200 * 0.5 * 0.25)
    assert (row["AreaShape_Center_Y"], row["AreaShape_Center_X"]) == (14.5, 39.5)
    assert row["AreaShape_Center_Y_um"] == pytest.approx(15 * 0.5)
    assert row["AreaShape_Center_X_um"] == pytest.approx(40 * 0.25)
    assert abs(row["AreaShape_Orientation"]) == 90
    assert row["AreaShape_Perimeter"] == 2 * (9 + 19)
    assert row["AreaShape_Extent"] == 1
    assert row["AreaShape_TouchesBorder"] is False


@pytest.mark.parametrize("box", [np.s_[0:4, 9:14], np.s_[16:20, 9:14], np.s_[8:12, 0:3]])
def test_objects_at_the_border_are_marked(box: tuple[slice, slice]) -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[8:12, 14:20] = 1
    labels[box] = 2
    columns = measure_objects({}, labels=labels, pixel_um=PIXEL_UM)
    assert columns["AreaShape_TouchesBorder"].tolist() == [False, True]


def test_local_background_is_that_around_the_object() -> None:
    labels = np.zeros((100, 200), np.int32)
    labels[40:60, 40:60], labels[40:60, 140:160] = 1, 2
    plane = np.full((100, 200), 100.0)
    plane[:, 100:] = 300
    plane[labels > 0] += 50
    columns = measure_objects({"DAPI": plane}, labels=labels, pixel_um=(1.0, 1.0))
    assert columns["Intensity_LocalBackground_DAPI"].tolist() == [100, 300]
    above = columns["Intensity_IntegratedIntensityAboveBackground_DAPI"]
    assert above.tolist() == [50 * 400, 50 * 400]


def test_the_background_of_one_object_is_never_another_object() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[20:40, 20:29], labels[20:40, 31:40] = 1, 2
    plane = np.where(labels > 0, 60_000, 500).astype(np.uint16)
    columns = measure_objects({"DAPI": plane}, labels=labels, pixel_um=(1.0, 1.0))
    assert columns["Intensity_LocalBackground_DAPI"].tolist() == [500, 500]


def test_an_object_with_no_free_pixel_around_has_no_local_background() -> None:
    labels = np.ones((32, 32), np.int32)
    plane = np.full((32, 32), 9, np.uint16)
    columns = measure_objects({"DAPI": plane}, labels=labels, pixel_um=PIXEL_UM)
    assert math.isnan(columns["Intensity_LocalBackground_DAPI"].item())
    assert math.isnan(columns["Intensity_IntegratedIntensityAboveBackground_DAPI"].item())
    assert columns["Intensity_MeanIntensity_DAPI"].item() == 9


def test_each_channel_has_columns_of_its_own() -> None:
    labels = np.ones((32, 32), np.int32)
    planes: dict[str, NDArray[Any]]
    planes = {"DAPI": np.full((32, 32), 2, np.uint16), "GFP": np.full((32, 32), 3, np.uint8)}
    columns = measure_objects(planes, labels=labels, pixel_um=PIXEL_UM)
    assert columns["Intensity_MeanIntensity_DAPI"].item() == 2
    assert columns["Intensity_MeanIntensity_GFP"].item() == 3


def test_forty_thousand_objects() -> None:
    labels = np.kron(np.arange(1, 40_001).reshape(200, 200), np.ones((3, 3), np.int32))
    padded = np.zeros((200, 4, 200, 4), np.int64)
    padded[:, :3, :, :3] = labels.reshape(200, 3, 200, 3)
    labels = padded.reshape(800, 800)
    plane = (labels % 1000).astype(np.uint16)
    columns = measure_objects({"DAPI": plane}, labels=labels, pixel_um=PIXEL_UM)
    assert np.array_equal(columns["ObjectNumber"], np.arange(1, 40_001))
    assert (columns["AreaShape_Area"] == 9).all()
    assert np.array_equal(columns["Intensity_MeanIntensity_DAPI"], np.arange(1, 40_001) % 1000)


@pytest.mark.parametrize(
    ("channels", "labels", "message"),
    [
        ({}, np.zeros((4, 4)), "labels must be integers"),
        ({}, np.zeros((2, 4, 4), np.int32), "labels must be integers"),
        ({"GFP": np.zeros((4, 5))}, np.ones((4, 4), np.int32), "channel 'GFP' has shape"),
    ],
)
def test_what_does_not_fit_is_named(
    channels: dict[str, NDArray[Any]], labels: NDArray[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure_objects(channels, labels=labels, pixel_um=PIXEL_UM)


def test_nothing_is_done_object_by_object() -> None:
    # Disks of 17 px on a grid: the size and density of nuclei at 10 x.
    labels = np.zeros((800, 800), np.int32)
    rows, columns = np.mgrid[-8:9, -8:9]
    disk = rows**2 + columns**2 <= 64
    for number in range(225):
        y, x = divmod(number, 15)
        box = np.s_[y * 53 + 10 : y * 53 + 27, x * 53 + 10 : x * 53 + 27]
        labels[box][disk] = number + 1
    plane = np.random.default_rng(0).integers(0, 4096, labels.shape).astype(np.uint16)

    def calls(labels: NDArray[np.int32]) -> int:
        """Count the functions, of Python and of C, that are called to measure."""
        events: Counter[str] = Counter()
        before = sys.getprofile()
        sys.setprofile(lambda _frame, event, _argument: events.update((event,)))
        try:
            measure_objects({"DAPI": plane}, labels=labels, pixel_um=PIXEL_UM)
        finally:
            sys.setprofile(before)
        return events["call"] + events["c_call"]

    calls(labels)  # the first time, modules are loaded
    assert calls(labels) < 2 * calls(np.where(labels <= 9, labels, 0).astype(np.int32))
