"""Tiles fused where they are said to lie, against the picture that they were cut from."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions._fuse import Mosaic, fuse, mosaic_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SHAPE = (120, 150)


def picture(y: NDArray[Any], x: NDArray[Any]) -> NDArray[np.float64]:
    """Give a smooth scene at any place; y of shape (n,), x of shape (m,)."""
    return np.asarray(
        2000
        + 600 * np.sin(y[:, None] / 23) * np.cos(x / 31)
        + 300 * np.cos((y[:, None] + 2 * x) / 40)
    )


def tile(top: float, left: float, shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    exact = picture(np.arange(shape[0]) + top, np.arange(shape[1]) + left)
    return np.rint(exact).astype(np.uint16)


def laid(positions: NDArray[np.float64], tiles: Sequence[NDArray[Any]] | None = None) -> Mosaic:
    pixels = [tile(y, x) for y, x in positions] if tiles is None else tiles
    loads = [lambda pixels=one: pixels for one in pixels]
    return fuse(loads, positions, shape=SHAPE, canvas=mosaic_shape(positions, SHAPE))


GRID = np.array([(0.0, 0.0), (0, 130), (104, 0), (104, 130)])


@pytest.mark.parametrize("jitter", [0.0, 0.25, 3.7])
def test_mosaic_of_noise_free_tiles_is_the_picture(jitter: float) -> None:
    rng = np.random.default_rng(1)
    positions = GRID + rng.uniform(0, jitter, GRID.shape)
    positions -= positions.min(axis=0)
    mosaic = laid(positions)
    height, width = mosaic.pixels.shape
    exact = picture(np.arange(height), np.arange(width))
    error = np.abs(mosaic.pixels - exact)[mosaic.covered]
    assert error.max() <= 1.5
    assert np.count_nonzero(~mosaic.covered) <= 2 * 4 * (height + width)
    assert not mosaic.pixels[~mosaic.covered].any()


@pytest.mark.parametrize("at", [(150.25, 40.75), (7.5, 60.0), (30.0, 150.25), (3.1, 9.9)])
def test_a_point_comes_to_lie_where_it_is_asked_to(at: tuple[float, float]) -> None:
    spot = np.zeros(SHAPE, np.float32)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    spot += 1000 * np.exp(-((y - 60) ** 2 + (x - 70) ** 2) / 18)
    positions = np.array([at])
    mosaic = laid(positions, [spot])
    total = float(mosaic.pixels.sum(dtype=np.float64))
    rows, columns = (np.arange(length) for length in mosaic.pixels.shape)
    centre_y = float(rows @ mosaic.pixels.sum(axis=1, dtype=np.float64)) / total
    centre_x = float(columns @ mosaic.pixels.sum(axis=0, dtype=np.float64)) / total
    assert centre_y == pytest.approx(60 + at[0], abs=1e-3)
    assert centre_x == pytest.approx(70 + at[1], abs=1e-3)


def test_a_pixel_at_150_25_has_its_centroid_there() -> None:
    dot = np.zeros(SHAPE, np.float32)
    dot[50, 100] = 1000
    mosaic = laid(np.array([(0.0, 50.25)]), [dot])
    columns = np.arange(mosaic.pixels.shape[1])
    assert float(columns @ mosaic.pixels[50]) / float(mosaic.pixels[50].sum()) == 150.25


def test_a_whole_tile_comes_back_bit_for_bit() -> None:
    one = np.random.default_rng(0).integers(0, 65535, SHAPE, dtype=np.uint16, endpoint=True)
    mosaic = laid(np.zeros((1, 2)), [one])
    np.testing.assert_array_equal(mosaic.pixels, one)
    assert mosaic.covered.all()


def test_seams_are_blended() -> None:
    dark, bright = np.full(SHAPE, 1000, np.uint16), np.full(SHAPE, 1100, np.uint16)
    mosaic = laid(np.array([(0.0, 0.0), (0, 100)]), [dark, bright])
    row = mosaic.pixels[60].astype(int)
    assert (row[0], row[-1]) == (1000, 1100)
    assert np.abs(np.diff(row)).max() <= 3
    assert (np.diff(row) >= 0).all()


def test_gaps_are_left_empty() -> None:
    mosaic = laid(np.array([(0.0, 0.0), (0, 200)]))
    assert mosaic.pixels.shape == (120, 350)
    assert not mosaic.covered[:, 150:200].any()
    assert not mosaic.pixels[:, 150:200].any()
    assert mosaic.covered[:, :150].all()


def test_each_tile_is_loaded_once_and_only_while_it_is_needed() -> None:
    loaded: list[int] = []

    def load(n: int) -> Callable[[], NDArray[Any]]:
        def give() -> NDArray[Any]:
            loaded.append(n)
            return tile(*GRID[n])

        return give

    order = [3, 0, 2, 1]
    positions = GRID[order]
    fuse([load(n) for n in order], positions, shape=SHAPE, canvas=mosaic_shape(positions, SHAPE))
    assert sorted(loaded[:2]) == [0, 1]
    assert sorted(loaded) == [0, 1, 2, 3]


def test_uneven_or_no_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match="others"):
        laid(GRID[:2], [tile(0, 0), tile(0, 0, (120, 140))])
    with pytest.raises(ValueError, match="others"):
        laid(GRID[:2], [tile(0, 0), tile(0, 0).astype(np.uint8)])
    with pytest.raises(ValueError, match="no tiles"):
        fuse([], np.zeros((0, 2)), shape=SHAPE, canvas=(10, 10))


def test_fusing_needs_little_more_memory_than_its_result() -> None:
    one = np.full((1080, 1080), 700, np.uint16)
    positions = np.array([(0.0, 0.0), (3.4, 971.6), (972.3, 1.7), (968.6, 973.2)])
    canvas = mosaic_shape(positions, (1080, 1080))
    tracemalloc.start()
    try:
        fused = fuse([lambda: one] * 4, positions, shape=(1080, 1080), canvas=canvas)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    result = fused.pixels.nbytes + fused.covered.nbytes
    assert peak < 2 * result  # with sums of the whole canvas at once, 3.7 times
