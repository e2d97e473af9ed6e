from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from polystore import Components, PayloadError, Region, RegionKind, Regions, RoiError, Table
from polystore.rois import RoiLimits, from_rois, read_roi_zip, to_rois, write_roi_zip
from polystore.testing.strategies import label_images, regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

SQUARE = [[0.5, 0.5], [0.5, 3.5], [2.5, 3.5], [2.5, 0.5]]


def one(kind: RegionKind, *rings: Any, label: int = 5) -> Regions:
    made = tuple(np.asarray(ring, np.float32) for ring in rings)
    return Regions.from_regions([Region(kind=kind, label=label, rings=made)])


def zipped(made: Regions) -> bytes:
    file = io.BytesIO()
    write_roi_zip(made, file)
    return file.getvalue()


def seen(made: Regions) -> Any:
    """What the library of the format itself reads of one region."""
    (data,) = to_rois(made)
    return roifile.ImagejRoi.frombytes(data)


@settings(max_examples=40, deadline=None)
@given(image=label_images())
def test_a_label_image_comes_back_from_a_roi_set(image: NDArray[Any]) -> None:
    outlines = Regions.from_labels(image)
    back = read_roi_zip(zipped(outlines))
    assert back == outlines
    np.testing.assert_array_equal(back.to_labels(image.shape, image.dtype), image)


@settings(max_examples=40, deadline=None)
@given(made=regions())
def test_regions_of_every_kind_come_back_with_their_properties(made: Regions) -> None:
    back = from_rois(to_rois(made))
    assert len(back) == len(made)
    np.testing.assert_array_equal(back.labels, made.labels)
    np.testing.assert_array_equal(back.kinds, made.kinds)
    np.testing.assert_array_equal(back.bits, made.bits)
    assert [len(region.rings) for region in back] == [len(region.rings) for region in made]
    assert back.vertices.tobytes() == made.vertices.tobytes()
    native = {
        name: column if isinstance(column, tuple) else column.astype(column.dtype.newbyteorder("="))
        for name, column in made.properties.items()
    }
    if len(made):
        assert back.properties == Table(native, made.properties.units, made.properties.missing)


def test_imagej_counts_areas_from_the_corner_and_lines_and_points_from_the_centre() -> None:
    polygon = seen(one(RegionKind.POLYGON, SQUARE))
    assert polygon.roitype == roifile.ROI_TYPE.TRACED
    assert polygon.coordinates().tolist() == [[1, 1], [4, 1], [4, 3], [1, 3]]
    assert (polygon.left, polygon.top, polygon.right, polygon.bottom) == (1, 1, 4, 3)
    assert polygon.subpixel_coordinates is None
    rectangle = seen(one(RegionKind.RECTANGLE, SQUARE))
    assert rectangle.roitype == roifile.ROI_TYPE.RECT
    assert (rectangle.left, rectangle.top, rectangle.right, rectangle.bottom) == (1, 1, 4, 3)
    line = seen(one(RegionKind.LINE, [[2, 1], [4, 8]]))
    assert line.roitype == roifile.ROI_TYPE.LINE
    assert line.coordinates().tolist() == [[1, 2], [8, 4]]
    points = seen(one(RegionKind.POINT, [[2, 1], [4, 8]]))
    assert points.roitype == roifile.ROI_TYPE.POINT
    assert points.coordinates().tolist() == [[1, 2], [8, 4]]
    assert points.subpixel_coordinates is None


def test_what_lies_between_pixels_is_kept_as_floats() -> None:
    polygon = seen(one(RegionKind.POLYGON, np.add(SQUARE, 0.25)))
    assert polygon.roitype == roifile.ROI_TYPE.POLYGON
    assert polygon.subpixelresolution
    assert polygon.coordinates().tolist() == [
        [1.25, 1.25],
        [4.25, 1.25],
        [4.25, 3.25],
        [1.25, 3.25],
    ]
    oval = seen(one(RegionKind.ELLIPSE, np.add(SQUARE, 0.25)))
    assert oval.roitype == roifile.ROI_TYPE.OVAL
    assert (oval.xd, oval.yd, oval.widthd, oval.heightd) == (1.25, 1.25, 3, 2)
    polyline = seen(one(RegionKind.LINE, [[0, 0], [1.5, 2], [3, 3]]))
    assert polyline.roitype == roifile.ROI_TYPE.POLYLINE
    assert polyline.coordinates().tolist() == [[0, 0], [2, 1.5], [3, 3]]


