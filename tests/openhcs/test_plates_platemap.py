from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from openhcs._errors import PlateError
from openhcs.plates import read_platemap
from openhcs.plates._findings import FindingLog
from openhcs.plates._platemap import check_platemap

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text",
    [
        "well,Compound,dose_um\nA01,DMSO,0\nB12,drug,1.5\n",
        "Well\tCompound\tdose_um\na1\tDMSO\t0\nB12\tdrug\t1.5\n",
        "row;column;Compound;dose_um\n1;1;DMSO;0\n2;12;drug;1.5\n",
        "\ufeffRow,Col,Compound,dose_um\r\nA,01,DMSO,0\r\nB,12,drug,1.5\r\n\r\n",
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
    ],
)
def test_damaged_tables_are_refused_with_their_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(PlateError, match=message):
        read_platemap(tmp_path / "map.csv")


def test_wells_that_do_not_match_are_found(tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("well,a\nA01,1\nP24,2\n")
    findings = FindingLog()
    check_platemap(read_platemap(tmp_path / "map.csv"), ["A01", "A02"], (8, 12), findings)
    assert [(f.code, f.message.rsplit(" ", 1)[1]) for f in findings.all()] == [
        ("PLATEMAP_UNKNOWN_WELL", "P24."),
        ("PLATEMAP_ENTRY_MISSING", "A02."),
    ]
