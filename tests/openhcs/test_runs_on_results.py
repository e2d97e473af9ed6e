"""A run on the images that another one stored: both give what one run would have given."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile

from openhcs import Pipeline, Step, open_plate
from openhcs import run as run_pipeline
from openhcs.cli import main
from openhcs.functions import gaussian_px, project_max
from openhcs.plates import Description, PlateIndex, read_file_table
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image, open_labels, read_plate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

WELLS = ("A01", "C04")
BEGINNING = """from openhcs import Pipeline, Step
from openhcs.functions import project_max, segment_nuclei, stitch, subtract_background

pipeline = Pipeline(
"""
BACKGROUND = "    Step(subtract_background, radius_um=15.0),\n"
STITCH = "    Step(project_max),\n    Step(stitch),\n"
CROPPING = '''
"""A function that shows a part of what it is given."""
from openhcs.functions import function


@function()
def crop(plane):
    """Leave out two rows."""
    return plane[2:]
'''


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("results") / "plate"
    synthetic_plate(folder, wells=WELLS, size_px=(96, 128), overlap=0.25, z=2, seed=4)
    return folder


@pytest.fixture(scope="module")
def first(plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that hold fields whose background was taken off."""
    return openhcs(tmp_path_factory.mktemp("results"), plate, BACKGROUND, "first")


@pytest.fixture
def cropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import importlib

    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "cropping.py").write_text(CROPPING)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    yield importlib.import_module("cropping")
    del sys.modules["cropping"]


def openhcs(folder: Path, plate: Path, steps: str, out: str) -> Path:
    pipeline = folder / f"{out}.py"
    pipeline.write_text(f"{BEGINNING}{steps})\n", "utf-8")
    words = ["run", plate, pipeline, "--out", folder / out, "--workers", "1"]
    assert main([str(word) for word in words]) == 0
    return folder / out


def places(index: PlateIndex) -> dict[tuple[Any, ...], tuple[float, float]]:
    return {
        (plane.well, plane.field, plane.channel, plane.z, plane.t): (plane.x_um, plane.y_um)
        for plane in index
    }


def test_two_runs_stitch_as_one_does(plate: Path, first: Path, tmp_path: Path) -> None:
    again = openhcs(tmp_path, first, STITCH, "again")
    whole = openhcs(tmp_path, plate, BACKGROUND + STITCH, "whole")
    for well in WELLS:
        tiles, expected = (
            pq.read_table(out / "tiles" / f"{well}.parquet").to_pydict() for out in (again, whole)
        )
        assert tiles["field"] == expected["field"] == [0, 1, 2, 3]
        assert tiles["placed"] == expected["placed"]
        for name in ("y_px", "x_px", "dy_px", "dx_px"):
            np.testing.assert_allclose(tiles[name], expected[name], atol=1e-6)
        found, wanted = (open_image(out / "plate.zarr", well, "stitched") for out in (again, whole))
        for c in range(2):
            np.testing.assert_array_equal(found.read(c=c), wanted.read(c=c))
    records = [
        pq.read_table(out / "stitch" / "A01.parquet").to_pylist()[0] for out in (again, whole)
    ]
    assert records[0]["origin_y_um"] == pytest.approx(records[1]["origin_y_um"], abs=1e-6)
    assert records[0]["origin_x_um"] == pytest.approx(records[1]["origin_x_um"], abs=1e-6)


def test_a_stitched_image_lies_where_its_fields_do(plate: Path, tmp_path: Path) -> None:
    smooth = "    Step(subtract_background, radius_um=15.0),\n"
    out = openhcs(tmp_path, plate, STITCH + smooth, "stitched")
    index = open_plate(out, cache=False)
    for well in WELLS:
        (record,) = pq.read_table(out / "stitch" / f"{well}.parquet").to_pylist()
        for plane in index.select(wells=[well]):
            image = open_image(out / "plate.zarr", well, str(plane.path).rpartition("/")[2])
            for axis, place, side in (("y", plane.y_um, 0), ("x", plane.x_um, 1)):
                origin = image.origin_um(axis)
                assert origin is not None
                assert origin == pytest.approx(record[f"origin_{axis}_um"], abs=1e-6)
                pixel = plane.pixel_um_y if axis == "y" else plane.pixel_um_x
                assert plane.shape is not None
                assert pixel is not None
                half = (plane.shape[side] - 1) / 2 * pixel
                assert place == pytest.approx(origin + half, abs=1e-6)


