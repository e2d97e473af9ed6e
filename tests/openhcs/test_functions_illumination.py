"""Illumination learned from fields with known vignetting, and taken out again."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from openhcs._errors import CompileError, ResultFolderError
from openhcs.execution import run, save_illumination
from openhcs.functions import SavedProfile, correct_illumination, read_profile, write_profile
from openhcs.functions._illumination import Illumination
from openhcs.functions._scale import enlarge, reduce_mean, spline_matrix
from openhcs.pipeline import Pipeline, Step, compile_pipeline
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from openhcs.testing.formats import CV8000, Phenix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.testing.formats import Layout

SHAPE = (240, 256)
OFFSET = 100
AUTO: Mapping[str, Any] = {"source": "auto", "dark": None}


def vignetting() -> NDArray[np.float32]:
    """Give a profile of mean 1 whose corners have 0.4 of the middle, off centre."""
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    profile = 1 - 0.3 * (x**2 + y**2) + 0.04 * x - 0.03 * y
    return np.asarray(profile / profile.mean(), dtype=np.float32)


FLAT = vignetting()


def field(rng: np.random.Generator, *, cells: int = 25) -> NDArray[np.uint16]:
    canvas = np.zeros((SHAPE[0] + 40, SHAPE[1] + 40))
    at = rng.integers(0, canvas.shape[0], cells), rng.integers(0, canvas.shape[1], cells)
    canvas[at] = rng.lognormal(0, 0.4, cells) * 40000
    light = (gaussian_filter(canvas, 3.0)[20:-20, 20:-20] + 150) * FLAT
    return np.asarray(rng.poisson(light) + rng.normal(OFFSET, 3, SHAPE)).round().astype(np.uint16)


def fields(count: int, seed: int = 4, *, cells: int = 25) -> list[NDArray[np.uint16]]:
    rng = np.random.default_rng(seed)
    return [field(rng, cells=cells) for _ in range(count)]


def learn(
    planes: Sequence[NDArray[Any]],
    parameters: Mapping[str, Any] = AUTO,
    vendor: NDArray[Any] | None = None,
    vendor_dark: float | None = None,
) -> Any:
    preparation = Illumination()
    summaries = [preparation.summarise(plane, parameters) for plane in planes]
    return preparation.combine(
        summaries, parameters, shape=SHAPE, vendor=vendor, vendor_dark=vendor_dark
    )


def background_variation(planes: Sequence[NDArray[Any]]) -> float:
    background = gaussian_filter(np.percentile(np.stack(planes), 25, axis=0), 6)
    return float(background.std() / background.mean())


@pytest.mark.parametrize("dark", [None, float(OFFSET)])
def test_profile_is_found(dark: float | None) -> None:
    planes = fields(64, cells=80)
    found = learn(planes, {"source": "auto", "dark": dark})
    assert found.note["source"] == "estimate"
    assert found.note["confidence"] == "high"
    assert float(np.sqrt(np.mean((found.arrays["flat"] - FLAT) ** 2))) <= 0.02
    assert found.arrays["flat"].mean() == pytest.approx(1, abs=1e-5)
    assert found.note["dark"] == pytest.approx(OFFSET, abs=15)
    corrected = [correct_illumination(p, prepared=found.arrays).image for p in planes]
    before = [p.astype("f4") - OFFSET for p in planes]
    assert background_variation(before) >= 5 * background_variation(corrected)


def disks(rng: np.random.Generator, flat: NDArray[np.float32], share: float) -> NDArray[np.uint16]:
    """Make a field of which disks cover a share, each of a brightness of its own."""
    height, width = flat.shape
    y, x = np.ogrid[:height, :width]
    radii = rng.uniform(5, 9, int(-np.log(1 - share) * flat.size / (np.pi * 50.3)) + 1)
    light = np.zeros(flat.shape)
    for radius in radii:
        at = rng.uniform(-9, height + 9), rng.uniform(-9, width + 9)
        box = tuple(slice(max(0, int(c - 10)), max(0, int(c + 11))) for c in at)
        inside = (y[box[0]] - at[0]) ** 2 + (x[:, box[1]] - at[1]) ** 2 < radius**2
        np.maximum(light[box], inside * rng.lognormal(6.8, 0.3), out=light[box])
    seen = (gaussian_filter(light, 1.0) + rng.lognormal(5.0, 0.1)) * flat
    counts: NDArray[Any] = rng.poisson(seen) + rng.normal(OFFSET, 4, flat.shape)
    return counts.round().clip(0, 65535).astype(np.uint16)


def crooked(shape: tuple[int, int]) -> NDArray[np.float32]:
    """Give a profile that is like itself in no mirror; its darkest corner has 0.35."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    fall = 0.22 * x**2 + 0.3 * y**2 - 0.12 * x + 0.09 * y - 0.1 * x * y - 0.08 * x**3
    profile = 1 - 0.65 * (fall - fall.min()) / np.ptp(fall)
    return np.asarray(profile / profile.mean(), dtype=np.float32)


