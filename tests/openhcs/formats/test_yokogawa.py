from __future__ import annotations

import shutil
import sys
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import tifffile

from openhcs._errors import FormatNotRecognisedError, PlateError
from openhcs.plates import PlateIndex, describe, open_plate
from openhcs.testing import FormatTests, PlateTruth, decode_stamp, synthetic_plate
from openhcs.testing.formats import CQ1, CV8000, Layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.testing import FaultKind

LIST = "MeasurementData.mlf"


class TestCV8000(FormatTests):
    layout = CV8000()
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "corrupt-metadata": frozenset({"POSITION_MISSING"})  # names of images have none
    }


class TestCV8000Converted(FormatTests):
    layout = CV8000(png=True, timelines=2, unused_channels=0)
    consequences = TestCV8000.consequences


class TestCQ1(FormatTests):
    layout = CQ1()
    consequences = TestCV8000.consequences


def make(folder: Path, layout: Layout | None = None, **changes: object) -> PlateTruth:
    small = {
        "wells": ("A01", "C02"),
        "grid": (1, 2),
        "z": 2,
        "size_px": 48,
        "cells_per_field": 1,
        "stamp": True,
    }
    return synthetic_plate(folder / "p", format=layout or CV8000(), **small | changes)  # type: ignore[arg-type]


def edit(truth: PlateTruth, old: str, new: str, count: int = 1) -> None:
    path = truth.folder / LIST
    text = path.read_text()
    assert text.count(old) >= count, old
    path.write_text(text.replace(old, new, count))


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings if finding.severity != "info")


def test_channels_that_were_never_used_are_none(tmp_path: Path) -> None:
    truth = make(tmp_path, CV8000(unused_channels=4))
    index = open_plate(truth.folder, cache=False)
    assert index.channel_names == ("DAPI", "GFP")
    assert index.column("excitation_nm").tolist()[0] == 377
    assert index.column("emission_nm").tolist()[0] == 447
    assert index.column("exposure_s").tolist()[0] == 0.015


def test_a_projection_has_its_kind_and_a_channel_of_its_own(tmp_path: Path) -> None:
    truth = make(tmp_path, CQ1(), projections=("max", "min", "sum"), single_plane=("GFP",))
    index = open_plate(truth.folder, cache=False)
    assert index.channel_names == ("DAPI", "GFP", "DAPI (ch3)", "DAPI (ch5)", "DAPI (ch7)")
    kinds = dict(zip(index.column("channel").tolist(), index.column("kind").tolist(), strict=True))
    assert kinds == {0: "plane", 1: "plane", 2: "max", 3: "min", 4: "sum"}
    assert all("Projection/" in plane.path for plane in index if plane.kind != "plane")  # type: ignore[operator]


def test_timelines_that_take_turns_are_one_series(tmp_path: Path) -> None:
    truth = make(tmp_path, CV8000(timelines=2), t=5, z=1)
    index = open_plate(truth.folder, cache=False)
    assert index.t == (0, 1, 2, 3, 4)
    for plane in index:
        assert decode_stamp(index.read(plane)).key.t == plane.t
    times = index.select(wells=["A01"], fields=[0], channels=[0]).column("time_s")
    assert np.all(np.diff(times) > 0)


def test_timelines_of_different_wells_start_from_the_same(tmp_path: Path) -> None:
    truth = make(tmp_path, t=2, z=1)
    lines = (truth.folder / LIST).read_text().splitlines(keepends=True)
    of_second = [
        line.replace('TimelineIndex="1"', 'TimelineIndex="2"').replace("L01", "L02")
        if 'bts:Row="3"' in line
        else line
        for line in lines
    ]
    (truth.folder / LIST).write_text("".join(of_second))
    for path in truth.folder.glob("*_C02_*L01*"):
        path.rename(path.with_name(path.name.replace("L01", "L02")))
    index = open_plate(truth.folder, cache=False)
    assert index.select(wells=["A01"]).t == index.select(wells=["C02"]).t == (0, 1)
    assert not codes(index)


