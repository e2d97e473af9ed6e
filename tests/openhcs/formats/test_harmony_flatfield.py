from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs.plates import PolynomialProfile
from openhcs.plates.formats.harmony._flatfield import Node, parse_braces, parse_flatfield

ASYMMETRIC = (
    (1.1,),
    (0.31, -0.17),
    (-0.42, 0.23, 0.11),
    (0.05, -0.61, 0.37, 0.29),
)


def text(**more: str) -> str:
    rows = ", ".join("[" + ", ".join(map(repr, row)) + "]" for row in ASYMMETRIC)
    profile = (
        f"{{Coefficients: [{rows}], Dims: [12, 8], Origin: [5.5, 3.5], "
        f"Scale: [{1 / 12!r}, {1 / 8!r}], Type: Polynomial}}"
    )
    parts = {"Character": "NonFlat", "Mean": "NaN", "NonFlatness": "{Random: INF}"} | more
    inside = ", ".join(f"{key}: {value}" for key, value in parts.items())
    return f'{{Background: {{{inside}, Profile: {profile}}}, ChannelName: "a, {{(b", Version: A:2}}'


def direct(shape: tuple[int, int]) -> np.ndarray:
    """The sum as the vendor defines it, term by term and pixel by pixel."""
    height, width = shape
    p = np.zeros(shape)
    for row in range(height):
        for col in range(width):
            x = ((col + 0.5) * 12 / width - 0.5 - 5.5) / 12
            y = ((row + 0.5) * 8 / height - 0.5 - 3.5) / 8
            p[row, col] = sum(
                c * x ** (n - k) * y**k for n, cs in enumerate(ASYMMETRIC) for k, c in enumerate(cs)
            )
    return p


@pytest.mark.parametrize("shape", [(8, 12), (4, 6), (16, 24), (5, 7)])
def test_an_asymmetric_polynomial_is_exact_and_not_flipped(shape: tuple[int, int]) -> None:
    profile = parse_flatfield(text())
    assert profile is not None
    np.testing.assert_allclose(profile.evaluate(shape), direct(shape), atol=1e-6)
    assert np.abs(direct((8, 8)) - direct((8, 8)).T).max() > 0.05


def test_low_values_are_raised_and_counted() -> None:
    profile = PolynomialProfile(
        coefficients=((0.0,), (1.0, 0.0)), dims=(5, 1), origin=(2.0, 0.0), scale=(0.2, 1.0)
    )
    np.testing.assert_allclose(profile.evaluate((1, 5)), [[0.1, 0.1, 0.1, 0.2, 0.4]], atol=1e-7)
    assert profile.clamped_pixels((1, 5)) == 3


@pytest.mark.parametrize(
    "flat",
    [
        "{Background: {Character: Null, Profile: {Type: Identity}, Quality: 1}, Channel: 1}",
        "{Background: {Character: Flat, Mean: NaN, Profile: {Type: Identity}}}",
        "{Background: {Character: Flat}}",
    ],
)
def test_flat_profiles_are_one_everywhere(flat: str) -> None:
    profile = parse_flatfield(flat)
    assert profile is not None
    np.testing.assert_array_equal(profile.evaluate((3, 4)), np.ones((3, 4), np.float32))


def test_without_background_there_is_no_profile() -> None:
    assert parse_flatfield("{Foreground: {Character: NonFlat}, Channel: 2}") is None
    assert parse_flatfield("{Background: {Character: NonFlat, Quality: 0}}") is None


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[1]",
        "{Background: 3}",
        "{Background: {Profile: {Type: Polynomial}}}",
        '{A: "open}',
        "{A: 1} more",
        "{A: [1, 2}",
        text().replace("[0.31, -0.17]", "[0.31]"),
        text().replace("-0.17", "NaN"),
        text().replace("Dims: [12, 8]", "Dims: [12]"),
        "{A: " + "[" * 100 + "]" * 100 + "}",
    ],
)
def test_damaged_text_is_refused(damaged: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_flatfield(damaged)


BARE = st.text("abzAB 0129().:/-", min_size=1, max_size=8).map(str.strip).filter(bool)
KEYS = st.text("abzAB", min_size=1, max_size=5)
NODES: st.SearchStrategy[Node] = st.recursive(
    BARE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


def render(node: Node) -> str:
    match node:
        case dict():
            return "{" + ", ".join(f"{key}: {render(value)}" for key, value in node.items()) + "}"
        case list():
            return "[" + ", ".join(map(render, node)) + "]"
        case str():
            return node


@given(st.dictionaries(KEYS, NODES, max_size=4))
def test_the_brace_notation_reads_back(top: dict[str, Node]) -> None:
    assert parse_braces(render(top)) == top


@given(st.text('{}[]:,"ab1 ', max_size=40))
def test_any_text_is_read_or_refused(anything: str) -> None:
    with contextlib.suppress(ValueError):
        parse_braces(anything)
