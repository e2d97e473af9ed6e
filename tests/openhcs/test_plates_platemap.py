from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import openpyxl
import pyarrow.parquet as pq
import pytest

from openhcs._errors import PlateError
from openhcs.cli import main
from openhcs.execution import load_run, run
from openhcs.functions import measure_image_quality, z_prime
from openhcs.pipeline import Pipeline, Step, compile_pipeline
from openhcs.plates import Platemap, Role, open_plate, read_platemap, roles_of, well_name
from openhcs.plates._findings import FindingLog
from openhcs.plates._platemap_check import check_platemap
from openhcs.report import write_report
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

WELLS = ("A01", "A02", "B01")
LINES = [
    ["well", "Compound", "dose (nM)", "count", "outcome", "barcode"],
    ["A01", "DMSO", "0", "7", "x", "007"],
    ["a2", "taxol", "1.5", "8", "y", "12"],
    ["B01", "DMSO", "", "9", "", "3"],
]


@pytest.mark.parametrize(
    "text",
    [
        "well,Compound,dose_um\nA01,DMSO,0\nB12,drug,1.5\n",
        "Well\tCompound\tdose_um\na1\tDMSO\t0\nB12\tdrug\t1.5\n",
        "row;column;Compound;dose_um\n1;1;DMSO;0\n2;12;drug;1.5\n",
        "row,column,Compound,dose_um\n1.0,1.0,DMSO,0\n2.0,12.0,drug,1.5\n",
        "\ufeffRow,Col,Compound,dose_um\r\nA,01,DMSO,0\r\nB,12,drug,1.5\r\n\r\n",
        "sep=;\r\nwell;Compound;dose_um\r\nA01;DMSO;0\r\nB12;drug;1.5\r\n",
        "\n;;\nwell;Compound;dose_um\nA01;DMSO;0\nB12;drug;1.5\n",
    ],
)
def test_tables_of_every_shape_read_alike(tmp_path: Path, text: str) -> None:
    (tmp_path / "map").write_bytes(text.encode())
    platemap = read_platemap(tmp_path / "map")
    assert platemap.columns == ("Compound", "dose_um")
    assert platemap.wells == {"A01": ("DMSO", "0"), "B12": ("drug", "1.5")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column well"),
        ("name\nx\n", "no column well"),
        ("well,a\nA01,1\nA1,2\n", "line 3: well A01 has an entry"),
        ("well,a\nQQ1,1\n", "line 2"),
        ("well,a\nA01\n", "line 2: 1 values"),
        ("row,column,a\n0,1,x\n", "line 2"),
        ("well,a,a\nA01,1,2\n", "two columns 'a'"),
        ("well,,a\nA01,1,2\n", "column 2 has no name"),
        ("well,a\n\n", "no line with a well"),
    ],
)
def test_damaged_tables_are_refused_with_their_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(PlateError, match=message):
        read_platemap(tmp_path / "map.csv")


@pytest.mark.parametrize("name", ["dose, nM", '"dose, final, nM"', "a, b, c"])
def test_names_of_columns_may_have_what_separates_others(tmp_path: Path, name: str) -> None:
    (tmp_path / "map.csv").write_text(f"well;{name}\nA01;1,5\n")
    platemap = read_platemap(tmp_path / "map.csv")
    assert platemap.columns == (name.strip('"'),)
    assert platemap.wells == {"A01": ("1,5",)}


def test_what_windows_writes_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_bytes(b"well;lot\nA01;5\x9610\x80\nB01;\x81\n")
    wells = read_platemap(tmp_path / "map.csv").wells
    assert wells == {"A01": ("5\N{EN DASH}10\N{EURO SIGN}",), "B01": ("\ufffd",)}


