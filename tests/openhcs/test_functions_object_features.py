"""Granularity, texture, rings, quantiles and neighbours of objects, each against an oracle."""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.feature import graycomatrix, graycoprops

from openhcs.functions import (
    measure_granularity,
    measure_intensity_quantiles,
    measure_neighbours,
    measure_radial_distribution,
    measure_texture,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

PIXEL_UM = (1.0, 1.0)


def blobs(seed: int, shape: tuple[int, int], count: int, radius: int) -> NDArray[np.int32]:
    """Paint disks that overlap and reach over the border; numbers have gaps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for number in range(count):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        size = rng.integers(1, radius + 1)
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        labels[(rows - y) ** 2 + (columns - x) ** 2 <= size**2] = 2 * number + 3
    return labels


def noise(seed: int, shape: tuple[int, int], dtype: Any = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(50, 4000, shape).astype(dtype)


# Granularity


def grains(radius_px: int, side: int = 240, apart: int = 24) -> NDArray[np.uint16]:
    plane = np.full((side, side), 100, np.uint16)
    y, x = np.mgrid[-12:12, -12:12]
    disk = y**2 + x**2 <= (radius_px + 0.3) ** 2
    for top in range(0, side, apart):
        for left in range(0, side, apart):
            plane[top : top + 24, left : left + 24][disk] = 1100
    return plane


@pytest.mark.parametrize("radius_px", [2, 3, 5])
def test_the_spectrum_peaks_at_the_size_of_the_grains(radius_px: int) -> None:
    found = measure_granularity({"A": grains(radius_px)}, pixel_um=PIXEL_UM, background_um=10.0)
    spectrum = [found.granularity_by_plane[f"Granularity_{n}_A"] for n in range(1, 9)]
    assert int(np.argmax(spectrum)) in (radius_px - 1, radius_px)
    assert sum(spectrum[max(0, radius_px - 2) : radius_px + 1]) > 85
    assert sum(spectrum) == pytest.approx(100, abs=1)


def test_grains_of_one_size_in_um_peak_at_one_step_at_any_magnification() -> None:
    fine = np.kron(grains(3), np.ones((2, 2), np.uint16))
    coarse, doubled = (
        measure_granularity({"A": plane}, pixel_um=(size, size), background_um=10.0)
        for plane, size in ((grains(3), 1.0), (fine, 0.5))
    )
    assert doubled.granularity_by_plane == pytest.approx(coarse.granularity_by_plane, abs=0.1)


def test_each_object_has_the_spectrum_of_its_own_grains() -> None:
    plane = np.concatenate([grains(2), grains(5)], axis=1)
    labels = np.zeros(plane.shape, np.int32)
    labels[12:228, 12:228], labels[12:228, 252:468] = 4, 9
    found = measure_granularity(
        {"A": plane}, labels=labels, pixel_um=PIXEL_UM, background_um=10.0
    ).granularity
    assert found["ObjectNumber"].tolist() == [4, 9]
    spectra = np.array([found[f"Granularity_{n}_A"] for n in range(1, 9)])
    assert [int(np.argmax(spectrum)) for spectrum in spectra.T] in ([1, 4], [2, 5], [2, 4], [1, 5])
    alone = measure_granularity(
        {"A": grains(2)}, labels=labels[:, :240], pixel_um=PIXEL_UM, background_um=10.0
    ).granularity
    assert [float(alone[f"Granularity_{n}_A"][0]) for n in range(1, 9)] == pytest.approx(
        spectra[:, 0], abs=0.01
    )


def test_an_even_plane_has_no_spectrum() -> None:
    found = measure_granularity(
        {"A": np.full((60, 60), 900, np.uint16)},
        labels=np.ones((60, 60), np.int32),
        pixel_um=PIXEL_UM,
    )
    assert all(math.isnan(value) for value in found.granularity_by_plane.values())
    assert math.isnan(found.granularity["Granularity_1_A"][0])


def test_a_step_of_less_than_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a pixel is 1\.3 µm"):
        measure_granularity({"A": grains(2)}, pixel_um=(0.5, 1.3))


def test_a_background_that_is_narrower_than_the_grains_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than the largest radius, 8 µm"):
        measure_granularity({"A": grains(2)}, pixel_um=PIXEL_UM, background_um=8.0)


# Texture

_SKIMAGE = {
    "AngularSecondMoment": "ASM",
    "Contrast": "contrast",
    "Correlation": "correlation",
    "InverseDifferenceMoment": "homogeneity",
}


def matrices(
    values: NDArray[Any], own: NDArray[np.bool_], levels: int, distance: int
) -> NDArray[np.float64]:
    """Give scikit-image's matrices of one object; level 0 is all that is not it."""
    top, left = (int(np.flatnonzero(own.any(axis=1 - axis))[0]) for axis in (0, 1))
    bottom, right = (int(np.flatnonzero(own.any(axis=1 - axis))[-1]) for axis in (0, 1))
    box = np.s_[top : bottom + 1, left : right + 1]
    low, high = values[own].min(), values[own].max()
    scaled = (values.astype(float) - low) / max(high - low, 1) * levels
    grey = np.where(own, np.clip(scaled.astype(int), 0, levels - 1) + 1, 0)[box]
    counts = graycomatrix(  # type: ignore[no-untyped-call]  # scikit-image has no types
        grey.astype(np.uint8),
        [distance],
        [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4],
        levels=levels + 1,
        symmetric=True,
    )[1:, 1:].astype(float)
    totals = counts.sum(axis=(0, 1), keepdims=True)
    return np.asarray(counts[:, :, :, totals[0, 0, 0] > 0] / totals[:, :, :, totals[0, 0, 0] > 0])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([4, 16]),
    distance=st.sampled_from([1, 2, 3]),
)
def test_textures_are_those_of_scikit_image(seed: int, levels: int, distance: int) -> None:
    shape = (50, 60)
    labels, plane = blobs(seed, shape, 8, 10), noise(seed, shape)
    table = measure_texture(
        {"A": plane}, labels=labels, pixel_um=PIXEL_UM, distance_um=float(distance), levels=levels
    )
    for row, number in enumerate(table["ObjectNumber"]):
        p = matrices(plane, labels == number, levels, distance)
        if not p.size:
            assert math.isnan(table["Texture_Contrast_A"][row])
            continue
        for ours, theirs in _SKIMAGE.items():
            # ``homogeneity`` divides by 1 + the squared difference, which is Haralick's.
            expected = graycoprops(p, theirs).mean()  # type: ignore[no-untyped-call]
            assert table[f"Texture_{ours}_A"][row] == pytest.approx(expected, abs=1e-9), ours
        for ours, expected in by_hand(p[:, :, 0]).items():
            assert table[f"Texture_{ours}_A"][row] == pytest.approx(expected, abs=1e-9), ours


