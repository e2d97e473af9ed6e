from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polystore.tiles import Rect, Tile, TileGrid

grids = st.builds(
    TileGrid,
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    tile_px=st.integers(4, 70),
    levels=st.integers(1, 4),
)


@settings(max_examples=40)
@given(grid=grids, data=st.data())
def test_tiles_of_a_level_cover_each_pixel_once(grid: TileGrid, data: st.DataObject) -> None:
    level = data.draw(st.integers(0, grid.levels - 1))
    seen = np.zeros(grid.size(level), int)
    for at, tile in enumerate(grid.tiles(level)):
        rect = grid.rect(tile)
        seen[rect.slices] += 1
        assert grid.index(tile) == at
        assert grid.tile_at(rect.y, rect.x, level) == tile
        assert grid.tile_at(rect.bottom - 1, rect.right - 1, level) == tile
    assert (seen == 1).all()


def test_edge_tiles_are_as_small_as_what_is_left_for_them() -> None:
    grid = TileGrid(height=1080, width=1920, levels=2)
    assert grid.counts() == (5, 8)
    assert grid.rect(Tile(0, 0, 0)) == Rect(y=0, x=0, height=256, width=256)
    assert grid.rect(Tile(0, 4, 7)) == Rect(y=1024, x=1792, height=56, width=128)
    assert grid.rect(Tile(0, 3, 6), 2, 2) == Rect(y=768, x=1536, height=312, width=384)
    assert grid.size(1) == (540, 960)
    assert grid.rect(Tile(1, 2, 3)) == Rect(y=512, x=768, height=28, width=192)


def test_a_distance_is_counted_from_the_nearest_pixel() -> None:
    rect = Rect(y=10, x=20, height=5, width=5)
    assert rect.distance(12, 22) == 0
    assert rect.distance(14, 24) == 0
    assert rect.distance(17, 28) == 9 + 16
    assert rect.distance(7, 22) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0, "width": 5},
        {"height": 5, "width": 70_000},
        {"height": 5, "width": 5, "tile_px": 0},
        {"height": 5, "width": 5, "levels": 0},
        {"height": 65_536, "width": 65_536, "tile_px": 256},
    ],
)
def test_a_grid_that_cannot_be_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"frame has|tiles"):
        TileGrid(**wrong)


def test_places_outside_are_refused() -> None:
    grid = TileGrid(height=100, width=100, tile_px=50)
    for tile in (Tile(0, 2, 0), Tile(0, 0, -1), Tile(1, 0, 0)):
        with pytest.raises(ValueError, match="is n"):
            grid.index(tile)
    with pytest.raises(ValueError, match="is not among"):
        grid.rect(Tile(0, 1, 1), rows=2)
    with pytest.raises(ValueError, match="are none"):
        grid.rect(Tile(0, 1, 1), rows=0)
    with pytest.raises(ValueError, match="outside"):
        grid.tile_at(100, 0)
    with pytest.raises(ValueError, match="not empty"):
        Rect(y=0, x=0, height=0, width=1)
