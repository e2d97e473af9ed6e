from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs.plates import position_grid
from openhcs.plates._positions import outliers


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    overlap=st.floats(0.0, 0.3),
    seed=st.integers(0, 2**20),
    known=st.booleans(),
)
def test_a_jittered_grid_in_any_order_is_found(
    rows: int, columns: int, overlap: float, seed: int, known: bool
) -> None:
    rng = np.random.default_rng(seed)
    tile = 350.0
    step = tile * (1 - overlap)
    cells = [(row, col) for row in range(rows) for col in range(columns)]
    numbers = rng.permutation(len(cells)).tolist()
    places = {
        number: (
            col * step + float(rng.uniform(-3, 3)) - 500,
            row * step + float(rng.uniform(-3, 3)),
        )
        for number, (row, col) in zip(numbers, cells, strict=True)
    }
    grid = position_grid(places, tile if known else math.nan)
    assert grid is not None
    if len(cells) == 1:
        assert (grid.rows, grid.columns) == (1, 1)
        return
    assert (grid.rows, grid.columns, grid.regular) == (rows, columns, True)
    assert dict(grid.cells) == dict(zip(numbers, cells, strict=True))
    if rows > 1:
        assert grid.step_um[0] == pytest.approx(step, rel=0.03)


def test_two_fields_at_one_place_are_no_regular_grid() -> None:
    grid = position_grid({0: (0.0, 0.0), 1: (100.0, 0.0), 2: (101.0, 0.5)}, 100.0)
    assert grid is not None
    assert (grid.rows, grid.columns, grid.regular) == (1, 2, False)


def test_unknown_positions_make_no_grid() -> None:
    assert position_grid({0: (math.nan, 0.0)}, 100.0) is None


def test_a_field_far_away_is_named_and_only_that() -> None:
    places = {k: (100.0 * (k % 3), 100.0 * (k // 3)) for k in range(9)}
    assert outliers(places, 110.0) == ()
    places[4] = (5000.0, 5000.0)
    assert outliers(places, 110.0) == (4,)
