from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import tifffile

from openhcs._errors import AmbiguousFormatError, PlateError
from openhcs.plates import PlateIndex, open_plate
from openhcs.plates.formats.incell._names import parse_name
from openhcs.testing import FormatTests, decode_stamp, synthetic_plate
from openhcs.testing.formats import InCell

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.testing import FaultKind, PlateTruth


class TestInCell(FormatTests):
    layout = InCell()
    ragged_plates = 15
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "corrupt-metadata": frozenset({"POSITION_MISSING"})  # positions end where the list does
    }


def make(folder: Path, layout: InCell | None = None, **changes: Any) -> PlateTruth:
    few: dict[str, Any] = {
        "wells": ("A01", "H12"),
        "grid": (1, 2),
        "z": 2,
        "size_px": 32,
        "stamp": True,
    }
    return synthetic_plate(folder / "p", format=layout or InCell(), **few | changes)


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


def check_stamps(index: PlateIndex) -> int:
    for plane in index:
        key = decode_stamp(index.read(plane)).key
        assert (key.well, key.field, key.channel, key.z, key.t) == (
            plane.well,
            plane.field,
            plane.channel,
            plane.z,
            plane.t,
        )
    return len(index)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A - 1(fld 1 wv DAPI - DAPI).tif", (0, 0, 1, "DAPI - DAPI", None, None)),
        ("B - 02(fld 01 wv Cy5 - Cy5 wix 4).tif", (1, 1, 1, "Cy5 - Cy5", None, None)),
        ("C - 03(fld 001 wv UV - DAPI z 1).tif", (2, 2, 1, "UV - DAPI", 1, None)),
        ("H - 12(fld 1 z 1- time 1 - 0 ms).tif", (7, 11, 1, "", 1, 1)),
        ("H - 12(fld 10 wv R - R z 12 - time 3 - 1200 ms).TIFF", (7, 11, 10, "R - R", 12, 3)),
        ("AF - 48(fld 1 wv TL - Cy3).tif", (31, 47, 1, "TL - Cy3", None, None)),
        ("A - 1(fld 1 wv DAPI - DAPI).im", (0, 0, 1, "DAPI - DAPI", None, None)),
    ],
)
def test_names(name: str, expected: tuple[object, ...]) -> None:
    found = parse_name(name)
    assert found is not None
    assert (found.row, found.col, found.field, found.wave, found.z, found.t) == expected