@pytest.mark.parametrize(
    ("share", "crooked_light"), [(0.01, True), (0.1, False), (0.35, True), (0.6, True)]
)
def test_profile_is_found_under_few_cells_and_many(share: float, crooked_light: bool) -> None:
    rng = np.random.default_rng(round(1000 * share))
    flat = crooked(SHAPE) if crooked_light else FLAT
    planes = [disks(rng, flat, share) for _ in range(64)]
    found = learn(planes, {"source": "auto", "dark": float(OFFSET)})
    assert np.corrcoef(found.arrays["flat"].ravel(), flat.ravel())[0, 1] >= 0.99
    assert float(np.sqrt(np.mean((found.arrays["flat"] - flat) ** 2))) <= 0.02


def test_cells_that_keep_to_one_side_do_not_bend_the_profile() -> None:
    rng = np.random.default_rng(1)
    planes = [disks(rng, FLAT, 0.4) for _ in range(64)]
    bare = [disks(rng, FLAT, 0.02) for _ in range(64)]
    for plane, other in zip(planes, bare, strict=True):
        plane[:, 160:] = other[:, 160:]
    found = learn(planes, {"source": "auto", "dark": float(OFFSET)})
    assert float(np.sqrt(np.mean((found.arrays["flat"] - FLAT) ** 2))) <= 0.02


def test_corners_are_not_made_bright_where_nothing_tells_the_dark_level() -> None:
    planes = fields(64, cells=0)
    found = learn(planes)
    assert found.note["confidence"] == "low"
    assert "give dark=" in found.note["why"]
    dim = FLAT < 0.9
    assert np.all(found.arrays["flat"][dim] >= FLAT[dim] - 0.02)
    record = correct_illumination(planes[0], prepared=found.arrays).illumination
    assert record["confidence"] == "low"


def test_a_vendor_profile_is_used_as_it_is_and_tells_the_dark_level_if_need_be() -> None:
    found = learn(fields(20), vendor=FLAT)
    np.testing.assert_array_equal(found.arrays["flat"], FLAT)
    assert found.note["source"] == found.note["confidence"] == "vendor"
    assert found.note["dark"] == pytest.approx(OFFSET, abs=8)
    assert found.note["dark_source"] == "estimate"
    known = learn([], {"source": "vendor", "dark": 97}, vendor=FLAT)
    assert (known.note["dark"], known.note["dark_source"]) == (97, "given")


@pytest.mark.parametrize("count", [0, 20])
def test_the_vendors_dark_level_is_taken_before_any_estimate(count: int) -> None:
    found = learn(fields(count), vendor=FLAT, vendor_dark=0.0)
    assert (found.note["dark"], found.note["dark_source"]) == (0, "vendor")
    assert "why" not in found.note
    record = correct_illumination(fields(1)[0], prepared=found.arrays).illumination
    assert (record["dark"], record["dark_source"]) == (0, "vendor")
    given = learn(fields(count), {"source": "auto", "dark": 97}, vendor=FLAT, vendor_dark=0.0)
    assert (given.note["dark"], given.note["dark_source"]) == (97, "given")


def test_an_estimated_profile_takes_the_vendors_dark_level() -> None:
    found = learn(fields(50, cells=3), vendor_dark=OFFSET)
    assert (found.note["source"], found.note["dark_source"]) == ("estimate", "vendor")
    assert found.note["dark"] == OFFSET
    assert np.abs(found.arrays["flat"] - FLAT).max() < 0.02
    alone = learn(fields(50))
    assert alone.note["dark_source"] == "estimate"
    unknown = learn([np.full(SHAPE, 500, np.uint16)] * 12)
    assert (unknown.note["dark"], unknown.note["dark_source"]) == (0, "assumed")


def test_under_a_vendor_profile_the_dark_level_is_0_where_nothing_tells_it() -> None:
    """Else background or cells would be taken off: all of a bright field image, by and large."""
    few = learn(fields(9), vendor=FLAT)
    assert (few.note["dark"], few.note["dark_source"]) == (0, "assumed")
    assert "fewer than 10 fields" in few.note["why"]
    even = learn(fields(20), vendor=np.ones(SHAPE, np.float32))
    assert (even.note["dark"], even.note["dark_source"]) == (0, "assumed")
    assert "why" not in even.note


