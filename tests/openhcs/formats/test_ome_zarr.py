"""OME-Zarr plates: what wells list, joined with what is on disk, in both versions."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from openhcs._errors import FormatNotRecognisedError, PlaneUnreadableError, PlateError
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import FormatTests, synthetic_plate
from openhcs.testing.formats import OmeZarr04, OmeZarr05
from polystore.omezarr import (
    Acquisition,
    ChannelMeta,
    ImageMeta,
    ImageSlot,
    ImageWriter,
    PlateLayout,
    create_plate,
    store_problems,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.testing.formats import FaultKind, Layout

CASES = Path(__file__).parents[4] / "shared" / "data" / "ngff_conformance"
NEEDS_CASES = pytest.mark.skipif(
    not CASES.exists(), reason="needs the specification's cases in ../shared/data"
)


class OmeZarrTests(FormatTests):
    """The suite, but for what counts as a file."""

    ragged_plates = 12

    consequences: ClassVar[Mapping[FaultKind, frozenset[str]]] = {
        "path-escape": frozenset({"METADATA_INVALID"})
    }

    def test_files_are_each_in_one_class(self, tmp_path_factory: Any) -> None:
        truth = self.whole(tmp_path_factory)
        index = open_plate(truth.folder, cache=False)
        documents = sum(kind == "metadata" for kind in truth.planes["kind"].tolist())
        assert index.files.metadata == documents
        assert index.files.planes == len({plane.path for plane in index})
        assert index.files.ignored == index.files.planes  # coarser levels
        assert index.files.named == 0


class TestOmeZarr04(OmeZarrTests):
    layout = OmeZarr04()


class TestOmeZarr05(OmeZarrTests):
    layout = OmeZarr05()


VERSIONS = ("0.4", "0.5")
BOTH = pytest.mark.parametrize("version", VERSIONS)
AXES = ("t", "c", "z", "y", "x")
HEIGHT, WIDTH = 24, 32


def group(
    path: Path, version: str, ome: dict[str, Any], others: dict[str, Any] | None = None
) -> Path:
    """Write a group as any program would."""
    others = others or {}
    path.mkdir(parents=True, exist_ok=True)
    if version == "0.5":
        said = {"ome": {"version": "0.5", **ome}} if ome else {}
        document = {"zarr_format": 3, "node_type": "group", "attributes": others | said}
        (path / "zarr.json").write_text(json.dumps(document))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(others | ome))
    return path


def plate_document(
    wells: list[tuple[str, int, int]], *, rows: str = "ABC", columns: int = 4, **more: Any
) -> dict[str, Any]:
    return {
        "plate": {
            "name": "screen 7",
            "rows": [{"name": row} for row in rows],
            "columns": [{"name": str(number + 1)} for number in range(columns)],
            "wells": [
                {"path": path, "rowIndex": row, "columnIndex": column}
                for path, row, column in wells
            ],
        }
        | more
    }


def well_document(*images: tuple[str, int]) -> dict[str, Any]:
    return {"well": {"images": [{"path": path, "acquisition": run} for path, run in images]}}


def value(well: str, field: int, t: int, c: int, z: int) -> int:
    """Give what a plane is filled with: no two planes have the same."""
    row, col = ord(well[0]) - ord("A"), int(well[1:]) - 1
    return (((((row * 12 + col) * 8 + field) * 4 + t) * 4 + c) * 4 + z) % 65_521


def image(
    path: Path,
    version: str,
    *,
    well: str = "A01",
    field: int = 0,
    shape: tuple[int, int, int] = (2, 2, 3),
    at_um: tuple[float, float] | None = None,
    names: tuple[str, ...] = ("DAPI", "GFP"),
    axes: str = "tczyx",
    levels: int = 1,
    unit: str = "micrometer",
    scale: float = 0.65,
    omero: dict[str, Any] | None = None,
    others: dict[str, Any] | None = None,
    chunks: tuple[int, ...] = (),
    by_zarr: bool = False,
) -> Path:
    """Write an image: levels, channels and a place on the stage."""
    full = dict(zip(AXES, (*shape, HEIGHT, WIDTH), strict=True))
    steps = {"t": 60.0, "c": 1.0, "z": 2.0, "y": scale, "x": scale}
    kinds = {"t": {"type": "time", "unit": "second"}, "c": {"type": "channel"}}
    datasets = []
    for level in range(levels):
        factor = {"y": 2.0**level, "x": 2.0**level}
        transforms: list[dict[str, Any]] = [
            {"type": "scale", "scale": [steps[a] * factor.get(a, 1.0) for a in axes]}
        ]
        if at_um is not None:
            place = {"y": at_um[1], "x": at_um[0], "z": 100.0}
            transforms.append(
                {"type": "translation", "translation": [place.get(a, 0.0) for a in axes]}
            )
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    channels = [
        {
            "label": name,
            "color": "00FF00",
            "window": {"min": 0, "max": 65535, "start": 0, "end": 4000},
        }
        for name in names
    ]
    space = {"type": "space", "unit": unit}
    multiscale: dict[str, Any] = {
        "axes": [{"name": axis, **kinds.get(axis, space)} for axis in axes],
        "datasets": datasets,
    }
    if version == "0.4":
        multiscale["version"] = "0.4"
    ome: dict[str, Any] = {"multiscales": [multiscale]}
    if names:
        ome["omero"] = omero or {"channels": channels}
    group(path, version, ome, others)
    pixels = np.zeros(tuple(full[axis] for axis in AXES), np.uint16)
    for t, c, z in np.ndindex(*shape):
        pixels[t, c, z] = value(well, field, t, c, z)
    pixels = pixels[tuple(slice(None) if axis in axes else 0 for axis in AXES)]
    for level in range(levels):
        reduced = pixels[..., :: 2**level, :: 2**level]
        sides = chunks or (1,) * (reduced.ndim - 2) + (16, 32)
        write = write_by_zarr if by_zarr else write_plainly
        write(path / str(level), version, reduced, sides, axes)
    return path


def write_plainly(
    path: Path, version: str, pixels: Any, chunks: tuple[int, ...], axes: str
) -> None:
    """Write an array whose chunks are files of bytes: zarr takes a hundred times as long."""
    path.mkdir(exist_ok=True)
    document: dict[str, Any] = {"shape": list(pixels.shape), "fill_value": 0}
    if version == "0.5":
        grid = {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}
        document |= {"zarr_format": 3, "node_type": "array", "data_type": pixels.dtype.name}
        document |= {"chunk_grid": grid, "dimension_names": list(axes), "attributes": {}}
        document |= {"chunk_key_encoding": {"name": "default"}}
        document |= {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]}
    else:
        document |= {"zarr_format": 2, "chunks": list(chunks), "dtype": "<u2", "order": "C"}
        document |= {"compressor": None, "filters": None, "dimension_separator": "/"}
    (path / ("zarr.json" if version == "0.5" else ".zarray")).write_text(json.dumps(document))
    grid_shape = [-(-side // chunk) for side, chunk in zip(pixels.shape, chunks, strict=True)]
    for place in np.ndindex(*grid_shape):
        chunk = np.zeros(chunks, "<u2")
        part = pixels[tuple(slice(i * n, i * n + n) for i, n in zip(place, chunks, strict=True))]
        chunk[tuple(map(slice, part.shape))] = part
        file = path.joinpath(*(["c"] if version == "0.5" else []), *map(str, place))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chunk.tobytes())


def write_by_zarr(
    path: Path, version: str, pixels: Any, chunks: tuple[int, ...], axes: str
) -> None:
    more: dict[str, Any] = {"dimension_names": list(axes)}
    if version == "0.4":
        more = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    made = zarr.create_array(
        path,
        shape=pixels.shape,
        dtype=pixels.dtype,
        zarr_format=3 if version == "0.5" else 2,
        chunks=chunks,
        **more,
    )
    made[:] = pixels


def write_plate(root: Path, version: str, **more: Any) -> Path:
    """Write two wells of two and three fields."""
    group(root, version, plate_document([("B/3", 1, 2), ("A/1", 0, 0)]))
    for well, fields in (("A01", 2), ("B03", 3)):
        path = root / well[0] / str(int(well[1:]))
        group(path.parent, version, {})
        group(path, version, well_document(*((str(number), 0) for number in range(fields))))
        for field in range(fields):
            at_um = (-10.0 + 18.0 * field, 5.0)
            image(path / str(field), version, well=well, field=field, at_um=at_um, **more)
    return root


def every_plane_is_its_own(index: PlateIndex) -> None:
    for plane in index.select():
        pixels = index.read(plane)
        wanted = value(plane.well, plane.field, plane.t, plane.channel, plane.z)
        assert pixels.shape == plane.shape
        assert (pixels == wanted).all(), plane


def codes(index: PlateIndex) -> Counter[str]:
    return Counter(finding.code for finding in index.findings)


@BOTH
def test_every_plane_is_a_row_and_is_read(tmp_path: Path, version: str) -> None:
    index = open_plate(write_plate(tmp_path / "p.zarr", version, by_zarr=True), cache=False)
    assert (index.format, index.format_version, index.name) == ("ome-zarr", version, "screen 7")
    assert (index.wells, index.rows, index.columns) == (("A01", "B03"), 3, 4)
    assert len(index) == (2 + 3) * 2 * 2 * 3
    assert index.channel_names == ("DAPI", "GFP")
    assert index.pixel_um == (0.65, 0.65)
    assert index.dtype == np.uint16
    assert index.select(wells=["B03"]).fields == (0, 1, 2)
    assert index.select(wells=["A01"]).fields == (0, 1)
    assert not index.findings
    every_plane_is_its_own(index)
    first = next(iter(index.select(wells=["B03"], fields=[1], z=[2], t=[1])))
    assert (first.path, first.field_id, first.time_s, first.z_um) == ("B/3/1", "1", 60.0, 104.0)
    # from the centre of the first pixel to that of the tile
    assert first.x_um == pytest.approx(8.0 + (WIDTH - 1) / 2 * 0.65)
    assert first.y_um == pytest.approx(5.0 + (HEIGHT - 1) / 2 * 0.65)


@BOTH
def test_only_the_chunks_of_a_region_are_read(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    index = open_plate(root, cache=False)
    plane = next(iter(index.select(wells=["A01"], channels=[1], z=[1])))
    level = root / "A" / "1" / "0" / "0"
    chunk = level / ("c/0/1/1/1/0" if version == "0.5" else "0/1/1/1/0")
    chunk.write_bytes(b"\x00 no chunk at all")
    part = index.read(plane, region=(slice(2, 14), slice(0, 16)))
    assert part.shape == (12, 16)
    assert (part == value("A01", 0, 0, 1, 1)).all()
    with pytest.raises(PlaneUnreadableError, match="A/1/0"):
        index.read(plane)


@BOTH
def test_files_are_each_in_one_class(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version, levels=2)
    group(root / "A/1/0/labels", version, {"labels": ["cells"]})
    image(root / "A/1/0/labels/cells", version, names=(), levels=1)
    image(root / "A/1/7", version)
    (root / "A/1/notes.txt").write_text("who put this here")
    index = open_plate(root, cache=False)
    documents = sum(path.name.startswith((".z", "zarr.json")) for path in root.rglob("*"))
    assert index.files.metadata == documents
    assert index.files.planes == 5  # an array is one, however many chunks it has
    assert index.files.ignored == 5 + 1  # coarser levels and labels
    assert index.files.named == 1 + 1
    assert codes(index) == {"UNLISTED_FILE": 1, "UNMATCHED_NAME": 1}
    assert [f.path for f in index.findings] == ["A/1/7", "A/1/notes.txt"]


@BOTH
def test_an_image_without_translation_units_or_channels_has_none(
    tmp_path: Path, version: str
) -> None:
    root = group(tmp_path / "p.zarr", version, plate_document([("A/1", 0, 0)]))
    group(root / "A/1", version, well_document(("0", 0)))
    image(root / "A/1/0", version, names=(), unit="parsec", shape=(1, 2, 1))
    index = open_plate(root, cache=False)
    plane = next(iter(index))
    assert math.isnan(plane.x_um)
    assert plane.pixel_um_x is None
    assert math.isnan(plane.z_um)
    assert index.channel_names == ("channel 0", "channel 1")
    assert codes(index) == {"POSITION_MISSING": 1, "PIXEL_SIZE_MISSING": 1}


@pytest.mark.parametrize(
    ("unit", "scale"), [("nanometer", 650.0), ("millimeter", 0.00065), ("meter", 6.5e-7)]
)
def test_units_of_the_axes_are_converted(tmp_path: Path, unit: str, scale: float) -> None:
    root = group(tmp_path / "p.zarr", "0.5", plate_document([("A/1", 0, 0)]))
    group(root / "A/1", "0.5", well_document(("0", 0)))
    image(root / "A/1/0", "0.5", unit=unit, scale=scale, at_um=(1000 * scale, 0.0))
    (plane, *_) = open_plate(root, cache=False)
    assert plane.pixel_um_x == pytest.approx(0.65)
    assert plane.x_um == pytest.approx(650 + (WIDTH - 1) / 2 * 0.65)


def test_positions_that_are_all_the_same_are_not_known(tmp_path: Path) -> None:
    root = group(tmp_path / "p.zarr", "0.5", plate_document([("A/1", 0, 0)]))
    group(root / "A/1", "0.5", well_document(("0", 0), ("1", 0)))
    for field in range(2):
        image(root / f"A/1/{field}", "0.5", field=field, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert np.isnan(index.column("x_um")).all()
    assert codes(index) == {"POSITION_MISSING": 1}


@BOTH
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "czyx"])
def test_images_of_fewer_axes_are_read(tmp_path: Path, version: str, axes: str) -> None:
    root = group(tmp_path / "p.zarr", version, plate_document([("A/1", 0, 0)]))
    group(root / "A/1", version, well_document(("0", 0)))
    names = ("DAPI", "GFP") if "c" in axes else ("DAPI",)
    image(root / "A/1/0", version, axes=axes, names=names, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert len(index) == math.prod(dict(zip("tcz", (2, 2, 3), strict=True))[a] for a in axes[:-2])
    every_plane_is_its_own(index)


@BOTH
def test_wells_are_where_their_indices_say_whatever_they_are_called(
    tmp_path: Path, version: str
) -> None:
    root = tmp_path / "p.zarr"
    document = plate_document([("C/1", 0, 0), ("D/1", 1, 0)], rows="CD", columns=1)
    group(root, version, document)
    for row, well in (("C", "A01"), ("D", "B01")):
        group(root / row / "1", version, well_document(("0", 0)))
        image(root / row / "1" / "0", version, well=well, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert index.wells == ("A01", "B01")
    every_plane_is_its_own(index)
    (finding,) = index.findings
    assert finding.code == "LABEL_MISMATCH"
    assert "C01 is A01, D01 is B01" in finding.message


@BOTH
def test_acquisitions_stay_apart_and_number_their_own_fields(tmp_path: Path, version: str) -> None:
    root = tmp_path / "p.zarr"
    runs = [{"id": 7, "name": "second"}, {"id": 4, "name": "first"}]
    group(root, version, plate_document([("A/1", 0, 0)], acquisitions=runs))
    listed = (("x", 4), ("b", 7), ("a", 4), ("c", 7))
    group(root / "A/1", version, well_document(*listed))
    fields = {"x": 0, "a": 1, "b": 0, "c": 1}
    for number, (name, field) in enumerate(fields.items()):
        at_um = (20.0 * number, 0.0)
        image(root / "A/1" / name, version, field=field, shape=(1, 1, 1), names=("A",), at_um=at_um)
    index = open_plate(root, cache=False)
    assert index.acquisitions == (0, 1)
    said = {plane.field_id: (plane.acquisition, plane.field) for plane in index}
    assert said == {"b": (0, 0), "c": (0, 1), "x": (1, 0), "a": (1, 1)}
    every_plane_is_its_own(index)


@BOTH
def test_members_that_only_fill_an_image_up_are_no_planes(tmp_path: Path, version: str) -> None:
    root = tmp_path / "p.zarr"
    group(root, version, plate_document([("A/1", 0, 0)]))
    group(root / "A/1", version, well_document(("0", 0)))
    valid = [[0, 0, z] for z in range(3)] + [[0, 1, 1]]
    others = {"openhcs": {"valid": valid}}
    image(root / "A/1/0", version, shape=(1, 2, 3), others=others, at_um=(0.0, 0.0))
    index = open_plate(root, cache=False)
    assert {(p.t, p.channel, p.z) for p in index} == {tuple(each) for each in valid}
    every_plane_is_its_own(index)
    assert codes(index) == {"MIXED_DIMENSIONS": 1}


@BOTH
def test_what_is_listed_and_not_there_is_missing(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    shutil.rmtree(root / "B/3/1")  # an image
    shutil.rmtree(root / "A/1/1/0")  # the array of an image
    index = open_plate(root, cache=False)
    missing = index.select(status="missing")
    assert {(p.well, p.field) for p in missing} == {("B03", 1), ("A01", 1)}
    assert len(missing) == 2 * 12
    assert codes(index) == {"MISSING_PLANE": 2}
    with pytest.raises(PlaneUnreadableError, match="well A01 field 1"):
        index.read(next(iter(missing)))
    every_plane_is_its_own(index)


@BOTH
def test_a_well_that_is_not_there_was_not_acquired(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    shutil.rmtree(root / "B/3")
    index = open_plate(root, cache=False)
    assert index.wells == ("A01",)
    assert codes(index) == {"PARTIAL_ACQUISITION": 1}
    assert "B03" in index.findings[0].message


def damage(root: Path, version: str, place: str, text: str) -> None:
    names = {"0.5": ("zarr.json", "zarr.json"), "0.4": (".zattrs", ".zarray")}[version]
    (root / place / names[place.count("/") > 2]).write_text(text)


@BOTH
@pytest.mark.parametrize("text", ["", "[]", '{"zarr_format": 3}', "\x00\xff", "[" * 100_000])
@pytest.mark.parametrize("place", ["A/1", "A/1/0", "A/1/0/0"])
def test_a_damaged_document_costs_what_it_describes(
    tmp_path: Path, version: str, place: str, text: str
) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    damage(root, version, place, text)
    index = open_plate(root, cache=False)
    bad = [finding for finding in index.findings if finding.severity == "error"]
    assert len(bad) == 1
    assert bad[0].code in {"UNREADABLE", "METADATA_UNREADABLE"}
    assert bad[0].well == "A01"
    whole = index.select()
    assert set(whole.wells) >= {"B03"}
    assert {(p.well, p.field) for p in whole} >= {("B03", 0), ("B03", 1), ("B03", 2)}
    if place != "A/1":
        lost = {(p.well, p.field) for p in index.select(status="unreadable")}
        assert lost == {("A01", 0)}
    every_plane_is_its_own(index)


@BOTH
@pytest.mark.parametrize("path", ["../../elsewhere", "/etc", "A/../../x", "..", "a\\..\\b"])
def test_paths_that_lead_out_of_the_plate_are_refused(
    tmp_path: Path, version: str, path: str
) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    image(tmp_path / "elsewhere" / "0", version)
    group(root / "A/1", version, well_document(("0", 0), (path, 0)))
    group(root, version, plate_document([("A/1", 0, 0), ("B/3", 1, 2), (path, 2, 3)]))
    index = open_plate(root, cache=False)
    found = [f for f in index.findings if f.code == "PATH_ESCAPE"]
    assert {(finding.well, finding.path) for finding in found} == {("A01", path), ("C04", path)}
    assert {p.path for p in index.select(status="unreadable")} == {None}
    every_plane_is_its_own(index)


@BOTH
def test_a_link_that_leads_out_of_the_plate_is_not_followed(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    shutil.move(root / "A/1/0", tmp_path / "elsewhere")
    (root / "A/1/0").symlink_to(tmp_path / "elsewhere")
    index = open_plate(root, cache=False)
    assert codes(index) == {"UNREADABLE": 1, "LINK_IGNORED": 1}
    assert "is a link" in next(f.message for f in index.findings if f.code == "UNREADABLE")
    assert {(p.well, p.field) for p in index.select(status="unreadable")} == {("A01", 0)}


@pytest.mark.parametrize(
    ("version", "document", "said"),
    [
        ("0.5", {"version": "0.6.dev2", **plate_document([("A/1", 0, 0)])}, "OME-Zarr 0.6.dev2"),
        ("0.4", plate_document([("A/1", 0, 0)], version="0.2"), "OME-Zarr 0.2"),
        ("0.4", {"plate": []}, "no object"),
        ("0.4", {"plate": {}}, "no well"),
    ],
)
def test_plates_of_other_versions_are_refused_by_name(
    tmp_path: Path, version: str, document: dict[str, Any], said: str
) -> None:
    group(tmp_path / "p.zarr", version, document)
    with pytest.raises(PlateError, match=said):
        open_plate(tmp_path / "p.zarr", cache=False)


def test_metadata_of_one_version_in_zarr_of_the_other_is_said(tmp_path: Path) -> None:
    group(tmp_path / "p.zarr", "0.5", {}, plate_document([("A/1", 0, 0)]))
    with pytest.raises(PlateError, match=r"0\.4 in Zarr v3"):
        open_plate(tmp_path / "p.zarr", cache=False)


@pytest.mark.parametrize("codec", ["zfpy", "pickle", "jpeg"])
def test_a_codec_that_is_not_here_is_named_once(tmp_path: Path, codec: str) -> None:
    root = write_plate(tmp_path / "p.zarr", "0.4")
    for array in root.glob("B/3/*/0/.zarray"):
        document = json.loads(array.read_text())
        array.write_text(json.dumps(document | {"compressor": {"id": codec, "mode": 4}}))
    index = open_plate(root, cache=False)
    assert {(p.well, p.field) for p in index.select(status="unreadable")} == {
        ("B03", field) for field in range(3)
    }
    found = [f for f in index.findings if f.severity == "error"]
    assert {finding.code for finding in found} == {"UNREADABLE"}
    assert all(codec in finding.message for finding in found)
    assert index.select().wells == ("A01",)


def test_a_folder_that_is_no_plate_says_what_it_is(tmp_path: Path) -> None:
    root = write_plate(tmp_path / "p.zarr", "0.5")
    with pytest.raises(FormatNotRecognisedError, match="describes a well and no plate"):
        open_plate(root / "A" / "1", cache=False)
    with pytest.raises(FormatNotRecognisedError, match="describes an image and no plate"):
        open_plate(root / "A" / "1" / "0", cache=False)
    assert open_plate(root / "zarr.json", cache=False).name == "screen 7"
    assert open_plate(tmp_path, cache=False).wells == ("A01", "B03")


@BOTH
def test_whatever_is_written_again_makes_another_plate_of_it(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    chunk = root / "B/3/1/0" / ("c/0/0/0/0/0" if version == "0.5" else "0/0/0/0/0")
    attributes = root / "B/3/1" / ("zarr.json" if version == "0.5" else ".zattrs")

    def state() -> tuple[str, tuple[int, ...]]:
        index = open_plate(root, cache=False)
        part = index.select(wells=["B03"], fields=[1], status=None)
        return index.identity, tuple(part.column("mtime_ns").tolist())

    before = state()
    assert state() == before
    for changed in (chunk, attributes):
        stat = changed.stat()
        os.utime(changed, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
        after = state()
        assert after[0] != before[0]
        before = after
    chunk.unlink()
    assert state()[0] != before[0]


def test_an_array_of_many_chunks_is_looked_at_no_further_than_is_cheap(tmp_path: Path) -> None:
    root = group(tmp_path / "p.zarr", "0.4", plate_document([("A/1", 0, 0)]))
    group(root / "A/1", "0.4", well_document(("0", 0)))
    image(root / "A/1/0", "0.4", chunks=(1, 1, 1, 4, 4), levels=1, at_um=(0.0, 0.0))
    first = open_plate(root, cache=False)
    chunk = root / "A/1/0/0/1/1/2/5/7"
    chunk.write_bytes(chunk.read_bytes())  # in place: nothing but the chunk says so
    assert open_plate(root, cache=False).identity == first.identity
    (root / "A/1/0/0/1/1/2").touch()  # a folder of chunks in which one was replaced
    second = open_plate(root, cache=False)
    assert second.identity != first.identity
    shutil.rmtree(root / "A/1/0/0/1")  # a time point
    assert open_plate(root, cache=False).identity != second.identity


@BOTH
def test_images_that_are_replaced_while_the_plate_is_open_are_read_anew(
    tmp_path: Path, version: str
) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    index = open_plate(root, cache=False)
    plane = next(iter(index.select(wells=["A01"], fields=[0])))
    assert (index.read(plane) == value("A01", 0, 0, 0, 0)).all()
    shutil.rmtree(root / "A/1/0")
    image(root / "A/1/0", version, well="A01", field=5, shape=(1, 1, 1), names=("DAPI",))
    assert (index.read(plane) == value("A01", 5, 0, 0, 0)).all()
    other = next(iter(index.select(wells=["A01"], fields=[0], z=[2])))
    with pytest.raises(PlaneUnreadableError, match="has no image 2"):
        index.read(other)


@BOTH
def test_plates_of_polystore_open_with_the_planes_that_were_written(
    tmp_path: Path, version: str
) -> None:
    root = tmp_path / "p.zarr"
    layout = PlateLayout.regular(
        "written",
        rows=8,
        columns=12,
        wells=["B03"],
        images=["f0", "f1", ImageSlot("stitched", 1)],
        acquisitions=[Acquisition(0, "fields"), Acquisition(1, "stitched")],
    )
    create_plate(root, layout, version=version)
    meta = ImageMeta(channels=(ChannelMeta("DAPI"), ChannelMeta("GFP")), pixel_um=(0.5, 0.5))
    for name, size in (("f0", 40), ("f1", 40), ("stitched", 70)):
        with ImageWriter(root, "B03", name, (1, 2, 1, size, size), np.uint16, meta) as writer:
            for channel in range(2 if name != "f1" else 1):
                writer.write_plane(np.full((size, size), size + channel, np.uint16), c=channel)
            writer.commit(partial=True)
    write_labels(root, "B03", "f0", "cells", np.ones((40, 40), np.uint32))
    index = open_plate(root, cache=False)
    assert (index.rows, index.columns, index.acquisitions) == (8, 12, (0, 1))
    assert [(p.field_id, p.channel_name) for p in index.select(status="missing")] == [("f1", "GFP")]
    for plane in index.select():
        size = 70 if plane.acquisition else 40
        assert (index.read(plane) == size + plane.channel).all()
        assert plane.shape == (size, size)
    assert set(codes(index)) == {"MISSING_PLANE", "POSITION_MISSING"}


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("layout", [OmeZarr04(), OmeZarr05(levels=3)])
def test_plates_of_the_generator_are_what_other_readers_read(
    tmp_path: Path, layout: Layout, compression: Any
) -> None:
    yaozarrs = pytest.importorskip("yaozarrs", reason="needs yaozarrs")
    truth = synthetic_plate(
        tmp_path / "p.zarr",
        format=layout,
        wells=("A01", "H12"),
        grid=(1, 2),
        channels=("DAPI", "GFP"),
        single_plane=("GFP",),
        z=2,
        size_px=(48, 64),
        cells_per_field=2,
        compression=compression,
    )
    yaozarrs.validate_zarr_store(str(truth.folder))
    assert store_problems(truth.folder) == ()
    index = open_plate(truth.folder, cache=False)
    for plane in index:
        assert plane.path is not None
        theirs: Any = zarr.open_array(truth.folder / plane.path / "0", mode="r")
        wanted = theirs[plane.t, plane.channel, plane.z]
        np.testing.assert_array_equal(index.read(plane), wanted)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"dtype": "|u1"}, "DTYPE_MIX"), ({"shape": [1, 2, 3, 20, 32]}, "SHAPE_MIX")],
)
def test_images_that_differ_from_the_others_are_named(
    tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    root = write_plate(tmp_path / "p.zarr", "0.4")
    array = root / "B/3/1/0/.zarray"
    array.write_text(json.dumps(json.loads(array.read_text()) | change))
    index = open_plate(root, cache=False)
    assert codes(index)[code] == 2  # one for each channel
    assert all("B/3/1" in finding.message for finding in index.findings if finding.code == code)


@BOTH
def test_chunks_that_are_not_there_are_counted_by_a_deep_look(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    place = "c/1/0/2" if version == "0.5" else "1/0/2"
    shutil.rmtree(root / "A/1/0/0" / place)
    assert not open_plate(root, cache=False).findings
    index = open_plate(root, cache=False, deep=True)
    assert codes(index) == {"CHUNK_ABSENT": 1}
    assert "1 planes of 1 images" in index.findings[0].message
    (plane,) = index.select(wells=["A01"], fields=[0], t=[1], channels=[0], z=[2])
    assert not index.read(plane).any()


@pytest.mark.parametrize("cut", [0, 5, -3])
def test_chunks_that_were_cut_short_are_found_without_decoding_them(
    tmp_path: Path, cut: int
) -> None:
    root = tmp_path / "p.zarr"
    layout = PlateLayout.regular("p", rows=2, columns=3, wells=["A01"], images=["0"])
    create_plate(root, layout, version="0.4")
    with ImageWriter(root, "A01", "0", (1, 2, 1, 64, 64), np.uint16, ImageMeta()) as writer:
        for channel in range(2):
            pixels = np.random.default_rng(channel).integers(0, 999, (64, 64), np.uint16)
            writer.write_plane(pixels, c=channel)
        writer.commit()
    chunk = root / "A/1/0/0/0/1/0/0/0"
    assert {f.code for f in open_plate(root, cache=False, deep=True).findings} <= {
        "POSITION_MISSING",
        "PIXEL_SIZE_MISSING",
    }
    chunk.write_bytes(chunk.read_bytes()[:cut])
    index = open_plate(root, cache=False, deep=True)
    (finding,) = [f for f in index.findings if f.severity == "error"]
    assert finding.code == ("UNREADABLE" if cut else "EMPTY_FILE")
    assert finding.path == "A/1/0/0/0/1/0/0/0"
    assert [plane.channel for plane in index.select()] == [0]


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["", "..", "../..", "/", "A/1", "0", "0.6", "\0", "x" * 5000, "\ud800", "µ"]),
    st.sampled_from([[], {}, [[]], [{}], {"path": "0"}, [1, 2, 3], [[1, 2], [3]]]),
)


def places_in(document: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place] if place else []
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    for key, value in items:
        found += places_in(value, (*place, key))
    return found


@BOTH
@pytest.mark.parametrize("file", ["plate", "well", "image", "array"])
def test_whatever_a_document_says_it_is_a_plate_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, version: str, file: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    root = write_plate(folder / "p.zarr", version, shape=(1, 2, 1))
    attributes = "zarr.json" if version == "0.5" else ".zattrs"
    target = {
        "plate": root / attributes,
        "well": root / "A/1" / attributes,
        "image": root / "A/1/0" / attributes,
        "array": root / "A/1/0/0" / ("zarr.json" if version == "0.5" else ".zarray"),
    }[file]
    whole = json.loads(target.read_text())
    if file == "image":
        said = whole["attributes"] if version == "0.5" else whole
        said["openhcs"] = {
            "valid": [[0, 0, 0], [0, 1, 0]],
            "sizes": {"0/0": [24, 32]},
            "field": 0,
            "t": [0],
            "z": [None],
        }
    places = places_in(whole)

    @settings(max_examples=20, deadline=None)
    @given(place=st.sampled_from(places), odd=ODD_VALUES, gone=st.booleans())
    def check(place: tuple[Any, ...], odd: Any, gone: bool) -> None:
        changed = copy.deepcopy(whole)
        inner: Any = changed
        for key in place[:-1]:
            inner = inner[key]
        if gone:
            del inner[place[-1]]
        else:
            inner[place[-1]] = odd
        target.write_text(json.dumps(changed), encoding="utf-8", errors="surrogatepass")
        try:
            index = open_plate(root, cache=False, deep=True)
        except PlateError:
            return
        assert index.files.total
        for plane in index.select():
            with contextlib.suppress(PlaneUnreadableError):
                index.read(plane)

    check()


def suites() -> list[Any]:
    return [
        pytest.param(
            file.parents[1].name[1:],
            file.stem.removesuffix("_suite"),
            case["data"],
            case["valid"],
            id=f"{file.parents[1].name}-{file.stem}-{number}",
        )
        for file in sorted(CASES.glob("v0.[45]/tests/*_suite.json"))
        if file.stem.removesuffix("_suite") in {"plate", "well", "image"}
        for number, case in enumerate(json.loads(file.read_text())["tests"])
    ]


@NEEDS_CASES
@pytest.mark.parametrize(("version", "kind", "attributes", "valid"), suites())
def test_cases_of_the_specification_that_are_not_valid_are_said_to_be(
    tmp_path: Path, version: str, kind: str, attributes: dict[str, Any], *, valid: bool
) -> None:
    root = tmp_path / "p.zarr"
    own = {"ome": attributes["ome"]} if "ome" in attributes else attributes
    wells = [("A/1", 0, 0)]
    if kind == "plate":
        group(root, version, {}, own)
        plate = own.get("ome", own).get("plate")
        listed = plate.get("wells", []) if isinstance(plate, dict) else []
        wells = [
            (well["path"], 0, 0)
            for well in listed
            if isinstance(well, dict) and str(well.get("path", "")).replace("/", "").isalnum()
        ]
    else:
        group(root, version, plate_document(wells))
    for path, _, _ in wells:
        group(root / path, version, well_document(("0", 0)))
        image(root / path / "0", version, shape=(1, 1, 1), names=("A",), at_um=(0.0, 0.0))
    if kind == "well":
        group(root / "A/1", version, {}, own)
        for entry in own.get("ome", own).get("well", {}).get("images", []):
            if str(entry.get("path")).isalnum():
                image(root / "A/1" / str(entry["path"]), version, shape=(1, 1, 1), names=("A",))
    if kind == "image":
        group(root / "A/1/0", version, {}, own)
    said = {"METADATA_INVALID", "METADATA_UNREADABLE", "UNREADABLE", "PATH_ESCAPE"}
    try:
        index = open_plate(root, cache=False)
        complaints = [f.message for f in index.findings if f.code in said]
    except (PlateError, FormatNotRecognisedError) as error:
        complaints = [str(error)]
    if kind == "image" and valid:
        # the arrays are of other axes than the case's
        complaints = [each for each in complaints if "is not valid" in each]
    if kind == "image" and not valid and "omero" in str(own) and not complaints:
        return  # only how it is shown is wrong
    assert bool(complaints) == (not valid), complaints
