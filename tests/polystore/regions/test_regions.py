from __future__ import annotations

import dataclasses
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import PayloadError, Region, RegionKind, Regions, Table
from polystore.testing.strategies import label_images, regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRIANGLE = [[0, 0], [0, 2], [2, 2]]


def painted(region: Region, shape: tuple[int, int] = (6, 7)) -> list[str]:
    image = Regions.from_regions([region]).to_labels(shape, np.uint8)
    return ["".join(".#"[int(pixel > 0)] for pixel in row) for row in image]


def test_polygons_have_numbers_and_come_one_by_one() -> None:
    polygons = Regions.from_polygons([TRIANGLE, [[1, 1]]])
    assert len(polygons) == 2
    assert [len(region.rings[0]) for region in polygons] == [3, 1]
    assert polygons.labels.tolist() == [1, 2]
    assert polygons != Regions.from_polygons([])
    assert polygons == polygons.copy()
    assert polygons.nbytes == polygons.copy().nbytes


@settings(max_examples=120, deadline=None)
@given(image=label_images())
def test_outlines_of_a_label_image_paint_it_again(image: NDArray[Any]) -> None:
    outlines = Regions.from_labels(image)
    assert outlines.labels.tolist() == [number for number in np.unique(image).tolist() if number]
    back = outlines.to_labels(image.shape, image.dtype)
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


@settings(max_examples=40, deadline=None)
@given(image=label_images(most=10))
def test_outlines_run_along_pixels_and_turn_at_every_corner(image: NDArray[Any]) -> None:
    for region in Regions.from_labels(image):
        for ring in region.rings:
            assert (ring * 2 % 2 == 1).all()  # corners of pixels
            steps = np.diff(np.concatenate([ring, ring[:1]]), axis=0)
            assert ((steps != 0).sum(axis=1) == 1).all()
            assert (steps[1:, 0] * steps[:-1, 1] + steps[1:, 1] * steps[:-1, 0] != 0).all()
            first = np.lexsort((ring[:, 1], ring[:, 0]))[0]
            assert first == 0


def test_a_hole_is_a_ring_the_other_way_and_what_touches_at_a_corner_is_apart() -> None:
    image = np.zeros((6, 6), np.uint16)
    image[1:4, 1:4] = 1
    image[2, 2] = 0
    image[4, 4] = 1
    (one,) = Regions.from_labels(image)
    outer, hole, piece = (ring.tolist() for ring in one.rings)
    assert outer == [[0.5, 0.5], [0.5, 3.5], [3.5, 3.5], [3.5, 0.5]]
    assert hole == [[1.5, 1.5], [2.5, 1.5], [2.5, 2.5], [1.5, 2.5]]
    assert piece == [[3.5, 3.5], [3.5, 4.5], [4.5, 4.5], [4.5, 3.5]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("label", [1, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1])
def test_labels_of_any_size_come_back(dtype: Any, label: int) -> None:
    if label > np.iinfo(dtype).max:
        return
    image = np.zeros((3, 3), dtype)
    image[0, 0] = image[2, 1] = label
    np.testing.assert_array_equal(Regions.from_labels(image).to_labels((3, 3), dtype), image)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (4, 3)])
def test_an_image_without_an_object_has_no_region(shape: tuple[int, int]) -> None:
    none = Regions.from_labels(np.zeros(shape, np.uint8))
    assert len(none) == 0
    assert not none.to_labels(shape).any()
    assert none.to_labels(shape).shape == shape


