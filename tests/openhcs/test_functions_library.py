"""Functions of other libraries become steps by one call, from Python and from text."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage
from skimage import filters, measure, morphology

from openhcs._errors import CompileError, ParameterError, SourceError
from openhcs.execution import run
from openhcs.functions import LIBRARIES, Stack, adapt, project_max, segment_nuclei
from openhcs.pipeline import Pipeline, Step, compile_pipeline, from_source, to_source
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.plates import PlateIndex


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PlateIndex:
    folder = tmp_path_factory.mktemp("plate") / "p"
    synthetic_plate(folder, wells=("B02", "B03"), grid=(1, 1), z=2, size_px=64, seed=3)
    return open_plate(folder, cache=False)


def test_a_function_is_called_with_each_plane_and_its_own_parameters() -> None:
    spec = adapt(filters.unsharp_mask)
    assert spec.library is not None
    assert spec.library.path == "skimage.filters.unsharp_mask"
    assert {"radius", "amount", "preserve_range"} <= set(spec.parameters)
    plane = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    given = spec.call(plane, radius=2.0)
    np.testing.assert_array_equal(given, filters.unsharp_mask(plane, radius=2.0))  # type: ignore[no-untyped-call]


def test_by_name_is_the_same_as_by_function() -> None:
    assert adapt("scipy.ndimage.median_filter").library == adapt(ndimage.median_filter).library


def test_a_stack_comes_as_an_array_along_its_axis() -> None:
    spec = adapt(np.mean, axes="zstack")
    stack = Stack([lambda: np.zeros((4, 4)), lambda: np.full((4, 4), 2.0)])
    image = spec.call(stack, axis=0)
    assert (image == 1).all()
    assert image.dtype == np.float32


def test_masks_become_numbers_and_are_no_labels() -> None:
    plane = np.array([[0, 1], [2, 0]], np.uint16)
    assert adapt(ndimage.binary_fill_holes).call(plane > 0).dtype == np.uint8
    thresholded = adapt("scipy.ndimage.binary_erosion", gives="labels")
    with pytest.raises(TypeError, match="label it first"):
        thresholded.call(plane > 0)


def test_a_scalar_becomes_a_record() -> None:
    spec = adapt(measure.shannon_entropy, gives="record")
    assert set(spec.call(np.eye(4))) == {"shannon_entropy"}


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("skimage.filters.gausian", "did you mean 'skimage.filters.gaussian'?"),
        ("skimage.nowhere.f", "no module"),
        ("gaussian", "write its module"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_with_advice(path: str, hint: str) -> None:
    with pytest.raises(ParameterError, match=hint.replace("?", r"\?").replace(".", r"\.")):
        adapt(path)


def test_axes_and_kinds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ParameterError, match="not by 'fields'"):
        adapt(filters.sobel, axes="fields")
    with pytest.raises(ParameterError, match="did you mean 'zstack'"):
        adapt(filters.sobel, axes="zstak")
    with pytest.raises(ParameterError, match="plane by plane"):
        adapt(morphology.remove_small_holes, axes="zstack", takes="labels")
    with pytest.raises(ParameterError, match="no name in a module"):
        adapt(lambda plane: plane)


def test_a_pipeline_with_library_functions_is_written_and_read_back() -> None:
    pipeline = Pipeline(
        Step(adapt(filters.gaussian), sigma=1.5, preserve_range=True),
        Step(adapt(np.median, axes="zstack"), axis=0),
        Step(segment_nuclei, channel="DAPI"),
        Step(adapt("skimage.segmentation.clear_border", takes="labels", gives="labels")),
    )
    source = to_source(pipeline)
    assert 'adapt("skimage.filters.gaussian"), sigma=1.5' in source
    again = from_source(source, libraries=LIBRARIES.also("numpy"))
    assert to_source(again) == source


@pytest.mark.parametrize(
    "path", ["os.system", "skimage.io.imsave", "skimage.filters._gaussian.gaussian", "skimage"]
)
def test_text_may_name_functions_of_the_allowed_modules_alone(path: str) -> None:
    text = f'pipeline = Pipeline(Step(adapt("{path}")))'
    with pytest.raises(SourceError, match="may not be named here"):
        from_source(text)


def test_library_steps_run_in_workers_and_are_taken_over_when_run_again(
    index: PlateIndex, tmp_path: Path
) -> None:
    pipeline = Pipeline(
        Step(project_max),
        Step(adapt(filters.gaussian), sigma=1.0, preserve_range=True),
        Step(segment_nuclei, channel="DAPI"),
        Step(
            adapt("skimage.segmentation.clear_border", takes="labels", gives="labels"),
            channel="DAPI",
        ),
        Step(adapt(measure.shannon_entropy, gives="record"), channel="DAPI"),
    )
    plan = compile_pipeline(pipeline, index)
    first = run(plan, tmp_path / "out", workers=1)
    assert first.completed, [well.error for well in first.wells]
    again = run(compile_pipeline(from_source(plan.source), index), tmp_path / "out", workers=1)
    assert all(well.reused for well in again.wells)


def test_a_function_of_the_script_itself_is_refused_with_the_reason(
    index: PlateIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(plane: object) -> object:
        return plane

    here.__module__, here.__qualname__ = "__main__", "here"
    monkeypatch.setattr(sys.modules["__main__"], "here", here, raising=False)
    with pytest.raises(CompileError, match="put it in a module"):
        compile_pipeline(Pipeline(Step(adapt(here))), index)
