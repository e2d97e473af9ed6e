from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from openhcs._errors import FormatNotRecognisedError, PlateError
from openhcs.plates import PlateIndex, open_plate
from openhcs.plates._scan import ScannedFile
from openhcs.plates.formats.imagexpress._metaseries import parse_metaseries
from openhcs.plates.formats.imagexpress._names import parse_image_file
from openhcs.plates.formats.imagexpress._plan import parse_htd
from openhcs.testing import FormatTests, synthetic_plate
from openhcs.testing.formats import ImageXpressDatabase, ImageXpressExport

if TYPE_CHECKING:
    from pathlib import Path

GUID = "E94C24BD-45E4-450A-9919-257C714278F7"
DIGITS = "17654C10-92F1-4DFD-98AA-6A01BBD77557"


class TestImageXpressExport(FormatTests):
    layout = ImageXpressExport()


class TestImageXpressDatabase(FormatTests):
    layout = ImageXpressDatabase()


def describe_plane(**properties: object) -> str:
    """Write what MetaXpress writes, as far as it matters."""
    lines = [f'<prop id="{k}" type="string" value="{v}"/>' for k, v in properties.items()]
    return "<MetaData>\n<PlaneInfo>\n" + "\n".join(lines) + "\n</PlaneInfo>\n</MetaData>\n"


def tags(**more: object) -> dict[str, object]:
    return {
        "spatial-calibration-state": "on",
        "spatial-calibration-x": 0.65,
        "spatial-calibration-y": 0.65,
        "spatial-calibration-units": "um",
        "OffsetFromWellCenterUmX": -10,
        "OffsetFromWellCenterUmY": 20.5,
        "_IllumSetting_": "DAPI",
        "wavelength": 447,
    } | more


def write(path: Path, value: int = 1, /, **more: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(80, dtype=np.uint16).reshape(8, 10) + value
    description = describe_plane(**tags(**more))
    tifffile.imwrite(path, pixels, description=description, metadata=None, software="MetaSeries")


def htd(
    *, wells: tuple[str, ...] = ("A01",), sites: int = 1, waves: int = 1, z: int = 1, t: int = 1
) -> bytes:
    lines = ['"HTSInfoFile", Version 1.0', '"Description", "one\x82\x81two"', '"PlateType", 6']
    lines += [f'"TimePoints", {t}', f'"ZSeries", {str(z > 1).upper()}', f'"ZSteps", {z}']
    lines += ['"ZProjection", FALSE', '"XWells", 12', '"YWells", 8']
    for row in range(8):
        chosen = [str(f"{'ABCDEFGH'[row]}{col:02d}" in wells).upper() for col in range(1, 13)]
        lines.append(f'"WellsSelection{row + 1}", {", ".join(chosen)}')
    lines.append(f'"Sites", {str(sites > 1).upper()}')
    if sites > 1:
        lines += [f'"XSites", {sites}', '"YSites", 1']
        lines.append(f'"SiteSelection1", {", ".join(["TRUE"] * sites)}')
    lines += [f'"Waves", {str(waves > 1).upper()}', f'"NWavelengths", {waves}']
    lines += [f'"WaveName{wave + 1}", "Dye {wave + 1}"' for wave in range(waves)]
    lines += ['"UniquePlateIdentifier", "x"', '"EndFile"']
    return "\r\n".join(lines).encode("latin-1")


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("P_B02_s1_w1.TIF", ("P", "B02", 1, 1, 1, None, False)),
        ("P_B02.TIF", ("P", "B02", 1, 1, 1, None, False)),
        ("P_B02_w3.tif", ("P", "B02", 1, 3, 1, None, False)),
        ("B02_s4_w1.tiff", ("", "B02", 4, 1, 1, None, False)),
        ("my_C05_plate_B02_s1.TIF", ("my_C05_plate", "B02", 1, 1, 1, None, False)),
        ("P_AF48_s112_w1.tif", ("P", "AF48", 112, 1, 1, None, False)),
        (f"P_E07_s1_w1{GUID}.tif", ("P", "E07", 1, 1, 1, None, False)),
        (f"P_E08_s1{DIGITS}.tif", ("P", "E08", 1, 1, 1, None, False)),
        (f"P_E08_s2{DIGITS}.tif", ("P", "E08", 2, 1, 1, None, False)),
        (f"P_E08_s21{DIGITS}.tif", ("P", "E08", 21, 1, 1, None, False)),
        (f"P_C03{GUID}.tif", ("P", "C03", 1, 1, 1, None, False)),
        (f"P_C03_thumb{GUID}.tif", ("P", "C03", 1, 1, 1, None, True)),
        (f"P_E07_s1_w4_thumb{GUID}.tif", ("P", "E07", 1, 4, 1, None, True)),
        ("TimePoint_3/ZStep_12/P_B02_s1_w1.TIF", ("P", "B02", 1, 1, 3, 12, False)),
        ("d/TimePoint-2/P_B02.TIF", ("P", "B02", 1, 1, 2, None, False)),
        ("TimePoint4/ZStep_0/P_B02_w2.TIF", ("P", "B02", 1, 2, 4, 0, False)),
        ("P_B02_s1_w1_z5_t7.TIF", ("P", "B02", 1, 1, 7, 5, False)),
    ],
)
def test_names(path: str, expected: tuple[object, ...]) -> None:
    image = parse_image_file(ScannedFile(path, 1, 1))
    assert image is not None
    found = (image.name, image.well, image.site, image.wave, image.time, image.step)
    assert (*found, image.thumbnail) == expected


