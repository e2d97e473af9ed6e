from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from openhcs._errors import ResultFolderError
from openhcs.execution import run
from openhcs.pipeline import compile_pipeline, default_pipeline
from openhcs.plates import open_plate, well_name
from openhcs.report import load_plate_view, plate_pictures, write_report
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Row = dict[str, Any]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two wells, of which the second has a plane that cannot be decoded."""
    folder = tmp_path_factory.mktemp("report")
    truth = synthetic_plate(
        folder / "plate",
        wells=("A01", "H12"),
        size_px=96,
        compression="deflate",
        z=1,
        seed=3,
    )
    place = truth.planes["path"][(truth.planes["well"] == "H12") & (truth.planes["channel"] == 1)][
        0
    ]
    damaged = truth.folder / place
    pixels = bytearray(damaged.read_bytes())
    middle = len(pixels) // 2
    pixels[middle : middle + 500] = b"\xff" * 500
    damaged.write_bytes(pixels)
    index = open_plate(truth.folder, cache=False)
    plan = compile_pipeline(default_pipeline(index), index)
    out = folder / "results"
    run(plan, out, workers=1)
    write_report(out)
    return out


def fields(page: str) -> dict[str, Any]:
    """What the page's script draws."""
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    values: dict[str, Any] = json.loads(match[1])
    return values


def write_results(
    folder: Path,
    rows: Sequence[Row],
    *,
    planes: Mapping[str, Sequence[Row]] | None = None,
    name: str = "plate",
    size: tuple[int, int] = (8, 12),
    **changes: object,
) -> Path:
    """Write the tables of a run without running it."""
    table = [
        {"row": 1, "column": 1, "outcome": "ok", "error": None, "seconds": 1.0, **row}
        for row in rows
    ]
    folder.mkdir(exist_ok=True)
    (folder / "image_quality").mkdir(exist_ok=True)
    names = dict.fromkeys(key for row in table for key in row)
    pq.write_table(
        pa.table({key: pa.array([row.get(key) for row in table]) for key in names}),
        folder / "wells.parquet",
    )
    for well, values in (planes or {}).items():
        pq.write_table(pa.Table.from_pylist(list(values)), folder / f"image_quality/{well}.parquet")
    document = {
        "run_id": "one",
        "started": "2026-05-04T10:00:00Z",
        "seconds": 75.0,
        "plate": {"name": name, "path": "/raw/plate", "rows": size[0], "columns": size[1]},
        "options": {"channels": ["DAPI", "GFP"], "fields": [0], "pixel_um": [0.65, 0.65]},
        "steps": [
            {
                "name": "measure_image_quality",
                "function": "measure_image_quality",
                "outputs": {"image_quality": "record"},
                "parameters": {},
                "seconds": 2.0,
            }
        ],
        "io_seconds": {"read": 1.0, "write": 1.0},
        "pipeline": "pipeline = Pipeline()\n",
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(document), "utf-8")
    return folder


def plane(well: str, **changes: object) -> Row:
    """A plane of one field and channel, like all others."""
    usual: Row = {
        "well": well,
        "t": 0,
        "field": 0,
        "channel": "DAPI",
        "z": 0,
        "saturated_fraction": 0.0,
        "focus_laplacian": 0.05 + 0.0001 * (sum(map(ord, well)) % 7),
        "background": 200.0,
        "constant": False,
        "empty": False,
        "content_hash": f"{well} {sorted(changes.items())}",
    }
    return {**usual, **changes}


def many(count: int, columns: int) -> list[Row]:
    """Wells of a plate with as many measures as the default pipeline gives."""
    rng = np.random.default_rng(1)
    features = [f"Median_Intensity_Feature{n}_GFP" for n in range(140)]
    values = rng.normal(500, 50, (count, len(features)))
    return [
        {
            "well": well_name(*divmod(number, columns)),
            "count": float(number),
            **dict(zip(features, row.tolist(), strict=True)),
        }
        for number, row in enumerate(values)
    ]


def test_the_page_shows_what_a_real_run_wrote(results: Path) -> None:
    view = load_plate_view(results)
    page = (results / "report.html").read_text("utf-8")
    shown = fields(page)
    assert [(well.well, well.outcome) for well in view.wells] == [
        ("A01", "ok"),
        ("H12", "failed"),
    ]
    assert [(well["row"], well["col"]) for well in shown["wells"]] == [(0, 0), (7, 11)]
    count = next(m for m in shown["measures"] if m["name"] == "count")
    table = {row["well"]: row for row in pq.read_table(results / "wells.parquet").to_pylist()}
    assert count["values"] == [table["A01"]["count"], None]
    assert shown["measures"][0] == count
    assert not {"row", "column"} & {m["name"] for m in shown["measures"]}
    assert [bool(well["image"]) for well in shown["wells"]] == [True, False]
    assert [channel["name"] for channel in shown["channels"]] == ["DAPI", "GFP"]
    for text in ("0.65 x 0.65 µm", "segment_nuclei", "1 failed", "DAPI, GFP", "2 of 96 wells"):
        assert text in page
    steps = json.loads((results / "run.json").read_text("utf-8"))["steps"]
    assert all(f"<td>{step['name']}</td>" in page for step in steps)


