"""Synthetic plates look as the instruments' own: names, tags and metadata files."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from openhcs.testing import PlaneKey, PlateTruth, decode_stamp, synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path


FORMATS = ("imagexpress", "imagexpress-database", "phenix")
HARMONY = "{http://www.perkinelmer.com/PEHH/HarmonyV5}"
# The vendor's names, with an identifier of fixed length that follows the numbers directly.
IMAGEXPRESS = re.compile(
    r"(?:(?P<name>.+)_)?(?P<well>[A-Z]{1,2}\d{2})(?:_s(?P<s>\d+?))?(?:_w(?P<w>\d+?))?"
    r"(?P<thumb>_thumb)?(?P<guid>[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})?\.(TIF|tif)"
)


def images(truth: PlateTruth) -> list[tuple[str, PlaneKey]]:
    """Paths and keys of all planes and projections."""
    names = ("row", "col", "field", "channel", "z", "t", "kind")
    return [
        (path, PlaneKey(**dict(zip(names, values, strict=True))))
        for path, *values in zip(
            truth.planes["path"].tolist(),
            *(truth.planes[name].tolist() for name in names),
            strict=True,
        )
        if values[-1] in {"plane", "max"}
    ]


def stage_um(truth: PlateTruth, key: PlaneKey) -> tuple[float, float]:
    chosen = (truth.tiles["well"] == key.well) & (truth.tiles["field"] == key.field)
    return truth.tiles["stage_x_um"][chosen].item(), truth.tiles["stage_y_um"][chosen].item()


def make(factory: pytest.TempPathFactory, layout: str) -> PlateTruth:
    return synthetic_plate(
        factory.mktemp(layout) / "my_plate",
        format=layout,
        wells=("A01", "D11"),
        grid=(3, 2),
        size_px=(48, 64),
        z=3,
        t=2,
        projections=layout != "phenix",
        stamp=True,
        seed=0xABCDE,
    )


@pytest.fixture(scope="module", params=FORMATS)
def truth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PlateTruth:
    return make(tmp_path_factory, request.param)


@pytest.fixture(scope="module", params=["imagexpress", "imagexpress-database"])
def imagexpress(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PlateTruth:
    return make(tmp_path_factory, request.param)


@pytest.fixture(scope="module")
def phenix(tmp_path_factory: pytest.TempPathFactory) -> PlateTruth:
    return make(tmp_path_factory, "phenix")


def test_the_stamp_of_every_file_is_its_key(truth: PlateTruth) -> None:
    found = images(truth)
    assert len(found) == 2 * 6 * 2 * 2 * (3 if truth.spec.format == "phenix" else 4)
    for path, key in found:
        stamp = decode_stamp(tifffile.imread(truth.folder / path))
        assert stamp.key == key
        assert stamp.seed == 0xABCDE


def test_projections_are_the_brightest_of_their_stacks(imagexpress: PlateTruth) -> None:
    stacks: dict[tuple[int, ...], list[Any]] = {}
    projections: dict[tuple[int, ...], Any] = {}
    for path, key in images(imagexpress):
        where = (key.row, key.col, key.field, key.channel, key.t)
        image = tifffile.imread(imagexpress.folder / path)[1:]
        if key.kind == "max":
            projections[where] = image
        else:
            stacks.setdefault(where, []).append(image)
    assert projections.keys() == stacks.keys()
    for place, stack in stacks.items():
        assert np.array_equal(projections[place], np.max(stack, axis=0))


def test_imagexpress_names_and_tags_say_the_key(imagexpress: PlateTruth) -> None:
    for path, key in images(imagexpress):
        *folders, name = path.split("/")
        match = IMAGEXPRESS.fullmatch(name)
        assert match is not None, name
        assert match["name"] == "my_plate"
        assert (match["well"], match["s"], match["w"]) == (
            key.well,
            str(key.field + 1),
            str(key.channel + 1),
        )
        step = [] if key.kind == "max" else [f"ZStep_{key.z + 1}"]
        if imagexpress.spec.format == "imagexpress":
            assert folders == [f"TimePoint_{key.t + 1}", *(step or ["ZStep_0"])]
            assert name.endswith(".TIF")
        else:
            assert folders == ["2026-03-17", "1334", f"TimePoint_{key.t + 1}", *step]
            assert match["guid"]
            assert key.field != 1 or match["guid"][0].isdigit()
        with tifffile.TiffFile(imagexpress.folder / path) as file:
            page = file.pages.first
            assert page.tags[305].value == "MetaSeries"
            assert page.tags[254].value == 2
            compression = 1 if imagexpress.spec.format == "imagexpress" else 8
            assert (page.compression, page.shape) == (compression, (48, 64))
            assert page.dtype == np.uint16
            root = file.metaseries_metadata
        assert root is not None
        tags = root["PlaneInfo"]
        assert (tags["OffsetFromWellCenterUmX"], tags["OffsetFromWellCenterUmY"]) == stage_um(
            imagexpress, key
        )
        assert tags["stage-position-y"] == pytest.approx(
            11_240 + 9_000 * key.row + tags["OffsetFromWellCenterUmY"], abs=0.06
        )
        assert tags["spatial-calibration-x"] == tags["spatial-calibration-y"] == 0.65
        assert tags["spatial-calibration-units"] == "um"
        assert tags["stage-label"] == f"{key.well} : Site {key.field + 1}"
        assert tags["_IllumSetting_"] == imagexpress.spec.channels[key.channel]
        assert tags["Exposure Time"].endswith(" ms")
        if key.kind == "max":
            assert tags["Z Projection Method"] == "Maximum"
            assert "Z Step" not in tags
        else:
            assert tags["Z Step"] == key.z + 1
            assert tags["z-position"] == pytest.approx(9318.24 + 3.0 * (key.z - 1), abs=0.01)


def test_an_export_has_its_htd_in_every_folder(tmp_path: Path) -> None:
    truth = synthetic_plate(tmp_path / "p", wells=("A01", "B03"), size_px=32, z=2, t=2)
    copies = sorted(truth.folder.rglob("*.HTD"))
    assert len(copies) == 1 + 2 + 4
    assert {copy.name for copy in copies} == {"p.HTD"}
    (data,) = {copy.read_bytes() for copy in copies}
    assert b"\x82\x81" in data
    assert data.count(b"\n") == data.count(b"\r\n")
    lines = data.decode("latin-1").removesuffix("\r\n").split("\r\n")
    assert (lines[0], lines[-1]) == ('"HTSInfoFile", Version 1.0', '"EndFile"')
    plan = dict(line.split(", ", 1) for line in lines[:-1])
    assert (plan['"XWells"'], plan['"YWells"']) == ("12", "8")
    chosen = {
        f"{'ABCDEFGH'[row]}{col + 1:02d}"
        for row in range(8)
        for col, value in enumerate(plan[f'"WellsSelection{row + 1}"'].split(", "))
        if value == "TRUE"
    }
    assert chosen == {"A01", "B03"}
    assert (plan['"Sites"'], plan['"XSites"'], plan['"YSites"']) == ("TRUE", "2", "2")
    assert (plan['"Waves"'], plan['"NWavelengths"'], plan['"WaveName2"']) == ("TRUE", "2", '"GFP"')
    assert (plan['"TimePoints"'], plan['"ZSeries"'], plan['"ZSteps"']) == ("2", "TRUE", "2")
    assert (plan['"ZProjection"'], plan['"SiteSelection2"']) == ("FALSE", "TRUE, TRUE")


@pytest.mark.parametrize(
    ("grid", "channels", "stem"),
    [
        ((1, 1), ("DAPI",), "p_B02"),
        ((1, 2), ("DAPI",), "p_B02_s2"),
        ((1, 1), ("DAPI", "GFP"), "p_B02_w2"),
        ((1, 2), ("DAPI", "GFP"), "p_B02_s2_w2"),
    ],
)
@pytest.mark.parametrize("layout", ["imagexpress", "imagexpress-database"])
def test_sites_and_wavelengths_are_named_only_where_there_are_several(
    tmp_path: Path,
    layout: str,
    grid: tuple[int, int],
    channels: tuple[str, ...],
    stem: str,
) -> None:
    truth = synthetic_plate(
        tmp_path / "p",
        format=layout,
        wells=("B02",),
        grid=grid,
        channels=channels,
        size_px=32,
        z=1,
    )
    names = [path.rsplit("/", 1)[-1] for path, _ in images(truth)]
    assert names[-1].startswith(stem)
    assert len(names[-1]) == len(stem) + (4 if layout == "imagexpress" else 40)
    last = IMAGEXPRESS.fullmatch(names[-1])
    assert last is not None
    assert (last["s"], last["w"]) == (
        "2" if grid[1] == 2 else None,
        "2" if len(channels) == 2 else None,
    )
    if layout == "imagexpress":
        assert not [path for path in truth.planes["path"].tolist() if "/" in path]
        assert (
            f'"Waves", {"TRUE" if len(channels) == 2 else "FALSE"}'.encode()
            in (truth.folder / "p.HTD").read_bytes()
        )


def test_a_database_folder_has_thumbnails_that_say_so(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", format="imagexpress-database", wells=("A01",), size_px=96, z=1
    )
    kinds = truth.planes["kind"].tolist()
    assert kinds.count("thumbnail") == kinds.count("plane") == 8
    assert not list(truth.folder.rglob("*.HTD"))
    for path in truth.planes["path"][truth.planes["kind"] == "thumbnail"]:
        assert "_thumb" in path
        with tifffile.TiffFile(truth.folder / path) as file:
            assert file.pages.first.shape == (64, 80)
            root = file.metaseries_metadata
        assert root is not None
        assert root["Description"] == "thumbnail image"
        assert root["PlaneInfo"]["image-name"] == "HTSThumbHTS"
        assert root["PlaneInfo"]["spatial-calibration-x"] == pytest.approx(0.65 * 96 / 80)
        assert root["PlaneInfo"]["spatial-calibration-y"] == pytest.approx(0.65 * 96 / 64)


def test_a_harmony_index_lists_every_plane_with_its_place(phenix: PlateTruth) -> None:
    data = (phenix.folder / "Images" / "Index.idx.xml").read_bytes()
    assert data.startswith(b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n')
    root = ET.fromstring(data)
    assert root.tag == f"{HARMONY}EvaluationInputData"
    records = {}
    for record in root.iter(f"{HARMONY}Image"):
        if len(record):
            values = {child.tag.removeprefix(HARMONY): child.text or "" for child in record}
            records[f"Images/{values['URL']}"] = values
    found = dict(images(phenix))
    assert records.keys() == found.keys()
    listed = {element.get("id") for element in root.iter(f"{HARMONY}Image") if element.get("id")}
    assert listed == {values["id"] for values in records.values()}
    for path, key in found.items():
        values = records[path]
        assert values["State"] == "Ok"
        assert (int(values["Row"]), int(values["Col"])) == (key.row + 1, key.col + 1)
        assert (int(values["FieldID"]), int(values["PlaneID"])) == (key.field + 1, key.z + 1)
        assert (int(values["ChannelID"]), int(values["TimepointID"])) == (key.channel + 1, key.t)
        x, y = stage_um(phenix, key)
        assert float(values["PositionX"]) * 1e6 == pytest.approx(x, abs=1e-4)
        assert float(values["PositionY"]) * -1e6 == pytest.approx(y, abs=1e-4)
        assert float(values["PositionZ"]) * 1e6 == pytest.approx(3.0 * (key.z - 1))
        assert float(values["ImageResolutionX"]) == pytest.approx(0.65e-6)
        assert "e" not in values["PositionX"] + values["PositionY"]


def test_harmony_numbers_the_middle_field_first_then_snakes(phenix: PlateTruth) -> None:
    order = [
        (y, x)
        for well, y, x in zip(
            *(phenix.tiles[name].tolist() for name in ("well", "grid_y", "grid_x")), strict=True
        )
        if well == "A01"
    ]
    assert order == [(1, 0), (0, 0), (0, 1), (1, 1), (2, 0), (2, 1)]


def test_the_flat_field_profile_of_the_index_is_the_illumination(phenix: PlateTruth) -> None:
    root = ET.fromstring((phenix.folder / "Images" / "Index.idx.xml").read_bytes())
    entries = root.find(f"{HARMONY}Maps/{HARMONY}Map")
    assert entries is not None
    assert [entry.get("ChannelID") for entry in entries] == ["2", "1"]
    for entry in entries:
        text = entry.findtext(f"{HARMONY}FlatfieldProfile") or ""
        channel = int(entry.get("ChannelID", "0")) - 1
        assert f"ChannelName: {phenix.spec.channels[channel]}, Version: Acapella:2013}}" in text
        found = re.search(
            r"Coefficients: \[(\[.*\])\], Dims: \[(\d+), (\d+)\], Origin: \[(.*?), (.*?)\], "
            r"Scale: \[(.*?), (.*?)\], Type: Polynomial",
            text,
        )
        assert found is not None
        rows = [
            [float(value) for value in row.split(",")]
            for row in re.findall(r"\[([^\]]+)\]", found[1])
        ]
        assert [len(row) for row in rows] == [1, 2, 3, 4, 5]
        width, height = int(found[2]), int(found[3])
        x = (np.arange(width) - float(found[4])) * float(found[6])
        y = (np.arange(height) - float(found[5])) * float(found[7])
        profile = sum(
            value * x[None, :] ** (n - k) * y[:, None] ** k
            for n, row in enumerate(rows)
            for k, value in enumerate(row)
        )
        np.testing.assert_allclose(profile, phenix.illumination[channel], atol=1e-6)


def test_harmony_files_are_one_lzw_strip_with_private_tags(phenix: PlateTruth) -> None:
    path, _ = images(phenix)[0]
    with tifffile.TiffFile(phenix.folder / path) as file:
        page = file.pages.first
        assert page.compression == tifffile.COMPRESSION.LZW
        assert (len(page.dataoffsets), page.predictor) == (1, 1)
        assert {65200, 65500} <= set(page.tags.keys())
    layout = ET.parse(phenix.folder / "Assaylayout" / "my_plate.xml").getroot()
    layers = layout.findall(f"{HARMONY}Layer")
    assert [layer.findtext(f"{HARMONY}Name") for layer in layers] == ["Compound", "Role", "Dose"]
    assert all(len(layer.findall(f"{HARMONY}Well")) == 96 for layer in layers)


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_compression_does_not_change_a_pixel(tmp_path: Path, compression: Any) -> None:
    truths = [
        synthetic_plate(
            tmp_path / name / "p",
            wells=("A01",),
            grid=(1, 1),
            size_px=(70, 50),
            z=1,
            compression=choice,
        )
        for name, choice in (("a", None), ("b", compression))
    ]
    stacks = [
        [tifffile.imread(truth.folder / path) for path, _ in images(truth)] for truth in truths
    ]
    assert np.array_equal(stacks[0], stacks[1])
