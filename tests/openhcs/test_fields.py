"""How many fields a well's numbers come from, and what each of them says by itself."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from openhcs import open_results
from openhcs._errors import CompileError
from openhcs.execution import run as run_plan
from openhcs.functions import (
    aggregate_objects,
    detect_spots,
    exclude_fields,
    gaussian_px,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
)
from openhcs.pipeline import Pipeline, Step, compile_pipeline, from_source, to_source
from openhcs.plates import open_plate
from openhcs.report import write_report
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.execution import RunResult

RAGGED = "A02"
"""Has two fields of four."""
BLANK = ("A03", 1)
"""A field in which there is nothing."""
WELLS = ("A01", "A02", "A03")
NUCLEI = (Step(segment_nuclei, channel="DAPI"), Step(measure_objects))
BY_FIELD = Pipeline(Step(measure_image_quality), Step(project_max), *NUCLEI)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields") / "plate"
    synthetic_plate(
        folder, wells=WELLS, grid=(2, 2), z=1, size_px=96, seed=3, well_fields={RAGGED: 2}
    )
    well, field = BLANK
    for plane in open_plate(folder, cache=False).select(wells=[well], fields=[field]):
        path = folder / str(plane.path)
        with tifffile.TiffFile(path) as file:
            pixels, told = file.asarray(), file.pages.first.description
        noise = np.random.default_rng(0).poisson(100, pixels.shape)
        tifffile.imwrite(path, noise.astype(pixels.dtype), description=told, metadata=None)
    return folder


def run(plate: Path, pipeline: Pipeline, out: Path, **options: Any) -> RunResult:
    """Run on threads of this process: none is started for it."""
    index = open_plate(plate, cache=False)
    plan = compile_pipeline(pipeline, index, missing="skip-group", **options)
    with ThreadPoolExecutor(1) as executor:
        return run_plan(plan, out, executor=executor)


@pytest.fixture(scope="module")
def by_field(plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("by_field") / "out"
    assert run(plate, BY_FIELD, out).completed
    return out


def wells_of(out: Path) -> dict[str, dict[str, Any]]:
    return {row["well"]: row for row in open_results(out).wells.to_pylist()}


def test_a_well_with_fewer_fields_is_told_from_one_with_fewer_cells(by_field: Path) -> None:
    wells = wells_of(by_field)
    assert {well: row["fields"] for well, row in wells.items()} == {"A01": 4, "A02": 2, "A03": 4}
    assert {well: row["image_quality_fields"] for well, row in wells.items()} == {
        "A01": 4,
        "A02": 2,
        "A03": 4,
    }
    assert "objects of 2 fields; 4 in other wells" in write_report(by_field).read_text()


def test_each_field_is_summed_up_also_where_nothing_was_found(by_field: Path) -> None:
    results = open_results(by_field)
    fields = results.fields().to_pylist()
    assert [(row["well"], row["field"]) for row in fields] == [
        *(("A01", field) for field in range(4)),
        *(("A02", field) for field in range(2)),
        *(("A03", field) for field in range(4)),
    ]
    blank = next(row for row in fields if (row["well"], row["field"]) == BLANK)
    assert blank["count"] == 0
    assert math.isnan(blank["Median_AreaShape_Area"])
    for row in fields:
        objects = results.table("objects", wells=[row["well"]]).to_pydict()
        chosen = np.array(objects["field"]) == row["field"]
        expected = aggregate_objects(
            {name: np.array(values)[chosen] for name, values in objects.items()}
        )
        assert {name: row[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert results.fields(wells=["A02"]).to_pylist() == [r for r in fields if r["well"] == "A02"]
    for well, row in wells_of(by_field).items():
        assert row["count"] == sum(each["count"] for each in fields if each["well"] == well)


def test_objects_of_a_stitched_well_are_of_all_its_fields_and_of_none(
    plate: Path, tmp_path: Path
) -> None:
    stitched = Pipeline(Step(project_max), Step(stitch), *NUCLEI)
    assert run(plate, stitched, tmp_path / "out").completed
    wells = wells_of(tmp_path / "out")
    assert {well: row["fields"] for well, row in wells.items()} == {"A01": 4, "A02": 2, "A03": 4}
    rows = open_results(tmp_path / "out").fields().to_pylist()
    assert [(row["well"], row["field"]) for row in rows] == [(well, None) for well in WELLS]
    assert [row["count"] for row in rows] == [wells[well]["count"] for well in WELLS]


def test_fields_that_are_left_out_do_not_contribute(plate: Path, tmp_path: Path) -> None:
    index = open_plate(plate, cache=False)
    (lost,) = (p for p in index.select(wells=["A01"], fields=[2], channels=[0]))
    path = plate / str(lost.path)
    kept = path.read_bytes()
    path.unlink()
    try:
        out = tmp_path / "out"
        assert run(plate, BY_FIELD, out).completed
    finally:
        path.write_bytes(kept)
    assert wells_of(out)["A01"]["fields"] == 3
    assert {row["field"] for row in open_results(out).fields(wells="A01").to_pylist()} == {0, 1, 3}


def test_what_is_taken_over_keeps_its_fields(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(plate, BY_FIELD, out)
    fields = str(open_results(out).fields().to_pylist())
    longer = Pipeline(*BY_FIELD.steps, Step(measure_objects, name="again"))
    run(plate, longer, out)
    assert wells_of(out)[RAGGED]["fields"] == 2
    assert str(open_results(out).fields().to_pylist()) == fields


def test_results_of_before_have_fields_with_objects(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(plate, BY_FIELD, out)
    for path in (out / "records").glob("*.json"):
        record = json.loads(path.read_text())
        del record["fields"]
        for row in record["measures"].values():
            for name in [name for name in row if name.endswith("fields")]:
                del row[name]
        path.write_text(json.dumps(record))
    assert run(plate, BY_FIELD, out).completed
    assert "fields" not in open_results(out).wells.column_names
    rows = open_results(out).fields(wells=["A03"]).to_pylist()
    assert [row["field"] for row in rows] == [0, 2, 3]


def test_a_table_without_objects_has_no_fields(by_field: Path) -> None:
    with pytest.raises(ValueError, match="no row per object"):
        open_results(by_field).fields("image_quality")
    with pytest.raises(KeyError, match="no table"):
        open_results(by_field).fields("cells")


def bounded(**bounds: Any) -> Pipeline:
    rule = Step(exclude_fields, channel="DAPI", **bounds)
    return Pipeline(Step(measure_image_quality), rule, Step(project_max), *NUCLEI)


DIM: Any = {"at_least": {"snr": 8.0}}
"""What the blank field alone does not keep."""


def test_fields_out_of_bounds_do_not_count_and_that_is_on_record(
    plate: Path, by_field: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(plate, bounded(**DIM), out).completed
    wells, free = wells_of(out), wells_of(by_field)
    assert {well: row["fields"] for well, row in wells.items()} == {"A01": 4, "A02": 2, "A03": 3}
    assert {well: row["fields_excluded"] for well, row in wells.items()} == {
        "A01": 0,
        "A02": 0,
        "A03": 1,
    }
    for well in ("A01", "A02"):
        assert wells[well]["Median_AreaShape_Area"] == free[well]["Median_AreaShape_Area"]
    said = open_results(out).table("exclusion").to_pylist()
    (excluded,) = (row for row in said if row["excluded"])
    assert (excluded["well"], excluded["field"], excluded["channel"]) == (*BLANK, "DAPI")
    assert "snr" in excluded["because"]
    assert {row["because"] for row in said if not row["excluded"]} == {""}
    fields = open_results(out).fields().to_pylist()
    assert [(row["well"], row["field"]) for row in fields if row["excluded"]] == [BLANK]
    # What the rule looks at is summed up whole.
    assert wells["A03"]["image_quality_fields"] == 4
    assert wells["A03"]["image_quality_DAPI_snr"] == free["A03"]["image_quality_DAPI_snr"]
    assert "1 of 4 fields left out by a rule" in write_report(out).read_text()
    assert "exclude_fields" in json.loads((out / "run.json").read_text())["pipeline"]


def test_the_objects_of_fields_that_are_left_out_count_nowhere(
    plate: Path, by_field: Path, tmp_path: Path
) -> None:
    quality = open_results(by_field).table("image_quality", wells="A01").to_pylist()
    means = {row["field"]: row["mean"] for row in quality if row["channel"] == "DAPI"}
    brightest = max(means, key=lambda field: means[field])
    bound = sum(sorted(means.values())[-2:]) / 2
    out = tmp_path / "out"
    assert run(plate, bounded(at_most={"mean": bound}), out, wells=["A01"]).completed
    objects = open_results(out).table("objects").to_pydict()
    kept = np.array(objects["field"]) != brightest
    assert 0 < kept.sum() < len(kept)
    expected = aggregate_objects({name: np.array(column)[kept] for name, column in objects.items()})
    row = wells_of(out)["A01"]
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert row["fields"] == 3


def test_a_well_all_of_whose_fields_are_left_out_has_no_count_rather_than_none(
    plate: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(plate, bounded(at_least={"snr": 1e9}), out).completed
    for row in wells_of(out).values():
        assert row["outcome"] == "ok"
        assert (row["fields"], row["count"], row["Mean_AreaShape_Area"]) == (0, None, None)
    assert open_results(out).table("objects").num_rows > 0
    assert "left out by a rule" in write_report(out).read_text()


def test_a_well_without_objects_keeps_its_count_of_zero(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nothing = Pipeline(
        Step(measure_image_quality),
        Step(exclude_fields, channel="DAPI", **DIM),
        Step(project_max),
        Step(segment_nuclei, channel="DAPI", min_diameter_um=29.0, max_diameter_um=30.0),
        Step(measure_objects),
    )
    assert run(plate, nothing, out, wells=["A03"]).completed
    row = wells_of(out)["A03"]
    assert (row["count"], row["fields"], row["fields_excluded"]) == (0, 3, 1)
    assert row["Mean_AreaShape_Area"] is None
    # Nothing but the rule changes: the sums are made anew from what is stored.
    without = Pipeline(nothing.steps[0], *nothing.steps[2:])
    assert run(plate, without, out, wells=["A03"]).completed
    row = wells_of(out)["A03"]
    assert (row["count"], row["fields"]) == (0, 4)
    assert "fields_excluded" not in row


def test_another_rule_sums_up_anew_and_measures_nothing_again(
    plate: Path, by_field: Path, tmp_path: Path
) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    run(plate, bounded(at_least={"snr": 1e9}), out)
    written = {path: path.stat().st_mtime_ns for path in (out / "objects").iterdir()}
    for pipeline, alike in ((bounded(**DIM), fresh), (BY_FIELD, by_field)):
        if alike == fresh:
            run(plate, pipeline, fresh)
        assert run(plate, pipeline, out).completed
        rows, expected = wells_of(out), wells_of(alike)
        for row in (*rows.values(), *expected.values()):
            del row["seconds"]
        assert rows == expected
        assert open_results(out).fields().column_names == open_results(alike).fields().column_names
        assert {path: path.stat().st_mtime_ns for path in (out / "objects").iterdir()} == written
        again = run(plate, pipeline, out)
        assert all(well.reused for well in again.wells)


def test_a_stitched_well_is_left_out_where_all_its_fields_are(plate: Path, tmp_path: Path) -> None:
    for snr, fields in ((8.0, 4), (1e9, 0)):
        rule = Step(exclude_fields, channel="DAPI", at_least={"snr": snr})
        parts = (Step(measure_image_quality), rule, Step(project_max), Step(stitch), *NUCLEI)
        out = tmp_path / str(fields)
        assert run(plate, Pipeline(*parts), out, wells=["A03"]).completed
        row = wells_of(out)["A03"]
        assert (row["fields"], row["fields_excluded"]) == (fields, 4 - fields)
        assert (row["count"] is None) is (fields == 0)


def test_any_plane_of_a_stack_leaves_it_out_or_all_together(tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    synthetic_plate(plate, wells=["A01"], grid=(1, 1), z=3, size_px=96, seed=4)
    quality = Pipeline(Step(measure_image_quality), Step(project_max), *NUCLEI)
    run(plate, quality, tmp_path / "free")
    table = open_results(tmp_path / "free").table("image_quality").to_pylist()
    means = sorted(row["mean"] for row in table if row["channel"] == "DAPI")
    bound = {"mean": (means[0] + means[-1]) / 2}
    for stacks, fields in (("any", 0), ("all", 1)):
        out = tmp_path / stacks
        assert run(plate, bounded(at_least=bound, stacks=stacks), out).completed
        assert wells_of(out)["A01"]["fields"] == fields
    # A stack is one of a channel: what another channel has in it does not make up for it.
    others = sorted(row["mean"] for row in table if row["channel"] != "DAPI")
    low, high = sorted([means, others])
    assert low[-1] < high[0]
    rule = Step(exclude_fields, at_most={"mean": low[-1]}, stacks="all")
    parts = (Step(measure_image_quality), rule, Step(project_max), *NUCLEI)
    run(plate, Pipeline(*parts), tmp_path / "channels")
    assert wells_of(tmp_path / "channels")["A01"]["fields"] == 0


def test_a_rule_that_names_no_measure_is_refused_before_anything_runs(plate: Path) -> None:
    index = open_plate(plate, cache=False)
    for bounds, words in (
        ({"at_least": {"sharpness": 1.0}}, "no number 'sharpness'; it has saturated_fraction"),
        ({"at_most": {"content_hash": 1.0}}, "no number 'content_hash'"),
        ({}, "state at_least or at_most"),
    ):
        with pytest.raises(CompileError, match=words):
            compile_pipeline(bounded(**bounds), index, missing="skip-group")
    with pytest.raises(CompileError, match="image_quality"):
        compile_pipeline(Pipeline(Step(exclude_fields, **DIM)), index, missing="skip-group")


def test_a_rule_is_written_and_read_as_source() -> None:
    pipeline = bounded(at_least={"snr": 8.0}, at_most={"constant": 0.0}, stacks="all")
    assert from_source(to_source(pipeline)) == pipeline


def test_planes_that_stand_out_are_listed_with_well_and_field(
    by_field: Path, plate: Path, tmp_path: Path
) -> None:
    results = open_results(by_field)
    outliers = results.outliers().to_pylist()
    well, field = BLANK
    assert (well, field) in {(row["well"], row["field"]) for row in outliers}
    assert [abs(row["robust_z"]) for row in outliers] == sorted(
        (abs(row["robust_z"]) for row in outliers), reverse=True
    )
    quality = results.table("image_quality").to_pylist()
    for row in outliers:
        (value,) = (
            each[row["feature"]]
            for each in quality
            if all(each[key] == row[key] for key in ("well", "t", "field", "channel", "z"))
        )
        assert value == row["value"]
        assert abs(row["robust_z"]) > 5
    assert {row["table"] for row in outliers} == {"image_quality"}
    assert results.outliers(limit=1e9).num_rows == 0
    with pytest.raises(ValueError, match="greater than 0"):
        results.outliers(limit=0)
    run(plate, Pipeline(Step(project_max), *NUCLEI), tmp_path / "out", wells=["A01"])
    assert open_results(tmp_path / "out").outliers().num_rows == 0


def test_a_channel_that_some_planes_lack_counts_where_it_was_taken(tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    synthetic_plate(
        plate, wells=("A01",), grid=(1, 2), z=2, size_px=96, seed=3, single_plane=("GFP",)
    )
    # left over from a run with other bounds, and in one go: the same numbers
    for out, bounds in (("out", (0.0, 50.0)), ("fresh", (50.0,))):
        for bound in bounds:
            pipeline = Pipeline(
                Step(measure_image_quality),
                Step(exclude_fields, channel="DAPI", at_least={"snr": bound}),
                Step(gaussian_px, sigma_px=0.5, channel="DAPI", otherwise="drop"),
                Step(segment_nuclei, channel="DAPI"),
                Step(measure_objects, input="start"),
                Step(detect_spots, input="start"),
            )
            assert run(plate, pipeline, tmp_path / out).completed
    (row,), (fresh,) = (
        open_results(tmp_path / out).wells.drop_columns(["seconds"]).to_pylist()
        for out in ("out", "fresh")
    )
    assert row == fresh
    objects = open_results(tmp_path / "out").table("objects").to_pandas()
    green = "Intensity_MeanIntensity_GFP"
    assert 0 < objects[green].count() < len(objects) == row["count"]
    assert math.isclose(row[f"Mean_{green}"], objects[green].mean())
    planes = open_results(tmp_path / "out").table("spots_by_plane").to_pandas()
    assert row["spots_by_plane_noise_GFP"] == planes["noise_GFP"].median()