def by_hand(p: NDArray[np.float64]) -> Mapping[str, float]:
    """Give Haralick's other features as he writes them, the mean over directions."""
    levels = p.shape[0]
    found: dict[str, list[float]] = {}
    for direction in range(p.shape[2]):
        one = p[:, :, direction]
        margin = one.sum(axis=1)
        mean = sum(i * margin[i] for i in range(levels))
        sums, differences = Counter[int](), Counter[int]()
        entropy = cross = 0.0
        for i in range(levels):
            for j in range(levels):
                sums[i + j] += one[i, j]
                differences[abs(i - j)] += one[i, j]
                if one[i, j] > 0:
                    entropy -= one[i, j] * math.log2(one[i, j])
                if margin[i] * margin[j] > 0:
                    cross -= margin[i] * margin[j] * math.log2(margin[i] * margin[j])
        own = -sum(m * math.log2(m) for m in margin if m > 0)
        average = sum(k * part for k, part in sums.items())
        apart = sum(k * part for k, part in differences.items())
        for name, value in {
            "Variance": sum((i - mean) ** 2 * margin[i] for i in range(levels)),
            "SumAverage": average,
            "SumVariance": sum((k - average) ** 2 * part for k, part in sums.items()),
            "SumEntropy": -sum(part * math.log2(part) for part in sums.values() if part > 0),
            "Entropy": entropy,
            "DifferenceVariance": sum((k - apart) ** 2 * q for k, q in differences.items()),
            "DifferenceEntropy": -sum(q * math.log2(q) for q in differences.values() if q > 0),
            "InfoMeas1": (entropy - cross) / own if own > 0 else 0.0,
            "InfoMeas2": math.sqrt(1 - math.exp(-2 * math.log(2) * max(cross - entropy, 0))),
        }.items():
            found.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in found.items()}


