"""What a person decides about files: which of several for one plane, and those not in the index."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import tifffile

from openhcs import Pipeline, RunRequest, Step
from openhcs._errors import DescriptionError, ParameterError
from openhcs.cli import main
from openhcs.execution import load_run
from openhcs.functions import project_max
from openhcs.pipeline import to_source
from openhcs.plates import Description, Finding, PlateIndex, open_plate
from openhcs.plates._duplicates import mark_shared
from openhcs.plates._findings import FindingLog
from openhcs.plates._rows import Row
from openhcs.testing import PlateTruth, synthetic_plate

if TYPE_CHECKING:
    from openhcs.plates import DuplicatePolicy
    from openhcs.testing import FaultKind

DOUBLED = (
    "phenix",
    "cv8000",
    "cq1",
    "incell",
    "imagexpress",
    "imagexpress-database",
    "imagexpress-hcs-ai",
    "scanr",
    "cellomics",
)
BY_NAME = ("phenix", "cv8000", "cq1", "incell", "imagexpress-hcs-ai", "scanr")


def faulty(folder: Path, layout: str, fault: FaultKind) -> PlateTruth:
    wells, grid = ("A01", "B02"), (1, 2)
    return synthetic_plate(
        folder, format=layout, wells=wells, size_px=32, z=1, grid=grid, faults=(fault,)
    )


def the_finding(index: PlateIndex, code: str) -> Finding:
    (found,) = (finding for finding in index.findings if finding.code == code)
    return found


def doubled(truth: PlateTruth) -> tuple[str, str]:
    """Give the two files of one plane, in the order of their names."""
    index = open_plate(truth.folder, cache=False)
    one, other = sorted(index.select(kind=None, status="conflict").column("path").tolist())
    return one, other


def changed_at(folder: Path, path: str, seconds: int) -> None:
    os.utime(folder / path, (seconds, seconds))


@pytest.mark.parametrize("layout", DOUBLED)
def test_one_of_two_files_for_a_plane_is_used_as_chosen(tmp_path: Path, layout: str) -> None:
    truth = faulty(tmp_path / "p", layout, "duplicate-key")
    first, second = doubled(truth)
    changed_at(truth.folder, first, 1_000)
    changed_at(truth.folder, second, 2_000)
    plain = open_plate(truth.folder, cache=False)
    assert the_finding(plain, "DUPLICATE_KEY").severity == "error"
    choices: dict[DuplicatePolicy, tuple[str, str]] = {
        "newest": (second, first),
        "first": (first, second),
    }
    for policy, (used, unused) in choices.items():
        index = open_plate(truth.folder, duplicates=policy, cache=False)
        paths = index.select(kind=None).column("path").tolist()
        assert used in paths
        assert unused not in paths
        assert set(index.column("status")) == {"ok"}
        assert len(index) == len(plain) - 1
        assert index.facts.files.total == plain.facts.files.total
        assert index.facts.files.named == plain.facts.files.named + 1
        finding = the_finding(index, "DUPLICATE_KEY")
        assert (finding.severity, finding.path) == ("warning", used)
        assert f"{used} is used" in finding.message
        assert f"in place of {unused}." in finding.message
        (plane,) = (plane for plane in index if plane.path == used)
        pixels = tifffile.imread(truth.folder / used)
        assert np.array_equal(index.read(plane), pixels - plane.offset_counts)


def test_the_newest_is_the_newest_whatever_its_name(tmp_path: Path) -> None:
    truth = faulty(tmp_path / "p", "phenix", "duplicate-key")
    first, second = doubled(truth)
    changed_at(truth.folder, first, 2_000)
    changed_at(truth.folder, second, 1_000)
    index = open_plate(truth.folder, duplicates="newest", cache=False)
    assert f"{first} is used, the newest" in the_finding(index, "DUPLICATE_KEY").message


def test_a_plane_that_was_listed_without_a_place_has_that_of_the_one_it_replaces(
    tmp_path: Path,
) -> None:
    truth = faulty(tmp_path / "p", "scanr", "duplicate-key")
    for policy in ("newest", "first"):
        index = open_plate(truth.folder, duplicates=cast("Any", policy), cache=False)
        assert not np.isnan(index.column("x_um")).any()


def test_files_of_the_same_time_have_no_newest_and_stay_an_error(tmp_path: Path) -> None:
    truth = faulty(tmp_path / "p", "incell", "duplicate-key")
    for path in doubled(truth):
        changed_at(truth.folder, path, 1_000)
    index = open_plate(truth.folder, duplicates="newest", cache=False)
    finding = the_finding(index, "DUPLICATE_KEY")
    assert finding.severity == "error"
    assert "changed at the same time" in finding.message
    assert len(index.select(kind=None, status="conflict")) == 2


def test_a_newest_file_that_is_empty_is_no_reason_to_take_an_older_one(tmp_path: Path) -> None:
    truth = faulty(tmp_path / "p", "cv8000", "duplicate-key")
    first, second = doubled(truth)
    (truth.folder / second).write_bytes(b"")
    changed_at(truth.folder, first, 1_000)
    changed_at(truth.folder, second, 2_000)
    for deep in (False, True):
        index = open_plate(truth.folder, duplicates="newest", deep=deep, cache=False)
        assert index.select(kind=None, status="empty").column("path").tolist() == [second]
        assert the_finding(index, "EMPTY_FILE").path == second


def test_one_file_that_is_listed_twice_stays_an_error(tmp_path: Path) -> None:
    truth = faulty(tmp_path / "p", "ome-tiff", "duplicate-key")
    for policy in ("newest", "first"):
        index = open_plate(truth.folder, duplicates=cast("Any", policy), cache=False)
        assert the_finding(index, "DUPLICATE_KEY").severity == "error"
        assert len(index.select(kind=None, status="conflict")) == 2


def test_a_pattern_that_fits_two_files_for_one_plane_takes_the_one_chosen(tmp_path: Path) -> None:
    for number, name in enumerate(("A01_x.tif", "A01_y.tif", "B01_x.tif")):
        tifffile.imwrite(tmp_path / name, np.full((8, 8), number, np.uint16))
        changed_at(tmp_path, name, 1_000 + number)
    described = Description(pattern=r"(?P<well>[A-H]\d\d)_.\.tif")
    with pytest.raises(DescriptionError, match="--duplicates"):
        open_plate(tmp_path, described=described, cache=False)
    index = open_plate(tmp_path, described=described, duplicates="newest", cache=False)
    assert index.column("path").tolist() == ["A01_y.tif", "B01_x.tif"]


def test_a_word_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of error, newest, first, not 'oldest'"):
        open_plate(tmp_path, duplicates=cast("Any", "oldest"))
    with pytest.raises(ParameterError, match="'newest'"):
        RunRequest(plate="p", duplicates=cast("Any", "oldest"))
    with pytest.raises(ParameterError, match="True or False"):
        RunRequest(plate="p", include_unlisted=cast("Any", 1))


@pytest.mark.parametrize("layout", BY_NAME)
def test_unlisted_images_are_used_as_their_names_say_when_wanted(
    tmp_path: Path, layout: str
) -> None:
    truth = faulty(tmp_path / "p", layout, "unlisted-file")
    (row,) = np.flatnonzero(truth.planes["fault"] == "unlisted-file")
    path = str(truth.planes["path"][row])
    without = open_plate(truth.folder, cache=False)
    assert path not in without.column("path")
    assert "left out" in the_finding(without, "UNLISTED_FILE").message
    index = open_plate(truth.folder, include_unlisted=True, cache=False)
    (plane,) = (plane for plane in index if plane.path == path)
    where = ("well", "field", "channel", "z", "t")
    assert [getattr(plane, name) for name in where] == [truth.planes[name][row] for name in where]
    assert len(index) == len(without) + 1
    assert index.facts.files.total == without.facts.files.total
    finding = the_finding(index, "UNLISTED_FILE")
    assert (finding.severity, finding.path) == ("warning", path)
    assert "are used as what their names say" in finding.message
    pixels = tifffile.imread(truth.folder / path)
    assert np.array_equal(index.read(plane), pixels - plane.offset_counts)


def test_an_image_that_its_index_lost_has_the_place_of_its_field_again(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", format="phenix", wells=("A01",), size_px=32, z=1, grid=(1, 2)
    )
    whole = open_plate(truth.folder, cache=False)
    (file,) = truth.folder.rglob("Index.idx.xml")
    text = file.read_text("utf-8")
    lost = next(plane for plane in whole if plane.field == 1 and plane.channel == 1)
    assert lost.path is not None
    name = Path(lost.path).name
    shorter = re.sub(
        rf"<Image (?:(?!</Image>).)*<URL>{re.escape(name)}</URL>.*?</Image>",
        "",
        text,
        flags=re.DOTALL,
    )
    assert len(shorter) < len(text)
    file.write_text(shorter, "utf-8")
    assert len(open_plate(truth.folder, cache=False)) == len(whole) - 1
    again = open_plate(truth.folder, include_unlisted=True, cache=False)
    (found,) = (plane for plane in again if plane.path == lost.path)
    for part in ("well", "field", "channel", "x_um", "y_um", "pixel_um_x", "channel_name"):
        assert getattr(found, part) == getattr(lost, part), part


def test_an_image_and_what_was_converted_of_it_are_one(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", format="cv8000", wells=("A01",), size_px=32, z=1, grid=(1, 1)
    )
    plain = open_plate(truth.folder, cache=False)
    for path in plain.column("path"):
        source = truth.folder / path
        source.with_suffix(".png").write_bytes(source.read_bytes())
    index = open_plate(truth.folder, include_unlisted=True, cache=False)
    assert index.column("path").tolist() == plain.column("path").tolist()
    assert "left out" in the_finding(index, "UNLISTED_FILE").message


@pytest.mark.parametrize("layout", ["ome-tiff", "ome-zarr-0.5"])
def test_formats_that_cannot_tell_leave_unlisted_images_out_and_say_so(
    tmp_path: Path, layout: str
) -> None:
    truth = faulty(tmp_path / "p", layout, "unlisted-file")
    without = open_plate(truth.folder, cache=False)
    index = open_plate(truth.folder, include_unlisted=True, cache=False)
    assert index.column("path").tolist() == without.column("path").tolist()
    assert re.search(r"left out, as .* what they are", the_finding(index, "UNLISTED_FILE").message)


def test_another_choice_never_reads_an_index_that_was_stored_under_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    truth = faulty(tmp_path / "p", "phenix", "duplicate-key")
    for _ in range(2):
        told = []
        for options in ({}, {"duplicates": "newest"}, {"duplicates": "first"}):
            index = open_plate(truth.folder, **cast("Any", options))
            told.append((index.facts.duplicates, the_finding(index, "DUPLICATE_KEY").message))
        assert [policy for policy, _ in told] == ["error", "newest", "first"]
        assert len({message for _, message in told}) == 3
    assert open_plate(truth.folder, include_unlisted=True).facts.include_unlisted
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 4


def test_choices_are_part_of_request_run_and_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = faulty(tmp_path / "p", "imagexpress", "duplicate-key")
    (tmp_path / "p.py").write_text(to_source(Pipeline(Step(project_max))), "utf-8")
    plate, out = str(truth.folder), tmp_path / "out"
    words = [plate, str(tmp_path / "p.py"), "--out", str(out), "--wells", "A01"]
    assert main(["run", *words, "--workers", "1"]) != 0
    choices = ["--duplicates", "first", "--include-unlisted"]
    assert main(["inspect", plate]) == 1
    assert main(["inspect", plate, *choices]) == 0
    capsys.readouterr()
    assert main(["plan", *words, *choices, "--source"]) == 0
    request = RunRequest.from_source(capsys.readouterr().out)
    assert (request.duplicates, request.include_unlisted) == ("first", True)
    assert main(["run", *words, *choices, "--workers", "1"]) == 0
    said = json.loads((out / "run.json").read_bytes())["plate"]
    assert (said["duplicates"], said["include_unlisted"]) == ("first", True)
    again = load_run(out).plan()
    assert again.index.facts.duplicates == "first"
    assert again.index.facts.include_unlisted
    wanted = request.index().select(wells=["A01"])
    assert again.index.column("path").tolist() == wanted.column("path").tolist()


def test_many_images_that_are_said_to_be_several_planes_are_one_finding() -> None:
    rows = [
        Row(well="A01", row=0, col=0, field=at, channel=channel, path=f"{at}.tif", file_size=9)
        for at in range(9)
        for channel in range(2)
    ]
    findings = FindingLog()
    mark_shared(rows, findings)
    (finding,) = findings.all()
    assert "9 images are said to be several planes each, in 9 files: 0.tif," in finding.message
    assert {row.status for row in rows} == {"conflict"}
