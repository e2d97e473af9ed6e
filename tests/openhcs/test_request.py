"""What is to be run on what, as source: written, read, compiled and repeated without loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openhcs import Pipeline, RunRequest, Settings, Step
from openhcs._errors import ParameterError, SourceError
from openhcs.cli import main
from openhcs.functions import gaussian, project_max
from openhcs.pipeline import (
    compile_pipeline,
    default_pipeline,
    from_source,
    load,
    load_request,
    to_source,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from openhcs.pipeline import Plan

GOLDEN = Path(__file__).parent / "golden"
texts = st.text(min_size=1, max_size=30)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


lengths = st.floats(0.001, 1e3)
requests = st.builds(
    RunRequest,
    plate=texts,
    pipeline=maybe(st.just(default_pipeline())),
    format=maybe(texts),
    pattern=maybe(texts),
    files=maybe(texts),
    plate_size=maybe(st.tuples(st.integers(1, 32), st.integers(1, 48))),
    platemap=maybe(texts),
    duplicates=st.sampled_from([None, "error", "newest", "first"]),
    include_unlisted=maybe(st.booleans()),
    wells=maybe(texts),
    fields=maybe(st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple)),
    channels=maybe(st.lists(texts, min_size=1, max_size=3).map(tuple)),
    acquisition=maybe(st.integers(0, 5)),
    settings=st.builds(
        Settings,
        keep=maybe(st.booleans()),
        otherwise=st.sampled_from([None, "pass", "drop", "error"]),
        missing=st.sampled_from([None, "fail-well", "skip-group", "fill=0", "fill=-0.5"]),
        pixel_um=maybe(st.tuples(lengths, lengths)),
    ),
)


@given(requests)
@settings(max_examples=100, deadline=None)
def test_a_request_is_read_back_as_it_was_written(request: RunRequest) -> None:
    source = request.to_source()
    again = RunRequest.from_source(source)
    assert again == request
    assert again.to_source() == source


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("request") / "plate"
    synthetic_plate(folder, wells=("A01", "A02", "B01"), grid=(1, 2), z=2, size_px=64, seed=2)
    return folder


def same(one: Plan, other: Plan) -> bool:
    names = ("pipeline", "source", "steps", "wells", "fields", "channels", "pixel_um", "missing")
    return one.index == other.index and all(
        getattr(one, name) == getattr(other, name) for name in (*names, "settings", "run")
    )


def test_a_plan_is_made_again_from_its_source(plate: Path) -> None:
    pipeline = Pipeline(Step(project_max), Step(gaussian, channel="DAPI"))
    request = RunRequest(
        plate=str(plate),
        pipeline=pipeline,
        wells="A*",
        fields=(1,),
        settings=Settings(otherwise="drop", missing="skip-group", pixel_um=(0.5, 0.5)),
    )
    plan = request.plan()
    assert plan.wells == ("A01", "A02")
    assert same(RunRequest.from_source(request.to_source()).plan(), plan)
    direct = compile_pipeline(
        pipeline,
        open_plate(plate, cache=False),
        wells=["A01", "A02"],
        fields=[1],
        otherwise="drop",
        missing="skip-group",
        pixel_um=(0.5, 0.5),
    )
    assert same(direct, plan)


def test_source_of_version_0_1_is_still_read() -> None:
    pipeline = load(GOLDEN / "pipeline_0_1.py")
    assert pipeline.names == (
        "measure_image_quality",
        "correct_illumination",
        "project_max",
        "stitch",
        "gaussian",
        "subtract_background",
        "sharp",
        "segment_nuclei",
        "segment_cells",
        "of_cells",
        "last",
    )
    assert from_source(to_source(pipeline)) == pipeline
    request = load_request(GOLDEN / "request_0_1.py")
    assert request.settings.pixel_um == (0.5, 0.5)
    assert RunRequest.from_source(request.to_source()) == request


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("request = RunRequest(wells='A01')", "needs plate="),
        ("request = RunRequest('p')", "name=value"),
        ("request = RunRequest(plate=1, pipeline=Pipeline(Step(stitch)))", "name of a folder"),
        ("request = RunRequest(plat='p')", "has no 'plat'; there are plate, pipeline"),
        ("request = Pipeline(Step(stitch))", "is no RunRequest"),
        ("request = open('/etc/passwd')", "nothing that may be called"),
        ("request = Settings(missing='skip-groups')", "did you mean 'skip-group'?"),
    ],
)
def test_what_is_no_request_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(SourceError) as caught:
        RunRequest.from_source(text, "r.py")
    assert str(caught.value).startswith("r.py:1:")
    assert told in str(caught.value)


def test_values_of_other_types_are_refused() -> None:
    pipeline = default_pipeline()
    with pytest.raises(ParameterError, match="rows and columns"):
        RunRequest(plate="p", pipeline=pipeline, plate_size=(1, 2, 3))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="tuple of int"):
        RunRequest(plate="p", pipeline=pipeline, fields=("a",))  # type: ignore[arg-type]


def test_a_plan_is_printed_as_a_request_and_run_from_it(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.py").write_text(to_source(Pipeline(Step(project_max))), "utf-8")
    words = [str(plate), str(tmp_path / "p.py"), "--wells", "A*", "--fields", "1"]
    assert main(["plan", *words, "--out", str(tmp_path / "out"), "--source"]) == 0
    source = capsys.readouterr().out
    (tmp_path / "request.py").write_text(source, "utf-8")
    assert load_request(tmp_path / "request.py").wells == "A*"
    again = ["--request", str(tmp_path / "request.py"), "--out", str(tmp_path / "out")]
    assert main(["plan", *again, "--source"]) == 0
    assert capsys.readouterr().out == source
    assert main(["run", *again, "--workers", "1"]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["options"]["wells"] == ["A01", "A02"]
    assert record["options"]["fields"] == [1]
    for words, told in (([str(plate)], "plate"), (["--wells", "A01"], "--wells")):
        assert main(["run", *words, *again]) == 2
        assert f"{told} is given beside it" in capsys.readouterr().err
