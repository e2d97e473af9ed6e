"""Wells stitched from tiles whose true places are known to a fraction of a pixel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions import Tile, stitch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PIXEL_UM = (0.6, 0.65)
SIDE = 320


def scene(rng: np.random.Generator, extent: tuple[float, float], per_mpx: float) -> NDArray[Any]:
    """Give cells as rows of y, x, two radii and brightness."""
    count = int(extent[0] * extent[1] * per_mpx / 1e6)
    place = rng.uniform(0, extent, (count, 2))
    return np.column_stack([place, rng.uniform(2, 6, (count, 2)), rng.lognormal(6.3, 0.4, count)])


def view(cells: NDArray[Any], top: float, left: float) -> NDArray[np.float64]:
    """Give the light of a tile at any place, exactly."""
    light = np.full((SIDE, SIDE), 60.0)
    for y, x, radius_y, radius_x, bright in cells:
        y, x = y - top, x - left
        if -30 < y < SIDE + 30 and -30 < x < SIDE + 30:
            rows = slice(max(0, int(y - 5 * radius_y)), max(0, int(y + 5 * radius_y) + 2))
            columns = slice(max(0, int(x - 5 * radius_x)), max(0, int(x + 5 * radius_x) + 2))
            along_y = np.exp(-(((np.arange(SIDE)[rows] - y) / radius_y) ** 2) / 2)
            along_x = np.exp(-(((np.arange(SIDE)[columns] - x) / radius_x) ** 2) / 2)
            light[rows, columns] += bright * np.multiply.outer(along_y, along_x)
    return light


class Well:
    """Tiles of one well, their stage positions and their true ones, in px."""

    def __init__(
        self,
        rows: int,
        columns: int,
        *,
        seed: int = 0,
        jitter: float = 5.0,
        per_mpx: float = 900,
        empty_right_of: float = math.inf,
        noise: bool = True,
        holes: Sequence[int] = (),
    ) -> None:
        rng = np.random.default_rng(seed)
        step = 0.87 * SIDE
        stage = np.array([(y * step, x * step) for y in range(rows) for x in range(columns)]) + 20
        keep = [n for n in range(len(stage)) if n not in holes]
        self.fields = keep
        self.stage = stage[keep]
        self.true = self.stage + rng.uniform(-jitter, jitter, self.stage.shape)
        extent = (rows * step + SIDE, columns * step + SIDE)
        cells = scene(rng, extent, per_mpx)
        self.cells = cells[cells[:, 1] < empty_right_of]
        self.pixels = []
        for top, left in self.true:
            light = view(self.cells, top, left)
            counts = rng.poisson(light) + rng.normal(100, 3, light.shape) if noise else light + 100
            self.pixels.append(np.rint(counts).astype(np.uint16))
        self.centre = self.stage.mean(axis=0)

    def tiles(self, order: Sequence[int] | None = None) -> list[Tile]:
        return [
            Tile(
                field=self.fields[n],
                y_um=float((self.stage[n] - self.centre)[0] * PIXEL_UM[0]),
                x_um=float((self.stage[n] - self.centre)[1] * PIXEL_UM[1]),
                load=lambda n=n: self.pixels[n],  # type: ignore[misc]
            )
            for n in (range(len(self.fields)) if order is None else order)
        ]

    def error(self, found: Any) -> NDArray[np.float64]:
        """Give how far each tile lies from its true place, when all are moved together."""
        placed = np.column_stack([found.tiles["y_px"], found.tiles["x_px"]])
        away = placed - self.true
        return np.asarray(away - away.mean(axis=0))


@pytest.mark.parametrize(
    ("rows", "columns", "holes"), [(1, 2, ()), (2, 1, ()), (2, 2, ()), (3, 3, (4,)), (3, 3, ())]
)
def test_tiles_are_found_to_a_tenth_of_a_pixel(
    rows: int, columns: int, holes: tuple[int, ...]
) -> None:
    well = Well(rows, columns, seed=rows + columns, holes=holes)
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    error = well.error(found)
    assert float(np.sqrt(np.mean(error**2))) <= 0.1
    assert np.abs(error).max() <= 0.3
    assert found.stitch["verdict"] == "aligned"
    assert float(found.stitch["residual_95_px"]) < 0.2
    assert found.tiles["field"].tolist() == well.fields
    assert set(found.tiles["placed"]) == {"aligned"}
    moved = np.column_stack([found.tiles["dy_px"], found.tiles["dx_px"]])
    truth = well.true - well.stage
    assert np.abs(moved - (truth - truth.mean(axis=0))).max() <= 0.3


def test_without_cells_tiles_stay_where_the_stage_says() -> None:
    well = Well(2, 2, per_mpx=0)
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    placed = np.column_stack([found.tiles["y_px"], found.tiles["x_px"]])
    np.testing.assert_allclose(placed, well.stage - well.stage[0], atol=0.006)
    assert found.stitch["verdict"] == "stage-only"
    assert found.stitch["accepted_fraction"] == 0
    assert set(found.stitch_pairs["status"]) == {"empty"}
    assert set(found.tiles["placed"]) == {"stage-only"}


def test_overlaps_without_cells_leave_tiles_where_the_stage_says() -> None:
    well = Well(2, 2, per_mpx=0)
    rng = np.random.default_rng(0)
    for tile in well.pixels:  # cells in the middle of each tile alone
        for y, x in rng.integers(90, SIDE - 90, (12, 2)):
            tile[y - 4 : y + 5, x - 4 : x + 5] += 800
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    placed = np.column_stack([found.tiles["y_px"], found.tiles["x_px"]])
    np.testing.assert_allclose(placed, well.stage - well.stage[0], atol=0.006)
    assert found.stitch["verdict"] == "stage-only"


@pytest.mark.parametrize("value", [0, 150, 65535])
def test_tiles_of_one_value_stay_where_the_stage_says(value: int) -> None:
    well = Well(2, 2)
    well.pixels = [np.full((SIDE, SIDE), value, np.uint16) for _ in well.pixels]
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    placed = np.column_stack([found.tiles["y_px"], found.tiles["x_px"]])
    np.testing.assert_allclose(placed, well.stage - well.stage[0], atol=0.006)
    assert found.stitch["verdict"] == "stage-only"
    assert set(found.stitch_pairs["status"]) == {"empty"}


def test_a_well_that_is_half_empty_is_partly_aligned() -> None:
    well = Well(2, 4, seed=3, empty_right_of=0.87 * SIDE * 2 - 20)
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    assert found.stitch["verdict"] == "partly"
    assert 0 < float(found.stitch["accepted_fraction"]) < 1
    left = np.array([0, 1, 4, 5])
    error = well.error(found)[left]
    assert np.abs(error - error.mean(axis=0)).max() <= 0.3
    assert set(found.tiles["placed"][left]) == {"aligned"}
    assert found.tiles["placed"][[3, 7]].tolist() == ["stage-only", "stage-only"]


def test_a_single_tile_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 60000, (70, 90), dtype=np.uint16)
    nan = float("nan")
    for x_um, y_um in ((nan, nan), (12.0, -7.0)):
        alone = Tile(field=3, x_um=x_um, y_um=y_um, load=lambda: pixels)
        found = stitch({"DAPI": [alone]}, pixel_um=PIXEL_UM)
        np.testing.assert_array_equal(found.image["DAPI"], pixels)
        assert found.stitch["verdict"] == "single"
        assert found.tiles["field"].tolist() == [3]
        assert found.stitch_pairs["ncc"].shape == (0,)
    origin = float(found.stitch["origin_y_um"])
    assert origin == pytest.approx(-7 - 34.5 * PIXEL_UM[0])


def test_positions_are_found_once_and_used_for_every_channel() -> None:
    well = Well(1, 2, seed=4)
    loaded: list[str] = []

    def other(name: str, factor: int) -> list[Tile]:
        def load(n: int) -> NDArray[Any]:
            loaded.append(f"{name}{n}")
            return np.asarray(well.pixels[n] // factor)

        return [
            Tile(field=t.field, x_um=t.x_um, y_um=t.y_um, load=lambda n=n: load(n))  # type: ignore[misc]
            for n, t in enumerate(well.tiles())
        ]

    found = stitch({"a": other("a", 1), "b": other("b", 2)}, pixel_um=PIXEL_UM, reference="b")
    assert sorted(loaded) == ["a0", "a1", "b0", "b1"]
    assert found.stitch["reference"] == "b"
    assert found.image["a"].shape == found.image["b"].shape
    assert np.abs(found.image["a"] / 2 - found.image["b"]).max() <= 2
    assert list(found.image) == ["a", "b"]


def test_the_order_of_tiles_does_not_matter() -> None:
    well = Well(2, 2, seed=6)
    one = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    other = stitch({"DAPI": well.tiles([2, 0, 3, 1])}, pixel_um=PIXEL_UM)
    np.testing.assert_array_equal(one.image["DAPI"], other.image["DAPI"])
    for name, column in one.tiles.items():
        np.testing.assert_array_equal(column, other.tiles[name])


def test_a_field_without_the_reference_channel_keeps_its_place() -> None:
    well = Well(1, 3, seed=8)
    tiles = well.tiles()
    found = stitch({"a": tiles[:2], "b": tiles}, pixel_um=PIXEL_UM)
    assert found.tiles["field"].tolist() == [0, 1, 2]
    assert found.tiles["placed"].tolist() == ["aligned", "aligned", "stage-only"]
    assert found.stitch["verdict"] == "partly"
    assert not found.image["a"][:, -100:].any()
    assert found.image["b"][100:200, -100:].all()


def test_a_noise_free_mosaic_is_the_scene() -> None:
    well = Well(2, 2, seed=9, noise=False, jitter=0.0)
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    mosaic = found.image["DAPI"].astype(float)
    top, left = well.true[0] - (found.tiles["y_px"][0], found.tiles["x_px"][0])
    exact = view(well.cells, top, left) + 100
    away = mosaic[: SIDE - 60, : SIDE - 60] - exact[: SIDE - 60, : SIDE - 60]
    assert np.abs(away).max() <= 1.5


def test_tiny_tiles_of_any_content_are_stitched() -> None:
    rng = np.random.default_rng(0)
    for make in (np.zeros, np.ones, rng.random):
        tiles = [
            Tile(
                field=n,
                x_um=28 * n * PIXEL_UM[1],
                y_um=0.0,
                load=lambda make=make: (make((32, 32)) * 900).astype(np.uint16),  # type: ignore[misc]
            )
            for n in range(2)
        ]
        found = stitch({"DAPI": tiles}, pixel_um=PIXEL_UM)
        assert found.image["DAPI"].shape == (32, 60)
        assert found.stitch["verdict"] == "stage-only"


def test_what_cannot_be_stitched_is_said() -> None:
    well = Well(1, 2)
    tiles = well.tiles()
    lost = Tile(field=7, x_um=float("nan"), y_um=0.0, load=tiles[0].load)
    with pytest.raises(ValueError, match="field 7 is unknown"):
        stitch({"DAPI": [*tiles, lost]}, pixel_um=PIXEL_UM)
    with pytest.raises(ValueError, match="reference channel 'GFP'"):
        stitch({"DAPI": tiles}, pixel_um=PIXEL_UM, reference="GFP")
    with pytest.raises(ValueError, match="no tiles"):
        stitch({"DAPI": []}, pixel_um=PIXEL_UM)
    with pytest.raises(ValueError, match=r"max_shift_um.*least_ncc"):
        stitch({"DAPI": tiles}, pixel_um=PIXEL_UM, max_shift_um=-1, least_ncc=2)
    small = Tile(field=1, x_um=0.0, y_um=0.0, load=lambda: np.zeros((9, 9), np.uint16))
    with pytest.raises(ValueError, match="field 1 is"):
        stitch({"DAPI": [tiles[0], small]}, pixel_um=PIXEL_UM)


def test_a_shift_beyond_the_limit_is_not_believed() -> None:
    well = Well(1, 2, seed=2, jitter=0.0, per_mpx=2500)
    well.stage[1, 0] += 14
    near = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM, max_shift_um=5)
    assert near.stitch["verdict"] == "stage-only"
    assert near.stitch_pairs["status"][0] in ("rejected-shift", "ambiguous")
    far = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM, max_shift_um=12)
    assert far.stitch["verdict"] == "aligned"
    assert far.stitch_pairs["dy_px"][0] == pytest.approx(-14, abs=0.2)


def test_vignetted_tiles_are_still_found() -> None:
    well = Well(2, 2, seed=12, per_mpx=1500)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    shade = 1 - 0.25 * (x**2 + y**2)
    well.pixels = [np.rint((p - 100.0) * shade + 100).astype(np.uint16) for p in well.pixels]
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    assert found.stitch["verdict"] == "aligned"
    assert np.abs(well.error(found)).max() <= 0.3


def test_a_stage_that_is_far_off_is_corrected() -> None:
    well = Well(2, 2, seed=21, jitter=3.0, per_mpx=1500)
    well.stage[1] += (-30, 31)  # tiles are 320 px: 15 % are 48 px
    well.centre = well.stage.mean(axis=0)
    found = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM)
    assert found.stitch["verdict"] == "aligned"
    assert float(np.sqrt(np.mean(well.error(found) ** 2))) <= 0.1
    assert set(found.stitch_pairs["status"]) > {"accepted"} or found.stitch["pairs"] == 4
    near = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM, max_shift_um=24 * PIXEL_UM[0])
    assert near.stitch["verdict"] == "partly"
    assert np.abs(well.error(near)).max() > 10


@pytest.mark.parametrize("per_mpx", [60, 150])
def test_few_cells_that_look_alike_are_not_taken_for_the_same(per_mpx: float) -> None:
    for seed in range(10):
        wells = Well(1, 2, seed=seed, per_mpx=per_mpx), Well(1, 2, seed=seed + 50, per_mpx=per_mpx)
        wells[0].pixels[1] = wells[1].pixels[1]
        found = stitch({"DAPI": wells[0].tiles()}, pixel_um=PIXEL_UM)
        moved = float(np.hypot(found.stitch_pairs["dy_px"][0], found.stitch_pairs["dx_px"][0]))
        assert found.stitch["verdict"] == "stage-only" or moved <= 24 * math.sqrt(2), seed


def test_tiles_that_the_stage_keeps_apart_may_overlap_in_truth() -> None:
    well = Well(1, 2, seed=2, jitter=0.0, per_mpx=2500)
    well.stage[1, 1] += 41 + 50  # a gap of 50 px, where there is an overlap of 41
    far = stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM, max_shift_um=100 * PIXEL_UM[1])
    assert far.stitch["verdict"] == "aligned"
    assert np.abs(well.error(far)).max() <= 0.3
    assert stitch({"DAPI": well.tiles()}, pixel_um=PIXEL_UM).stitch["verdict"] == "stage-only"


def test_overlaps_are_a_blend_or_the_tile_whose_edge_is_farther_away() -> None:
    tiles = [
        Tile(
            field=n,
            x_um=80 * n * PIXEL_UM[1],
            y_um=0.0,
            load=lambda n=n: np.full((100, 100), 100 + 100 * n, np.uint16),  # type: ignore[misc]
        )
        for n in range(2)
    ]
    blended = stitch({"DAPI": tiles}, pixel_um=PIXEL_UM).image["DAPI"]
    chosen = stitch({"DAPI": tiles}, pixel_um=PIXEL_UM, blend="maximum").image["DAPI"]
    assert np.all(np.diff(blended[50, 80:100].astype(int)) > 0)
    assert np.all(chosen[:, :90] == 100)
    assert np.all(chosen[:, 90:] == 200)
    assert chosen.dtype == np.uint16


def test_a_choice_of_pixels_leaves_the_noise_as_it_is() -> None:
    well = Well(2, 2, seed=5)
    tiles = {"DAPI": well.tiles()}
    linear = stitch(tiles, pixel_um=PIXEL_UM)
    maximum = stitch(tiles, pixel_um=PIXEL_UM, blend="maximum")
    assert maximum.tiles["y_px"].tolist() == linear.tiles["y_px"].tolist()
    once = stitch({"DAPI": well.tiles([3, 1, 0, 2])}, pixel_um=PIXEL_UM, blend="maximum")
    np.testing.assert_array_equal(once.image["DAPI"], maximum.image["DAPI"])
    y, x = np.rint([maximum.tiles["y_px"][3], maximum.tiles["x_px"][3]]).astype(int)
    apart = (slice(y + 60, y + 260), slice(x + 60, x + 260))
    np.testing.assert_array_equal(linear.image["DAPI"][apart], maximum.image["DAPI"][apart])
    assert not np.array_equal(linear.image["DAPI"], maximum.image["DAPI"])


def test_several_channels_show_together_where_tiles_lie() -> None:
    """One channel has cells in the first overlap alone, the other in the second."""
    well = Well(1, 3, seed=14, per_mpx=1500)
    dark = Well(1, 3, seed=15, per_mpx=0).pixels
    left, right = ([pixels.copy() for pixels in dark] for _ in range(2))
    half = SIDE // 2
    left[0], left[1][:, :half] = well.pixels[0], well.pixels[1][:, :half]
    right[2], right[1][:, half:] = well.pixels[2], well.pixels[1][:, half:]

    def tiles(pixels: list[NDArray[Any]]) -> list[Tile]:
        return [
            Tile(field=t.field, x_um=t.x_um, y_um=t.y_um, load=lambda n=n: pixels[n])  # type: ignore[misc]
            for n, t in enumerate(well.tiles())
        ]

    channels = {"a": tiles(left), "b": tiles(right)}
    alone = stitch(channels, pixel_um=PIXEL_UM, reference="a")
    assert alone.stitch["verdict"] == "partly"
    found = stitch(channels, pixel_um=PIXEL_UM, reference=("a", "b"))
    assert found.stitch["verdict"] == "aligned"
    assert found.stitch["reference"] == "a + b"
    assert np.abs(well.error(found)).max() <= 0.3
    assert found.image["a"].dtype == np.uint16
    with pytest.raises(ValueError, match="reference channel 'c'"):
        stitch(channels, pixel_um=PIXEL_UM, reference=("a", "c"))
    with pytest.raises(ValueError, match="names no channel"):
        stitch(channels, pixel_um=PIXEL_UM, reference=())


def test_it_is_said_how_much_of_the_canvas_is_covered() -> None:
    well = Well(2, 2, seed=6, holes=(3,))
    tiles = well.tiles()
    found = stitch({"a": tiles, "b": tiles[:2]}, pixel_um=PIXEL_UM)
    assert found.tiles["channels"].tolist() == [2, 2, 1]
    shown = found.image["a"] > 0
    assert found.stitch["covered_fraction"] == pytest.approx(shown.mean(), abs=0.001)
    assert 0.7 < float(found.stitch["covered_fraction"]) < 0.9
    assert (found.stitch["tile_height_px"], found.stitch["tile_width_px"]) == (SIDE, SIDE)
