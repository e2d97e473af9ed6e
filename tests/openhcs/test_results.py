"""What lies in a result folder, read back as a user would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from openhcs import compile_pipeline, default_pipeline, open_plate, run
from openhcs.testing import synthetic_plate

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


@pytest.mark.parametrize(
    "table", ["objects", "tiles", "stitch", "stitch_pairs", "image_quality", "illumination"]
)
def test_rows_of_a_table_name_their_well_and_channel_in_full(results: Path, table: str) -> None:
    for well in WELLS:
        rows = pq.read_table(results / table / f"{well}.parquet").to_pydict()
        assert set(rows["well"]) == {well}
        if "channel" in rows:
            assert set(rows["channel"]) <= CHANNELS