def test_wells_that_do_not_match_are_found(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("well,a\nA01,1\nP24,2\n")
    findings = FindingLog()
    check_platemap(read_platemap(tmp_path / "map.csv"), ["A01", "A02"], (8, 12), findings)
    assert [(f.code, f.message.rsplit(" ", 1)[1]) for f in findings.all()] == [
        ("PLATEMAP_UNKNOWN_WELL", "P24."),
        ("PLATEMAP_ENTRY_MISSING", "A02."),
    ]


def found_in(columns: str, lines: Iterable[str], *, taken: Sequence[str], size: Any) -> list[Any]:
    """Check a platemap; gives code, well and message of what is found."""
    cells = [line.split(";") for line in lines]
    platemap = Platemap(
        source="map.csv",
        columns=tuple(columns.split(";")),
        wells={line[0]: tuple(line[1:]) for line in cells},
    )
    findings = FindingLog()
    check_platemap(platemap, taken, size, findings)
    assert {f.path for f in findings.all()} <= {"map.csv"}
    return [(f.code, f.well, f.message) for f in findings.all()]


def plate_of(rows: int, columns: int) -> list[str]:
    return [well_name(row, col) for row in range(rows) for col in range(columns)]


ROLES = ["A01;negative", "A02;Negative", "A03;negative"]
ROLES += ["B01;positive", "B02;positive", "B03;positive", "C01;sample", "C02;blank", "C03;empty"]


@pytest.mark.parametrize(
    ("columns", "lines", "code", "said"),
    [
        ("dose (nM)", ["A01;1", "A02;2.5", "A03;high"], "PLATEMAP_COLUMN_MIXED", "'high' (A03)"),
        ("dose (nM)", ["A01;1,5", "A02;2,5", "A03;0"], "PLATEMAP_COLUMN_MIXED", "not a comma"),
        ("dose", ["A01;1", "A02;2", "A03;3", "B01;?"], "PLATEMAP_COLUMN_MIXED", "'?' (B01)"),
        ("dose [nM]", ["A01;1", "A02;-2", "A03;0"], "PLATEMAP_BELOW_ZERO", "below 0 in A02"),
        ("compound", ["A01;", "A02;", "A03;"], "PLATEMAP_COLUMN_EMPTY", "'compound'"),
        ("Role", [*ROLES[:-1], "C03;postive"], "PLATEMAP_UNKNOWN_ROLE", "mean 'positive'?"),
        ("control", [*ROLES[:-1], "C03;DMSO"], "PLATEMAP_UNKNOWN_ROLE", "'DMSO', which say no"),
        ("role", [ROLES[0], *ROLES[2:]], "PLATEMAP_FEW_CONTROLS", "2 negative controls"),
        ("role", ROLES[:3], "PLATEMAP_FEW_CONTROLS", "0 positive controls"),
    ],
)
def test_what_does_not_fit_in_a_column_is_found(
    columns: str, lines: list[str], code: str, said: str
) -> None:
    taken = [line.partition(";")[0] for line in lines]
    ((found, _, message),) = found_in(columns, lines, taken=taken, size=(8, 12))
    assert found == code
    assert said in message


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ("role", ROLES),
        ("role", ["A01;sample", "A02;sample"]),  # a plate without controls
        ("compound", ["A01;DMSO", "A02;1234", "A03;taxol"]),
        ("barcode", ["A01;007", "A02;X12", "A03;12"]),
        ("dose (nM)", ["A01;1", "A02;", "A03;2.5"]),  # a well that was not treated
        ("a;b", ["A01;1;", "A02;;x"]),
    ],
)
def test_what_fits_is_not_found(columns: str, lines: list[str]) -> None:
    taken = [line.partition(";")[0] for line in lines]
    assert found_in(columns, lines, taken=taken, size=(8, 12)) == []


def test_a_platemap_of_another_plate_is_one_finding_and_no_list_of_wells() -> None:
    large = [f"{well};x" for well in plate_of(16, 24)]
    ((code, _, message),) = found_in("a", large, taken=plate_of(8, 12), size=(8, 12))
    assert code == "PLATEMAP_OTHER_SIZE"
    assert "16 x 24 wells; this plate has 8 x 12" in message
    small = [f"{well};x" for well in plate_of(8, 12)]
    codes = [code for code, *_ in found_in("a", small, taken=plate_of(16, 24), size=(16, 24))]
    assert codes == ["PLATEMAP_OTHER_SIZE", "PLATEMAP_ENTRY_MISSING"]
    # a part of a plate was filled, and imaged
    assert found_in("a", small, taken=plate_of(8, 12), size=(16, 24)) == []


def test_wells_are_counted_where_there_are_many() -> None:
    lines = [f"{well};x" for well in (*plate_of(8, 12)[:3], *plate_of(16, 24)[-40:])]
    (outside, bare) = found_in("a", lines, taken=plate_of(8, 12), size=(8, 12))
    assert (outside[0], bare[0]) == ("PLATEMAP_UNKNOWN_WELL", "PLATEMAP_ENTRY_MISSING")
    assert outside[2].endswith("and 28 more.")
    assert " A04, A05, A06," in bare[2]
    assert bare[2].endswith("B02, B03 and 81 more.")