def test_a_profile_is_taken_out_to_the_count() -> None:
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 4000, SHAPE, dtype=np.uint16)
    found = learn([], {"source": "vendor", "dark": 100.0}, vendor=FLAT)
    corrected = correct_illumination(plane, prepared=found.arrays, source="vendor", dark=100.0)
    exact = np.rint((plane.astype("f4") - np.float32(100)) / FLAT)
    np.testing.assert_array_equal(corrected.image, np.clip(exact, 0, 65535).astype(np.uint16))
    assert corrected.image.dtype == plane.dtype
    assert corrected.illumination["clipped_px"] == np.count_nonzero((exact < 0) | (exact > 65535))
    assert corrected.illumination["source"] == "vendor"


def test_wells_keep_their_ratio() -> None:
    found = learn([], {"source": "vendor", "dark": 0.0}, vendor=FLAT)
    dim = np.full(SHAPE, 1000, np.uint16)
    one = correct_illumination(dim, prepared=found.arrays).image.astype(int)
    three = correct_illumination(3 * dim, prepared=found.arrays).image.astype(int)
    assert np.abs(three - 3 * one).max() <= 2


def test_few_fields_are_said_to_be_few() -> None:
    preparation = Illumination()
    low = learn(fields(12))
    assert (low.note["source"], low.note["confidence"]) == ("estimate", "low")
    record = correct_illumination(fields(1)[0], prepared=low.arrays).illumination
    assert (record["confidence"], record["fields"]) == ("low", 12)

    assert preparation.wanted(AUTO, vendor=False, available=9) == 0
    none = learn([])
    assert none.note["source"] == "none"
    assert "fewer than 10 fields" in none.note["why"]
    plane = fields(1)[0]
    untouched = correct_illumination(plane, prepared=none.arrays)
    np.testing.assert_array_equal(untouched.image, plane)
    assert untouched.illumination["source"] == untouched.illumination["confidence"] == "none"


def test_what_cannot_be_had_is_refused() -> None:
    preparation = Illumination()
    estimate = {"source": "estimate", "dark": None}
    vendor = {"source": "vendor", "dark": None}
    with pytest.raises(ValueError, match="9 fields are too few"):
        preparation.wanted(estimate, vendor=False, available=9)
    with pytest.raises(ValueError, match="3 fields are too few"):
        learn(fields(3), estimate)
    with pytest.raises(ValueError, match="no illumination profile"):
        preparation.wanted(vendor, vendor=False, available=100)
    with pytest.raises(ValueError, match="no illumination profile"):
        learn([], vendor)
    with pytest.raises(ValueError, match="'magic'"):
        preparation.wanted({"source": "magic", "dark": None}, vendor=True, available=100)
    with pytest.raises(ValueError, match="profile is"):
        learn([], vendor, vendor=np.ones((2, 2), np.float32))
    arrays = learn([], {"source": "vendor", "dark": 1.0}, vendor=FLAT).arrays
    with pytest.raises(ValueError, match="profile is"):
        correct_illumination(np.zeros((8, 8), np.uint16), prepared=arrays)


@pytest.mark.parametrize(
    ("source", "dark", "vendor", "vendor_dark", "available", "wanted"),
    [
        ("none", None, True, None, 500, 0),
        ("auto", None, True, None, 500, 64),
        ("auto", None, True, 0.0, 500, 0),
        ("auto", 100.0, True, None, 500, 0),
        ("auto", 100.0, False, None, 500, 64),
        ("auto", None, False, None, 30, 30),
        ("auto", None, False, 97.0, 30, 30),
        ("estimate", None, True, 0.0, 500, 64),
        ("vendor", None, True, None, 4, 0),
        ("vendor", None, True, None, 10, 10),
        ("vendor", None, True, 97.0, 10, 0),
    ],
)
def test_only_as_many_fields_as_needed_are_read(
    source: str,
    dark: float | None,
    vendor: bool,
    vendor_dark: float | None,
    available: int,
    wanted: int,
) -> None:
    parameters = {"source": source, "dark": dark}
    found = Illumination().wanted(
        parameters, vendor=vendor, vendor_dark=vendor_dark, available=available
    )
    assert found == wanted


def test_dark_and_constant_plates_do_no_harm() -> None:
    for value in (0, 500):
        found = learn([np.full(SHAPE, value, np.uint16)] * 12)
        assert np.isfinite(found.arrays["flat"]).all()
        image = correct_illumination(np.full(SHAPE, 900, np.uint16), prepared=found.arrays).image
        assert np.ptp(image) <= 1


