"""Pipeline text is read through an allow-list, written readably, and never executed."""

from __future__ import annotations

import ast
import inspect
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openhcs._errors import ParameterError, SourceError
from openhcs.codegen import (
    LARGEST_SOURCE_CHARACTERS,
    Call,
    Constructor,
    Name,
    Names,
    Reference,
    evaluate,
    render,
)
from openhcs.functions import REGISTRY, Kind, PlaneArray, function, gaussian, plain, segment_nuclei
from openhcs.pipeline import (
    Branch,
    Otherwise,
    Part,
    Pipeline,
    Route,
    Step,
    default_pipeline,
    from_source,
    load,
    to_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from openhcs.functions import Device


def _keywords(*arguments: object, **keywords: object) -> object:
    return arguments, keywords


NAMES: Names = {"box": {"Box": Constructor(_keywords), "thing": Reference("a thing")}}

literals = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(literals)
def test_a_literal_is_read_back_as_it_was_written(value: object) -> None:
    source = render("value", value)  # type: ignore[arg-type]  # what hypothesis makes is one
    assert evaluate(source, "f.py", NAMES, "value") == value
    assert ast.literal_eval(source.removeprefix("value = ").strip()) == value


@given(st.lists(literals, max_size=3), st.dictionaries(st.from_regex("[a-z]{1,8}_", fullmatch=True),
                                                       literals, max_size=3))  # fmt: skip
def test_a_call_is_read_back_as_it_was_written(
    arguments: list[object], keywords: dict[str, object]
) -> None:
    call = Call(Name("box", "Box"), tuple(arguments), keywords)  # type: ignore[arg-type]
    source = render("value", call)
    assert evaluate(source, "f.py", NAMES, "value") == (tuple(arguments), keywords)


def _is_plain(value: object) -> bool:
    try:
        plain(value)
    except TypeError:
        return False
    return True


@st.composite
def steps(draw: st.DrawFn) -> Step:
    spec = REGISTRY[draw(st.sampled_from(sorted(REGISTRY)))]
    parameters = {}
    for name, parameter in spec.parameters.items():
        if draw(st.booleans()):
            parameters[name] = draw(st.from_type(parameter.annotation).filter(_is_plain))
    channel = draw(st.none() | st.text(min_size=1, max_size=8) | st.just(("DAPI", "GFP")))
    routed = draw(st.booleans())
    inputs: dict[str, Any] = {name: "a_step.labels" for name in spec.inputs if draw(st.booleans())}
    return Step(
        spec,
        name=draw(st.none() | st.from_regex("[A-Za-z][A-Za-z0-9_]{0,10}", fullmatch=True)),
        channel=None if routed else channel,
        otherwise=draw(otherwises) if channel and not routed else None,
        input=draw(st.sampled_from([None, "start"])),
        keep=draw(st.none() | st.booleans()),
        device=draw(devices),
        wells=draw(st.none() | st.just("A01,B*")),
        **parameters,
        **inputs,
    )


devices: st.SearchStrategy[Device | None] = st.sampled_from([None, "cpu", "gpu"])
otherwises: st.SearchStrategy[Otherwise | None] = st.sampled_from([None, "pass", "drop", "error"])
names = st.none() | st.from_regex("[a-z][a-z0-9_]{0,10}", fullmatch=True)


def parts(inside: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    several = st.lists(inside, min_size=1, max_size=3)
    pipelines = st.builds(
        lambda made, **settings: Pipeline(*made, **settings),
        several,
        keep=st.none() | st.booleans(),
        otherwise=otherwises,
        device=devices,
        wells=st.none() | st.just("A01-C04"),
        name=names,
    )
    return pipelines | several.map(lambda made: Branch(*made))


def routes(inside: st.SearchStrategy[Part]) -> st.SearchStrategy[Part]:
    unrouted = inside.filter(_chooses_no_channel)
    return st.builds(
        lambda branches, otherwise: Route(branches, otherwise=otherwise),
        st.dictionaries(st.text(min_size=1, max_size=8), unrouted, min_size=1, max_size=3),
        otherwise=st.sampled_from(["pass", "drop", "error"]) | unrouted,
    )


def _chooses_no_channel(part: Part) -> bool:
    if isinstance(part, Step):
        return part.channel is None
    return not isinstance(part, Route) and all(map(_chooses_no_channel, part.parts))


nested = st.recursive(steps(), parts, max_leaves=4)
whole = st.builds(
    lambda made, **settings: Pipeline(*made, **settings),
    st.lists(nested | routes(nested), min_size=1, max_size=3),
    keep=st.none() | st.booleans(),
    otherwise=otherwises,
    missing=st.sampled_from([None, "fail-well", "skip-group", "fill=0", "fill=-0.5"]),
    pixel_um=st.none() | st.just((0.5, 0.65)),
)


@pytest.mark.filterwarnings("ignore:Ignoring unsupported Unit")  # of values, which it leaves be
@given(whole)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_pipeline_is_read_back_as_it_was_written(pipeline: Pipeline) -> None:
    source = to_source(pipeline)
    again = from_source(source)
    assert again == pipeline
    assert again.flat == pipeline.flat
    assert to_source(again) == source


def test_the_default_pipeline_reads_as_the_documentation_shows_it() -> None:
    assert to_source(default_pipeline()).endswith(
        """
pipeline = Pipeline(
    Step(measure_image_quality),
    Step(correct_illumination),
    Step(project_max),
    Step(stitch, reference="DAPI"),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)
"""
    )
    assert from_source(to_source(default_pipeline())) == default_pipeline()


def test_imports_may_be_left_out_and_values_may_have_names() -> None:
    source = (
        '"""Nuclei."""\nnuclear = "DAPI"\npipeline = Pipeline(Step(stitch, reference=nuclear))\n'
    )
    assert from_source(source).steps[0].parameters == {"reference": "DAPI"}


def test_a_long_call_is_broken_one_argument_to_a_line() -> None:
    words = {f"argument_{n}_": "x" * 30 for n in range(4)}
    source = render("value", Call(Name("box", "Box"), (), words))
    assert max(map(len, source.splitlines())) <= 100
    assert evaluate(source, "f.py", NAMES, "value") == ((), words)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_has_no_literal_form_is_not_written(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        render("value", value)  # type: ignore[arg-type]  # the point of the test


REFUSED = [
    ("import os", "1:1"),
    ("import os\npipeline = 1", "1:1"),
    ("from os import system", "1:1"),
    ("from openhcs import *", "1:21"),
    ("from openhcs.functions import stich", "1:31"),
    ("from openhcs.functions import stitch as s", "1:31"),
    ("from . import functions", "1:1"),
    ("pipeline = __import__('os').system('true')", "1:12"),
    ("pipeline = Pipeline.__class__", "1:12"),
    ("pipeline = ().__class__.__bases__[0].__subclasses__()", "1:12"),
    ("pipeline = (lambda: 1)()", "1:13"),
    ("pipeline = [Step for Step in ()]", "1:12"),
    ("pipeline = f'{stitch}'", "1:12"),
    ("pipeline = Pipeline(*[Step(stitch)])", "1:21"),
    ("pipeline = Pipeline(**{})", "1:21"),
    ("pipeline = 2 ** 999999999", "1:12"),
    ("pipeline = 'a' * 999999999", "1:12"),
    ("pipeline = 1e999", "1:12"),
    ("pipeline = --1", "1:12"),
    ("pipeline = 10 ** 5", "1:12"),
    ("pipeline = b'bytes'", "1:12"),
    ("pipeline = ...", "1:12"),
    ("pipeline = stitch()", "1:12"),
    ("pipeline = Step", "1:12"),
    ("Step = 1", "1:1"),
    ("a = b = 1", "1:1"),
    ("a, b = 1, 2", "1:1"),
    ("pipeline: int = 1", "1:1"),
    ("pipeline += 1", "1:1"),
    ("__builtins__ = 1", "1:1"),
    ("del pipeline", "1:1"),
    ("while True: pass", "1:1"),
    ("def f(): pass", "1:1"),
    ("class A: pass", "1:1"),
    ("print(1)", "1:1"),
    ("pipeline = {**{}}", "1:12"),
    ("pipeline = {'a': 1, 'a': 2}", "1:21"),
    ("pipeline = Pipeline()", "1:12"),
    ("pipeline = Pipeline(1)", "1:21"),
    ("pipeline = Pipeline(steps=1)", "1:21"),
    ("pipeline = Pipeline(Step())", "1:21"),
    ("pipeline = Pipeline(Step(stitch, 1))", "1:34"),
    ("pipeline = Pipeline(Step(stitch, reference='a', reference='b'))", "1:49"),
    ("pipeline = Pipeline(Step(stitch, keep='yes'))", "1:34"),
    ("pipeline = Pipeline(Step(stitch, channel=3))", "1:34"),
    ("pipeline = Pipeline(Step(stitch, input='step:'))", "1:34"),
    ("pipeline = Pipeline(Step(project_max), Step(stitch, input='step:projectmax'))", "1:40"),
    ("pipeline = Pipeline(Step(project_max, otherwise='pass'))", "1:39"),
    ("pipeline = Pipeline(Step(stitch, function=1))", "1:34"),
    ("pipeline = Pipeline(Step(stitch, place=1))", "1:34"),
    ("pipeline = Pipeline(Step(stitch, self=1))", "1:34"),
    ("pipeline = Pipeline(Step(adapt(libraries=1)))", "1:26"),
    ("pipeline = Pipeline(Route({'A': Step(project_max)}, otherwise=None))", "1:53"),
    ("route = Route({'A': Step(project_max)}, otherwise={})", "1:41"),
    ("pipeline = Pipeline(\n    Step(stitch),\n    Step(stitch, reference=3),\n)", "3:18"),
    ("plan = Pipeline(Step(stitch))", "1:1"),
    ("pipeline = 1", "1:1"),
    ("pipeline = Pipeline(Step(stitch)", "1:20"),
    ("pipeline = (" + "(" * 150 + ")" * 151, "1:"),
    ("pipeline = " + "[" * 60 + "]" * 60, "1:"),
    ("pipeline = " + "-" * 50_000 + "1", "1:"),
    ("pipeline = " + "not " * 15_000 + "1", "1:"),
    ("pipeline = 1" + "+1" * 30_000, "1:"),
    ("pipeline = a" + ".a" * 30_000, "1:"),
    ("pipeline = [" + "1," * 20_000 + "]", "1:12"),
    ("pipeline = '" + "a" * 10_000_000 + "'", "1:1"),
    ("pipeline = " + "9" * 10_000, "1:"),
    ("pipeline = '\x00'", "1:"),
    ("", "1:1"),
]


@pytest.mark.req("002.13")
@pytest.mark.parametrize(("source", "place"), REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_anything_else_is_refused_with_its_place(source: str, place: str) -> None:
    with pytest.raises(SourceError) as caught:
        from_source(source, "mine.py")
    assert str(caught.value).startswith(f"mine.py:{place}")


def test_nothing_in_the_text_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for source in (
        f"pipeline = open({str(mark)!r}, 'w')",
        f"pipeline = Pipeline(Step(stitch, reference=open({str(mark)!r}, 'w').name))",
        f"open({str(mark)!r}, 'w')",
        f"@open\ndef {mark.name}(): pass",
    ):
        with pytest.raises(SourceError):
            from_source(source)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("pipeline = Pipeline(Step(stich))", "did you mean 'stitch'?"),
        ("pipeline = Pipline(Step(stitch))", "did you mean 'Pipeline'?"),
        ("from openhcs.function import stitch", "did you mean 'openhcs.functions'?"),
        ("pipeline = Pipeline(Step(stitch, referense='DAPI'))", "did you mean 'reference'?"),
        ("pipeline = Pipeline(Step(stitch, reference=1.5))", "is str or tuple[str, ...] or None"),
        ("pipeline = Pipeline(Step(correct_illumination, source='vendr'))", "mean 'vendor'?"),
        ("pipeline = Pipeline(Step(project_max, channel='A', otherwise='drp'))", "mean 'drop'?"),
        (
            "pipeline = Pipeline(Step(project_max), Step(stitch, input='step:project'))",
            "project_max",
        ),
        ("pipeline = Pipeline(stitch)", "write Step(...)"),
        ("pipe = Pipeline(Step(stitch))", "only to 'pipe'"),
    ],
)
def test_a_refusal_says_what_to_write(source: str, advice: str) -> None:
    with pytest.raises(SourceError) as caught:
        from_source(source)
    assert advice in str(caught.value)


def test_text_longer_than_the_limit_is_not_even_parsed() -> None:
    started = time.process_time()
    with pytest.raises(SourceError, match="characters"):
        from_source("(" * (LARGEST_SOURCE_CHARACTERS + 1))
    longest = time.process_time() - started
    started = time.process_time()
    ast.parse(inspect.getsource(inspect))
    assert longest < time.process_time() - started


def test_a_file_is_read_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(to_source(default_pipeline()))
    assert load(path) == default_pipeline()
    path.write_text("pipeline = Pipeline(Step(nothing))")
    with pytest.raises(SourceError, match=r"mine\.py:1:26"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="UTF-8"):
        load(path)


def test_what_a_constructor_refuses_is_reported_at_the_argument() -> None:
    def build(**keywords: object) -> object:
        message = f"no {sorted(keywords)}"
        raise ParameterError(message, "second")

    names: Names = {"box": {"Box": Constructor(build)}}
    with pytest.raises(SourceError, match=r"f\.py:2:3: no"):
        evaluate("value = Box(first=1,\n  second=2)", "f.py", names, "value")


def test_every_problem_of_a_text_is_told_at_once_with_its_line() -> None:
    text = (
        "from openhcs import Pipeline, Step\n"
        "from openhcs.functions import gausian\n"
        "pipeline = Pipeline(\n"
        "    Step(gaussian, sigma_um=-1.0),\n"
        "    Step(project_max, kep=True),\n"
        "    Step(segment_nuclei, threshold=1 + 1),\n"
        ")\n"
    )
    with pytest.raises(SourceError) as caught:
        from_source(text, "p.py")
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "p.py:2:31",
        "p.py:4:20",
        "p.py:5:23",
        "p.py:6:36",
    ]
    assert "more than 0 µm, not -1.0" in lines[1]


def test_every_argument_that_is_wrong_is_told_at_once() -> None:
    text = (
        "pipeline = Pipeline(\n"
        '    Step(gaussian, name="a b", sigma_um=0, sigma_px=1, keep=1, device="tpu"),\n'
        ")\n"
    )
    with pytest.raises(SourceError) as caught:
        from_source(text, "p.py")
    told = [line.partition(": ")[2].partition(" ")[0] for line in str(caught.value).splitlines()]
    assert sorted(told) == ["a", "device", "gaussian", "keep", "sigma_um"]
    settings = 'pipeline = Pipeline(Step(gaussian), missing="none", device="tpu", pixel_um=1)\n'
    with pytest.raises(SourceError) as caught:
        from_source(settings, "p.py")
    columns = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert columns == ["p.py:1:37", "p.py:1:67", "p.py:1:53"]


def test_every_step_that_stands_at_no_place_is_told_at_once() -> None:
    text = (
        "pipeline = Pipeline(\n"
        '    Step(gaussian, input="step:stitch"),\n'
        "    Branch(\n"
        '        Route({"DAPI": Step(median, channel="DAPI")}, otherwise="pass"),\n'
        '        Step(segment_nuclei, input="step:gaussian"),\n'
        "    ),\n"
        '    Step(measure_objects, input="step:gausian"),\n'
        ")\n"
    )
    with pytest.raises(SourceError) as caught:
        from_source(text, "p.py")
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["p.py:2:5", "p.py:3:5", "p.py:7:5"]
    assert lines[2].endswith("did you mean 'step:gaussian'?")
    with pytest.raises(ParameterError) as refused:
        Step(gaussian, keep=1, wells=2)  # type: ignore[arg-type]  # both are wrong
    assert len(refused.value.__notes__) == 1


def test_a_name_that_cannot_be_imported_is_told_once() -> None:
    text = (
        "from openhcs.functions import stich, median as middle\n"
        "pipeline = Pipeline(Step(stich), Step(middle), Step(stich()))\n"
    )
    with pytest.raises(SourceError) as caught:
        from_source(text, "p.py")
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    "text",
    [
        "a = (1,)\nb = (" + "a, " * 100 + ")\nc = (" + "b, " * 200 + ")\nvalue = 1",
        f"a = {'x' * 2000!r}\nvalue = (" + "a, " * 1000 + ")",
        "a = (1,)\n" + "a = (a,)\n" * 400 + "value = 1",
    ],
    ids=["names of names", "long texts", "a chain"],
)
def test_a_short_text_stands_for_no_more_than_a_long_one_could(text: str) -> None:
    with pytest.raises(SourceError, match=r"f\.py:\d+:\d+: the text stands for more than"):
        evaluate(text, "f.py", NAMES, "value")


