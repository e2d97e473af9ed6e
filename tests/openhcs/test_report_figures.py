"""Figures of a plate as PNG, each with the numbers in it as CSV."""

from __future__ import annotations

import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import imagecodecs
import pyarrow.parquet as pq
import pytest

from openhcs import run
from openhcs._errors import ResultFolderError
from openhcs.cli import main
from openhcs.functions import measure_image_quality, project_max
from openhcs.pipeline import Pipeline, Step
from openhcs.report import write_figures
from openhcs.testing import synthetic_plate
from polystore import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

WELLS = ("A01", "A02", "A03", "B01", "B02", "B12")
MEASURE = "image_quality_GFP_mean"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    synthetic_plate(folder / "plate", wells=WELLS, grid=(1, 1), z=1, size_px=64)
    roles = ("negative", "negative", "positive", "positive", "sample", "sample")
    lines = [f"{well},{role}" for well, role in zip(WELLS, roles, strict=True)]
    (folder / "map.csv").write_text("\n".join(["well,role", *lines]))
    pipeline = Pipeline(Step(measure_image_quality), Step(project_max, keep=True))
    with ThreadPoolExecutor(1) as executor:
        run(
            folder / "plate",
            pipeline,
            out=folder / "out",
            platemap=folder / "map.csv",
            executor=executor,
        )
    return folder / "out"


def rows_of(picture: Path) -> list[list[str]]:
    with picture.with_suffix(".csv").open(newline="") as file:
        return list(csv.reader(file))


def test_each_picture_has_its_numbers_beside_it(results: Path, tmp_path: Path) -> None:
    written = write_figures(results, tmp_path, measures=[MEASURE])
    heatmap, controls, wells = (
        tmp_path / "heatmap" / f"{MEASURE}.png",
        tmp_path / "controls" / f"{MEASURE}.png",
        tmp_path / "wells.png",
    )
    assert written == (heatmap, controls, wells)
    table = pq.read_table(results / "wells.parquet")
    means = dict(zip(table["well"].to_pylist(), table[MEASURE].to_pylist(), strict=True))
    (head, *body) = rows_of(heatmap)
    assert head == ["well", "row", "column", MEASURE]
    assert {well: float(value) for well, _, _, value in body} == means
    assert ["B12", "2", "12"] in [row[:3] for row in body]
    (_, *body) = rows_of(controls)
    assert [row[0] for row in body] == ["positive"] * 2 + ["negative"] * 2 + ["sample"] * 2
    for picture in (heatmap, controls):
        pixels = imagecodecs.png_decode(picture.read_bytes())
        assert len(set(map(tuple, pixels.reshape(-1, pixels.shape[-1]).tolist()))) > 10


def test_the_wells_lie_where_they_do_on_the_plate(results: Path, tmp_path: Path) -> None:
    write_figures(results, tmp_path, measures=[])
    canvas = imagecodecs.png_decode((tmp_path / "wells.png").read_bytes())
    (_, *rows) = rows_of(tmp_path / "wells.png")
    places = {well: tuple(map(int, place)) for well, *place in rows}
    assert set(places) == set(WELLS)
    assert places["B12"][0] == places["B01"][0] > places["A01"][0]
    assert places["B12"][1] > places["A03"][1] > places["A01"][1]
    for y, x, height, width in places.values():
        assert canvas[y : y + height, x : x + width].std() > 5
        canvas[y : y + height, x : x + width] = canvas[-1, -1]
    assert canvas.std() == 0


def test_every_number_has_a_figure_and_the_command_names_them(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(results), "--figures"]) == 0
    told = capsys.readouterr().out
    assert str(results / "figures" / "wells.png") in told
    names = {path.stem for path in (results / "figures" / "heatmap").glob("*.png")}
    assert names == {path.stem for path in (results / "figures" / "heatmap").glob("*.csv")}
    assert {MEASURE, "image_quality_DAPI_mean"} <= names


def test_what_cannot_be_drawn_is_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no number 'image_quality_GFP_meen'.*{MEASURE}"):
        write_figures(results, tmp_path, measures=["image_quality_GFP_meen"])
    with pytest.raises(ResultFolderError, match="holds no run"):
        write_figures(tmp_path, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultFolderError, match="figures could not be written into"):
        write_figures(results, tmp_path / "file", measures=[MEASURE])


def test_matplotlib_is_asked_for_by_name(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'openhcs\[figures\]'"):
        write_figures(results, tmp_path, measures=[MEASURE])
