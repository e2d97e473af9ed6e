"""What can be found before a pixel is read is found then, and all of it at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from openhcs._errors import CompileError
from openhcs.execution._image_group import group_of, is_of
from openhcs.execution._well_labels import label_name
from openhcs.functions import (
    Kind,
    Output,
    composite,
    correct_illumination,
    function,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
)
from openhcs.pipeline import (
    Pipeline,
    Step,
    compile_pipeline,
    default_pipeline,
    from_source,
    nuclear_channel,
    step_keys,
    well_keys,
)
from openhcs.plates import PlateFacts, PlateIndex, open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Plane = NDArray[Any]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compile") / "plate"
    synthetic_plate(folder, wells=("A01", "A02", "B03"), grid=(1, 2), z=2, size_px=64, seed=4)
    return folder


@pytest.fixture(scope="module")
def index(plate: Path) -> PlateIndex:
    return open_plate(plate, cache=False)


def changed(index: PlateIndex, **columns: Any) -> PlateIndex:
    """Give an index with some columns computed anew from the old ones."""
    from openhcs.plates._rows import COLUMNS

    new = {name: index.column(name) for name in COLUMNS}
    for name, change in columns.items():
        values = np.array(change(index), dtype=new[name].dtype)
        values.setflags(write=False)
        new[name] = values
    return PlateIndex(index.facts, new)


def problems(index: PlateIndex, *steps: Step, **options: Any) -> str:
    with pytest.raises(CompileError) as caught:
        compile_pipeline(Pipeline(*steps), index, **options)
    return str(caught.value)


def test_the_default_pipeline_compiles_and_says_what_is_stored(index: PlateIndex) -> None:
    plan = compile_pipeline(default_pipeline(index), index)
    assert plan.wells == ("A01", "A02", "B03")
    assert not plan.refused
    assert {step.name: step.image for step in plan.steps if step.image} == {"stitch": "stitched"}
    stored = {output.stored: output.kind for step in plan.steps for output in step.outputs}
    assert stored == {
        "image_quality": Kind.RECORD,
        "illumination": Kind.RECORD,
        "stitch_pairs": Kind.TABLE,
        "tiles": Kind.TABLE,
        "stitch": Kind.RECORD,
        "nuclei": Kind.LABELS,
        "objects": Kind.TABLE,
    }


def test_all_problems_are_listed_at_once(index: PlateIndex) -> None:
    text = problems(
        index,
        Step(project_max, channel="DAPY", otherwise="pass"),
        Step(measure_objects),
        Step(project_max, name="second", channel="GFP"),
        Step(measure_image_quality, keep=True),
    )
    assert text.startswith("4 problems")
    assert "project_max: there is no channel 'DAPY' here; did you mean 'DAPI'?" in text
    assert "measure_objects: it takes labels as labels, and no step before it gives that" in text
    assert "second: it changes images of GFP alone; say what becomes of DAPI" in text
    assert "measure_image_quality: keep=True, but it gives no images" in text


def test_steps_are_tried_also_where_a_later_one_has_a_problem(index: PlateIndex) -> None:
    text = problems(
        index,
        Step(project_max),
        Step(composite, weights={"DAPY": 1.0}),
        Step(segment_nuclei, channel="GFB"),
    )
    assert text.startswith("2 problems")
    assert "composite failed on" in text
    assert "'DAPY' is no channel" in text
    assert "segment_nuclei: there is no channel 'GFB'" in text


def test_labels_of_a_step_are_not_named_as_those_of_a_channel(index: PlateIndex) -> None:
    text = problems(
        index,
        Step(project_max),
        Step(segment_nuclei),
        Step(segment_nuclei, channel="GFP", name="DAPI"),
    )
    assert "DAPI: its labels would be stored under the name that nuclei of the channel" in text


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"wells": ["A04"]}, "no well 'A04'; did you mean"),
        ({"fields": [7]}, "no field 7; there are 0, 1"),
        ({"channels": ["gfp"]}, "no channel 'gfp'; there are"),
        ({"channels": [5]}, "no channel '5'"),
        ({"wells": []}, "no planes"),
        ({"missing": "drop"}, "missing is 'fail-well', 'skip-group' or 'fill=VALUE'"),
    ],
)
def test_a_selection_that_is_not_there_is_a_problem(
    index: PlateIndex, options: Mapping[str, Any], advice: str
) -> None:
    assert advice in problems(index, Step(project_max), **options)


def test_a_channel_that_is_not_there_makes_no_well_not_be_there(index: PlateIndex) -> None:
    with pytest.raises(CompileError) as caught:
        compile_pipeline(
            Pipeline(Step(project_max)), index, channels=["gfp"], wells=[index.wells[0]]
        )
    assert len(caught.value.problems) == 1


def test_a_selection_limits_the_plan(index: PlateIndex) -> None:
    plan = compile_pipeline(
        Pipeline(Step(project_max)), index, wells=["A02"], fields=[1], channels=["GFP"]
    )
    assert plan.wells == ("A02",)
    assert (plan.index.fields, plan.index.channels) == ((1,), (1,))
    by_number = compile_pipeline(Pipeline(Step(project_max)), index, channels=[1])
    assert by_number.index.channels == (1,)


def test_error_for_other_channels_is_one_only_where_there_are_others(index: PlateIndex) -> None:
    step = Step(project_max, channel="GFP", otherwise="error")
    assert "there are other channels: DAPI" in problems(index, step)
    compile_pipeline(Pipeline(step), index, channels=["GFP"])


def test_a_step_without_images_needs_no_word_on_other_channels(index: PlateIndex) -> None:
    compile_pipeline(Pipeline(Step(measure_image_quality, channel="GFP")), index)


def test_channels_that_were_dropped_are_not_there_later(index: PlateIndex) -> None:
    text = problems(
        index,
        Step(project_max, channel="GFP", otherwise="drop"),
        Step(segment_nuclei, channel="DAPI"),
    )
    assert "segment_nuclei: there is no channel 'DAPI' here; there are 'GFP'" in text


def test_an_unknown_pixel_size_is_refused_where_it_is_needed(index: PlateIndex) -> None:
    unknown = changed(
        index,
        pixel_um_y=lambda i: np.full(len(i), np.nan),
        pixel_um_x=lambda i: np.full(len(i), np.nan),
    )
    assert unknown.pixel_um is None
    assert "segment_nuclei: it needs the pixel size" in problems(
        unknown, Step(project_max), Step(segment_nuclei, channel="DAPI")
    )
    compile_pipeline(Pipeline(Step(project_max)), unknown)
    plan = compile_pipeline(
        Pipeline(Step(project_max), Step(segment_nuclei, channel="DAPI")),
        unknown,
        pixel_um=(0.5, 0.5),
    )
    assert plan.pixel_um == (0.5, 0.5)


def test_unknown_positions_are_refused_where_they_are_needed(index: PlateIndex) -> None:
    lost = changed(
        index,
        x_um=lambda i: np.where(i.column("well") == "A02", np.nan, i.column("x_um").astype(float)),
    )
    text = problems(lost, Step(project_max), Step(stitch))
    assert "it needs to know where fields lie" in text
    assert "well A02" in text
    assert "A01" not in text
    compile_pipeline(Pipeline(Step(project_max), Step(stitch)), lost, fields=[0])


def missing_one(index: PlateIndex) -> PlateIndex:
    def status(i: PlateIndex) -> Any:
        gone = (i.column("well") == "A02") & (i.column("field") == 1) & (i.column("channel") == 0)
        return np.where(gone & (i.column("z") == 1), "missing", i.column("status"))

    return changed(index, status=status)


def test_a_missing_plane_refuses_its_well_and_no_other(index: PlateIndex) -> None:
    plan = compile_pipeline(Pipeline(Step(project_max)), missing_one(index))
    assert plan.wells == ("A01", "A02", "B03")
    assert plan.refused == {"A02": "the plane of field 1, channel DAPI, z 1, t 0 is missing"}
    assert plan.index.wells == ("A01", "B03")


def test_a_missing_plane_may_cost_its_field_alone(index: PlateIndex) -> None:
    plan = compile_pipeline(Pipeline(Step(project_max)), missing_one(index), missing="skip-group")
    assert not plan.refused
    assert plan.skipped == {"A02": frozenset({(1, 0)})}


def test_a_plate_of_which_no_well_can_run_is_refused(index: PlateIndex) -> None:
    text = problems(missing_one(index), Step(project_max), wells=["A02"])
    assert "well A02: the plane of field 1" in text


def test_labels_need_an_image_to_lie_beside(index: PlateIndex) -> None:
    text = problems(index, Step(segment_nuclei, channel="DAPI"))
    assert "put a step that gives images before it" in text


def test_the_image_below_labels_is_stored(index: PlateIndex) -> None:
    plan = compile_pipeline(
        Pipeline(
            Step(project_max),
            Step(segment_nuclei, channel="DAPI"),
            Step(stitch),
        ),
        index,
    )
    stored = {step.name: (step.image, step.beside) for step in plan.steps}
    assert stored == {
        "project_max": ("projectmax", None),
        "segment_nuclei": (None, "projectmax"),
        "stitch": ("stitched", None),
    }


def test_what_learns_from_the_plate_comes_before_what_changes_images(index: PlateIndex) -> None:
    text = problems(index, Step(project_max), Step(correct_illumination))
    assert "it learns from the plate's own planes" in text


def test_a_source_that_the_plate_does_not_have_is_refused(index: PlateIndex) -> None:
    text = problems(index, Step(correct_illumination, source="vendor"))
    assert "brings no illumination profile" in text


def test_uneven_channels_cannot_be_stored_as_one_image(index: PlateIndex) -> None:
    text = problems(index, Step(project_max, channel="DAPI", otherwise="pass"))
    assert "channels differ in z" in text


def test_a_stitched_channel_beside_fields_of_others_is_found(index: PlateIndex) -> None:
    text = problems(index, Step(project_max), Step(stitch, channel="DAPI", otherwise="pass"))
    assert "stitch: its images are to be stored, but those of DAPI show all fields in one" in text


def test_labels_of_fields_for_an_image_of_the_whole_well_are_found(index: PlateIndex) -> None:
    text = problems(
        index,
        Step(project_max),
        Step(segment_nuclei, channel="DAPI"),
        Step(stitch),
        Step(measure_objects),
    )
    assert "segment_nuclei gives one for each field" in text


def test_a_pipeline_too_long_to_be_repeated_is_refused(index: PlateIndex) -> None:
    wells = ",".join([index.wells[0]] * 200)
    text = problems(index, *(Step(project_max, wells=wells) for _ in range(200)))
    assert "nobody could repeat the run" in text


def test_values_that_a_function_refuses_are_found(index: PlateIndex) -> None:
    text = problems(index, Step(project_max), Step(stitch, reference="Cy5"))
    assert "Cy5" in text


@function()
def scalar(plane: Plane) -> float:
    """Give no image."""
    return float(plane.mean())


@function(outputs=(Output("numbers", Kind.TABLE),))
def ragged(plane: Plane) -> Mapping[str, Plane]:
    """Give columns of unequal length."""
    return {"a": plane[0], "b": plane[0, :3]}


@function(outputs=(Output("one", Kind.RECORD), Output("two", Kind.RECORD)))
def halved(plane: Plane) -> Mapping[str, Mapping[str, int]]:
    """Give one of two outputs."""
    return {"one": {"n": len(plane)}}


@function(outputs=(Output("found", Kind.LABELS),))
def floating(plane: Plane) -> Plane:
    """Give labels that are no integers."""
    return plane.astype(np.float32)


@function()
def halffloat(plane: Plane) -> Plane:
    """Give a type that is not stored."""
    return plane.astype(np.float16)


@function()
def shape_shifting(plane: Plane) -> Plane:
    """Give images of unequal size."""
    return plane[: 32 + int(plane[0, 0]) % 30]


@function(outputs=(Output("record", Kind.RECORD),))
def secretive(plane: Plane) -> Mapping[str, Any]:
    """Give a record that is none."""
    return {"array": plane}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (scalar, "has to give an image"),
        (ragged, "differ in length"),
        (halved, "declares 'one', 'two'"),
        (floating, "has to be an integer array"),
        (secretive, "has to be a number, text"),
    ],
)
def test_a_function_that_gives_something_else_is_found_on_tiny_images(
    index: PlateIndex, wrong: Any, message: str
) -> None:
    text = problems(index, Step(project_max), Step(wrong), Step(scalar, name="also"))
    assert f"{wrong.__name__} failed on" in text
    assert message in text
    if wrong is not scalar:
        assert "also failed on" in text


def test_images_of_a_type_that_is_not_stored_are_found(index: PlateIndex) -> None:
    assert "cannot be stored" in problems(index, Step(project_max), Step(halffloat))
    text = problems(index, Step(project_max), Step(shape_shifting))
    assert "gives images of unlike kinds" in text


def test_names_of_outputs_and_steps_never_meet(index: PlateIndex) -> None:
    pipeline = Pipeline(
        Step(measure_image_quality),
        Step(project_max, keep=True),
        Step(measure_image_quality),
        Step(project_max, keep=True),
    )
    plan = compile_pipeline(pipeline, index)
    names = [step.name for step in plan.steps]
    assert names == [
        "measure_image_quality",
        "project_max",
        "measure_image_quality_2",
        "project_max_2",
    ]
    stored = [output.stored for step in plan.steps for output in step.outputs]
    assert stored == ["image_quality", "image_quality_measure_image_quality_2"]
    assert [step.image for step in plan.steps if step.image] == ["projectmax", "projectmax2v"]


def test_images_of_one_step_are_never_taken_for_fields_of_another(index: PlateIndex) -> None:
    names = ("blur", "blur1", "blur_1", "blur1v", "blur1v2v", "blurv")
    steps = [Step(project_max, name=name, keep=True) for name in names]
    images = [step.image for step in compile_pipeline(Pipeline(*steps), index).steps]
    groups = {
        (image, field): group_of(str(image), field) for image in images for field in (0, 1, 10)
    }
    assert len(set(groups.values())) == len(images) * 3
    for (image, _), group in groups.items():
        assert [other for other in images if is_of(group, other)] == [image]


def test_labels_of_channels_that_are_spelled_alike_have_names_of_their_own() -> None:
    channels = ("µm", "βm", "Cy 5")
    assert [label_name("nuclei", channel, channels) for channel in channels] == [
        "nuclei_-m-1",
        "nuclei_-m-2",
        "nuclei_Cy-5",
    ]
    assert label_name("nuclei", None, channels) == "nuclei"


def keys_of(index: PlateIndex, *steps: Step) -> dict[str, Mapping[str, str]]:
    plan = compile_pipeline(Pipeline(*steps), index)
    raw = well_keys(plan)
    return {well: step_keys(plan.steps, raw[well], {}) for well in plan.wells}


BASE = (
    Step(measure_image_quality),
    Step(project_max),
    Step(stitch),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)


def test_keys_change_downstream_of_a_parameter_and_nowhere_else(index: PlateIndex) -> None:
    before = keys_of(index, *BASE)
    after = keys_of(index, *BASE[:2], Step(stitch, least_ncc=0.4), *BASE[3:])
    for well in before:
        assert {name for name in before[well] if before[well][name] != after[well][name]} == {
            "stitch",
            "segment_nuclei",
            "measure_objects",
        }


def test_a_default_that_is_spelled_out_changes_no_key(index: PlateIndex) -> None:
    spelled = Step(stitch, least_ncc=0.3)
    assert keys_of(index, *BASE) == keys_of(index, *BASE[:2], spelled, *BASE[3:])


def test_keys_change_for_the_well_whose_file_changed(index: PlateIndex) -> None:
    def touched(i: PlateIndex) -> Any:
        first = np.flatnonzero(i.column("well") == "A02")[0]
        times = i.column("mtime_ns").copy()
        times[first] += 1
        return times

    before, after = keys_of(index, *BASE), keys_of(changed(index, mtime_ns=touched), *BASE)
    assert {well for well in before if before[well] != after[well]} == {"A02"}


@pytest.mark.parametrize("column", ["x_um", "z_um", "offset_counts"])
def test_keys_change_for_the_well_of_which_the_metadata_changed(
    index: PlateIndex, column: str
) -> None:
    def moved(i: PlateIndex) -> Any:
        values = i.column(column).copy()
        values[np.flatnonzero(i.column("well") == "A02")[0]] += 1
        return values

    before, after = keys_of(index, *BASE), keys_of(changed(index, **{column: moved}), *BASE)
    assert {well for well in before if before[well] != after[well]} == {"A02"}


@pytest.mark.parametrize(
    ("names", "waves", "chosen", "why"),
    [
        (("GFP", "Hoechst 33342"), (520.0, 460.0), "Hoechst 33342", "name"),
        (("w1", "w2"), (520.0, 460.0), "w2", "emission"),
        (("w1", "w2"), (np.nan, np.nan), "w1", "first"),
    ],
)
def test_the_nuclear_channel_is_chosen_and_the_choice_is_stated(
    index: PlateIndex, names: tuple[str, str], waves: tuple[float, float], chosen: str, why: str
) -> None:
    from dataclasses import replace

    emission = changed(
        index,
        emission_nm=lambda i: np.array(waves)[i.column("channel")],
        excitation_nm=lambda i: np.full(len(i), np.nan),
    )
    facts: PlateFacts = replace(index.facts, channel_names=names)
    plate = PlateIndex(facts, {n: emission.column(n) for n in _columns()})
    name, sentence = nuclear_channel(plate)
    assert (name, why in sentence) == (chosen, True)
    assert default_pipeline(plate).steps[3].parameters == {"reference": chosen}


def _columns() -> tuple[str, ...]:
    from openhcs.plates._rows import COLUMNS

    return tuple(COLUMNS)


def test_compiling_384_wells_takes_far_less_than_384_times_one(index: PlateIndex) -> None:
    wells = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
    one = index.select(wells=["A01"])
    copies = len(wells)
    columns = {name: np.tile(one.column(name), copies) for name in _columns()}
    columns["well"] = np.repeat(np.array(wells, dtype=object), len(one))
    columns["row"] = np.repeat(np.arange(copies, dtype=np.int32) // 24, len(one))
    columns["col"] = np.repeat(np.arange(copies, dtype=np.int32) % 24, len(one))
    large = PlateIndex(index.facts, columns)
    pipeline = default_pipeline(large)
    compile_pipeline(pipeline, index)

    def seconds(plate: PlateIndex) -> float:
        times = []
        for _ in range(3):
            started = time.process_time()
            compile_pipeline(pipeline, plate)
            times.append(time.process_time() - started)
        return min(times)

    assert len(large.wells) == 384
    assert seconds(large) < 384 / 4 * seconds(index)


def test_projections_are_used_for_a_channel_that_has_nothing_else(index: PlateIndex) -> None:
    def kind(i: PlateIndex) -> Any:
        return np.where(i.column("channel") == 1, "max", "plane")

    mixed = changed(index, kind=kind)
    plan = compile_pipeline(Pipeline(Step(project_max)), mixed)
    assert plan.index.channels == (0, 1)
    assert plan.notes == ("GFP has no single planes; its max images are used",)

    both = changed(index, kind=lambda i: np.where(i.column("z") == 1, "max", "plane"))
    plan = compile_pipeline(Pipeline(Step(project_max)), both)
    assert set(plan.index.column("kind").tolist()) == {"plane"}
    assert not plan.notes


def test_one_acquisition_is_used_at_a_time(index: PlateIndex) -> None:
    twice = changed(index, acquisition=lambda i: i.column("z"))
    assert "give acquisition=0 or 1" in problems(twice, Step(project_max))
    assert "no acquisition 3" in problems(twice, Step(project_max), acquisition=3)
    plan = compile_pipeline(Pipeline(Step(project_max)), twice, acquisition=1)
    assert plan.index.acquisitions == (1,)


def test_problems_of_a_pipeline_from_text_name_file_and_line(index: PlateIndex) -> None:
    text = (
        "pipeline = Pipeline(\n"
        '    Step(gaussian, channel="DAPY", otherwise="pass"),\n'
        "    Step(measure_objects),\n"
        ")\n"
    )
    with pytest.raises(CompileError) as caught:
        compile_pipeline(from_source(text, "assay.py"), index)
    first, second = caught.value.problems
    assert first.startswith("assay.py:2: gaussian: there is no channel 'DAPY'")
    assert second.startswith("assay.py:3: measure_objects: ")


def test_what_shows_on_tiny_images_names_file_and_line_too(index: PlateIndex) -> None:
    text = (
        "pipeline = Pipeline(\n"
        "    Step(project_max),\n"
        '    Step(stitch, reference="DAPY"),\n'
        '    Step(segment_nuclei, channel="DAPI", input="step:project_max"),\n'
        '    Step(measure_granularity, input="step:project_max", steps=32),\n'
        ")\n"
    )
    with pytest.raises(CompileError) as caught:
        compile_pipeline(from_source(text, "assay.py"), index)
    assert [problem[:11] for problem in caught.value.problems] == ["assay.py:3:", "assay.py:5:"]
    limited = (
        "pipeline = Pipeline(\n"
        "    Step(project_max),\n"
        f'    Step(segment_nuclei, channel="DAPI", wells="{index.wells[0]}"),\n'
        "    Step(measure_objects),\n"
        ")\n"
    )
    with pytest.raises(CompileError, match=r"assay.py:4: well .*: measure_objects takes nuclei"):
        compile_pipeline(from_source(limited, "assay.py"), index)


def test_a_setting_of_the_run_that_does_nothing_is_named(index: PlateIndex) -> None:
    pipeline = Pipeline(Step(project_max), missing="fail-well", keep=True)
    plan = compile_pipeline(pipeline, index, missing="skip-group", keep=True, otherwise="drop")
    (note,) = plan.notes
    assert note == "missing='skip-group' of the run does nothing: the pipeline has 'fail-well'"
