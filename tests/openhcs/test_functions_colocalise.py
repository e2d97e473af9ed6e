"""Colocalisation against scikit-image, a threshold search by hand, and overlaps that are known."""

from __future__ import annotations

import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from skimage.measure import manders_coloc_coeff, manders_overlap_coeff, pearson_corr_coeff

from openhcs.functions import measure_colocalisation
from openhcs.functions._costes import costes_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.5)


def disks(seed: int, count: int, side: int = 200) -> NDArray[np.float64]:
    plane = np.zeros((side, side))
    rng = np.random.default_rng(seed)
    for _ in range(count):
        y, x = rng.integers(6, side - 6, 2)
        plane[y - 3 : y + 4, x - 3 : x + 4] = rng.uniform(400, 900)
    return plane


def seen(signal: NDArray[np.float64], seed: int, offset: float = 100.0) -> NDArray[np.uint16]:
    """Blur, and add an offset and noise."""
    rng = np.random.default_rng(seed)
    noisy = ndimage.gaussian_filter(signal, 1.0) + offset + rng.normal(0, 6, signal.shape)
    pixels: NDArray[np.uint16] = np.clip(np.rint(noisy), 0, 65_535).astype(np.uint16)
    return pixels


def grid_labels(side: int = 200) -> NDArray[np.int32]:
    y, x = np.indices((side, side)) // 40
    labels = np.where((np.indices((side, side)) % 40 > 4).all(axis=0), 3 * (5 * y + x) + 2, 0)
    return labels.astype(np.int32)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from([np.uint8, np.uint16, np.float32]))
def test_coefficients_are_those_of_scikit_image(seed: int, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(1, 250, (200, 200)).astype(dtype)
    b = np.clip(0.5 * a + rng.integers(0, 120, a.shape), 1, 250).astype(dtype)
    labels = grid_labels()
    levels = {"A": 90.0, "B": 110.0}
    table = measure_colocalisation(
        {"A": a, "B": b}, labels=labels, pixel_um=PIXEL_UM, threshold=levels
    ).colocalisation
    for row, number in enumerate(table["ObjectNumber"]):
        own = labels == number
        pearson, _ = pearson_corr_coeff(a, b, own)  # type: ignore[no-untyped-call]  # skimage
        overlap = manders_overlap_coeff(a.astype(float), b.astype(float), own)  # type: ignore[no-untyped-call]
        assert table["Correlation_Correlation_A_B"][row] == pytest.approx(pearson, abs=1e-6)
        assert table["Correlation_Overlap_A_B"][row] == pytest.approx(overlap, abs=1e-6)
        for one, other, names in ((a, b, "AB"), (b, a, "BA")):
            signal = own & (one > levels[names[0]])
            expected = manders_coloc_coeff(one, other > levels[names[1]], signal)  # type: ignore[no-untyped-call]
            measured = table[f"Correlation_Manders_{names[0]}_{names[1]}"][row]
            assert measured == pytest.approx(expected, abs=1e-6)


def by_steps(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Search Costes' threshold of a downwards, with a correlation at each step."""
    first, second = a.ravel().astype(float), b.ravel().astype(float)
    cov = np.cov(first, second)
    values, vectors = np.linalg.eigh(cov)
    direction = vectors[:, np.argmax(values)]
    slope = direction[1] / direction[0]
    shift = second.mean() - slope * first.mean()
    for level in np.linspace(first.max(), first.min(), 200):
        below = (first <= level) | (second <= slope * level + shift)
        if np.count_nonzero(below) > 2 and stats.pearsonr(first[below], second[below])[0] <= 0:
            return float(level)
    return float(first.min())


@pytest.mark.parametrize("seed", [1, 2])
def test_costes_thresholds_are_those_of_a_search_step_by_step(seed: int) -> None:
    shared = disks(seed, 40)
    a, b = seen(shared, 1), seen(0.6 * shared, 2)
    found, other = costes_thresholds(a, b)
    expected = by_steps(a, b)
    assert found == pytest.approx(expected, abs=0.01 * (float(a.max()) - float(a.min())))
    assert 100 < found < 250
    assert other == pytest.approx(100 + 0.6 * (found - 100), abs=15)


def test_parts_that_overlap_are_found_with_costes() -> None:
    shared, own_a = disks(5, 30), disks(6, 30)
    own_a[ndimage.binary_dilation(shared > 0, iterations=6)] = 0
    a, b = seen(shared + own_a, 1), seen(0.8 * shared, 2)
    record = measure_colocalisation({"A": a, "B": b}, pixel_um=PIXEL_UM).colocalisation_by_plane
    true = shared.sum() / (shared + own_a).sum()
    assert 0.35 < true < 0.7
    assert record["manders_A_B"] == pytest.approx(true, abs=0.08)
    assert record["manders_B_A"] > 0.9
    assert record["pearson_A_B"] > 0.5


def test_thresholds_stay_within_what_the_channels_hold() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(2000, 300, (200, 200))
    b = 100 + 0.01 * (a - 2000) + rng.normal(0, 1, a.shape)
    found, other = costes_thresholds(a, b)
    assert a.min() <= found <= a.max()
    assert b.min() <= other <= b.max()


def test_channels_that_have_nothing_to_do_with_each_other() -> None:
    a, b = (np.random.default_rng(seed).normal(500, 9, (200, 200)) for seed in (1, 2))
    opposite = measure_colocalisation({"A": a, "B": 1000 - a}, pixel_um=PIXEL_UM)
    assert opposite.colocalisation_by_plane["pearson_A_B"] == pytest.approx(-1)
    assert opposite.colocalisation_by_plane["threshold_A_B"] == math.inf
    assert math.isnan(opposite.colocalisation_by_plane["manders_A_B"])
    record = measure_colocalisation({"A": a, "B": b}, pixel_um=PIXEL_UM).colocalisation_by_plane
    assert abs(record["pearson_A_B"]) < 0.02


def test_thresholds_are_of_the_plane_and_not_of_each_object() -> None:
    shared = disks(7, 40)
    a, b = seen(shared, 1), seen(shared, 2)
    labels = grid_labels()
    some = np.where(labels <= 20, labels, 0).astype(np.int32)
    all_of, part = (
        measure_colocalisation({"A": a, "B": b}, labels=each, pixel_um=PIXEL_UM).colocalisation
        for each in (labels, some)
    )
    count = len(part["ObjectNumber"])
    for name, values in part.items():
        assert np.array_equal(values, all_of[name][:count], equal_nan=True)


def test_ranks_weigh_pixels_down_that_differ_in_brightness() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 50, (2, 60, 60))
    labels = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((20, 20), np.int32))
    table = measure_colocalisation(
        {"A": a, "B": b},
        labels=labels,
        pixel_um=PIXEL_UM,
        threshold={"A": 10, "B": 20},
        rank_weighted=True,
    ).colocalisation
    for number in range(1, 10):
        own_a, own_b = a[labels == number].astype(float), b[labels == number].astype(float)
        ranks = [stats.rankdata(own, method="dense") for own in (own_a, own_b)]
        most = max(rank.max() for rank in ranks)
        weight = 1 - np.abs(ranks[0] - ranks[1]) / most
        both = (own_a > 10) & (own_b > 20)
        expected = (own_a * weight)[both].sum() / own_a[own_a > 10].sum()
        assert table["Correlation_RWC_A_B"][number - 1] == pytest.approx(expected)