def test_coordinates_beyond_16_bits_are_kept() -> None:
    for kind in (RegionKind.POLYGON, RegionKind.RECTANGLE, RegionKind.ELLIPSE, RegionKind.LINE):
        for shift in (100_000, -40_000):
            far = one(kind, np.add(SQUARE[:2] if kind is RegionKind.LINE else SQUARE, shift))
            assert from_rois(to_rois(far)) == far


def test_a_polygon_with_a_hole_is_a_composite() -> None:
    image = np.zeros((6, 6), np.uint8)
    image[1:5, 1:5] = 3
    image[2:4, 2:4] = 0
    composite = seen(Regions.from_labels(image))
    assert composite.roitype == roifile.ROI_TYPE.RECT
    outer, hole = composite.coordinates(multi=True)
    assert outer.tolist() == [[1, 1], [5, 1], [5, 5], [1, 5], [1, 1]]
    assert hole.tolist() == [[2, 2], [2, 4], [4, 4], [4, 2], [2, 2]]


@pytest.mark.parametrize("kind", [RegionKind.RECTANGLE, RegionKind.ELLIPSE])
def test_turned_shapes_stay_what_they_are(kind: RegionKind) -> None:
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([[-20, -8], [-20, 8], [20, 8], [20, -8]]) @ turn.T + 50
    roi = seen(one(kind, corners))
    assert roi.roitype == roifile.ROI_TYPE.FREEHAND
    subtypes = roifile.ROI_SUBTYPE
    assert roi.subtype == (
        subtypes.ELLIPSE if kind is RegionKind.ELLIPSE else subtypes.ROTATED_RECT
    )
    assert np.hypot(roi.x2 - roi.x1, roi.y2 - roi.y1) == pytest.approx(40, rel=1e-5)
    (back,) = from_rois(to_rois(one(kind, corners)))
    assert back.kind is kind
    for corner in corners:  # the same four, though the first may be another one
        assert np.abs(back.rings[0] - corner).sum(axis=1).min() < 1e-3


def test_a_mask_is_its_outline_there_and_a_mask_again_here() -> None:
    mask = np.zeros((5, 9), bool)
    mask[1:4, 2:7] = True
    mask[2, 3] = False
    made = Regions.from_regions([Region.from_mask(9, mask, top=4, left=11)])
    roi = seen(made)
    assert roi.composite
    assert roi.coordinates(multi=True)[0].tolist() == [[13, 5], [18, 5], [18, 8], [13, 8], [13, 5]]
    assert from_rois(to_rois(made)) == made
    roi.multi_coordinates[1] = 5  # moved by hand, beyond the mask that it was
    (edited,) = from_rois([roi.tobytes()])
    assert edited.kind is RegionKind.POLYGON
    with pytest.raises(RoiError, match="region 0, of label 9, is a mask without pixels"):
        to_rois(Regions.from_regions([Region.from_mask(9, np.zeros((2, 2)))]))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", list(RegionKind)[:5])
def test_corners_that_imagej_rounds_come_back_until_they_are_moved_there(
    kind: RegionKind, *, turned: bool
) -> None:
    corners = np.add(SQUARE, -0.4)
    if turned:
        corners = corners @ np.array([[0.8, -0.6], [0.6, 0.8]])
    made = one(kind, corners)
    roi = seen(made)
    back = from_rois([roi.tobytes()])
    assert back.vertices.tobytes() == made.vertices.tobytes()
    assert "polystore.corners" not in back.properties
    rounds = kind not in (RegionKind.POINT, RegionKind.LINE)
    assert rounds == ("polystore.corners" in roi.props)
    for attribute in ("xd", "x1", "x2"):  # moved as a whole, as by dragging it
        setattr(roi, attribute, getattr(roi, attribute) + 0.25)
    if roi.subpixel_coordinates is not None:
        roi.subpixel_coordinates[:, 0] += 0.25
    (moved,) = from_rois([roi.tobytes()])
    assert moved.kind is kind
    assert np.abs(moved.rings[0].mean(axis=0) - corners.mean(axis=0)).tolist() == pytest.approx(
        [0, 0.25], abs=1e-5
    )


