"""What reaches a function, what its outputs belong to, and how long anything is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openhcs._errors import StepError
from openhcs.functions import REGISTRY, Axes, Kind, Output, Stack, Tile, function, spec_of
from openhcs.pipeline import (
    Evaluation,
    GroupKey,
    Otherwise,
    Pipeline,
    Plan,
    PlannedStep,
    Step,
    compile_pipeline,
)
from openhcs.plates import PlateIndex, open_plate
from openhcs.testing import synthetic_plate

Plane = NDArray[Any]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PlateIndex:
    folder = tmp_path_factory.mktemp("evaluation") / "plate"
    synthetic_plate(folder, wells=("A01",), grid=(1, 3), z=2, size_px=64, seed=3)
    return open_plate(folder, cache=False)


class Well:
    """Planes in memory; counts what is read and how many planes are alive."""

    pixel_um = (0.65, 0.65)

    def __init__(self, planes: Mapping[GroupKey, Plane]) -> None:
        self.planes = planes
        self.reads: list[GroupKey] = []

    def keys(self) -> Sequence[GroupKey]:
        return tuple(self.planes)

    def read(self, key: GroupKey) -> Plane:
        self.reads.append(key)
        return self.planes[key].copy()

    def place(self, key: GroupKey, axis: str) -> float:
        places = {"x": 35.0 * (key.field or 0), "z": 2.0 * (key.z or 0), "t": 60.0 * (key.t or 0)}
        return places.get(axis, 0.0)

    def prepared(self, step: str, channel: str | None) -> Mapping[str, Plane]:
        found = REGISTRY[step].preparation
        assert found is not None, (step, channel)
        stated = {"source": "none", "dark": None, "low": 100.0, "high": 3000.0}
        arrays: Mapping[str, Plane] = found.combine([], stated, shape=(64, 64), vendor=None).arrays
        return arrays


class Collected:
    """Outputs by stored name and key."""

    def __init__(self, reused: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.outputs: dict[str, dict[GroupKey, Any]] = {}
        self.finished_steps: list[str] = []
        self.earlier = reused or {}

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        assert key not in self.outputs.get(name, {}), f"{kind} {name} of {step.name} stored twice"
        self.outputs.setdefault(name, {})[key] = value

    def reused(self, step: PlannedStep) -> bool:
        return step.name in self.earlier

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        assert kind in Kind
        return self.earlier[step.name][name][key]

    def finished(self, step: PlannedStep, seconds: float) -> None:
        assert seconds >= 0
        self.finished_steps.append(step.name)

    def proceed(self) -> None:
        pass


def well(
    *,
    fields: int = 3,
    channels: Sequence[str] = ("DAPI", "GFP"),
    z: int = 2,
    t: Sequence[int] = (0,),
    plane: Callable[[GroupKey], Plane] | None = None,
) -> Well:
    def spots(key: GroupKey) -> Plane:
        random = np.random.default_rng([key.field or 0, key.z or 0, len(key.channel or "")])
        y, x = np.mgrid[:64, :64]
        spot = 2000 * np.exp(-((y - 30) ** 2 + (x - 34) ** 2) / 50)
        lit = 200 + spot + random.normal(0, 5, (64, 64))
        return np.asarray(lit, dtype=np.uint16)

    keys = [
        GroupKey(t=time, field=field, channel=channel, z=number)
        for time in t
        for field in range(fields)
        for channel in channels
        for number in range(z)
    ]
    return Well({key: (plane or spots)(key) for key in keys})


def evaluated(
    index: PlateIndex, pipeline: Pipeline, source: Well, kept: Collected | None = None
) -> dict[str, dict[GroupKey, Any]]:
    kept = kept or Collected()
    plan = compile_pipeline(pipeline, index)
    Evaluation(plan.steps, source, kept).run()
    return kept.outputs


def content(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, Mapping):
        return {name: content(item) for name, item in value.items()}
    return repr(value)


FIELDWISE = sorted(
    name
    for name, spec in REGISTRY.items()
    if "field" not in spec.axes.consumed and spec.weights is None  # not installed here
)


@pytest.mark.parametrize("name", FIELDWISE)
def test_no_field_depends_on_another(index: PlateIndex, name: str) -> None:
    spec = REGISTRY[name]
    before = [Step(REGISTRY["project_max"])]
    if spec.axes is Axes.ZSTACK or spec.preparation is not None:
        before = []
    if spec.inputs:
        before.append(Step(REGISTRY["segment_nuclei"], channel="DAPI"))
    if any(kind is Kind.LABELS and wanted == "cells" for kind, wanted in spec.inputs.values()):
        before.append(Step(REGISTRY["segment_cells"]))
    if "quality" in spec.inputs:
        before = [Step(REGISTRY["project_max"]), Step(REGISTRY["measure_image_quality"])]
    channel = "DAPI" if spec.axes is Axes.TIME else None  # that of the labels
    stated: dict[str, Any] = {"at_least": {"snr": 5.0}} if "quality" in spec.inputs else {}
    pipeline = Pipeline(
        *before, Step(spec, channel=channel, keep=spec.outputs[0].kind is Kind.IMAGE, **stated)
    )
    plain = well(t=(0, 1))
    other = well(t=(0, 1))
    changed = {
        key: np.flipud(plane) // 2 if key.field == 1 else plane
        for key, plane in other.planes.items()
    }
    one = evaluated(index, pipeline, plain)
    two = evaluated(index, pipeline, Well(changed))
    assert {name: set(groups) for name, groups in one.items()} == {
        name: set(groups) for name, groups in two.items()
    }
    for output, groups in one.items():
        for key, value in groups.items():
            assert key.field is not None
            if key.field != 1:
                assert content(value) == content(two[output][key]), (output, key)


def test_constant_fields_stay_what_they_are(index: PlateIndex) -> None:
    source = well(plane=lambda key: np.full((64, 64), 1000 * (key.field == 1), np.uint16))
    images = evaluated(index, Pipeline(Step(REGISTRY["project_mean"])), source)["projectmean"]
    assert {key.field: float(image.mean()) for key, image in images.items()} == {
        0: 0,
        1: 1000,
        2: 0,
    }


@function(outputs=(Output("level", Kind.RECORD),))
def level(plane: Plane) -> Mapping[str, float]:
    """Measure the mean of a plane."""
    return {"mean": float(plane.mean())}


def test_after_a_projection_nothing_has_a_z(index: PlateIndex) -> None:
    source = well()
    outputs = evaluated(index, Pipeline(Step(REGISTRY["project_max"]), Step(level)), source)
    assert set(outputs["level"]) == {
        GroupKey(t=0, field=field, channel=channel)
        for field in range(3)
        for channel in ("DAPI", "GFP")
    }
    assert set(outputs["projectmax"]) == set(outputs["level"])


@function(
    outputs=(
        Output("zeta", Kind.RECORD),
        Output("alpha", Kind.RECORD),
        Output("image", Kind.IMAGE),
    )
)
def twofold(plane: Plane) -> Mapping[str, Any]:
    """Give two records in another order than they are declared in."""
    return {"alpha": {"value": "alpha"}, "image": plane, "zeta": {"value": "zeta"}}


def test_outputs_are_told_apart_by_name(index: PlateIndex) -> None:
    outputs = evaluated(index, Pipeline(Step(REGISTRY["project_max"]), Step(twofold)), well())
    assert {record["value"] for record in outputs["zeta"].values()} == {"zeta"}
    assert {record["value"] for record in outputs["alpha"].values()} == {"alpha"}


@function()
def brightened(plane: Plane) -> Plane:
    """Add 1000."""
    return plane + np.uint16(1000)


@pytest.mark.parametrize(("otherwise", "gain"), [("pass", 0), ("drop", None)])
def test_other_channels_go_where_the_step_says(
    index: PlateIndex, otherwise: Otherwise, gain: int | None
) -> None:
    pipeline = Pipeline(
        Step(REGISTRY["project_max"]),
        Step(brightened, channel="DAPI", otherwise=otherwise),
        Step(level),
    )
    source = well(plane=lambda _: np.full((64, 64), 500, np.uint16))
    outputs = evaluated(index, pipeline, source)
    levels = {key.channel: record["mean"] for key, record in outputs["level"].items()}
    assert levels == {"DAPI": 1500} | ({} if gain is None else {"GFP": 500})
    assert {key.channel for key in outputs["brightened"]} == set(levels)


def test_a_step_may_look_at_the_planes_of_the_start_or_of_a_step(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(REGISTRY["project_max"]),
        Step(brightened, name="first"),
        Step(brightened, name="second"),
        Step(level, name="raw", input="start"),
        Step(level, name="early", input="step:first"),
        Step(level, name="late"),
    )
    source = well(plane=lambda key: np.full((64, 64), 500 + (key.z or 0), np.uint16))
    outputs = evaluated(index, pipeline, source)
    means = {
        name: sorted({record["mean"] for record in outputs[name].values()})
        for name in ("level", "level_early", "level_late")
    }
    assert means == {"level": [500, 501], "level_early": [1501], "level_late": [2501]}


def test_each_plane_is_read_once_by_the_default_chain(index: PlateIndex) -> None:
    source = well()
    pipeline = Pipeline(
        Step(REGISTRY["measure_image_quality"]),
        Step(REGISTRY["correct_illumination"], source="none"),
        Step(REGISTRY["project_max"]),
        Step(REGISTRY["stitch"], reference="DAPI"),
        Step(REGISTRY["segment_nuclei"], channel="DAPI"),
        Step(REGISTRY["measure_objects"]),
    )
    outputs = evaluated(index, pipeline, source)
    assert sorted(map(str, source.reads)) == sorted(map(str, source.keys()))
    assert set(outputs["image_quality"]) == set(source.keys())
    assert set(outputs["nuclei"]) == {GroupKey(t=0, channel="DAPI")}
    assert set(outputs["objects"]) == {GroupKey(t=0)}
    assert set(outputs["stitched"]) == {GroupKey(t=0, channel=c) for c in ("DAPI", "GFP")}


ALIVE: list[int] = []
MOST: list[int] = []


class Counted(np.ndarray[Any, Any]):
    """An array that says when it is gone."""

    def __del__(self) -> None:
        if self.base is None:
            ALIVE.pop()


def counted(plane: Plane) -> Plane:
    array = plane.copy().view(Counted).copy()
    ALIVE.append(1)
    MOST.append(len(ALIVE))
    return array


def test_a_projection_holds_one_plane_at_a_time(index: PlateIndex) -> None:
    class Counting(Well):
        def read(self, key: GroupKey) -> Plane:
            return counted(super().read(key))

    ALIVE.clear()
    MOST.clear()
    source = Counting(well(fields=2, z=12).planes)
    pipeline = Pipeline(Step(REGISTRY["measure_image_quality"]), Step(REGISTRY["project_max"]))
    evaluated(index, pipeline, source)
    assert len(MOST) == len(source.keys())
    assert max(MOST) <= 3  # the maximum so far, the plane before and the next one


@function(axes=Axes.ZSTACK)
def twice_over(stack: Stack) -> Plane:
    """Go through a stack two times."""
    first = [plane.mean() for plane in stack]
    return stack[int(np.argmax(first))]


def test_side_outputs_are_stored_once_however_often_planes_are_asked_for(
    index: PlateIndex,
) -> None:
    pipeline = Pipeline(Step(level), Step(twofold), Step(twice_over))
    outputs = evaluated(index, pipeline, well())
    assert len(outputs["level"]) == len(outputs["zeta"]) == 12


@function(axes=Axes.CHANNELS, collapses=frozenset())
def swapped(channels: Mapping[str, Plane]) -> Mapping[str, Plane]:
    """Give each channel the pixels of the other."""
    first, second = channels
    return {first: channels[second], second: channels[first]}


def test_a_function_of_channels_may_keep_them_apart(index: PlateIndex) -> None:
    pipeline = Pipeline(Step(REGISTRY["project_max"]), Step(swapped), Step(level))
    source = well(plane=lambda key: np.full((64, 64), len(key.channel or ""), np.uint16))
    outputs = evaluated(index, pipeline, source)
    assert {key.channel: record["mean"] for key, record in outputs["level"].items()} == {
        "DAPI": 3,
        "GFP": 4,
    }


@function(axes=Axes.FIELDS, outputs=(Output("places", Kind.RECORD),))
def places(tiles: Sequence[Tile]) -> Mapping[str, Any]:
    """Say where tiles lie."""
    return {f"x{tile.field}": tile.x_um for tile in tiles} | {"n": len(tiles)}


def test_fields_arrive_as_tiles_with_their_places(index: PlateIndex) -> None:
    outputs = evaluated(index, Pipeline(Step(places, channel="GFP")), well(z=1))
    assert outputs["places"] == {
        GroupKey(t=0, channel="GFP", z=0): {"x0": 0.0, "x1": 35.0, "x2": 70.0, "n": 3}
    }


@function()
def meddling(plane: Plane) -> Plane:
    """Write into what it is given."""
    plane += 1
    return plane


def test_what_goes_into_a_step_cannot_be_written_to(index: PlateIndex) -> None:
    plan = planned(index, Pipeline(Step(level), Step(level)))
    spec = spec_of(meddling)
    step = plan.steps[0]
    wrong = PlannedStep.from_json(
        step.to_json()
        | {"function": "meddling", "module": spec.call.__module__, "outputs": []}
        | {"gives_image": True}
    )
    source = well()
    before = {key: plane.copy() for key, plane in source.planes.items()}
    with pytest.raises(StepError, match="read-only"):
        Evaluation([wrong], source, Collected()).run()
    assert all(np.array_equal(source.planes[key], plane) for key, plane in before.items())


def planned(index: PlateIndex, pipeline: Pipeline) -> Plan:
    return compile_pipeline(pipeline, index)


def test_steps_that_are_taken_over_are_read_back_and_not_called(index: PlateIndex) -> None:
    steps = [
        Step(REGISTRY["measure_image_quality"]),
        Step(REGISTRY["project_max"]),
        Step(REGISTRY["stitch"]),
        Step(REGISTRY["segment_nuclei"], channel="DAPI"),
        Step(REGISTRY["measure_objects"]),
    ]
    whole = Collected()
    evaluated(index, Pipeline(*steps), well(), whole)
    earlier = dict.fromkeys([step.name for step in steps[:-1]], whole.outputs)
    again = Collected(earlier)
    source = well()
    evaluated(index, Pipeline(*steps), source, again)
    assert source.reads == []
    assert again.finished_steps == ["measure_objects"]
    assert content(again.outputs) == content({"objects": whole.outputs["objects"]})


def test_a_step_taken_over_is_called_again_only_if_its_image_is_needed(index: PlateIndex) -> None:
    pipeline = Pipeline(Step(REGISTRY["project_max"]), Step(REGISTRY["stitch"]))
    whole = Collected()
    evaluated(index, pipeline, well(), whole)
    again = Collected({"project_max": {}})
    source = well()
    evaluated(index, pipeline, source, again)
    assert len(source.reads) == len(source.keys())
    assert content(again.outputs) == content(whole.outputs)


def test_two_labels_for_one_group_are_an_error(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(REGISTRY["project_max"]),
        Step(REGISTRY["segment_nuclei"]),
        Step(REGISTRY["measure_objects"]),
    )
    with pytest.raises(ValueError, match="limit segment_nuclei to one channel"):
        compile_pipeline(pipeline, index)


@function(outputs=(Output("marks", Kind.LABELS), Output("levels", Kind.RECORD)))
def marks(plane: Plane) -> Mapping[str, Any]:
    """Number the only object after the level of the plane, which `well` makes of t."""
    return {
        "marks": np.where(plane > 0, plane, 0).astype(np.int32),
        "levels": {"level": int(plane.max())},
    }


@function(
    axes=Axes.TIME,
    outputs=(Output("seen", Kind.RECORD),),
    inputs={"labels": (Kind.LABELS, "marks"), "levels": (Kind.RECORD, "levels")},
)
def seen(planes: Stack, *, labels: Stack, levels: tuple[Mapping[str, int], ...]) -> dict[str, Any]:
    """Say what a function along time is handed."""
    assert [labels.numbers, labels.coordinates] == [planes.numbers, planes.coordinates]
    return {
        "numbers": str(labels.numbers),
        "coordinates": str(labels.coordinates),
        "labels": str([int(label.max()) for label in labels]),
        "levels": str([level["level"] for level in levels]),
    }


def by_time(key: GroupKey) -> Plane:
    return np.full((64, 64), 10 + (key.t or 0), np.uint16)


def test_labels_of_each_time_arrive_as_a_stack_in_order_of_time(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(REGISTRY["project_max"]),
        Step(marks, channel="GFP"),
        Step(seen, channel="GFP"),
    )
    outputs = evaluated(index, pipeline, well(fields=2, t=(5, 0, 2), plane=by_time))
    assert outputs["seen"] == {
        GroupKey(field=field, channel="GFP"): {
            "numbers": "(0, 2, 5)",
            "coordinates": "(0.0, 120.0, 300.0)",
            "labels": "[10, 12, 15]",
            "levels": "[10, 12, 15]",
        }
        for field in range(2)
    }


def test_labels_along_time_are_made_once_each_and_read_back_where_they_are_stored(
    index: PlateIndex,
) -> None:
    pipeline = Pipeline(
        Step(REGISTRY["project_max"]),
        Step(marks, channel="GFP"),
        Step(seen, channel="GFP"),
    )
    whole = Collected()
    source = well(fields=1, t=(0, 1), plane=by_time)
    evaluated(index, pipeline, source, whole)
    assert len(source.reads) == len(source.keys())
    again = Collected(dict.fromkeys(["project_max", "marks"], whole.outputs))
    source.reads.clear()
    evaluated(index, pipeline, source, again)
    assert source.reads == []
    assert content(again.outputs) == content({"seen": whole.outputs["seen"]})


def test_labels_of_another_channel_are_an_error_that_names_it(index: PlateIndex) -> None:
    pipeline = Pipeline(Step(REGISTRY["project_max"]), Step(marks, channel="GFP"), Step(seen))
    with pytest.raises(ValueError, match="limit seen to channel GFP"):
        compile_pipeline(pipeline, index)


@function(
    axes=Axes.CHANNELS,
    outputs=(Output("given", Kind.RECORD),),
    inputs={"labels": (Kind.LABELS, None)},
)
def given(channels: Mapping[str, Plane], *, labels: Plane | None = None) -> dict[str, Any]:
    """Say whether there were labels."""
    return {"channels": len(channels), "labels": 0 if labels is None else int(labels.max())}


def test_an_input_with_a_default_is_filled_where_a_step_gives_it(index: PlateIndex) -> None:
    before = [Step(REGISTRY["project_max"]), Step(marks, channel="GFP")]
    source = well(fields=1, plane=by_time)
    without = evaluated(index, Pipeline(before[0], Step(given)), source)
    filled = evaluated(index, Pipeline(*before, Step(given)), source)
    assert without["given"] == {GroupKey(t=0, field=0): {"channels": 2, "labels": 0}}
    assert filled["given"] == {GroupKey(t=0, field=0): {"channels": 2, "labels": 10}}


def test_a_pipeline_may_have_as_many_steps_as_are_allowed(index: PlateIndex) -> None:
    steps = [step for _ in range(100) for step in (Step(brightened), Step(swapped))]
    kept = Collected()
    evaluated(index, Pipeline(*steps), well(fields=1, z=1), kept)
    (images,) = kept.outputs.values()
    assert len(images) == 2
