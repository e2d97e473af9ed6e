from __future__ import annotations

import numpy as np
import pytest

from polystore import TileError
from polystore.tiles import Contrast, Lane, choose_lane, composite


def test_values_from_black_to_white_are_shown_as_they_are_meant() -> None:
    plane = np.array([[0, 100, 200, 300, 65535]], np.uint16)
    shown = composite([plane], [Contrast(limits=(100, 300))])
    np.testing.assert_array_equal(shown[0, :, 0], [0, 0, 128, 255, 255])
    shown = composite([plane], [Contrast(limits=(100, 300), gamma=0.5, color=(255, 0, 100))])
    np.testing.assert_array_equal(shown[0, 2], [180, 0, 71])


def test_channels_add_up_and_stop_at_white() -> None:
    plane = np.array([[10, 250]], np.uint8)
    red, gray = Contrast(limits=(0, 250), color=(255, 0, 0)), Contrast(limits=(0, 250))
    shown = composite([plane, plane], [red, gray])
    np.testing.assert_array_equal(shown, [[[20, 10, 10], [255, 255, 255]]])


@pytest.mark.parametrize("dtype", ["f4", "i2", "u4"])
def test_planes_without_a_table_of_all_values_are_refused(dtype: str) -> None:
    with pytest.raises(TileError, match="no table"):
        composite([np.zeros((2, 2), dtype)], [Contrast(limits=(0, 1))])


def test_planes_that_do_not_fit_each_other_are_refused() -> None:
    contrast = Contrast(limits=(0, 1))
    with pytest.raises(TileError, match="do not fit"):
        composite([np.zeros((2, 2), "u1"), np.zeros((2, 3), "u1")], [contrast, contrast])
    with pytest.raises(TileError, match="0 planes"):
        composite([], [])
    with pytest.raises(ValueError, match="limits rise"):
        Contrast(limits=(5, 5))


@pytest.mark.req("B.2")
@pytest.mark.parametrize(
    ("options", "lane", "why"),
    [
        ({}, Lane.RAW, "less than"),
        ({"still_bytes": 1e6}, Lane.RENDERED, "no more than"),
        ({"still_bytes": 1e6, "contrast_moves": True}, Lane.RAW, "contrast"),
        ({"bytes_per_s": 5e6, "contrast_moves": True}, Lane.RENDERED, "360 ms"),
        ({"bytes_per_s": None}, Lane.RENDERED, "not measured"),
        ({"flat": False}, Lane.RENDERED, "not flat"),
    ],
)
def test_the_link_and_what_is_done_choose_between_picture_and_planes(
    options: dict[str, float], lane: Lane, why: str
) -> None:
    figures = {"raw_bytes": 1.8e6, "still_bytes": 3e6, "bytes_per_s": 100e6, **options}
    choice = choose_lane(**figures)  # type: ignore[arg-type]  # a table of cases
    assert choice.lane is lane
    assert why in choice.text