def test_a_ring_without_corners_and_a_zero_with_a_sign_come_back() -> None:
    rings = (np.zeros((0, 2)), np.array(SQUARE), np.zeros((0, 2)), np.array(SQUARE) + 9)
    made = one(RegionKind.POLYGON, *rings)
    back = from_rois(to_rois(made))
    assert back == made
    assert [len(ring) for ring in next(iter(back)).rings] == [0, 4, 0, 4]
    signed = one(RegionKind.POINT, [[-0.0, 1], [0.0, -0.0]])
    assert from_rois(to_rois(signed)).vertices.tobytes() == signed.vertices.tobytes()


def test_a_mask_that_begins_outside_of_the_image_is_a_mask_again() -> None:
    made = Regions.from_regions([Region.from_mask(3, np.ones((4, 5)), top=-2, left=-3)])
    assert from_rois(to_rois(made)) == made


@pytest.mark.parametrize(
    "text",
    ["", "4", "4|", "4|!!!", "-4|AAAA", "4,0|" + "A" * 43, "4|" + "A" * 43, "x|AA", "4|\u00e9"],
)
def test_corners_that_are_not_those_of_the_shape_count_for_nothing(text: str) -> None:
    roi = seen(one(RegionKind.POLYGON, np.add(SQUARE, 0.25)))
    before = from_rois([roi.tobytes()])
    roi.props += f"polystore.corners: {text}\n"
    assert from_rois([roi.tobytes()]) == before


def test_a_plane_that_imagej_does_not_count_is_no_position() -> None:
    made = one(RegionKind.POLYGON, SQUARE)
    (data,) = to_rois(made, Components(t=2**31 - 1, z=2**31 - 2))
    roi = roifile.ImagejRoi.frombytes(data)
    assert (roi.t_position, roi.z_position) == (0, 2**31 - 1)


def test_what_would_not_be_read_again_is_not_written() -> None:
    long = Regions.from_polygons(
        [SQUARE, SQUARE], [5, 6], properties=Table({"a": ("", "x" * 2**25)})
    )
    file = io.BytesIO()
    with pytest.raises(RoiError, match=r"region 1, of label 6, is a ROI of .* bytes"):
        write_roi_zip(long, file)
    assert not file.getvalue()


def test_names_labels_groups_and_planes_are_imagejs_own() -> None:
    table = Table(
        {
            "name": ("cell 1", "Zelle ü", ""),
            "t": np.array([0, 4, 0]),
            "channel": np.array([2, 0, 0], np.uint8),
            "group": np.array([1, 2, 255]),
            "area": np.array([1.5, np.nan, np.inf], np.float32),
        },
        units={"area": "µm²"},
        missing={"t": np.array([True, False, False]), "name": np.array([False, False, True])},
    )
    polygons = Regions.from_polygons([SQUARE] * 3, [7, 2**40, 3], properties=table)
    rois = [roifile.ImagejRoi.frombytes(data) for data in to_rois(polygons, Components(z=6))]
    assert [roi.name for roi in rois] == ["cell 1", "Zelle ü", "3"]
    assert [(roi.t_position, roi.z_position, roi.c_position) for roi in rois] == [
        (0, 7, 3),
        (5, 7, 1),
        (1, 7, 1),
    ]
    assert [roi.group for roi in rois] == [1, 2, 255]
    assert rois[0].properties["polystore.label"] == 7
    back = from_rois(to_rois(polygons, Components(z=6)))
    assert back.labels.tolist() == [7, 2**40, 3]
    assert back.properties["name"] == ("cell 1", "Zelle ü", "")
    assert back.properties.missing["name"].tolist() == [False, False, True]
    assert np.asarray(back.properties["z"]).tolist() == [6, 6, 6]
    assert back.properties.missing["t"].tolist() == [True, False, False]
    area = np.asarray(back.properties["area"])
    assert area.dtype == np.float32
    np.testing.assert_array_equal(area, np.array([1.5, np.nan, np.inf], np.float32))
    assert back.properties.units == {"area": "µm²"}


