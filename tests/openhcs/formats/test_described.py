"""Folders read by what a person says about them: patterns, tables, and what is wrong with them."""

from __future__ import annotations

import contextlib
import csv
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openhcs._errors import (
    AmbiguousFormatError,
    DescriptionError,
    FormatNotRecognisedError,
    PlateError,
)
from openhcs.cli import main
from openhcs.execution import load_run, run
from openhcs.functions import measure_image_quality
from openhcs.pipeline import Pipeline, Step, compile_pipeline, well_keys
from openhcs.plates import (
    Description,
    PlateIndex,
    open_plate,
    read_file_table,
    read_index,
    write_index,
)
from openhcs.testing import PlateTruth, decode_stamp, synthetic_plate
from openhcs.testing.formats import ScanRDescriptor
from openhcs.testing.strategies import ragged_plates

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COLUMNS = ["x_um", "y_um", "pixel_um"]
SCANR = (
    r"data/(?P<well>[A-Z]{1,2}\d+)--W\d+--P(?P<field>\d+)--Z(?P<z>\d+)--T(?P<t>\d+)"
    r"--(?P<channel>.+)\.tif"
)


def write(folder: Path, *names: str) -> Path:
    for value, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, np.arange(12, dtype=np.uint16).reshape(3, 4) + value)
    return folder


def describe(folder: Path, pattern: str, **more: Any) -> PlateIndex:
    return open_plate(folder, cache=False, described=Description(pattern=pattern), **more)


def table(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def listed(folder: Path, lines: Iterable[str], *, pattern: str = "", **more: Any) -> PlateIndex:
    files = read_file_table(table(folder.parent / f"{folder.name}.csv", lines))
    described = Description(pattern=pattern, table=files)
    return open_plate(folder, cache=False, described=described, **more)


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


def keys(index: PlateIndex) -> set[tuple[object, ...]]:
    return {(p.path, p.well, p.field, p.channel, p.z, p.t) for p in index.select()}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=ragged_plates(ScanRDescriptor(token=True)))
def test_a_pattern_reads_every_plane_of_plates_full_of_gaps(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    truth = synthetic_plate(
        tmp_path_factory.mktemp("gaps") / "p", format=ScanRDescriptor(token=True), **changes
    )
    index = describe(truth.folder, SCANR)
    by_vendor = open_plate(truth.folder, cache=False)
    assert keys(index) == keys(by_vendor)
    assert index.channel_names == by_vendor.channel_names
    for plane in index.select():
        key = decode_stamp(index.read(plane)).key
        assert (key.well, key.field, key.channel) == (plane.well, plane.field, plane.channel)
        assert (key.z, key.t) == (plane.z, plane.t)
    lost = [(p.well, p.field, p.channel, p.z, p.t) for p in index.select(status="missing")]
    assert set(lost) == {
        (p.well, p.field, p.channel, p.z, p.t) for p in by_vendor.select(status="missing")
    }
    assert index.files.total == sum(path.is_file() for path in truth.folder.rglob("*"))


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        (r"(?P<well>\w\d+)\.tif", ["b2.tif", "C11.tif"], [("B02", 0, "ch1"), ("C11", 0, "ch1")]),
        (
            r"r(?P<row>\d)c(?P<col>\d)_(?P<channel>\d+)\.tif",
            ["r1c2_10.tif", "r1c2_9.tif"],
            [("A02", 0, "ch9"), ("A02", 1, "ch10")],
        ),
        (
            r"(?P<row>[A-H])/(?P<col>\d+)/(?P<channel>.+)\.tif",
            ["B/03/dapi.tif", "B/03/GFP µ.tif"],
            [("B03", 0, "dapi"), ("B03", 1, "GFP µ")],
        ),
    ],
)
def test_groups_are_read_as_people_write_them(
    tmp_path: Path, pattern: str, names: list[str], expected: list[tuple[str, int, str]]
) -> None:
    index = describe(write(tmp_path / "p", *names), pattern)
    assert [(p.well, p.channel, p.channel_name) for p in index] == expected
    assert index.why.startswith("described, by the pattern ")
    assert index.format == "described"


