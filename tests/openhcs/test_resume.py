"""What is finished and unchanged is not done again; what changed is, and nothing else."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from openhcs._errors import PlateError, ResultFolderError
from openhcs.execution import RunResult, load_run, run
from openhcs.functions import (
    correct_illumination,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
    track_objects,
)
from openhcs.pipeline import (
    Event,
    Pipeline,
    PreparationFinished,
    Step,
    StepFinished,
    compile_pipeline,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image, open_labels, settle_plate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WELLS = ("A01", "A02", "B03")
STEPS = (
    Step(measure_image_quality),
    Step(correct_illumination),
    Step(project_max),
    Step(stitch, reference="DAPI"),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)
NAMES = tuple(step.name for step in STEPS)


class Runs:
    """Runs on one plate into one folder; remembers what each one did."""

    def __init__(self, plate: Path, out: Path) -> None:
        self.plate = plate
        self.out = out
        self.events: list[Event] = []

    def __call__(self, steps: Sequence[Step] = STEPS, **options: Any) -> RunResult:
        index = open_plate(self.plate, cache=False)
        plan = compile_pipeline(Pipeline(*steps), index, wells=options.pop("wells", None))
        self.events = []
        return run(plan, self.out, workers=1, on_event=self.events.append, **options)

    @property
    def done(self) -> Mapping[str, set[str]]:
        """Steps that were really done, by well."""
        done: dict[str, set[str]] = {}
        for event in self.events:
            if isinstance(event, StepFinished) and not event.reused:
                done.setdefault(event.well, set()).add(event.step)
        return done

    @property
    def learned(self) -> list[bool]:
        return [e.reused for e in self.events if isinstance(e, PreparationFinished)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a plate and the results of a first run on it."""
    folder = tmp_path_factory.mktemp("resume")
    synthetic_plate(
        folder / "plate", wells=WELLS, grid=(2, 2), overlap=0.3, z=1, size_px=72, seed=6
    )
    first = Runs(folder / "plate", folder / "out")
    assert first().completed
    assert first.done == {key: set(NAMES) for key in WELLS}
    return folder


@pytest.fixture
def runs(finished: Path, tmp_path: Path) -> Runs:
    """Give copies of both, which the test may spoil; times of files are copied too."""
    for name in ("plate", "out"):
        shutil.copytree(finished / name, tmp_path / name)
    return Runs(tmp_path / "plate", tmp_path / "out")


def test_a_late_step_is_done_again_from_what_is_stored(runs: Runs) -> None:
    pixels = open_image(runs.out / "plate.zarr", "A01", "stitched").read()
    quality = (runs.out / "image_quality" / "A01.parquet").stat().st_mtime_ns
    before = pq.read_table(runs.out / "wells.parquet").to_pydict()

    narrow = (*STEPS[:4], Step(segment_nuclei, channel="DAPI", min_diameter_um=9.0), STEPS[5])
    result = runs(narrow)
    assert result.completed
    assert runs.done == {key: {"segment_nuclei", "measure_objects"} for key in WELLS}
    assert runs.learned == [True]
    assert np.array_equal(open_image(runs.out / "plate.zarr", "A01", "stitched").read(), pixels)
    assert (runs.out / "image_quality" / "A01.parquet").stat().st_mtime_ns == quality
    after = pq.read_table(runs.out / "wells.parquet").to_pydict()
    assert after["image_quality_DAPI_mean"] == before["image_quality_DAPI_mean"]
    assert after["stitch_verdict"] == before["stitch_verdict"]
    assert sum(after["count"]) <= sum(before["count"])
    for number, well in enumerate(WELLS):
        labels = open_labels(runs.out / "plate.zarr", well, "stitched", "nuclei").read()
        assert len(np.unique(labels)) - 1 == after["count"][number]

    (image,) = result.wells[0].images
    assert image.labels == ("nuclei",)
    assert runs(narrow).completed
    assert runs.done == {}


