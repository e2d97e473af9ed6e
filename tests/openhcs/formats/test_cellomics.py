from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from openhcs._errors import FormatNotRecognisedError
from openhcs.plates import open_plate
from openhcs.testing import FormatTests
from openhcs.testing.formats import Cellomics

if TYPE_CHECKING:
    from pathlib import Path


class TestCellomics(FormatTests):
    layout = Cellomics()
    ragged_plates = 15


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for value, name in enumerate(names):
        tifffile.imwrite(folder / name, np.arange(12, dtype=np.uint16).reshape(3, 4) + value)
    return folder


def test_fields_and_dyes_count_from_0(tmp_path: Path) -> None:
    index = open_plate(
        write(tmp_path / "p", "MFGTMP_P1_O24f00d0.TIF", "MFGTMP_P1_O24f10d2.tiff"), cache=False
    )
    assert index.wells == ("O24",)
    assert [(p.field, p.field_id, p.channel, p.channel_id) for p in index.select()] == [
        (0, "0", 0, "0"),
        (1, "10", 1, "2"),
    ]
    assert index.channel_names == ("dye 0", "dye 2")
    assert (index.rows, index.columns) == (16, 24)
    assert index.name == "MFGTMP_P1"


def test_dyes_may_have_more_digits(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "P_A01f00d9.TIF", "P_A01f00d10.TIF", "P_A01f100d10.TIF")
    index = open_plate(folder, cache=False)
    assert index.channel_names == ("dye 9", "dye 10")
    assert [plane.field_id for plane in index.select(channels=[1])] == ["0", "100"]


def test_files_that_are_no_tiff_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "P_A01f00d0.TIF")
    for name in ("P_A01f01d0.C01", "P_A02f00d0.C01"):
        (folder / name).write_bytes(b"\x10\x00\x00\x00zipped")
    index = open_plate(folder, cache=False, deep=True)
    (finding,) = [f for f in index.findings if f.code == "UNSUPPORTED_ENCODING"]
    assert "P_A01f01d0.C01, P_A02f00d0.C01" in finding.message
    assert finding.severity == "error"
    assert Counter(index.column("status").tolist()) == {"ok": 1, "unreadable": 2, "missing": 1}


def test_originals_beside_their_tiffs_are_left_out_and_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", "P_A01f00d0.TIF")
    (folder / "P_A01f00d0.C01").write_bytes(b"\x10\x00\x00\x00zipped")
    index = open_plate(folder, cache=False)
    assert Counter(f.code for f in index.findings)["ORIGINAL_SKIPPED"] == 1
    assert (index.files.planes, index.files.named, len(index)) == (1, 1, 1)


def test_scans_of_one_folder_stay_apart(tmp_path: Path) -> None:
    index = open_plate(write(tmp_path / "p", "S1_A01f00d0.TIF", "S2_A01f00d0.TIF"), cache=False)
    assert [(p.acquisition, p.path) for p in index.select()] == [
        (0, "S1_A01f00d0.TIF"),
        (1, "S2_A01f00d0.TIF"),
    ]


@pytest.mark.parametrize(
    "name", ["P_a01f00d0.TIF", "P_A99f00d0.TIF", "P_A01f0d0.TIF", "P_A01f00.TIF"]
)
def test_other_names_do_not_fit(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatNotRecognisedError, match=r"cellomics: no images named like"):
        open_plate(write(tmp_path / "p", name), cache=False)