def test_what_a_file_does_not_have_counts_from_0(tmp_path: Path) -> None:
    names = ("A01_DAPI.tif", "A01_GFP_z3.tif", "A01_GFP_z5.tif")
    pattern = r"(?P<well>A01)_(?P<channel>[A-Z]+)(?:_z(?P<z>\d))?\.tif"
    index = describe(write(tmp_path / "p", *names), pattern)
    assert [(p.channel_name, p.z, p.z_id) for p in index] == [
        ("DAPI", 0, ""),
        ("GFP", 0, "3"),
        ("GFP", 1, "5"),
    ]
    assert codes(index)["MIXED_DIMENSIONS"] == 1


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "A01_1.tif", "A01_x.tif", "notes/B02_2.tif")
    (folder / "readme.txt").write_text("hello")
    index = describe(folder, r"(?P<well>A01)_(?P<field>\w)\.tif")
    (unlisted,) = [f.message for f in index.findings if f.code == "UNLISTED_FILE"]
    assert "notes/B02_2.tif" in unlisted
    (reason,) = [f.message for f in index.findings if "field is 'x'" in f.message]
    assert "A01_x.tif" in reason
    assert index.files.named == 3
    assert index.files.total == 4


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(?P<well>\w+", r"no regular expression.*\n.*\n.*\^"),
        (r"(?P<well>[[A-P]\d+)", r"something else in a later Python \(Possible nested set"),
        (r"(?P<weld>A\d+)\.tif", "'weld'.*did you mean 'well'"),
        (r"(?P<row>A)\.tif", "no group 'col'"),
        (r"(?P<well>A1)(?P<row>A)(?P<col>1)", "choose one"),
        (r"(?P<field>\d+)\.tif", "which well"),
        ("(" * 900, "regular expression|nested too deeply"),
        ("a" * 3000, "at most 2000"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused_where_they_are_wrong(
    pattern: str, said: str
) -> None:
    with pytest.raises(DescriptionError, match=said):
        Description(pattern=pattern)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(?P<well>[A-H]\d\d)_nothing\.tif", "fits none of 3 files, such as 'sub/A01_f1.tif'"),
        (r"(?P<well>[A-H]\d\d)_f(?P<field>\d)\.tif", r"begin it with \(\?:\.\*/\)\?"),
        (r"sub/(?P<well>[A-H]\d\d)_f(?P<field>\d)", r"end it with \\\.tif"),
        (r"sub/(?P<well>[a-h]\d\d)_f(?P<field>\d)\.tif", "upper and lower case"),
        (r"sub/(?P<well>\w+)_f(?P<field>\d)\.tif|sub/A(?P<z>.+)", ""),
        (r"sub/(?P<well>[A-H]\d\d).*\.tif", r"2 images.*A01: sub/A01_f1.tif, sub/A01_f2.tif"),
        (r"sub/(?P<well>A01_f)\d\.tif", "fits 2 files and makes an image of none.*A01_f"),
    ],
)
def test_patterns_that_do_not_fit_the_folder_are_refused_with_examples(
    tmp_path: Path, pattern: str, said: str
) -> None:
    folder = write(tmp_path / "p", "sub/A01_f1.tif", "sub/A01_f2.tif", "sub/B02_f1.tif")
    if not said:
        assert len(describe(folder, pattern)) == 4  # the last is missing
        return
    folder = write(tmp_path / "p", "sub/B02_f2.tif") if "2 images" in said else folder
    with pytest.raises(DescriptionError, match=f"(?s){said}"):
        describe(folder, pattern)


def test_a_pattern_that_would_take_for_ever_is_ended_and_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "A00_a.tif", f"A01_{'a' * 60}.tif", "A02_a.tif")
    start = time.process_time()
    with pytest.raises(DescriptionError, match=r"takes too long: 1 of 3 .*'A01_a+\.tif'"):
        describe(folder, r"(?P<well>A01)_(?:a+)+\.tiff")
    assert time.process_time() - start < 2  # the other process had to pay


