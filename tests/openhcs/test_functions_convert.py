"""Pixel types change; values stay, or are clipped and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openhcs.functions._convert import to_dtype

INTEGERS = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"]


def expected(value: int | float, limits: np.iinfo[Any]) -> tuple[int, bool]:
    """Give the value that Python's exact arithmetic finds, and whether it is clipped."""
    if value != value:
        return 0, True
    if value in (float("inf"), float("-inf")):
        return (limits.max if value > 0 else limits.min), True
    whole = round(value)  # half to even
    return min(max(whole, limits.min), limits.max), not limits.min <= whole <= limits.max


@given(
    image=hnp.arrays(
        st.sampled_from(["f4", "f8"]), st.integers(0, 12), elements=st.floats(width=32)
    ),
    wanted=st.sampled_from(INTEGERS),
)
def test_floats_are_rounded_half_to_even_and_clipped(image: Any, wanted: str) -> None:
    exact = [expected(float(value), np.iinfo(wanted)) for value in image]
    converted = to_dtype(image.copy(), wanted)
    assert converted.pixels.dtype == np.dtype(wanted)
    assert converted.pixels.tolist() == [value for value, _ in exact]
    assert converted.clipped_px == sum(clipped for _, clipped in exact)


@given(data=st.data(), own=st.sampled_from(INTEGERS), wanted=st.sampled_from(INTEGERS))
def test_integers_are_clipped(data: st.DataObject, own: str, wanted: str) -> None:
    image = data.draw(hnp.arrays(own, st.integers(0, 12)))
    exact = [expected(int(value), np.iinfo(wanted)) for value in image]
    converted = to_dtype(image, wanted)
    assert converted.pixels.tolist() == [value for value, _ in exact]
    assert converted.clipped_px == sum(clipped for _, clipped in exact)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_same_type_is_left_alone(dtype: str) -> None:
    image = np.arange(6, dtype=dtype)
    assert to_dtype(image, dtype).pixels is image


def test_brightness_keeps_its_ratio_between_wells() -> None:
    dim = np.linspace(0, 1000, 101)
    for factor in (2, 7, 60):
        bright = to_dtype(dim * factor, np.uint16).pixels.astype(int)
        own = to_dtype(dim.copy(), np.uint16).pixels.astype(int)
        assert np.abs(bright - factor * own).max() <= factor / 2 + 0.5


def test_a_narrower_float_clips_what_is_finite() -> None:
    converted = to_dtype(np.array([1e300, -1e300, np.inf, 1.5]), np.float32)
    top = float(np.finfo(np.float32).max)
    assert converted.pixels.tolist() == [top, -top, np.inf, 1.5]
    assert converted.clipped_px == 2


@pytest.mark.parametrize(("own", "wanted"), [("bool", "u1"), ("u1", "bool"), ("c8", "u2")])
def test_other_types_are_refused(own: str, wanted: str) -> None:
    with pytest.raises(TypeError, match="integers or floats"):
        to_dtype(np.zeros(2, own), wanted)
