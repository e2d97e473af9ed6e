"""Smoothing and background, in the pixel type that comes in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from openhcs.functions import gaussian, gaussian_px, median, subtract_background

PIXEL_UM = (0.5, 0.65)


def test_a_gaussian_in_um_follows_the_pixel_size() -> None:
    plane = np.random.default_rng(0).integers(0, 60000, (90, 80), dtype=np.uint16)
    exact = ndimage.gaussian_filter(plane.astype("f4"), (3.0, 1.5 / 0.65), mode="nearest")
    smooth = gaussian(plane, pixel_um=PIXEL_UM, sigma_um=1.5)
    np.testing.assert_array_equal(smooth, np.rint(exact).astype(np.uint16))
    in_px = gaussian_px(plane.astype("f4"), sigma_px=2.0)
    assert in_px.dtype == np.float32
    assert in_px.std() < plane.std() / 4


@pytest.mark.parametrize("sigma", [10.0, 23.0, 50.0])
def test_a_wide_gaussian_is_that_of_the_whole_plane(sigma: float) -> None:
    rng = np.random.default_rng(1)
    plane = ndimage.gaussian_filter(rng.random((301, 420)), 3.0) * 60000
    plane[100:200, 150:260] += 20000
    plane = np.pad(plane[60:-60, 60:-60], 60, mode="edge").astype(np.float32)
    exact = ndimage.gaussian_filter(plane, sigma, mode="nearest")
    assert np.abs(gaussian_px(plane, sigma_px=sigma) - exact).max() <= 0.005 * np.ptp(plane)


def test_a_median_removes_hot_pixels() -> None:
    plane = np.full((40, 40), 300, np.uint16)
    plane[10, 10] = plane[0, 39] = 65535
    np.testing.assert_array_equal(median(plane), 300)


def test_background_goes_and_cells_stay() -> None:
    y, x = np.mgrid[:400, :500]
    haze = 400 + 0.8 * y + 0.4 * x + 200 * np.sin(x / 160)
    cells = np.zeros_like(haze)
    for at_y, at_x in ((60, 80), (200, 260), (330, 420)):
        cells += 3000 * np.exp(-((y - at_y) ** 2 + (x - at_x) ** 2) / (2 * 8**2))
    left = subtract_background(
        np.rint(haze + cells).astype(np.uint16), pixel_um=(0.5, 0.5), radius_um=25
    )
    assert left.dtype == np.uint16
    away = left - cells
    assert abs(float(np.median(away))) < 30
    assert np.abs(away).max() < 120
    assert left.max() == pytest.approx(3000, rel=0.05)


@pytest.mark.parametrize("shape", [(32, 32), (33, 200)])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_type_and_shape_stay(shape: tuple[int, int], dtype: str) -> None:
    plane = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    for result in (
        gaussian(plane, pixel_um=PIXEL_UM),
        gaussian_px(plane),
        median(plane),
        subtract_background(plane, pixel_um=PIXEL_UM),
        subtract_background(plane, pixel_um=PIXEL_UM, radius_um=1.0),
    ):
        assert result.shape == shape
        assert result.dtype == plane.dtype
        assert np.isfinite(result).all()


def test_values_out_of_range_are_refused() -> None:
    plane = np.zeros((32, 32), np.uint16)
    with pytest.raises(ValueError, match="sigma_um"):
        gaussian(plane, pixel_um=PIXEL_UM, sigma_um=0)
    with pytest.raises(ValueError, match="sigma_px"):
        gaussian_px(plane, sigma_px=float("nan"))
    with pytest.raises(ValueError, match="size_px"):
        median(plane, size_px=4)
    with pytest.raises(ValueError, match="radius_um"):
        subtract_background(plane, pixel_um=PIXEL_UM, radius_um=-3)