def test_a_table_says_what_files_are_and_where_they_were_taken(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", format="incell", wells=("A01", "B02"), grid=(2, 2), size_px=32, stamp=True
    )
    planes = truth.planes
    places = {
        (well, field): (x, y)
        for well, field, x, y in zip(
            *(truth.tiles[n].tolist() for n in ("well", "field", "stage_x_um", "stage_y_um")),
            strict=True,
        )
    }
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "row", "col", "field", "channel", "z", "t", *COLUMNS])
        names = ("path", "row", "col", "well", "field", "channel", "z", "t", "kind")
        columns = [planes[name].tolist() for name in names]
        for path, row, col, well, field, *rest, kind in zip(*columns, strict=True):
            if kind == "plane":
                place = places[well, field]
                writer.writerow((path, row + 1, col + 1, field + 7, *rest, *place, 0.65))
    described = Description(table=read_file_table(tmp_path / "t.csv"))
    index = open_plate(truth.folder, cache=False, described=described)
    assert len(index) == planes["kind"].tolist().count("plane")
    for plane in index:
        key = decode_stamp(index.read(plane)).key
        assert (key.well, key.field, key.channel, key.z) == (
            plane.well,
            plane.field,
            plane.channel,
            plane.z,
        )
        assert (plane.x_um, plane.y_um) == places[plane.well, plane.field]
        assert plane.field_id == str(plane.field + 7)
    assert index.pixel_um == (0.65, 0.65)
    assert codes(index)["POSITION_MISSING"] == 0
    write_index(index, tmp_path / "index")
    assert read_index(tmp_path / "index").described == described


def test_files_that_are_not_there_or_not_listed_are_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "a.tif", "b.tif", "sub/C.tif", "d.txt")
    index = listed(
        folder, ["path,well,z", "a.tif,A1,1", "lost.tif,A1,2", "SUB\\c.tif,B1,1", "../x.tif,B2,1"]
    )
    assert codes(index)["UNLISTED_FILE"] == 1
    assert codes(index)["UNMATCHED_NAME"] == 1
    assert codes(index)["MISSING_PLANE"] == 1
    assert codes(index)["NAME_CASE"] == 1
    assert codes(index)["PATH_ESCAPE"] == 1
    assert {p.path for p in index.select()} == {"a.tif", "sub/C.tif"}
    (missing,) = index.select(status="missing")
    assert (missing.path, missing.well, missing.z) == ("lost.tif", "A01", 1)


def test_pages_of_files_are_listed_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    stack = np.arange(3 * 20, dtype=np.uint16).reshape(3, 4, 5)
    tifffile.imwrite(folder / "A01.tif", stack, photometric="minisblack", metadata=None)
    lines = ["path,page,well,z", *(f"A01.tif,{page},A01,{page}" for page in range(3))]
    index = listed(folder, lines, deep=True)
    assert codes(index)["PAGES_UNUSED"] == 0
    assert [p.page for p in index] == [0, 1, 2]
    for plane in index:
        np.testing.assert_array_equal(index.read(plane), stack[plane.z])
    index = describe(folder, r"(?P<well>A01)\.tif")
    (finding,) = [f for f in index.findings if f.code == "PAGES_UNUSED"]
    assert "column page" in finding.remedy