def test_images_of_a_finished_run_are_not_gone_through_again(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone_through: list[Path] = []

    def counted(path: Path) -> Any:
        gone_through.append(path)
        return settle_plate(path)

    monkeypatch.setattr("openhcs.execution._course.settle_plate", counted)
    assert runs().completed
    assert gone_through == []

    record = json.loads((runs.out / "run.json").read_text())
    (runs.out / "run.json").write_text(json.dumps(record | {"outcome": "running"}))
    assert runs().completed  # what ended that run may have left images of unequal size
    assert len(gone_through) == 1


def test_results_taken_over_equal_results_made_at_once(runs: Runs, tmp_path: Path) -> None:
    narrow = (*STEPS[:4], Step(segment_nuclei, channel="DAPI", min_diameter_um=9.0), STEPS[5])
    runs(narrow)
    fresh = Runs(runs.plate, tmp_path / "fresh")
    fresh(narrow)
    for well in WELLS:
        path = Path("objects") / f"{well}.parquet"
        assert pq.read_table(runs.out / path).equals(pq.read_table(fresh.out / path))


def test_a_middle_step_is_done_again_with_all_that_follows(runs: Runs) -> None:
    runs((*STEPS[:3], Step(stitch, reference="GFP"), *STEPS[4:]))
    assert runs.done == {key: {"stitch", "segment_nuclei", "measure_objects"} for key in WELLS}


def test_a_touched_file_costs_its_well_alone(runs: Runs) -> None:
    index = open_plate(runs.plate, cache=False)
    path = next(plane.path for plane in index if plane.well == "A02")
    assert path is not None
    facts = (runs.plate / path).stat()
    os.utime(runs.plate / path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000_000))
    result = runs()
    assert result.completed
    assert runs.done == {"A02": set(NAMES)}
    assert [well.reused for well in result.wells] == [True, False, True]


def test_force_does_everything_again(runs: Runs) -> None:
    assert runs(resume=False).completed
    assert runs.done == {key: set(NAMES) for key in WELLS}
    assert runs.learned == [False]


def test_a_result_that_was_deleted_is_made_again(runs: Runs) -> None:
    (runs.out / "objects" / "B03.parquet").unlink()
    assert runs().completed
    assert runs.done == {"B03": {"measure_objects"}}


def test_a_half_written_record_counts_for_nothing(runs: Runs) -> None:
    record = runs.out / "records" / "A01.json"
    record.write_bytes(record.read_bytes()[:100])
    assert runs().completed
    assert set(runs.done) == {"A01"}


def test_what_an_interrupted_well_had_begun_is_not_taken_over(runs: Runs) -> None:
    record = runs.out / "records" / "A01.json"
    text = json.loads(record.read_text())
    del text["keys"]["measure_objects"]
    record.write_text(json.dumps(text | {"outcome": "running"}))
    assert runs().completed
    assert runs.done == {"A01": {"measure_objects"}}


def test_further_wells_join_those_that_are_there(runs: Runs, tmp_path: Path) -> None:
    part = Runs(runs.plate, tmp_path / "part")
    steps = STEPS[2:4]
    part(steps, wells=["A01"])
    assert set(part.done) == {"A01"}
    assert part(steps).completed
    assert set(part.done) == {"A02", "B03"}


def test_what_is_learned_does_not_depend_on_the_wells_that_are_run(
    runs: Runs, tmp_path: Path
) -> None:
    part = Runs(runs.plate, tmp_path / "part")
    assert part(wells=["A02"]).completed
    path = Path("objects") / "A02.parquet"
    assert pq.read_table(runs.out / path).equals(pq.read_table(part.out / path))
    assert part().completed
    assert part.done == {key: set(NAMES) for key in ("A01", "B03")}
    assert part.learned == [True]


