from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import tifffile

from openhcs._errors import PlaneUnreadableError, PlateError
from openhcs.plates import Description, PlateIndex, open_plate, read_index, write_index
from openhcs.testing import FormatTests, decode_stamp, synthetic_plate
from openhcs.testing.formats import ScanR, ScanRDescriptor

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openhcs.testing import FaultKind, PlateTruth
    from openhcs.testing.formats import Layout

DRIVER = "National Instruments IMAQ"


class TestScanR(FormatTests):
    layout = ScanR()
    usual = frozenset({"Y_UNVERIFIED"})
    ragged_plates = 15
    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "corrupt-metadata": frozenset({"POSITION_MISSING"})  # positions end where the list does
    }


class TestScanRDescriptor(FormatTests):
    layout = ScanRDescriptor()
    ragged_plates = 15


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


def make(folder: Path, layout: Layout, **changes: Any) -> PlateTruth:
    few: dict[str, Any] = {
        "wells": ("B01", "B12"),
        "grid": (1, 1),
        "z": 1,
        "size_px": 32,
        "stamp": True,
    }
    return synthetic_plate(folder / "p", format=layout, **few | changes)


def stamped_wells(index: PlateIndex) -> set[tuple[str, str]]:
    return {(p.well, decode_stamp(index.read(p)).key.well) for p in index.select()}


def test_the_offset_is_decided_once_and_kept_with_the_index(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanR())
    index = open_plate(truth.folder, cache=False)
    assert codes(index)["OFFSET_SUBTRACTED"] == 1
    assert index.format_version == "32768 counts taken off"
    assert set(index.column("offset_counts").tolist()) == {32768}
    write_index(index, tmp_path / "index")
    plane = next(iter(index))
    again = read_index(tmp_path / "index")
    stored = tifffile.imread(truth.folder / str(plane.path))
    for pixels in (index.read(plane), again.read(next(iter(again)))):
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, stored - 32768)


def test_without_the_drivers_tag_bright_planes_are_left_alone(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanR())
    for path in (truth.folder / "data").glob("*.tif"):
        pixels = tifffile.imread(path)
        tifffile.imwrite(path, pixels, software="another", metadata=None)
    index = open_plate(truth.folder, cache=False)
    assert set(index.column("offset_counts").tolist()) == {0}
    assert index.read(next(iter(index))).min() >= 32768
    assert not {"OFFSET_SUBTRACTED", "OFFSET_UNCERTAIN"} & set(codes(index))


def test_a_tagged_plate_with_lower_pixels_has_no_offset(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanR(offset=False))
    for path in (truth.folder / "data").glob("*.tif"):
        pixels = tifffile.imread(path)
        tifffile.imwrite(path, pixels, software=f"{DRIVER} 5", metadata=None)
    index = open_plate(truth.folder, cache=False)
    assert stamped_wells(index) == {("B01", "B01"), ("B12", "B12")}
    assert not {"OFFSET_SUBTRACTED", "OFFSET_UNCERTAIN"} & set(codes(index))


def test_planes_that_disagree_about_the_offset_are_said(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanR())
    path = next(iter((truth.folder / "data").glob("*.tif")))
    tifffile.imwrite(path, tifffile.imread(path) - 32768, software=DRIVER, metadata=None)
    index = open_plate(truth.folder, cache=False)
    assert codes(index)["OFFSET_UNCERTAIN"] == 1
    assert set(index.column("offset_counts").tolist()) == {0}


def test_a_pixel_below_the_offset_is_no_pixel_of_the_plate(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanR())
    index = open_plate(truth.folder, cache=False)
    plane = next(iter(index))
    path = truth.folder / str(plane.path)
    pixels = tifffile.imread(path)
    pixels[5, 5] = 7
    tifffile.imwrite(path, pixels, software=DRIVER, metadata=None)
    with pytest.raises(PlaneUnreadableError, match=r"pixel of 7, below the 32768"):
        index.read(plane)


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (16, 24), (4, 6)])
def test_well_numbers_run_row_by_row_over_the_physical_plate(
    tmp_path: Path, rows: int, columns: int
) -> None:
    wells = ("B01", f"C{columns:02d}")
    truth = make(tmp_path, ScanRDescriptor(), wells=wells, plate_rows=rows, plate_columns=columns)
    assert f"W{columns + 1:05d}--" in " ".join(str(p) for p in truth.planes["path"])
    index = open_plate(truth.folder, cache=False)
    assert stamped_wells(index) == {(well, well) for well in wells}
    assert (index.rows, index.columns) == (rows, columns)


def test_without_a_layout_the_token_names_the_well(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanRDescriptor(token=True))
    (truth.folder / "experiment_descriptor.xml").unlink()
    index = open_plate(truth.folder, cache=False)
    assert stamped_wells(index) == {("B01", "B01"), ("B12", "B12")}
    assert codes(index)["PLATE_SIZE_ASSUMED"] == 1


