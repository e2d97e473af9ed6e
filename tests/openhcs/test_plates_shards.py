"""One well of an index is read without the others."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from openhcs._errors import PlateError
from openhcs.plates import IndexShards, PlateIndex, open_plate, write_shards
from openhcs.plates._rows import Row, columns_of
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PlateIndex:
    folder = tmp_path_factory.mktemp("shards") / "plate"
    synthetic_plate(
        folder,
        wells=("H12", "A01", "B03"),
        grid=(1, 2),
        z=2,
        size_px=32,
        faults=("missing-plane",),
        seed=1,
    )
    return open_plate(folder, cache=False)


def shards(index: PlateIndex, folder: Path) -> IndexShards:
    folder.mkdir()
    write_shards(index, folder)
    return IndexShards(folder)


def test_a_well_has_its_rows_and_all_wells_have_all(index: PlateIndex, tmp_path: Path) -> None:
    stored = shards(index, tmp_path / "index")
    assert set(stored.wells) == set(index.wells)
    for well in index.wells:
        rows = index.select(wells=[well], kind=None, status=None)
        assert str(list(stored.well(well))) == str(list(rows))
        for plane in stored.well(well).select():
            np.testing.assert_array_equal(stored.well(well).read(plane), index.read(plane))
    assert sorted(map(str, stored.whole())) == sorted(map(str, index))
    assert len(stored.well("C07")) == 0
    assert stored.whole().facts.findings == ()


def test_an_index_without_rows_is_stored_too(index: PlateIndex, tmp_path: Path) -> None:
    stored = shards(index.select(wells=[]), tmp_path / "index")
    assert stored.wells == ()
    assert len(stored.whole()) == 0


def test_names_that_are_no_unicode_survive(index: PlateIndex, tmp_path: Path) -> None:
    name = b"caf\xe9.tif".decode("utf-8", "surrogateescape")
    rows = [Row(well="A01", row=0, col=0, path=name), Row(well="A02", row=0, col=1)]
    stored = shards(PlateIndex(index.facts, columns_of(rows)), tmp_path / "index")
    assert [plane.path for plane in stored.well("A01")] == [name]
    assert [plane.path for plane in stored.well("A02")] == [None]


def test_memory_follows_the_well_and_not_the_plate(index: PlateIndex, tmp_path: Path) -> None:
    peaks = {}
    for wells in (4, 400):
        rows = [
            Row(well=f"{chr(65 + n // 24)}{n % 24 + 1:02d}", row=n // 24, col=n % 24, z=z,
                path=f"Images/a-rather-long-name-of-a-file-r{n:03d}p{z:03d}.tiff")
            for n in range(wells)
            for z in range(50)
        ]  # fmt: skip
        stored = shards(PlateIndex(index.facts, columns_of(rows)), tmp_path / str(wells))
        stored.well("A01")  # what is imported on first use is not counted
        tracemalloc.start()
        assert len(stored.well("A02")) == 50
        peaks[wells] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[400] < 1.1 * peaks[4]


def test_what_is_no_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="is no index of a plate"):
        IndexShards(tmp_path)


def test_a_damaged_column_is_named(index: PlateIndex, tmp_path: Path) -> None:
    stored = shards(index, tmp_path / "index")
    (tmp_path / "index" / "field.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(PlateError, match="cannot be read"):
        stored.well("A01")
    np.save(tmp_path / "index" / "field.npy", np.zeros(1, np.int32))
    with pytest.raises(PlateError, match="field is damaged"):
        stored.well("H12")
