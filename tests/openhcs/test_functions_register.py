"""Channels and cycles laid upon a reference, against shifts that are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import ndimage

from openhcs.execution import load_run, run
from openhcs.functions import project_max, register_channels
from openhcs.pipeline import Pipeline, RunRequest, Step, compile_pipeline
from openhcs.plates import open_plate
from polystore.omezarr import (
    Acquisition,
    ChannelMeta,
    ImageMeta,
    ImageSlot,
    ImageWriter,
    PlateLayout,
    create_plate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.65)
SIDE = 300


def scene(seed: int) -> NDArray[np.float64]:
    """Give coefficients of a smooth scene, wider than a plane."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((SIDE + 80, SIDE + 80))
    at = rng.integers(0, SIDE + 80, (2, 140))
    canvas[at[0], at[1]] = rng.lognormal(0, 0.4, 140)
    return ndimage.gaussian_filter(canvas, 4.0) * 1e5


def view(
    canvas: NDArray[np.float64],
    offset: tuple[float, float] = (0.0, 0.0),
    *,
    gain: float = 1.0,
    seed: int = 0,
) -> NDArray[np.uint16]:
    """See a scene that lies `offset` below and right, dimmer by a gain, with noise."""
    moved = ndimage.shift(canvas, offset, order=3)[40:-40, 40:-40]
    rng = np.random.default_rng(seed)
    light = rng.poisson(np.clip(moved * gain, 0, None) + 80) + rng.normal(100, 3, (SIDE, SIDE))
    return np.asarray(light).round().clip(0, 65535).astype(np.uint16)


def rows(found: Any) -> Mapping[str, Mapping[str, Any]]:
    table = found.registration
    return {
        name: {column: values[n] for column, values in table.items()}
        for n, name in enumerate(table["channel"].tolist())
    }


@pytest.mark.parametrize("offset", [(0.0, 0.0), (3.37, -7.71), (-0.5, 0.25), (6.0, 2.0)])
@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_a_shift_is_found_to_a_twentieth_of_a_pixel_and_taken_back(
    offset: tuple[float, float], gain: float
) -> None:
    canvas = scene(1)
    planes = {"a": view(canvas), "b": view(canvas, offset, gain=gain, seed=1)}
    found = register_channels(planes, pixel_um=PIXEL_UM, max_shift_um=8.0)
    row = rows(found)["b"]
    assert (row["dy_px"], row["dx_px"]) == pytest.approx(offset, abs=0.08)
    in_um = offset[0] * PIXEL_UM[0], offset[1] * PIXEL_UM[1]
    assert (row["dy_um"], row["dx_um"]) == pytest.approx(in_um, abs=0.05)
    assert row["verdict"] == "measured"
    assert row["confidence"] > 0.3
    assert rows(found)["a"]["verdict"] == "reference"
    inside = np.s_[20:-20, 20:-20]
    straight = view(canvas, gain=gain, seed=1)
    assert np.corrcoef(found.image["b"][inside].ravel(), straight[inside].ravel())[0, 1] > 0.95
    np.testing.assert_array_equal(found.image["a"], planes["a"])
    assert found.image["b"].dtype == np.uint16


def test_channels_that_show_nothing_in_common_are_left_where_they_are() -> None:
    planes = {
        "a": view(scene(1)),
        "other": view(scene(2), (4.0, 4.0)),
        "noise": np.random.default_rng(0).poisson(200, (SIDE, SIDE)).astype(np.uint16),
        "flat": np.full((SIDE, SIDE), 7, np.uint16),
    }
    found = register_channels(planes, pixel_um=PIXEL_UM)
    told = rows(found)
    assert told["other"]["verdict"] in ("weak", "ambiguous")
    assert told["noise"]["verdict"] == told["flat"]["verdict"] == "empty"
    for name, plane in planes.items():
        np.testing.assert_array_equal(found.image[name], plane)
        assert (told[name]["dy_px"], told[name]["dx_px"]) == (0, 0)
    assert [told[name]["confidence"] for name in ("other", "noise", "flat")] == [0, 0, 0]


def test_a_shift_beyond_the_limit_is_not_applied() -> None:
    canvas = scene(3)
    planes = {"a": view(canvas), "b": view(canvas, (0.0, 12.0), seed=1)}
    found = register_channels(planes, pixel_um=PIXEL_UM, max_shift_um=4.0)
    assert rows(found)["b"]["verdict"] in ("beyond", "weak")
    np.testing.assert_array_equal(found.image["b"], planes["b"])


