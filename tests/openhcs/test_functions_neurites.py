"""Neurites traced in drawn trees whose lengths and branchings are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions import trace_neurites
from openhcs.functions._skeleton import Skeleton, without_spurs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions import Neurites

PIXEL_UM = (0.5, 0.5)
SIDE = 400
SOMA_PX = 16
MARGIN_PX = 4

Point = tuple[float, float]
Line = Sequence[Point]


def drawn(
    lines: Sequence[Line],
    *,
    shape: tuple[int, int] = (SIDE, SIDE),
    height: float = 300.0,
    noise: float = 10.0,
    sizes: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> NDArray[np.uint16]:
    """Draw lines (y, x in px) with a Gaussian profile, on a level, with noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    place = np.stack([y * sizes[0], x * sizes[1]], axis=-1)
    nearest = np.full(shape, np.inf)
    for line in lines:
        for begin, end in pairwise(line):
            one, other = np.multiply(begin, sizes), np.multiply(end, sizes)
            along = other - one
            part = np.clip(((place - one) @ along) / (along @ along), 0, 1)
            apart = np.linalg.norm(place - one - part[..., None] * along, axis=-1)
            np.minimum(nearest, apart, out=nearest)
    plane = 200 + height * np.exp(-(nearest**2) / (2 * 1.2**2))
    plane += np.random.default_rng(seed).normal(0, noise, shape)
    pixels: NDArray[np.uint16] = np.clip(np.rint(plane), 0, 65_535).astype(np.uint16)
    return pixels


