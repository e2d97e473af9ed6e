"""OME-TIFF plates: companion files, metadata in the images, and what goes wrong with them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from openhcs._errors import (
    AmbiguousFormatError,
    FormatNotRecognisedError,
    PlaneUnreadableError,
    PlateError,
)
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import FormatTests
from openhcs.testing.formats import OmeTiffCompanion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class TestOmeTiffCompanion(FormatTests):
    layout = OmeTiffCompanion()


class TestOmeTiffWithoutDescriptions(FormatTests):
    layout = OmeTiffCompanion(binary_only=False)
    ragged_plates = 5


NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
HEIGHT, WIDTH = 20, 24
C, Z, T = 2, 3, 2
ORDERS = ("XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC")


def value(well: str, field: int, c: int, z: int, t: int) -> int:
    """Give what a plane is filled with: no two planes have the same."""
    row, col = ord(well[0]) - ord("A"), int(well[1:]) - 1
    return (((((row * 12 + col) * 8 + field) * 4 + t) * 4 + c) * 4 + z) % 65_521


def pixels(well: str, field: int, c: int, z: int, t: int) -> Any:
    """Give a plane in which every pixel differs from its neighbours."""
    ramp = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH) * 7
    return ((ramp + value(well, field, c, z, t)) % 65_521).astype(np.uint16)


def planes(order: str) -> list[tuple[int, int, int]]:
    """Give c, z, t of the planes of an image in the order of a file."""
    sizes = {"C": C, "Z": Z, "T": T}
    found = []
    for number in range(C * Z * T):
        place, rest = {}, number
        for axis in order[2:]:
            rest, place[axis] = divmod(rest, sizes[axis])
        found.append((place["C"], place["Z"], place["T"]))
    return found


def uuid_of(name: str) -> str:
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"


def tiff_data(name: str, order: str, *, style: str = "planes", first_ifd: int = 0) -> str:
    """Write where the planes of an image are, as different programs do."""
    file = f'<UUID FileName="{escape(name)}">{uuid_of(name)}</UUID>' if name else ""
    if style == "planes":
        return "".join(
            f'<TiffData FirstC="{c}" FirstZ="{z}" FirstT="{t}" IFD="{first_ifd + ifd}" '
            f'PlaneCount="1">{file}</TiffData>'
            for ifd, (c, z, t) in enumerate(planes(order))
        )
    if style == "block":
        return f'<TiffData IFD="{first_ifd}" PlaneCount="{C * Z * T}">{file}</TiffData>'
    if style == "nothing":
        return f"<TiffData>{file}</TiffData>"
    return ""


def image(
    number: int,
    name: str,
    *,
    order: str = "XYCZT",
    data: str | None = None,
    sizes: str = 'PhysicalSizeX="0.65" PhysicalSizeY="0.65" PhysicalSizeZ="2"',
    planes: str = "",
) -> str:
    channels = "".join(
        f'<Channel ID="Channel:{number}:{c}" Name="{label}" SamplesPerPixel="1" '
        f'EmissionWavelength="{450 + 60 * c}"/>'
        for c, label in enumerate(("DAPI", "GFP"))
    )
    return (
        f'<Image ID="Image:{number}" Name="f{number}"><Pixels ID="Pixels:{number}" '
        f'DimensionOrder="{order}" Type="uint16" SizeX="{WIDTH}" SizeY="{HEIGHT}" SizeC="{C}" '
        f'SizeZ="{Z}" SizeT="{T}" {sizes}>{channels}'
        f"{tiff_data(name, order) if data is None else data}{planes}</Pixels></Image>"
    )


def document(
    wells: Mapping[str, Sequence[tuple[int, str]]],
    images: Iterable[str],
    *,
    own: str = "",
    plate: str = 'ID="Plate:0" Name="screen 7" Rows="8" Columns="12"',
    acquisitions: str = "",
) -> str:
    """Write a document: by well, the number of each image and what else its sample says."""
    parts = []
    for well, samples in wells.items():
        row, col = ord(well[0]) - ord("A"), int(well[1:]) - 1
        inside = "".join(
            f'<WellSample ID="Sample:{well}:{place}" Index="{number}" {more}>'
            f'<ImageRef ID="Image:{number}"/></WellSample>'
            for place, (number, more) in enumerate(samples)
        )
        parts.append(f'<Well ID="Well:{well}" Row="{row}" Column="{col}">{inside}</Well>')
    own = f' UUID="{uuid_of(own)}"' if own else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}"{own}>'
        f"<Plate {plate}>{''.join(parts)}{acquisitions}</Plate>{''.join(images)}</OME>"
    )


def write_image(
    path: Path, well: str, field: int, description: str = "", *, order: str = "XYCZT", **more: Any
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not description:
        description = (
            f'<?xml version="1.0"?><OME xmlns="{NAMESPACE}" UUID="{uuid_of(path.name)}">'
            f'<BinaryOnly MetadataFile="p.companion.ome" UUID="{uuid_of("p")}"/></OME>'
        )
    with tifffile.TiffWriter(path, ome=False) as writer:
        for number, (c, z, t) in enumerate(planes(order)):
            writer.write(
                pixels(well, field, c, z, t),
                description=description.encode() if number == 0 else None,
                metadata=None,
                photometric="minisblack",
                **more,
            )


FIELDS = {0: ("A01", 0), 1: ("A01", 1), 2: ("C12", 0)}
"""Well and field of each image."""
WELLS: dict[str, Sequence[tuple[int, str]]] = {
    "A01": [(0, 'PositionX="-5" PositionY="2"'), (1, 'PositionX="10.5" PositionY="2"')],
    "A02": [],
    "C12": [(2, 'PositionX="0" PositionY="0"')],
}


def write_companion_plate(folder: Path, **more: Any) -> Path:
    """Write three images in files of their own, and a companion."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {number: f"images/well-{w}-{f}.ome.tiff" for number, (w, f) in FIELDS.items()}
    for number, (well, field) in FIELDS.items():
        write_image(folder / names[number], well, field, order=more.get("order", "XYCZT"))
    images = [image(number, name, **more) for number, name in names.items()]
    (folder / "p.companion.ome").write_text(document(WELLS, images), encoding="utf-8")
    return folder


