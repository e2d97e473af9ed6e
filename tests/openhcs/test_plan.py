"""What a run would do and need is said before it is begun, and what cannot fit is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from openhcs._errors import CompileError
from openhcs.cli import main
from openhcs.execution import Forecast, available_bytes, duration, fit, forecast, run
from openhcs.functions import (
    correct_illumination,
    gaussian_px,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
)
from openhcs.pipeline import (
    Estimate,
    Pipeline,
    Plan,
    Step,
    compile_pipeline,
    estimate,
    to_source,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image

if TYPE_CHECKING:
    from pathlib import Path

STEPS = (
    Step(correct_illumination),
    Step(project_max),
    Step(stitch, reference="DAPI"),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "plate"
    synthetic_plate(
        folder, wells=("A01", "A02", "B03"), grid=(2, 2), z=2, size_px=(96, 128), seed=8
    )
    return folder


def planned(plate: Path, *steps: Step, **options: Any) -> Plan:
    return compile_pipeline(Pipeline(*(steps or STEPS)), open_plate(plate, cache=False), **options)


@pytest.fixture(scope="module")
def need(plate: Path) -> Estimate:
    return estimate(planned(plate))


def test_shapes_of_stored_images_are_foretold(plate: Path, need: Estimate, tmp_path: Path) -> None:
    plan = planned(plate)
    assert run(plan, tmp_path / "out", workers=1).completed
    image = open_image(tmp_path / "out" / "plate.zarr", need.largest, "stitched")
    (mosaic,) = [each for each in need.stored if each.name == "stitched"]
    height, width = image.shapes[0][-2:]
    assert mosaic.shape[0] == pytest.approx(height, abs=0.06 * height)
    assert mosaic.shape[1] == pytest.approx(width, abs=0.06 * width)
    assert (mosaic.planes, mosaic.dtype) == (2, "uint16")
    assert [each.name for each in need.stored] == ["stitched", "nuclei"]


def test_all_planes_and_their_bytes_are_counted(plate: Path, need: Estimate) -> None:
    index = open_plate(plate, cache=False)
    assert need.planes == len(index)
    assert need.read_bytes == index.column("file_size").sum()
    assert need.wells == 3
    assert 0 < need.compression <= 1


def test_memory_grows_with_the_planes_that_a_step_holds(tmp_path: Path) -> None:
    peaks = {}
    for side in (256, 512):
        synthetic_plate(
            tmp_path / str(side), wells=("A01",), grid=(2, 2), z=1, size_px=side, cells_per_field=2
        )
        peaks[side] = estimate(planned(tmp_path / str(side), Step(stitch))).peak_bytes
    none = estimate(planned(tmp_path / "256", Step(gaussian_px, sigma_px=1.0))).peak_bytes
    own = {side: peak - 260_000_000 for side, peak in peaks.items()}
    assert own[512] == pytest.approx(4 * own[256], rel=0.25)
    assert none < peaks[256]


MEASURED = """
import resource, sys
from openhcs import open_plate
from openhcs.execution import run
from openhcs.pipeline import compile_pipeline, estimate, from_source
plan = compile_pipeline(from_source(sys.argv[2]), open_plate(sys.argv[1], cache=False))
assert run(plan, sys.argv[3], workers=1).completed
unit = 1 if sys.platform == "darwin" else 1024
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / estimate(plan).peak_bytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of ended processes")
def test_a_worker_holds_no_more_than_was_foretold(tmp_path: Path) -> None:
    synthetic_plate(
        tmp_path / "p", wells=("A01",), grid=(3, 3), z=1, size_px=600, cells_per_field=30
    )
    source = to_source(Pipeline(*STEPS))
    # In a process of its own, whose only children are the workers of this run.
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "p"), source, str(tmp_path / "out")]
    told = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True).stdout
    assert float(told) < 1.15


