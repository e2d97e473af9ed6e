"""Synthetic plates: the same bytes for the same seed, and a truth that the pixels agree with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, stats

from openhcs import open_plate
from openhcs.cli import main
from openhcs.testing import (
    Condition,
    PlaneKey,
    PlateTruth,
    decode_stamp,
    default_condition,
    encode_stamp,
    noise_free_mosaic,
    noise_free_tile,
    read_truth,
    synthetic_plate,
)
from openhcs.testing._spec import well_name, well_position

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

BACKGROUND = 180.0  # of the first channel


def planes_of(truth: PlateTruth, well: str) -> dict[str, str]:
    rows = truth.of_well(truth.planes, well)
    return dict(zip(rows["path"].tolist(), rows["sha256"].tolist(), strict=True))


def pixels(truth: PlateTruth, **key: int | str) -> NDArray[np.uint16]:
    chosen = truth.planes["kind"] == "plane"
    for name, value in key.items():
        chosen &= truth.planes[name] == value
    (path,) = truth.planes["path"][chosen]
    image: NDArray[np.uint16] = tifffile.imread(truth.folder / path)
    return image


def tile(truth: PlateTruth, well: str, field: int) -> Mapping[str, Any]:
    chosen = (truth.tiles["well"] == well) & (truth.tiles["field"] == field)
    return {name: values[chosen][0] for name, values in truth.tiles.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PlateTruth:
    """Even light, no noise, no texture: pixels are what the truth says, up to rounding."""
    return synthetic_plate(
        tmp_path_factory.mktemp("plain") / "plate",
        wells=("A01", "A12"),
        grid=(2, 3),
        size_px=(150, 180),
        z=1,
        noise=False,
        texture=0.0,
        vignetting=1.0,
        well_cv=0.0,
        cells_per_field=5,
        seed=11,
    )


def test_order_subset_and_processes_do_not_change_a_byte(tmp_path: Path) -> None:
    def make(name: str, wells: tuple[str, ...], processes: int) -> PlateTruth:
        return synthetic_plate(
            tmp_path / name / "plate",
            wells=wells,
            grid=(1, 2),
            size_px=64,
            t=2,
            stamp=True,
            hot_pixels=3,
            processes=processes,
            seed=5,
        )

    one = make("one", ("A01", "C04", "H12"), 1)
    two = make("two", ("H12", "C04", "A01"), 2)
    alone = make("alone", ("C04",), 1)
    for well in ("A01", "C04", "H12"):
        assert planes_of(one, well) == planes_of(two, well)
        for t in range(2):
            assert np.array_equal(one.expected_labels(well, t), two.expected_labels(well, t))
    assert planes_of(one, "C04") == planes_of(alone, "C04")
    assert len(planes_of(one, "C04")) == 1 * 2 * 2 * 3 * 2
    for name, values in alone.cells.items():
        assert np.array_equal(one.of_well(one.cells, "C04")[name], values), name
    files = {p.relative_to(one.folder).as_posix() for p in one.folder.rglob("*") if p.is_file()}
    assert files == set(one.planes["path"].tolist())


def test_another_seed_gives_another_plate(tmp_path: Path) -> None:
    first, second = (
        synthetic_plate(tmp_path / str(seed) / "p", wells=("A01",), size_px=48, seed=seed)
        for seed in (1, 2)
    )
    assert not set(first.planes["sha256"].tolist()) & set(second.planes["sha256"].tolist())


def test_the_truth_read_back_equals_the_truth_returned(plain: PlateTruth) -> None:
    again = read_truth(plain.folder)
    assert again.spec == plain.spec
    assert again.faults == plain.faults
    for name in ("planes", "tiles", "cells", "platemap"):
        for column, values in getattr(plain, name).items():
            np.testing.assert_array_equal(getattr(again, name)[column], values)


def test_stage_positions_are_off_by_less_than_the_error_and_between_pixels(
    plain: PlateTruth,
) -> None:
    tiles = plain.tiles
    for axis in "xy":
        error_px = (tiles[f"{axis}_um"] - tiles[f"stage_{axis}_um"]) / plain.spec.pixel_um
        assert np.abs(error_px).max() <= plain.spec.stage_error_px
        assert np.ptp(error_px) > 1.0
        assert np.all(np.abs(error_px - np.rint(error_px)) > 1e-6)
    pitch = np.diff(tiles["stage_x_um"][:2])[0]
    assert pitch == pytest.approx(180 * 0.9 * 0.65, abs=0.01)


def test_a_nucleus_is_where_the_truth_says_within_a_tenth_of_a_pixel(plain: PlateTruth) -> None:
    checked = 0
    for field in range(plain.spec.fields):
        light = pixels(plain, well="A01", field=field, channel=0).astype(float)
        light -= plain.spec.offset + BACKGROUND
        place = tile(plain, "A01", field)
        cells = plain.of_well(plain.cells, "A01")
        xs, ys = cells["x_px"] - place["x_px"], cells["y_px"] - place["y_px"]
        for x, y in zip(xs, ys, strict=True):
            reach = 17
            others = np.hypot(xs - x, ys - y)
            inside = reach < x < 180 - reach - 1 and reach < y < 150 - reach - 1
            if not inside or np.sort(others)[1] < 2.1 * reach:
                continue
            top, left = round(y) - reach, round(x) - reach
            window = light[top : top + 2 * reach + 1, left : left + 2 * reach + 1]
            found_y, found_x = ndimage.center_of_mass(window)
            assert found_x + left == pytest.approx(x, abs=0.1)
            assert found_y + top == pytest.approx(y, abs=0.1)
            checked += 1
    assert checked >= 6


def test_tiles_and_mosaic_are_samples_of_one_scene(plain: PlateTruth) -> None:
    for channel in range(2):
        mosaic = noise_free_mosaic(plain, "A12", channel=channel)
        assert mosaic.shape == plain.expected_labels("A12").shape
        for field in range(plain.spec.fields):
            place = tile(plain, "A12", field)
            rows = np.arange(150)[:, None] + place["y_px"]
            columns = np.arange(180)[None, :] + place["x_px"]
            expected = ndimage.map_coordinates(
                mosaic, np.broadcast_arrays(rows, columns), order=3, mode="nearest"
            )
            seen = noise_free_tile(plain, "A12", field=field, channel=channel)
            np.testing.assert_allclose(seen[12:-12, 12:-12], expected[12:-12, 12:-12], atol=0.2)
            stored = pixels(plain, well="A12", field=field, channel=channel).astype(float)
            np.testing.assert_allclose(stored - plain.spec.offset, seen, atol=0.51)


def test_intensities_of_cells_agree_with_the_mosaic(plain: PlateTruth) -> None:
    mosaic = noise_free_mosaic(plain, "A01", channel=0).astype(float)
    labels = plain.expected_labels("A01")
    cells = plain.of_well(plain.cells, "A01")
    numbers = cells["cell"]
    measured = ndimage.mean(mosaic, labels, numbers)
    np.testing.assert_allclose(measured, cells["mean_DAPI"], rtol=1e-5)
    assert np.array_equal(ndimage.sum_labels(labels > 0, labels, numbers), cells["area_px"])
    ideal = np.pi * cells["major_um"] * cells["minor_um"] / plain.spec.pixel_um**2
    whole = cells["complete"] == 1
    np.testing.assert_allclose(cells["area_px"][whole], ideal[whole], rtol=0.05)
    inner = slice(3, -3)
    total = (mosaic[inner, inner] - BACKGROUND).sum()
    margin = (cells["x_px"] > 30) & (cells["x_px"] < mosaic.shape[1] - 30)
    margin &= (cells["y_px"] > 30) & (cells["y_px"] < mosaic.shape[0] - 30)
    assert cells["integrated_DAPI"][margin].sum() <= total * 1.001
    assert cells["integrated_DAPI"].sum() == pytest.approx(total, rel=0.06)


def test_label_images_show_each_nucleus_at_its_place(plain: PlateTruth) -> None:
    labels = plain.expected_labels("A01")
    cells = plain.of_well(plain.cells, "A01")
    whole = cells["complete"] == 1
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, cells["cell"][whole]))
    np.testing.assert_allclose(centres[:, 0], cells["y_px"][whole], atol=0.3)
    np.testing.assert_allclose(centres[:, 1], cells["x_px"][whole], atol=0.3)
    assert np.array_equal(np.unique(labels), np.arange(len(whole) + 1))


def test_the_positive_control_is_three_times_as_bright(plain: PlateTruth) -> None:
    negative, positive = (
        plain.of_well(plain.cells, well)["integrated_GFP"] for well in ("A01", "A12")
    )
    assert np.median(positive) / np.median(negative) == pytest.approx(3.0, rel=0.25)
    assert plain.platemap["role"].tolist() == ["negative", "positive"]
    assert plain.platemap["effect"].tolist() == [1.0, 3.0]


def test_conditions_are_the_ones_given_and_else_rise_with_the_column(tmp_path: Path) -> None:
    chosen = Condition(role="positive", compound="taxol, 1 h", dose_um=0.5, effect=2.5)
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("B03", "B04"),
        grid=(1, 1),
        size_px=48,
        z=1,
        platemap={"B03": chosen},
    )
    assert truth.spec.conditions == (chosen, default_condition("B04"))
    assert truth.platemap["compound"].tolist()[0] == "taxol, 1 h"
    effects = [default_condition(f"C{col:02d}").effect for col in range(2, 12)]
    assert effects == sorted(effects)
    assert 1.0 < effects[0] < 1.1 < 2.9 < effects[-1] < 3.0


def test_light_falls_off_towards_the_corners_as_stored(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("A01",),
        empty_wells=("A01",),
        grid=(1, 1),
        channels=("DAPI", "GFP", "TRITC"),
        size_px=(80, 120),
        z=1,
        noise=False,
        vignetting=0.5,
    )
    assert len(truth.cells["cell"]) == 0
    for channel, profile in enumerate(truth.illumination):
        corners = profile[[0, 0, -1, -1], [0, -1, 0, -1]] / profile[40, 60]
        assert corners.mean() == pytest.approx(0.5, abs=0.02)
        assert corners.min() > 0.35
        assert corners.max() < 0.65
        assert profile.mean() == pytest.approx(1.0, abs=2e-3)
        for turned in (profile[::-1], profile[:, ::-1]):
            assert np.abs(turned - profile).max() > 0.05
        light = pixels(truth, channel=channel).astype(float) - truth.spec.offset
        np.testing.assert_allclose(light, (180.0, 140.0, 220.0)[channel] * profile, atol=0.51)


def test_noise_has_the_variance_of_light_and_camera(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("A01",),
        empty_wells=("A01",),
        grid=(1, 2),
        channels=("DAPI",),
        size_px=256,
        z=1,
        vignetting=1.0,
    )
    first, second = (pixels(truth, field=field).astype(float) for field in (0, 1))
    for image in (first, second):
        assert image.mean() == pytest.approx(280, abs=0.5)
        assert image.var() == pytest.approx(180 + 25 + 1 / 12, rel=0.03)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_noise_is_normal_into_its_tails_and_independent_in_each_plane(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("A01",),
        empty_wells=("A01",),
        grid=(1, 1),
        channels=("DAPI",),
        size_px=512,
        z=3,
        vignetting=1.0,
    )
    planes = np.array([pixels(truth, z=z).ravel() for z in range(3)]) - 280.0
    sigma = np.sqrt(180 + 25)
    for share, tolerance in ((1, 0.01), (2, 0.02), (3, 0.06), (4, 0.6)):
        limit = np.rint(share * sigma)
        expected = stats.norm.sf((limit - 0.5) / sigma)  # counts are rounded
        for side in (planes, -planes):
            assert np.mean(side >= limit) == pytest.approx(expected, rel=tolerance)
    assert np.abs(np.corrcoef(planes) - np.eye(3)).max() < 0.01
    rows = planes.reshape(3, 512, 512)
    for along, across in ((rows[:, 1:], rows[:, :-1]), (rows[..., 1:], rows[..., :-1])):
        assert abs(np.corrcoef(along.ravel(), across.ravel())[0, 1]) < 0.005


def test_a_plane_out_of_focus_is_the_sharp_scene_blurred(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("A01",),
        grid=(1, 2),
        channels=("DAPI",),
        size_px=128,
        z=3,
        texture=0.0,
        noise=False,
        seed=6,
    )
    spec = truth.spec
    blurred = ndimage.gaussian_filter(
        noise_free_mosaic(truth, "A01", channel=0),
        spec.z_step_um * spec.defocus / spec.pixel_um,
        truncate=3.0,
    )
    for field in range(2):
        place = tile(truth, "A01", field)
        places = np.mgrid[:128, :128] + np.array([place["y_px"], place["x_px"]])[:, None, None]
        expected = ndimage.map_coordinates(blurred, places, order=3)
        seen = noise_free_tile(truth, "A01", field=field, channel=0, z=0)
        np.testing.assert_allclose(seen[12:-12, 12:-12], expected[12:-12, 12:-12], rtol=1e-3)
        above = noise_free_tile(truth, "A01", field=field, channel=0, z=2)
        assert np.array_equal(seen, above)


def test_empty_overlaps_have_no_content_and_the_rest_has(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("A01",),
        grid=(2, 2),
        overlap=0.15,
        size_px=200,
        z=1,
        empty_overlaps="columns",
        noise=False,
        seed=3,
    )
    image = noise_free_tile(truth, "A01", field=0, channel=0)
    assert np.ptp(image[:, -26:]) < 0.01
    assert image[-26:, :160].std() > 5.0


@pytest.mark.parametrize(("touching", "pairs"), [(0.0, 0), (0.4, 8)])
def test_as_many_nuclei_touch_as_asked(tmp_path: Path, touching: float, pairs: int) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("B02",),
        grid=(1, 1),
        channels=("DAPI",),
        size_px=400,
        z=1,
        stage_error_px=0.0,
        cells_per_field=40,
        touching=touching,
    )
    cells = truth.cells
    assert len(cells["cell"]) >= 38
    labels = truth.expected_labels("B02")
    groups = ndimage.label(labels > 0, np.ones((3, 3)))[1]
    assert len(cells["cell"]) - groups == pytest.approx(pairs, abs=2 if pairs else 0)


def test_the_best_plane_is_the_sharpest(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=("A01", "B07", "E03"),
        grid=(1, 1),
        channels=("DAPI",),
        size_px=128,
        z=5,
        focus_spread_um=5.0,
        noise=False,
        seed=4,
    )
    best = truth.tiles["best_z"].tolist()
    assert len(set(best)) > 1
    for well, expected in zip(truth.spec.wells, best, strict=True):
        energy = [
            ndimage.laplace(pixels(truth, well=well, z=z).astype(float)).var() for z in range(5)
        ]
        assert int(np.argmax(energy)) == expected


def test_cells_move_between_time_points(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "plate", wells=("A01",), grid=(1, 1), size_px=96, z=1, t=3, seed=9
    )
    by_time = [truth.cells["x_um"][truth.cells["t"] == t] for t in range(3)]
    assert len(by_time[0]) == len(by_time[2]) > 0
    step = by_time[1] - by_time[0]
    assert 0 < np.abs(step).mean() < 2.0
    assert not np.array_equal(truth.expected_labels("A01", 0), truth.expected_labels("A01", 2))


@given(
    st.builds(
        PlaneKey,
        row=st.integers(0, 31),
        col=st.integers(0, 47),
        field=st.integers(0, 4095),
        channel=st.integers(0, 30),
        z=st.integers(0, 300),
        t=st.integers(0, 4095),
        kind=st.sampled_from(["plane", "max"]),
    ),
    st.integers(0, 2**24 - 1),
)
def test_a_stamp_says_whose_it_is(key: PlaneKey, seed: int) -> None:
    image = np.zeros((2, 20), np.uint16)
    image[0, :16] = encode_stamp(key, seed)
    stamp = decode_stamp(image)
    assert (stamp.key, stamp.seed) == (key, seed)
    image[0, 5] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        decode_stamp(image)


@given(st.integers(0, 31), st.integers(0, 47))
def test_well_names_and_places_are_inverse(row: int, col: int) -> None:
    assert well_position(well_name(row, col)) == (row, col)


def test_the_last_well_of_the_largest_plate_is_af48(tmp_path: Path) -> None:
    assert well_name(31, 47) == "AF48"
    for layout in ("imagexpress", "phenix"):
        truth = synthetic_plate(
            tmp_path / layout,
            format=layout,
            wells=("AF48",),
            grid=(1, 1),
            size_px=32,
            z=1,
            plate_rows=32,
            plate_columns=48,
            stamp=True,
        )
        stamp = decode_stamp(pixels(truth, well="AF48", channel=1))
        assert (stamp.key.row, stamp.key.col) == (31, 47)


def test_a_plane_without_a_stamp_is_named() -> None:
    with pytest.raises(ValueError, match="no stamp"):
        decode_stamp(np.zeros((4, 32), np.uint16))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"wells": ()}, "wells"),
        ({"wells": ("A13",)}, "A13 does not exist"),
        ({"wells": ("A1",)}, "not a well"),
        ({"overlap": 0.7}, "overlap"),
        ({"z": 0}, "z is 0"),
        ({"size_px": 8}, "size_px"),
        ({"format": "phenix", "projections": True}, "projections"),
    ],
)
def test_a_parameter_out_of_range_is_named(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        synthetic_plate(tmp_path / "plate", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "plate" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        synthetic_plate(tmp_path / "plate")
    assert kept.read_text() == "mine"
    assert not (tmp_path / "plate.truth").exists()


def test_a_channel_lies_shifted_as_stored(tmp_path: Path) -> None:
    def make(name: str, shift: float) -> PlateTruth:
        return synthetic_plate(
            tmp_path / name / "plate",
            wells=("A01",),
            grid=(1, 1),
            size_px=96,
            z=1,
            stage_error_px=3.0 - shift,
            channel_shift_px=shift,
            seed=2,
        )

    straight, shifted = make("straight", 0.0), make("shifted", 3.0)
    down = shifted.channel_shift["dy_px"].tolist()
    right = shifted.channel_shift["dx_px"].tolist()
    assert (down[0], right[0]) == (0.0, 0.0)
    assert 0.0 < abs(down[1]) <= 3.0
    assert set(straight.channel_shift["dy_px"].tolist()) == {0.0}
    mosaic = noise_free_mosaic(shifted, "A01", channel=1)
    place = tile(shifted, "A01", 0)
    seen = noise_free_tile(shifted, "A01", field=0, channel=1)
    rows = np.arange(96)[:, None] + place["y_px"] - down[1]
    columns = np.arange(96)[None, :] + place["x_px"] - right[1]
    expected = ndimage.map_coordinates(mosaic, np.broadcast_arrays(rows, columns), order=3)
    np.testing.assert_allclose(seen[12:-12, 12:-12], expected[12:-12, 12:-12], atol=0.2)


def test_place_on_the_plate_and_chance_act_as_stored(tmp_path: Path) -> None:
    wells = ("A01", "B06", "D06", "G06")
    same = dict.fromkeys(
        wells, Condition(role="sample", compound="", dose_um=float("nan"), effect=1.0)
    )
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=wells,
        platemap=same,
        grid=(2, 2),
        size_px=128,
        z=1,
        edge_effect=0.2,
        gradient=(0.7, 0.0),
        well_cv=0.1,
    )
    layout = truth.platemap["layout_factor"]
    assert layout[0] == pytest.approx(0.8 * 0.65)
    assert np.diff(layout[1:]) == pytest.approx([0.2, 0.3])
    assert np.ptp(truth.platemap["well_factor"]) > 0.01
    factor = layout * truth.platemap["well_factor"]
    measured = [
        np.median(truth.of_well(truth.cells, well)["mean_GFP"] - 140.0) for well in truth.spec.wells
    ]
    assert np.asarray(measured) / factor == pytest.approx(np.mean(measured / factor), rel=0.2)


def test_controls_show_what_the_assay_says(tmp_path: Path) -> None:
    conditions = {
        f"{row}{col:02d}": default_condition(f"A{col:02d}") for row in "ABCDEFGH" for col in (1, 12)
    }
    truth = synthetic_plate(
        tmp_path / "plate",
        wells=tuple(conditions),
        grid=(1, 1),
        size_px=128,
        z=1,
        cells_per_field=12,
        well_cv=0.06,
        texture=0.0,
        seed=1,
    )
    means = {
        role: np.array(
            [
                np.mean(truth.of_well(truth.cells, well)["mean_GFP"] - 140.0)
                for well, condition in conditions.items()
                if condition.role == role
            ]
        )
        for role in ("negative", "positive")
    }
    low, high = means["negative"], means["positive"]
    z_prime = 1 - 3 * (low.std(ddof=1) + high.std(ddof=1)) / (high.mean() - low.mean())
    assert 0.4 < truth.assay["z_prime"] < 0.7
    assert z_prime == pytest.approx(truth.assay["z_prime"], abs=0.2)
    assert truth.assay["ssmd"] > 5


@pytest.mark.parametrize("layout", ["imagexpress", "imagexpress-database", "phenix"])
def test_a_channel_of_one_plane_stands_beside_stacks(tmp_path: Path, layout: Any) -> None:
    truth = synthetic_plate(
        tmp_path / "plate",
        format=layout,
        wells=("A01",),
        grid=(1, 2),
        size_px=48,
        z=3,
        single_plane=("GFP",),
        projections=layout != "phenix",
        stamp=True,
    )
    count = {
        (kind, channel): int(
            np.sum((truth.planes["kind"] == kind) & (truth.planes["channel"] == channel))
        )
        for kind in ("plane", "max", "copy")
        for channel in (0, 1)
    }
    projected = 0 if layout == "phenix" else 2
    assert (count["plane", 0], count["plane", 1]) == (6, 2)
    assert (count["max", 0], count["max", 1], count["copy", 0]) == (projected, 0, 0)
    assert count["copy", 1] == (6 if layout == "imagexpress" else 0)
    chosen = truth.planes["channel"] == 1
    copies = truth.planes["path"][chosen & (truth.planes["kind"] == "copy")].tolist()
    if copies:
        assert {path.split("/")[1] for path in copies} == {"ZStep_0", "ZStep_2", "ZStep_3"}
        assert len(set(truth.planes["sha256"][chosen].tolist())) == 2
    sharp = pixels(truth, field=0, channel=1).astype(float)[1:]
    perfect = noise_free_tile(truth, "A01", field=0, channel=1)[1:] * truth.illumination[1][1:]
    assert np.abs(sharp - 100 - perfect).mean() < 20


def test_a_well_that_is_not_there_is_named(plain: PlateTruth) -> None:
    with pytest.raises(ValueError, match="no well B02; it has A01, A12"):
        noise_free_mosaic(plain, "B02", channel=0)


def test_wells_of_a_synthetic_plate_are_named_as_those_of_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plate = tmp_path / "plate"
    words = ["--plate", "6", "--grid", "1x1", "--z", "1", "--size-px", "32", "--channels", "DAPI"]
    assert main(["synth", str(plate), *words, "--wells", "*"]) == 0
    assert "6 of 6 wells" in capsys.readouterr().out
    assert open_plate(plate, cache=False).wells == ("A01", "A02", "A03", "B01", "B02", "B03")
    assert main(["synth", str(tmp_path / "few"), *words]) == 0
    assert "1 of 6 wells" in capsys.readouterr().out