def test_an_object_may_fill_the_image() -> None:
    (whole,) = Regions.from_labels(np.full((4, 3), 7, np.uint8))
    assert whole.rings[0].tolist() == [[-0.5, -0.5], [-0.5, 2.5], [3.5, 2.5], [3.5, -0.5]]


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((2, 2)), "integers"),
        (np.zeros((2, 2, 2), int), "height, width"),
        (np.full((2, 2), -1), "from 0"),
        (np.full((2, 2), 2**64 - 1, np.uint64), "below"),
        (np.zeros((1, 2**22 + 1), np.uint8), "too long"),
    ],
)
def test_what_is_no_label_image_is_refused(image: NDArray[Any], what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        Regions.from_labels(image)


def grid(count: int) -> NDArray[np.uint32]:
    """Make `count` squared objects of 60 pixels or so, of which every third has a hole."""
    cell = np.zeros((10, 10), np.uint32)
    cell[1:9, 1:9] = 1
    cell[4:6, 4:6] = 0
    numbers = np.arange(1, count * count + 1, dtype=np.uint32).reshape(count, count)
    return np.kron(numbers, cell)


def test_time_goes_with_the_number_of_objects() -> None:
    def took(count: int) -> float:
        image, best = grid(count), float("inf")
        for _ in range(3):
            start = time.process_time()
            back = Regions.from_labels(image).to_labels(image.shape, image.dtype)
            best = min(best, time.process_time() - start)
        assert (back == image).all()
        return best

    took(5)
    assert took(60) < 36 * took(20)  # nine times as many; a square would be 81 times


def test_shapes_take_the_pixels_whose_centres_they_hold() -> None:
    assert painted(Region.rectangle(1, top=0.5, left=0.5, bottom=2.5, right=3.5)) == [
        ".......", ".###...", ".###...", ".......", ".......", ".......",
    ]  # fmt: skip
    assert painted(Region.ellipse(1, y=2, x=3, height=5, width=5)) == [
        "..###..", ".#####.", ".#####.", ".#####.", "..###..", ".......",
    ]  # fmt: skip
    assert painted(Region.from_mask(1, [[1, 0], [1, 1]], top=4, left=5)) == [
        ".......", ".......", ".......", ".......", ".....#.", ".....##",
    ]  # fmt: skip
    points = Region(
        kind=RegionKind.POINT, label=1, rings=(np.array([[0, 0], [1.4, 2.6]], np.float32),)
    )
    assert painted(points) == [
        "#......", "...#...", ".......", ".......", ".......", ".......",
    ]  # fmt: skip
    line = Region(
        kind=RegionKind.LINE, label=1, rings=(np.array([[0, 0], [3, 6], [5, 6]], np.float32),)
    )
    assert painted(line) == [
        "#......", ".##....", "...##..", ".....##", "......#", "......#",
    ]  # fmt: skip
    turned = np.array([[-0.2, 3], [2, 5.2], [4.2, 3], [2, 0.8]], np.float32)
    for kind in (RegionKind.RECTANGLE, RegionKind.POLYGON):
        assert painted(Region(kind=kind, label=1, rings=(turned,))) == [
            "...#...", "..###..", ".#####.", "..###..", "...#...", ".......",
        ]  # fmt: skip
    ellipse = painted(Region(kind=RegionKind.ELLIPSE, label=1, rings=(turned,)))
    assert ellipse == [".......", "..###..", "..###..", "..###..", ".......", "......."]


@settings(max_examples=30, deadline=None)
@given(made=regions(), height=st.integers(0, 40), width=st.integers(0, 40))
def test_regions_are_painted_in_any_image_and_clipped(
    made: Regions, height: int, width: int
) -> None:
    numbered = dataclasses.replace(made, labels=np.arange(1, len(made) + 1))
    whole = numbered.to_labels((500, 500), np.uint8, overlap="last")
    part = numbered.to_labels((height, width), np.uint8, overlap="last")
    np.testing.assert_array_equal(part, whole[:height, :width])
    assert set(np.unique(whole).tolist()) <= set(range(len(made) + 1))


def test_far_away_regions_take_no_time_and_no_memory() -> None:
    far = np.array([[-1e6, -1e6], [1e6, 1e6]], np.float32)
    box = np.array([[-1e6, -1e6], [-1e6, 1e6], [1e6, 1e6], [1e6, -1e6]], np.float32)
    odd = [
        Region(kind=RegionKind.LINE, label=1, rings=(far,)),
        Region(kind=RegionKind.POLYGON, label=2, rings=(box,)),
        Region(kind=RegionKind.POINT, label=3, rings=(far,)),
    ]
    made = Regions.from_regions(odd)
    tracemalloc.start()
    try:
        image = made.to_labels((50, 50), np.uint8, overlap="first")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert (np.diag(image) == 1).all()
    assert image[0, 5] == 2


def test_whose_pixel_it_is_has_to_be_said_where_regions_overlap() -> None:
    one = Region.rectangle(3, top=-0.5, left=-0.5, bottom=1.5, right=1.5)
    other = Region.rectangle(7, top=0.5, left=0.5, bottom=2.5, right=2.5)
    both = Regions.from_regions([one, other])
    with pytest.raises(PayloadError, match=r"regions 3 and 7 overlap at row 1, column 1"):
        both.to_labels((4, 4))
    assert both.to_labels((4, 4), overlap="first")[1, 1] == 3
    assert both.to_labels((4, 4), overlap="last")[1, 1] == 7
    same = Regions.from_regions([one, dataclasses.replace(other, label=3)])
    assert (same.to_labels((4, 4)) == 3).sum() == 7


@pytest.mark.parametrize("label", [0, -1, 256])
def test_labels_that_the_type_does_not_hold_are_refused(label: int) -> None:
    with pytest.raises(PayloadError, match="do not fit uint8"):
        Regions.from_polygons([TRIANGLE], [label]).to_labels((4, 4), np.uint8)


def test_properties_go_with_their_regions() -> None:
    table = Table({"area": np.array([4.0, 5.0]), "name": ("a", "b")}, {"area": "µm²"})
    both = Regions.from_polygons([TRIANGLE, TRIANGLE], properties=table)
    second = both.take([1])
    assert second.labels.tolist() == [2]
    assert second.properties["name"] == ("b",)
    assert second.properties.units == {"area": "µm²"}
    assert both.take(both.properties["area"] > 4.5) == second  # type: ignore[operator]  # an array
    with pytest.raises(PayloadError, match="2 regions need as many rows"):
        Regions.from_polygons([TRIANGLE, TRIANGLE], properties=table.take([0]))


@settings(max_examples=30, deadline=None)
@given(made=regions())
def test_regions_come_back_from_being_taken_apart(made: Regions) -> None:
    assert Regions.from_regions(list(made), properties=made.properties) == made
    assert made.take(np.ones(len(made), bool)) == made


def columns(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "vertices": np.zeros((3, 2)),
        "offsets": np.array([0, 3]),
        "rings": np.array([0, 1]),
        "kinds": np.array([2], np.uint8),
        "labels": np.array([1]),
    }
    return fields | {name: np.array(value) for name, value in changes.items()}


BOX = [[0, 0], [0, 2], [1, 2], [1, 0]]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"vertices": np.zeros((3, 3))}, "vertices"),
        ({"vertices": np.zeros(6)}, "vertices"),
        ({"vertices": [[0, 0], [0, np.nan], [0, 0]]}, "finite"),
        ({"labels": [1, 2]}, "2 labels"),
        ({"offsets": [0, 2]}, "rise"),
        ({"offsets": []}, "rise"),
        ({"offsets": [0, 4, 3]}, "rise"),
        ({"offsets": [1, 3]}, "rise"),
        ({"rings": [0, 2]}, "rise"),
        ({"rings": [0]}, "rings"),
        ({"kinds": [6]}, "kind"),
        ({"kinds": [0, 1]}, "kinds"),
        ({"kinds": [3]}, "rectangle has 4"),
        ({"kinds": [4]}, "ellipse has 4"),
        ({"kinds": [5]}, "mask has 2"),
        ({"kinds": [1], "vertices": [[0, 0]], "offsets": [0, 1]}, "at least 2"),
        ({"kinds": [0], "vertices": np.zeros((0, 2)), "offsets": [0, 0]}, "at least 1"),
        ({"kinds": [1], "offsets": [0, 2, 3], "rings": [0, 2]}, "more rings"),
        ({"kinds": [3], "vertices": [*BOX[:3], [5, 5]], "offsets": [0, 4]}, "rectangle"),
        ({"kinds": [4], "vertices": [[0, 0], [0, 2], [1, 3], [1, 1]], "offsets": [0, 4]},
         "rectangle"),
        ({"bits": np.zeros(1, np.uint8)}, "no mask"),
        ({"kinds": [5], "vertices": [[0.5, 0.5], [1.5, 9.5]], "offsets": [0, 2]}, "do not fill"),
        ({"kinds": [5], "vertices": [[0.5, 0.5], [1.5, 9.0]], "offsets": [0, 2],
          "bits": np.zeros(2, np.uint8)}, "corners of pixels"),
        ({"kinds": [5], "vertices": [[0.5, 0.5], [0.5, 9.5]], "offsets": [0, 2]}, "corners"),
        ({"kinds": [5], "vertices": [[0.5, 0.5], [4e6 + 0.5, 4e6 + 0.5]], "offsets": [0, 2],
          "bits": np.zeros(2, np.uint8)}, "do not fill"),
    ],
)  # fmt: skip
def test_regions_that_do_not_add_up_are_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        Regions(**columns(**changes))