def every_plane_is_its_own(index: PlateIndex) -> int:
    for plane in index.select():
        wanted = pixels(plane.well, plane.field, plane.channel, plane.z, plane.t)
        np.testing.assert_array_equal(index.read(plane), wanted)
    return len(index.select())


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


def test_a_companion_that_cannot_be_read_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_companion_plate(tmp_path / "p")
    opened = Path.open

    def refused(path: Path, *words: Any, **more: Any) -> Any:
        if path.name == "p.companion.ome":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *words, **more)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(PlateError, match=r"p\.companion\.ome cannot be read: Permission denied"):
        open_plate(folder, cache=False)


def test_a_companion_says_where_every_plane_is(tmp_path: Path) -> None:
    index = open_plate(write_companion_plate(tmp_path / "p"), cache=False)
    assert (index.format, index.format_version, index.name) == ("ome-tiff", "2016-06", "screen 7")
    assert (index.rows, index.columns, index.wells) == (8, 12, ("A01", "C12"))
    assert index.channel_names == ("DAPI", "GFP")
    assert index.pixel_um == (0.65, 0.65)
    assert not index.findings
    assert every_plane_is_its_own(index) == 3 * C * Z * T
    assert (index.files.planes, index.files.metadata, index.files.total) == (3, 1, 4)
    plane = next(iter(index.select(fields=[1], channels=[1], z=[2])))
    assert (plane.x_um, plane.y_um, plane.z_um, plane.emission_nm) == (10.5, 2.0, 4.0, 510.0)
    assert plane.path == "images/well-A01-1.ome.tiff"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("style", ["planes", "block", "nothing"])
def test_planes_are_found_in_every_order_and_whatever_is_left_out(
    tmp_path: Path, order: str, style: str
) -> None:
    folder = tmp_path / "p"
    write_image(folder / "a.ome.tif", "A01", 0, order=order)
    only = image(0, "", order=order, data=tiff_data("a.ome.tif", order, style=style))
    (folder / "p.companion.ome").write_text(document({"A01": [(0, "")]}, [only]))
    index = open_plate(folder, cache=False)
    assert every_plane_is_its_own(index) == C * Z * T