@pytest.mark.parametrize(
    "path", ["P_B02_S1_w1.TIF", "P_b02_s1.TIF", "P_B99.TIF", "P.TIF", "P_B02_s1_w1.png", "P_B2.TIF"]
)
def test_other_names_do_not_fit(path: str) -> None:
    assert parse_image_file(ScannedFile(path, 1, 1)) is None


def test_a_plan_is_read_whatever_its_description_holds() -> None:
    plan = parse_htd(htd(wells=("A01", "C12"), sites=3, waves=2, z=5, t=4))
    assert (plan.rows, plan.columns, plan.wells) == (8, 12, ("A01", "C12"))
    assert (plan.sites, plan.time_points, plan.z_steps) == (3, 4, 5)
    assert plan.wave_names == ("Dye 1", "Dye 2")


def test_a_plan_whose_description_runs_on_is_read() -> None:
    raw = htd(wells=("B03",), waves=2).replace(b'two"\r\n', b"two")
    assert parse_htd(raw) == parse_htd(htd(wells=("B03",), waves=2))


@pytest.mark.parametrize("raw", [b"", b"\x00\x01", htd().replace(b"XWells", b"XWallas")])
def test_what_is_no_plan_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        parse_htd(raw)


def test_tags_are_read_with_their_units() -> None:
    description = describe_plane(
        **tags(
            **{
                "spatial-calibration-units": "nm",
                "spatial-calibration-x": 650,
                "spatial-calibration-y": 325,
                "Exposure Time": "15 ms",
                "stage-label": "E07 : Site 12",
                "Z Step": 3,
                "_IllumSetting_": "Cy3 &amp; more",
            }
        )
    )
    meta = parse_metaseries(description.encode())
    assert meta.pixel_um == pytest.approx((0.325, 0.65))
    assert meta.exposure_s == pytest.approx(0.015)
    assert (meta.label, meta.step) == (("E07", 12), 3)
    assert (meta.channel, meta.projection) == ("Cy3 & more", None)


@pytest.mark.parametrize(
    "more", [{"spatial-calibration-units": "pixel"}, {"spatial-calibration-state": "off"}]
)
def test_an_uncalibrated_pixel_size_is_unknown(more: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path / "P_A01.TIF", **more)
    (tmp_path / "P.HTD").write_bytes(htd())
    index = open_plate(tmp_path, cache=False)
    assert index.pixel_um is None
    assert next(iter(index)).pixel_um_x is None
    assert codes(index) == {"PIXEL_SIZE_MISSING": 1}