def test_a_table_adds_to_a_pattern_and_wins_where_they_differ(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "A01_f1.tif", "A01_f2.tif", "A01_f3.tif")
    pattern = r"(?P<well>A01)_f(?P<field>\d)\.tif"
    index = listed(
        folder,
        ["path,field,x_um,y_um", "A01_f1.tif,,10,20", "A01_f2.tif,4,-10,20"],
        pattern=pattern,
    )
    first = next(iter(index))
    assert (first.path, first.field, first.field_id, first.x_um) == ("A01_f1.tif", 0, "1", 10)
    assert {p.path: p.field_id for p in index} == {
        "A01_f1.tif": "1",
        "A01_f2.tif": "4",
        "A01_f3.tif": "3",
    }
    (finding,) = [f for f in index.findings if f.code == "LABEL_MISMATCH"]
    assert "field 2 by its name and 4 by the table" in finding.message


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([""], "no column 'path'|is empty"),
        (["path,weld", "a.tif,A1"], "'weld'; they are .*did you mean 'well'"),
        (["path,path", "a,b"], "two columns 'path'"),
        (["path,row", "a.tif,A"], "both columns row and col"),
        (["path,well", "a.tif,A1", "b.tif"], "line 3: 1 values for 2"),
        (["path,well", ",A1"], "line 2 has no path"),
        (["path,well", "a.tif,ZZ9"], "line 2: 'ZZ9' is not a well"),
        (["path,row,col", "a.tif,0,1"], "line 2"),
        (["path,well,z", "a.tif,A1,x"], "line 2: z is 'x'"),
        (["path,well,x_um", "a.tif,A1,nan"], "line 2: x_um is 'nan'"),
        (["path,well,pixel_um", "a.tif,A1,0"], "line 2: pixel_um is '0'"),
        (["path,well", "a.tif,A1", "a.tif,A2"], "lines 2 and 3: a.tif is listed twice"),
        (["path,well", " , "], "lists no file below"),
        (["path", "a.tif"], "nothing says which well"),
    ],
)
def test_tables_are_refused_where_they_are_wrong(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    folder = write(tmp_path / "p", "a.tif", "b.tif")
    with pytest.raises(DescriptionError, match=f"(?s){said}"):
        listed(folder, lines)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,well\n" + "a" * 200_000, "utf-8")
    with pytest.raises(DescriptionError, match=r"t\.csv is no table: field larger"):
        read_file_table(tmp_path / "t.csv")


def test_tables_that_name_one_image_twice_or_nothing_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "a.tif", "b.tif")
    with pytest.raises(DescriptionError, match=r"well A01: a\.tif \(line 2\), b\.tif \(line 3\)"):
        listed(folder, ["path,well", "a.tif,A1", "b.tif,A01"])
    with pytest.raises(PlateError, match=r"none of the 1 files .*such as c\.tif"):
        listed(folder, ["path,well", "c.tif,A1"])
    with pytest.raises(DescriptionError, match="line 3"):
        listed(folder, ["path,well", "a.tif,A1", "b.tif,"])


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_is_a_table_or_is_refused(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(f"path,well\n{text}", "utf-8", newline="")
    with contextlib.suppress(DescriptionError):  # and nothing else
        read_file_table(path).files()


@given(
    pattern=st.sampled_from(["", r"(?P<well>\w+)\.tif", SCANR]),
    size=st.none() | st.tuples(st.integers(1, 32), st.integers(1, 48)),
)
def test_descriptions_come_back_from_json(pattern: str, size: tuple[int, int] | None) -> None:
    if not pattern and size is None:
        return
    described = Description(pattern=pattern, plate_size=size)
    again = Description.from_json(json.loads(json.dumps(described.to_json())))
    assert again == described
    assert again.fingerprint == described.fingerprint


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"pattern": "", "table": None, "plate_size": None},
        {"pattern": "(", "table": None, "plate_size": None},
        {"pattern": "", "table": None, "plate_size": [99, 99]},
        {"pattern": "", "table": None, "plate_size": [1]},
        {"pattern": "", "table": {"source": "x", "columns": ["path"]}, "plate_size": None},
        {"pattern": "", "table": 7, "plate_size": None},
    ],
)
def test_descriptions_from_elsewhere_are_checked_again(values: dict[str, Any]) -> None:
    with pytest.raises(DescriptionError):
        Description.from_json(values)


def test_the_stored_index_is_of_one_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write(tmp_path / "p", "A01_2.tif", "A01_3.tif")
    first = Description(pattern=r"(?P<well>A01)_(?P<field>\d)\.tif")
    second = Description(pattern=r"(?P<well>A01)_(?P<z>\d)\.tif")
    for _ in range(2):
        assert open_plate(folder, described=first).fields == (0, 1)
        assert open_plate(folder, described=second).z == (0, 1)