def test_without_layout_and_token_the_size_is_asked_for_and_taken(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanRDescriptor())
    (truth.folder / "experiment_descriptor.xml").unlink()
    with pytest.raises(PlateError, match="--plate-size") as caught:
        open_plate(truth.folder, cache=False)
    assert "13, 24" in str(caught.value)
    index = open_plate(truth.folder, cache=False, described=Description(plate_size=(8, 12)))
    assert stamped_wells(index) == {("B01", "B01"), ("B12", "B12")}
    assert codes(index)["PLATE_SIZE_ASSUMED"] == 0
    wrong = open_plate(truth.folder, cache=False, described=Description(plate_size=(16, 24)))
    assert wrong.wells == ("A13", "A24")
    with pytest.raises(PlateError, match="well number 24"):
        open_plate(truth.folder, cache=False, described=Description(plate_size=(2, 3)))


def test_an_image_of_no_well_of_the_plate_is_named_and_costs_no_other(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanRDescriptor(), grid=(3, 3))
    whole = open_plate(truth.folder, cache=False)
    file = min(truth.folder.rglob("*W00013--*"))
    other = file.rename(file.with_name(file.name.replace("W00013", "W00097")))
    index = open_plate(truth.folder, cache=False)
    assert len(index.select()) == len(whole.select()) - 1
    (finding,) = [f for f in index.findings if f.code == "UNMATCHED_NAME"]
    assert finding.path == other.relative_to(truth.folder).as_posix()
    assert "a plate of 8 x 12 does not have" in finding.message


def test_planes_that_the_list_gives_no_file_are_said(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanR())
    listed = truth.folder / "data" / "metadata.ome.xml"
    text = listed.read_text(encoding="utf-8")
    start = text.index("<UUID")
    end = text.index("</UUID>") + len("</UUID>")
    listed.write_text(text[:start] + text[end:], encoding="utf-8")
    index = open_plate(truth.folder, cache=False)
    (finding,) = [f for f in index.findings if f.code == "METADATA_UNREADABLE"]
    assert "lists 1 plane without a file" in finding.message
    assert codes(index)["UNLISTED_FILE"] == 1


def test_a_layout_that_contradicts_the_names_is_found_in_every_well(tmp_path: Path) -> None:
    truth = make(tmp_path, ScanRDescriptor(token=True))
    file = truth.folder / "experiment_descriptor.xml"
    file.write_bytes(file.read_bytes().replace(b"<Val>12</Val>", b"<Val>24</Val>"))
    index = open_plate(truth.folder, cache=False)
    odd = [f for f in index.findings if f.code == "LABEL_MISMATCH"]
    assert [f.well for f in odd] == ["A13", "A24"]
    assert "of B01 by their name" in odd[0].message


def descriptor(*parts: str) -> bytes:
    text = f'<?xml version="1.0"?><LVData><Cluster>{"".join(parts)}</Cluster></LVData>'
    return text.encode("latin-1")


def value(name: str, text: object, tag: str = "I32") -> str:
    return f"<{tag}><Name>{name}</Name><Val>{text}</Val></{tag}>"


def test_the_descriptor_gives_positions_wells_and_times(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for t in (0, 1):
        for position in (1, 2):
            name = f"W00002--P{position:05d}--Z00000--T{t:05d}--405 nm #1.tif"
            tifffile.imwrite(tmp_path / "data" / name, np.full((4, 4), t + position, np.uint16))
    places = "".join(value(n, v, "DBL") for n, v in (("X", -100), ("Y", 5), ("X", 100.5), ("Y", 6)))
    (tmp_path / "experiment_descriptor.xml").write_bytes(
        descriptor(
            value("comment", "µ"),
            value("plate name", "Größe", "String"),
            value("timeloop delay [ms]", 2500),
            value("conversion factor um/pixel", "0.32", "DBL"),
            "<Cluster><Name>format typedef</Name>",
            value("Rows", 8) + value("Columns", 12) + "</Cluster>",
            *(value("well selection table + cDNA", text, "String") for text in (2, "D5")),
            f"<Array><Name>subposition list</Name><Dimsize>2</Dimsize>{places}</Array>",
        )
    )
    index = open_plate(tmp_path, cache=False)
    assert index.name == "Größe"
    assert index.channel_names == ("405 nm #1",)
    assert index.pixel_um == (0.32, 0.32)
    assert [(p.well, p.field, p.t, p.x_um, p.y_um, p.time_s) for p in index.select()] == [
        ("D05", 0, 0, -100, 5, 0.0),
        ("D05", 0, 1, -100, 5, 2.5),
        ("D05", 1, 0, 100.5, 6, 0.0),
        ("D05", 1, 1, 100.5, 6, 2.5),
    ]
    assert codes(index)["Y_UNVERIFIED"] == 1


@pytest.mark.parametrize("text", [b"<LVData><Cluster>", b'<!DOCTYPE a [<!ENTITY b "c">]><a/>'])
def test_a_damaged_descriptor_is_a_finding(tmp_path: Path, text: bytes) -> None:
    truth = make(tmp_path, ScanRDescriptor(token=True))
    (truth.folder / "experiment_descriptor.xml").write_bytes(text)
    index = open_plate(truth.folder, cache=False)
    assert codes(index)["XML_ENTITY" if b"ENTITY" in text else "METADATA_UNREADABLE"] == 1
    assert index.wells == ("B01", "B12")