def test_what_was_changed_in_imagej_goes_before_what_was_sent() -> None:
    table = Table(
        {"t": np.array([3], np.int8), "name": ("cell",), "z": np.array([2.5])}, {"t": "frame"}
    )
    roi = seen(Regions.from_polygons([SQUARE], [5], properties=table))
    assert (roi.name, roi.t_position, roi.z_position) == ("cell", 4, 0)
    back = from_rois([roi.tobytes()])
    assert back.properties == table
    roi.name, roi.t_position, roi.c_position, roi.group = "renamed", 9, 2, 7
    (edited,) = [from_rois([roi.tobytes()]).properties]
    assert list(edited) == ["channel", "group", "t", "name", "z"]
    assert edited["name"] == ("renamed",)
    assert np.asarray(edited["t"]).tolist() == [8]
    assert np.asarray(edited["t"]).dtype == np.int8
    assert edited.units == {"t": "frame"}
    assert np.asarray(edited["group"]).tolist() == [7]
    roi.t_position = 1000
    wide = np.asarray(from_rois([roi.tobytes()]).properties["t"])
    assert wide.tolist() == [999]
    assert wide.dtype == np.int32


@pytest.mark.parametrize("name", ["", "5", "🔬 cell", "a\nb: c\\u0041", "x" * 3000, "%41|:=#"])
def test_names_of_any_kind_come_back(name: str) -> None:
    table = Table({"name": (name,), "note": (name,)})
    named = Regions.from_polygons([SQUARE], [5], properties=table)
    back = read_roi_zip(zipped(named))
    assert back == named
    with zipfile.ZipFile(io.BytesIO(zipped(named))) as archive:
        (entry,) = archive.namelist()
        assert archive.testzip() is None
    assert entry.endswith(".roi")
    assert len(entry) < 120
    assert not set(entry) & set("/\\:\n")


def test_regions_of_one_name_are_entries_of_their_own() -> None:
    same = Table({"name": ("cell",) * 300})
    many = Regions.from_polygons([SQUARE] * 300, properties=same)
    with zipfile.ZipFile(io.BytesIO(zipped(many))) as archive:
        names = archive.namelist()
    assert names[:3] == ["cell.roi", "cell-1.roi", "cell-2.roi"]
    assert len(set(names)) == 300
    assert read_roi_zip(zipped(many)) == many
    assert zipped(many) == zipped(many)


def test_rois_of_other_programs_are_numbered() -> None:
    rois = [roifile.ImagejRoi.frompoints(np.array([[1, 1], [4, 1], [4, 3]]), name=name)
            for name in ("0007", "cell", "0", "12-3", "9")]  # fmt: skip
    rois[1].props = "Score: 0.5\nremark: a: b\n"
    rois[2].position = 3
    back = from_rois([roi.tobytes() for roi in rois])
    assert back.labels.tolist() == [7, 10, 11, 12, 9]
    assert back.properties["Score"] == ("", "0.5", "", "", "")
    assert back.properties["remark"] == ("", "a: b", "", "", "")
    assert np.asarray(back.properties["z"]).tolist() == [0, 0, 2, 0, 0]
    assert back.properties.missing["z"].tolist() == [True, True, False, True, True]
    assert back.vertices[:3].tolist() == [[0.5, 0.5], [0.5, 3.5], [2.5, 3.5]]


def test_every_type_of_selection_is_read() -> None:
    kinds, read = roifile.ROI_TYPE, {}
    corners = np.array([[1, 1], [4, 1], [4, 3]])
    for kind in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.POLYLINE, kinds.FREELINE,
                 kinds.ANGLE, kinds.POINT):  # fmt: skip
        roi = roifile.ImagejRoi.frompoints(corners)
        roi.roitype = kind
        (region,) = from_rois([roi.tobytes()])
        read[kind.name] = region.kind
    assert read == {
        "POLYGON": "polygon",
        "FREEHAND": "polygon",
        "TRACED": "polygon",
        "POLYLINE": "line",
        "FREELINE": "line",
        "ANGLE": "line",
        "POINT": "point",
    }