def with_somas(
    plane: NDArray[np.uint16], centres: Sequence[Point], numbers: Sequence[int]
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Draw bright disks, and give them as labels."""
    labels = np.zeros(plane.shape, np.int32)
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]]
    for (at_y, at_x), number in zip(centres, numbers, strict=True):
        labels[(y - at_y) ** 2 + (x - at_x) ** 2 <= SOMA_PX**2] = number
    return np.where(labels > 0, np.uint16(900), plane), labels


def length_um(line: Line) -> float:
    return sum(math.dist(*pair) for pair in pairwise(line)) * PIXEL_UM[0]


def traced(plane: NDArray[Any], **changed: Any) -> Neurites:
    return trace_neurites({"TUJ1": plane}, pixel_um=PIXEL_UM, **changed)


@pytest.mark.parametrize("degrees", [0, 10, 22.5, 35, 45, 60, 80, 90])
def test_a_straight_line_is_as_long_as_it_is_in_any_direction(degrees: float) -> None:
    reach = 150 * np.array([math.sin(math.radians(degrees)), math.cos(math.radians(degrees))])
    line = [tuple(200 - reach), tuple(200 + reach)]
    found = traced(drawn([line])).neurites_by_plane
    assert found["length_um"] == pytest.approx(150, rel=0.02)
    assert (found["branch_points"], found["end_points"]) == (0, 2)


def test_a_bent_line_is_as_long_as_its_arc() -> None:
    angle = np.linspace(0, 1.5 * np.pi, 80)
    arc = [(200 + 100 * math.sin(a), 200 + 100 * math.cos(a)) for a in angle]
    found = traced(drawn([arc])).neurites_by_plane
    assert found["length_um"] == pytest.approx(1.5 * np.pi * 100 * 0.5, rel=0.02)


# A soma at (200, 200) with three neurites, one of which branches twice.
CENTRE = (200.0, 200.0)
TRUNK: Line = [CENTRE, (200, 290)]
UPPER: Line = [(200, 290), (140, 340)]
LOWER: Line = [(200, 290), (230, 330)]
LOWER_LEFT: Line = [(230, 330), (280, 320)]
LOWER_RIGHT: Line = [(230, 330), (250, 385)]
LEFT: Line = [CENTRE, (170, 60)]
UP: Line = [CENTRE, (90, 180), (30, 210)]
TREE = (TRUNK, UPPER, LOWER, LOWER_LEFT, LOWER_RIGHT, LEFT, UP)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_tree_is_measured_branch_by_branch(seed: int) -> None:
    plane, labels = with_somas(drawn(TREE, seed=seed), [CENTRE], [7])
    found = traced(plane, labels=labels, soma_margin_um=MARGIN_PX * 0.5)
    row = {name: values.item() for name, values in found.neurites_by_soma.items()}
    inside = 3 * (SOMA_PX + MARGIN_PX) * PIXEL_UM[0]
    true = sum(map(length_um, TREE)) - inside
    assert row["ObjectNumber"] == 7
    assert row["Neurites_Primary"] == 3
    assert row["Neurites_BranchPoints"] == 2
    assert row["Neurites_EndPoints"] == 5
    assert row["Neurites_TotalLength_um"] == pytest.approx(true, rel=0.04)
    longest = length_um(TRUNK) + length_um(LOWER) + length_um(LOWER_RIGHT) - inside / 3
    assert row["Neurites_LongestPath_um"] == pytest.approx(longest, rel=0.04)
    record = found.neurites_by_plane
    assert record["unassigned_length_um"] == 0
    assert record["length_per_soma_um"] == record["length_um"]
    assert record["channel"] == "TUJ1"
    assert set(np.unique(found.neurites)) == {0, 7}


def test_each_soma_has_its_own_and_a_soma_without_any_is_a_row() -> None:
    centres = [(80.0, 80.0), (80.0, 320.0), (320.0, 80.0)]
    own = [[(80, 80), (80, 180)], [(80, 320), (180, 320)]]
    stray = [(330.0, 200.0), (330.0, 380.0)]
    plane, labels = with_somas(drawn([*own, stray]), centres, [2, 5, 9])
    found = traced(plane, labels=labels)
    table = found.neurites_by_soma
    assert table["ObjectNumber"].tolist() == [2, 5, 9]
    assert table["Neurites_Primary"].tolist() == [1, 1, 0]
    assert table["Neurites_EndPoints"].tolist() == [1, 1, 0]
    true = (100 - SOMA_PX - MARGIN_PX) * 0.5
    assert table["Neurites_TotalLength_um"] == pytest.approx([true, true, 0], rel=0.06)
    assert found.neurites_by_plane["unassigned_length_um"] == pytest.approx(90, rel=0.04)
    assert set(np.unique(found.neurites)) == {0, 2, 5, 10}
    assert found.neurites[330, 300] == 10 or 10 in found.neurites[328:333, 300]


def test_a_neurite_between_two_somas_is_shared_at_its_middle() -> None:
    centres = [(200.0, 60.0), (200.0, 340.0)]
    plane, labels = with_somas(drawn([centres]), centres, [1, 2])
    table = traced(plane, labels=labels).neurites_by_soma
    each = (280 - 2 * (SOMA_PX + MARGIN_PX)) * 0.5 / 2
    assert table["Neurites_TotalLength_um"] == pytest.approx([each, each], rel=0.05)
    assert table["Neurites_Primary"].tolist() == [1, 1]
    assert table["Neurites_EndPoints"].tolist() == [0, 0]


def test_noise_and_gradients_alone_have_no_neurites() -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    slope = 200 + 2.0 * x + y + np.random.default_rng(1).normal(0, 10, (SIDE, SIDE))
    for plane in (drawn([], height=0), slope.astype(np.float32), np.zeros((SIDE, SIDE))):
        found = traced(plane)
        assert found.neurites_by_plane["length_um"] == 0
        assert not found.neurites.any()
        assert found.neurites_by_soma == {}


def test_dim_parts_are_kept_where_they_go_on_from_bright_ones() -> None:
    bright = drawn([[(100, 40), (100, 160)]], noise=0).astype(float) - 200
    dim = drawn([[(100, 160), (100, 360)]], height=60, noise=0).astype(float) - 200
    alone = drawn([[(300, 40), (300, 360)]], height=60, noise=0).astype(float) - 200
    noise = np.random.default_rng(2).normal(0, 10, (SIDE, SIDE))
    plane = 200 + np.maximum(bright, dim) + alone + noise
    weak = traced(plane, low_sd=6.0, high_sd=40.0).neurites_by_plane
    assert weak["length_um"] == pytest.approx(160, rel=0.05)


def test_pixels_that_are_not_square_are_minded() -> None:
    plane = drawn([[(40, 60), (160, 300)]], shape=(200, 400), sizes=(2.0, 1.0))
    found = trace_neurites({"A": plane}, pixel_um=(1.0, 0.5), widths_um=(2.0, 3.0))
    true = math.hypot(120 * 1.0, 240 * 0.5)
    assert found.neurites_by_plane["length_um"] == pytest.approx(true, rel=0.03)


def test_short_twigs_are_taken_off_and_long_ones_are_not() -> None:
    mask = np.zeros((60, 120), bool)
    mask[30, 10:110] = True
    mask[22:30, 40] = True
    mask[10:30, 80] = True
    thin = without_spurs(mask, 12.0, (1.0, 1.0), np.zeros_like(mask))
    skeleton = Skeleton.of(thin, (1.0, 1.0))
    assert skeleton.branchings()[0] == 1
    assert float(skeleton.length_um.sum()) == pytest.approx(99 + 20, abs=3)
    ended = np.zeros_like(mask)
    ended[22, 40] = True  # an end at a soma is no open end
    kept = Skeleton.of(without_spurs(mask, 12.0, (1.0, 1.0), ended), (1.0, 1.0))
    assert kept.branchings()[0] == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"guide": "RFP"}, "guide 'RFP' is no channel"),
        ({"widths_um": ()}, "one width or more"),
        ({"widths_um": (0.5,)}, "too few pixels"),
        ({"low_sd": 20.0}, "the first is the lower one"),
        ({"least_length_um": 0.0}, "least_length_um is 0.0"),
        ({"labels": np.zeros((4, 4), np.int32)}, "the labels"),
    ],
)
def test_what_makes_no_sense_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        traced(np.zeros((40, 40), np.uint16), **changed)


def test_where_tiles_end_there_are_no_neurites() -> None:
    plane = drawn([[(200, 100), (200, 399)]])
    plane[:60], plane[:, 300:] = 0, 0
    found = traced(plane)
    assert found.neurites_by_plane["length_um"] == pytest.approx(100, rel=0.06)
    assert not found.neurites[:190].any()
