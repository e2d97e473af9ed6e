"""Planes on one scale, which is that of the plate and never that of one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions import REGISTRY, Prepared, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARAMETERS = {
    "low": None,
    "high": None,
    "low_percentile": 1.0,
    "high_percentile": 99.0,
    "clip": False,
}


def learned(planes: list[NDArray[Any]], **changed: Any) -> Prepared:
    preparation = REGISTRY["normalise"].preparation
    assert preparation is not None
    parameters = PARAMETERS | changed
    wanted = preparation.wanted(parameters, vendor=False, available=len(planes))
    summaries = [preparation.summarise(plane, parameters) for plane in planes[:wanted]]
    return preparation.combine(summaries, parameters, shape=(64, 64), vendor=None)


def plate() -> list[NDArray[Any]]:
    """Give twelve fields, each brighter than the one before."""
    rng = np.random.default_rng(0)
    return [rng.normal(100 + 50 * n, 10, (300, 300)).astype(np.uint16) for n in range(12)]


def test_the_levels_are_percentiles_of_all_fields() -> None:
    planes = plate()
    prepared = learned(planes)
    expected = np.percentile(np.concatenate([plane.ravel() for plane in planes]), (1, 99))
    assert prepared.arrays["range"] == pytest.approx(expected, abs=1.0)
    assert prepared.note["fields"] == 12


def test_a_bright_well_stays_brighter_than_a_dim_one() -> None:
    planes = plate()
    prepared = learned(planes).arrays
    dim, bright = (normalise(planes[n], prepared=prepared) for n in (0, 11))
    low, high = prepared["range"]
    assert dim.image.dtype == np.float32
    for plane in (dim, bright):
        assert (plane.normalised["low"], plane.normalised["high"]) == (low, high)
    gain = float(bright.image.mean() - dim.image.mean()) * float(high - low)
    assert gain == pytest.approx(11 * 50, rel=1e-3)


def test_stated_levels_are_used_and_nothing_is_read_for_them() -> None:
    preparation = REGISTRY["normalise"].preparation
    assert preparation is not None
    stated = PARAMETERS | {"low": 100.0, "high": 300.0}
    assert preparation.wanted(stated, vendor=False, available=40) == 0
    prepared = preparation.combine([], stated, shape=(8, 8), vendor=None).arrays
    plane = np.array([[50, 100, 200, 300, 400]], np.uint16)
    assert normalise(plane, prepared=prepared).image.tolist() == [[-0.25, 0, 0.5, 1, 1.5]]
    clipped = normalise(plane, prepared=prepared, clip=True)
    assert clipped.image.tolist() == [[0, 0, 0.5, 1, 1]]
    assert clipped.normalised["below_fraction"] == clipped.normalised["above_fraction"] == 0.2


def test_one_level_may_be_stated_and_the_other_learned() -> None:
    found = learned(plate(), low=0.0).arrays["range"]
    assert found[0] == 0
    assert found[1] > 600


def test_pixels_that_are_no_numbers_are_left_out() -> None:
    plane = np.linspace(0, 1, 10_000).reshape(100, 100)
    plane[:10] = np.nan
    assert learned([plane]).arrays["range"] == pytest.approx([0.109, 0.991], abs=2e-3)


@pytest.mark.parametrize(
    ("planes", "changed", "message"),
    [
        ([np.full((64, 64), 7, np.uint16)], {}, "which is no range"),
        ([np.full((64, 64), np.nan)], {}, "no plane to learn a range from"),
        ([], {"low": 9.0, "high": 3.0}, "the first must be the smaller one"),
        ([], {"low_percentile": 99.5}, "the first less than the second"),
    ],
)
def test_what_makes_no_range_is_refused(
    planes: list[NDArray[Any]], changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        learned(planes, **changed)
