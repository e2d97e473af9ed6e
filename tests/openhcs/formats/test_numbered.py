from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from openhcs.plates import open_plate
from openhcs.testing import FormatTests, decode_stamp, synthetic_plate
from openhcs.testing.formats import NumberedChannels

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.testing import PlateTruth
    from openhcs.testing.formats import Layout


class TestNumberedChannels(FormatTests):
    layout = NumberedChannels()
    ragged_plates = 15

    def plate(self, folder: Path, layout: Layout | None = None, **changes: Any) -> PlateTruth:
        """Make four wells: one image in each channel of two wells leaves none to compare with."""
        few: dict[str, Any] = {"wells": ("A01", "A02", "B03", "C12")}
        return super().plate(folder, layout, **few | changes)


def small(folder: Path, name: str, value: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / name, np.arange(12, dtype=np.uint8).reshape(3, 4) + value)


def test_the_table_is_the_platemap(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p",
        format="numbered-channels",
        wells=("A01", "B02"),
        size_px=32,
        grid=(1, 1),
        z=1,
    )
    index = open_plate(truth.folder, cache=False)
    assert index.platemap is not None
    assert index.platemap.columns == ("Compound", "Dose (µM)")
    assert set(index.platemap.wells) == {"A01", "B02"}
    condition = truth.spec.condition("B02")
    assert index.platemap.wells["B02"][0] == condition.compound
    assert index.name == "p"


def test_without_a_table_numbers_run_row_by_row(tmp_path: Path) -> None:
    layout = NumberedChannels(table=False)
    truth = synthetic_plate(
        tmp_path / "p",
        format=layout,
        wells=("A01", "A02", "B01", "C12"),
        size_px=32,
        grid=(1, 1),
        z=1,
        stamp=True,
        faults=("swapped-label",),
    )
    index = open_plate(truth.folder, cache=False)
    odd = [f for f in index.findings if f.code == "LABEL_MISMATCH"]
    assert {f.path for f in odd} == {fault.path for fault in truth.faults}
    assert len(odd) == 2
    for plane in index:
        assert decode_stamp(index.read(plane)).key.well == plane.well


def test_a_number_that_means_two_wells_is_found_in_both(tmp_path: Path) -> None:
    for name in ("Channel1-01-A-01.tif", "Channel1-02-A-02.tif", "Channel2-01-A-02.tif"):
        small(tmp_path / "p", name)
    index = open_plate(tmp_path / "p", cache=False)
    odd = sorted(str(f.path) for f in index.findings if f.code == "LABEL_MISMATCH")
    assert odd == ["Channel1-01-A-01.tif", "Channel2-01-A-02.tif"]


def test_several_images_of_a_well_are_its_fields(tmp_path: Path) -> None:
    for number, well in ((1, "A-01"), (2, "A-01"), (3, "A-02"), (4, "A-02")):
        small(tmp_path / "p", f"Channel1-{number:02d}-{well}.tif", number)
    (tmp_path / "p" / "x_Metadata.csv").write_text(
        "ImageNumber,Column,Row,dose\n1,1,A,5\n2,1,A,5\n3,2,A,7\n4,2,A,8\n"
    )
    index = open_plate(tmp_path / "p", cache=False)
    assert [(p.well, p.field, p.field_id) for p in index] == [
        ("A01", 0, "1"),
        ("A01", 1, "2"),
        ("A02", 0, "3"),
        ("A02", 1, "4"),
    ]
    (finding,) = [f for f in index.findings if f.code == "METADATA_CONFLICT"]
    assert "A02" in finding.message
    assert index.platemap is not None
    assert index.platemap.wells == {"A01": ("5",), "A02": ("7",)}


def test_images_that_the_table_lists_are_expected(tmp_path: Path) -> None:
    small(tmp_path / "p", "Channel1-01-A-01.tif")
    (tmp_path / "p" / "x_Metadata.csv").write_text("ImageNumber,Column,Row\n1,1,1\n2,2,1\n")
    index = open_plate(tmp_path / "p", cache=False)
    (missing,) = index.select(status="missing")
    assert (missing.well, missing.path) == ("A02", "Channel1-02-A-02.tif")
    assert Counter(f.code for f in index.findings)["MISSING_PLANE"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ImageNumber,Row\n1,1\n", "no column column"),
        ("ImageNumber,Column,Row\n1,1\n", "line 2 has 2 values"),
        ("ImageNumber,Column,Row\nx,1,1\n", "line 2 has 'x'"),
        ("ImageNumber,Column,Row\n1,1,Q9\n", "line 2"),
        ("ImageNumber,Column,Row\n1,1,1\n1,2,1\n", "line 3"),
        ("", "no column"),
    ],
)
def test_a_damaged_table_is_a_finding_and_names_stand_in(
    tmp_path: Path, text: str, said: str
) -> None:
    small(tmp_path / "p", "Channel1-01-A-01.tif")
    (tmp_path / "p" / "x_Metadata.csv").write_text(text)
    index = open_plate(tmp_path / "p", cache=False)
    (finding,) = [f for f in index.findings if f.code == "METADATA_UNREADABLE"]
    assert said in finding.message
    assert index.wells == ("A01",)
    assert index.files.metadata == 1
