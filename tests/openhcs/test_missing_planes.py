"""Planes that cannot be used have a stated value where a person asks for it, and never unsaid."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from openhcs._errors import CompileError, ParameterError
from openhcs.cli import main
from openhcs.execution import RunResult, forecast, load_run
from openhcs.execution import run as run_plan
from openhcs.functions import correct_illumination, measure_image_quality, project_max, stitch
from openhcs.pipeline import (
    Outcome,
    Pipeline,
    Plan,
    Settings,
    Step,
    compile_pipeline,
    from_source,
    left_out_in_words,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image

if TYPE_CHECKING:
    from collections.abc import Callable

WELLS = ("A01", "A02", "B03")
KEEP = Pipeline(Step(project_max, keep=True), Step(measure_image_quality))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("missing") / "plate"
    synthetic_plate(folder, wells=WELLS, grid=(1, 2), overlap=0.3, z=1, size_px=64, seed=6)
    return folder


@pytest.fixture
def plate(whole: Path, tmp_path: Path) -> Path:
    """Give a plate that the test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "plate"))


def run(plan: Plan, out: Path) -> RunResult:
    """Run on threads of this process: none is started for it."""
    with ThreadPoolExecutor(1) as executor:
        return run_plan(plan, out, executor=executor)


def file_of(plate: Path, well: str, field: int = 0, channel: int = 0) -> Path:
    (found,) = planes_of(plate, well, fields=[field], channels=[channel])
    return found


def planes_of(plate: Path, well: str, **chosen: Any) -> list[Path]:
    index = open_plate(plate, cache=False).select(wells=[well], **chosen)
    return [plate / str(plane.path) for plane in index]


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size * 3 // 5)


def garble(path: Path) -> None:
    """Spoil the pixels behind a whole header, so that nothing is wrong until they are decoded."""
    with tifffile.TiffFile(path) as file:
        pixels, told = file.asarray(), file.pages.first.description
    tifffile.imwrite(path, pixels, compression="zlib", description=told, metadata=None)
    with tifffile.TiffFile(path) as file:
        (offset, *_), (size, *_) = file.pages.first.dataoffsets, file.pages.first.databytecounts
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * size)


def planned(
    plate: Path, missing: str = "fill=7", pipeline: Pipeline = KEEP, **options: Any
) -> Plan:
    index = open_plate(plate, cache=False)
    return compile_pipeline(pipeline, index, missing=missing, **options)


def image(out: Path, well: str, field: int, channel: int) -> Any:
    return open_image(out / "plate.zarr", well, f"projectmax{field}").read(c=channel)


def reused(result: RunResult) -> set[str]:
    return {well.well for well in result.wells if well.reused}


def filled(out: Path) -> dict[str, list[dict[str, Any]]]:
    wells = json.loads((out / "run.json").read_text())["wells"]
    return {name: well["filled"] for name, well in wells.items() if well["filled"]}


@pytest.mark.parametrize(
    ("spoil", "status"),
    [(remove, "missing"), (empty, "empty"), (cut, "unreadable"), (garble, "unreadable")],
)
def test_a_plane_that_cannot_be_used_has_the_value_and_is_named(
    plate: Path, tmp_path: Path, spoil: Callable[[Path], None], status: str
) -> None:
    spoil(file_of(plate, "A02", 1, 1))
    out = tmp_path / "out"
    plan = planned(plate)
    result = run(plan, out)
    assert result.completed
    there = image(out, "A02", 1, 1)
    assert there.dtype == np.uint16
    assert (there.shape, np.unique(there).tolist()) == ((64, 64), [7])
    assert np.ptp(image(out, "A02", 1, 0)) > 0
    assert np.ptp(image(out, "A01", 1, 1)) > 0

    ((well, (plane,)),) = filled(out).items()
    place = {name: plane[name] for name in ("field", "channel", "z", "t", "value", "status")}
    wanted = {"field": 1, "channel": "GFP", "z": 0, "t": 0, "value": 7, "status": status}
    assert (well, place) == ("A02", wanted)
    assert (plane["error"] is None) == (spoil is not garble)
    assert [each.place for each in result.wells[1].filled] == [(1, "GFP", 0, 0)]
    told = "1 plane that cannot be used has the value 7 all over, in A02 (1)"
    assert told in result.notes
    assert (told in plan.notes) == (spoil is not garble)
    assert pq.read_table(out / "wells.parquet")["filled_planes"].to_pylist() == [0, 1, 0]
    assert load_run(out).missing == "fill=7"
    from openhcs.report import write_report

    assert told in write_report(out).read_text()


