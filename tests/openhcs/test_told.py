"""What a run tells people while it goes on, and at its end."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from openhcs.cli._progress import RunDisplay
from openhcs.execution import run
from openhcs.functions import correct_illumination
from openhcs.pipeline import (
    Event,
    Pipeline,
    PreparationFinished,
    RunStarted,
    Step,
    WellRetried,
    WellStarted,
    compile_pipeline,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path


def told(*events: Event) -> list[str]:
    """Give the lines that events are shown as where there is no terminal."""
    out = io.StringIO()
    with RunDisplay(Console(file=out, width=200, highlight=False, markup=False)) as display:
        for event in events:
            display(event)
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate with fewer fields than an illumination can be learned from."""
    folder = tmp_path_factory.mktemp("told") / "few"
    return synthetic_plate(folder, wells=("A01", "A02"), grid=(1, 1), z=1, size_px=64).folder


def test_where_nothing_is_learned_no_time_is_told_and_the_channels_are(
    few: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    plan = compile_pipeline(Pipeline(Step(correct_illumination, keep=True)), open_plate(few))
    run(plan, tmp_path / "out", workers=1, on_event=events.append)
    (learned,) = [event for event in events if isinstance(event, PreparationFinished)]
    assert (learned.planes, set(learned.without)) == (0, {"DAPI", "GFP"})
    (line,) = told(learned)
    assert line.startswith("correct_illumination, DAPI, GFP: no vendor profile, and fewer than")
    assert "correct_illumination: nothing to learn" in (tmp_path / "out" / "run.log").read_text()


def test_what_was_learned_is_told_with_its_planes() -> None:
    fresh = PreparationFinished(step="even", seconds=2.5, reused=False, planes=1)
    assert told(fresh) == ["even: learned from 1 plane in 2.5 s"]
    assert told(PreparationFinished(step="even", seconds=0.0, reused=True, planes=9)) == []


def test_a_second_try_is_told_when_it_waits_and_when_it_begins(tmp_path: Path) -> None:
    begun = RunStarted(
        run_id="r", out=tmp_path, wells=("A01", "A02"), done=(), steps=("stitch",), workers=1
    )
    lost = WellRetried(well="A01", reason="the worker process was ended by SIGKILL")
    lines = told(begun, WellStarted(well="A01", worker=0, attempt=1), lost)
    assert lines == ["A01: the worker process was ended by SIGKILL; it waits for its second try"]
    between = WellStarted(well="A02", worker=0, attempt=1)
    again = WellStarted(well="A01", worker=0, attempt=2)
    assert told(begun, lost, between, again)[1:] == ["A01: begun again"]


def test_one_of_a_kind_is_one(tmp_path: Path) -> None:
    begun = RunStarted(run_id="r", out=tmp_path, wells=("A01",), done=("A01",), steps=(), workers=1)
    assert told(begun) == ["1 of 1 well is finished and unchanged"]