def test_wells_of_earlier_runs_stay_in_the_table_while_they_are_current(runs: Runs) -> None:
    before = pq.read_table(runs.out / "wells.parquet")
    result = runs(wells=["A02"])
    assert [well.well for well in result.wells] == ["A02"]
    assert pq.read_table(runs.out / "wells.parquet").equals(before)
    assert "A01, B03" in result.notes[0]

    narrow = (*STEPS[:4], Step(segment_nuclei, channel="DAPI", min_diameter_um=9.0), STEPS[5])
    result = runs(narrow, wells=["A02"])
    assert pq.read_table(runs.out / "wells.parquet")["well"].to_pylist() == ["A02"]
    (note,) = json.loads((runs.out / "run.json").read_text())["notes"]
    assert note == result.notes[0]
    assert "another pipeline" in note
    assert "A01, B03" in note


def test_a_plane_that_cannot_be_read_is_not_learned_from(runs: Runs) -> None:
    plan = compile_pipeline(Pipeline(*STEPS), open_plate(runs.plate, cache=False))
    spoiled = next(plane for plane in plan.index if plane.well == "A02" and plane.field == 1)
    path = runs.plate / str(spoiled.path)
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    result = run(plan, runs.out, workers=1, resume=False)
    assert [str(well.outcome) for well in result.wells] == ["ok", "failed", "ok"]
    assert path.name in str(result.wells[1].error)
    note = json.loads((runs.out / "prepared" / "correct_illumination" / "note.json").read_text())
    assert [path.name in reason for reason in note["unread"]] == [True]
    assert note["channels"]["DAPI"]["fields"] == 11

    path.write_bytes(whole)
    assert runs().completed
    assert runs.learned == [False]


def test_wells_that_a_shorter_pipeline_took_over_stand_beside_those_of_a_later_run(
    runs: Runs,
) -> None:
    shorter = STEPS[:-1]
    assert runs(shorter).completed
    assert runs.done == {}
    result = runs(shorter, wells=["A01"])
    assert result.completed
    assert not any("another pipeline" in note for note in result.notes)
    assert pq.read_table(runs.out / "wells.parquet")["well"].to_pylist() == list(WELLS)


def test_no_labels_stay_that_a_pipeline_does_not_give(runs: Runs) -> None:
    def labels() -> list[str]:
        there = open_image(runs.out / "plate.zarr", "A01", "stitched").label_names
        folders = (runs.out / "plate.zarr" / "A" / "1" / "stitched" / "labels").iterdir()
        assert {path.name for path in folders if path.is_dir()} == set(there)
        record = json.loads((runs.out / "records" / "A01.json").read_bytes())
        (listed,) = (image["labels"] for image in record["images"])
        assert set(listed) == set(there) - {"coverage"}
        return list(listed)

    large = Step(segment_nuclei, channel="DAPI", name="large", min_diameter_um=9.0)
    assert runs((*STEPS[:5], large)).completed
    assert labels() == ["nuclei", "nuclei_large"]
    assert runs(STEPS[:5]).completed  # by name, these might be of a channel "large"
    assert labels() == ["nuclei"]
    assert runs((*STEPS[:4], Step(segment_nuclei))).completed
    assert labels() == ["nuclei_DAPI", "nuclei_GFP"]
    assert runs(STEPS[:5]).completed
    assert labels() == ["nuclei"]


def test_labels_of_one_channel_do_not_stand_for_those_of_another(
    runs: Runs, tmp_path: Path
) -> None:
    followed = (*STEPS[:4], Step(segment_nuclei), Step(track_objects, channel="GFP"))
    tracked = (*followed[:-1], Step(track_objects, channel="GFP", max_distance_um=10.0))
    assert runs(followed).completed  # beside the labels of DAPI that a run of STEPS has left
    assert runs(tracked).completed
    assert all(steps == {"track_objects"} for steps in runs.done.values())
    fresh = Runs(runs.plate, tmp_path / "fresh")
    assert fresh(tracked).completed
    for well in WELLS:
        found, expected = (
            pq.read_table(out / "tracks" / f"{well}.parquet") for out in (runs.out, fresh.out)
        )
        assert found.num_rows > 0
        assert found.to_pandas().equals(expected.to_pandas())


