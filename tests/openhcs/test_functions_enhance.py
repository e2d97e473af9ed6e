"""Filters that keep what is small, against scipy and against disks of known size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from openhcs.functions import difference_of_gaussians, white_top_hat
from openhcs.functions._morphology import dilated, eroded, opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.5)


def disks(*radii_px: float, side: int = 64, level: int = 1000) -> NDArray[np.uint16]:
    """Paint disks side by side on a level of 100."""
    plane = np.full((side, side * len(radii_px)), 100, np.uint16)
    y, x = np.mgrid[:side, :side] - side // 2
    for place, radius in enumerate(radii_px):
        plane[:, place * side : (place + 1) * side][y**2 + x**2 <= radius**2] += level
    return plane


def footprint(radius_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Give an octagon as what one pixel grows to."""
    point = np.zeros((2 * radius_px[0] + 1, 2 * radius_px[1] + 1), np.uint8)
    point[radius_px] = 1
    return dilated(point, radius_px) > 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    radius=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_octagons_do_what_scipy_does_with_their_footprint(
    seed: int, shape: tuple[int, int], radius: tuple[int, int], dtype: type[np.generic]
) -> None:
    plane = np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)
    grain = footprint(radius)
    low, high = (0, 255) if dtype is np.uint8 else (0, 60_000)
    least = ndimage.grey_erosion(plane, footprint=grain, mode="constant", cval=high)
    assert np.array_equal(eroded(plane, radius), least)
    most = ndimage.grey_dilation(least, footprint=grain, mode="constant", cval=low)
    assert np.array_equal(opened(plane, radius), most)


@pytest.mark.parametrize("radius", range(2, 13))
def test_an_octagon_is_close_to_a_disk(radius: int) -> None:
    grain = footprint((radius, radius))
    y, x = np.nonzero(grain)
    reach = np.hypot(y - radius, x - radius)
    assert grain[0, radius]
    assert grain[radius, 0]
    assert reach.max() <= 1.15 * radius + 0.5
    assert abs(np.count_nonzero(grain) / (np.pi * (radius + 0.5) ** 2) - 1) < 0.12


@pytest.mark.parametrize("radius_um", [2.0, 10.0])
def test_a_top_hat_keeps_what_is_narrower_and_nothing_else(radius_um: float) -> None:
    radius_px = radius_um / PIXEL_UM[0]
    side = int(6 * radius_px)
    plane = disks(0.6 * radius_px, 1.8 * radius_px, side=side)
    found = white_top_hat(plane, pixel_um=PIXEL_UM, radius_um=radius_um)
    assert found.dtype == np.uint16
    narrow, wide = found[:, :side], found[:, side:]
    truth = disks(0.6 * radius_px, side=side).astype(np.int64) - 100
    assert np.abs(narrow - truth).max() <= 40
    inside = ndimage.binary_erosion(disks(1.8 * radius_px, side=side) > 100, iterations=4)
    assert wide[inside].max() <= 40


def test_pixels_that_are_not_square_are_minded() -> None:
    y, x = np.mgrid[:80, :160]
    disk = ((y - 40) * 1.0) ** 2 + ((x - 80) * 0.5) ** 2 <= 10.0**2
    plane = np.where(disk, 1000, 0).astype(np.uint16)
    assert white_top_hat(plane, pixel_um=(1.0, 0.5), radius_um=12.0).max() == 1000
    kept = white_top_hat(plane, pixel_um=(1.0, 0.5), radius_um=6.0)
    assert np.count_nonzero(kept > 500) < 0.15 * np.count_nonzero(plane)


def test_a_difference_of_gaussians_is_that() -> None:
    plane: NDArray[Any] = np.random.default_rng(1).normal(500, 50, (80, 90)).astype(np.float32)
    found = difference_of_gaussians(
        plane, pixel_um=(0.5, 0.25), small_sigma_um=0.5, large_sigma_um=2.0
    )
    narrow = ndimage.gaussian_filter(plane.astype(np.float64), (1, 2), mode="nearest")
    wide = ndimage.gaussian_filter(plane.astype(np.float64), (4, 8), mode="nearest")
    assert found == pytest.approx(narrow - wide, abs=1e-3)


def test_widths_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValueError, match="the smaller one"):
        difference_of_gaussians(np.zeros((8, 8)), pixel_um=PIXEL_UM, small_sigma_um=3.0)
    with pytest.raises(ValueError, match="radius_um is 0"):
        white_top_hat(np.zeros((8, 8)), pixel_um=PIXEL_UM, radius_um=0)