def test_an_element_that_leaves_its_extent_open_gives_way_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    data = []
    for ifd, (c, z, t) in enumerate(planes("XYCZT")):
        name = f"a{ifd}.ome.tif"
        plane = pixels("A01", 0, c, z, t)
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / name, plane, metadata=None, photometric="minisblack")
        first = "".join(f'First{axis}="{at}" ' for axis, at in zip("CZT", (c, z, t), strict=True))
        data.append(f'<TiffData {first}><UUID FileName="{name}">x</UUID></TiffData>')
    (folder / "p.companion.ome").write_text(
        document({"A01": [(0, "")]}, [image(0, "", data="".join(data))])
    )
    assert every_plane_is_its_own(open_plate(folder, cache=False)) == C * Z * T


@pytest.mark.parametrize("count", [1, 3])
def test_metadata_may_be_in_the_images(tmp_path: Path, count: int) -> None:
    """Each of three files has all of it, or one file has all the planes of all wells."""
    folder = tmp_path / "p"
    names = {number: f"part{number % count}.ome.tif" for number in FIELDS}
    first = {number: (number // count) * C * Z * T for number in FIELDS}
    images = [image(n, "", data=tiff_data(names[n], "XYCZT", first_ifd=first[n])) for n in FIELDS]
    folder.mkdir()
    for name in sorted(set(names.values())):
        with tifffile.TiffWriter(folder / name, ome=False) as writer:
            text: bytes | None = document(WELLS, images, own=name).encode()
            for number in (n for n in FIELDS if names[n] == name):
                for c, z, t in planes("XYCZT"):
                    writer.write(
                        pixels(*FIELDS[number], c, z, t),
                        description=text,
                        metadata=None,
                        photometric="minisblack",
                    )
                    text = None
    index = open_plate(folder, cache=False)
    assert not index.findings
    assert every_plane_is_its_own(index) == 3 * C * Z * T
    assert (index.files.planes, index.files.metadata) == (count, 0)
    assert open_plate(folder / "part0.ome.tif", deep=True, cache=False).wells == ("A01", "C12")


@pytest.mark.parametrize("order", ORDERS)
def test_planes_are_those_that_tifffile_finds(tmp_path: Path, order: str) -> None:
    name = "all.ome.tif"
    images = [
        image(n, name, order=order, data=tiff_data(name, order, first_ifd=n * C * Z * T))
        for n in FIELDS
    ]
    (tmp_path / "p").mkdir()
    text: bytes | None = document(WELLS, images, own=name).encode()
    with tifffile.TiffWriter(tmp_path / "p" / name, ome=False) as writer:
        for well, field in FIELDS.values():
            for c, z, t in planes(order):
                plane = pixels(well, field, c, z, t)
                writer.write(plane, description=text, metadata=None, photometric="minisblack")
                text = None
    index = open_plate(tmp_path / "p", cache=False)
    assert len(index) == 3 * C * Z * T
    with tifffile.TiffFile(tmp_path / "p" / name) as file:
        for number, (well, field) in FIELDS.items():
            series = file.series[number]
            whole = series.asarray()
            for plane in index.select(wells=[well], fields=[field]):
                at = {"C": plane.channel, "Z": plane.z, "T": plane.t}
                theirs = whole[tuple(at[axis] for axis in series.axes[:-2])]
                np.testing.assert_array_equal(index.read(plane), theirs)


def test_files_that_each_know_their_own_well_make_one_plate(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for number, (well, field) in FIELDS.items():
        name = f"{well}-{field}.ome.tif"
        # all wells are listed, and only the own image is described
        text = document(WELLS, [image(number, name)], own=name)
        write_image(folder / name, well, field, text)
    index = open_plate(folder, cache=False)
    assert every_plane_is_its_own(index) == 3 * C * Z * T
    assert not index.findings


@pytest.mark.parametrize("companion", [True, False])
def test_of_a_plate_and_a_copy_further_down_the_upper_one_is_read(
    tmp_path: Path, companion: bool
) -> None:
    folder = tmp_path / "p"
    if companion:
        write_companion_plate(folder)
    else:
        for number, (well, field) in FIELDS.items():
            name = f"{well}-{field}.ome.tif"
            text = document(WELLS, [image(number, name)], own=name)
            write_image(folder / name, well, field, text)
    shutil.copytree(folder, tmp_path / "copy")
    shutil.move(tmp_path / "copy", folder / "backup")
    index = open_plate(folder, cache=False)
    assert every_plane_is_its_own(index) == 3 * C * Z * T
    assert not [path for path in index.column("path") if path.startswith("backup")]
    assert codes(index)["UNLISTED_FILE"] == 1


def test_parts_without_metadata_lead_to_the_file_that_has_them(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    text = (folder / "p.companion.ome").read_text()
    (folder / "p.companion.ome").rename(folder / "images" / "master.xml")
    (folder / "images" / "master.xml").write_text(text.replace("images/", ""))
    for path in folder.glob("images/*.tiff"):
        path.write_bytes(path.read_bytes().replace(b'"p.companion.ome"', b'"master.xml"     '))
    index = open_plate(folder, cache=False)
    assert every_plane_is_its_own(index) == 3 * C * Z * T
    assert index.files.metadata == 1
    (folder / "images" / "master.xml").unlink()
    with pytest.raises(PlateError, match=r"images/master\.xml, which is not there"):
        open_plate(folder, cache=False)


@pytest.mark.parametrize("embedded", [True, False])
def test_files_with_other_names_are_known_by_their_identifier(
    tmp_path: Path, *, embedded: bool
) -> None:
    folder = tmp_path / "p"
    name = "acquired.ome.tif"
    if embedded:
        text = document({"A01": [(0, "")]}, [image(0, name)], own=name)
        write_image(folder / name, "A01", 0, text)
    else:
        write_image(folder / name, "A01", 0)
        (folder / "p.companion.ome").write_text(document({"A01": [(0, "")]}, [image(0, name)]))
    (folder / name).rename(folder / "renamed.ome.tif")
    index = open_plate(folder, cache=False)
    assert codes(index) == {"FILE_RENAMED": 1, "POSITION_MISSING": 1}
    assert "acquired.ome.tif is renamed.ome.tif" in index.findings[0].message
    assert every_plane_is_its_own(index) == C * Z * T


@pytest.mark.parametrize(
    ("given", "um"),
    [
        ('PositionX="7.5" PositionY="-1"', (7.5, -1.0)),
        ('PositionX="7.5" PositionXUnit="mm" PositionY="-1" PositionYUnit="nm"', (7500.0, -1e-3)),
        ('PositionX="7.5" PositionXUnit="\N{GREEK SMALL LETTER MU}m" PositionY="1"', (7.5, 1.0)),
        ('PositionX="7.5" PositionXUnit="reference frame" PositionY="1"', None),
        ('PositionX="7.5" PositionXUnit="pixel" PositionY="1"', None),
        ('PositionX="east" PositionY="1"', None),
        ("", None),
    ],
)
def test_positions_are_read_in_their_units(
    tmp_path: Path, given: str, um: tuple[float, float] | None
) -> None:
    folder = tmp_path / "p"
    write_image(folder / "a.ome.tif", "A01", 0)
    text = document({"A01": [(0, given)]}, [image(0, "a.ome.tif")])
    (folder / "p.companion.ome").write_text(text, encoding="utf-8")
    (plane, *_) = open_plate(folder, cache=False)
    if um is None:
        assert np.isnan([plane.x_um, plane.y_um]).any()
    else:
        assert (plane.x_um, plane.y_um) == pytest.approx(um)


def test_what_is_said_of_a_plane_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    write_image(folder / "a.ome.tif", "A01", 0)
    said = (
        '<Plane TheC="1" TheZ="2" TheT="1" DeltaT="1500" DeltaTUnit="ms" ExposureTime="0.02" '
        'PositionX="3" PositionY="4" PositionZ="0.012" PositionZUnit="mm"/>'
    )
    sizes = 'PhysicalSizeX="650" PhysicalSizeXUnit="nm" PhysicalSizeY="6.5e-7" '
    sizes += 'PhysicalSizeYUnit="m"'
    only = image(0, "a.ome.tif", planes=said, sizes=sizes)
    text = document({"A01": [(0, "")]}, [only])
    (folder / "p.companion.ome").write_text(text, encoding="utf-8")
    index = open_plate(folder, cache=False)
    (plane,) = index.select(channels=[1], z=[2], t=[1])
    assert (plane.time_s, plane.exposure_s, plane.x_um, plane.y_um) == (1.5, 0.02, 3.0, 4.0)
    assert plane.z_um == pytest.approx(12.0)
    assert index.pixel_um == pytest.approx((0.65, 0.65))
    (other,) = index.select(channels=[0], z=[0], t=[0])
    assert other.exposure_s is None


def test_acquisitions_stay_apart(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for number in range(3):
        write_image(folder / f"{number}.ome.tif", "A01", max(0, number - 1))
    runs = (
        '<PlateAcquisition ID="Run:1"><WellSampleRef ID="Sample:A01:0"/></PlateAcquisition>'
        '<PlateAcquisition ID="Run:2"><WellSampleRef ID="Sample:A01:1"/>'
        '<WellSampleRef ID="Sample:A01:2"/></PlateAcquisition>'
    )
    wells = {"A01": [(number, "") for number in range(3)]}
    images = [image(number, f"{number}.ome.tif") for number in range(3)]
    (folder / "p.companion.ome").write_text(document(wells, images, acquisitions=runs))
    index = open_plate(folder, cache=False)
    assert {(p.acquisition, p.field) for p in index} == {(0, 0), (1, 0), (1, 1)}
    every_plane_is_its_own(index)


def test_wells_of_two_plates_in_one_folder_are_opened_by_their_companion(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_image(tmp_path / "p" / f"{name}.ome.tif", "A01", 0)
        text = document(
            {"A01": [(0, "")]},
            [image(0, f"{name}.ome.tif")],
            plate=f'ID="Plate:{name}" Name="{name}" Rows="8" Columns="12"',
        )
        (tmp_path / "p" / f"{name}.companion.ome").write_text(text)
    with pytest.raises(AmbiguousFormatError, match=r"one\.companion\.ome, two\.companion\.ome"):
        open_plate(tmp_path / "p", cache=False)
    index = open_plate(tmp_path / "p" / "two.companion.ome", cache=False)
    assert index.name == "two"
    assert {plane.path for plane in index} == {"two.ome.tif"}
    assert codes(index) == {"POSITION_MISSING": 1, "UNLISTED_FILE": 1}


def test_what_is_listed_and_not_there_is_missing(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    (folder / "images/well-A01-1.ome.tiff").unlink()
    (folder / "images/well-C12-0.ome.tiff").write_bytes(b"")
    index = open_plate(folder, cache=False)
    assert codes(index) == {"MISSING_PLANE": 1, "EMPTY_FILE": 1}
    assert Counter(index.column("status")) == {"ok": 12, "missing": 12, "empty": 12}
    assert every_plane_is_its_own(index) == 12
    with pytest.raises(PlaneUnreadableError, match="well A01 field 1"):
        index.read(next(iter(index.select(status="missing"))))


def test_a_file_that_was_cut_short_loses_the_planes_behind_the_cut(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    path = folder / "images/well-A01-1.ome.tiff"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    index = open_plate(folder, cache=False, deep=True)
    lost = index.select(status="unreadable")
    assert 1 < len(lost) < 12
    assert {plane.page for plane in lost} == set(range(12 - len(lost), 12))
    (finding,) = index.findings
    assert (finding.code, finding.well, finding.field) == ("UNREADABLE", "A01", 1)
    assert f"{len(lost)} planes" in finding.message
    assert every_plane_is_its_own(index) == 36 - len(lost)


def test_a_file_of_fewer_images_than_the_metadata_say_loses_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    write_image(folder / "a.ome.tif", "A01", 0)
    data = tiff_data("a.ome.tif", "XYCZT", first_ifd=6)
    text = document({"A01": [(0, "")]}, [image(0, "", data=data)])
    (folder / "p.companion.ome").write_text(text)
    index = open_plate(folder, cache=False)
    with pytest.raises(PlaneUnreadableError, match="none is 17"):
        index.read(list(index)[-1])
    deep = open_plate(folder, cache=False, deep=True)
    assert len(deep.select(status="unreadable")) == 6
    (said,) = [f.message for f in deep.findings if f.code == "UNREADABLE"]
    assert "the file has 12 images" in said


@pytest.mark.parametrize("name", ["../outside.ome.tif", "/etc/passwd", "C:\\a.ome.tif"])
def test_names_that_lead_out_of_the_plate_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "p"
    write_image(tmp_path / "outside.ome.tif", "A01", 0)
    write_image(folder / "a.ome.tif", "A01", 0)
    data = tiff_data("a.ome.tif", "XYCZT").replace('FileName="a.ome.tif"', f'FileName="{name}"', 1)
    data = data.replace(uuid_of("a.ome.tif"), "urn:uuid:0", 1)
    text = document({"A01": [(0, "")]}, [image(0, "", data=data)])
    (folder / "p.companion.ome").write_text(text)
    index = open_plate(folder, cache=False)
    (finding,) = [f for f in index.findings if f.severity == "error"]
    assert (finding.code, finding.well) == ("PATH_ESCAPE", "A01")
    assert len(index.select(status="unreadable")) == 1
    assert every_plane_is_its_own(index) == 11


def test_two_places_for_one_plane_are_a_conflict(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    path = folder / "p.companion.ome"
    text = path.read_text()
    start = text.index("<TiffData")
    end = text.index("</TiffData>") + len("</TiffData>")
    again = text[start:end].replace('IFD="0"', 'IFD="7"')
    path.write_text(text[:end] + again + text[end:])
    index = open_plate(folder, cache=False)
    assert codes(index) == {"DUPLICATE_KEY": 1}
    assert len(index.select(status="conflict")) == 2


def test_images_that_are_said_to_be_several_planes_are_in_conflict(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    companion = folder / "p.companion.ome"
    # a directory that is left out is the first one, for every plane that has a count
    text = re.sub(r' IFD="\d+"', "", companion.read_text("utf-8"))
    companion.write_text(text, "utf-8")
    index = open_plate(folder, cache=False)
    assert set(index.column("status").tolist()) == {"conflict"}
    found = [f for f in index.findings if f.code == "DUPLICATE_KEY"]
    assert len(found) == len(FIELDS)
    assert f"is said to be {C * Z * T} planes: well A01 field 0 channel 0" in found[0].message
    assert found[0].severity == "error"


def test_a_companion_that_was_cut_short_gives_what_it_still_says(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    path = folder / "p.companion.ome"
    text = path.read_text()
    path.write_text(text[: text.index('<Image ID="Image:2"') + 200])
    index = open_plate(folder, cache=False)
    assert [f.code for f in index.findings if f.severity == "error"] == ["METADATA_UNREADABLE"]
    assert every_plane_is_its_own(index) == 24
    lost = index.select(status="unreadable")
    assert {(p.well, p.field) for p in lost} == {("C12", 0)}
    assert len(lost) == 12


def test_an_image_that_nobody_describes_is_said(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    path = folder / "p.companion.ome"
    text = path.read_text()
    path.write_text(text.replace('<ImageRef ID="Image:1"/>', '<ImageRef ID="Image:9"/>'))
    index = open_plate(folder, cache=False)
    assert codes(index) == {"METADATA_INVALID": 1, "UNLISTED_FILE": 1}
    assert {(p.well, p.field) for p in index.select(status="unreadable")} == {("A01", 1)}


def test_entities_are_refused(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    path = folder / "p.companion.ome"
    text = path.read_text()
    bomb = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaa">]>'
    path.write_text(bomb + text[text.index("<OME") :])
    with pytest.raises(PlateError, match="declares the entity 'a'"):
        open_plate(folder, cache=False)


def test_sizes_that_no_image_has_are_said_and_cost_that_image(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    path = folder / "p.companion.ome"
    path.write_text(path.read_text().replace('SizeT="2"', 'SizeT="999999999"', 1))
    index = open_plate(folder, cache=False)
    assert codes(index)["METADATA_INVALID"] >= 1
    assert {(p.well, p.field) for p in index.select(status="unreadable")} == {("A01", 0)}


ODD_VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from(["", " ", "..", "/", "x" * 5000, "\u0663", "1_0", "0x1", "\ufeff"]),
)


def test_whatever_a_companion_says_it_is_a_plate_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = write_companion_plate(tmp_path_factory.mktemp("odd") / "p")
    path = folder / "p.companion.ome"
    whole = path.read_text()
    values = [match.span(1) for match in re.finditer(r'="([^"]*)"', whole)]
    tags = [match.span() for match in re.finditer(r"<[^>]*>", whole)]

    @settings(max_examples=120, deadline=None)
    @given(
        span=st.sampled_from(values) | st.sampled_from(tags),
        odd=ODD_VALUES,
        cut=st.none() | st.integers(0, len(whole)),
    )
    def check(span: tuple[int, int], odd: str, cut: int | None) -> None:
        text = whole[: span[0]] + escape(odd) + whole[span[1] :]
        path.write_text(text[:cut], encoding="utf-8")
        try:
            index = open_plate(folder, cache=False, deep=True)
        except PlateError:
            return
        for plane in index.select():
            with contextlib.suppress(PlaneUnreadableError):
                index.read(plane)

    check()


def test_ome_tiff_without_a_plate_is_none(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 20, 24), np.uint16))
    with pytest.raises(FormatNotRecognisedError, match="describes no plate"):
        open_plate(tmp_path, cache=False)


def test_colours_of_one_channel_are_no_planes_that_can_be_measured(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    tifffile.imwrite(folder / "a.ome.tif", np.zeros((20, 24, 3), np.uint8), metadata=None)
    text = document({"A01": [(0, "")]}, [image(0, "a.ome.tif")])
    (folder / "p.companion.ome").write_text(text)
    with pytest.raises(PlateError, match="several samples per pixel"):
        open_plate(folder, cache=False, deep=True)


@pytest.mark.parametrize("side", [24, 40, 100])
def test_whichever_plane_is_read_first_is_right(tmp_path: Path, side: int) -> None:
    whole = np.random.default_rng(0).integers(0, 4000, (C * Z * T, side, side), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as writer:
        for plane in whole:
            writer.write(plane, metadata=None, photometric="minisblack")
    text = document({"A01": [(0, "")]}, [image(0, "a.ome.tif")])
    (tmp_path / "p.companion.ome").write_text(text)
    for page in range(len(whole)):
        index = open_plate(tmp_path, cache=False)
        (plane,) = [plane for plane in index if plane.page == page]
        np.testing.assert_array_equal(index.read(plane), whole[page])


def test_a_file_of_many_images_is_walked_once_and_again_when_it_is_another(tmp_path: Path) -> None:
    folder = write_companion_plate(tmp_path / "p")
    index = open_plate(folder, cache=False)
    assert every_plane_is_its_own(index) == 36
    chosen = list(index.select(wells=["A01"], fields=[0]))
    path = folder / "images/well-A01-0.ome.tiff"
    # other offsets, and the same planes
    write_image(path, "A01", 0, compression="zlib")
    with pytest.raises(PlaneUnreadableError, match="was changed after the plate was indexed"):
        index.read(chosen[0])
    again = open_plate(folder, cache=False)
    for plane in again.select(wells=["A01"], fields=[0]):
        wanted = pixels("A01", 0, plane.channel, plane.z, plane.t)
        np.testing.assert_array_equal(again.read(plane), wanted)
    # fewer images, in a file that looks the same in its folder
    (last,) = again.select(wells=["A01"], fields=[0], channels=[1], z=[2], t=[1])
    before = path.stat()
    shutil.copy2(path, tmp_path / "old")
    tifffile.imwrite(path, np.zeros((1, HEIGHT, WIDTH), np.uint16), metadata=None)
    os.truncate(path, before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(PlaneUnreadableError, match=r"has no image|has shape"):
        again.read(last)
    (tmp_path / "old").replace(path)
    np.testing.assert_array_equal(again.read(last), pixels("A01", 0, 1, 2, 1))
