"""OME-Zarr plates that lack something, are damaged, or say what cannot be."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.openhcs.formats.ome_zarr_plates import (
    BOTH,
    codes,
    every_plane_is_its_own,
    group,
    image,
    plate_document,
    well_document,
    write_plate,
)

from openhcs._errors import FormatNotRecognisedError, PlaneUnreadableError, PlateError
from openhcs.plates import open_plate
from polystore.omezarr import (
    ImageMeta,
    ImageWriter,
    PlateLayout,
    create_plate,
)

CASES = Path(__file__).parents[4] / "shared" / "data" / "ngff_conformance"
NEEDS_CASES = pytest.mark.skipif(
    not CASES.exists(), reason="needs the specification's cases in ../shared/data"
)


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
def test_a_well_that_is_listed_again_is_there_once(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    whole = open_plate(root, cache=False)
    wells = [("A/1", 0, 0), ("B/3", 1, 2), ("A/1", 0, 0)]
    group(root, version, plate_document(wells))
    index = open_plate(root, cache=False)
    assert len(index) == len(whole)
    assert "METADATA_INVALID" in codes(index)
    every_plane_is_its_own(index)


@BOTH
def test_a_well_whose_path_is_another_ones_is_named(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    group(root, version, plate_document([("A/1", 0, 0), ("B/3", 2, 2)]))
    index = open_plate(root, cache=False)
    assert index.wells == ("A01", "C03")
    (finding,) = [f for f in index.findings if f.code == "LABEL_MISMATCH"]
    assert "B03 is C03" in finding.message
    assert finding.severity == "error"


@BOTH
def test_two_groups_that_claim_one_well_are_a_conflict(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    group(root, version, plate_document([("A/1", 0, 0), ("B/3", 0, 0)]))
    index = open_plate(root, cache=False)
    assert index.wells == ("A01",)
    assert set(index.column("status").tolist()) == {"conflict"}
    message = next(f.message for f in index.findings if f.code == "DUPLICATE_KEY")
    assert "A/1/0" in message
    assert "B/3/0" in message


@BOTH
def test_sizes_that_no_image_has_cost_that_image_alone(tmp_path: Path, version: str) -> None:
    root = write_plate(tmp_path / "p.zarr", version)
    place = root / "A/1/0/0" / {"0.5": "zarr.json", "0.4": ".zarray"}[version]
    document = json.loads(place.read_text())
    document["shape"][-1] = 99_999_999_999
    place.write_text(json.dumps(document))
    index = open_plate(root, cache=False)
    assert codes(index) == {"UNREADABLE": 1}
    assert {(p.well, p.field) for p in index.select(status="unreadable")} == {("A01", 0)}


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