def test_a_repeated_pattern_is_ambiguous() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    light = 800 + 500 * np.sin(2 * np.pi * y / 10) * np.sin(2 * np.pi * x / 10)
    planes = {
        name: np.random.default_rng(n).poisson(light).astype(np.uint16)
        for n, name in enumerate("ab")
    }
    found = register_channels(planes, pixel_um=(1.0, 1.0), max_shift_um=12.0)
    assert rows(found)["b"]["verdict"] == "ambiguous"


def test_a_channel_follows_another_one() -> None:
    canvas, offset = scene(4), (5.4, -3.2)
    planes = {
        "DAPI": view(canvas),
        "DAPI (2)": view(canvas, offset, seed=1),
        "Cy5 (2)": view(scene(9), offset),
        "lost": view(scene(10)),
        "after lost": view(scene(11)),
    }
    found = register_channels(
        planes, pixel_um=PIXEL_UM, follow={"Cy5 (2)": "DAPI (2)", "after lost": "lost"}
    )
    told = rows(found)
    assert told["Cy5 (2)"]["verdict"] == "follows"
    assert told["Cy5 (2)"]["dy_px"] == told["DAPI (2)"]["dy_px"] != 0
    assert told["after lost"]["verdict"] == told["lost"]["verdict"] == "weak"
    np.testing.assert_array_equal(found.image["after lost"], planes["after lost"])
    straight = view(scene(9))[20:-20, 20:-20]
    moved = found.image["Cy5 (2)"][20:-20, 20:-20]
    assert np.corrcoef(moved.ravel(), straight.ravel())[0, 1] > 0.98


def test_what_is_stated_is_applied_as_it_is() -> None:
    plane = np.zeros((60, 80), np.float32)
    plane[30, 44] = 100.0
    turn = math.radians(90)
    turned = (math.cos(turn), -math.sin(turn), 2.0, math.sin(turn), math.cos(turn), 0.0)
    found = register_channels(
        {"a": plane, "b": plane, "c": plane},
        pixel_um=(1.0, 1.0),
        stated_um={"b": (2.0, -3.0), "c": turned},
    )
    assert np.argwhere(found.image["b"] == 100).tolist() == [[28, 47]]
    # The middle is (29.5, 39.5); what lies at (0.5, 4.5) from it is what the matrix makes of there.
    assert np.argwhere(found.image["c"] > 50).tolist() == [[34, 41]]
    told = rows(found)
    assert told["b"]["verdict"] == told["c"]["verdict"] == "stated"
    assert (told["b"]["dy_px"], told["b"]["dx_px"]) == (2, -3)
    assert told["c"]["confidence"] == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"reference": "z"}, "reference 'z' is no channel; there are a, b"),
        ({"follow": {"z": "a"}}, "'z' is no channel"),
        ({"follow": {"b": "z"}}, "'z' is no channel"),
        ({"follow": {"b": "a"}, "stated_um": {"b": (1.0, 2.0)}}, "stated too"),
        ({"follow": {"a": "b"}}, "the reference too"),
        ({"follow": {"b": "c", "c": "a"}}, "follows a itself"),
        ({"stated_um": {"b": (1.0,)}}, "expected 2 or 6"),
        ({"stated_um": {"a": (1.0, 1.0)}}, "no shift to be stated"),
    ],
)
def test_what_makes_no_sense_is_said(parameters: dict[str, Any], message: str) -> None:
    planes = {name: np.zeros((40, 40), np.uint16) for name in ("a", "b", "c")}
    with pytest.raises(ValueError, match=message):
        register_channels(planes, pixel_um=PIXEL_UM, **parameters)


def test_planes_of_another_size_are_refused() -> None:
    planes = {"a": np.zeros((40, 40), np.uint16), "b": np.zeros((41, 40), np.uint16)}
    with pytest.raises(ValueError, match=r"channel b is \(41, 40\)"):
        register_channels(planes, pixel_um=PIXEL_UM)


def test_a_stack_is_moved_as_its_middle_is(tmp_path: Path) -> None:
    plate = tmp_path / "plate.zarr"
    slots = [ImageSlot("0")]
    layout = PlateLayout.regular("stack", rows=8, columns=12, wells=["B02"], images=slots)
    create_plate(plate, layout)
    offset = (3.0, -5.5)
    meta = ImageMeta(
        channels=(ChannelMeta("DAPI"), ChannelMeta("GFP")), pixel_um=(0.65, 0.65), z_um=2.0
    )
    with ImageWriter(plate, "B02", "0", (2, 3, SIDE, SIDE), "uint16", meta) as image:
        for z in range(3):
            # above and below of it there is next to nothing to be seen
            gain = 1.0 if z == 1 else 1e-3
            image.write_plane(view(scene(4), gain=gain, seed=z), c=0, z=z)
            image.write_plane(view(scene(4), offset, gain=gain, seed=9 + z), c=1, z=z)
        image.commit()
    pipeline = Pipeline(Step(register_channels, reference="DAPI", max_shift_um=10.0))
    result = run(compile_pipeline(pipeline, open_plate(plate)), tmp_path / "out", workers=1)
    assert result.completed, result.wells
    rows = pq.read_table(tmp_path / "out" / "registration" / "B02.parquet").to_pylist()
    moved = [row for row in rows if row["channel"] == "GFP"]
    assert [row["z"] for row in moved] == [0, 1, 2]
    for row in moved:
        assert row["verdict"] == "measured"
        assert (row["dy_px"], row["dx_px"]) == pytest.approx(offset, abs=0.05)
    assert len({(row["dy_px"], row["dx_px"]) for row in moved}) == 1