@pytest.mark.parametrize(
    "extra", ["", ' bts:FieldIndex="2"', ' bts:TimePoint="1" bts:FieldIndex="2" bts:Ch="1"']
)
def test_failures_name_what_their_well_lacks_and_are_counted(tmp_path: Path, extra: str) -> None:
    truth = make(tmp_path)
    path = truth.folder / LIST
    lines = path.read_text().splitlines(keepends=True)
    lost = [i for i, line in enumerate(lines) if "_C02_" in line and 'FieldIndex="2"' in line]
    assert len(lost) == 4
    for i in lost:
        name = lines[i].rpartition("</bts")[0].rpartition(">")[2]
        (truth.folder / name).unlink()
        lines[i] = (
            f'<bts:MeasurementRecord bts:Type="ERR" bts:Column="2" bts:Row="3"{extra}>'
            "AF failed</bts:MeasurementRecord>\n"
        )
    path.write_text("".join(lines))
    index = open_plate(truth.folder, cache=False)
    (finding,) = [f for f in index.findings if f.severity != "info"]
    assert (finding.code, finding.well) == ("ERROR_RECORD", "C02")
    assert "4 failed images" in finding.message
    failed = index.select(status="error-record")
    assert set(failed.column("well")) == {"C02"}
    assert failed.fields == (1,)
    assert len(failed) == 4


def test_a_failure_that_cost_no_image_is_told_all_the_same(tmp_path: Path) -> None:
    truth = make(tmp_path)
    error = '<bts:MeasurementRecord bts:Type="ERR" bts:Column="1" bts:Row="1" />\n'
    edit(truth, "</bts:MeasurementData>", f"{error}</bts:MeasurementData>")
    index = open_plate(truth.folder, cache=False)
    (finding,) = index.findings
    assert (finding.code, finding.well) == ("ERROR_RECORD", "A01")
    assert set(index.column("status")) == {"ok"}


def test_a_list_of_one_record_is_a_plate_of_one_image(tmp_path: Path) -> None:
    truth = make(tmp_path, wells=("B03",), grid=(1, 1), channels=("DAPI",), z=1)
    (plane,) = open_plate(truth.folder, cache=False)
    assert (plane.well, plane.field, plane.channel, plane.z, plane.t) == ("B03", 0, 0, 0, 0)


def test_records_that_can_be_placed_nowhere_are_named(tmp_path: Path) -> None:
    truth = make(tmp_path)
    edit(truth, 'bts:Column="1" bts:Row="1"', 'bts:Column="1"')
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"METADATA_UNREADABLE": 1, "UNLISTED_FILE": 1}


def test_a_name_that_disagrees_with_its_record_is_a_finding(tmp_path: Path) -> None:
    truth = make(tmp_path, CQ1())
    edit(truth, 'bts:FieldIndex="1" bts:ZIndex="2"', 'bts:FieldIndex="2" bts:ZIndex="2"')
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"LABEL_MISMATCH": 1, "DUPLICATE_KEY": 1}
    message = next(f.message for f in index.findings if f.code == "LABEL_MISMATCH")
    assert "field 1, listed as 2" in message


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems know only one spelling")
def test_names_whose_accents_are_stored_otherwise_are_found(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "Zürich", format="cv8000", wells=("A01",), grid=(1, 1), z=1, size_px=32
    )
    for path in list(truth.folder.iterdir()):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"NAME_CASE": 1}
    assert set(index.column("status")) == {"ok"}
    assert index.read(next(iter(index))).shape == (32, 32)


def test_names_in_other_case_and_with_other_slashes_are_found(tmp_path: Path) -> None:
    truth = make(tmp_path, CQ1(), projections=True)
    path = truth.folder / LIST
    path.write_text(path.read_text().replace("Projection/", "projection\\"))
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"NAME_CASE": 1}
    assert set(index.column("status")) == {"ok"}


def test_shading_images_are_the_profile_less_the_dark(tmp_path: Path) -> None:
    truth = make(tmp_path, size_px=(48, 64))
    index = open_plate(truth.folder, cache=False)
    for channel in (0, 1):
        profile = index.vendor_profile(channel)
        assert profile is not None
        np.testing.assert_allclose(profile, truth.illumination[channel], atol=2e-4)


def test_the_dark_image_is_the_dark_level(tmp_path: Path) -> None:
    truth = make(tmp_path, offset=57.0)
    index = open_plate(truth.folder, cache=False)
    assert [index.vendor_dark(channel) for channel in (0, 1)] == [57, 57]
    dark = next(truth.folder.glob("DC_*"))
    tifffile.imwrite(dark, np.arange(48 * 48, dtype=np.uint16).reshape(48, 48) // 1000 + 40)
    assert index.vendor_dark(0) == pytest.approx(40 + (1000 + 2 * 304) / 48**2)
    dark.write_bytes(b"")
    with pytest.raises(PlateError, match=r"DAPI .* cannot be used: DC_.* cannot be read"):
        index.vendor_dark(0)


def test_a_dark_image_of_another_size_tells_no_level_and_its_profile_is_not_used(
    tmp_path: Path,
) -> None:
    """What binning does to the counts is not said."""
    truth = make(tmp_path)
    tifffile.imwrite(next(truth.folder.glob("DC_*")), np.full((96, 96), 100, np.uint16))
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"FLATFIELD_UNREADABLE": 2}
    assert index.vendor_profile(0) is None
    assert index.vendor_dark(0) is None