def test_a_failed_well_is_named_with_its_error_and_traceback(results: Path) -> None:
    page = (results / "report.html").read_text("utf-8")
    (failed,) = load_plate_view(results).failed
    assert failed.well == "H12"
    assert failed.error
    assert "Traceback" in failed.traceback
    assert failed.error in html.unescape(page)
    assert "What failed" in page


def test_measures_are_grouped_and_have_units(results: Path) -> None:
    measures = {measure.name: measure for measure in load_plate_view(results).measures}
    told = {
        name: (measures[name].group, measures[name].label, measures[name].unit)
        for name in (
            "count",
            "Median_AreaShape_Area_um2",
            "MAD_AreaShape_MajorAxisLength",
            "Mean_Intensity_MeanIntensity_GFP",
            "image_quality_DAPI_background",
            "image_quality_DAPI_saturated_fraction",
            "stitch_covered_fraction",
            "seconds",
        )
    }
    assert told == {
        "count": ("Objects", "number of objects", ""),
        "Median_AreaShape_Area_um2": ("Shape", "area, median", "µm²"),
        "MAD_AreaShape_MajorAxisLength": ("Shape", "major axis length, spread (MAD)", "px"),
        "Mean_Intensity_MeanIntensity_GFP": (
            "Intensity, GFP",
            "GFP mean intensity, mean",
            "counts",
        ),
        "image_quality_DAPI_background": ("Image quality, DAPI", "DAPI background", "counts"),
        "image_quality_DAPI_saturated_fraction": (
            "Image quality, DAPI",
            "DAPI saturated fraction",
            "",
        ),
        "stitch_covered_fraction": ("Stitching", "covered fraction", ""),
        "seconds": ("Run", "time spent", "s"),
    }


def test_pictures_are_comparable_and_of_bounded_size(results: Path) -> None:
    pictures = plate_pictures(results, ["A01", "H12", "C03"])
    assert set(pictures.wells) == {"A01"}
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in pictures.wells.values())
    assert all(low < high for _, _, low, high in pictures.channels)


