"""Spots against planes whose spots are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from openhcs.functions import detect_spots, subtract_background, white_top_hat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

PIXEL_UM = (0.2, 0.2)
DIAMETER_UM = 0.8
SIGMA_PX = DIAMETER_UM / math.sqrt(8) / PIXEL_UM[0]


def places(seed: int, count: int, side: int, apart: float) -> NDArray[np.float64]:
    """Give centres that keep apart, none of them near the border."""
    rng = np.random.default_rng(seed)
    found: list[NDArray[np.float64]] = []
    while len(found) < count:
        place = rng.uniform(8, side - 8, 2)
        if all(np.hypot(*(place - other)) > apart for other in found):
            found.append(place)
    return np.array(found)


def field(
    centres: NDArray[np.float64],
    heights: NDArray[np.float64] | float,
    *,
    side: int = 300,
    sigma: float = SIGMA_PX,
    noise: float = 5.0,
    seed: int = 0,
) -> NDArray[np.uint16]:
    """Paint Gaussian spots on a slope, with noise."""
    y, x = np.mgrid[:side, :side].astype(np.float64)
    plane = 300 + 0.5 * x + 0.2 * y
    for (at_y, at_x), height in zip(
        centres, np.broadcast_to(heights, (len(centres),)), strict=True
    ):
        plane += height * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * sigma**2))
    plane += np.random.default_rng(seed).normal(0, noise, plane.shape)
    rounded: NDArray[np.uint16] = np.rint(plane).astype(np.uint16)
    return rounded


def nearest_to(
    centres: NDArray[np.float64], table: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Give the distance of each spot found to the nearest true one, and which that is."""
    distance, nearest = cKDTree(centres).query(np.stack([table["Y"], table["X"]], axis=1))
    return np.asarray(distance), np.asarray(nearest)


def test_every_spot_is_found_where_it_is_and_nothing_else() -> None:
    centres = places(1, 150, 300, 8)
    found = detect_spots({"A": field(centres, 100)}, pixel_um=PIXEL_UM, diameters_um=(DIAMETER_UM,))
    table = found.spots
    distance, nearest = nearest_to(centres, table)
    assert len(table["Y"]) == 150
    assert sorted(nearest) == list(range(150))
    assert math.sqrt(np.mean(distance**2)) < 0.1
    assert table["Y_um"] == pytest.approx((table["Y"] + 0.5) * 0.2)
    assert found.spots_by_plane["count_A"] == 150


def test_contrast_and_intensity_are_those_that_were_painted() -> None:
    centres = places(2, 60, 300, 20)
    heights = np.linspace(80, 400, 60)
    found = detect_spots(
        {"A": field(centres, heights, noise=2)}, pixel_um=PIXEL_UM, diameters_um=(DIAMETER_UM,)
    ).spots
    _, nearest = nearest_to(centres, found)
    assert found["Contrast"] == pytest.approx(heights[nearest], rel=0.12)
    assert (np.diff(found["Contrast"]) <= 0).all()
    gain = found["Intensity"] / (heights[nearest] * 2 * math.pi * SIGMA_PX**2)
    # A disk of that diameter holds 63 % of a Gaussian of this scale, or what its pixels do.
    assert 0.5 < np.median(gain) < 0.8
    assert np.std(gain) < 0.08


@pytest.mark.parametrize("level", [0, 500])
def test_noise_alone_has_no_spots(level: int) -> None:
    plane = np.random.default_rng(3).poisson(level, (400, 400)).astype(np.uint16)
    found = detect_spots({"A": plane}, pixel_um=PIXEL_UM)
    assert found.spots_by_plane["count_A"] <= 1
    assert {len(column) for column in found.spots.values()} == {found.spots_by_plane["count_A"]}


def test_each_spot_is_found_once_at_the_scale_that_fits() -> None:
    centres = places(4, 40, 300, 30)
    small, large = centres[:20], centres[20:]
    plane = field(small, 200, sigma=SIGMA_PX).astype(np.float64)
    plane += field(large, 200, sigma=3 * SIGMA_PX, noise=0) - field(large, 0, noise=0).astype(float)
    found = detect_spots(
        {"A": plane.astype(np.float32)},
        pixel_um=PIXEL_UM,
        diameters_um=(3 * DIAMETER_UM, DIAMETER_UM),
    ).spots
    distance, nearest = nearest_to(centres, found)
    assert len(distance) == 40
    assert distance.max() < 1
    expected = np.where(nearest < 20, DIAMETER_UM, 3 * DIAMETER_UM)
    assert found["Diameter_um"].tolist() == expected.tolist()


def squares() -> NDArray[np.int32]:
    """Give sixteen objects whose numbers have gaps."""
    labels = np.zeros((300, 300), np.int32)
    for place in range(16):
        y, x = divmod(place, 4)
        labels[y * 75 + 10 : y * 75 + 65, x * 75 + 10 : x * 75 + 65] = 3 * place + 2
    return labels