def test_the_filled_ones_are_recorded_again_where_nothing_is_done_again(
    plate: Path, tmp_path: Path
) -> None:
    garble(file_of(plate, "A01"))
    remove(file_of(plate, "A02"))
    out = tmp_path / "out"
    run(planned(plate), out)
    first = filled(out)
    assert set(first) == {"A01", "A02"}
    again = run(load_run(out).plan(), out)
    assert reused(again) == set(WELLS)
    assert filled(out) == first
    assert any("in A01 (1), A02 (1)" in note for note in again.notes)
    # Another step goes on from the images that are stored, and reads no plane.
    longer = Pipeline(Step(project_max, keep=True), Step(measure_image_quality), Step(stitch))
    assert run(planned(plate, pipeline=longer), out).completed
    assert filled(out) == first
    # What is run beside a part of the plate stands as it was.
    part = run(planned(plate, pipeline=longer, wells=["B03"]), out)
    assert reused(part) == {"B03"}
    table = pq.read_table(out / "wells.parquet").to_pydict()
    assert (table["well"], table["filled_planes"]) == (list(WELLS), [1, 1, 0])


@pytest.mark.parametrize("spoil", [remove, garble])
def test_another_value_or_policy_does_the_wells_with_filled_planes_again_and_no_others(
    plate: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(file_of(plate, "A02"))
    out = tmp_path / "out"
    run(planned(plate), out)
    assert set(forecast(planned(plate, "fill=8"), out).to_do) == {"A02"}
    other = run(planned(plate, "fill=8"), out)
    assert reused(other) == {"A01", "B03"}
    assert np.unique(image(out, "A02", 0, 0)).tolist() == [8]
    assert reused(run(planned(plate, "fill=8.0"), out)) == set(WELLS)
    refused = run(planned(plate, "fail-well"), out)
    assert {well.well: well.outcome for well in refused.wells}["A02"] is Outcome.FAILED
    assert reused(refused) == {"A01", "B03"}


@pytest.mark.parametrize("spoil", [remove, empty, cut, garble])
def test_a_plane_that_is_back_does_its_well_again_and_no_other(
    plate: Path, whole: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = file_of(plate, "A02")
    spoil(path)
    out = tmp_path / "out"
    run(planned(plate), out)
    shutil.copy2(whole / path.relative_to(plate), path)
    result = run(planned(plate), out)
    assert result.completed
    assert reused(result) == {"A01", "B03"}
    assert np.array_equal(image(out, "A02", 0, 0), tifffile.imread(path))
    assert filled(out) == {}
    assert not any("the value" in note for note in result.notes)


def test_a_whole_field_is_filled_and_lies_where_it_does_in_other_wells(
    plate: Path, tmp_path: Path
) -> None:
    for path in planes_of(plate, "A02", fields=[1]):
        remove(path)
    plan = planned(plate, pipeline=Pipeline(Step(stitch, keep=True)))
    assert {well: len(planes) for well, planes in plan.filled.items()} == {"A02": 2}
    (there,) = plan.index.select(wells=["A01"], fields=[1], channels=[0])
    (lost,) = plan.index.select(wells=["A02"], fields=[1], channels=[0], status="missing")
    assert (lost.x_um, lost.y_um) == pytest.approx((there.x_um, there.y_um), abs=20)
    assert run(plan, tmp_path / "out").completed


def test_a_channel_is_filled_as_other_wells_have_it_and_a_well_without_planes_is_not(
    plate: Path, tmp_path: Path
) -> None:
    for path in (*planes_of(plate, "A02", channels=[1]), *planes_of(plate, "B03")):
        empty(path)
    out = tmp_path / "out"
    plan = planned(plate)
    assert set(plan.refused) == {"B03"}
    run(plan, out)
    assert np.unique(image(out, "A02", 0, 1)).tolist() == [7]


def test_a_channel_of_which_nothing_can_be_read_is_not_filled(plate: Path) -> None:
    for well in WELLS:
        for path in planes_of(plate, well, channels=[1]):
            empty(path)
    with pytest.raises(CompileError, match="GFP cannot be filled: no plane of it can be read"):
        planned(plate)


@pytest.mark.parametrize("value", ["70000", "-1", "0.5", "1e300"])
def test_a_value_that_pixels_cannot_have_is_refused_before_a_run(plate: Path, value: str) -> None:
    with pytest.raises(CompileError, match="DAPI are uint16, whole numbers from 0 to 65535"):
        planned(plate, f"fill={value}")


def test_nothing_is_learned_from_filled_planes(plate: Path) -> None:
    remove(file_of(plate, "A02"))
    plan = planned(plate, pipeline=Pipeline(Step(correct_illumination), Step(project_max)))
    assert set(plan.plate.column("status")) == {"ok"}
    assert len(plan.plate) == len(plan.index) - 1


def test_a_plane_that_was_changed_or_cannot_be_opened_is_not_filled(
    plate: Path, tmp_path: Path
) -> None:
    plan = planned(plate)
    remove(file_of(plate, "A02"))
    path = file_of(plate, "B03")
    path.write_bytes(path.read_bytes() + b" ")
    result = run(plan, tmp_path / "out")
    outcomes = [well.outcome for well in result.wells]
    assert outcomes == [Outcome.OK, Outcome.FAILED, Outcome.FAILED]


@given(st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_is_read_back_as_it_was_written(value: float) -> None:
    made = Settings(missing=f"fill={value!r}")
    assert Settings(missing=made.missing) == made
    pipeline = Pipeline(Step(project_max), missing=f"fill={value!r}")
    from openhcs.pipeline import to_source

    assert from_source(to_source(pipeline)) == pipeline
    assert pipeline.settings.missing is not None
    assert type(value)(pipeline.settings.missing.partition("=")[2]) == value


@pytest.mark.parametrize("text", ["fill", "fill=", "fill=nan", "fill=1e999", "fill=VALUE"])
def test_what_is_no_value_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ParameterError, match="missing"):
        Settings(missing=text)
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "PLATE", "--out", "OUT", "--missing", text])
    assert "fill" in capsys.readouterr().err


