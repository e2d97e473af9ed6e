"""Functions that look at more than a plane, in runs over a plate of several time points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from openhcs import Pipeline, Step, compile_pipeline, open_plate, open_results
from openhcs._errors import CompileError
from openhcs.execution import run
from openhcs.functions import (
    Kind,
    Output,
    PlaneArray,
    detect_spots,
    function,
    gaussian,
    measure_objects,
    project_max,
    register_channels,
    segment_nuclei,
    stitch,
    track_objects,
)
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.execution import RunResult
    from openhcs.plates import PlateIndex

WELLS = ("A01", "B02")


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> PlateIndex:
    folder = tmp_path_factory.mktemp("times") / "plate"
    synthetic_plate(folder, wells=WELLS, grid=(1, 2), t=3, z=2, size_px=160, cells_per_field=14)
    return open_plate(folder, cache=False)


def tracked(plate: PlateIndex, out: Path, reach_um: float) -> RunResult:
    pipeline = Pipeline(
        Step(project_max),
        Step(segment_nuclei, channel="DAPI"),
        Step(track_objects, channel="DAPI", max_distance_um=reach_um),
        Step(measure_objects),
        Step(detect_spots, channel="GFP", diameters_um=(2.0,)),
    )
    return run(compile_pipeline(pipeline, plate), out, workers=1)


@pytest.fixture(scope="module")
def results(plate: PlateIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tracked") / "out"
    assert tracked(plate, out, 10.0).completed
    return out


def test_tracks_name_the_objects_that_were_measured(results: Path) -> None:
    for well in WELLS:
        tracks = pq.read_table(results / "tracks" / f"{well}.parquet").to_pandas()
        objects = pq.read_table(results / "objects" / f"{well}.parquet").to_pandas()
        names = ["well", "field", "t", "ObjectNumber"]
        assert set(tracks["t"]) == {0, 1, 2}
        both = tracks.merge(objects, on=names)
        assert len(both) == len(tracks) == len(objects) > 50
        assert both["Y_um"].to_numpy() == pytest.approx(both["AreaShape_Center_Y_um"].to_numpy())
        summary = pq.read_table(results / "track_summary" / f"{well}.parquet").to_pandas()
        assert summary["Objects"].sum() == len(tracks)
        assert tracks.groupby(["field", "track"]).ngroups == len(summary)


def test_features_and_tracks_are_summed_up_in_the_table_of_wells(results: Path) -> None:
    wells = pq.read_table(results / "wells.parquet").to_pydict()
    assert wells["well"] == list(WELLS)
    assert all(count > 50 for count in wells["count"])
    assert wells["count"] == wells["spots_by_object_count"]
    assert all(mean >= 0 for mean in wells["spots_by_object_Mean_Spots_Count_GFP"])
    assert all(0.5 < part <= 1 for part in wells["tracking_DAPI_linked_fraction"])


def test_tracks_of_a_well_that_is_stitched_anew_each_time(
    plate: PlateIndex, tmp_path: Path
) -> None:
    pipeline = Pipeline(
        Step(project_max),
        Step(stitch),
        Step(segment_nuclei, channel="DAPI"),
        Step(track_objects, channel="DAPI", max_distance_um=6.0, max_drift_um=6.0),
        Step(measure_objects),
    )
    assert run(compile_pipeline(pipeline, plate), tmp_path, workers=1).completed
    for well in WELLS:
        tracks = pq.read_table(tmp_path / "tracks" / f"{well}.parquet").to_pandas()
        objects = pq.read_table(tmp_path / "objects" / f"{well}.parquet").to_pandas()
        assert len(tracks.merge(objects, on=["well", "t", "ObjectNumber"])) == len(objects)
        record = pq.read_table(tmp_path / "tracking" / f"{well}.parquet").to_pylist()[0]
        assert record["linked_fraction"] > 0.85
        assert record["tracks"] < 1.3 * record["objects"] / 3


def test_positions_in_a_stack_are_those_of_all_references(tmp_path: Path) -> None:
    synthetic_plate(
        tmp_path / "plate",
        wells=("A01",),
        grid=(1, 2),
        channels=("DAPI", "GFP"),
        z=3,
        t=1,
        size_px=160,
        stage_error_px=6.0,
    )
    pipeline = Pipeline(Step(stitch, reference=("DAPI", "GFP")))
    plate = open_plate(tmp_path / "plate", cache=False)
    assert run(compile_pipeline(pipeline, plate), tmp_path / "out", workers=1).completed
    record = pq.read_table(tmp_path / "out" / "stitch" / "A01.parquet").to_pydict()
    assert record["reference"] == ["DAPI + GFP"] * 3
    assert len(set(record["height_px"])) == len(set(record["origin_y_um"])) == 1


@pytest.mark.parametrize("flat", [(), ("DAPI",)])
def test_all_planes_of_a_stack_are_stitched_alike(tmp_path: Path, flat: tuple[str, ...]) -> None:
    """By the reference in the middle of the stack, or by its only plane."""
    synthetic_plate(
        tmp_path / "plate",
        format="phenix",
        wells=("A01",),
        grid=(2, 2),
        channels=("DAPI", "GFP"),
        z=3,
        t=1,
        size_px=160,
        single_plane=flat,
        projections=False,
        stage_error_px=6.0,
    )
    pipeline = Pipeline(Step(stitch, reference="DAPI"), Step(project_max))
    plate = open_plate(tmp_path / "plate", cache=False)
    assert run(compile_pipeline(pipeline, plate), tmp_path / "out", workers=1).completed
    tiles = pq.read_table(tmp_path / "out" / "tiles" / "A01.parquet").to_pandas()
    assert set(tiles["z"]) == {0, 1, 2}
    places = tiles.groupby("field")[["y_px", "x_px", "dy_px", "dx_px"]]
    assert places.nunique().to_numpy().max() == 1
    assert tiles["dy_px"].abs().max() > 0.5
    record = pq.read_table(tmp_path / "out" / "stitch" / "A01.parquet").to_pydict()
    assert set(record["reference"]) == {"DAPI"}
    assert len(set(record["height_px"])) == 1


def test_channels_are_not_laid_upon_another_one_where_the_first_was_not_taken(
    tmp_path: Path,
) -> None:
    """A plane of one z would be moved, and those of the others not."""
    synthetic_plate(
        tmp_path / "plate",
        format="phenix",
        wells=("A01",),
        grid=(1, 1),
        channels=("DAPI", "GFP", "Cy5"),
        z=3,
        t=1,
        size_px=64,
        single_plane=("DAPI",),
        projections=False,
    )
    plate = open_plate(tmp_path / "plate", cache=False)
    with pytest.raises(CompileError, match=r"reference 'DAPI' is no channel.* GFP, Cy5"):
        compile_pipeline(Pipeline(Step(register_channels), Step(project_max)), plate)
    compile_pipeline(Pipeline(Step(project_max), Step(register_channels)), plate)
    both = Step(register_channels, channel=("GFP", "Cy5"), otherwise="pass")
    compile_pipeline(Pipeline(both, Step(project_max)), plate)


def test_stitched_images_say_where_they_show_something(tmp_path: Path) -> None:
    """At each time point, also beside what later steps make of them, and after another run."""
    folder, out, well = tmp_path / "plate", tmp_path / "out", "A01"
    synthetic_plate(folder, wells=(well,), grid=(2, 2), t=2, z=2, size_px=200, stage_error_px=6.0)
    plate = open_plate(folder, cache=False)
    steps = Step(project_max), Step(stitch), Step(segment_nuclei, channel="DAPI")
    smooth = Step(gaussian, sigma_um=1.0, channel=("DAPI", "GFP"), otherwise="drop")
    pipelines = Pipeline(*steps), Pipeline(*steps, smooth), Pipeline(*steps[:2])
    for number, pipeline in enumerate(pipelines):
        assert run(compile_pipeline(pipeline, plate), out, workers=1).completed
        results = open_results(out)
        assert results.label_names(well, "stitched") == (() if number == 2 else ("nuclei",))
        assert len(results.images(well)) == (2 if number == 1 else 1)
        fractions = results.table("stitch")["covered_fraction"].to_pylist()
        assert min(fractions) < 1
        for image in results.images(well):
            mask, pixels = results.coverage(well, image), np.asarray(results.image(well, image))
            assert mask.axes == ("t", "z", "y", "x")
            assert mask.shape == (2, 1, *pixels.shape[-2:])
            assert "coverage" not in results.label_names(well, image)
            for t, fraction in enumerate(fractions):
                shown = np.asarray(mask[t, 0]) == 1
                assert 0.85 < shown.mean() <= fraction
                if image == "stitched":
                    assert not pixels[t, :, 0, ~shown].any()
                    assert (pixels[t, :, 0, shown] > 0).mean() > 0.99
    with pytest.raises(KeyError, match="no image 'none'"):
        results.coverage(well, "none")


def test_other_tracks_are_made_of_labels_that_are_stored(plate: PlateIndex, results: Path) -> None:
    before = pq.read_table(results / "tracks" / "A01.parquet")
    again = tracked(plate, results, 10.5)
    assert again.completed
    steps = again.wells[0].steps
    assert "track_objects" in steps
    assert "segment_nuclei" not in steps
    after = pq.read_table(results / "tracks" / "A01.parquet")
    order = [("field", "ascending"), ("t", "ascending"), ("ObjectNumber", "ascending")]
    names = [name for name, _ in order]
    assert after.select(names).sort_by(order) == before.select(names).sort_by(order)


@function(outputs=(Output("names", Kind.TABLE), Output("word", Kind.RECORD)))
def named(plane: PlaneArray) -> dict[str, Any]:
    """Give names of what is bright: none in dim planes, and then an array that is of no text."""
    bright = plane.mean() > BRIGHT[0]
    names, hits = (["a", "b"], [True, False]) if bright else ([], [])
    return {
        "names": {"name": np.array(names), "hit": np.array(hits)},
        "word": {"word": "much" if bright else 0, "sure": bool(bright)},
    }


BRIGHT = [0.0]


def test_tables_take_groups_whose_columns_differ_in_type(plate: PlateIndex, tmp_path: Path) -> None:
    means = {
        well: [plate.read(plane).mean() for plane in plate.select(wells=[well])] for well in WELLS
    }
    # one well with bright and dim planes, one with dim ones alone
    high, low = sorted(WELLS, key=lambda well: -max(means[well]))
    BRIGHT[0] = max([*means[low], np.median(means[high])])
    with ThreadPoolExecutor(1) as executor:
        plan = compile_pipeline(Pipeline(Step(named)), plate)
        assert run(plan, tmp_path / "out", executor=executor).completed
    results = open_results(tmp_path / "out")
    found = results.table("names")
    assert set(found["well"].to_pylist()) == {high}
    assert set(found["name"].to_pylist()) == {"a", "b"}
    assert set(results.table("word")["word"].to_pylist()) == {"much", "0"}
    assert results.wells["well"].to_pylist() == list(WELLS)