def test_texture_tells_stripes_from_noise_and_not_bright_from_dim() -> None:
    stripes = np.where(np.arange(64) % 8 < 4, 1000, 200) * np.ones((64, 1), int)
    labels = np.ones((64, 64), np.int32)
    one = measure_texture({"A": stripes}, labels=labels, pixel_um=PIXEL_UM, distance_um=1.0)
    dim = measure_texture({"A": stripes // 4}, labels=labels, pixel_um=PIXEL_UM, distance_um=1.0)
    other = measure_texture({"A": noise(1, (64, 64))}, labels=labels, pixel_um=PIXEL_UM)
    assert one["Texture_Correlation_A"][0] > 0.6 > 0.2 > other["Texture_Correlation_A"][0]
    assert {name: float(value[0]) for name, value in dim.items()} == pytest.approx(
        {name: float(value[0]) for name, value in one.items()}
    )


def test_a_stated_range_compares_objects_by_the_same_levels() -> None:
    plane = np.full((20, 40), 100)
    plane[:, 20:] = 300
    labels = np.ones((20, 40), np.int32)
    labels[:, 20:] = 2
    table = measure_texture(
        {"A": plane}, labels=labels, pixel_um=PIXEL_UM, levels=8, ranges={"A": (0.0, 400.0)}
    )
    assert table["Texture_SumAverage_A"].tolist() == [2 * 2, 2 * 6]
    assert table["Texture_Entropy_A"].tolist() == [0, 0]


# Rings


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rings=st.integers(2, 6))
def test_rings_are_those_of_each_object_by_itself(seed: int, rings: int) -> None:
    shape = (50, 60)
    labels, plane = blobs(seed, shape, 8, 12), noise(seed, shape)
    sizes = (1.0, 0.5)
    table = measure_radial_distribution({"A": plane}, labels=labels, pixel_um=sizes, rings=rings)
    for row, number in enumerate(table["ObjectNumber"]):
        own = np.pad(labels == number, 1)
        inner = ndimage.binary_erosion(own)
        depth = ndimage.distance_transform_edt(inner, sampling=sizes)[1:-1, 1:-1]
        of = labels == number
        most = depth[of].max()
        ring = np.clip(((1 - depth / most if most else 1 + 0 * depth) * rings), 0, rings - 1)
        ring = ring.astype(int)
        y, x = np.nonzero(of)
        for k in range(rings):
            there = of & (ring == k)
            name = f"A_{k + 1}of{rings}"
            if not there.any():
                assert math.isnan(table[f"RadialDistribution_FracAtD_{name}"][row])
                continue
            part = plane[there].sum() / plane[of].sum()
            assert table[f"RadialDistribution_FracAtD_{name}"][row] == pytest.approx(part)
            even = part / (there.sum() / of.sum())
            assert table[f"RadialDistribution_MeanFrac_{name}"][row] == pytest.approx(even)
            at_y, at_x = np.nonzero(there)
            angle = np.arctan2((at_y - y.mean()) * sizes[0], (at_x - x.mean()) * sizes[1])
            wedge = np.clip(((angle + math.pi) / (2 * math.pi) * 8).astype(int), 0, 7)
            means = [plane[there][wedge == each].mean() for each in np.unique(wedge)]
            variation = np.std(means) / np.mean(means)
            measured = table[f"RadialDistribution_RadialCV_{name}"][row]
            assert measured == pytest.approx(variation, abs=1e-9)


def test_brightness_in_the_middle_is_in_the_first_rings() -> None:
    y, x = np.mgrid[-40:41, -40:41]
    far = np.hypot(y, x)
    labels = (far <= 36).astype(np.int32)
    table = measure_radial_distribution(
        {"middle": np.where(far < 8, 100, 0), "edge": np.where(far > 28, 100, 0)},
        labels=labels,
        pixel_um=PIXEL_UM,
    )
    assert table["RadialDistribution_FracAtD_middle_1of4"][0] > 0.99
    assert table["RadialDistribution_FracAtD_edge_4of4"][0] > 0.95
    assert table["RadialDistribution_RadialCV_edge_4of4"][0] < 0.05


# Quantiles


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]),
)
def test_quantiles_are_those_of_numpy(seed: int, dtype: type[np.generic]) -> None:
    shape = (40, 45)
    labels, plane = blobs(seed, shape, 8, 10), (noise(seed, shape) % 251).astype(dtype)
    table = measure_intensity_quantiles(
        {"A": plane}, labels=labels, pixel_um=PIXEL_UM, quantiles=(0.0, 0.05, 0.333, 1.0)
    )
    for row, number in enumerate(table["ObjectNumber"]):
        values = plane[labels == number].astype(float)
        for q, name in ((0.0, "0"), (0.05, "5"), (0.333, "33.3"), (1.0, "100")):
            expected = np.quantile(values, q)
            assert table[f"Intensity_Quantile{name}_A"][row] == pytest.approx(expected)
        mad = np.median(np.abs(values - np.median(values)))
        assert table["Intensity_MADIntensity_A"][row] == pytest.approx(mad)


