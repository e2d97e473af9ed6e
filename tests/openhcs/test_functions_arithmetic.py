"""Channels put together, divided and unmixed, against numbers worked out by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions import composite, ratio, unmix

if TYPE_CHECKING:
    from numpy.typing import NDArray


def noise(seed: int, dtype: type[np.generic] = np.uint16) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(100, 4000, (40, 50)).astype(dtype)


def test_a_composite_is_the_weighted_sum() -> None:
    a, b = noise(1), noise(2)
    found = composite({"A": a, "B": b}, weights={"A": 0.25, "B": 2.0})
    assert found.image.dtype == np.uint16
    assert np.array_equal(found.image, np.rint(0.25 * a + 2.0 * b))
    assert found.composite_pixels == {"clipped_px": 0}


def test_without_weights_a_composite_is_the_mean() -> None:
    a, b = noise(1), noise(2)
    assert np.array_equal(composite({"A": a, "B": b}).image, np.rint((a.astype(float) + b) / 2))


def test_what_a_composite_clips_is_counted() -> None:
    a = np.full((8, 8), 60_000, np.uint16)
    a[0, :3] = 10
    found = composite({"A": a, "B": a}, weights={"A": 1.0, "B": 1.0})
    assert found.composite_pixels == {"clipped_px": 61}
    assert found.image.max() == 65_535


def test_a_channel_that_has_no_weight_is_not_read() -> None:
    class Watched(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            assert name == "A"
            return super().__getitem__(name)

    channels = Watched(A=noise(1), B=noise(2))
    assert np.array_equal(composite(channels, weights={"A": 1.0}).image, noise(1))


def test_unlike_pixel_types_give_floats() -> None:
    found = composite({"A": noise(1), "B": noise(2, np.uint8)}).image
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"C": 1.0}, "'C' is no channel"), ({"A": 0.0}, "not 0"), ({"A": float("nan")}, "finite")],
)
def test_weights_that_fit_nothing_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        composite({"A": noise(1), "B": noise(2)}, weights=weights)


def test_a_ratio_does_not_depend_on_brightness_once_offsets_are_gone() -> None:
    cfp = np.linspace(60, 3000, 2000).reshape(40, 50)
    yfp = 1.7 * cfp
    found = ratio(
        {"CFP": cfp + 100, "YFP": yfp + 110},
        numerator="YFP",
        denominator="CFP",
        numerator_offset=110,
        denominator_offset=100,
    )
    assert found.image == pytest.approx(1.7, abs=1e-4)
    assert found.ratio_pixels["median"] == pytest.approx(1.7, abs=1e-4)
    assert found.ratio_pixels["guarded_fraction"] == 0


def test_where_the_denominator_is_too_small_there_is_no_ratio() -> None:
    below = np.full((4, 4), 200, np.uint16)
    below[:2] = 110
    found = ratio(
        {"A": np.full((4, 4), 300, np.uint16), "B": below},
        denominator_offset=100,
        least_denominator=50,
        guarded=-1.0,
    )
    assert (found.image[:2] == -1).all()
    assert (found.image[2:] == 3).all()
    assert found.ratio_pixels == {
        "numerator": "A",
        "denominator": "B",
        "guarded_fraction": 0.5,
        "median": 3.0,
    }


def test_an_empty_denominator_gives_no_warning_and_no_infinity() -> None:
    found = ratio({"A": noise(1), "B": np.zeros((40, 50), np.uint16)})
    assert not found.image.any()
    assert found.ratio_pixels["guarded_fraction"] == 1


def test_a_ratio_of_more_than_two_channels_has_to_be_told_which() -> None:
    planes = {name: noise(1) for name in "ABC"}
    with pytest.raises(ValueError, match="there are 3 channels, A, B, C: give numerator"):
        ratio(planes)
    with pytest.raises(ValueError, match="both 'A'"):
        ratio(planes, numerator="A", denominator="A")
    with pytest.raises(ValueError, match="least_denominator"):
        ratio(planes, numerator="A", denominator="B", least_denominator=0)


def test_unmixing_gives_back_what_was_mixed() -> None:
    rng = np.random.default_rng(4)
    dyes = {name: rng.uniform(0, 2000, (60, 70)) for name in ("DAPI", "GFP", "RFP")}
    seen = {
        "DAPI": dyes["DAPI"] + 0.05 * dyes["GFP"],
        "GFP": dyes["GFP"] + 0.2 * dyes["DAPI"],
        "RFP": dyes["RFP"] + 0.12 * dyes["GFP"],
    }
    found = unmix(
        {name: np.rint(plane + 100).astype(np.uint16) for name, plane in seen.items()},
        matrix={"DAPI": {"GFP": 0.05}, "GFP": {"DAPI": 0.2}, "RFP": {"GFP": 0.12}},
        offset=100,
    )
    for name, plane in dyes.items():
        assert found.image[name].dtype == np.uint16
        assert np.abs(found.image[name] - (plane + 100)).max() < 1.5
    assert found.unmixed_pixels["condition"] < 2


def test_unmixing_leaves_noise_around_the_offset_whole() -> None:
    rng = np.random.default_rng(5)
    dark = rng.normal(100, 5, (200, 200))
    found = unmix(
        {"A": np.rint(dark).astype(np.uint16), "B": np.rint(dark[::-1]).astype(np.uint16)},
        matrix={"A": {"B": 0.3}},
        offset={"A": 100.0, "B": 100.0},
    )
    assert float(found.image["A"].mean()) == pytest.approx(100, abs=0.2)
    assert found.unmixed_pixels["clipped_px_A"] == 0


def test_without_a_matrix_nothing_is_changed() -> None:
    planes = {"A": noise(1), "B": noise(2, np.uint8)}
    found = unmix(planes)
    assert all(np.array_equal(found.image[name], plane) for name, plane in planes.items())


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ({"A": {"B": 1.0}, "B": {"A": 1.0}}, "too much alike"),
        ({"A": {"C": 0.1}}, "'C' is no channel"),
        ({"A": {"B": -0.1}}, "0 or more"),
        ({"A": {"A": 0.9}}, "own channel"),
    ],
)
def test_a_matrix_that_makes_no_sense_is_refused(
    matrix: dict[str, dict[str, float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unmix({"A": noise(1), "B": noise(2)}, matrix=matrix)


def test_channels_of_unlike_shape_are_named() -> None:
    planes = {"A": noise(1), "B": noise(2)[:30]}
    for call in (composite, ratio, unmix):
        with pytest.raises(ValueError, match="channel 'B' has shape"):
            call(planes)
