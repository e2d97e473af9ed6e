"""What exports and databases of ImageXpress do in different ways gives the same plates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from openhcs.plates import open_plate
from openhcs.testing import FormatTests, PlateTruth, synthetic_plate
from openhcs.testing.formats import ImageXpressDatabase, ImageXpressExport, Layout

if TYPE_CHECKING:
    from pathlib import Path

MIXED: dict[str, Any] = {
    "channels": ("stack and max", "stack and best focus", "max alone", "single plane"),
    "channel_projections": {
        "stack and max": ("max",),
        "stack and best focus": ("best-focus",),
        "max alone": ("max",),
    },
    "projection_only": ("max alone",),
    "single_plane": ("single plane",),
    "z": 3,
}


class TestFlatExport(FormatTests):
    layout = ImageXpressExport(flat=True, suffix=".tif", run_on=True, site_selection=False)
    ragged_plates = 10


def suite_of(layout: Layout) -> FormatTests:
    suite = FormatTests()
    suite.layout = layout
    return suite


def check(suite: FormatTests, truth: PlateTruth) -> None:
    index = open_plate(truth.folder, cache=False)
    suite.check_facts(index, truth)
    suite.check_positions(index, truth)
    suite.check_planes(index, truth)


@pytest.mark.parametrize(
    ("layout", "changes"),
    [
        (ImageXpressExport(separator="-"), {}),
        (ImageXpressExport(separator=""), {}),
        (ImageXpressExport(), {"t": 3, "channel_times": {"GFP": (1,)}, "z": 1}),
        (ImageXpressExport(), {"projections": ("best-focus",)}),
        (ImageXpressExport(), {"z": 1, "t": 1}),
        (ImageXpressExport(), {"z": 1, "t": 1, "grid": (1, 1), "channels": ("DAPI",)}),
        (ImageXpressExport(), {"z": 1, "t": 1, "grid": (1, 1), "timepoint_folders": True}),
        (ImageXpressExport(flat=True), {"z": 1, "t": 4}),
        (ImageXpressDatabase(), {"grid": (1, 1), "channels": ("DAPI",)}),
        (ImageXpressDatabase(), {"compression": "none", "grid": (3, 4), "z": 1}),
        (ImageXpressDatabase(), {"grid": (1, 1), "z": 1, "t": 1, "projections": False}),
    ],
)
def test_a_plate_is_the_same_however_it_was_written(
    tmp_path: Path, layout: Layout, changes: dict[str, Any]
) -> None:
    suite = suite_of(layout)
    check(suite, suite.plate(tmp_path, **changes))


@pytest.mark.parametrize("name", ["my_long_name", "day_2_B02_again", "A01", "x_s1_w2", "a b"])
@pytest.mark.parametrize("layout", [ImageXpressExport(), ImageXpressDatabase()])
def test_names_of_plates_that_look_like_something_else_are_names(
    tmp_path: Path, layout: Layout, name: str
) -> None:
    truth = synthetic_plate(
        tmp_path / name,
        format=layout,
        wells=("C04",),
        grid=(1, 2),
        z=1,
        size_px=48,
        cells_per_field=1,
        stamp=True,
    )
    index = open_plate(truth.folder, cache=False)
    assert index.name == name
    suite_of(layout).check_planes(index, truth)


def test_the_mixed_plate_of_a_database_has_all_kinds(tmp_path: Path) -> None:
    suite = suite_of(ImageXpressDatabase())
    truth = suite.plate(tmp_path, projections=False, **MIXED)
    check(suite, truth)
    index = open_plate(truth.folder, cache=False)
    found = Counter(
        zip(index.column("channel").tolist(), index.column("kind").tolist(), strict=True)
    )
    per_stack = 2 * 4 * 2  # wells, fields, time points
    assert found == {
        (0, "plane"): 3 * per_stack,
        (0, "max"): per_stack,
        (1, "plane"): 3 * per_stack,
        (1, "best-focus"): per_stack,
        (2, "max"): per_stack,
        (3, "plane"): per_stack,
    }


def test_the_mixed_plate_of_an_export_has_all_kinds_and_names_its_copies(tmp_path: Path) -> None:
    suite = suite_of(ImageXpressExport())
    truth = suite.plate(tmp_path, projections=False, **MIXED)
    index = open_plate(truth.folder, cache=False)
    sound = index.where(index.column("status") == "ok")
    suite.check_planes(sound, truth)
    suite.check_facts(index, truth)
    copies = truth.planes["path"][truth.planes["kind"] == "copy"].tolist()
    found = index.select(kind=None, status="duplicate-content").column("path").tolist()
    assert Counter(found) == Counter(copies)
    per_stack = 2 * 4 * 2
    assert len(copies) == (3 + 3) * per_stack  # of the projection in 3 steps; in 2 steps and max
    assert {finding.code for finding in index.findings} == {"Z_COPY", "MIXED_DIMENSIONS"}
