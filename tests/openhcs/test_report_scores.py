"""Scores of wells, and what their place on the plate does: of the report and its table."""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.openhcs.test_report import Row, fields, write_results

import openhcs
from openhcs import open_results
from openhcs._errors import ResultFolderError
from openhcs.cli import main
from openhcs.functions import b_score, measure_image_quality, percent_of_control, robust_z
from openhcs.pipeline import Pipeline, Step
from openhcs.plates import open_plate, parse_well, read_platemap, well_name
from openhcs.report import load_plate_view, write_report
from openhcs.testing import Condition, synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

LEVEL = "Mean_Intensity_MeanIntensity_GFP"
SIZE = (8, 12)
HITS = ("C05", "F09", "D07")
SAMPLES = np.s_[:, 1:-1]


def even(seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(1000, 40, SIZE)


def with_controls(plate: NDArray[np.float64]) -> tuple[NDArray[np.float64], dict[str, str]]:
    """Put positive controls, three times as high, in the last column, negative in the first."""
    lifted = plate.copy()
    lifted[:, -1] *= 3
    roles = {well_name(row, col): "sample" for row, col in np.ndindex(SIZE)}
    for row in range(SIZE[0]):
        roles[well_name(row, 0)], roles[well_name(row, SIZE[1] - 1)] = "negative", "positive"
    return lifted, roles


def rows_of(plate: NDArray[np.float64], **more: NDArray[np.float64]) -> list[Row]:
    counts = np.random.default_rng(9).poisson(300, plate.shape)
    return [
        {
            "well": well_name(row, col),
            "count": int(counts[row, col]),
            LEVEL: float(plate[row, col]),
            **{name: float(values[row, col]) for name, values in more.items()},
        }
        for row, col in np.ndindex(plate.shape)
    ]


def results(folder: Path, rows: Sequence[Row], roles: Mapping[str, str] | None = None) -> Path:
    told = None
    if roles is not None:
        cells = {well: [role] for well, role in roles.items()}
        told = {"source": "map.csv", "columns": ["role"], "wells": cells}
    plate = {"name": "p", "path": "/raw", "rows": SIZE[0], "columns": SIZE[1], "platemap": told}
    return write_results(folder / "r", rows, plate=plate, outcome="ok", wells={})


def page_of(folder: Path) -> str:
    """Write the report and give its text."""
    return html.unescape(write_report(folder).read_text("utf-8"))


def layout(page: str) -> list[str]:
    """Give the sentences on the edge, the rows and the columns."""
    return re.findall(r"<li>(.*?)</li>", page[page.index('id="layout"') :])[:3]


def far(page: str) -> list[list[str]]:
    """Give the wells that are said to stand out, by measure."""
    part = page[page.index('id="far"') : page.index("Samples with a robust z")]
    return [re.findall(r"#well=(\w+)", table) for table in re.split("<table|No sample", part)[1:]]


def scores_of(folder: Path, measure: str = LEVEL) -> dict[str, Any]:
    """Give the columns of the table of scores, of one measure, as plates or lists."""
    table = pq.read_table(folder / "scores.parquet").to_pydict()
    chosen = [i for i, name in enumerate(table["measure"]) if name == measure]
    return {name: [values[i] for i in chosen] for name, values in table.items()}


def as_plate(scores: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    plate = np.full(SIZE, math.nan)
    for well, value in zip(scores["well"], scores[name], strict=True):
        plate[parse_well(well)] = math.nan if value is None else value
    return plate


def test_every_well_is_scored_by_every_measure_in_a_table(tmp_path: Path) -> None:
    plate, roles = with_controls(even())
    folder = results(tmp_path, rows_of(plate), roles)
    write_report(folder)
    scores = scores_of(folder)
    controls = np.zeros(SIZE, bool)
    controls[:, [0, -1]] = True
    negative, positive = plate[:, 0], plate[:, -1]
    expected = {
        "value": plate,
        "robust_z": robust_z(plate, reference=plate[SAMPLES]),
        "robust_z_negative": robust_z(plate, reference=negative),
        "percent_of_control": percent_of_control(plate, positive=positive, negative=negative),
        "b_score": b_score(plate, controls=controls).scores,
    }
    for name, values in expected.items():
        assert as_plate(scores, name) == pytest.approx(values)
    assert dict(zip(scores["well"], scores["role"], strict=True)) == roles
    assert np.array_equal(as_plate(scores, "b_score_sparse") > 0, controls)
    assert set(pq.read_table(folder / "scores.parquet")["measure"].to_pylist()) == {LEVEL, "count"}
    assert open_results(folder).scores.num_rows == 2 * 96


def test_what_needs_no_controls_is_there_without_a_platemap(tmp_path: Path) -> None:
    folder = results(tmp_path, rows_of(even()))
    page = page_of(folder)
    scores = scores_of(folder)
    assert as_plate(scores, "robust_z") == pytest.approx(robust_z(even()))
    assert as_plate(scores, "b_score") == pytest.approx(b_score(even()).scores)
    assert set(scores["percent_of_control"]) == set(scores["robust_z_negative"]) == {None}
    assert set(scores["role"]) == {"sample"}
    assert len(layout(page)) == 3
    assert 'id="far"' not in page


def test_an_infinite_and_a_failed_well_are_missing_and_spoil_no_other(tmp_path: Path) -> None:
    plate, roles = with_controls(even())
    rows = rows_of(plate)
    rows[13][LEVEL] = math.inf  # B02, a sample
    rows[0][LEVEL] = -math.inf  # A01, a control
    rows[26] = {"well": "C03", "outcome": "failed", "error": "why"}
    folder = results(tmp_path, rows, roles)
    write_report(folder)
    scores = scores_of(folder)
    for name in ("robust_z", "robust_z_negative", "percent_of_control", "b_score", "value"):
        missing = [scores["well"][i] for i, value in enumerate(scores[name]) if value is None]
        assert missing == ["A01", "B02", "C03"]


def test_the_page_scores_as_the_table_does(tmp_path: Path) -> None:
    plate, roles = with_controls(even())
    folder = results(tmp_path, rows_of(plate), roles)
    write_report(folder)
    shown = next(
        m
        for m in fields((folder / "report.html").read_text("utf-8"))["measures"]
        if m["name"] == LEVEL
    )
    scores = scores_of(folder)
    assert shown["b"] == pytest.approx(scores["b_score"], abs=0.0051)
    assert shown["b_sparse"] == "columns 1, 12"
    assert set(shown["lines"]) == {"robust_z", "robust_z_negative", "percent_of_control"}
    for name, (at_0, at_1) in shown["lines"].items():
        drawn = [at_0 + value * (at_1 - at_0) for value in shown["values"]]
        assert drawn == pytest.approx(scores[name], rel=1e-3, abs=0.01)


def ring(plate: NDArray[np.float64]) -> NDArray[np.float64]:
    plate[[0, -1], :] *= 0.85
    plate[1:-1, [0, -1]] *= 0.85
    return plate


def slope(plate: NDArray[np.float64]) -> NDArray[np.float64]:
    return plate * np.linspace(0.85, 1.15, SIZE[1])


def fall(plate: NDArray[np.float64]) -> NDArray[np.float64]:
    return plate * np.linspace(1.15, 0.85, SIZE[0])[:, None]


@pytest.mark.parametrize(
    ("plant", "said", "flag"),
    [
        (ring, 0, "edge effect: the outer ring of wells differs in 1 of 2 measures"),
        (slope, 2, "trend from column to column in 1 of 2 measures"),
        (fall, 1, "trend from row to row in 1 of 2 measures"),
    ],
)
def test_a_planted_effect_of_the_place_is_said_and_no_other(
    tmp_path: Path, plant: Callable[[Any], Any], said: int, flag: str
) -> None:
    page = page_of(results(tmp_path, rows_of(plant(even()))))
    sentences = layout(page)
    assert (
        "in 1 of 2 measures, most in GFP mean intensity, mean (Intensity, GFP)" in (sentences[said])
    )
    for i, sentence in enumerate(sentences):
        assert sentence.startswith("No ") == (i != said)
    assert f"<td>{flag}" in page


@pytest.mark.parametrize("seed", range(5))
def test_of_an_even_plate_nothing_is_said(tmp_path: Path, seed: int) -> None:
    plate, roles = with_controls(even(seed))
    others = {f"Mean_Intensity_Feature{n}_GFP": even(100 * seed + n) for n in range(1, 30)}
    page = page_of(results(tmp_path, rows_of(plate, **others), roles))
    assert all(re.fullmatch(r"No .* in any of 31 measures\.", each) for each in layout(page))
    assert far(page) == [[], [], []]
    assert "Nothing: no plane or well stands out" in page


def test_controls_in_outer_columns_are_no_edge_effect(tmp_path: Path) -> None:
    plate, roles = with_controls(even())
    plate[:, 0] *= 2
    page = page_of(results(tmp_path, rows_of(plate), roles))
    assert layout(page)[0].startswith("No edge effect")
    assert "Of 80 samples, without 16 other wells" in page
    (tmp_path / "unknown").mkdir()
    assert "differs" in layout(page_of(results(tmp_path / "unknown", rows_of(plate))))[0]


def test_a_few_wells_have_no_layout(tmp_path: Path) -> None:
    rising = rows_of(slope(fall(even())[::-1]))[::13][:8]  # the diagonal
    folder = results(tmp_path, rising)
    page = page_of(folder)
    assert 'id="layout"' not in page
    assert "trend" not in page[page.index('id="look"') :]
    assert scores_of(folder)["well"] == [row["well"] for row in rising]
    assert None not in scores_of(folder)["robust_z"]


def test_hits_stand_out_of_a_slope_that_hides_them(tmp_path: Path) -> None:
    plate, roles = with_controls(even())
    for hit in HITS:
        plate[parse_well(hit)] *= 1.6
    plate *= np.linspace(0.6, 1.4, SIZE[1])
    page = page_of(results(tmp_path, rows_of(plate), roles))
    assert set(far(page)[0]) == set(HITS)
    assert far(page)[1] == []  # the number of objects
    robust = robust_z(plate, reference=plate[SAMPLES])
    assert max(abs(robust[parse_well(hit)]) for hit in HITS) < 5


def test_wells_with_few_objects_are_flagged_by_a_number_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plate, roles = with_controls(even())
    rows = rows_of(plate)
    rows[20]["count"], rows[40]["count"], rows[50]["count"] = 49, 50, 0
    rows[60]["count"] = 900
    folder = results(tmp_path, rows, roles)
    flags = {
        well.well: [flag.what for flag in well.flags]
        for well in load_plate_view(folder).wells
        if well.flags
    }
    few = "fewer than 50 objects: what is measured of them is uncertain"
    assert flags == {
        rows[20]["well"]: ["number of objects", few],
        rows[40]["well"]: ["number of objects"],
        rows[50]["well"]: ["no objects"],
        rows[60]["well"]: ["number of objects"],
    }
    page = page_of(folder)
    assert "Wells with fewer than 50 objects are flagged, and left in" in page
    assert page.index(few) < page.index('id="layout"') < page.index('id="assay"')
    assert "2 wells with fewer than 50 objects take part" in page
    scores = scores_of(folder)
    marked = {well for well, few in zip(scores["well"], scores["few_objects"], strict=True) if few}
    assert marked == {rows[20]["well"], rows[50]["well"]}

    assert main(["report", str(folder), "--fewest-objects", "51"]) == 0
    assert "fewer than 51 objects" in (folder / "report.html").read_text("utf-8")
    schema = pq.read_schema(folder / "scores.parquet")
    assert schema.field("few_objects").metadata == {b"fewest": b"51"}
    assert sum(scores_of(folder)["few_objects"]) == 3
    assert main(["report", str(folder), "--fewest-objects", "0"]) == 0
    assert "fewer than" not in page_of_written(folder)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["report", str(folder), "--fewest-objects", "few"])
    assert "'few' is not a whole number of at least 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="fewest_objects is -1"):
        write_report(folder, fewest_objects=-1)


def page_of_written(folder: Path) -> str:
    page = (folder / "report.html").read_text("utf-8")
    return page[page.index('id="look"') : page.index('id="layout"')]


def test_few_objects_in_most_wells_are_one_flag_of_the_plate(tmp_path: Path) -> None:
    rows = [{**row, "count": 10 + i % 3} for i, row in enumerate(rows_of(even()))]
    rows[0]["count"] = 60
    view = load_plate_view(results(tmp_path, rows))
    assert [flag.what for flag in view.flags] == [
        "fewer than 50 objects in 95 of 96 wells: what is measured of them is uncertain"
    ]


def test_results_without_a_report_say_how_to_get_scores(tmp_path: Path) -> None:
    folder = results(tmp_path, rows_of(even()), None)
    with pytest.raises(ResultFolderError, match="openhcs report"):
        _ = open_results(folder).scores


@pytest.mark.parametrize("kind", ["even", "edge", "gradient"])
def test_a_run_shows_what_was_planted(tmp_path: Path, kind: str) -> None:
    conditions = {}
    for row, col in np.ndindex(SIZE):
        name = well_name(row, col)
        effect = 3.0 if col == 11 or (kind != "even" and name in HITS) else 1.0
        conditions[name] = Condition(
            role="negative" if col == 0 else "positive" if col == 11 else "sample",
            compound="",
            dose_um=math.nan,
            effect=effect,
        )
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=tuple(conditions),
        platemap=conditions,
        grid=(1, 1),
        size_px=96,
        z=1,
        well_cv=0.04,
        edge_effect=0.3 if kind == "edge" else 0.0,
        gradient=(0.0, 0.8) if kind == "gradient" else (0.0, 0.0),
        cells_per_field=8,
        seed=4,
    )
    told = read_platemap(truth.folder.with_name("plate.truth") / "platemap.csv")
    index = open_plate(truth.folder, platemap=told)
    pipeline = Pipeline(Step(measure_image_quality))
    found = openhcs.run(index, pipeline, out=tmp_path / "out", workers=1)
    page = page_of(found.folder)
    edge, rows, columns = layout(page)
    assert edge.startswith("No ") == (kind != "edge")
    assert rows.startswith("No ")
    assert columns.startswith("No ") == (kind != "gradient")
    assert set(far(page)[0]) == (set() if kind == "even" else set(HITS))