def test_what_is_finished_is_told_and_what_an_edit_does_again(plate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = tuple(step.name for step in STEPS)
    before = forecast(planned(plate), out)
    assert before.finished == ()
    assert before.steps == {names: ("A01", "A02", "B03")}
    assert before.learned == {"correct_illumination": False}
    assert not out.exists()
    assert run(planned(plate, wells=["A01", "A02"]), out, workers=1).completed
    after = forecast(planned(plate), out)
    assert after.finished == ("A01", "A02")
    assert after.to_do == {"B03": names}
    assert after.learned == {"correct_illumination": True}
    edited = (*STEPS[:3], Step(segment_nuclei, channel="DAPI", split_depth=0.2), STEPS[4])
    changed = forecast(planned(plate, *edited), out)
    assert changed.to_do["A01"] == ("segment_nuclei", "measure_objects")
    assert changed.to_do["B03"] == names
    index = open_plate(plate)
    planes = (len(index), *(len(index.select(wells=["B03"])),) * 2)
    assert (before.planes, after.planes, changed.planes) == planes
    sizes = index.select(wells=["B03"]).column("file_size")
    assert changed.read_bytes == sizes.sum()


@pytest.fixture
def will(plate: Path, tmp_path: Path) -> Forecast:
    return forecast(planned(plate), tmp_path / "none")


def test_fewer_workers_are_used_where_memory_is_short(
    need: Estimate, will: Forecast, tmp_path: Path
) -> None:
    large = replace(need, peak_bytes=1_000_000_000)
    assert fit(large, will, tmp_path, workers=8, memory_bytes=3_500_000_000).workers == 3
    assert fit(large, will, tmp_path, workers=2, memory_bytes=3_500_000_000).workers == 2
    assert fit(need, will, tmp_path / "not" / "there", workers=1).memory_bytes < available_bytes()


@pytest.fixture
def nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have disks tell that they have one byte left, though they have more."""
    usage = namedtuple("usage", "total used free")  # as shutil has it
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, 1))


@pytest.mark.usefixtures("nearly_full")
def test_what_does_not_fit_is_refused_with_advice(
    need: Estimate, will: Forecast, tmp_path: Path
) -> None:
    with pytest.raises(CompileError) as caught:
        fit(need, will, tmp_path, workers=1, memory_bytes=1_000_000)
    memory, disk = caught.value.problems
    assert "well A01 needs" in memory
    assert "there are 1.0 MB: use fewer fields" in memory
    assert "1 byte free: make room" in disk


def test_what_is_finished_or_replaced_is_not_refused_for_want_of_room(
    plate: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first = planned(plate, wells=["A01", "A02"])
    assert run(first, tmp_path / "out", workers=1).completed
    request.getfixturevalue("nearly_full")
    again = run(first, tmp_path / "out", workers=1)
    assert all(well.reused for well in again.wells)
    assert run(first, tmp_path / "out", workers=1, resume=False).completed
    with pytest.raises(CompileError, match="more, and the disk"):
        run(planned(plate), tmp_path / "out", workers=1)
    assert forecast(planned(plate), tmp_path / "out").new == ("B03",)


def test_a_run_that_cannot_fit_begins_nothing(plate: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="needs"):
        run(planned(plate), tmp_path / "out", memory_bytes=1_000_000)
    assert not (tmp_path / "out").exists()


def test_a_run_says_why_it_has_fewer_workers(plate: Path, need: Estimate, tmp_path: Path) -> None:
    plan = planned(plate, Step(project_max), wells=["A01"])
    result = run(plan, tmp_path / "out", workers=4, memory_bytes=need.peak_bytes + 1)
    assert result.completed
    assert any("1 of 4 workers are used" in note for note in result.notes)


def test_the_command_prints_the_plan(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", str(plate), "--out", str(tmp_path / "out"), "--missing", "skip-group"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Wells     3 wells, 3 to do" in lines
    left_out = "fields and time points that lack planes are left out; missing='skip-group' (run)"
    assert f"Missing   {left_out}" in lines
    assert " 4  stitch" in lines
    stitch = lines[lines.index(" 4  stitch") + 1 : lines.index(" 5  segment_nuclei") - 1]
    assert stitch[0] == "    takes     images of project_max"
    assert re.fullmatch(r"    images    stitched, 2 planes of \d+ x \d+ uint16 a well", stitch[1])
    assert stitch[2:] == [
        "    tables    stitch_pairs, tiles, stitch",
        "    with      reference='DAPI'",
    ]
    assert any(line.startswith("Memory    up to") for line in lines)
    assert any(re.match(r"Time      about \d+ s \(\d+ s to \d+ \w+\)", line) for line in lines)
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["wells"] == ["A01", "A02", "B03"]
    assert plan["steps"][0]["settings"]["missing"] == {"value": "skip-group", "origin": "run"}
    assert plan["steps"][3]["source"] == "project_max"
    assert {each["name"] for each in plan["stored_in_largest_well"]} == {"stitched", "nuclei"}
    assert set(plan["to_do"]) == {"A01", "A02", "B03"}
    assert not (tmp_path / "out").exists()


def test_the_time_follows_from_a_few_planes_and_then_from_the_wells_that_are_done(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, source = tmp_path / "out", tmp_path / "pipeline.py"

    def told(sigma_px: float) -> str:
        pipeline = Pipeline(Step(project_max), Step(gaussian_px, sigma_px=sigma_px))
        source.write_text(to_source(pipeline))
        assert main(["plan", str(plate), str(source), "--out", str(out)]) == 0
        return capsys.readouterr().out.split("Time      ")[1]

    assert "by the time of a few planes that were tried" in told(1.0)
    steps = (Step(project_max), Step(gaussian_px, sigma_px=1.0))
    assert run(planned(plate, *steps), out, workers=1).completed
    assert told(1.0) == "nothing is left to do\n"
    assert "by the time of the 3 wells done" in told(2.0)


def test_what_wells_took_that_are_done_tells_what_others_will_take(
    plate: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    steps = (Step(project_max, keep=True),)
    assert run(planned(plate, *steps), out, workers=1).completed
    for path in (out / "records").glob("*.json"):
        record = json.loads(path.read_text())
        record["seconds"] = {"project_max": 90.0, "read": 9.0, "write": 1.0}
        path.write_text(json.dumps(record))
    plan = planned(plate, *steps, pixel_um=(0.5, 0.5))
    again = Forecast(
        finished=(),
        to_do=dict.fromkeys(plan.wells, ("project_max",)),
        new=(),
        planes=0,
        read_bytes=0,
        learned={},
    )
    (one, two) = (duration(plan, out, again, workers=count) for count in (1, 2))
    assert one.wells_seen == 3
    assert one.seconds is not None
    assert two.seconds is not None
    assert one.seconds - one.fixed_s == pytest.approx(300.0)
    # Three wells on two workers are two rounds.
    assert two.seconds - two.fixed_s == pytest.approx(200.0)


def test_a_few_planes_that_fail_tell_why_there_is_no_time(tmp_path: Path) -> None:
    truth = synthetic_plate(tmp_path / "p", wells=("A01",), grid=(1, 1), z=1, size_px=64)
    plan = planned(truth.folder, Step(project_max))
    will = forecast(plan, tmp_path / "out")
    for path in truth.planes["path"]:
        (truth.folder / path).write_bytes(b"no image")
    lasts = duration(plan, tmp_path / "out", will, workers=1)
    assert lasts.seconds is None
    assert lasts.range_s is None
    assert lasts.why.startswith("a few planes were tried, and ")
    assert not (tmp_path / "out").exists()


def test_another_well_is_tried_where_the_first_one_is_damaged(tmp_path: Path) -> None:
    truth = synthetic_plate(tmp_path / "p", wells=("A01", "A02"), grid=(1, 1), z=1, size_px=64)
    plan = planned(truth.folder, Step(project_max))
    will = forecast(plan, tmp_path / "out")
    for path in truth.planes["path"][truth.planes["well"] == "A01"]:
        (truth.folder / path).write_bytes(b"no image")
    lasts = duration(plan, tmp_path / "out", will, workers=1)
    assert lasts.seconds is not None
    assert lasts.seconds > lasts.fixed_s > 0


def test_only_some_planes_of_a_large_well_are_tried(tmp_path: Path) -> None:
    from openhcs.execution._duration import few_planes

    truth = synthetic_plate(
        tmp_path / "p", wells=("A01",), grid=(3, 3), z=4, size_px=32, channels=("DAPI", "GFP")
    )
    plan = planned(truth.folder, Step(project_max))
    few = few_planes(plan, "A01", most_px=32 * 32 * 10)
    assert set(few.channels) == {0, 1}
    assert 2 <= len(few) <= 10
    assert len(few_planes(plan, "A01", most_px=10**9)) == len(plan.index)


def test_the_command_refuses_what_cannot_fit(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", str(plate), "--out", str(tmp_path / "out"), "--memory", "100MB"]
    assert main(words) == 2
    assert "there are 100.0 MB" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words[:-1], "lots"])
    assert "'lots' is not a size such as 16GB" in capsys.readouterr().err
