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
from openhcs.execution import run as run_plan
from openhcs.functions import (
    aggregate_objects,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
)
from openhcs.pipeline import Pipeline, Step, compile_pipeline
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
