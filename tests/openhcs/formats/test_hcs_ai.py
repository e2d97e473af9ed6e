from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from openhcs._errors import PlateError
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import FormatTests, PlateTruth, synthetic_plate
from openhcs.testing.formats import HcsAi, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from openhcs.testing import FaultKind


class TestHcsAi(FormatTests):
    layout = HcsAi()
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "corrupt-metadata": frozenset({"PIXEL_SIZE_MISSING"})  # of one of the two protocols
    }


class TestHcsAiOfOneTable(FormatTests):
    layout = HcsAi(tables=1, extras=False)
    consequences = TestHcsAi.consequences


def make(folder: Path, layout: Layout | None = None, **changes: Any) -> PlateTruth:
    small: dict[str, Any] = {"wells": ("A01", "C02"), "grid": (1, 2), "z": 2}
    small |= {"size_px": 48, "cells_per_field": 1}
    return synthetic_plate(folder / "p", format=layout or HcsAi(), **small | changes)


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings if finding.severity != "info")


def edit_protocol(truth: PlateTruth, change: Callable[[dict[str, Any]], object]) -> None:
    path = truth.folder / "experiment" / "p.jdce"
    protocol = json.loads(path.read_text("utf-8"))
    change(protocol["ImageStack"])
    path.write_text(json.dumps(protocol), "utf-8")


def edit_table(truth: PlateTruth, change: Callable[[str], str]) -> None:
    path = truth.folder / "experiment" / "image_metadata_0.csv"
    path.write_bytes(change(path.read_bytes().decode()).encode())


def test_single_planes_beside_stacks_and_projections_are_planes(tmp_path: Path) -> None:
    truth = make(tmp_path, projections=True, single_plane=("GFP",))
    index = open_plate(truth.folder, cache=False)
    kinds = Counter(
        zip(index.column("channel").tolist(), index.column("kind").tolist(), strict=True)
    )
    assert kinds == {(0, "plane"): 8, (0, "unknown-projection"): 4, (1, "plane"): 4}
    assert (truth.folder / "experiment_z_stack").is_dir()
    assert not codes(index)


def test_numbers_of_wavelengths_are_those_of_the_protocol(tmp_path: Path) -> None:
    index = open_plate(make(tmp_path, channels=("DAPI", "GFP", "CY5")).folder, cache=False)
    assert index.channel_names == ("DAPI", "GFP", "CY5")
    assert set(index.select(channels=[2]).column("channel_id")) == {"6"}
    assert set(index.select(channels=[2]).column("emission_nm")) == {692.0}
    assert set(index.select(channels=[2]).column("exposure_s")) == {0.035}


def test_focus_is_that_of_the_stage_where_the_step_is_unknown(tmp_path: Path) -> None:
    truth = make(tmp_path)
    edit_protocol(
        truth,
        lambda stack: stack["AutoLeadAcquisitionProtocol"]["PlateMap"][
            "ZDimensionParameters"
        ].update(Step=0),
    )
    assert np.isnan(open_plate(truth.folder, cache=False).column("z_um")).all()
    for table in truth.folder.glob("experiment/*.csv"):
        lines = table.read_text().splitlines()
        moved = [
            line.replace("4211.500", "4214.500") if "_z1.tif" in line else line for line in lines
        ]
        table.write_text("\n".join(moved))
    index = open_plate(truth.folder, cache=False)
    assert set(index.select(z=[0]).column("z_um")) == {4211.5}
    assert set(index.select(z=[1]).column("z_um")) == {4214.5}


def test_an_acquisition_that_was_stopped_is_named(tmp_path: Path) -> None:
    truth = make(tmp_path, HcsAi(complete=False))
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"PARTIAL_ACQUISITION": 1}


def test_time_points_that_were_planned_and_not_taken_are_named(tmp_path: Path) -> None:
    truth = make(tmp_path)
    edit_protocol(
        truth,
        lambda stack: stack["AutoLeadAcquisitionProtocol"]["PlateMap"]["TimeSchedule"].update(
            NumberOfTimepoints=9
        ),
    )
    (finding,) = [f for f in open_plate(truth.folder, cache=False).findings if f.severity != "info"]
    assert finding.message == "The protocol names 9 time points; there are 1."


def test_a_table_that_is_not_there_costs_what_it_says_and_no_image(tmp_path: Path) -> None:
    truth = make(tmp_path)
    (truth.folder / "experiment" / "image_metadata_1.csv").unlink()
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"METADATA_UNREADABLE": 1, "POSITION_MISSING": 1}
    assert len(index.select()) == 2 * 2 * 2 * 2
    assert not np.isnan(index.select(wells=["A01"]).column("x_um")).any()


