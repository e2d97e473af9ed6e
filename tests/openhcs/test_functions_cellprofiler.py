"""CellProfiler's features beside those of openhcs, and what they do with unusual planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest

from openhcs import Pipeline, Step, run
from openhcs.functions import measure_cellprofiler, measure_objects, project_max, segment_nuclei
from openhcs.functions._cellprofiler import Family, Pair
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FAMILIES = get_args(Family)
PAIRS = get_args(Pair)
PIXEL_UM = (1.0, 1.0)
pytest.importorskip("cp_measure", reason="cp_measure has no wheel for this Python and machine")
OF_SHAPES = (
    *("Area", "Center_X", "Center_Y", "Eccentricity", "EquivalentDiameter", "Extent", "FormFactor"),
    *("MajorAxisLength", "MinorAxisLength", "Perimeter"),
)
OF_PLANES = ("IntegratedIntensity", "MeanIntensity", "MinIntensity", "MaxIntensity", "StdIntensity")


def objects() -> NDArray[np.int32]:
    """Give three ellipses whose numbers have gaps, one of them at the border."""
    y, x = np.mgrid[:90, :120]
    labels = np.zeros((90, 120), np.int32)
    labels[((y - 20) / 9) ** 2 + ((x - 30) / 14) ** 2 <= 1] = 3
    labels[((y - 60) / 16) ** 2 + ((x - 80) / 8) ** 2 <= 1] = 7
    labels[((y - 85) / 10) ** 2 + ((x - 20) / 10) ** 2 <= 1] = 12
    return labels


def plane(seed: int, dtype: Any = np.uint16, top: int = 4000) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, top, (90, 120)).astype(dtype)


def test_what_both_measure_is_the_same_but_for_units() -> None:
    channels = {"A": plane(1), "B": plane(2)}
    theirs = measure_cellprofiler(channels, labels=objects(), pixel_um=PIXEL_UM)
    ours = measure_objects(channels, labels=objects(), pixel_um=PIXEL_UM)
    np.testing.assert_array_equal(theirs["ObjectNumber"], [3, 7, 12])
    for name in (f"AreaShape_{feature}" for feature in OF_SHAPES):
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-9, err_msg=name)
    turned = theirs["AreaShape_Orientation"] - ours["AreaShape_Orientation"]
    np.testing.assert_allclose((turned + 90) % 180, 90, atol=1e-9)
    for feature in OF_PLANES:
        for channel in channels:
            name = f"Intensity_{feature}_{channel}"
            np.testing.assert_allclose(theirs[name] * 65535, ours[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("dtype", "full_scale", "top"),
    [(np.uint8, None, 255), (np.uint16, None, 65535), (np.uint16, 4095.0, 4095), (float, 10.0, 10)],
)
def test_brightness_is_on_the_scale_of_cellprofiler(
    dtype: Any, full_scale: float | None, top: int
) -> None:
    seen = plane(3, dtype, min(top, 200))
    table = measure_cellprofiler(
        {"A": seen},
        labels=objects(),
        pixel_um=PIXEL_UM,
        families=("intensity",),
        full_scale=full_scale,
    )
    expected = [seen[objects() == number].mean() / top for number in (3, 7, 12)]
    np.testing.assert_allclose(table["Intensity_MeanIntensity_A"], expected)


def test_pairs_are_of_every_two_channels() -> None:
    channels = {"A": plane(1), "B": plane(2), "C": plane(1) // 2}
    table = measure_cellprofiler(
        channels, labels=objects(), pixel_um=PIXEL_UM, families=("feret",), pairs=("pearson",)
    )
    for first, second in (("A", "B"), ("A", "C"), ("B", "C")):
        found = table[f"Correlation_Correlation_{first}_{second}"]
        for value, number in zip(found, (3, 7, 12), strict=True):
            inside = objects() == number
            pair = channels[first][inside], channels[second][inside]
            assert value == pytest.approx(np.corrcoef(*pair)[0, 1])
    assert "Correlation_Correlation_B_A" not in table


def test_every_family_has_the_same_columns_with_and_without_objects() -> None:
    channels = {"A": plane(1), "B": plane(2)}
    wanted: dict[str, Any] = {"pixel_um": PIXEL_UM, "families": FAMILIES, "pairs": PAIRS}
    found = measure_cellprofiler(channels, labels=objects(), **wanted)
    none = measure_cellprofiler(channels, labels=np.zeros_like(objects()), **wanted)
    one = measure_cellprofiler(channels, labels=(objects() == 7).astype(np.uint8), **wanted)
    assert list(found) == list(none) == list(one)
    assert {len(values) for values in found.values()} == {3}
    assert {len(values) for values in none.values()} == {0}
    assert {len(values) for values in one.values()} == {1}
    assert {
        "Granularity_3_A",
        "RadialDistribution_FracAtD_B_2of4",
        "RadialDistribution_ZernikePhase_A_9_7",
        *("Correlation_Manders_A_B", "Correlation_Manders_B_A", "Correlation_Slope_A_B"),
    } <= found.keys()
    prefixes = {name.partition("_")[0] for name in found}
    assert prefixes == {
        *("AreaShape", "Correlation", "Granularity", "Intensity", "Location", "ObjectNumber"),
        *("RadialDistribution", "Texture"),
    }
    # an object is measured the same beside others and alone
    for name in (
        "AreaShape_Zernike_2_2",
        "AreaShape_MaxFeretDiameter",
        "Texture_Contrast_B_3_00_256",
    ):
        assert one[name][0] == pytest.approx(found[name][1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"full_scale": 1000.0}, "pixels of channel 'A' are from 1 to .*, not from 0 to 1000"),
        ({"pairs": ("rwc",)}, "pairs need two channels; there is A"),
        ({"labels": np.zeros((9, 9), np.int32)}, "channel 'A' has shape"),
        ({"labels": np.ones((90, 120))}, "labels must be integers"),
    ],
)
def test_what_cannot_be_measured_is_said(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"labels": objects(), "pixel_um": PIXEL_UM, **change}
    if given["labels"].shape == (9, 9):
        given["labels"][2:5, 2:5] = 1
    with pytest.raises(ValueError, match=message):
        measure_cellprofiler({"A": plane(1)}, **given)


@pytest.mark.parametrize("bad", [-0.5, 1.5, np.nan])
def test_floating_point_planes_lie_between_0_and_1(bad: float) -> None:
    seen = plane(1) / 4000
    seen[0, 0] = bad
    with pytest.raises(ValueError, match="give full_scale the counts"):
        measure_cellprofiler({"A": seen}, labels=objects(), pixel_um=PIXEL_UM)


def test_a_run_has_the_features_of_every_well(tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    synthetic_plate(plate, wells=("B02", "C03"), grid=(1, 1), z=1, size_px=128, seed=2)
    pipeline = Pipeline(
        Step(project_max),
        Step(segment_nuclei, channel="DAPI"),
        Step(measure_objects),
        Step(measure_cellprofiler, pairs=("manders_fold",)),
    )
    found = run(plate, pipeline, out=tmp_path / "out", workers=1)
    assert found.completed, found.errors
    ours, theirs = found.frame("objects"), found.frame("cellprofiler")
    assert len(ours) == len(theirs) > 0
    pixel_um2 = ours["AreaShape_Area_um2"] / theirs["AreaShape_Area"]
    np.testing.assert_allclose(pixel_um2, pixel_um2.iloc[0])
    assert any("Correlation_Manders_" in name for name in found.wells.column_names)