@pytest.mark.parametrize(
    ("region", "what"),
    [
        ({"kind": RegionKind.MASK, "rings": (np.zeros((2, 2)),)}, "no pixels"),
        ({"kind": RegionKind.POINT, "rings": (np.zeros((1, 2)),), "mask": np.ones((1, 1), bool)},
         "pixels"),
        ({"kind": RegionKind.MASK, "rings": (), "mask": np.ones((1, 1), bool)}, "fit"),
        ({"kind": RegionKind.POINT, "rings": (np.zeros((1, 3)),)}, "corners"),
        ({"kind": RegionKind.POINT, "rings": (np.zeros((1, 2)),), "label": 2**63}, "64 bits"),
        ({"kind": RegionKind.POINT, "rings": (np.zeros((1, 2)),), "label": 1.5}, "whole"),
    ],
)  # fmt: skip
def test_a_region_that_is_not_what_it_says_is_refused(region: dict[str, Any], what: str) -> None:
    with pytest.raises(PayloadError, match=what):
        Regions.from_regions([Region(**{"label": 1} | region)])
    with pytest.raises(PayloadError, match="height, width"):
        Region.from_mask(1, np.ones((0, 4)))


def test_what_regions_hold_cannot_be_changed() -> None:
    mine = np.array(TRIANGLE, np.float32)
    one = Regions.from_regions([Region(kind=RegionKind.POLYGON, label=1, rings=(mine,))])
    for array in (one.vertices, one.offsets, one.rings, one.kinds, one.labels, one.bits):
        assert not array.flags.writeable
    mine[0, 0] = 9  # the caller's own array stays writable
    assert one.vertices[0, 0] == 0
