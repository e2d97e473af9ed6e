"""A pipeline over a plate in one call, and its results as tables and as images read when sliced."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openhcs import Pipeline, Results, Step, open_results, run
from openhcs._errors import CompileError, ResultFolderError
from openhcs.functions import (
    gaussian,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
)
from openhcs.pipeline import to_source
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = Pipeline(
    Step(project_max), Step(segment_nuclei, channel="DAPI"), Step(measure_objects), keep=True
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    synthetic_plate(
        folder / "plate",
        wells=("A01", "A02", "B03"),
        grid=(1, 2),
        z=2,
        size_px=(80, 100),
        faults=("missing-plane",),
        seed=9,
    )
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return run(folder / "plate", PIPELINE, out=folder / "out", workers=1)


def test_good_wells_are_there_and_bad_ones_are_named(results: Results) -> None:
    assert not results.completed
    (bad,) = results.errors
    assert "is missing" in results.errors[bad]
    assert {str(outcome) for outcome in results.outcomes.values()} == {"ok", "failed"}
    assert results.report.is_file()
    assert "2 of 3 wells ok" in repr(results)
    with pytest.raises(KeyError, match=f"no results of well {bad}: it is failed"):
        results.image(bad)
    with pytest.raises(KeyError, match="it was not in the run"):
        results.images("H12")


def good(results: Results) -> str:
    return next(well for well in results.outcomes if well not in results.errors)


def test_tables_come_as_arrow_and_as_data_frames(results: Results) -> None:
    assert results.tables == ("objects",)
    objects = results.table("objects")
    assert set(objects["well"].to_pylist()) == set(results.outcomes) - set(results.errors)
    one = results.table("objects", wells=[good(results)], columns=["well", "ObjectNumber"])
    assert one.column_names == ["well", "ObjectNumber"]
    assert set(one["well"].to_pylist()) == {good(results)}
    frame = results.frame("objects", wells=good(results))
    assert len(frame) == one.num_rows
    assert list(results.frame(columns=["well", "count"]).columns) == ["well", "count"]
    assert len(results.frame(wells=[good(results)])) == 1
    assert len(results.wells) == 3


def test_a_table_or_well_that_is_not_there_is_named(results: Results) -> None:
    with pytest.raises(KeyError, match="there are objects"):
        results.table("cells")
    with pytest.raises(ValueError, match="no results of H12"):
        results.table("objects", wells=["H12"])
    with pytest.raises(KeyError, match="no column 'ObjectNumbr'; did you mean 'ObjectNumber'"):
        results.table("objects", columns=["well", "ObjectNumbr"])
    with pytest.raises(KeyError, match="no column 'cound'; did you mean 'count'"):
        results.frame(columns=["well", "cound"])
    for name in ("wells", "objects"):
        with pytest.raises(TypeError, match=r"such as \['well'\]"):
            results.frame(name, columns="well")


def test_wells_of_which_no_image_is_stored_have_no_labels(folder: Path, results: Results) -> None:
    pipeline, well = Pipeline(Step(measure_image_quality)), good(results)
    found = run(folder / "plate", pipeline, out=folder / "tables", wells=[well], workers=1)
    assert (found.images(well), found.label_names(well)) == ((), ())
    with pytest.raises(KeyError, match="stores none"):
        found.labels(well, "nuclei")


def test_labels_are_found_beside_whichever_image_has_them(folder: Path, results: Results) -> None:
    well = good(results)
    behind = Pipeline(*PIPELINE, Step(gaussian, sigma_um=1.0, wells=well), keep=True)
    found = run(folder / "plate", behind, out=folder / "behind", wells=[well], workers=1)
    assert found.images(well)[-1].startswith("gaussian")
    assert found.label_names(well, "gaussian0") == ()
    assert found.label_names(well) == ("nuclei",)
    assert found.labels(well, "nuclei").shape == results.labels(well, "nuclei").shape
    with pytest.raises(KeyError, match="there are nuclei"):
        found.labels(well, "cells")


def test_images_are_read_where_they_are_sliced(results: Results) -> None:
    well = good(results)
    assert results.images(well) == ("projectmax0", "projectmax1")
    image = results.image(well, "projectmax0")
    assert (image.axes, image.shape) == (("t", "c", "z", "y", "x"), (1, 2, 1, 80, 100))
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_um == pytest.approx((0.65, 0.65))
    whole = np.asarray(image)
    np.testing.assert_array_equal(image[0, 1], whole[0, 1])
    np.testing.assert_array_equal(image.channel("GFP"), whole[:, 1])
    assert results.label_names(well) == ("nuclei",)
    labels = results.labels(well, "nuclei", "projectmax0")
    assert labels.shape[-2:] == (80, 100)
    assert labels[(0,) * (labels.ndim - 2)].max() > 0
    assert labels.channel_names == ()
    with pytest.raises(KeyError, match="there are nuclei"):
        results.labels(well, "cells")
    with pytest.raises(KeyError, match="there are projectmax0, projectmax1"):
        results.image(well, "stitched")
    with pytest.raises(KeyError, match="there are DAPI, GFP"):
        image.channel("Cy5")


def test_images_of_fields_have_no_mask_of_what_tiles_cover(results: Results) -> None:
    with pytest.raises(KeyError, match="no mask of what tiles cover: its images were not stitched"):
        results.coverage(good(results))


@given(hnp.basic_indices((1, 2, 1, 80, 100), allow_newaxis=False))
@settings(max_examples=60, deadline=None)
def test_slices_are_those_of_numpy(results: Results, index: tuple[int | slice, ...]) -> None:
    image = results.image(good(results))
    whole = np.asarray(image)
    np.testing.assert_array_equal(image[index], whole[index])


@given(st.integers(-200, 200))
@settings(max_examples=20, deadline=None)
def test_an_index_out_of_range_is_refused_as_numpy_does(results: Results, number: int) -> None:
    image = results.image(good(results))
    if -80 <= number < 80:
        assert image[0, 0, 0, number].shape == (100,)
    else:
        with pytest.raises(IndexError):
            image[0, 0, 0, number]


def test_images_become_dask_arrays(results: Results) -> None:
    image = results.image(good(results))
    lazy = image.to_dask()
    assert (lazy.shape, lazy.dtype) == (image.shape, image.dtype)
    np.testing.assert_array_equal(lazy[0, 0, 0, 10:20, ::3].compute(), image[0, 0, 0, 10:20, ::3])


def test_results_are_opened_again_later(results: Results) -> None:
    again = open_results(results.folder)
    assert again.outcomes == results.outcomes
    assert again.record.pipeline == PIPELINE
    again.record.plan()


def test_a_pipeline_may_be_a_file_and_what_is_finished_is_kept(
    results: Results, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.py").write_text(to_source(PIPELINE), "utf-8")
    before = {path: path.stat().st_mtime_ns for path in (results.folder / "objects").iterdir()}
    again = run(folder / "plate", tmp_path / "p.py", out=results.folder, workers=1)
    assert again.outcomes == results.outcomes
    assert before == {p: p.stat().st_mtime_ns for p in (results.folder / "objects").iterdir()}


def test_settings_of_a_run_are_on_record(folder: Path, tmp_path: Path) -> None:
    found = run(
        folder / "plate",
        Pipeline(Step(project_max, channel="DAPI")),
        out=tmp_path / "out",
        wells="A*",
        otherwise="drop",
        missing="skip-group",
        workers=1,
    )
    assert found.completed
    assert set(found.outcomes) == {"A01", "A02"}
    assert found.image("A01").channel_names == ("DAPI",)
    assert found.record.otherwise == "drop"
    assert {step.drops for step in found.record.plan().steps} == {("GFP",)}


def test_what_cannot_run_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(CompileError, match="no channel"):
        run(folder / "plate", Pipeline(Step(project_max, channel="Cy9")), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultFolderError, match="no record of a run"):
        open_results(tmp_path / "file")
    with pytest.raises(ResultFolderError, match="no record of a run"):
        open_results(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"pipeline": [Step(project_max)]}, r"the pipeline is a list: give a Pipeline"),
        ({"pipeline": Step(project_max)}, r"the pipeline is a Step: give a Pipeline"),
        ({"channels": "DAPI"}, r"channels is the text 'DAPI'; give several, such as \['DAPI'\]"),
        ({"fields": "0-1"}, r"fields is the text '0-1'; give several, such as \[0, 1\]"),
        ({"workers": "2"}, "integer"),
    ],
)
def test_arguments_of_another_kind_are_named(
    folder: Path, tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        run(folder / "plate", **{"out": tmp_path / "out", **wrong})
    assert not (tmp_path / "out").exists()


def test_conditions_and_an_executor_may_be_given(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("well,compound\nA01,DMSO\nA02,taxol\n")
    with ThreadPoolExecutor(1) as executor:
        results = run(
            folder / "plate",
            PIPELINE,
            out=tmp_path / "out",
            wells="A01,A02",
            platemap=tmp_path / "map.csv",
            executor=executor,
        )
    assert results.wells.column("compound").to_pylist() == ["DMSO", "taxol"]