def test_roles_are_what_the_column_says_and_nothing_else() -> None:
    wells = {"B01": ("positive",), "A01": ("DMSO",), "A02": ("",), "A03": ("EMPTY",)}
    platemap = Platemap(source="m", columns=("Role",), wells=wells)
    assert list(roles_of(platemap).items()) == [("A03", Role.EMPTY), ("B01", Role.POSITIVE)]
    assert roles_of(Platemap(source="m", columns=("kind",), wells=wells)) == {}


def csv_of(lines: list[list[str]]) -> str:
    return "".join(",".join(cells) + "\n" for cells in lines)


def workbook(path: Path, *sheets: tuple[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, lines in sheets:
        sheet = book.create_sheet(title)
        for line in lines:
            sheet.append(line)
    book.save(path)
    return path


def test_a_workbook_reads_as_the_same_table_of_text(tmp_path: Path) -> None:
    lines: list[list[Any]] = [
        ["Row", "Column", "Compound", "dose (µM)", "seeded", "fixed", None],
        ["A", 1, "DMSO", 0, datetime.date(2026, 3, 17), True, None],
        [2, 12, " drug ", 1.5, datetime.datetime(2026, 3, 17, 9, 30), None, None],
        [None] * 7,
    ]
    lines[1][0], lines[2][0] = 1, 2
    path = workbook(tmp_path / "map.xlsx", ("first", lines), ("notes", [["nothing"]]))
    platemap = read_platemap(path)
    assert platemap.columns == ("Compound", "dose (µM)", "seeded", "fixed")
    assert platemap.wells == {
        "A01": ("DMSO", "0", "2026-03-17", "TRUE"),
        "B12": ("drug", "1.5", "2026-03-17T09:30:00", ""),
    }
    assert platemap.units == {"dose (µM)": "µM"}
    with pytest.raises(PlateError, match=r"no column well.*nothing"):
        read_platemap(path, sheet="notes")
    with pytest.raises(PlateError, match="no sheet 'x'; it has first, notes"):
        read_platemap(path, sheet="x")


def test_a_formula_without_a_value_is_refused_with_its_cell(tmp_path: Path) -> None:
    path = workbook(tmp_path / "map.xlsx", ("a", [["well", "dose"], ["A01", 1], ["A02", "=B2*2"]]))
    with pytest.raises(PlateError, match=r"formula in B3 of which no value is stored.*save it"):
        read_platemap(path)
    for stored, dose in (("><f>B2*2</f><v>2</v>", "2"), (' t="str"><f>B2&amp;""</f><v></v>', "")):
        saved = tmp_path / "saved.xlsx"
        with zipfile.ZipFile(path) as there, zipfile.ZipFile(saved, "w") as archive:
            for name in there.namelist():
                part = there.read(name).decode()
                if name.endswith("sheet1.xml"):
                    part, found = re.subn(r"><f>B2\*2</f><v ?/>|><f>B2\*2</f><v></v>", stored, part)
                    assert found == 1
                archive.writestr(name, part)
        assert read_platemap(saved).wells == {"A01": ("1",), "A02": (dose,)}


def test_what_is_no_workbook_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"well,a\nA01,1\n")
    with pytest.raises(PlateError, match="no workbook"):
        read_platemap(tmp_path / "a.xlsx")
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("x.xml", "<a/>")
    with pytest.raises(PlateError, match="no workbook"):
        read_platemap(tmp_path / "b.xlsx")
    (tmp_path / "a.xls").write_bytes(b"x")
    with pytest.raises(PlateError, match=r"save it as \.xlsx or \.csv"):
        read_platemap(tmp_path / "a.xls")


def test_a_workbook_that_unpacks_to_gigabytes_is_refused_before(tmp_path: Path) -> None:
    path = workbook(tmp_path / "map.xlsx", ("s", [["well", "a"], ["A01", 1]]))
    packed = zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("xl/bomb.xml", "w") as part:
        for _ in range(260):
            part.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(PlateError, match="unpacks to more than 256 MB"):
        read_platemap(path)


SHEET = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'


@pytest.mark.parametrize(
    ("begin", "again", "times", "said"),
    [
        (SHEET + b"<sheetData><row>", b"<c><v>1</v></c>" * 1000, 5000, "200,000 cells"),
        (SHEET + b"<sheetData>", b"<row/>" * 1000, 5000, "200,000 cells"),
        (SHEET + b"<sheetData><row><c><v>", b"1" * 1_000_000, 100, "64 MB of text"),
        (SHEET[:-1] + b" ", b'a="1" ' * 1000, 5000, "a tag of more than 256 kB"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]>' + SHEET, b"&b;", 1, "declares the entity 'b'"),
    ],
    ids=["cells", "lines", "text", "attributes", "entities"],
)
@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"])
def test_a_workbook_that_would_take_minutes_is_refused_before(
    tmp_path: Path, part: str, begin: bytes, again: bytes, times: int, said: str
) -> None:
    whole = workbook(tmp_path / "whole.xlsx", ("s", [["well", "a"], ["A01", "x"]]))
    path = tmp_path / "map.xlsx"
    with (
        zipfile.ZipFile(whole) as there,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for entry in there.infolist():
            if entry.filename != part:
                archive.writestr(entry, there.read(entry))
        with archive.open(part, "w") as file:
            file.write(begin)
            for _ in range(times):
                file.write(again)
    with pytest.raises(PlateError, match=said):
        read_platemap(path)


def test_a_workbook_of_many_parts_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "map.xlsx", ("s", [["well", "a"], ["A01", 1]]))
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(10_001):
            archive.writestr(f"{number}", b"")
    with pytest.raises(PlateError, match="more than 10000 parts"):
        read_platemap(path)


def test_a_workbook_without_the_extra_names_it(tmp_path: Path) -> None:
    path = workbook(tmp_path / "map.xlsx", ("s", [["well", "a"], ["A01", 1]]))
    code = (
        "import sys; sys.modules['openpyxl'] = None\n"
        "from openhcs.plates import read_platemap\n"
        f"read_platemap({str(path)!r})"
    )
    words = [sys.executable, "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "pip install 'openhcs[xlsx]'" in result.stderr


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (("1", "-2", ""), (1, -2, None)),
        (("1", "2.5", "1e-3"), (1.0, 2.5, 0.001)),
        (("1", "007", "3"), ("1", "007", "3")),
        (("1", "high", ""), ("1", "high", None)),
        (("nan", "1", "2"), ("nan", "1", "2")),
        (("", "", ""), (None, None, None)),
        (("1" * 20, "1", "2"), ("1" * 20, "1", "2")),
    ],
)
def test_conditions_are_numbers_where_every_entry_is_one(
    texts: tuple[str, ...], values: tuple[object, ...]
) -> None:
    platemap = Platemap(
        source="m", columns=("a",), wells={w: (t,) for w, t in zip(WELLS, texts, strict=True)}
    )
    assert tuple(platemap.values("a").values()) == values
    assert [type(v) for v in platemap.values("a").values()] == [type(v) for v in values]


