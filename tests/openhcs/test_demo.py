from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from openhcs._errors import MisuseError
from openhcs.demo import compare_with_truth, write_demo_plate
from openhcs.execution import run
from openhcs.pipeline import compile_pipeline, default_pipeline
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.testing import PlateTruth

WELLS = ("B02", "D05", "G11")  # 12 fields: enough to estimate the illumination from
SIZE_PX = 256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def truth(folder: Path) -> PlateTruth:
    written, there = write_demo_plate(folder / "plate", wells=WELLS, size_px=SIZE_PX)
    assert not there
    return written


def test_the_comparison_says_how_far_results_are_from_the_truth(
    folder: Path, truth: PlateTruth
) -> None:
    index = open_plate(truth.folder, cache=False)
    run(compile_pipeline(default_pipeline(index), index), folder / "results", workers=1)
    told = compare_with_truth(folder / "results", truth, WELLS)
    assert told.cells == np.count_nonzero(truth.cells["complete"])
    assert told.found + told.missed == told.cells
    assert told.f1 > 0.97
    assert told.spurious <= 0.01 * told.cells
    assert told.stitching_rms_px < 0.1 < told.stage_rms_px
    assert set(told.intensity_error) == {"DAPI", "GFP"}
    assert all(error < 0.15 for error in told.intensity_error.values())


def test_a_plate_that_is_there_is_taken_again(truth: PlateTruth) -> None:
    before = {path: path.stat().st_mtime_ns for path in truth.folder.rglob("*")}
    again, there = write_demo_plate(truth.folder, wells=WELLS, size_px=SIZE_PX)
    assert there
    assert again.spec == truth.spec
    assert before == {path: path.stat().st_mtime_ns for path in truth.folder.rglob("*")}


def test_another_plate_is_not_taken_for_it(truth: PlateTruth) -> None:
    with pytest.raises(MisuseError, match="another synthetic plate"):
        write_demo_plate(truth.folder, wells=("A01",), size_px=SIZE_PX)


def test_what_an_interrupted_demonstration_left_is_in_nobodys_way(tmp_path: Path) -> None:
    unfinished = tmp_path / ".plate.unfinished"
    synthetic_plate(unfinished / "plate", wells=("A01",), size_px=32, z=1, grid=(1, 1))
    (unfinished / "plate.truth" / "generator.json").unlink()
    moved = synthetic_plate(tmp_path / "moved", wells=("A01",), size_px=32, z=1, grid=(1, 1))
    moved.folder.with_name("moved.truth").replace(tmp_path / "plate.truth")
    truth, there = write_demo_plate(tmp_path / "plate", wells=("B02",), size_px=32)
    assert not there
    assert truth.spec.wells == ("B02",)
    assert not unfinished.exists()


def test_a_folder_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "plate" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work", "utf-8")
    with pytest.raises(MisuseError, match="no plate of the demonstration"):
        write_demo_plate(tmp_path / "plate", wells=WELLS, size_px=32)
    assert mine.read_text("utf-8") == "years of work"


def test_a_plate_with_lost_files_is_not_used(tmp_path: Path) -> None:
    truth, _ = write_demo_plate(tmp_path / "plate", wells=("B02",), size_px=32)
    lost = next(path for path in truth.planes["path"].tolist() if path.endswith(".TIF"))
    (truth.folder / lost).unlink()
    with pytest.raises(MisuseError, match="lacks 1 of its files"):
        write_demo_plate(tmp_path / "plate", wells=("B02",), size_px=32)