def test_tiny_planes_can_be_learned_from() -> None:
    rng = np.random.default_rng(0)
    preparation = Illumination()
    summaries = [
        preparation.summarise(rng.integers(0, 900, (32, 32), dtype=np.uint16), AUTO)
        for _ in range(10)
    ]
    found = preparation.combine(summaries, AUTO, shape=(32, 32), vendor=None)
    assert found.arrays["flat"].shape == (32, 32)


def test_reduced_planes_enlarge_to_what_they_were() -> None:
    y, x = np.mgrid[-1:1:250j, -1:1:333j]
    smooth = (1 - 0.3 * x**2 - 0.2 * y**2 + 0.1 * x * y).astype(np.float32)
    again = enlarge(reduce_mean(smooth, (128, 128)), smooth.shape)
    assert np.abs(again - smooth).max() < 0.01
    assert np.abs(again - smooth)[3:-3, 3:-3].max() < 0.002
    matrices = [spline_matrix(size, 128) for size in smooth.shape]
    product = matrices[0] @ reduce_mean(smooth, (128, 128)) @ matrices[1].T
    assert np.abs(product - again).max() < 1e-6
    exact = reduce_mean(np.arange(64, dtype=np.uint16).reshape(8, 8), (2, 4))
    assert exact[0, 0] == pytest.approx(np.mean([0, 1, 8, 9, 16, 17, 24, 25]))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 31, 32])
def test_a_matrix_enlarges_as_splines_do(count: int) -> None:
    means = np.random.default_rng(count).normal(size=(count, count))
    for size in (count, count + 1, 32, 75):
        matrix = spline_matrix(size, count)
        assert np.abs(matrix @ means @ matrix.T - enlarge(means, (size, size))).max() < 1e-6


def test_correcting_needs_little_more_memory_than_its_result() -> None:
    rng = np.random.default_rng(0)
    plane = rng.integers(200, 4000, (1080, 1080), dtype=np.uint16)
    flat = np.full(plane.shape, 1.1, np.float32)
    found = Illumination().combine(
        [], {"source": "vendor", "dark": 100.0}, shape=(1080, 1080), vendor=flat
    )

    tracemalloc.start()
    try:
        corrected = correct_illumination(plane, prepared=found.arrays)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * corrected.image.nbytes  # whole passes in float32 take 5 times as much


def test_a_saved_profile_is_used_as_it_was_found(tmp_path: Path) -> None:
    found = learn(fields(12), {"source": "estimate", "dark": 90.0})
    saved = SavedProfile(
        flat=found.arrays["flat"],
        dark=90.0,
        provenance={"channel": "DAPI", "plate": "one", "confidence": "low", "fields": 12},
    )
    path = tmp_path / "dapi.tif"
    write_profile(path, saved)
    again = read_profile(path)
    np.testing.assert_array_equal(again.flat, saved.flat)
    assert (again.dark, again.provenance) == (90.0, saved.provenance)

    parameters = {"source": "file", "dark": None, "profile": str(path)}
    assert Illumination().wanted(parameters, vendor=True, available=500) == 0
    assert Illumination().reads(parameters) == (str(path),)
    used = learn([], parameters)
    assert used.note["provenance"]["plate"] == "one"
    plane = fields(1)[0]
    one = correct_illumination(plane, prepared=found.arrays)
    other = correct_illumination(plane, prepared=used.arrays)
    np.testing.assert_array_equal(one.image, other.image)
    assert other.illumination["source"] == "file"
    assert (other.illumination["confidence"], other.illumination["fields"]) == ("low", 12)
    darker = learn([], {**parameters, "dark": 50.0})
    assert float(darker.arrays["dark"]) == 50


def test_what_is_no_saved_profile_is_said(tmp_path: Path) -> None:
    parameters = {"source": "file", "dark": None, "profile": str(tmp_path / "none.tif")}
    with pytest.raises(ValueError, match=r"none\.tif cannot be read: No such file"):
        learn([], parameters)
    with pytest.raises(ValueError, match="belong together"):
        Illumination().wanted({**parameters, "profile": None}, vendor=False, available=50)
    with pytest.raises(ValueError, match="belong together"):
        Illumination().wanted({**parameters, "source": "auto"}, vendor=False, available=50)
    wrong = {
        "text.tif": b"no TIFF at all",
        "empty.tif": b"",
        "cut.tif": b"II*\x00\x08\x00\x00\x00",
    }
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
    tifffile.imwrite(tmp_path / "other.tif", np.ones((9, 9), np.float32))
    for name in (*wrong, "other.tif"):
        with pytest.raises(ValueError, match=f"{name} is no profile that openhcs wrote"):
            learn([], {**parameters, "profile": str(tmp_path / name)})
    small = SavedProfile(flat=np.ones((9, 9), np.float32), dark=0.0)
    write_profile(tmp_path / "small.tif", small)
    with pytest.raises(ValueError, match=r"is \(9, 9\) px, the planes are \(240, 256\)"):
        learn([], {**parameters, "profile": str(tmp_path / "small.tif")})
    refused: list[NDArray[Any]] = [
        np.zeros((4, 4), np.float32),
        np.ones(4, np.float32),
        np.ones((4, 4)),
    ]
    for flat in refused:
        with pytest.raises(ValueError, match="a profile is"):
            SavedProfile(flat=flat, dark=0.0)


