"""Projections against numpy on the whole stack, and best focus against a known plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from openhcs.functions import (
    Stack,
    best_focus,
    project_max,
    project_mean,
    project_min,
    project_std,
    project_sum,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PROJECTIONS = [project_max, project_mean, project_min, project_std, project_sum]


def stack(planes: NDArray[Any], counted: list[int] | None = None) -> Stack:
    def load(at: int) -> NDArray[Any]:
        if counted is not None:
            counted.append(at)
        return np.array(planes[at])

    return Stack([lambda at=at: load(at) for at in range(len(planes))], range(len(planes)))  # type: ignore[misc]


def planes(dtype: str, depth: int = 7) -> NDArray[Any]:
    rng = np.random.default_rng(5)
    if dtype.startswith("f"):
        return rng.normal(100, 30, (depth, 33, 47)).astype(dtype)
    top = np.iinfo(dtype).max
    return rng.integers(0, top, (depth, 33, 47), dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
def test_projections_equal_the_stacked_result(dtype: str) -> None:
    whole = planes(dtype)
    wide = "f8" if dtype.startswith("f") else f"{dtype[0]}{4 if dtype in ('u1', 'u2', 'i2') else 8}"
    mean = whole.mean(axis=0, dtype=np.float64)
    cases: list[tuple[Callable[[Stack], NDArray[Any]], NDArray[Any]]] = [
        (project_max, whole.max(axis=0)),
        (project_min, whole.min(axis=0)),
        (project_mean, (mean if dtype.startswith("f") else np.rint(mean)).astype(dtype)),
        (
            project_sum,
            whole.sum(axis=0, dtype=wide).astype(dtype if dtype.startswith("f") else wide),
        ),
    ]
    for project, expected in cases:
        found = project(stack(whole))
        assert found.dtype == expected.dtype, project.__name__
        np.testing.assert_array_equal(found, expected, err_msg=project.__name__)
    np.testing.assert_allclose(project_std(stack(whole)), whole.astype("f8").std(axis=0), rtol=1e-6)


def test_standard_deviation_survives_a_large_offset() -> None:
    whole = planes("u2") % 4 + 60000
    expected = whole.astype("f8").std(axis=0)
    np.testing.assert_allclose(project_std(stack(whole)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("project", PROJECTIONS, ids=lambda project: project.__name__)
def test_each_plane_is_loaded_once(project: Callable[[Stack], Any]) -> None:
    loaded: list[int] = []
    project(stack(planes("u2"), loaded))
    assert loaded == list(range(7))


@pytest.mark.parametrize("project", [*PROJECTIONS, best_focus], ids=lambda f: f.__name__)
def test_an_empty_or_uneven_stack_is_refused(project: Callable[[Stack], Any]) -> None:
    with pytest.raises(ValueError, match="empty"):
        project(Stack([]))
    with pytest.raises(ValueError, match="differ"):
        project(Stack([lambda: np.zeros((32, 32), "u2"), lambda: np.zeros((32, 33), "u2")]))


def scene(rng: np.random.Generator) -> NDArray[np.float64]:
    canvas = np.zeros((160, 160))
    canvas[rng.integers(0, 160, 60), rng.integers(0, 160, 60)] = rng.uniform(2e4, 8e4, 60)
    return gaussian_filter(canvas, 2.0)


def test_best_focus_finds_the_sharp_plane() -> None:
    rng = np.random.default_rng(11)
    right = 0
    for _ in range(50):
        truth = int(rng.integers(0, 7))
        sharp = scene(rng)
        whole = np.array(
            [
                rng.poisson(gaussian_filter(sharp, 0.9 * abs(z - truth)) + 80) + 100
                if z != truth
                else rng.poisson(sharp + 80) + 100
                for z in range(7)
            ]
        ).astype(np.uint16)
        found = best_focus(stack(whole))
        right += found.focus["z"] == truth
        assert found.focus["z_um"] == found.focus["z"]
        np.testing.assert_array_equal(found.image, whole[int(found.focus["z"])])
        assert found.focus_curve["score"].shape == (7,)
    assert right >= 49


def test_best_focus_says_how_clear_it_is() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(500, 5, (5, 64, 64)).astype("f4")
    sharp = (scene(rng)[:64, :64] + 100).astype("u2")
    blurred = gaussian_filter(sharp, 3).astype("u2")
    assert best_focus(stack(noise)).focus["verdict"] == "flat"
    assert best_focus(stack(np.array([sharp]))).focus["verdict"] == "single"
    assert best_focus(stack(np.array([blurred, sharp, blurred]))).focus["verdict"] == "clear"
    tie = best_focus(stack(np.array([blurred, sharp, sharp, blurred, blurred])))
    assert (tie.focus["verdict"], tie.focus["z"]) == ("tie", 1)
    assert best_focus(stack(np.zeros((3, 32, 32), "u2"))).focus["verdict"] == "flat"


def test_best_focus_refuses_a_width_out_of_range() -> None:
    with pytest.raises(ValueError, match="sigma_px"):
        best_focus(stack(planes("u2")), sigma_px=0.1)
