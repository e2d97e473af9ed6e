"""Nuclei, cells and cytoplasm against painted truth."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters

from openhcs.functions import segment_cells, segment_cytoplasm, segment_nuclei
from openhcs.functions._segment import Threshold, _fill_holes
from openhcs.functions._threshold import Histogram, minimum_error, otsu

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_UM = (0.65, 0.65)


def nuclei(
    seed: int, *, size: int = 512, count: int = 80, touching: float = 0.0, noise: bool = True
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    """Paint ellipses of 8 to 13 µm; a share of them touches another one."""
    rng = np.random.default_rng(seed)
    image, truth = np.zeros((size, size)), np.zeros((size, size), np.int32)
    placed: list[tuple[float, float, float]] = []
    while len(placed) < count:
        a, b = rng.uniform(6, 10, 2)
        angle, partner = rng.uniform(0, np.pi), -1
        y, x = rng.uniform(0, size, 2)
        if placed and rng.random() < touching / 2:
            partner = int(rng.integers(len(placed)))
            near_y, near_x, radius = placed[partner]
            away = (radius + (a + b) / 2) * rng.uniform(0.85, 1.0)
            toward = rng.uniform(0, 2 * np.pi)
            y, x = near_y + away * np.sin(toward), near_x + away * np.cos(toward)
        clear = all(
            np.hypot(y - other[0], x - other[1]) > other[2] + max(a, b) + 4
            for i, other in enumerate(placed)
            if i != partner
        )
        if not (clear and 0 <= y < size and 0 <= x < size):
            continue
        placed.append((y, x, (a + b) / 2))
        top, left = max(0, int(y) - 12), max(0, int(x) - 12)
        box = np.s_[top : int(y) + 13, left : int(x) + 13]
        rows, columns = np.mgrid[box]
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        inside = ((along / a) ** 2 + (across / b) ** 2 <= 1)[: size - top, : size - left]
        inside &= truth[box] == 0
        truth[box][inside] = len(placed)
        image[box][inside] = rng.uniform(600, 1600)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    vignetting = 1 - 0.05 * (rows**2 + columns**2)
    image = (ndimage.gaussian_filter(image, 1.0) + 200) * vignetting + 100
    if noise:
        image = rng.poisson(image) + rng.normal(0, 5, image.shape)
    return image.round().astype(np.uint16), truth


def f1(truth: NDArray[np.int32], found: NDArray[np.int32]) -> float:
    """Give the F1 score at an intersection over union of 0.5."""
    shape = (int(truth.max()) + 1, int(found.max()) + 1)
    pairs = np.ravel_multi_index((truth.ravel(), found.ravel()), shape)
    shared = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    with np.errstate(invalid="ignore"):
        matches = int((shared[1:, 1:] > 0.5 * union[1:, 1:]).sum())
    return 2 * matches / (shape[0] + shape[1] - 2)


@pytest.mark.parametrize("threshold", ["otsu", "local"])
@pytest.mark.parametrize(("touching", "least"), [(0.0, 0.95), (0.2, 0.95)])
@pytest.mark.parametrize("seed", [0, 1])
def test_nuclei_are_found_and_parted(
    seed: int, touching: float, least: float, threshold: Threshold
) -> None:
    image, truth = nuclei(seed, touching=touching)
    found = segment_nuclei(image, pixel_um=PIXEL_UM, threshold=threshold)
    assert found.dtype == np.int32
    assert f1(truth, found) >= least


def test_labels_count_from_one_without_gaps() -> None:
    image, _ = nuclei(3, size=256, count=25, touching=0.5)
    found = segment_nuclei(image, pixel_um=PIXEL_UM)
    assert np.array_equal(np.unique(found), np.arange(found.max() + 1))
    for number in range(1, found.max() + 1):
        assert ndimage.label(found == number)[1] == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_same_nuclei_are_found_in_every_dtype(dtype: type[np.generic]) -> None:
    image, truth = nuclei(4, size=256, count=20)
    scaled = image // 8 if dtype is np.uint8 else image
    assert f1(truth, segment_nuclei(scaled.astype(dtype), pixel_um=PIXEL_UM)) >= 0.95


def test_a_scale_or_an_offset_changes_nothing() -> None:
    image, _ = nuclei(5, size=256, count=20, touching=0.3)
    plane = image.astype(np.float32)
    found = segment_nuclei(plane, pixel_um=PIXEL_UM)
    other = segment_nuclei(plane * 4 + 1024, pixel_um=PIXEL_UM)
    assert np.mean((found > 0) != (other > 0)) < 1e-3
    assert found.max() == other.max()


def test_minimum_error_finds_every_nucleus() -> None:
    image, truth = nuclei(6, size=256, count=20)
    found = segment_nuclei(image, pixel_um=PIXEL_UM, threshold="minimum-error")
    assert found.max() == truth.max()


def test_a_given_threshold_is_in_the_units_of_the_plane() -> None:
    plane = np.zeros((64, 64), np.uint16)
    plane[10:30, 10:30], plane[40:60, 40:60] = 500, 1500
    found = segment_nuclei(plane, pixel_um=PIXEL_UM, threshold=1000.0)
    assert found.max() == 1
    assert found[50, 50] == 1


def _empty_fields() -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    ramp = np.linspace(200, 320, 300)
    return {
        "constant": np.full((32, 32), 7, np.uint16),
        "zero": np.zeros((40, 300), np.float32),
        "noise": rng.poisson(300, (300, 300)).astype(np.uint16),
        "noise, offset removed": np.maximum(rng.normal(0, 8, (300, 300)), 0).astype(np.float32),
        "uneven": rng.poisson(np.tile(ramp, (300, 1))).astype(np.uint16),
        "tiny": rng.integers(0, 4096, (32, 32)).astype(np.uint16),
        "not finite": np.array([[np.nan, np.inf], [-np.inf, np.nan]] * 16, np.float32),
    }


@pytest.mark.parametrize("name", list(_empty_fields()))
@pytest.mark.parametrize("threshold", ["otsu", "local", "minimum-error"])
def test_an_empty_field_has_no_nuclei(name: str, threshold: Threshold) -> None:
    plane = _empty_fields()[name]
    found = segment_nuclei(plane, pixel_um=PIXEL_UM, threshold=threshold)
    assert found.shape == plane.shape
    assert found.max() == 0


def test_a_single_nucleus_in_a_wide_field_is_found() -> None:
    image, truth = nuclei(7, size=700, count=1)
    assert f1(truth, segment_nuclei(image, pixel_um=PIXEL_UM)) == 1


def test_bright_debris_does_not_hide_nuclei() -> None:
    image, truth = nuclei(8, count=60)
    image[100:115, 200:215] = 60000
    truth[100:115, 200:215] = 0
    assert f1(truth, segment_nuclei(image, pixel_um=PIXEL_UM)) > 0.95


def test_a_few_mitoses_do_not_hide_the_other_nuclei() -> None:
    image, truth = nuclei(14, count=60)
    mitoses = truth % 12 == 1
    image[mitoses] = 300 + 5 * (image[mitoses] - 300)
    assert f1(truth, segment_nuclei(image, pixel_um=PIXEL_UM)) >= 0.95


def test_haze_round_the_nuclei_is_not_taken_for_nuclei() -> None:
    image, truth = nuclei(15, count=60)
    haze = ndimage.distance_transform_edt(truth == 0) < 12
    image[haze] += 120
    assert f1(truth, segment_nuclei(image, pixel_um=PIXEL_UM)) >= 0.95


@pytest.mark.parametrize("threshold", ["otsu", "local"])
def test_canvas_that_no_tile_covers_has_no_say(threshold: Threshold) -> None:
    image, truth = nuclei(9, size=400, count=50)
    canvas, labels = np.zeros((560, 560), np.uint16), np.zeros((560, 560), np.int32)
    canvas[40:440, 60:460], labels[40:440, 60:460] = image + 2000, truth
    found = segment_nuclei(canvas, pixel_um=PIXEL_UM, threshold=threshold)
    assert f1(labels, found) >= 0.95


def test_the_local_threshold_follows_an_uneven_background() -> None:
    image, truth = nuclei(10, count=60)
    uneven = image + np.linspace(0, 4000, 512)
    found = segment_nuclei(uneven.astype(np.uint16), pixel_um=PIXEL_UM, threshold="local")
    assert f1(truth, found) >= 0.95


def test_nuclei_at_the_border_are_kept_and_size_limits_hold() -> None:
    plane = np.full((120, 120), 100, np.uint16)
    plane[0:12, 30:44] = 1000  # at the border
    plane[60:63, 60:63] = 1000  # a speck
    plane[70:110, 5:110] = 1000  # a sheet
    found = segment_nuclei(plane, pixel_um=(1.0, 1.0), smoothing_um=0.5)
    assert found.max() == 1
    assert found[0, 35] == 1


def test_pixels_need_not_be_square() -> None:
    image, truth = nuclei(11, size=300, count=25, touching=0.3)
    wide = image[::2].copy()
    assert f1(truth[::2], segment_nuclei(wide, pixel_um=(1.3, 0.65))) >= 0.85


def test_nuclei_that_touch_all_round_are_parted() -> None:
    rows, columns = np.mgrid[:320, :320] % 16 - 7.5
    plane = np.full((320, 320), 200.0)
    plane[np.hypot(rows, columns) < 8.6] = 1000
    image = np.random.default_rng(0).poisson(ndimage.gaussian_filter(plane, 1.0))
    found = segment_nuclei(image.astype(np.uint16), pixel_um=PIXEL_UM, smoothing_um=0.4)
    assert found.max() == pytest.approx(400, abs=8)


def test_a_dark_spot_within_a_nucleus_belongs_to_it() -> None:
    rows, columns = np.ogrid[:60, :60]
    distance = np.hypot(rows - 30, columns - 30)
    plane = np.where(distance < 15, 1000, 100).astype(np.uint16)
    plane[distance < 3] = 100
    found = segment_nuclei(plane, pixel_um=PIXEL_UM)
    assert found.max() == 1
    assert found[30, 30] == 1


@pytest.mark.parametrize("seed", range(5))
def test_small_holes_are_filled_as_scipy_fills_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((80, 90)), 1.0) > 0.5
    filled = mask.copy()
    assert _fill_holes(filled, mask.size, mask.size) == []
    assert np.array_equal(filled, ndimage.binary_fill_holes(mask))


def _scikit_otsu(values: NDArray[np.float32]) -> float:
    return float(filters.threshold_otsu(values, nbins=4096))  # type: ignore[no-untyped-call]  # scikit-image


def test_without_debris_the_threshold_is_otsus() -> None:
    image, _ = nuclei(12, size=256, count=20)
    values = image.astype(np.float32)
    histogram = Histogram.of(values, integer=True)
    assert histogram is not None
    assert otsu(histogram).value == pytest.approx(_scikit_otsu(values), rel=0.01)


def test_minimum_error_cuts_where_two_normal_classes_cross() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(100, 10, 90_000), rng.normal(200, 20, 10_000)])
    histogram = Histogram.of(values.astype(np.float32), integer=False)
    assert histogram is not None
    # 0.9 N(100, 10) = 0.1 N(200, 20) where 3 x^2 - 400 x = 800 ln 18.
    assert minimum_error(histogram).value == pytest.approx(138.9, abs=2)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": "otsus"}, "threshold is 'otsus'"),
        ({"min_diameter_um": 50.0}, "min_diameter_um"),
        ({"smoothing_um": -1.0}, "smoothing_um"),
        ({"split_depth": 2.0}, "split_depth"),
        ({"threshold_factor": 0.0}, "threshold_factor"),
        ({"threshold": "local", "local_window_um": 0.0}, "local_window_um"),
        ({"pixel_um": (0.0, 1.0)}, "pixel_um"),
    ],
)
def test_a_parameter_out_of_range_is_named(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        segment_nuclei(np.eye(32, dtype=np.uint16), **{"pixel_um": PIXEL_UM, **parameters})


def test_a_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="two axes"):
        segment_nuclei(np.zeros((2, 32, 32), np.uint16), pixel_um=PIXEL_UM)


def _two_cells() -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    seeds = np.zeros((60, 100), np.int32)
    seeds[25:35, 25:35], seeds[25:35, 65:75] = 4, 9
    body = np.full((60, 100), 100, np.uint16)
    body[15:45, 15:85] = 1000
    body[15:45, 58:60] = 700  # the border between the two cells
    return seeds, body


def test_cells_grow_by_a_distance_and_keep_the_numbers_of_the_nuclei() -> None:
    seeds, body = _two_cells()
    cells = segment_cells({"GFP": body}, nuclei=seeds, pixel_um=(2.0, 2.0), distance_um=10.0)
    assert set(np.unique(cells)) == {0, 4, 9}
    assert np.array_equal(cells[30] == 4, (np.arange(100) >= 20) & (np.arange(100) < 40))
    assert (cells[seeds > 0] == seeds[seeds > 0]).all()


def test_cells_meet_where_the_guide_is_darkest() -> None:
    seeds, body = _two_cells()
    cells = segment_cells(
        {"GFP": body}, nuclei=seeds, pixel_um=(1.0, 1.0), guide="GFP", distance_um=40.0
    )
    assert cells[30, 54] == 4
    assert cells[30, 62] == 9
    assert cells[5, 50] == 0
    assert (cells[seeds > 0] == seeds[seeds > 0]).all()


def test_cytoplasm_is_what_the_nucleus_leaves_of_the_cell() -> None:
    seeds, body = _two_cells()
    cells = segment_cells({}, nuclei=seeds, pixel_um=(1.0, 1.0), distance_um=5.0)
    cytoplasm = segment_cytoplasm({"GFP": body}, cells=cells, nuclei=seeds)
    assert (cytoplasm[seeds > 0] == 0).all()
    assert np.array_equal(cytoplasm[seeds == 0], cells[seeds == 0])


def test_no_nuclei_make_no_cells() -> None:
    empty = np.zeros((32, 32), np.int32)
    cells = segment_cells({"GFP": empty}, nuclei=empty, pixel_um=PIXEL_UM, guide="GFP")
    assert not cells.any()


def test_a_guide_that_is_no_channel_is_named() -> None:
    seeds, body = _two_cells()
    with pytest.raises(ValueError, match="'RFP' is no channel; there are GFP"):
        segment_cells({"GFP": body}, nuclei=seeds, pixel_um=PIXEL_UM, guide="RFP")


def test_segmentation_costs_little_more_than_its_parts() -> None:
    image, _ = nuclei(13, size=800, count=160, touching=0.2)

    def parts() -> None:
        smoothed = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
        mask = smoothed > _scikit_otsu(smoothed)
        ndimage.label(mask)
        ndimage.distance_transform_edt(mask)

    def best(call: Any) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        return min(times)

    assert best(lambda: segment_nuclei(image, pixel_um=PIXEL_UM)) < 4 * best(parts)


def test_importing_the_functions_loads_no_heavy_package() -> None:
    program = (
        "import sys, openhcs.functions\n"
        "heavy = {'scipy', 'skimage', 'zarr', 'pyarrow', 'tifffile'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