def test_a_pipeline_goes_before_the_run_and_the_plan_says_who_chose(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remove(file_of(plate, "A02", 1))
    assert planned(plate, pipeline=Pipeline(Step(project_max), missing="fill=3")).fill == 3
    words = ["plan", str(plate), "--out", str(tmp_path / "out"), "--missing", "fill=0.0"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "missing or cannot be read are 0 all over; missing='fill=0' (run)" in text
    assert "A02 has 1 plane filled: field 1, channel DAPI, z 0, t 0 is missing" in text
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [plane["status"] for plane in told["filled"]["A02"]] == ["missing"]
    assert main([*words, "--source"]) == 0
    assert 'settings=Settings(missing="fill=0")' in capsys.readouterr().out


def test_fields_that_are_left_out_are_named_wherever_their_wells_are(
    plate: Path, tmp_path: Path
) -> None:
    remove(file_of(plate, "A02", 1, 1))
    empty(file_of(plate, "B03", 0, 0))
    out = tmp_path / "out"
    plan = planned(plate, "skip-group")
    told = "2 fields have planes that cannot be used and are left out: A02 (field 1); B03 (field 0)"
    assert told in plan.notes
    for earlier in (set(), set(WELLS)):
        result = run(plan, out)
        assert (result.completed, reused(result)) == (True, earlier)
        assert {well.well: well.left_out for well in result.wells} == {
            "A01": (),
            "A02": ((1, 0),),
            "B03": ((0, 0),),
        }
        assert told in result.notes
        wells = json.loads((out / "run.json").read_text())["wells"]
        assert wells["A02"]["left_out"] == [{"field": 1, "t": 0}]
        assert pq.read_table(out / "wells.parquet")["fields_left_out"].to_pylist() == [0, 1, 1]
    from openhcs.report import write_report

    assert told in write_report(out).read_text()


def test_a_file_that_is_back_is_left_out_no_longer(plate: Path, tmp_path: Path) -> None:
    path = file_of(plate, "A02", 1, 1)
    whole = path.read_bytes()
    remove(path)
    out = tmp_path / "out"
    run(planned(plate, "skip-group"), out)
    path.write_bytes(whole)
    result = run(planned(plate, "skip-group"), out)
    assert reused(result) == {"A01", "B03"}
    assert not any(well.left_out for well in result.wells)
    assert pq.read_table(out / "wells.parquet")["fields_left_out"].to_pylist() == [0, 0, 0]


def test_a_plan_lists_what_is_left_out(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remove(file_of(plate, "A02", 1, 1))
    words = ["plan", str(plate), "--out", str(tmp_path / "out"), "--missing", "skip-group"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {"A02": [{"field": 1, "t": 0}]}


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"A01": [(2, 0)]}, "1 field has planes that cannot be used and is left out: A01 (field"),
        ({"A01": [(0, 1), (3, 0)]}, "A01 (fields 0 at t 1, 3 at t 0)"),
        (
            {"A01": [(field, 0) for field in range(11)]},
            "(fields 0, 1, 2, 3, 4, 5, 6, 7 and 3 more)",
        ),
        ({f"A{n:02d}": [(0, 0)] for n in range(1, 11)}, "A08 (field 0); and 2 more wells"),
    ],
)
def test_what_is_left_out_is_said_shortly(
    groups: dict[str, list[tuple[int, int]]], words: str
) -> None:
    assert words in left_out_in_words(groups)
