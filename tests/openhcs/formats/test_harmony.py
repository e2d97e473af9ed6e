from __future__ import annotations

import csv
import shutil
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import tifffile

from openhcs._errors import FormatNotRecognisedError, PlateError
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import FormatTests
from openhcs.testing.formats import Phenix

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.testing import FaultKind


class TestPhenix(FormatTests):
    layout = Phenix()
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "corrupt-metadata": frozenset({"POSITION_MISSING"})  # positions end where the index does
    }


V5 = "http://www.perkinelmer.com/PEHH/HarmonyV5"
V6 = "http://www.perkinelmer.com/PEHH/HarmonyV6"
V7 = "43B2A954-E3C3-47E1-B392-6635266B0DD3/HarmonyV7"
FLAT = "{Background: {Character: Null, Profile: {Type: Identity}, Quality: 1}, Channel: 1}"


def channel_elements(name: str) -> str:
    return (
        f"<ChannelName>{name}</ChannelName>"
        '<ImageResolutionX Unit="m">6E-07</ImageResolutionX>'
        '<ImageResolutionY Unit="m">5E-07</ImageResolutionY>'
        '<MainExcitationWavelength Unit="nm">475</MainExcitationWavelength>'
        '<ExposureTime Unit="s">0.25</ExposureTime><MaxIntensity>65536</MaxIntensity>'
    )


def image_element(
    url: str,
    *,
    row: int = 1,
    col: int = 1,
    field: int = 1,
    plane: int = 1,
    channel: int = 1,
    time: int = 0,
    state: str = "Ok",
    x: float = 0.0,
    y: float = 0.0,
    flim: int = 1,
    extra: str = "",
) -> str:
    return (
        f'<Image Version="1"><id>x</id><State>{state}</State><URL>{url}</URL><Row>{row}</Row>'
        f"<Col>{col}</Col><FieldID>{field}</FieldID><PlaneID>{plane}</PlaneID>"
        f"<TimepointID>{time}</TimepointID><ChannelID>{channel}</ChannelID><FlimID>{flim}</FlimID>"
        f'<PositionX Unit="m">{x}</PositionX><PositionY Unit="m">{y}</PositionY>'
        f'<PositionZ Unit="m">{2e-6 * plane}</PositionZ><NewThing a="1">?</NewThing>{extra}</Image>'
    )


def index_file(
    images: list[str],
    *,
    namespace: str = V5,
    maps: str = "",
    instrument: str = "Phenix",
    prolog: str = '<?xml version="1.0" encoding="utf-8"?>',
    wells: str = '<Well id="0101" />',
) -> str:
    return (
        f'{prolog}\n<EvaluationInputData Version="1" xmlns="{namespace}">'
        f"<InstrumentType>{instrument}</InstrumentType><Plates><Plate><PlateID>p</PlateID>"
        f"<Name>Plate µ</Name><PlateRows>16</PlateRows><PlateColumns>24</PlateColumns>{wells}"
        "</Plate></Plates><Wells><Well><id>0101</id><Row>1</Row><Col>1</Col>"
        f'<Image id="0101K1F1P1R1" /></Well></Wells><Maps>{maps}</Maps>'
        f"<Images>{''.join(images)}</Images></EvaluationInputData>"
    )


def url(
    row: int = 1, col: int = 1, field: int = 1, plane: int = 1, channel: int = 1, time: int = 1
) -> str:
    return f"r{row:02d}c{col:02d}f{field:02d}p{plane:02d}-ch{channel}sk{time}fk1fl1.tiff"


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(names, 1):
        tifffile.imwrite(
            folder / name, np.full((6, 8), value, np.uint16) + np.arange(8, dtype="u2")
        )


def plate(folder: Path, text: str, *names: str, index: str = "Index.idx.xml") -> Path:
    write_images(folder / "Images", *names)
    (folder / "Images" / index).write_bytes(text.encode("utf-8"))
    return folder


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


