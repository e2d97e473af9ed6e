"""What every function of the catalogue keeps to."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs.functions import REGISTRY, Axes, FunctionSpec, Kind, Tile, stitch

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIXEL_UM = (0.5, 0.5)


def test_importing_the_catalogue_loads_no_heavy_package() -> None:
    source = (
        "import sys, openhcs.functions;"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'scipy', 'skimage', 'zarr',"
        " 'tifffile', 'pyarrow'}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("spec", REGISTRY.values(), ids=lambda spec: spec.name)
def test_every_function_is_documented_to_the_last_parameter(spec: FunctionSpec) -> None:
    text = inspect.getdoc(spec.call) or ""
    assert spec.summary.endswith(".")
    for name in spec.parameters:
        assert f"\n{name}\n" in text or f"{name}," in text or f", {name}" in text, name
    for parameter in spec.parameters.values():
        assert not parameter.required, parameter.name
        assert parameter.annotation is not Any, parameter.name


def test_the_default_pipeline_finds_its_functions() -> None:
    assert {
        "correct_illumination",
        "measure_image_quality",
        "measure_objects",
        "project_max",
        "segment_nuclei",
        "stitch",
    } <= set(REGISTRY)
    assert list(REGISTRY) == sorted(REGISTRY)


PLANE_FILTERS = [
    spec
    for spec in REGISTRY.values()
    if spec.axes is Axes.PLANE
    and spec.preparation is None
    and any(output.kind is Kind.IMAGE for output in spec.outputs)
]


@pytest.mark.parametrize("spec", PLANE_FILTERS, ids=lambda spec: spec.name)
def test_filters_keep_type_and_the_ratio_between_wells(spec: FunctionSpec) -> None:
    rng = np.random.default_rng(3)
    dim: NDArray[Any] = rng.integers(1000, 9000, (64, 64), dtype=np.uint16)
    facts = {"pixel_um": PIXEL_UM} if "pixel_um" in spec.needs else {}
    one, five = (spec.call(factor * dim, **facts) for factor in (np.uint16(1), np.uint16(5)))
    assert one.dtype == five.dtype == np.uint16
    assert np.abs(five.astype(int) - 5 * one.astype(int)).max() <= 3


def test_each_field_of_a_mosaic_depends_on_itself_alone() -> None:
    tiles = [
        Tile(
            field=n,
            x_um=100.0 * n,
            y_um=0.0,
            load=lambda value=value: np.full((64, 64), value, np.uint16),  # type: ignore[misc]
        )
        for n, value in enumerate((0, 1000, 0))
    ]
    mosaic = stitch({"a": tiles}, pixel_um=PIXEL_UM).image["a"]
    assert set(np.unique(mosaic[:, 200:264])) == {1000}
    assert not mosaic[:, :64].any()
    assert not mosaic[:, -64:].any()