def test_curves_of_a_composite_become_short_lines() -> None:
    quarter = 4 / 3 * (np.sqrt(2) - 1)
    path = [0, 10, 0, 3, 10, 10 * quarter, 10 * quarter, 10, 0, 10, 2, -10, 10, -10, 0, 4]
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, shape_roi_size=len(path))
    roi.multi_coordinates = np.array(path, np.float32)
    (region,) = from_rois([roi.tobytes()])
    corners = region.rings[0] + 0.5
    assert len(corners) == 33
    np.testing.assert_allclose(np.hypot(*corners[:17].T), 10, rtol=1e-3)
    assert corners[-1].tolist() == [0, -10]


@pytest.mark.parametrize("subtype", ["TEXT", "IMAGE"])
def test_what_is_no_region_is_an_error_or_skipped_as_asked(subtype: str) -> None:
    roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="note", text="hello")
    roi.subtype = roifile.ROI_SUBTYPE[subtype]
    roi.image_data, roi.image_size = b"II", 2
    rois = [*to_rois(one(RegionKind.POLYGON, SQUARE)), roi.tobytes()]
    with pytest.raises(RoiError, match=f"ROI 1, 'note', is {subtype.lower()}.*others='skip'"):
        from_rois(rois)
    assert len(from_rois(rois, others="skip")) == 1


def test_what_no_roi_can_be_is_refused_before_anything_is_written() -> None:
    for polygon in (one(RegionKind.POLYGON, np.zeros((0, 2))), one(RegionKind.POLYGON)):
        file = io.BytesIO()
        with pytest.raises(RoiError, match="of label 5, is a polygon without corners"):
            write_roi_zip(polygon, file)
        assert not file.getvalue()
    for column in ("name", "note"):
        odd = Regions.from_polygons([SQUARE], properties=Table({column: ("\ud800",)}))
        with pytest.raises(RoiError, match=f"column '{column}' of region 0 .*Unicode"):
            to_rois(odd)


def test_a_plane_may_meet_a_column_of_its_name_and_of_another_type() -> None:
    for column in (np.array([True]), ("late",), np.array([-3]), np.array([0.5], np.float32)):
        odd = Regions.from_polygons([SQUARE], properties=Table({"t": column}))
        assert from_rois(to_rois(odd)) == odd
        back = from_rois(to_rois(odd, Components(t=200))).properties["t"]
        assert (back if isinstance(back, tuple) else tuple(map(str, back.tolist()))) in (
            ("200",),
            ("200.0",),
        )


@settings(max_examples=80, deadline=None)
@given(
    made=regions(),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.none() | st.integers(0, 200),
)
def test_a_mangled_roi_is_a_typed_error_or_another_region(
    made: Regions, edits: list[tuple[int, int]], cut: int | None
) -> None:
    for data in to_rois(made):
        mangled = bytearray(data)
        for at, value in edits:
            mangled[at % len(mangled)] = value
        try:
            back = from_rois([bytes(mangled[:cut])], limits=RoiLimits(total_bytes=2**20))
        except RoiError:
            continue
        assert len(back) == 1


@settings(max_examples=80, deadline=None)
@example(edits=[(347, 1)], cut=None)  # an entry that is said to be before the file
@given(
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.none() | st.integers(0, 600),
)
def test_a_mangled_roi_set_is_a_typed_error_or_other_regions(
    edits: list[tuple[int, int]], cut: int | None
) -> None:
    mangled = bytearray(zipped(Regions.from_polygons([SQUARE, SQUARE])))
    for at, value in edits:
        mangled[at % len(mangled)] = value
    try:
        read_roi_zip(bytes(mangled[:cut]))
    except RoiError:
        return