def test_controls_are_the_wells_of_a_named_column_and_value_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(csv_of(LINES))
    platemap = read_platemap(tmp_path / "m.csv")
    assert platemap.wells_where("Compound", "DMSO") == ("A01", "B01")
    assert platemap.wells_where("Compound", "DMSO", "taxol") == WELLS
    with pytest.raises(PlateError, match=r"no well with 'dmso' in the column 'Compound'.*'DMSO'"):
        platemap.wells_where("Compound", "dmso")
    with pytest.raises(PlateError, match="no column 'compound'; it has Compound"):
        platemap.wells_where("compound", "DMSO")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a platemap, and a run of its plate with it."""
    folder = tmp_path_factory.mktemp("platemap")
    truth = synthetic_plate(
        folder / "plate", wells=(*WELLS, "C01"), grid=(1, 1), size_px=64, z=1, seed=1
    )
    (folder / "m.csv").write_text(csv_of([*LINES, ["H12", "water", "3", "1", "z", "1"]]))
    platemap = read_platemap(folder / "m.csv")
    index = open_plate(truth.folder, cache=False, platemap=platemap)
    plan = compile_pipeline(Pipeline(Step(measure_image_quality)), index)
    assert run(plan, folder / "out", workers=1).completed
    return folder


def test_a_given_platemap_is_checked_against_the_plate(finished: Path) -> None:
    index = open_plate(finished / "plate", cache=False, platemap=read_platemap(finished / "m.csv"))
    found = {f.code: f.message for f in index.findings}
    assert found.keys() == {"PLATEMAP_ENTRY_MISSING"}
    assert "C01" in found["PLATEMAP_ENTRY_MISSING"]
    again = index.with_platemap(
        Platemap(source="n", columns=("a",), wells=dict.fromkeys(["A01", "P24"], ("1",)))
    )
    assert [f.code for f in again.findings] == ["PLATEMAP_UNKNOWN_WELL", "PLATEMAP_ENTRY_MISSING"]


def test_conditions_stand_in_the_table_of_wells_with_their_units(finished: Path) -> None:
    table = pq.read_table(finished / "out" / "wells.parquet")
    rows = {row["well"]: row for row in table.to_pylist()}
    assert set(rows) == {*WELLS, "C01"}
    assert [rows[well]["Compound"] for well in rows] == ["DMSO", "taxol", "DMSO", None]
    assert [rows[well]["dose (nM)"] for well in rows] == [0.0, 1.5, None, None]
    assert [rows[well]["barcode"] for well in rows] == ["007", "12", "3", None]
    assert rows["A01"]["outcome"] == "ok"
    assert rows["A01"]["platemap_outcome"] == "x"
    told = {field.name: field.metadata for field in table.schema if field.metadata}
    assert told["dose (nM)"] == {b"condition": b"dose (nM)", b"unit": b"nM"}
    assert told["platemap_outcome"] == {b"condition": b"outcome"}
    assert "DAPI" not in told


def test_statistics_take_controls_from_the_platemap(finished: Path) -> None:
    table = pq.read_table(finished / "out" / "wells.parquet")
    rows = {row["well"]: row for row in table.to_pylist()}
    platemap = read_platemap(finished / "m.csv")
    column = next(name for name in rows["A01"] if name.startswith("image_quality"))
    groups = [
        [rows[well][column] for well in platemap.wells_where("Compound", value) if well in rows]
        for value in ("taxol", "DMSO")
    ]
    assert list(map(len, groups)) == [1, 2]
    assert np.isnan(z_prime(*groups))  # too few wells


def test_a_run_remembers_its_platemap_and_the_report_shows_it(finished: Path) -> None:
    record = load_run(finished / "out")
    assert record.platemap is not None
    assert record.platemap.wells["A02"][0] == "taxol"
    (finished / "m.csv").rename(finished / "gone.csv")
    try:
        plan = record.plan()
        assert plan.index.platemap == record.platemap
    finally:
        (finished / "gone.csv").rename(finished / "m.csv")
    page = write_report(finished / "out").read_text("utf-8")
    data = json.loads(page[page.index('{"rows"') :].partition("</script>")[0])
    (dose,) = [m for m in data["measures"] if m["group"] == "Conditions" and "dose" in m["label"]]
    assert (dose["unit"], dose["values"]) == ("nM", [0.0, 1.5, None, None])
    assert data["wells"][1]["conditions"]["Compound"] == "taxol"
    assert "Compound" not in data["wells"][1]["words"]


def test_another_platemap_does_no_well_again(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("well,role\nA01,a\nA02,b\nB01,c\nC01,d\n")
    index = open_plate(finished / "plate", cache=False, platemap=read_platemap(tmp_path / "n.csv"))
    plan = compile_pipeline(Pipeline(Step(measure_image_quality)), index)
    out = tmp_path / "out"
    first = run(plan, out, workers=1)
    bare = compile_pipeline(
        Pipeline(Step(measure_image_quality)), open_plate(finished / "plate", cache=False)
    )
    second = run(bare, out, workers=1)
    assert first.completed
    assert all(well.reused for well in second.wells)
    assert "role" not in pq.read_table(out / "wells.parquet").column_names


def test_the_command_line_takes_a_platemap(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = str(finished / "plate")
    assert main(["inspect", plate, "--platemap", str(finished / "m.csv"), "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [f["code"] for f in findings] == ["PLATEMAP_ENTRY_MISSING"]
    assert main(["inspect", plate, "--platemap", str(tmp_path / "none.csv")]) == 2
    assert "none.csv" in capsys.readouterr().err
    (tmp_path / "bad.csv").write_text("well,a\nA01,1\nA1,2\n")
    assert main(["inspect", plate, "--platemap", str(tmp_path / "bad.csv")]) == 2
    assert "line 3" in capsys.readouterr().err