def test_a_dark_image_without_a_shading_image_is_a_dark_level_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    truth = make(tmp_path, offset=57.0)
    next(truth.folder.glob("SC_*CH01.tif")).unlink()
    first, again = open_plate(truth.folder), open_plate(truth.folder)
    assert first == again
    for index in (first, again):
        assert not codes(index)
        assert index.vendor_profile(0) is None
        assert index.vendor_profile(1) is not None
        assert (index.vendor_dark(0), index.vendor_dark(1)) == (57, 57)
        assert describe(index)["illumination"] == [index.channel_names[1]]


def test_without_a_dark_image_there_is_no_dark_level(tmp_path: Path) -> None:
    truth = make(tmp_path)
    next(truth.folder.glob("DC_*")).unlink()
    index = open_plate(truth.folder, cache=False)
    assert index.vendor_profile(0) is not None
    assert index.vendor_dark(0) is None


def test_a_dark_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    truth = make(tmp_path)
    for path in truth.folder.glob("SC_*"):
        path.unlink()
    dark = next(truth.folder.glob("DC_*"))
    dark.write_bytes(b"II*\x00\x08\x00\x00\x00")
    index = open_plate(truth.folder, cache=False)
    (*_, told) = [f for f in index.findings if f.code == "FLATFIELD_UNREADABLE"]
    assert "The dark image of channel" in told.message
    assert told.path == dark.name
    assert index.vendor_dark(0) is None


def test_a_shading_image_that_is_all_but_black_somewhere_is_told_with_its_pixels(
    tmp_path: Path,
) -> None:
    truth = make(tmp_path)
    shading = next(truth.folder.glob("SC_*CH02.tif"))
    light = tifffile.imread(shading)
    light[:2, :5] = 0
    tifffile.imwrite(shading, light)
    index = open_plate(truth.folder, cache=False)
    (told,) = index.findings
    assert (told.code, told.channel, told.path) == ("FLATFIELD_CLAMPED", 1, shading.name)
    assert "below 0.1 in 10 of 2304 pixels" in told.message
    profile = index.vendor_profile(1)
    assert profile is not None
    assert profile.min() == np.float32(0.1)


def test_a_stored_index_keeps_the_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    truth = make(tmp_path)
    first, again = open_plate(truth.folder), open_plate(truth.folder)
    assert first == again
    np.testing.assert_array_equal(first.vendor_profile(1), again.vendor_profile(1))


def test_a_shading_image_without_light_is_named_and_not_used(tmp_path: Path) -> None:
    truth = make(tmp_path)
    shading = next(truth.folder.glob("SC_*CH01.tif"))
    shutil.copyfile(next(truth.folder.glob("DC_*")), shading)
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"FLATFIELD_UNREADABLE": 1}
    assert index.vendor_profile(0) is None
    assert index.vendor_profile(1) is not None


def test_a_shading_image_that_went_away_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    truth = make(tmp_path)
    index = open_plate(truth.folder, cache=False)
    next(truth.folder.glob("SC_*CH01.tif")).unlink()
    with pytest.raises(PlateError, match=r"channel DAPI .* cannot be used: SC_.*CH01.tif"):
        index.vendor_profile(0)


def test_stated_geometry_is_told_and_leaves_pixels_and_places_alone(tmp_path: Path) -> None:
    truth = make(tmp_path, CV8000(geometry=True), channels=("DAPI", "GFP", "RFP"))
    index = open_plate(truth.folder, cache=False)
    (told,) = [f for f in index.findings if f.code == "GEOMETRY_UNAPPLIED"]
    assert (told.severity, told.path) == ("info", "geometry_parameter.xml")
    # of the objective in use, and of the channels that are moved
    assert "GFP by 1.0 px in the middle and 1.0 px in a corner; RFP by 2.0 px" in told.message
    assert "DAPI" not in told.message
    places = {(plane.x_um, plane.y_um) for plane in index.select(wells=["A01"], fields=[0])}
    assert len(places) == 1
    plane = next(iter(index.select(channels=[2])))
    assert decode_stamp(index.read(plane)).key.channel == 2


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("?>", '?><!DOCTYPE x [<!ENTITY a "b">]>', "XML_ENTITY"),
        ('lsc:A="1.0"', 'lsc:A="wide"', "METADATA_UNREADABLE"),
        ('lsc:A="1.0"', "", "METADATA_UNREADABLE"),
        ("</lsc:AffineParameterList>", "", "METADATA_UNREADABLE"),
    ],
)
def test_geometry_that_cannot_be_read_costs_no_image(
    tmp_path: Path, old: str, new: str, code: str
) -> None:
    truth = make(tmp_path, CV8000(geometry=True))
    path = truth.folder / "geometry_parameter.xml"
    path.write_text(path.read_text("utf-8-sig").replace(old, new))
    index = open_plate(truth.folder, cache=False)
    assert codes(index)[code] == 1
    assert set(index.column("status")) == {"ok"}