@pytest.mark.parametrize(("layout", "dark"), [(Phenix(), 0.0), (CV8000(), 40.0)])
def test_a_run_takes_profile_and_dark_level_of_the_vendor_and_reads_no_field_for_them(
    tmp_path: Path, layout: Layout, dark: float
) -> None:
    """Estimated under a vendor's profile, it takes background off as if nobody had told it."""
    wells = [f"{row}{column:02d}" for row in "BC" for column in range(2, 8)]
    truth = synthetic_plate(
        tmp_path / "plate", format=layout, wells=wells, grid=(1, 1), z=1, size_px=(128, 160),
        channels=("DAPI",), cells_per_field=8, offset=dark,
    )  # fmt: skip
    plan = compile_pipeline(Pipeline(Step(correct_illumination)), open_plate(truth.folder))
    assert run(plan, tmp_path / "out", workers=1).completed
    (path,) = (tmp_path / "out" / "prepared").rglob("note.json")
    note = json.loads(path.read_text())["channels"]["DAPI"]
    assert (note["source"], note["fields"]) == ("vendor", 0)
    assert (note["dark"], note["dark_source"]) == (dark, "vendor")
    (table,) = (tmp_path / "out").rglob("illumination/B02.parquet")
    row = pq.read_table(table).to_pylist()[0]
    assert (row["dark"], row["dark_source"]) == (dark, "vendor")


def test_the_profile_of_one_plate_corrects_another(tmp_path: Path) -> None:
    wells = [f"{row}{column:02d}" for row in "BC" for column in range(2, 8)]
    for name, seed in (("one", 1), ("two", 2)):
        synthetic_plate(
            tmp_path / name, wells=wells if name == "one" else wells[:2], grid=(1, 1), z=1,
            size_px=(128, 160), channels=("DAPI", "GFP"), cells_per_field=12, seed=seed,
        )  # fmt: skip
    learned = Pipeline(Step(correct_illumination, source="estimate", dark=100.0))
    plan = compile_pipeline(learned, open_plate(tmp_path / "one"))
    assert run(plan, tmp_path / "first", workers=1).completed
    profile = tmp_path / "gfp.tif"
    saved = save_illumination(tmp_path / "first", profile, channel="GFP")
    assert saved.provenance["source"] == "estimate"
    assert saved.provenance["dark_source"] == "given"
    assert (saved.provenance["plate"], saved.provenance["fields"]) == ("one", 12)

    def step() -> Pipeline:
        return Pipeline(
            Step(
                correct_illumination,
                channel="GFP",
                otherwise="drop",
                source="file",
                profile=str(profile),
            )
        )

    def source_of(well: str) -> Mapping[str, Any]:
        (table,) = (tmp_path / "second").rglob(f"illumination/{well}.parquet")
        return dict(pq.read_table(table).to_pylist()[0])

    plan = compile_pipeline(step(), open_plate(tmp_path / "two"))
    assert run(plan, tmp_path / "second", workers=1).completed
    assert (source_of("B02")["source"], source_of("B02")["dark"]) == ("file", 100)
    assert source_of("B02")["dark_source"] == "file"

    # Another profile under the same name is used, not what was done with the first.
    write_profile(profile, SavedProfile(flat=saved.flat, dark=40.0))
    plan = compile_pipeline(step(), open_plate(tmp_path / "two"))
    assert run(plan, tmp_path / "second", workers=1).completed
    assert source_of("B02")["dark"] == 40

    profile.unlink()
    with pytest.raises(CompileError, match=r"gfp\.tif cannot be read"):
        compile_pipeline(step(), open_plate(tmp_path / "two"))
    with pytest.raises(ResultFolderError, match="learned nothing of 'Cy5', but of DAPI, GFP"):
        save_illumination(tmp_path / "first", profile, channel="Cy5")