def test_time_points_and_z_steps_multiply(tmp_path: Path) -> None:
    for t in (1, 2, 3):
        for z in (1, 2):
            write(tmp_path / f"TimePoint_{t}/ZStep_{z}/P_A01.TIF", 10 * t + z, **{"Z Step": z})
    (tmp_path / "P.HTD").write_bytes(htd(z=2, t=3))
    index = open_plate(tmp_path, cache=False)
    assert [(p.t, p.z) for p in index] == [(t, z) for t in range(3) for z in range(2)]
    assert [int(index.read(p)[0, 0]) for p in index] == [11, 12, 21, 22, 31, 32]
    assert not index.findings


@pytest.mark.parametrize("tagged", [True, False], ids=["by tags", "by bytes"])
@pytest.mark.parametrize("deep", [False, True])
def test_copies_that_fill_gaps_are_no_planes(tmp_path: Path, tagged: bool, deep: bool) -> None:
    """Wavelength 1 is a stack with projection, 2 a projection only, 3 a single plane only."""
    method = {"Z Projection Method": "Maximum"} if tagged else {}
    single = {"Z Step": 1} if tagged else {}
    for step in range(4):
        folder = tmp_path / f"TimePoint_1/ZStep_{step}"
        own = method if step == 0 else ({"Z Step": step} if tagged else {})
        write(folder / "P_A01_w1.TIF", 100 + step, **own)
        write(folder / "P_A01_w2.TIF", 7, **method)
        write(folder / "P_A01_w3.TIF", 9, **single)
        (folder / "P.HTD").write_bytes(htd(waves=3, z=3))
    (tmp_path / "P.HTD").write_bytes(htd(waves=3, z=3))
    index = open_plate(tmp_path, cache=False, deep=deep)
    kept = {(p.channel, p.kind, p.z) for p in index if p.status == "ok"}
    projection = "max" if tagged else "unknown-projection"
    stack = {(0, "plane", z) for z in range(3)} | {(0, projection, 0)}
    only = {(1, "max", 0)} if tagged else {(1, "plane", 0)}  # bytes alone cannot tell which it is
    assert kept == stack | only | {(2, "plane", 0)}
    assert Counter(p.status for p in index) == {"ok": 6, "duplicate-content": 6}
    assert codes(index) == {"Z_COPY": 1, "MIXED_DIMENSIONS": 1}
    assert index.files.planes == 12
    assert index.files.metadata == 5


@pytest.mark.parametrize("deep", [False, True])
def test_copies_in_a_well_whose_stack_broke_off_are_no_planes(tmp_path: Path, deep: bool) -> None:
    """Although the same channel is a stack in the well by which its z steps are decided."""
    for step in (1, 2, 3):
        for well, own in (("A01", step), ("B01", 1), ("C01", min(step, 2))):
            write(tmp_path / f"ZStep_{step}/P_{well}.TIF", own, **{"Z Step": own})
    (tmp_path / "P.HTD").write_bytes(htd(z=3))
    index = open_plate(tmp_path, cache=False, deep=deep)
    kept = [(p.well, p.z) for p in index if p.status == "ok"]
    assert sorted(kept) == [*(("A01", z) for z in range(3)), ("B01", 0), ("C01", 0), ("C01", 1)]
    assert codes(index)["Z_COPY"] == 1
    assert codes(index)["MISSING_PLANE"] == 3


def test_planes_that_are_not_opened_have_their_time(tmp_path: Path) -> None:
    for t in (1, 2, 3):
        for site in (1, 2):
            taken = {"acquisition-time-local": f"20260317 10:{10 * t:02}:0{site}.000"}
            write(tmp_path / f"TimePoint_{t}/P_A01_s{site}.TIF", 10 * t + site, **taken)
    (tmp_path / "P.HTD").write_bytes(htd(t=3))
    times = open_plate(tmp_path, cache=False).column("time_s").tolist()
    assert sorted(times) == pytest.approx([0, 1, 600, 601, 1200, 1201])


def test_white_that_is_stored_as_zero_is_said(tmp_path: Path) -> None:
    pixels = np.arange(80, dtype=np.uint16).reshape(8, 10)
    tifffile.imwrite(
        tmp_path / "P_A01.TIF",
        65535 - pixels,
        photometric="miniswhite",
        description=describe_plane(**tags()),
        metadata=None,
    )
    (tmp_path / "P.HTD").write_bytes(htd())
    index = open_plate(tmp_path, cache=False)
    assert codes(index) == {"WHITE_IS_ZERO": 1}
    np.testing.assert_array_equal(index.read(next(iter(index))), pixels)