# Neighbours


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 14),
    distance=st.sampled_from([1.0, 3.5, 10.0]),
    sizes=st.sampled_from([(1.0, 1.0), (1.0, 0.5)]),
)
def test_neighbours_are_those_of_every_pair_of_pixels(
    seed: int, count: int, distance: float, sizes: tuple[float, float]
) -> None:
    labels = blobs(seed, (40, 50), count, 7)
    table = measure_neighbours({}, labels=labels, pixel_um=sizes, distance_um=distance)
    numbers = table["ObjectNumber"].tolist()
    places = {n: np.argwhere(labels == n) for n in numbers}
    for row, number in enumerate(numbers):
        others = [n for n in numbers if n != number]
        apart = {n: float(cdist(places[number] * sizes, places[n] * sizes).min()) for n in others}
        touching = [n for n in others if cdist(places[number], places[n], "chebyshev").min() <= 1]
        near = {n for n in others if apart[n] <= distance} | set(touching)
        assert table["Neighbors_NumberOfNeighbors"][row] == len(near)
        assert table["Neighbors_NumberTouching"][row] == len(touching)
        centres = {n: (places[n] * sizes).mean(axis=0) for n in numbers}
        if others:
            nearest = min(apart.values())
            assert table["Neighbors_FirstClosestDistance_um"][row] == pytest.approx(nearest)
            closest = table["Neighbors_FirstClosestObjectNumber"][row]
            assert apart[int(closest)] == pytest.approx(nearest)
            middle = min(math.dist(centres[number], centres[n]) for n in others)
            measured = table["Neighbors_FirstClosestCenterDistance_um"][row]
            assert measured == pytest.approx(middle)
        else:
            assert table["Neighbors_FirstClosestObjectNumber"][row] == 0
            assert math.isnan(table["Neighbors_FirstClosestDistance_um"][row])
            assert math.isnan(table["Neighbors_FirstClosestCenterDistance_um"][row])


def test_two_squares_side_by_side_share_a_quarter_of_their_outlines() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25] = 1, 2
    table = measure_neighbours({}, labels=labels, pixel_um=PIXEL_UM)
    assert table["Neighbors_PercentTouching"] == pytest.approx(100 * 10 / 36)
    assert table["Neighbors_NumberTouching"].tolist() == [1, 1]


# All of them


def table_of(call: Callable[..., Any], labels: NDArray[np.int32]) -> Mapping[str, NDArray[Any]]:
    found = call({"A": noise(1, (64, 64))}, labels=labels, pixel_um=PIXEL_UM)
    table: Mapping[str, NDArray[Any]] = getattr(found, "granularity", found)
    return table


MEASURES = (
    measure_granularity,
    measure_intensity_quantiles,
    measure_neighbours,
    measure_radial_distribution,
    measure_texture,
)


@pytest.mark.parametrize("call", MEASURES, ids=lambda call: call.__name__)
def test_without_objects_every_column_is_there_and_empty(call: Callable[..., Any]) -> None:
    some = table_of(call, blobs(1, (64, 64), 5, 12))
    none = table_of(call, np.zeros((64, 64), np.int32))
    assert list(some) == list(none)
    assert next(iter(some)) == "ObjectNumber"
    assert {len(column) for column in none.values()} == {0}
    assert [column.dtype for column in none.values()] == [column.dtype for column in some.values()]


@pytest.mark.parametrize("call", MEASURES, ids=lambda call: call.__name__)
def test_one_object_that_is_all_of_the_plane_or_one_pixel(call: Callable[..., Any]) -> None:
    for labels in (np.ones((64, 64), np.int32), np.pad(np.ones((1, 1), np.int32), (31, 32))):
        assert table_of(call, labels)["ObjectNumber"].tolist() == [1]


@pytest.mark.parametrize("call", MEASURES, ids=lambda call: call.__name__)
def test_nothing_is_done_object_by_object(call: Callable[..., Any]) -> None:
    labels = np.kron(np.arange(1, 257).reshape(16, 16), np.ones((4, 4), np.int32)).astype(np.int32)

    def calls(labels: NDArray[np.int32]) -> int:
        events: Counter[str] = Counter()
        before = sys.getprofile()
        sys.setprofile(lambda _frame, event, _argument: events.update((event,)))
        try:
            table_of(call, labels)
        finally:
            sys.setprofile(before)
        return events["call"] + events["c_call"]

    calls(labels)  # the first time, modules are loaded
    assert calls(labels) < 2 * calls(np.where(labels <= 9, labels, 0).astype(np.int32))


@pytest.mark.parametrize("call", MEASURES, ids=lambda call: call.__name__)
def test_labels_that_are_none_are_named(call: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="labels must be integers"):
        call({"A": noise(1, (64, 64))}, labels=np.zeros((64, 64)), pixel_um=PIXEL_UM)
    if call is not measure_neighbours:
        with pytest.raises(ValueError, match="channel 'A' has shape"):
            call({"A": noise(1, (64, 64))}, labels=np.zeros((9, 9), int), pixel_um=PIXEL_UM)