def test_results_of_another_plate_are_not_touched(runs: Runs, tmp_path: Path) -> None:
    other = tmp_path / "later" / "plate"
    synthetic_plate(other, wells=WELLS[:1], grid=(2, 2), overlap=0.3, z=1, size_px=72, seed=7)
    before = {path: path.stat().st_mtime_ns for path in runs.out.rglob("*") if path.is_file()}
    with pytest.raises(ResultFolderError, match="another plate"):
        Runs(other, runs.out)()
    before.pop(runs.out / ".lock")
    assert all(path.stat().st_mtime_ns == changed for path, changed in before.items())


def test_a_plate_that_was_moved_is_the_same_plate(runs: Runs, tmp_path: Path) -> None:
    runs()
    runs.plate.rename(tmp_path / "moved")
    with pytest.raises(PlateError, match="no longer at"):
        load_run(runs.out).plan()
    moved = Runs(tmp_path / "moved", runs.out)
    assert moved().completed
    assert moved.done == {}


def test_a_step_that_is_gone_leaves_nothing_behind(runs: Runs) -> None:
    runs(STEPS[:4], wells=["A01"])
    assert not (runs.out / "objects" / "A01.parquet").exists()
    assert "nuclei" not in open_image(runs.out / "plate.zarr", "A01", "stitched").label_names
    runs(STEPS[:4])
    assert not (runs.out / "objects").exists()
    document = json.loads((runs.out / "run.json").read_text())
    assert "measure_objects" not in {step["name"] for step in document["steps"]}


def test_taking_up_a_finished_plate_starts_no_worker(runs: Runs) -> None:
    assert runs().completed
    assert [type(event).__name__ for event in runs.events] == [
        "RunStarted",
        "WellFinished",
        "WellFinished",
        "WellFinished",
        "RunFinished",
    ]


@pytest.mark.parametrize("layout", ["ome-zarr-0.5", "ome-tiff"])
def test_a_well_whose_pixels_were_written_again_is_done_again(tmp_path: Path, layout: str) -> None:
    """Also where many planes are one file, or one plane is no file of the listing."""
    truth = synthetic_plate(
        tmp_path / "plate",
        format=layout,
        wells=WELLS,
        grid=(1, 1),
        size_px=64,
        z=1,
        cells_per_field=2,
    )
    runs = Runs(truth.folder, tmp_path / "out")
    steps = (Step(measure_image_quality),)
    assert runs(steps).completed
    assert runs(steps).completed
    assert runs.done == {}
    rows = zip(truth.planes["well"].tolist(), truth.planes["file"].tolist(), strict=True)
    file = next(truth.folder / name for well, name in rows if well == "A02")
    stat = file.stat()
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    assert runs(steps).completed
    assert set(runs.done) == {"A02"}


def test_a_function_of_ones_own_beside_the_script_is_done_again_when_it_is_edited(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from openhcs.functions import Kind, Output, function\n"
        '@function(outputs=(Output("own", Kind.RECORD),))\n'
        "def own(plane):\n"
        '    return {"number": float(1)}\n'
    )
    (tmp_path / "beside").mkdir()
    module = tmp_path / "beside" / "steps_of_ones_own.py"
    module.write_text(text)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.syspath_prepend(module.parent)
    steps = (*STEPS, Step(importlib.import_module(module.stem).own))
    assert runs(steps, wells=["A01"]).completed
    assert runs(steps, wells=["A01"]).completed
    assert runs.done == {}
    module.write_text(text.replace("float(1)", "float(1) + 1"))
    assert runs(steps, wells=["A01"]).completed
    assert runs.done == {"A01": {"own"}}
    assert set(pq.read_table(runs.out / "own" / "A01.parquet")["number"].to_pylist()) == {2.0}
