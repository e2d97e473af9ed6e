"""What lies in a result folder, read back as a user would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest

from openhcs import compile_pipeline, default_pipeline, open_plate
from openhcs.execution import run
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image

if TYPE_CHECKING:
    from pathlib import Path

WELLS = ("A01", "C04")
CHANNELS = {"DAPI", "GFP"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the default pipeline on two small wells."""
    folder = tmp_path_factory.mktemp("results")
    synthetic_plate(folder / "plate", wells=WELLS, size_px=96, z=1)
    index = open_plate(folder / "plate", cache=False)
    plan = compile_pipeline(default_pipeline(index), index)
    assert run(plan, folder / "out", workers=1).completed
    return folder / "out"


def test_the_images_of_a_run_are_a_plate_for_another_run(results: Path, tmp_path: Path) -> None:
    for folder in (results, results / "plate.zarr"):
        index = open_plate(folder, cache=False)
        assert (index.format, index.format_version) == ("ome-zarr", "0.5")
        assert index.wells == WELLS
        assert set(index.channel_names) == CHANNELS
        assert index.files.named == 0  # tables and records beside the images are known
        assert not index.findings
    for plane in index:
        stored = open_image(results / "plate.zarr", plane.well, plane.field_id)
        np.testing.assert_array_equal(index.read(plane), stored.read(c=plane.channel))
    again = run(compile_pipeline(default_pipeline(index), index), tmp_path / "out", workers=1)
    assert again.completed


@pytest.mark.parametrize(
    "table", ["objects", "tiles", "stitch", "stitch_pairs", "image_quality", "illumination"]
)
def test_rows_of_a_table_name_their_well_and_channel_in_full(results: Path, table: str) -> None:
    for well in WELLS:
        rows = pq.read_table(results / table / f"{well}.parquet").to_pydict()
        assert set(rows["well"]) == {well}
        if "channel" in rows:
            assert set(rows["channel"]) <= CHANNELS