def test_spots_are_counted_in_their_objects_and_none_is_a_row_too() -> None:
    labels = squares()
    centres = places(5, 80, 300, 8)
    centres = centres[labels[tuple(np.rint(centres).astype(int).T)] != 2]  # none in the first
    near = labels[tuple(np.rint(centres).astype(int).T)]
    found = detect_spots(
        {"A": field(centres, 300), "B": field(centres[:0], 0, seed=9)},
        labels=labels,
        pixel_um=PIXEL_UM,
        diameters_um=(DIAMETER_UM,),
    )
    objects = found.spots_by_object
    assert next(iter(objects)) == "ObjectNumber"
    assert objects["ObjectNumber"].tolist() == [3 * place + 2 for place in range(16)]
    counts = [np.count_nonzero(near == number) for number in objects["ObjectNumber"]]
    assert objects["Spots_Count_A"].tolist() == counts
    assert counts[0] == 0
    assert math.isnan(objects["Spots_MeanIntensity_A"][0])
    assert objects["Spots_Intensity_A"][0] == 0
    assert not objects["Spots_Count_B"].any()
    table = found.spots
    of_a = table["channel"] == "A"
    for number, total in zip(objects["ObjectNumber"], objects["Spots_Intensity_A"], strict=True):
        own = of_a & (table["ObjectNumber"] == number)
        assert table["Intensity"][own].sum() == pytest.approx(total)
    assert found.spots_by_plane["outside_A"] == np.count_nonzero(near == 0)


def test_without_labels_there_is_no_table_of_objects() -> None:
    found = detect_spots({"A": field(places(1, 5, 300, 9), 300)}, pixel_um=PIXEL_UM)
    assert found.spots_by_object == {}
    assert not found.spots["ObjectNumber"].any()


def test_without_objects_the_columns_are_there_and_empty() -> None:
    found = detect_spots(
        {"A": field(places(1, 5, 300, 9), 300)},
        labels=np.zeros((300, 300), np.int32),
        pixel_um=PIXEL_UM,
    )
    assert {name: len(column) for name, column in found.spots_by_object.items()} == {
        "ObjectNumber": 0,
        "Spots_Count_A": 0,
        "Spots_Intensity_A": 0,
        "Spots_MeanIntensity_A": 0,
    }


def test_a_spot_at_the_border_and_pixels_that_are_not_square_do_no_harm() -> None:
    plane: NDArray[Any] = np.full((60, 90), 100.0)
    plane[0, 0] = plane[59, 89] = plane[30, 44] = 900.0
    plane[10, 10] = np.nan
    found = detect_spots(
        {"A": plane + np.random.default_rng(0).normal(0, 1, plane.shape)},
        pixel_um=(0.4, 0.2),
        diameters_um=(1.0,),
        least_contrast=20,
    ).spots
    spots = {(round(y), round(x)) for y, x in zip(found["Y"], found["X"], strict=True)}
    assert {(0, 0), (59, 89), (30, 44)} <= spots
    assert len(spots) <= 7  # the missing pixel is dark, and rings


def test_a_plateau_is_one_spot() -> None:
    plane = np.zeros((40, 40), np.float32)
    plane[20:22, 20:22] = 100
    found = detect_spots({"A": plane}, pixel_um=(1.0, 1.0), diameters_um=(4.0,), least_contrast=5)
    assert found.spots_by_plane["count_A"] == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"diameters_um": ()}, "one diameter or more"),
        ({"diameters_um": (0.3,)}, "less than two pixels"),
        ({"threshold_sd": 0.0}, "threshold_sd is 0.0"),
        ({"least_contrast": -1.0}, "0 or more"),
        ({"labels": np.zeros((5, 5), np.int32)}, "channel 'A' has shape"),
    ],
)
def test_what_makes_no_sense_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detect_spots({"A": np.zeros((40, 40), np.uint16)}, pixel_um=PIXEL_UM, **changed)


def test_where_tiles_end_there_are_no_spots() -> None:
    centres = places(6, 60, 300, 10)
    plane = field(centres, 200)
    plane[:60, :] = 0
    plane[:, 250:] = 0
    rows = np.zeros(60, bool)
    for row, (y, x) in enumerate(centres):
        rows[row] = y > 66 and x < 244
    found = detect_spots({"A": plane}, pixel_um=PIXEL_UM, diameters_um=(DIAMETER_UM,)).spots
    distance, _ = nearest_to(centres, found)
    assert distance.max() < 3
    assert (found["Y"] > 59).all()
    assert (found["X"] < 250).all()
    assert np.count_nonzero(rows) <= len(distance) <= np.count_nonzero(rows) + 6


def test_spots_are_found_after_the_background_was_taken_away() -> None:
    centres = places(7, 60, 300, 10)
    raw = field(centres, 200)
    for plane in (
        subtract_background(raw, pixel_um=PIXEL_UM, radius_um=8.0),
        white_top_hat(raw, pixel_um=PIXEL_UM, radius_um=1.0),
    ):
        found = detect_spots({"A": plane}, pixel_um=PIXEL_UM, diameters_um=(DIAMETER_UM,)).spots
        distance, nearest = nearest_to(centres, found)
        assert sorted(nearest.tolist()) == list(range(60))
        assert distance.max() < 1