def peak(act: Any) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(RoiError):
            act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def packed(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_a_roi_set_that_would_take_more_memory_than_allowed_is_refused_before() -> None:
    bomb = packed({"a.roi": bytes(2**27)})
    assert len(bomb) < 2**18
    assert peak(lambda: read_roi_zip(bomb)) < 2**20
    several = packed({f"{n}.roi": bytes(2**20) for n in range(9)})
    limits = RoiLimits(total_bytes=2**23)
    assert peak(lambda: read_roi_zip(several, limits=limits)) < 2**20
    with pytest.raises(RoiError, match="has 9 ROIs, and may have 8"):
        read_roi_zip(several, limits=RoiLimits(rois=8))
    crowd = packed({f"{n:0>400}.roi": b"" for n in range(3000)})
    few = RoiLimits(rois=100)
    assert peak(lambda: read_roi_zip(crowd, limits=few)) < 2**19
    with pytest.raises(RoiError, match="directory"):
        read_roi_zip(crowd, limits=few)


@pytest.mark.parametrize(
    "name",
    ["../a.roi", "a/../../b.roi", "/etc/a.roi", "C:\\a.roi", "..\\a.roi", "../../readme.txt"],
)
def test_a_name_that_leads_out_of_the_file_is_refused(name: str) -> None:
    (roi,) = to_rois(one(RegionKind.POLYGON, SQUARE))
    with pytest.raises(RoiError, match="leads out of the file") as caught:
        read_roi_zip(packed({"a.roi": roi, name: roi}))
    assert repr(name) in str(caught.value)


def test_a_roi_is_not_overlooked_because_its_name_is_damaged() -> None:
    (roi,) = to_rois(one(RegionKind.POLYGON, SQUARE))
    whole = packed({"first.roi": roi, "second.roi": roi})
    at = whole.rfind(b"second.roi")
    with pytest.raises(RoiError, match="another name where it begins"):
        read_roi_zip(whole[:at] + b"second.rol" + whole[at + 10 :])


def test_an_entry_that_lies_about_its_length_is_refused() -> None:
    honest = packed({"a.roi": bytes(2**24)})
    at = honest.rfind(b"PK\x01\x02")
    lying = honest[: at + 24] + struct.pack("<I", 100) + honest[at + 28 :]
    assert peak(lambda: read_roi_zip(lying)) < 2**20


def test_masks_that_expand_beyond_the_limit_are_refused_before() -> None:
    roi = seen(Regions.from_regions([Region.from_mask(1, np.ones((3, 3)))]))
    roi.props = "polystore.label: 1\npolystore.kind: mask 0 0 99999999 99999999\n"
    assert peak(lambda: from_rois([roi.tobytes()])) < 2**20


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "without the end"),
        (b"PK\x05\x06" + bytes(4), "without the end"),
        (packed({}) + b"x", "something follows"),
        (packed({"a.roi": b"Iout"}), "'a.roi' is no ImageJ ROI"),
        (packed({"a.roi": bytes(64)}), "'a.roi' is no ImageJ ROI"),
        (packed({"a.roi": bytes(64)}, zipfile.ZIP_BZIP2), "other means"),
    ],
)
def test_what_is_no_roi_set_is_an_error_that_says_what_is_wrong(data: bytes, what: str) -> None:
    with pytest.raises(RoiError, match=what):
        read_roi_zip(data)


def test_other_files_of_a_set_are_left_alone_and_the_stream_stays_open() -> None:
    (roi,) = to_rois(one(RegionKind.POLYGON, SQUARE))
    file = io.BytesIO(packed({"folder/": b"", "__MACOSX/._a.roi": b"x", "readme.txt": b"x",
                              "folder/A.ROI": roi}))  # fmt: skip
    assert len(read_roi_zip(file)) == 1
    assert len(read_roi_zip(file)) == 1
    assert not file.closed
    assert len(read_roi_zip(memoryview(packed({})))) == 0


def test_a_stream_that_cannot_go_back_can_be_written_to() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.written = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.written += data
            return len(data)

    pipe = Pipe()
    made = one(RegionKind.POLYGON, SQUARE)
    write_roi_zip(made, pipe)  # type: ignore[arg-type]  # a raw stream is enough
    assert read_roi_zip(bytes(pipe.written)) == made


def test_without_roifile_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['roifile'] = None\n"
        "import polystore, polystore.rois\n"
        "try:\n    polystore.rois.from_rois([])\n"
        "except polystore.MissingExtraError as error:\n"
        "    assert 'polystore[rois]' in str(error)\n"
        "else:\n    raise SystemExit('no error')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_roi_error_is_a_value_error() -> None:
    assert issubclass(RoiError, ValueError)
    assert not issubclass(RoiError, PayloadError)