OFFSETS = {"B02": (4.0, -6.5), "B03": (-2.25, 1.0)}


@pytest.fixture(scope="module")
def stained_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate of two wells that was stained, taken, stained and taken again."""
    path = tmp_path_factory.mktemp("cycles") / "plate.zarr"
    layout = PlateLayout.regular(
        "cycles",
        rows=8,
        columns=12,
        wells=list(OFFSETS),
        images=[ImageSlot("0", 0), ImageSlot("1", 1)],
        acquisitions=[Acquisition(0, "first"), Acquisition(1, "second")],
    )
    create_plate(path, layout)
    meta = ImageMeta(channels=(ChannelMeta("DAPI"), ChannelMeta("Cy5")), pixel_um=(0.65, 0.65))
    for number, (well, offset) in enumerate(OFFSETS.items()):
        for cycle in (0, 1):
            with ImageWriter(path, well, str(cycle), (2, SIDE, SIDE), "uint16", meta) as image:
                moved = offset if cycle else (0.0, 0.0)
                image.write_plane(view(scene(20 + number), moved, seed=cycle), c=0)
                image.write_plane(view(scene(30 + 2 * number + cycle), moved), c=1)
                image.commit()
    return path


def test_cycles_are_run_as_channels_and_laid_upon_the_first(
    stained_twice: Path, tmp_path: Path
) -> None:
    pipeline = Pipeline(
        Step(
            register_channels,
            reference="DAPI",
            follow={"Cy5 (2)": "DAPI (2)"},
            stated_um={"Cy5": (0.0, 0.0)},
            max_shift_um=10.0,
        ),
        name="cycles",
    )
    index = open_plate(stained_twice)
    assert index.acquisitions == (0, 1)
    plan = compile_pipeline(pipeline, index, acquisition="all")
    assert plan.channels == ("DAPI", "Cy5", "DAPI (2)", "Cy5 (2)")
    result = run(plan, tmp_path / "out", workers=1)
    assert result.completed, result.wells
    for well, offset in OFFSETS.items():
        (table,) = (tmp_path / "out").rglob(f"registration/{well}.parquet")
        found = {row["channel"]: row for row in pq.read_table(table).to_pylist()}
        for name in ("DAPI (2)", "Cy5 (2)"):
            assert (found[name]["dy_px"], found[name]["dx_px"]) == pytest.approx(offset, abs=0.08)
        assert [found[name]["verdict"] for name in plan.channels] == [
            "reference",
            "stated",
            "measured",
            "follows",
        ]
    again = load_run(tmp_path / "out").plan()
    assert again.channels == plan.channels
    assert again.acquisition == "all"


def test_one_cycle_is_still_run_by_itself(stained_twice: Path) -> None:
    index = open_plate(stained_twice)
    plan = compile_pipeline(Pipeline(Step(project_max)), index, acquisition=1)
    assert plan.channels == ("DAPI", "Cy5")
    assert plan.acquisition == 1


def test_cycles_as_channels_keep_every_plane(stained_twice: Path) -> None:
    index = open_plate(stained_twice)
    cycles = index.cycles_as_channels()
    assert cycles.acquisitions == (0,)
    assert len(cycles) == len(index)
    for plane in index:
        name = plane.channel_name + (" (2)" if plane.acquisition else "")
        number = cycles.channel_names.index(name)
        (same,) = cycles.select(wells=[plane.well], channels=[number])
        assert same.channel_name == name
        np.testing.assert_array_equal(cycles.read(same), index.read(plane))
    once = index.select(acquisitions=[1])
    assert once.cycles_as_channels() is once


def test_a_request_for_all_cycles_is_written_and_read(stained_twice: Path) -> None:
    request = RunRequest(
        plate=str(stained_twice), pipeline=Pipeline(Step(project_max)), acquisition="all"
    )
    again = RunRequest.from_source(request.to_source())
    assert again == request
    assert again.plan().channels == ("DAPI", "Cy5", "DAPI (2)", "Cy5 (2)")