def test_a_size_is_stated_for_any_format(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "P_A01f00d0.TIF")
    index = open_plate(folder, cache=False, described=Description(plate_size=(4, 6)))
    assert (index.format, index.rows, index.columns) == ("cellomics", 4, 6)
    assert codes(index)["PLATE_SIZE_ASSUMED"] == 0
    folder = write(tmp_path / "q", "P_H12f00d0.TIF")
    with pytest.raises(PlateError, match="H12, which is not on a plate of 4 x 6"):
        open_plate(folder, cache=False, described=Description(plate_size=(4, 6)))


def test_a_description_and_another_format_exclude_each_other(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "A01.tif")
    with pytest.raises(FormatNotRecognisedError, match="leave one out"):
        describe(folder, r"(?P<well>A01)\.tif", format="harmony")
    with pytest.raises(FormatNotRecognisedError, match="--pattern, --files"):
        open_plate(folder, cache=False, format="described")
    assert len(describe(folder, r"(?P<well>A01)\.tif", format="described")) == 1


@pytest.fixture
def plate(tmp_path: Path) -> PlateTruth:
    return synthetic_plate(
        tmp_path / "p",
        format=ScanRDescriptor(token=True),
        wells=("A01", "B02"),
        grid=(1, 2),
        size_px=64,
        z=1,
    )


def test_a_run_remembers_the_description_and_repeats_without_the_table(
    tmp_path: Path, plate: PlateTruth
) -> None:
    lines = ["path,x_um,y_um,pixel_um"]
    for path, field, kind in zip(
        *(plate.planes[name].tolist() for name in ("path", "field", "kind")), strict=True
    ):
        if kind == "plane":
            lines.append(f"{path},{40 * field},0,0.65")
    index = listed(plate.folder, lines, pattern=SCANR)
    plan = compile_pipeline(Pipeline(Step(measure_image_quality)), index)
    result = run(plan, tmp_path / "out", workers=1)
    assert result.completed
    (tmp_path / "p.csv").unlink()
    record = load_run(tmp_path / "out")
    assert record.described == index.described
    again = record.plan()
    assert again.index.column("x_um").tolist() == plan.index.column("x_um").tolist()
    second = run(again, tmp_path / "out", workers=1)
    assert all(well.reused for well in second.wells)


def test_another_position_in_the_table_does_its_well_again(plate: PlateTruth) -> None:
    def lines(shift: int) -> list[str]:
        found = ["path,x_um,y_um,pixel_um"]
        for path, well, field, kind in zip(
            *(plate.planes[name].tolist() for name in ("path", "well", "field", "kind")),
            strict=True,
        ):
            if kind == "plane":
                found.append(f"{path},{40 * field + (shift if well == 'B02' else 0)},0,0.65")
        return found

    keys = [
        well_keys(compile_pipeline(Pipeline(Step(measure_image_quality)), index))
        for index in (listed(plate.folder, lines(shift), pattern=SCANR) for shift in (0, 3))
    ]
    assert {well for well in keys[0] if keys[0][well] != keys[1][well]} == {"B02"}


def test_the_command_line_says_the_same(
    plate: PlateTruth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(plate.folder)
    assert main(["inspect", folder, "--json", "--pattern", SCANR]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["format"], facts["planes"]) == ("described", 8)
    assert main(["inspect", folder, "--pattern", "(?P<well>x)"]) == 2
    assert "fits none of 9 files" in capsys.readouterr().err
    assert main(["inspect", folder, "--files", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", folder, "--plate-size", "97"])
    assert "97" in capsys.readouterr().err
    assert main(["inspect", folder, "--json", "--pattern", SCANR, "--plate-size", "384"]) == 0
    assert json.loads(capsys.readouterr().out)["plate"] == {"rows": 16, "columns": 24}
    assert main(["run", "--again", folder, "--pattern", SCANR]) == 2
    told = capsys.readouterr().err
    assert "--again repeats a run as it was, and --pattern is given beside it" in told


def test_several_plates_are_one_where_the_description_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a", "P_A01f00d0.TIF")
    write(tmp_path / "b", "P_A01f00d0.TIF")
    with pytest.raises(AmbiguousFormatError, match="2 plates"):
        open_plate(tmp_path, cache=False)
    index = describe(tmp_path, r"(?P<channel>\w)/P_(?P<well>A01)f00d0\.TIF")
    assert index.channel_names == ("a", "b")