def test_a_damaged_image_costs_its_picture_and_not_the_report(
    results: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    chunks = [path for path in (copy / "plate.zarr" / "A").rglob("c/**/*") if path.is_file()]
    assert chunks
    for chunk in chunks:
        chunk.write_bytes(b"no pixels")
    shown = fields(write_report(copy).read_text("utf-8"))
    assert [well["image"] for well in shown["wells"]] == [None, None]


def test_planes_that_stand_out_are_named(tmp_path: Path) -> None:
    wells = [well_name(0, column) for column in range(8)]
    planes = {well: [plane(well)] for well in wells}
    planes["A03"] = [plane("A03", focus_laplacian=0.001)]
    planes["A04"] = [plane("A04", saturated_fraction=0.2)]
    planes["A05"] = [plane("A05", empty=True)]
    planes["A06"] = [plane("A06", content_hash="the same")]
    planes["A07"] = [plane("A07", content_hash="the same")]
    rows: list[Row] = [{"well": well, "count": 100.0 + n} for n, well in enumerate(wells)]
    rows[7]["count"] = 900.0
    rows[0]["stitch_verdict"] = "partly"
    rows[1]["stitch_verdict"] = "aligned"
    view = load_plate_view(write_results(tmp_path / "r", rows, planes=planes))
    told = {well.well: [flag.what for flag in well.flags] for well in view.wells}
    assert told["A01"] == ["stitched partly"]
    assert told["A02"] == []
    assert told["A03"] == ["sharpness"]
    assert any(text.startswith("saturated") for text in told["A04"])
    assert told["A05"] == ["empty: nothing stands out from the background"]
    assert told["A07"] == ["the same pixels as A06, DAPI, field 0 z 0"]
    assert told["A08"] == ["number of objects"]
    (sharpness,) = view.wells[2].flags
    assert (sharpness.value, sharpness.channel, sharpness.where) == (0.001, "DAPI", "field 0 z 0")
    assert sharpness.median == pytest.approx(0.05, rel=0.02)
    assert sharpness.robust_z is not None
    assert sharpness.robust_z < -5


def test_constant_planes_are_named_and_are_no_copies(tmp_path: Path) -> None:
    wells = [well_name(0, column) for column in range(8)]
    planes = {well: [plane(well)] for well in wells}
    for well in ("A03", "A04"):
        planes[well] = [plane(well, constant=True, empty=True, content_hash="0" * 24)]
    rows: list[Row] = [{"well": well, "count": 100.0} for well in wells]
    view = load_plate_view(write_results(tmp_path / "r", rows, planes=planes))
    told = {well.well: [flag.what for flag in well.flags] for well in view.wells}
    assert told["A03"] == told["A04"] == ["constant: all pixels alike"]


def test_hashes_of_an_earlier_version_promise_no_more_than_they_hold(tmp_path: Path) -> None:
    wells = [well_name(0, column) for column in range(3)]
    planes = {well: [plane(well)] for well in wells}
    for well in ("A01", "A02"):
        planes[well] = [plane(well, content_hash="0123456789abcdef")]
    rows: list[Row] = [{"well": well, "count": 100.0} for well in wells]
    view = load_plate_view(write_results(tmp_path / "r", rows, planes=planes))
    assert [flag.what for flag in view.wells[1].flags] == [
        "the same in every 32nd row, by an earlier version, as A01, DAPI, field 0 z 0"
    ]


def test_even_plates_raise_no_flags_for_small_differences(tmp_path: Path) -> None:
    wells = [well_name(0, column) for column in range(8)]
    planes = {well: [plane(well)] for well in wells}
    planes["A03"] = [plane("A03", background=201.0)]
    rows = [{"well": well, "count": 1000.0 - 8 * (well == "A02")} for well in wells]
    view = load_plate_view(write_results(tmp_path / "r", rows, planes=planes))
    assert not view.flagged


def test_what_holds_for_all_wells_is_said_once(tmp_path: Path) -> None:
    wells = [well_name(0, column) for column in range(6)]
    rows: list[Row] = [
        {"well": well, "illumination_DAPI_confidence": "low", "illumination_DAPI_fields": 24}
        for well in wells
    ]
    planes = {well: [plane(well, empty=True)] for well in wells}
    steps = [
        {"name": "image", "function": "measure_image_quality", "outputs": {"image_quality": ""}},
        {"name": "light", "function": "f", "outputs": {}, "prepared": {"unread": ["a.tif: cut"]}},
    ]
    view = load_plate_view(write_results(tmp_path / "r", rows, planes=planes, steps=steps))
    assert not view.flagged
    assert [flag.what for flag in view.flags] == [
        "light learned without 1 of the planes, which cannot be read",
        "illumination estimated with low confidence from 24 fields, 50 or more are better",
        "empty: nothing stands out from the background (100% of the channel's planes)",
    ]


def test_an_illumination_that_could_not_be_learned_says_why(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"well": well, "illumination_DAPI_confidence": "none", "illumination_GFP_confidence": "low"}
        for well in ("A01", "A02")
    ]
    learned = {"channels": {"DAPI": {"why": "fewer than 10 fields"}, "GFP": {"why": "no dark"}}}
    step = {"name": "even", "function": "correct_illumination", "outputs": {}, "prepared": learned}
    view = load_plate_view(write_results(tmp_path / "r", rows, steps=[step]))
    assert [flag.what for flag in view.flags] == [
        "illumination not corrected; fewer than 10 fields",
        "illumination estimated with low confidence; no dark",
    ]


@pytest.mark.parametrize(("count", "size"), [(1, (8, 12)), (96, (8, 12)), (384, (16, 24))])
def test_plates_of_every_size_fit_on_a_page(
    tmp_path: Path, count: int, size: tuple[int, int]
) -> None:
    folder = write_results(tmp_path / "r", many(count, size[1]), size=size)
    page = write_report(folder)
    shown = fields(page.read_text("utf-8"))
    assert (shown["rows"], shown["columns"], len(shown["wells"])) == (*size, count)
    assert all(len(measure["values"]) == count for measure in shown["measures"])
    assert page.stat().st_size < 1_500_000


class _Outside(HTMLParser):
    """Collects what a page would fetch, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.sources += [
            value or ""
            for name, value in attrs
            if name in {"src", "href"} and not (value or "").startswith("#")
        ]


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"well": "A01", "outcome": "failed", "error": HOSTILE},
        {"well": "A02", f"{HOSTILE}": 1.0, "stitch_verdict": HOSTILE},
    ]
    folder = write_results(tmp_path / "r", rows, name=HOSTILE, notes=[HOSTILE], pipeline=HOSTILE)
    page = write_report(folder).read_text("utf-8")
    parser = _Outside()
    parser.feed(page)
    assert parser.scripts == 2
    assert parser.sources == []
    assert fields(page)["wells"][0]["error"] == HOSTILE
    assert "default-src 'none'" in page


def test_a_page_without_images_and_with_all_wells_failed(tmp_path: Path) -> None:
    rows = [{"well": well, "outcome": "failed", "error": "why"} for well in ("A01", "A02")]
    page = write_report(write_results(tmp_path / "r", rows)).read_text("utf-8")
    shown = fields(page)
    assert shown["measures"] == []
    assert "2 of 2 wells have no result: 2 failed." in page


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultFolderError, match="holds no run"):
        write_report(tmp_path)