def test_a_table_that_is_cut_short_costs_no_image(tmp_path: Path) -> None:
    truth = make(tmp_path, HcsAi(tables=1))
    edit_table(truth, lambda text: text[: len(text) * 7 // 10])
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"METADATA_UNREADABLE": 1, "POSITION_MISSING": 1}
    assert len(index.select()) == 2 * 2 * 2 * 2


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (",0,0,0,0,0,0,48", ",x,0,0,0,0,0,48", {"METADATA_UNREADABLE": 1, "POSITION_MISSING": 1}),
        ("ImageFileName", "Image", {"METADATA_UNREADABLE": 1, "POSITION_MISSING": 1}),
        (",timepoint0,", ",C:/data,", {"PATH_ESCAPE": 1, "UNLISTED_FILE": 1}),
        ("_A01_s0_w0_z0", "_A01_S0_W0_Z0", {"NAME_CASE": 1}),
        (
            "A - 1,1,1,0,0,0,0",
            "A - 1,1,1,1,0,0,0",
            {"LABEL_MISMATCH": 1, "DUPLICATE_KEY": 1},
        ),
    ],
)
def test_a_wrong_entry_is_a_finding(
    tmp_path: Path, old: str, new: str, found: dict[str, int]
) -> None:
    truth = make(tmp_path)

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    edit_table(truth, change)
    assert codes(open_plate(truth.folder, cache=False)) == found


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1, 2]", b'{"ImageStack": 3}', b"[" * 100_000, b'"\xff"']
)
def test_a_protocol_that_is_none_is_named_and_the_tables_are_read(
    tmp_path: Path, text: bytes
) -> None:
    truth = make(tmp_path)
    (truth.folder / "experiment" / "p.jdce").write_bytes(text)
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"METADATA_UNREADABLE": 1, "PIXEL_SIZE_MISSING": 1}
    assert index.channel_names == ("DAPI", "GFP")
    assert not np.isnan(index.column("x_um")).any()


def test_a_protocol_may_have_a_byte_order_mark_and_one_wavelength_outside_a_list(
    tmp_path: Path,
) -> None:
    truth = make(tmp_path, channels=("GFP",))
    path = truth.folder / "experiment" / "p.jdce"
    protocol = json.loads(path.read_text("utf-8"))
    lead = protocol["ImageStack"]["AutoLeadAcquisitionProtocol"]
    lead["Wavelengths"] = lead["Wavelengths"][0]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(protocol).encode())
    index = open_plate(truth.folder, cache=False)
    assert set(index.column("emission_nm")) == {536.0}


def test_two_experiments_side_by_side_are_refused(tmp_path: Path) -> None:
    truth = make(tmp_path)
    other = truth.folder / "experiment_again"
    other.mkdir()
    for file in (truth.folder / "experiment").glob("*.*"):
        (other / file.name).write_bytes(file.read_bytes())
    with pytest.raises(PlateError, match="2 experiments side by side"):
        open_plate(truth.folder, cache=False)


def test_an_acquisition_without_images_is_refused(tmp_path: Path) -> None:
    truth = make(tmp_path)
    for path in truth.folder.rglob("*.tif"):
        path.unlink()
    with pytest.raises(PlateError, match="none is there"):
        open_plate(truth.folder, cache=False)
    for path in truth.folder.rglob("*.csv"):
        path.unlink()
    with pytest.raises(PlateError, match="no table that lists an image"):
        open_plate(truth.folder, cache=False)


def test_what_is_no_plane_is_left_out_and_told(tmp_path: Path) -> None:
    index = open_plate(make(tmp_path).folder, cache=False)
    (finding,) = index.findings
    assert finding.code == "FOLDER_IGNORED"
    assert "autofocus/a.tif" in finding.message
    assert index.files.ignored == 2


def test_a_protocol_of_autofocus_is_no_plate_of_its_own(tmp_path: Path) -> None:
    truth = make(tmp_path)
    (truth.folder / "autofocus").mkdir()
    protocol = (truth.folder / "experiment" / "p.jdce").read_bytes()
    (truth.folder / "autofocus" / "p.jdce").write_bytes(protocol)
    index = open_plate(truth.folder, cache=False)
    assert index.select().wells == ("A01", "C02")
    assert not codes(index)
