"""Summaries of objects and outliers among planes against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from openhcs.functions import (
    aggregate_groups,
    aggregate_objects,
    flag_outliers,
    measure_objects,
)


def test_objects_become_count_mean_median_and_mad() -> None:
    row = aggregate_objects(
        {
            "ObjectNumber": np.arange(1, 6),
            "AreaShape_Area": np.array([10, 20, 30, 40, 1000]),
            "AreaShape_TouchesBorder": np.array([True, False, False, False, False]),
            "AreaShape_Center_X": np.zeros(5),
            "field": np.zeros(5, np.int64),
            "well": np.array(["A01"] * 5),
        }
    )
    assert row == {
        "count": 5,
        "Mean_AreaShape_Area": 220,
        "Median_AreaShape_Area": 30,
        "MAD_AreaShape_Area": 10,
        "Mean_AreaShape_TouchesBorder": 0.2,
    }
    assert {type(value) for value in row.values()} == {float}


def test_an_empty_well_has_count_zero_and_the_columns_of_any_other() -> None:
    plane = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    labels = np.zeros((32, 32), np.int32)
    none = aggregate_objects(measure_objects({"DAPI": plane}, labels=labels, pixel_um=(1.0, 1.0)))
    labels[4:20, 4:20] = 1
    some = aggregate_objects(measure_objects({"DAPI": plane}, labels=labels, pixel_um=(1.0, 1.0)))
    assert list(none) == list(some)
    assert none["count"] == 0
    assert all(math.isnan(value) for name, value in none.items() if name != "count")
    assert some["MAD_AreaShape_Area"] == 0


def test_no_columns_at_all_are_no_objects() -> None:
    assert aggregate_objects({}) == {"count": 0}


def test_objects_without_a_value_do_not_spoil_the_others() -> None:
    row = aggregate_objects(
        {"Intensity_X": np.array([1.0, math.nan, 3.0]), "Y": np.full(3, math.nan)}
    )
    assert row["count"] == 3
    assert row["Mean_Intensity_X"] == 2
    assert math.isnan(row["Median_Y"])


@pytest.mark.parametrize(
    "columns",
    [{"a": np.zeros(2), "b": np.zeros(3)}, {"a": np.zeros((2, 2))}],
)
def test_columns_that_are_no_table_are_refused(columns: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="one length"):
        aggregate_objects(columns)


def _planes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    wells = np.repeat([f"{row}{column:02}" for row in "ABCD" for column in range(1, 7)], 4)
    fields = np.tile([0, 0, 1, 1], 24)
    channels = np.tile(["DAPI", "GFP"], 48)
    level = np.where(channels == "DAPI", 200.0, 5000.0)
    return {
        "well": wells,
        "field": fields,
        "channel": channels,
        "mean": level * rng.normal(1, 0.02, 96),
        "focus_slope": rng.normal(-2, 0.1, 96),
        "saturated_fraction": np.zeros(96),
    }


def test_a_plane_out_of_line_is_named_with_well_field_and_channel() -> None:
    columns = _planes()
    columns["focus_slope"][42] = -8.0
    columns["saturated_fraction"][11] = 0.2
    columns["saturated_fraction"][50] = 1e-5
    focus, saturated = flag_outliers(columns)
    assert (focus.feature, focus.row, focus.value) == ("focus_slope", 42, -8.0)
    assert (focus.well, focus.field, focus.channel) == ("B05", 1, "DAPI")
    assert focus.robust_z < -20
    assert focus.median == pytest.approx(-2, abs=0.1)
    assert (saturated.feature, saturated.value) == ("saturated_fraction", 0.2)
    assert (saturated.well, saturated.field, saturated.channel) == ("A03", 1, "GFP")
    assert saturated.robust_z > 5


def test_an_empty_plane_has_no_focus_to_be_out_of() -> None:
    columns = _planes()
    columns["focus_slope"][42] = -8.0
    columns["empty"] = np.arange(96) == 42
    assert flag_outliers(columns) == ()


def test_channels_are_compared_with_themselves_only() -> None:
    assert flag_outliers(_planes()) == ()
    columns = _planes()
    columns["mean"][0] = 5000.0  # usual for GFP, not for DAPI
    assert [outlier.row for outlier in flag_outliers(columns)] == [0]


def test_the_robust_z_is_that_of_the_definition() -> None:
    columns = {"x": np.array([1.0, 2.0, 3.0, 4.0, 100.0])}
    (outlier,) = flag_outliers(columns, features=["x"])
    assert outlier.robust_z == pytest.approx(97 / 1.4826)
    assert outlier.well is None
    assert outlier.field is None
    assert outlier.channel is None


def test_few_rows_or_no_spread_name_nothing() -> None:
    assert flag_outliers({"x": np.array([1.0, 1.0, 1.0, 90.0])}, features=["x"]) == ()
    assert flag_outliers({"x": np.ones(50)}, features=["x"]) == ()
    assert flag_outliers({"x": np.full(9, math.nan)}, features=["x"]) == ()
    assert flag_outliers({}) == ()


def test_a_missing_feature_is_an_error() -> None:
    with pytest.raises(KeyError):
        flag_outliers({"x": np.ones(9)}, features=["y"])
    with pytest.raises(ValueError, match="limit"):
        flag_outliers({"x": np.ones(9)}, limit=0)


def test_objects_become_fields_and_fields_become_wells() -> None:
    objects = {
        "well": np.array(["B01", "A01", "A01", "A01", "A01"]),
        "field": np.array([0, 1, 0, 0, 0]),
        "Area": np.array([5.0, 60.0, 10.0, 20.0, math.nan]),
    }
    fields = aggregate_groups(objects)
    assert {name: values.tolist() for name, values in fields.items()} == {
        "well": ["A01", "A01", "B01"],
        "field": [0, 1, 0],
        "count": [3, 1, 1],
        "Mean_Area": [15, 60, 5],
        "Median_Area": [15, 60, 5],
        "MAD_Area": [5, 0, 0],
    }
    wells = aggregate_groups(fields, by=["well"])
    assert wells["count"].tolist() == [2, 1]
    assert wells["Median_count"].tolist() == [2, 1]
    assert wells["Median_Median_Area"].tolist() == [37.5, 5]


def test_no_objects_are_no_groups() -> None:
    none = {"well": np.array([], np.str_), "Area": np.array([])}
    assert {name: len(values) for name, values in aggregate_groups(none, by=["well"]).items()} == {
        "well": 0,
        "count": 0,
        "Mean_Area": 0,
        "Median_Area": 0,
        "MAD_Area": 0,
    }
    with pytest.raises(KeyError):
        aggregate_groups(none, by=["field"])
    with pytest.raises(ValueError, match="one length"):
        aggregate_groups({"well": np.zeros(2), "Area": np.zeros(3)}, by=["well"])