@pytest.mark.parametrize("name", ["Index.idx.xml", "Index.ref.xml", "Index.xml", "index.idx.xml"])
@pytest.mark.parametrize(("namespace", "version"), [(V5, "V5"), (V6, "V6"), (V7, "V7")])
def test_every_version_gives_the_same_plane(
    tmp_path: Path, name: str, namespace: str, version: str
) -> None:
    inside = channel_elements("Cy3 (a, b")
    maps = f'<Map><Entry ChannelID="1">{inside}</Entry></Map>'
    extra = inside if version == "V5" else ""
    text = index_file(
        [image_element(url(), x=1e-4, y=2e-4, extra=extra)],
        namespace=namespace,
        maps="" if extra else maps,
    )
    index = open_plate(plate(tmp_path, text, url(), index=name), cache=False)
    plane = next(iter(index))
    assert (index.format, index.format_version, index.name) == ("harmony", version, "Plate µ")
    assert (index.rows, index.columns) == (16, 24)
    assert (plane.x_um, plane.y_um, plane.z_um) == (100.0, -200.0, 2.0)
    assert (plane.pixel_um_y, plane.pixel_um_x) == pytest.approx((0.5, 0.6))
    assert (plane.channel_name, plane.excitation_nm, plane.exposure_s) == ("Cy3 (a, b", 475, 0.25)
    assert (plane.shape, plane.dtype) == ((6, 8), np.dtype(np.uint16))
    assert not index.findings


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends_do_not_matter(
    tmp_path: Path, mark: str, newline: str
) -> None:
    text = index_file([image_element(url(), extra=channel_elements("A"))]).replace("\n", newline)
    index = open_plate(plate(tmp_path, mark + text, url()), cache=False)
    assert len(index) == 1


@pytest.mark.parametrize("first", [0, 1, 2])
def test_time_points_count_from_any_number(tmp_path: Path, first: int) -> None:
    names = [url(time=time) for time in (1, 2, 3)]
    images = [image_element(name, time=first + k) for k, name in enumerate(names)]
    index = open_plate(plate(tmp_path, index_file(images), *names), cache=False)
    assert index.t == (0, 1, 2)
    assert [p.t_id for p in index] == [str(first + k) for k in range(3)]


def test_fields_planes_and_channels_are_dense(tmp_path: Path) -> None:
    keys = [(12, 3, 4), (112, 3, 4), (12, 5, 4), (12, 3, 7)]
    names = [url(field=f, plane=p, channel=c) for f, p, c in keys]
    images = [
        image_element(name, field=f, plane=p, channel=c)
        for name, (f, p, c) in zip(names, keys, strict=True)
    ]
    index = open_plate(plate(tmp_path, index_file(images), *names), cache=False)
    assert (index.fields, index.z, index.channels) == ((0, 1), (0, 1), (0, 1))
    assert {(p.field_id, p.z_id, p.channel_id) for p in index} == {
        (str(f), str(p), str(c)) for f, p, c in keys
    }
    assert index.channel_names == ("ch4", "ch7")


def test_lifetime_planes_are_a_kind_of_their_own(tmp_path: Path) -> None:
    second = url().replace("fl1", "fl2")
    images = [image_element(url()), image_element(second, flim=2)]
    index = open_plate(plate(tmp_path, index_file(images), url(), second), cache=False)
    assert [p.kind for p in index] == ["plane", "flim-2"]
    assert "DUPLICATE_KEY" not in codes(index)


def test_a_failed_image_is_an_error_record(tmp_path: Path) -> None:
    names = [url(field=field) for field in (1, 2)]
    images = [image_element(names[0]), image_element(names[1], field=2, state="Failed")]
    index = open_plate(plate(tmp_path, index_file(images), names[0]), cache=False)
    (finding,) = [f for f in index.findings if f.severity == "error"]
    assert (finding.code, finding.well, finding.field) == ("ERROR_RECORD", "A01", 1)
    assert [p.status for p in index] == ["ok", "error-record"]


def test_a_listed_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    names = [url(field=field) for field in (1, 2)]
    images = [image_element(name, field=k + 1) for k, name in enumerate(names)]
    index = open_plate(plate(tmp_path, index_file(images), names[0]), cache=False)
    (gap,) = index.select(status="missing")
    assert gap.path == f"Images/{names[1]}"
    (finding,) = [f for f in index.findings if f.severity == "error"]
    assert (finding.code, finding.path) == ("MISSING_PLANE", gap.path)


