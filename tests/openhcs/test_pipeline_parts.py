"""Routes, branches, pipelines within pipelines, steps of some wells, and settings with origins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs._errors import CompileError, ParameterError
from openhcs.execution import RunResult, run
from openhcs.functions import (
    Kind,
    Output,
    PlaneArray,
    function,
    gaussian_px,
    measure_objects,
    project_max,
    segment_cells,
    segment_nuclei,
)
from openhcs.pipeline import (
    Branch,
    Evaluation,
    Event,
    Pipeline,
    Plan,
    Route,
    Step,
    StepFinished,
    compile_pipeline,
    from_source,
    steps_in,
    to_source,
    well_planes,
)
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import synthetic_plate
from polystore.omezarr import open_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from openhcs.pipeline import GroupKey, PlannedStep

WELLS = ("A01", "A02", "B01")


@function()
def add(plane: PlaneArray, *, count: int = 1) -> PlaneArray:
    """Add a number to each pixel."""
    return np.add(plane, count, dtype=plane.dtype)


@function(outputs=(Output("brightest", Kind.RECORD),))
def brightest(plane: PlaneArray) -> dict[str, int]:
    """Give the largest value."""
    return {"brightest": int(plane.max())}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PlateIndex:
    folder = tmp_path_factory.mktemp("parts") / "plate"
    synthetic_plate(
        folder,
        wells=WELLS,
        grid=(1, 1),
        z=1,
        channels=("DAPI", "GFP", "Cy5"),
        size_px=96,
        cells_per_field=6,
        seed=4,
    )
    return open_plate(folder, cache=False)


class Planes:
    """The planes of a well, all black; outputs are gathered."""

    pixel_um = (0.65, 0.65)

    def __init__(self, plan: Plan, well: str) -> None:
        self._keys = tuple(well_planes(plan.index, well, plan.channels))
        self.outputs: dict[str, dict[GroupKey, Any]] = {}

    def keys(self) -> Sequence[GroupKey]:
        return self._keys

    def read(self, key: GroupKey) -> PlaneArray:
        assert key in self._keys
        return np.zeros((64, 64), np.uint16)

    def place(self, key: GroupKey, axis: str) -> float:
        return 0.0 * len(axis) * (key.field or 0)

    def prepared(self, step: str, channel: str | None) -> Mapping[str, PlaneArray]:
        raise AssertionError((step, channel))

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        assert step.name
        assert kind in Kind
        self.outputs.setdefault(name, {})[key] = value

    def reused(self, step: PlannedStep) -> bool:
        return not step.name

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        raise AssertionError((step, name, kind, key))

    def finished(self, step: PlannedStep, seconds: float) -> None:
        assert step.name
        assert seconds >= 0

    def proceed(self) -> None:
        pass


def evaluated(plan: Plan, well: str = "A01") -> tuple[dict[str | None, int], dict[str, list[int]]]:
    """Give the brightness of each channel at the end, and of the stored images by name."""
    planes = Planes(plan, well)
    evaluation = Evaluation(steps_in(plan.steps, well), planes, planes)
    last = {key.channel: image for key, image in evaluation.streams[-1].items()}
    for image in last.values():
        image.readers += 1
    evaluation.run()
    ends = {channel: int(image.get().max()) for channel, image in last.items()}
    stored = {
        name: sorted(int(value.max()) for value in values.values())
        for name, values in planes.outputs.items()
        if all(isinstance(value, np.ndarray) for value in values.values())
    }
    return ends, stored


def problems(index: PlateIndex, *parts: Any, **options: Any) -> str:
    with pytest.raises(CompileError) as caught:
        compile_pipeline(Pipeline(*parts), index, **options)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("otherwise", "ends"),
    [
        ("pass", {"DAPI": 12, "GFP": 100, "Cy5": 0}),
        ("drop", {"DAPI": 12, "GFP": 100}),
        (Step(add, count=7), {"DAPI": 12, "GFP": 100, "Cy5": 7}),
    ],
)
def test_each_channel_goes_the_way_of_its_branch(
    index: PlateIndex, otherwise: Any, ends: dict[str, int]
) -> None:
    route = Route(
        {
            "DAPI": Pipeline(Step(add, count=2), Step(add, count=10)),
            "GFP": Step(add, count=100),
        },
        otherwise=otherwise,
    )
    assert evaluated(compile_pipeline(Pipeline(route), index))[0] == ends
    after = Pipeline(route, Step(add, count=1000))
    assert evaluated(compile_pipeline(after, index))[0] == {
        channel: end + 1000 for channel, end in ends.items()
    }


def test_a_route_that_allows_no_others_names_them(index: PlateIndex) -> None:
    text = problems(index, Route({"DAPI": Step(add), "GFP": Step(add)}, otherwise="error"))
    assert "there are other channels: Cy5" in text


def test_a_route_has_to_say_what_becomes_of_the_others() -> None:
    with pytest.raises(TypeError):
        Route({"DAPI": Step(add)})  # type: ignore[call-arg]
    with pytest.raises(ParameterError, match="did you mean 'drop'"):
        Route({"DAPI": Step(add)}, otherwise="dropp")  # type: ignore[arg-type]
    inner = Route({"GFP": Step(add)}, otherwise="pass")
    for other, told in ((None, "None"), (inner, "a Route")):
        with pytest.raises(ParameterError, match=f"or a step, branch or pipeline, not {told}"):
            Route({"DAPI": Step(add)}, otherwise=other)  # type: ignore[arg-type]


def test_a_channel_is_chosen_once() -> None:
    with pytest.raises(ParameterError, match="leave channel= out"):
        Pipeline(Route({"DAPI": Step(add, channel="GFP", otherwise="pass")}, otherwise="pass"))
    inner = Route({"GFP": Step(add)}, otherwise="pass")
    with pytest.raises(ParameterError, match="in a branch of another"):
        Pipeline(Route({"DAPI": Pipeline(inner)}, otherwise="pass"))


def test_a_branch_leaves_the_images_behind_it_as_they_were(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(add, count=1),
        Branch(Step(add, name="aside", count=50), Step(brightest)),
        Step(add, name="main", count=2),
        Step(add, name="again", input="step:aside", count=5),
    )
    ends, stored = evaluated(compile_pipeline(pipeline, index))
    assert set(ends.values()) == {56}
    assert stored["main"] == [3, 3, 3]
    short = Pipeline(*pipeline.parts[:3])
    ends, stored = evaluated(compile_pipeline(short, index))
    assert set(ends.values()) == {3}
    assert stored == {"aside": [51, 51, 51], "main": [3, 3, 3]}


def test_what_a_branch_found_can_be_measured_behind_it(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(project_max),
        Branch(Step(gaussian_px, sigma_px=2.0), Step(segment_nuclei, channel="DAPI")),
        Step(measure_objects),
    )
    plan = compile_pipeline(pipeline, index)
    measure = plan.steps[-1]
    assert [plan.steps[part.step].name for part in measure.inputs] == ["segment_nuclei"]
    assert plan.steps[measure.source].name == "project_max"


def test_settings_are_inherited_and_tell_where_they_come_from(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(add, name="one"),
        Pipeline(Step(add, name="two"), Step(add, name="three", keep=True), keep=False, name="in"),
        Step(add, name="four", channel="DAPI"),
        otherwise="drop",
    )
    plan = compile_pipeline(pipeline, index, keep=True, missing="skip-group")
    found = {
        name: {key: (value.value, value.origin) for key, value in settings.items()}
        for name, settings in plan.settings.items()
    }
    assert found["one"]["keep"] == (True, "run")
    assert found["two"]["keep"] == (False, "pipeline in")
    assert found["three"]["keep"] == (True, "step")
    assert found["four"]["otherwise"] == ("drop", "pipeline")
    assert found["one"]["missing"] == ("skip-group", "run")
    assert found["one"]["pixel_um"] == (None, "default")
    assert [step.name for step in plan.steps if step.image] == ["one", "three", "four"]
    assert set(evaluated(plan)[0]) == {"DAPI"}


def test_a_pipelines_settings_go_before_those_of_the_run(index: PlateIndex) -> None:
    pipeline = Pipeline(Step(add), pixel_um=(0.5, 0.25), missing="fail-well")
    plan = compile_pipeline(pipeline, index, pixel_um=(1.0, 1.0), missing="skip-group")
    assert plan.pixel_um == (0.5, 0.25)
    assert plan.missing == "fail-well"


def test_what_holds_for_the_whole_is_not_set_within() -> None:
    with pytest.raises(ParameterError, match="missing holds for the whole"):
        Pipeline(Step(add), Pipeline(Step(add), missing="skip-group"))


def test_a_step_acts_in_its_wells_alone(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(add, count=1),
        Pipeline(Step(add, name="some", count=10, wells="A02,B*"), wells="A*"),
        Step(add, name="last", count=100, wells="A*"),
    )
    plan = compile_pipeline(pipeline, index)
    assert [step.wells for step in plan.steps] == [None, ("A02",), ("A01", "A02")]
    ends = {well: set(evaluated(plan, well)[0].values()) for well in WELLS}
    assert ends == {"A01": {101}, "A02": {111}, "B01": {1}}
    assert set(evaluated(plan, "B01")[1]) == {"add"}


def test_wells_that_the_plate_does_not_have_are_named(index: PlateIndex) -> None:
    assert "wells='H12': 'H12' names no well" in problems(index, Step(add, wells="H12"))


def test_wells_of_a_pipeline_that_are_not_there_are_named_once(index: PlateIndex) -> None:
    pipeline = Pipeline(Step(add, wells="H11"), Step(add, wells="H11"), Step(add), wells="H12")
    with pytest.raises(CompileError) as caught:
        compile_pipeline(pipeline, index)
    assert [text.partition(" names")[0] for text in caught.value.problems] == [
        "add: wells='H12': 'H12'",
        "add: wells='H11': 'H11'",
        "add_2: wells='H11': 'H11'",
    ]


def test_labels_without_an_image_in_some_wells_are_found_when_compiling(index: PlateIndex) -> None:
    text = problems(index, Step(project_max, wells="A01"), Step(segment_nuclei, channel="DAPI"))
    assert "well A02: segment_nuclei: its labels belong to the plate's own planes" in text
    assert "well A01" not in text


def test_labels_from_a_step_of_other_wells_are_missed_when_compiling(index: PlateIndex) -> None:
    text = problems(
        index,
        Step(project_max),
        Step(segment_nuclei, channel="DAPI", wells="A01"),
        Step(measure_objects),
    )
    assert "does not act in this well: limit both to the same wells" in text
    assert "well A02" in text


def test_a_step_names_the_output_that_it_takes(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(project_max),
        Step(segment_nuclei, channel="DAPI"),
        Step(segment_cells),
        Step(measure_objects, name="of_cells"),
        Step(measure_objects, name="of_nuclei", labels="segment_nuclei.nuclei"),
    )
    assert from_source(to_source(pipeline)) == pipeline
    plan = compile_pipeline(pipeline, index)
    givers = {
        step.name: [(plan.steps[part.step].name, part.output) for part in step.inputs]
        for step in plan.steps
    }
    assert givers["of_cells"] == [("segment_cells", "cells")]
    assert givers["of_nuclei"] == [("segment_nuclei", "nuclei")]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("segment_nucleus", "did you mean 'segment_nuclei'?"),
        ("segment_nuclei.cells", "segment_nuclei gives nuclei"),
        ("brightest", "brightest gives brightest"),
    ],
)
def test_an_output_that_is_not_there_is_named(index: PlateIndex, labels: str, told: str) -> None:
    text = problems(
        index,
        Step(project_max),
        Step(segment_nuclei, channel="DAPI"),
        Step(brightest),
        Step(measure_objects, labels=labels),
    )
    assert told in text


def test_a_filter_of_wells_does_again_what_it_changes_and_nothing_else(
    index: PlateIndex, tmp_path: Path
) -> None:
    done: list[tuple[str, str]] = []

    def told(event: Event) -> None:
        if isinstance(event, StepFinished) and not event.reused:
            done.append((event.well, event.step))

    def ran(wells: str | None) -> RunResult:
        pipeline = Pipeline(
            Step(project_max),
            Step(gaussian_px, sigma_px=2.0, wells=wells),
            Step(segment_nuclei, channel="DAPI"),
            Step(measure_objects),
        )
        done.clear()
        plan = compile_pipeline(pipeline, index)
        result = run(plan, tmp_path / "out", workers=1, on_event=told)
        assert result.completed, [well.error for well in result.wells]
        return result

    ran(None)
    assert len(done) == 4 * 3
    result = ran("A*")
    assert {well for well, _ in done} == {"B01"}
    images = {well.well: [image.name for image in well.images] for well in result.wells}
    assert images == {"A01": ["gaussianpx0"], "A02": ["gaussianpx0"], "B01": ["projectmax0"]}
    image = open_image(tmp_path / "out" / "plate.zarr", "B01", "projectmax0")
    assert image.shapes[0][-2:] == (96, 96)
    assert not (tmp_path / "out" / "plate.zarr" / "B" / "1" / "gaussianpx0").exists()
    ran("A*")
    assert not done


def test_channels_are_looked_for_in_the_wells_that_a_step_acts_in(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(add, name="a", channel="DAPI", otherwise="drop", wells="A*"),
        Step(add, name="b", channel="GFP", otherwise="drop", wells="B*", keep=True),
        Step(add, name="every", count=10),
        keep=True,
    )
    plan = compile_pipeline(pipeline, index)
    assert channels_after(plan, "A01") == ["DAPI"]
    assert channels_after(plan, "B01") == ["GFP"]


def test_a_channel_that_some_wells_lack_is_named_with_them(index: PlateIndex) -> None:
    steps = (
        Step(add, name="a", channel="DAPI", otherwise="drop", wells="A*"),
        Step(add, name="b", channel="GFP", otherwise="pass"),
        Step(add, name="c", channel="RFP", otherwise="pass", wells="A*"),
    )
    text = problems(index, *steps)
    assert "b: A01, A02 have no channel 'GFP' here: limit the step to other wells" in text
    assert "c: there is no channel 'RFP' here; there are 'DAPI'" in text
    assert "combined" not in text


def channels_after(plan: Plan, well: str) -> list[str]:
    planes = Planes(plan, well)
    stream = Evaluation(steps_in(plan.steps, well), planes, planes).streams[-1]
    return [str(key.channel) for key in stream]
