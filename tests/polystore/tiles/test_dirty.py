from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore import TileError
from polystore.tiles import Rect, Tile, TileGrid, dirty_tiles, merged_rect

SHAPES = [(37, 53, 4), (37, 53, 3), (36, 56), (16, 16, 4), (1, 1, 3)]
TYPES = ["u1", "<u2", ">u2", "f4", "f8", "b1"]


@settings(max_examples=60)
@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(TYPES),
    tile_px=st.integers(1, 60),
    bottom_up=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
    spots=st.lists(st.tuples(st.integers(0, 36), st.integers(0, 55)), max_size=5),
)
def test_the_dirty_tiles_are_those_with_a_bit_that_differs(
    shape: tuple[int, ...],
    kind: str,
    tile_px: int,
    bottom_up: bool,
    seed: int,
    spots: list[tuple[int, int]],
) -> None:
    rng = np.random.default_rng(seed)
    before = rng.integers(0, 2, shape).astype(kind)
    after = before.copy()
    for y, x in spots:
        pixel = (y % shape[0], x % shape[1], *(0 for _ in shape[2:]))
        after[pixel] = 1 - int(after[pixel])
    grid = TileGrid(height=shape[0], width=shape[1], tile_px=tile_px)
    if bottom_up:
        before, after = before[::-1], after[::-1]
    wanted = tuple(
        tile
        for tile in grid.tiles()
        if before[grid.rect(tile).slices].tobytes() != after[grid.rect(tile).slices].tobytes()
    )
    assert dirty_tiles(before, after, grid) == wanted


def test_bits_are_compared_and_not_numbers() -> None:
    grid = TileGrid(height=2, width=2, tile_px=1)
    before = np.array([[np.nan, 0.0], [1.0, 1.0]])
    after = np.array([[np.nan, -0.0], [1.0, 1.0]])
    assert dirty_tiles(before, after, grid) == (Tile(0, 0, 1),)


def test_frames_at_odd_addresses_are_compared_too() -> None:
    memory = np.zeros(1 + 2 * 64 * 64 * 4, np.uint8)
    before = memory[1 : 1 + 64 * 64 * 4].reshape(64, 64, 4)
    after = memory[1 + 64 * 64 * 4 :].reshape(64, 64, 4)
    after[40, 50, 3] = 1
    grid = TileGrid(height=64, width=64, tile_px=32)
    assert dirty_tiles(before, after, grid) == (Tile(0, 1, 1),)


def test_comparing_takes_no_memory_but_for_one_row_of_tiles() -> None:
    before = np.zeros((1080, 1920, 4), np.uint8)
    after = before.copy()
    after[::300, ::300] = 1
    grid = TileGrid(height=1080, width=1920)
    dirty_tiles(before, after, grid)
    tracemalloc.start()
    dirty_tiles(before, after, grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 256 * 1920 * 4 / 4


def test_one_rectangle_covers_all_that_is_dirty() -> None:
    grid = TileGrid(height=1080, width=1920)
    assert merged_rect((), grid) is None
    dirty = (Tile(0, 3, 7), Tile(0, 4, 2))
    assert merged_rect(dirty, grid) == Rect(y=768, x=512, height=312, width=1408)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (np.zeros((4, 4), "u1"), np.zeros((4, 5), "u1")),
        (np.zeros((4, 4), "u1"), np.zeros((4, 4), "u2")),
        (np.zeros((5, 5), "u1"), np.zeros((5, 5), "u1")),
        (np.zeros((4, 8), "u1")[:, ::2], np.zeros((4, 4), "u1")),
        (np.zeros((4, 4, 0), "u1"), np.zeros((4, 4, 0), "u1")),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(before: Any, after: Any) -> None:
    with pytest.raises(TileError, match=r"expected|contiguous"):
        dirty_tiles(before, after, TileGrid(height=4, width=4))