@pytest.mark.parametrize(
    "name", ["../../outside.tiff", "/etc/passwd", "C:\\data\\x.tiff", "..\\..\\outside.tiff"]
)
def test_a_path_out_of_the_plate_is_refused(tmp_path: Path, name: str) -> None:
    images = [image_element(url()), image_element(name, field=2)]
    folder = plate(tmp_path / "plate", index_file(images), url())
    (tmp_path / "outside.tiff").write_bytes((folder / "Images" / url()).read_bytes())
    index = open_plate(folder, cache=False)
    (finding,) = [f for f in index.findings if f.severity == "error"]
    assert (finding.code, finding.field) == ("PATH_ESCAPE", 1)
    (plane,) = index.select(status="unreadable")
    assert plane.path is None


def test_windows_separators_and_another_case_find_the_file(tmp_path: Path) -> None:
    text = index_file([image_element(f".\\{url().upper()}")])
    index = open_plate(plate(tmp_path, text, url()), cache=False)
    assert next(iter(index)).path == f"Images/{url()}"
    assert codes(index)["NAME_CASE"] == 1


def test_files_that_the_index_does_not_list_are_named(tmp_path: Path) -> None:
    folder = plate(tmp_path, index_file([image_element(url())]), url(), url(field=2))
    (folder / "readme.txt").write_text("x")
    index = open_plate(folder, cache=False)
    found = {f.code: f.path for f in index.findings}
    assert found["UNLISTED_FILE"] == f"Images/{url(field=2)}"
    assert found["UNMATCHED_NAME"] == "readme.txt"
    assert (index.files.planes, index.files.metadata, index.files.named) == (1, 1, 2)


def test_a_name_that_contradicts_the_index_is_an_error(tmp_path: Path) -> None:
    text = index_file([image_element(url(field=2), field=3)])
    index = open_plate(plate(tmp_path, text, url(field=2)), cache=False)
    assert codes(index)["LABEL_MISMATCH"] == 1


def test_an_entity_is_refused_and_named(tmp_path: Path) -> None:
    prolog = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    text = index_file([image_element(url(), extra="&e;")], prolog=prolog)
    index = open_plate(plate(tmp_path, text, url()), cache=False)
    assert codes(index)["XML_ENTITY"] == 1
    assert "METADATA_UNREADABLE" not in codes(index)
    assert next(iter(index)).pixel_um_x is None


def test_a_document_type_without_entities_is_accepted(tmp_path: Path) -> None:
    prolog = '<!DOCTYPE EvaluationInputData SYSTEM "http://example.invalid/x.dtd">'
    text = index_file([image_element(url(), extra=channel_elements("A"))], prolog=prolog)
    index = open_plate(plate(tmp_path, text, url()), cache=False)
    assert not index.findings


def test_a_broken_index_leaves_the_rest_to_the_names(tmp_path: Path) -> None:
    names = [url(field=field) for field in (1, 2, 3)]
    images = [
        image_element(name, field=k + 1, extra=channel_elements("A"))
        for k, name in enumerate(names)
    ]
    text = index_file(images)
    cut = text.index(names[1])
    index = open_plate(plate(tmp_path, text[:cut], *names), cache=False)
    assert codes(index) == {"METADATA_UNREADABLE": 1, "POSITION_MISSING": 1}
    assert [p.field for p in index] == [0, 1, 2]
    assert [np.isnan(p.x_um) for p in index] == [False, True, True]
    assert index.pixel_um == pytest.approx((0.5, 0.6))
    assert index.channel_names == ("A",)


def test_a_whole_index_is_read_in_place_of_a_broken_one(tmp_path: Path) -> None:
    names = [url(field=field) for field in (1, 2, 3)]
    text = index_file([image_element(name, field=k + 1) for k, name in enumerate(names)])
    folder = plate(tmp_path, text[: text.index(names[1])], *names)
    (folder / "Images" / "Index.ref.xml").write_text(text, encoding="utf-8")
    index = open_plate(folder, cache=False)
    (finding,) = [f for f in index.findings if f.code == "METADATA_UNREADABLE"]
    assert finding.path == "Images/Index.idx.xml"
    assert "Images/Index.ref.xml is read in its place" in finding.message
    assert [np.isnan(p.x_um) for p in index] == [False, False, False]


def test_latin_text_without_a_declaration_is_read(tmp_path: Path) -> None:
    text = index_file([image_element(url(), extra=channel_elements("A"))], prolog="")
    folder = plate(tmp_path, text, url())
    (folder / "Images/Index.idx.xml").write_bytes(text.encode("latin-1"))
    assert open_plate(folder, cache=False).name == "Plate µ"