def test_an_entity_is_refused_by_name_and_the_images_are_read(tmp_path: Path) -> None:
    truth = make(tmp_path)
    edit(truth, "?>", '?><!DOCTYPE x [<!ENTITY a "b">]>')
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"XML_ENTITY": 1, "POSITION_MISSING": 1}
    assert set(index.column("status")) == {"ok"}
    assert len(index) == 16


def test_what_was_planned_and_not_taken_is_named(tmp_path: Path) -> None:
    truth = make(tmp_path)
    setting = next(truth.folder.glob("*.mes"))
    text = setting.read_text("utf-8-sig")
    more = '<bts:TargetWell bts:Column="7" bts:Row="2">true</bts:TargetWell></bts:WellSequence>'
    setting.write_text(text.replace("</bts:WellSequence>", more, 1))
    detail = truth.folder / "MeasurementDetail.mrf"
    text = detail.read_text("utf-8-sig")
    detail.write_text(text.replace('FieldCount="2"', 'FieldCount="4"'))
    index = open_plate(truth.folder, cache=False)
    messages = [f.message for f in index.findings if f.code == "PARTIAL_ACQUISITION"]
    assert len(messages) == 2
    assert "B07" in messages[0]
    assert "4 fields; there are 2" in messages[1]


def test_without_settings_the_images_are_read_without_what_they_say(tmp_path: Path) -> None:
    truth = make(tmp_path)
    for pattern in ("*.mrf", "*.mes"):
        next(truth.folder.glob(pattern)).unlink()
    index = open_plate(truth.folder, cache=False)
    assert codes(index) == {"PIXEL_SIZE_MISSING": 1}
    assert index.channel_names == ("ch1", "ch2")


def test_a_list_without_any_image_is_refused(tmp_path: Path) -> None:
    truth = make(tmp_path)
    for path in truth.folder.glob("*_T0*.tif"):
        path.unlink()
    with pytest.raises(PlateError, match="none is there"):
        open_plate(truth.folder, cache=False)


def test_a_file_of_that_name_that_is_no_list_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text("<Other />")
    with pytest.raises(FormatNotRecognisedError, match="is no list of images of Yokogawa"):
        open_plate(tmp_path, cache=False)


def test_a_real_measurement_is_read(real_plates: Path) -> None:
    folder = real_plates / "cv8000_zero_pixels"
    index = open_plate(folder, cache=False)
    assert (index.format, index.format_version) == ("yokogawa", "CV8000")
    assert index.wells == ("D08", "E03", "F08")
    assert index.channel_names == ("405", "488")
    assert (len(index), index.fields, index.z) == (96, (0, 1, 2, 3), (0, 1, 2, 3))
    assert index.pixel_um == (0.325, 0.325)
    first, second, third = (
        next(iter(index.select(wells=["D08"], fields=[field]))) for field in (0, 1, 2)
    )
    assert second.x_um - first.x_um == pytest.approx(649.9, abs=0.2)  # 2000 px of 0.325 µm
    assert third.y_um - first.y_um == pytest.approx(650.0, abs=0.2)  # stored with y upward
    assert [plane.z_um for plane in index.select(wells=["E03"], fields=[0], channels=[0])] == [
        *(0.0, 3.0, 6.0, 9.0)
    ]
    # its shading images are black; 488 is what other channels are laid upon
    assert codes(index) == {"FLATFIELD_UNREADABLE": 2}
    assert [index.vendor_dark(channel) for channel in (0, 1)] == [0, 0]  # as is the dark one
    (told,) = [f.message for f in index.findings if f.code == "GEOMETRY_UNAPPLIED"]
    assert "405 by" in told
    assert "488 by" not in told
    assert not index.read(first).any()