def test_every_pair_of_channels_is_compared_once() -> None:
    planes = {name: seen(disks(1, 20), seed) for seed, name in enumerate("ABC")}
    found = measure_colocalisation(planes, pixel_um=PIXEL_UM, threshold="otsu")
    assert found.colocalisation == {}
    names = [name for name in found.colocalisation_by_plane if name.startswith("pearson")]
    assert names == ["pearson_A_B", "pearson_A_C", "pearson_B_C"]


def test_without_objects_and_with_even_planes_nothing_breaks() -> None:
    even = np.full((30, 30), 7, np.uint16)
    found = measure_colocalisation(
        {"A": even, "B": even}, labels=np.zeros((30, 30), np.int32), pixel_um=PIXEL_UM
    )
    assert {len(column) for column in found.colocalisation.values()} == {0}
    assert math.isnan(found.colocalisation_by_plane["pearson_A_B"])


@pytest.mark.parametrize(
    ("planes", "changed", "message"),
    [
        ({"A": (9, 9)}, {}, "two channels or more"),
        ({"A": (9, 9), "B": (9, 8)}, {}, "channel 'B' has shape"),
        ({"A": (9, 9), "B": (9, 9)}, {"threshold": {"A": 1.0}}, "no level for channel 'B'"),
        ({"A": (9, 9), "B": (9, 9)}, {"labels": np.zeros((4, 4), int)}, "the labels"),
    ],
)
def test_what_does_not_fit_is_named(
    planes: dict[str, tuple[int, int]], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        measure_colocalisation(
            {name: np.ones(shape) for name, shape in planes.items()}, pixel_um=PIXEL_UM, **changed
        )


def test_canvas_that_no_tile_covers_has_no_say() -> None:
    shared = disks(8, 40)
    planes = {"A": seen(shared, 1), "B": seen(0.5 * shared, 2)}
    mosaic = {}
    for name, plane in planes.items():
        mosaic[name] = np.zeros((300, 260), np.uint16)
        mosaic[name][40:240, 20:220] = plane
    alone, stitched = (
        measure_colocalisation(each, pixel_um=PIXEL_UM).colocalisation_by_plane
        for each in (planes, mosaic)
    )
    assert stitched == pytest.approx(alone, rel=1e-6)
    labels = np.zeros((300, 260), np.int32)
    labels[40:240, 20:220] = grid_labels()
    found = measure_colocalisation(mosaic, labels=labels, pixel_um=PIXEL_UM, threshold="otsu")
    own = measure_colocalisation(planes, labels=grid_labels(), pixel_um=PIXEL_UM, threshold="otsu")
    for name, values in own.colocalisation.items():
        assert found.colocalisation[name] == pytest.approx(values, nan_ok=True), name


def test_a_mosaic_takes_no_more_room_than_its_planes() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(100, 4000, (2000, 2000)).astype(np.uint16)
    planes = {"A": a, "B": (a // 2 + rng.integers(0, 900, a.shape)).astype(np.uint16)}
    measure_colocalisation({name: plane[:64] for name, plane in planes.items()}, pixel_um=PIXEL_UM)
    tracemalloc.start()
    try:
        measure_colocalisation(planes, pixel_um=PIXEL_UM)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 6 * a.nbytes