def test_wells_without_an_image_are_named(tmp_path: Path) -> None:
    text = index_file([image_element(url())], wells='<Well id="0101" /><Well id="0312" />')
    index = open_plate(plate(tmp_path, text, url()), cache=False)
    (finding,) = [f for f in index.findings if f.code == "PARTIAL_ACQUISITION"]
    assert "C12" in finding.message


def test_an_operetta_is_turned_and_said_to_be(tmp_path: Path) -> None:
    matrix = "<OrientationMatrix>[[0,-1,0,5],[-1,0,0,5],[0,0,1,0]]</OrientationMatrix>"
    image = image_element(url(), x=1e-4, y=2e-4, extra=matrix)
    names = {}
    for instrument in ("Phenix", "Operetta CLS"):
        folder = plate(tmp_path / instrument, index_file([image], instrument=instrument), url())
        index = open_plate(folder, cache=False)
        plane = next(iter(index))
        names[instrument] = (plane.x_um, plane.y_um, codes(index)["ORIENTATION_UNVERIFIED"])
    assert names["Phenix"] == (100.0, -200.0, 0)
    assert names["Operetta CLS"] == (-200.0, -100.0, 1)


def test_an_index_of_something_else_is_no_plate(tmp_path: Path) -> None:
    (tmp_path / "Index.xml").write_text("<html><body/></html>")
    with pytest.raises(FormatNotRecognisedError, match=r"Index.xml is no index of Harmony"):
        open_plate(tmp_path, cache=False)


def test_an_index_whose_images_are_all_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlateError, match="none is there"):
        open_plate(plate(tmp_path, index_file([image_element(url())])), cache=False)


def test_a_profile_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    maps = (
        '<Map><Entry ChannelID="1"><FlatfieldProfile>{Background: {Profile: {Type: Spline}}}'
        f'</FlatfieldProfile></Entry><Entry ChannelID="2"><FlatfieldProfile>{FLAT}'
        "</FlatfieldProfile></Entry></Map>"
    )
    names = [url(channel=1), url(channel=2)]
    images = [image_element(name, channel=k + 1) for k, name in enumerate(names)]
    index = open_plate(plate(tmp_path, index_file(images, maps=maps), *names), cache=False)
    assert codes(index)["FLATFIELD_UNREADABLE"] == 1
    assert index.vendor_profile(0) is None
    flat = index.vendor_profile(1)
    assert flat is not None
    np.testing.assert_array_equal(flat, np.ones((6, 8), np.float32))


def test_a_polynomial_below_its_floor_is_told_with_its_pixels(tmp_path: Path) -> None:
    falling = (
        "{Background: {Profile: {Coefficients: [[0.37], [0.1, 0]], Dims: [8, 6], "
        "Origin: [3.5, 2.5], Scale: [1, 1], Type: Polynomial}}}"
    )
    entries = "".join(
        f'<Entry ChannelID="{number}"><FlatfieldProfile>{profile}</FlatfieldProfile></Entry>'
        for number, profile in ((1, FLAT), (2, falling))
    )
    maps = f"<Map>{entries}</Map>"
    names = [url(channel=1), url(channel=2)]
    images = [image_element(name, channel=k + 1) for k, name in enumerate(names)]
    index = open_plate(plate(tmp_path, index_file(images, maps=maps), *names), cache=False)
    (told,) = [f for f in index.findings if f.code == "FLATFIELD_CLAMPED"]
    assert told.channel == 1
    # 0.02 in the first of the columns, 0.12 in the second
    assert "is below 0.1 in 6 of 48 pixels" in told.message
    assert [index.vendor_dark(channel) for channel in (0, 1)] == [0, 0]


def test_an_assay_layout_is_the_platemap(tmp_path: Path) -> None:
    folder = plate(tmp_path, index_file([image_element(url())]), url())
    (folder / "Assaylayout").mkdir()
    wells = "<Well><Row>1</Row><Col>2</Col><Value>DMSO</Value></Well>"
    (folder / "Assaylayout" / "a.xml").write_text(
        f'<AssayLayout xmlns="{V5}"><PlateCols>24</PlateCols><PlateRows>16</PlateRows>'
        f"<Layer><Name>Compound</Name>{wells}</Layer></AssayLayout>"
    )
    index = open_plate(folder, cache=False)
    assert index.platemap is not None
    assert index.platemap.columns == ("Compound",)
    assert index.platemap.wells == {"A02": ("DMSO",)}
    assert codes(index)["PLATEMAP_ENTRY_MISSING"] == 1
    assert index.files.metadata == 2