@pytest.mark.parametrize(
    "name",
    ["a - 1(fld 1).tif", "A - 99(fld 1).tif", "A - 1(fld x).tif", "A - 1(fld 1).png", "A1.tif"],
)
def test_other_names_do_not_fit(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize(
    "layout",
    [
        InCell(digits=2),
        InCell(digits=3, wix=True),
        InCell(fused=False, excluded=False),
        InCell(offsets="field"),
        InCell(offsets="field", numbered_offsets=True),
    ],
)
def test_software_that_pads_and_lists_in_other_ways_is_read_alike(
    tmp_path: Path, layout: InCell
) -> None:
    truth = make(tmp_path, layout, t=2, stage_error_px=0.0)
    index = open_plate(truth.folder, cache=False)
    assert check_stamps(index) == 2 * 2 * 2 * 2 * 2
    x = dict(zip(*(truth.tiles[name].tolist() for name in ("field", "stage_x_um")), strict=True))
    assert all(abs(plane.x_um - x[plane.field]) < 0.01 for plane in index)
    assert not [f for f in index.findings if f.severity != "info"]


def test_what_the_list_says_of_channels_and_times_is_kept(tmp_path: Path) -> None:
    index = open_plate(make(tmp_path, t=2).folder, cache=False)
    plane = next(iter(index.select(channels=[1], t=[1])))
    assert plane.channel_name == "GFP"
    assert (plane.excitation_nm, plane.emission_nm) == (475, 536)
    assert plane.exposure_s == pytest.approx(0.025)
    assert plane.time_s is not None
    assert plane.time_s > 0
    assert index.format_version == "IN Cell Analyzer 2000 3.0.0.5"


def test_a_wavelength_made_of_others_is_left_out_by_name(tmp_path: Path) -> None:
    index = open_plate(make(tmp_path).folder, cache=False)
    assert index.channel_names == ("DAPI", "GFP")
    (finding,) = index.findings
    assert finding.code == "FUSION_SKIPPED"
    assert "8 images" in finding.message


def test_without_a_list_names_stand_in(tmp_path: Path) -> None:
    truth = make(tmp_path, InCell(digits=2), t=2)
    (truth.folder / "p.xdce").unlink()
    index = open_plate(truth.folder, cache=False)
    assert check_stamps(index) == 32
    assert index.channel_names == ("DAPI", "GFP")
    assert {"POSITION_MISSING", "PIXEL_SIZE_MISSING", "PLATE_SIZE_ASSUMED"} == set(codes(index))


def test_files_of_the_instruments_own_encoding_are_named(tmp_path: Path) -> None:
    truth = make(tmp_path, z=1)
    path = next(p for p in truth.folder.iterdir() if p.name.startswith("H - 12(fld 2 wv GFP"))
    path.rename(path.with_suffix(".im"))
    listed = truth.folder / "p.xdce"
    listed.write_bytes(listed.read_bytes().replace(path.name.encode(), path.stem.encode() + b".im"))
    index = open_plate(truth.folder, cache=False, deep=True)
    (finding,) = [f for f in index.findings if f.code == "UNSUPPORTED_ENCODING"]
    assert (finding.well, finding.field, finding.channel) == ("H12", 1, 1)
    assert "H - 12(fld 2 wv GFP - GFP).im" in finding.message
    assert finding.remedy
    (lost,) = index.select(status="unreadable")
    assert lost.path == f"{path.stem}.im"
    assert codes(index)["UNREADABLE"] == 0


def edit(truth: PlateTruth, old: str, new: str) -> PlateIndex:
    listed = truth.folder / "p.xdce"
    text = listed.read_bytes().decode("latin-1")
    assert old in text
    listed.write_bytes(text.replace(old, new).encode("latin-1"))
    return open_plate(truth.folder, cache=False)


def test_wells_that_were_excluded_are_not_expected_and_others_are(tmp_path: Path) -> None:
    index = edit(make(tmp_path), '<Exclude row="2" col="3"/>', "")
    (finding,) = [f for f in index.findings if f.code == "PARTIAL_ACQUISITION"]
    assert "B03" in finding.message
    assert "3 wells were not excluded" in finding.message


def test_fewer_images_than_promised_are_found(tmp_path: Path) -> None:
    index = edit(make(tmp_path), '<Images number="24"', '<Images number="40"')
    (finding,) = [f for f in index.findings if f.code == "PARTIAL_ACQUISITION"]
    assert "40" in finding.message
    assert "24" in finding.message


def test_binning_is_said_since_nothing_tells_whether_it_counts(tmp_path: Path) -> None:
    index = edit(make(tmp_path), "1 X 1", "2 X 2")
    assert codes(index)["PIXEL_SIZE_UNVERIFIED"] == 1
    assert index.pixel_um == pytest.approx((0.65, 0.65))


@pytest.mark.parametrize(
    ("unit", "size"), [("µm", 0.65), ("um", 0.65), ("nm", 0.00065), ("furlong", None)]
)
def test_the_unit_of_the_pixel_size_counts(tmp_path: Path, unit: str, size: float | None) -> None:
    stated = 'pixel_width="0.650000" unit='
    index = edit(make(tmp_path), f'{stated}"µm"', f'{stated}"{unit}"')
    assert index.pixel_um == (None if size is None else pytest.approx((size, size)))
    assert codes(index)["PIXEL_SIZE_MISSING"] == (size is None)


def test_references_differ_in_case_and_separator_and_are_still_found(tmp_path: Path) -> None:
    truth = make(tmp_path, z=1)
    (truth.folder / "sub").mkdir()
    path = next(p for p in truth.folder.iterdir() if p.name.startswith("A - 1(fld 1 wv DAPI"))
    path.rename(truth.folder / "sub" / path.name.lower())
    index = edit(truth, path.name, f"SUB\\{path.name}")
    assert check_stamps(index.select()) == 8
    assert codes(index)["NAME_CASE"] == 1


def test_a_second_list_is_said_and_an_entity_refused(tmp_path: Path) -> None:
    truth = make(tmp_path)
    listed = truth.folder / "p.xdce"
    (truth.folder / "other.xdce").write_bytes(listed.read_bytes())
    index = open_plate(truth.folder, cache=False)
    assert codes(index)["METADATA_CONFLICT"] == 1
    assert index.files.metadata == 2
    (truth.folder / "other.xdce").unlink()
    text = listed.read_bytes().replace(
        b"<ImageStack>", b'<!DOCTYPE x [<!ENTITY e "x">]><ImageStack>', 1
    )
    listed.write_bytes(text)
    index = open_plate(truth.folder, cache=False)
    assert codes(index)["XML_ENTITY"] == 1
    assert check_stamps(index.select()) == len(index)  # by their names


@pytest.mark.parametrize("encoding", ["nan", "utf-7", "idna", "shift_jis"])
def test_an_encoding_that_is_none_is_a_finding(tmp_path: Path, encoding: str) -> None:
    index = edit(make(tmp_path), 'encoding="ISO-8859-1"', f'encoding="{encoding}"')
    assert codes(index)["METADATA_UNREADABLE"] == 1
    assert check_stamps(index.select()) == 16


def test_a_list_without_images_is_refused_with_what_to_do(tmp_path: Path) -> None:
    truth = make(tmp_path)
    for path in truth.folder.glob("*.tif"):
        path.unlink()
    with pytest.raises(PlateError, match=r"beside the \.xdce"):
        open_plate(truth.folder, cache=False)


def test_two_plates_in_one_folder_are_listed(tmp_path: Path) -> None:
    truth = make(tmp_path)
    other = tmp_path / "q"
    other.mkdir()
    (other / "q.xdce").write_bytes((truth.folder / "p.xdce").read_bytes())
    with pytest.raises(AmbiguousFormatError, match="2 plates"):
        open_plate(tmp_path, cache=False)


def test_a_file_listed_as_two_planes_is_used_for_neither(tmp_path: Path) -> None:
    truth = make(tmp_path, z=1)
    names = sorted(p.name for p in truth.folder.glob("A - 1*.tif"))
    index = edit(truth, names[1], names[0])
    assert codes(index)["DUPLICATE_KEY"] == 1
    assert len(index.select(status="conflict")) == 2
    assert codes(index)["UNLISTED_FILE"] == 1


def test_white_that_is_stored_as_zero_is_turned_and_said(tmp_path: Path) -> None:
    truth = make(tmp_path, z=1)
    path = next(iter(truth.folder.glob("A - 1(fld 1 wv DAPI*.tif")))
    pixels = tifffile.imread(path)
    tifffile.imwrite(path, 65535 - pixels, photometric="miniswhite", metadata=None)
    index = open_plate(truth.folder, cache=False, deep=True)
    assert codes(index)["WHITE_IS_ZERO"] == 1
    plane = next(p for p in index if p.path == path.name)
    np.testing.assert_array_equal(index.read(plane), pixels)
    assert replace(plane, z=1) != plane


@pytest.mark.parametrize("listed", ["whole", "cut short", "absent"])
def test_wavelengths_of_the_same_filters_stay_apart(tmp_path: Path, listed: str) -> None:
    truth = make(tmp_path, InCell(wix=True, fused=False, excluded=False))
    for path in truth.folder.glob("*wv GFP - GFP*"):
        path.rename(path.with_name(path.name.replace("GFP - GFP", "DAPI - DAPI")))
    xdce = truth.folder / "p.xdce"
    text = xdce.read_bytes().replace(b"wv GFP - GFP", b"wv DAPI - DAPI")
    text = text.replace(b'Filter name="GFP"', b'Filter name="DAPI"')
    if listed == "cut short":
        text = text[: text.index(b"<Images ") + 20]
    xdce.write_bytes(text)
    if listed == "absent":
        xdce.unlink()
    index = open_plate(truth.folder, cache=False, deep=True)
    assert check_stamps(index) == 16
    assert index.channel_names == ("DAPI", "DAPI (1)")
    assert not {"LABEL_MISMATCH", "DUPLICATE_KEY"} & set(codes(index))


def test_a_name_with_z_is_of_the_wavelength_that_was_taken_as_a_stack(tmp_path: Path) -> None:
    truth = make(tmp_path, InCell(fused=False, excluded=False), single_plane=("DAPI",))
    for path in truth.folder.glob("*wv GFP - GFP*"):
        path.rename(path.with_name(path.name.replace("GFP - GFP", "DAPI - DAPI")))
    xdce = truth.folder / "p.xdce"
    text = xdce.read_bytes().replace(b"wv GFP - GFP", b"wv DAPI - DAPI")
    text = text.replace(b'Filter name="GFP"', b'Filter name="DAPI"')
    xdce.write_bytes(text[: text.index(b"<Images ") + 20])
    index = open_plate(truth.folder, cache=False, deep=True)
    assert check_stamps(index) == len(index) == 12
    assert "DUPLICATE_KEY" not in codes(index)