def test_a_missing_plane_is_a_row_and_a_finding(tmp_path: Path) -> None:
    for well in ("A01", "A02"):
        for site in (1, 2):
            for wave in (1, 2):
                write(tmp_path / f"P_{well}_s{site}_w{wave}.TIF", site * 10 + wave)
    (tmp_path / "P_A02_s2_w1.TIF").unlink()
    (tmp_path / "P.HTD").write_bytes(htd(wells=("A01", "A02"), sites=2, waves=2))
    index = open_plate(tmp_path, cache=False)
    (finding,) = index.findings
    assert (finding.code, finding.severity) == ("MISSING_PLANE", "error")
    assert (finding.well, finding.field, finding.channel) == ("A02", 1, 0)
    (gap,) = index.select(status="missing")
    assert (gap.path, gap.shape, gap.file_size, gap.status) == (None, None, -1, "missing")
    assert gap.x_um == -10
    assert index.wells == ("A01", "A02")


def test_many_missing_planes_of_a_well_are_one_finding(tmp_path: Path) -> None:
    for site in range(1, 21):
        write(tmp_path / f"P_A01_s{site}.TIF", site)
    write(tmp_path / "P_B01_s1.TIF", 99)
    (tmp_path / "P.HTD").write_bytes(htd(wells=("A01", "B01", "C01"), sites=20))
    index = open_plate(tmp_path, cache=False)
    assert codes(index) == {"MISSING_PLANE": 1, "PARTIAL_ACQUISITION": 1}
    lacking, partial = index.findings
    assert "Well B01 lacks 19 planes" in lacking.message
    assert partial.message.endswith("C01.")
    assert len(index.select(status="missing")) == 19


def test_less_than_planned_is_named_by_dimension(tmp_path: Path) -> None:
    write(tmp_path / "P_A01_s1_w1.TIF")
    (tmp_path / "P.HTD").write_bytes(htd(sites=2, waves=2, t=3))
    messages = [f.message for f in open_plate(tmp_path, cache=False).findings]
    assert [message.split(";")[0] for message in messages] == [
        "The plan names 2 sites",
        "The plan names 2 wavelengths",
        "The plan names 3 time points",
    ]


def test_a_plan_that_differs_from_the_top_one_is_named(tmp_path: Path) -> None:
    write(tmp_path / "TimePoint_1/P_A01.TIF")
    (tmp_path / "P.HTD").write_bytes(htd())
    (tmp_path / "TimePoint_1/P.HTD").write_bytes(htd(t=2))
    index = open_plate(tmp_path, cache=False)
    (finding,) = index.findings
    assert (finding.code, finding.path) == ("METADATA_CONFLICT", "TimePoint_1/P.HTD")


def test_a_damaged_plan_is_named_and_the_plate_still_read(tmp_path: Path) -> None:
    write(tmp_path / "P_A01.TIF")
    (tmp_path / "P.HTD").write_bytes(b"nothing")
    index = open_plate(tmp_path, cache=False)
    assert codes(index) == {"METADATA_UNREADABLE": 1, "PLATE_SIZE_ASSUMED": 1}
    assert index.channel_names == ("DAPI",)


def test_a_reacquired_site_is_a_conflict(tmp_path: Path) -> None:
    write(tmp_path / f"P_A01_s1{GUID}.tif", 1)
    write(tmp_path / f"P_A01_s1{DIGITS}.tif", 2)
    write(tmp_path / f"P_A01_s2{GUID}.tif", 3)
    index = open_plate(tmp_path, cache=False)
    found = [f for f in index.findings if f.severity == "error"]
    assert [f.code for f in found] == ["DUPLICATE_KEY"]
    assert GUID in found[0].message
    assert DIGITS in found[0].message
    assert len(index.select(status="conflict")) == 2
    assert len(index.select()) == 1