def test_the_real_plate_agrees_with_an_independent_reading(real_plates: Path) -> None:
    folder = real_plates / "phenix/harmony_v5_cell_painting"
    index = open_plate(folder, cache=False)
    with (folder / "load_data_version5.csv").open(encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert index.wells == (line["Metadata_Well"],)
    assert index.name == line["Metadata_Plate"]
    by_name = {plane.channel_name: plane for plane in index}
    for key, name in line.items():
        if not key.startswith("Metadata_ChannelName_"):
            continue
        label = key.removeprefix("Metadata_ChannelName_")
        plane = by_name[name]
        assert plane.path == f"images/{line[f'FileName_{label}']}"
        assert plane.channel_id == line[f"Metadata_ChannelID_{label}"]
        assert plane.exposure_s == float(line[f"Metadata_ExposureTime_{label}"])
        assert plane.excitation_nm == float(line[f"Metadata_MainExcitationWavelength_{label}"])
        emission = float(line[f"Metadata_MainEmissionWavelength_{label}"])
        assert plane.emission_nm == (emission or None)
        assert plane.z_um == pytest.approx(1e6 * float(line[f"Metadata_PositionZ_{label}"]))
        assert plane.x_um == pytest.approx(1e6 * float(line["Metadata_PositionX"]))
        assert plane.y_um == pytest.approx(-1e6 * float(line["Metadata_PositionY"]))
        assert plane.pixel_um_x == 1e6 * float(line["Metadata_ImageResolutionX"])
        assert plane.shape == (
            int(line["Metadata_ImageSizeY"]),
            int(line["Metadata_ImageSizeX"]),
        )
        assert index.read(plane).shape == plane.shape
    assert index.vendor_profile(0) is not None
    assert codes(index) == {"UNMATCHED_NAME": 1}  # the two files of the independent reader


def test_the_vendor_profile_flattens_real_background(real_plates: Path) -> None:
    index = open_plate(real_plates / "phenix/harmony_v5_cell_painting", cache=False)
    channel = index.channel_names.index("Alexa 647")
    profile = index.vendor_profile(channel)
    assert index.vendor_dark(channel) == 0
    assert profile is not None
    assert (profile.shape, profile.dtype) == ((1080, 1080), np.dtype(np.float32))
    assert float(profile.mean()) == pytest.approx(1.0, abs=1e-3)
    (plane,) = index.select(channels=[channel])
    blocks = index.read(plane).reshape(40, 27, 40, 27).swapaxes(1, 2).reshape(40, 40, -1)
    background = np.percentile(blocks, 5, axis=2)

    def block_mean(image: np.ndarray) -> np.ndarray:
        return np.asarray(image.reshape(40, 27, 40, 27).mean((1, 3)))

    def agreement(image: np.ndarray) -> float:
        return float(np.corrcoef(background.ravel(), block_mean(image).ravel())[0, 1])

    assert agreement(profile) > 0.985
    for wrong in (profile.T, profile[::-1], profile[:, ::-1]):
        assert agreement(np.ascontiguousarray(wrong)) < 0.97
    flat = background / block_mean(profile)
    assert flat.std() / flat.mean() < 0.25 * background.std() / background.mean()


def test_the_real_pair_of_fields_abuts(real_plates: Path, tmp_path: Path) -> None:
    root = real_plates / "phenix/sonata_two_fields"
    index = open_plate(root, cache=False)
    left, right = index
    assert right.x_um - left.x_um == pytest.approx(1080 * 1.19595, rel=1e-3)
    assert (left.y_um, index.wells) == (-645.814, ("C03",))
    assert index.platemap is None  # its layout names no value
    assert not index.findings
    shutil.copytree(root / "Images", tmp_path / "Images")
    assert len(open_plate(tmp_path / "Images", cache=False)) == 2
    assert len(open_plate(tmp_path / "Images" / "Index.idx.xml", cache=False)) == 2
