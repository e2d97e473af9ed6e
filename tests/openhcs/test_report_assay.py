"""What the report says of an assay: controls, replicates and doses that a platemap names."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.openhcs.test_report import HOSTILE, Row, write_results

from openhcs.cli import main
from openhcs.functions import ssmd, z_prime
from openhcs.plates import well_name
from openhcs.report import write_report
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COLUMNS = ("role", "compound", "dose (nM)")
HALF_NM = {"taxol": 200.0, "drug": 2000.0}


def assay_rows(*, controls: int = 4, seed: int = 0) -> tuple[list[Row], dict[str, list[str]]]:
    """Controls in the outer columns, and two compounds of ten doses, twice each."""
    values = np.random.default_rng(seed)
    wells: dict[str, list[str]] = {}
    rows: list[Row] = []

    def add(row: int, col: int, cells: list[str], effect: float) -> None:
        wells[well_name(row, col)] = cells
        level = 100 * effect * (1 + 0.03 * values.normal())
        rows.append(
            {
                "well": well_name(row, col),
                "count": int(200 + 10 * values.normal()),
                "Mean_Intensity_MeanIntensity_GFP": level,
                "Median_Intensity_MeanIntensity_GFP": level * (0.9 + 0.05 * values.normal()),
                "seconds": 1.0 + col,
            }
        )

    for row in range(controls):
        add(row, 0, ["negative", "DMSO", ""], 1.0)
        add(row, 11, ["positive", "known", "10000"], 3.0)
    for row in range(4):
        for col in range(1, 11):
            compound = ("taxol", "drug")[row // 2]
            dose = 10.0 * 2.5 ** (col - 1)
            effect = 1 + 2 / (1 + HALF_NM[compound] / dose)
            add(row, col, ["sample", compound, f"{dose:.6g}"], effect)
    return rows, wells


def page_of(
    folder: Path,
    rows: Sequence[Row],
    wells: Mapping[str, Sequence[str]] | None,
    columns: Sequence[str] = COLUMNS,
) -> str:
    told = None
    if wells is not None:
        cells = {well: list(each) for well, each in wells.items()}
        told = {"source": "map.csv", "columns": list(columns), "wells": cells}
    plate = {"name": "p", "path": "/raw", "rows": 8, "columns": 12, "platemap": told}
    return write_report(write_results(folder / "r", rows, plate=plate)).read_text("utf-8")


def tables(page: str, start: str) -> list[list[list[str]]]:
    """Give the cells of the tables from a heading on."""
    found = re.findall(r"<table.*?</table>", page[page.index(start) :], re.DOTALL)
    return [
        [
            [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall("<td.*?</td>", row)]
            for row in re.findall(r"<tr>(?=<td).*?</tr>", table, re.DOTALL)
        ]
        for table in found
    ]


def test_controls_are_compared_by_every_measure_and_the_clearest_comes_first(
    tmp_path: Path,
) -> None:
    rows, wells = assay_rows()
    page = page_of(tmp_path, rows, wells)
    assert "4 positive and 4 negative controls;\n2 of 3 measures separate them well" in page
    table = tables(page, 'id="assay"')[0]
    assert [row[0] for row in table][-1] == "number of objects"  # and not the time spent
    for row, name in zip(
        sorted(table[:2]),
        ("Mean_Intensity_MeanIntensity_GFP", "Median_Intensity_MeanIntensity_GFP"),
        strict=True,
    ):
        high, low = (
            [each[name] for each in rows if wells[each["well"]][0] == role]
            for role in ("positive", "negative")
        )
        assert row[2] == f"{z_prime(high, low):.2f}"
        assert row[3] == f"{z_prime(high, low, robust=True):.2f}"
        assert row[4] == f"{ssmd(high, low):+.1f}"
        assert float(row[5]) == pytest.approx(np.mean(low), rel=1e-3)
        assert float(row[7]) > 0.9  # replicates
    assert float(table[0][2]) >= float(table[1][2])


def test_half_doses_are_found_in_the_unit_of_the_platemap(tmp_path: Path) -> None:
    rows, wells = assay_rows()
    page = page_of(tmp_path, rows, wells)
    assert "2 of 2 compounds have a curve that may be believed, over dose (nM)" in page
    first = tables(page, 'id="doses"')[0]
    assert [row[:3] for row in first] == [["taxol", "fitted", "20"], ["drug", "fitted", "20"]]
    for compound, _, _, half, interval, *_ in first:
        assert float(half) == pytest.approx(HALF_NM[compound] / 1000, rel=0.2)
        low, high = map(float, interval.split(" to "))
        assert low < float(half) < high
    assert page.count("<polyline") == 2 * page.count("over dose (nM)")
    picture = re.search(r"<svg viewBox.*?</svg>", page[page.index('id="doses"') :], re.DOTALL)
    assert picture is not None
    assert picture[0].count("<circle") == 20 + 4  # with the negative controls


@pytest.mark.parametrize(
    ("column", "factor"), [("dose_um", 1e-3), ("Dose [mol/l]", 1e-9), ("conc (pM)", 1e3)]
)
def test_doses_are_known_by_their_unit(tmp_path: Path, column: str, factor: float) -> None:
    rows, wells = assay_rows()
    for cells in wells.values():
        cells[2] = f"{float(cells[2]) * factor:.6g}" if cells[2] else ""
    page = page_of(tmp_path, rows, wells, ("role", "Drug", column))
    (half, *_) = [row[3] for row in tables(page, 'id="doses"')[0]]
    assert float(half) == pytest.approx(0.2, rel=0.2)


def test_failed_wells_take_no_part(tmp_path: Path) -> None:
    rows, wells = assay_rows()
    lost = [row for row in rows if wells[row["well"]][0] == "positive"][:2]
    for row in lost:
        row |= {"outcome": "failed", "error": "why", "count": None}
    page = page_of(tmp_path, rows, wells)
    assert "2 positive and 4 negative controls have a result; three of each are needed" in page


def test_nothing_is_said_where_the_platemap_says_nothing(tmp_path: Path) -> None:
    rows, wells = assay_rows()
    for told, columns in (
        (None, COLUMNS),
        ({well: [well] for well in wells}, ("barcode",)),
        ({well: ["negative", "DMSO", ""] for well in ("G01", "G02")}, COLUMNS),
    ):
        page = page_of(tmp_path, rows, told, columns)
        assert 'id="assay"' not in page
        assert 'id="doses"' not in page


def test_replicates_are_compared_without_controls(tmp_path: Path) -> None:
    rows, wells = assay_rows(controls=0)
    page = page_of(tmp_path, rows, wells)
    assert "20 conditions have up to 2 replicates; the platemap names no controls" in page
    assert all(len(row) == 3 for row in tables(page, 'id="assay"')[0])


def test_names_of_compounds_stay_text(tmp_path: Path) -> None:
    rows, wells = assay_rows()
    for cells in wells.values():
        cells[1] = HOSTILE if cells[1] == "taxol" else cells[1]
    page = page_of(tmp_path, rows, wells)
    assert page.count("<script") == 2
    assert tables(page, 'id="doses"')[0][0][0] == HOSTILE


def test_a_run_with_a_platemap_reports_its_assay(tmp_path: Path) -> None:
    wells = [f"{row}{col}" for row in "ABC" for col in ("01", "12")]
    truth = synthetic_plate(tmp_path / "plate", wells=wells, grid=(1, 1), size_px=96, z=1, seed=2)
    steps = "Pipeline(Step(measure_image_quality))"
    (tmp_path / "p.py").write_text(
        "from openhcs import Pipeline, Step\n"
        f"from openhcs.functions import measure_image_quality\n\npipeline = {steps}\n"
    )
    out = tmp_path / "out"
    platemap = truth.folder.with_name("plate.truth") / "platemap.csv"
    words = ["run", truth.folder, tmp_path / "p.py", "--platemap", platemap, "--out", out]
    assert main([*map(str, words), "--workers", "1"]) == 0
    page = (out / "report.html").read_text("utf-8")
    assert "3 positive and 3 negative controls" in page
    rows = {row[0]: row for table in tables(page, 'id="assay"') for row in table if row}
    *_, low, high = rows["GFP p99 (counts)"]
    assert float(high) > 1.5 * float(low)  # which is what the effect acts on