def test_many_problems_are_told_up_to_a_number() -> None:
    text = "".join(f"value{number} = unknown{number}\n" for number in range(500))
    with pytest.raises(SourceError) as caught:
        evaluate(text, "f.py", NAMES, "value")
    lines = str(caught.value).splitlines()
    assert len(lines) == 51
    assert lines[0].startswith("f.py:1:10: unknown name 'unknown0'")
    assert "not read" in lines[-1]


def test_a_pipeline_of_too_many_steps_or_too_deep_is_refused() -> None:
    step = Step(REGISTRY["project_max"].call)
    few = Pipeline(*[step] * 100)
    assert len(Pipeline(*[few] * 2)) == 200
    with pytest.raises(ParameterError, match="at most 200 steps"):
        Pipeline(*[few] * 2, step)
    with pytest.raises(ParameterError, match="at most 200 steps"):
        Pipeline(*[Branch(few, few)] * 6)
    deep: Part = step
    for _ in range(33):
        deep = Pipeline(deep)
    with pytest.raises(ParameterError, match="deep"):
        Pipeline(deep)


def _reader(names: Names) -> Callable[[str], object]:
    return lambda text: evaluate(text, "f.py", names, "value")


def test_a_name_of_two_modules_stands_for_what_is_imported() -> None:
    read = _reader({"one": {"f": Reference(1)}, "two": {"f": Reference(2), "g": Reference(3)}})
    assert read("from one import f\nvalue = f") == 1
    assert read("from two import g, f\nvalue = f") == 2
    assert read("value = g") == 3
    with pytest.raises(SourceError, match=r"f\.py:1:9: 'f' is in 'one' and in 'two': import it"):
        read("value = f")
    with pytest.raises(SourceError, match=r"f\.py:2:17: 'f' is imported from 'two' already"):
        read("from two import f\nfrom one import f\nvalue = f")


