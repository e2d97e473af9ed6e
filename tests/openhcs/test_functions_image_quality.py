"""Quality measures against planes whose faults are known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage

from openhcs.functions import measure_image_quality

if TYPE_CHECKING:
    from numpy.typing import NDArray


def scene(seed: int = 0, *, size: int = 256, count: int = 40) -> NDArray[np.float64]:
    """Paint disks of 8 px over a background of 300, without noise."""
    rng = np.random.default_rng(seed)
    plane = np.full((size, size), 300.0)
    rows, columns = np.ogrid[:size, :size]
    for _ in range(count):
        y, x = rng.uniform(0, size, 2)
        plane[(rows - y) ** 2 + (columns - x) ** 2 < 64] = rng.uniform(800, 1500)
    return plane


def noisy(plane: NDArray[np.float64], seed: int = 1) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).poisson(plane).astype(np.uint16)


def test_levels_are_those_of_the_plane() -> None:
    plane = noisy(scene(size=512))
    record = measure_image_quality(plane)
    assert record["minimum"] == plane.min()
    assert record["maximum"] == plane.max()
    assert record["mean"] == pytest.approx(plane.mean(), rel=0.05)
    assert record["median"] == pytest.approx(np.median(plane), rel=0.01)
    assert record["p01"] == pytest.approx(np.quantile(plane, 0.01), rel=0.01)
    assert record["p99"] == pytest.approx(np.quantile(plane, 0.99), rel=0.05)
    assert record["background"] == pytest.approx(300, rel=0.02)
    assert record["noise"] == pytest.approx(math.sqrt(300), rel=0.1)
    assert record["empty"] is False
    assert record["constant"] is False


@pytest.mark.parametrize("sigma", [2.5, 2.7, 2.9, 3.1, 3.3, 3.5])
def test_noise_is_not_measured_in_steps_of_a_count(sigma: float) -> None:
    pixels = np.random.default_rng(0).normal(300, sigma, (1536, 1536))
    record = measure_image_quality(pixels.round().astype(np.uint16))
    assert record["noise"] == pytest.approx(sigma, rel=0.04)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_saturation_is_that_of_the_camera(bits: int) -> None:
    plane = noisy(scene()).clip(0, 200)
    plane[:16, :32] = (1 << bits) - 1
    record = measure_image_quality(plane.astype(np.uint8 if bits == 8 else np.uint16))
    assert record["saturated_fraction"] == 16 * 32 / plane.size


def test_a_plane_below_full_scale_is_not_saturated() -> None:
    assert measure_image_quality(noisy(scene()).clip(0, 1000))["saturated_fraction"] == 0


def test_zeros_are_counted() -> None:
    plane = noisy(scene())
    plane[:, :64] = 0
    assert measure_image_quality(plane)["zero_fraction"] == 0.25


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_plane_is_constant_and_empty(value: int) -> None:
    record = measure_image_quality(np.full((64, 80), value, np.uint8))
    assert record["constant"] is True
    assert record["empty"] is True
    assert record["zero_fraction"] == float(value == 0)
    assert record["saturated_fraction"] == float(value == 255)
    assert (record["focus_slope"], record["focus_laplacian"], record["snr"]) == (0, 0, 0)


def test_the_gradient_of_the_background_is_found_under_objects() -> None:
    ramp = np.linspace(0, 80, 512)[None, :]
    record = measure_image_quality(noisy(scene(size=512, count=100) + ramp))
    assert record["background_gradient"] == pytest.approx(80, rel=0.15)
    even = measure_image_quality(noisy(scene(size=512, count=100)))
    assert even["background_gradient"] == pytest.approx(0, abs=8)


def test_focus_falls_as_the_plane_blurs() -> None:
    records = [
        measure_image_quality(noisy(ndimage.gaussian_filter(scene(), sigma)))
        for sigma in (0.5, 1, 2, 4)
    ]
    for name in ("focus_slope", "focus_laplacian"):
        values = [float(record[name]) for record in records]
        assert values == sorted(values, reverse=True), name


@pytest.mark.parametrize(("count", "empty"), [(0, True), (1, False), (40, False)])
def test_an_empty_field_is_told_from_one_nucleus(count: int, empty: bool) -> None:
    plane = noisy(scene(3, size=1024, count=count))
    plane[500, 500] = 60_000  # a hot pixel is no object
    record = measure_image_quality(plane)
    assert record["empty"] is empty


def test_a_gradient_alone_is_empty() -> None:
    ramp = np.tile(np.linspace(300, 400, 512), (512, 1))
    assert measure_image_quality(noisy(ramp))["empty"] is True


def test_signal_to_noise_falls_with_exposure() -> None:
    bright, dim = (measure_image_quality(noisy(scene() * gain))["snr"] for gain in (1, 0.1))
    assert float(bright) > 2 * float(dim)


def test_the_hash_is_that_of_the_content() -> None:
    plane = noisy(scene())
    record = measure_image_quality(plane)
    assert measure_image_quality(plane.copy()) == record
    others: list[NDArray[Any]] = [
        noisy(scene(), seed=2),
        plane[::-1],
        plane.astype(np.int32),
        plane.reshape(128, 512),
    ]
    hashes = {measure_image_quality(other)["content_hash"] for other in others}
    assert len(hashes | {record["content_hash"]}) == 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_planes_that_differ_in_any_one_pixel_have_other_hashes(dtype: type[np.generic]) -> None:
    plane = np.random.default_rng(0).integers(0, 200, (300, 77)).astype(dtype)
    hashes = {measure_image_quality(plane)["content_hash"]}
    places = [(row, (row * 31) % 77) for row in range(0, 300, 3)]
    for row, column in places:
        other = plane.copy()
        other[row, column] += 1
        hashes.add(measure_image_quality(other)["content_hash"])
    swapped = plane.copy()
    swapped[[1, 2]] = plane[[2, 1]]
    hashes.add(measure_image_quality(swapped)["content_hash"])
    assert len(hashes) == len(places) + 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (32, 32), (33, 500)])
def test_every_dtype_and_size_gives_plain_finite_values(
    dtype: type[np.generic], shape: tuple[int, int]
) -> None:
    plane = np.random.default_rng(0).uniform(0, 250, shape).astype(dtype)
    record = measure_image_quality(plane)
    assert {type(value) for value in record.values()} == {float, bool, str}
    assert all(math.isfinite(value) for value in record.values() if isinstance(value, float))


@pytest.mark.parametrize("fill", [math.nan, math.inf, -math.inf])
def test_pixels_that_are_not_finite_are_left_out(fill: float) -> None:
    plane = scene().astype(np.float32)
    plane[10:14, 10:14] = fill
    record = measure_image_quality(plane)
    assert float(record["maximum"]) <= 1500
    assert all(math.isfinite(value) for value in record.values() if isinstance(value, float))
    nothing = measure_image_quality(np.full((32, 32), fill, np.float32))
    assert nothing["constant"] is True


@pytest.mark.parametrize("shape", [(2, 32, 32), (0, 32)])
def test_what_is_no_plane_is_refused(shape: tuple[int, ...]) -> None:
    plane: NDArray[Any] = np.zeros(shape, np.uint16)
    with pytest.raises(ValueError, match="two axes"):
        measure_image_quality(plane)