def test_damage_of_the_first_images_costs_no_plate_of_a_database(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", format="imagexpress-database", wells=("A01", "A02"), size_px=48, z=1
    )
    pictures = [path for path in sorted(truth.folder.rglob("*.tif")) if "_thumb" not in path.name]
    for path in pictures[:9]:
        path.write_bytes(b"no image")
    index = open_plate(truth.folder, cache=False, deep=True)
    assert Counter(index.column("status").tolist())["unreadable"] == 9
    for path in pictures:
        path.write_bytes(b"no image")
    with pytest.raises(FormatNotRecognisedError, match="named as they should be"):
        open_plate(truth.folder, cache=False, deep=True)


def test_runs_of_one_plate_stay_apart(tmp_path: Path) -> None:
    write(tmp_path / f"2024-01-02/11/P_A01{GUID}.tif", 1)
    write(tmp_path / f"2024-01-03/12/P_A01{GUID}.tif", 2)
    index = open_plate(tmp_path, cache=False)
    assert [(p.acquisition, int(index.read(p)[0, 0])) for p in index] == [(0, 1), (1, 2)]
    assert "DUPLICATE_KEY" not in codes(index)
    assert index.acquisitions == (0, 1)
    (later,) = index.select(acquisitions=[1])
    assert int(index.read(later)[0, 0]) == 2


def test_runs_of_one_plate_may_be_of_other_sizes(tmp_path: Path) -> None:
    write(tmp_path / f"2024-01-02/11/P_A01{GUID}.tif", 1)
    write(tmp_path / f"2024-01-03/12/P_A01{GUID}.tif", 2)
    binned = tmp_path / f"2024-01-03/12/P_A01{GUID}.tif"
    tifffile.imwrite(binned, np.zeros((4, 5), np.uint8), metadata=None, software="MetaSeries")
    index = open_plate(tmp_path, cache=False, deep=True)
    assert [plane.shape for plane in index] == [(8, 10), (4, 5)]
    assert not {"SHAPE_MIX", "DTYPE_MIX"} & set(codes(index))


def test_other_files_are_named_and_leavings_ignored(tmp_path: Path) -> None:
    write(tmp_path / "P_A01.TIF")
    (tmp_path / "P.HTD").write_bytes(htd())
    for name in ("notes.txt", "Thumbs.db", ".hidden", "P_Z99.TIF"):
        (tmp_path / name).write_bytes(b"x")
    index = open_plate(tmp_path, cache=False)
    (finding,) = index.findings
    assert finding.code == "UNMATCHED_NAME"
    assert "notes.txt" in finding.message
    assert (index.files.named, index.files.ignored, index.files.total) == (2, 2, 6)


def test_images_of_wells_that_the_plate_of_the_plan_lacks_are_named(tmp_path: Path) -> None:
    for name in ("P_A01.TIF", "P_A13.TIF", "P_K02.TIF"):
        write(tmp_path / name)
    (tmp_path / "P.HTD").write_bytes(htd())
    index = open_plate(tmp_path, cache=False)
    (finding,) = index.findings
    assert finding.code == "UNMATCHED_NAME"
    assert "wells that a plate of 8 x 12, as the plan says" in finding.message
    assert "P_A13.TIF, P_K02.TIF" in finding.message
    assert (index.files.planes, index.files.named) == (1, 2)
    (tmp_path / "P_A01.TIF").unlink()
    with pytest.raises(PlateError, match="8 x 12, as the plan says"):
        open_plate(tmp_path, cache=False)


def test_without_a_position_in_the_well_the_stage_gives_differences(tmp_path: Path) -> None:
    for site, x in ((1, 5000.0), (2, 5300.0)):
        stage = {"stage-position-x": x, "stage-position-y": 900.0, "OffsetFromWellCenterUmX": ""}
        write(tmp_path / f"P_A01_s{site}{GUID}.tif", site, **stage)
    index = open_plate(tmp_path, cache=False)
    assert [(p.x_um, p.y_um) for p in index] == [(-150.0, 0.0), (150.0, 0.0)]


def test_plain_tiffs_with_a_plan_have_no_position_and_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "P_A01.TIF", np.zeros((4, 4), np.uint8))
    (tmp_path / "P.HTD").write_bytes(htd())
    index = open_plate(tmp_path, cache=False)
    plane = next(iter(index))
    assert np.isnan(plane.x_um)
    assert index.pixel_um is None
    assert index.dtype == np.uint8
    assert codes(index) == {"POSITION_MISSING": 1, "PIXEL_SIZE_MISSING": 1}