def test_a_function_called_as_another_is_never_taken_for_it() -> None:
    @function()
    def gaussian_px(plane: PlaneArray) -> PlaneArray:
        """Do something else."""
        return plane

    text = "from openhcs.functions import gaussian_px\npipeline = Pipeline(Step(gaussian_px))"
    assert from_source(text, functions=[gaussian_px]).steps[0].spec is REGISTRY["gaussian_px"]
    with pytest.raises(ValueError, match=r"'gaussian_px' of .* rename one of them"):
        to_source(Pipeline(Step(gaussian_px), Step(REGISTRY["gaussian_px"])))


@pytest.mark.parametrize("value", [np.str_("it's"), np.float64(0.5), Kind.LABELS])
def test_a_value_of_a_type_that_others_derive_is_written_as_it_is_read(value: Any) -> None:
    read = evaluate(render("value", (value,)), "f.py", {}, "value")
    assert read == (value,)
    assert [type(each) for each in read] in ([str], [float])


def test_a_channel_named_by_an_array_of_text_is_read_back() -> None:
    step = Step(segment_nuclei, channel=np.array(["DAPI"])[0])
    assert from_source(to_source(Pipeline(step))) == Pipeline(step)


def test_the_largest_and_the_deepest_pipeline_are_read_back() -> None:
    step = Step(gaussian, channel="DAPI", otherwise="pass", sigma_um=0.5)
    pipeline = Pipeline(*[step] * 200)
    assert from_source(to_source(pipeline)) == pipeline
    pipeline = Pipeline(Route({"GFP": Step(gaussian, sigma_um=0.5)}, otherwise="pass"))
    for _ in range(31):
        pipeline = Pipeline(pipeline)
    assert from_source(to_source(pipeline)) == pipeline