def test_planes_of_results_are_where_those_of_the_plate_were(plate: Path, first: Path) -> None:
    before, after = open_plate(plate, cache=False), open_plate(first, cache=False)
    assert not [f for f in after.findings if f.code == "POSITION_MISSING"]
    expected = places(before)
    found = places(after)
    assert found.keys() == expected.keys()
    for key, place in found.items():
        assert place == pytest.approx(expected[key], abs=1e-9)
    depths, stored = (
        [plane.z_um for plane in index.select(wells=["A01"], fields=[1], channels=[0])]
        for index in (before, after)
    )
    assert np.diff(stored) == pytest.approx(np.diff(depths), abs=1e-6)
    assert len(set(stored)) == 2


def test_labels_lie_where_their_image_does(tmp_path: Path) -> None:
    plate = tmp_path / "plate"
    synthetic_plate(plate, wells=("A01",), size_px=96, z=1)
    steps = '    Step(project_max),\n    Step(segment_nuclei, channel="DAPI"),\n'
    out = openhcs(tmp_path, plate, steps, "out")
    slots = read_plate(out / "plate.zarr").wells["A01"]
    assert len(slots) == 4
    origins = set()
    for slot in slots:
        image = open_image(out / "plate.zarr", "A01", slot.path)
        labels = open_labels(out / "plate.zarr", "A01", slot.path, "nuclei")
        origins.add(tuple(labels.origin_um(axis) for axis in "yx"))
        assert (image.origin_um("y"), image.origin_um("x")) in origins
    assert len(origins) == 4


def moving_plate(folder: Path, shown: Sequence[str]) -> PlateIndex:
    """Two fields and three time points, between which the stage goes on; of z 2, 5 and 8 µm."""
    rows = []
    (folder / "plate").mkdir(parents=True)
    values = np.random.default_rng(3)
    for field in (0, 1):
        for t in (0, 1, 2):
            for z in (0, 1, 2):
                name = f"f{field}t{t}z{z}.tif"
                pixels = values.integers(0, 999, (20, 30)).astype(np.uint16)
                tifffile.imwrite(folder / "plate" / name, pixels)
                place = {
                    "x_um": 15.0 * field + 0.25 * t,
                    "y_um": -3.0 + 0.5 * t,
                    "z_um": 2.0 + 3.0 * z,
                    "pixel_um": 0.5,
                }
                numbers = {"path": name, "well": "B02", "field": field, "t": t, "z": z}
                rows.append(numbers | {key: place[key] for key in shown})
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    described = Description(table=read_file_table(folder / "t.csv"))
    return open_plate(folder / "plate", cache=False, described=described)


def test_a_stage_that_moves_in_time_is_followed(tmp_path: Path) -> None:
    index = moving_plate(tmp_path, ["x_um", "y_um", "z_um", "pixel_um"])
    run_pipeline(index, Pipeline(Step(gaussian_px, sigma_px=1.0)), out=tmp_path / "out", workers=1)
    stored = open_plate(tmp_path / "out", cache=False)
    expected = places(index)
    assert len(set(expected.values())) == 6
    for key, place in places(stored).items():
        assert place == pytest.approx(expected[key], abs=1e-9)
    assert sorted(set(stored.column("z_um").tolist())) == pytest.approx([2.0, 5.0, 8.0])


def test_what_the_plate_does_not_say_is_not_made_up(tmp_path: Path) -> None:
    pipeline = Pipeline(Step(gaussian_px, sigma_px=1.0))
    index = moving_plate(tmp_path / "a", ["pixel_um"])
    run_pipeline(index, pipeline, out=tmp_path / "a" / "out", workers=1)
    stored = open_plate(tmp_path / "a" / "out", cache=False)
    assert np.isnan([stored.column(name) for name in ("x_um", "y_um", "z_um")]).all()

    index = moving_plate(tmp_path / "b", ["x_um", "y_um"])  # places, and no size of a pixel
    run_pipeline(index, pipeline, out=tmp_path / "b" / "out", workers=1)
    stored = open_plate(tmp_path / "b" / "out", cache=False)
    assert stored.pixel_um is None
    assert np.isnan(stored.column("x_um")).all()


def test_an_image_that_shows_an_unknown_part_of_its_tile_has_no_place(
    tmp_path: Path, cropping: Any
) -> None:
    index = moving_plate(tmp_path, ["x_um", "y_um", "z_um", "pixel_um"])
    run_pipeline(index, Pipeline(Step(cropping.crop)), out=tmp_path / "out", workers=1)
    stored = open_plate(tmp_path / "out", cache=False)
    assert np.isnan(stored.column("x_um")).all()
    assert not np.isnan(stored.column("z_um")).any()


def test_a_plane_that_was_projected_has_no_depth(tmp_path: Path) -> None:
    index = moving_plate(tmp_path, ["x_um", "y_um", "z_um", "pixel_um"])
    run_pipeline(index, Pipeline(Step(project_max)), out=tmp_path / "out", workers=1)
    stored = open_plate(tmp_path / "out", cache=False)
    assert np.isnan(stored.column("z_um")).all()
    assert not np.isnan(stored.column("x_um")).any()