def test_a_plan_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "P.HTD").write_bytes(htd())
    with pytest.raises(PlateError, match="no image that can be indexed"):
        open_plate(tmp_path, cache=False)


def test_an_entity_in_a_description_is_refused(tmp_path: Path) -> None:
    text = '<!DOCTYPE a [<!ENTITY e "x">]>' + describe_plane(**tags())
    tifffile.imwrite(
        tmp_path / "P_A01.TIF", np.ones((4, 4), np.uint16), description=text, metadata=None
    )
    (tmp_path / "P.HTD").write_bytes(htd())
    index = open_plate(tmp_path, cache=False)
    assert codes(index)["XML_ENTITY"] == 1
    assert index.pixel_um is None


def test_the_real_mixed_plate(real_plates: Path) -> None:
    index = open_plate(real_plates / "imagexpress_database/Projection-Mix", cache=False)
    assert (index.format, index.wells) == ("imagexpress-database", ("E07", "E08"))
    assert Counter((p.channel, p.kind) for p in index) == {
        (0, "plane"): 40,
        (0, "max"): 4,
        (1, "plane"): 40,
        (1, "best-focus"): 4,
        (2, "max"): 4,
        (3, "plane"): 4,
    }
    assert {p.status for p in index} == {"ok"}
    assert {p.z for p in index if p.channel == 3} == {0}
    assert index.files.thumbnails == 96
    assert index.pixel_um == (1.3668, 1.3668)
    assert codes(index) == {"THUMBNAIL_SKIPPED": 1, "MIXED_DIMENSIONS": 1, "PLATE_SIZE_ASSUMED": 1}
    assert index == open_plate(index.root, cache=False)
    first = [p for p in index if p.well == "E07" and p.field == 0 and p.channel == 0]
    assert (first[0].x_um, first[0].y_um) == (-349.92, 0.04)
    assert first[0].exposure_s == 0.015
    for plane in index.select(kind=None, fields=[1], z=[0]):
        assert index.read(plane).shape == (512, 512)


def test_focus_that_was_not_opened_is_that_of_its_file(real_plates: Path) -> None:
    root = real_plates / "imagexpress_database/Projection-Mix"
    shallow, deep = (open_plate(root, cache=False, deep=deep) for deep in (False, True))
    np.testing.assert_allclose(
        shallow.select().column("z_um"), deep.select().column("z_um"), atol=0.5
    )  # the real steps of 5 µm differ by up to 0.4
    for name in ("x_um", "y_um"):
        np.testing.assert_allclose(shallow.column(name), deep.column(name), atol=0.1)


def test_the_real_single_channel_plate(real_plates: Path) -> None:
    index = open_plate(real_plates / "imagexpress_database/SingleChannel", cache=False)
    assert Counter((p.well, p.field, p.kind) for p in index) == {
        (well, field, kind): count
        for well in ("E07", "E08")
        for field in (0, 1)
        for kind, count in (("plane", 2), ("max", 1))
    }


def test_the_real_time_lapse(real_plates: Path) -> None:
    index = open_plate(real_plates / "imagexpress_database/1well-3C-2S-Zmix-T", cache=False)
    assert (index.wells, index.t, index.channel_names) == (
        ("C07",),
        (0, 1),
        ("FITC", "Cy3", "Texas Red"),
    )
    assert {p.kind for p in index if p.channel} == {"max"}
    assert len(index.select(channels=[0])) == 4
    assert int(index.read(next(iter(index))).max()) > 0


def test_a_plane_taken_out_of_the_real_plate_is_missed(real_plates: Path, tmp_path: Path) -> None:
    copy = tmp_path / "plate"
    shutil.copytree(real_plates / "imagexpress_database/Projection-Mix", copy)
    gone = next(copy.glob("2023-02-21/1334/ZStep_4/*_E08_s2_w1[!_]*.tif"))
    gone.parent.chmod(0o755)
    gone.unlink()
    index = open_plate(copy, cache=False)
    (finding,) = [f for f in index.findings if f.severity == "error"]
    assert (finding.code, finding.well, finding.field) == ("MISSING_PLANE", "E08", 1)
    assert (finding.channel, finding.z) == (0, 3)
