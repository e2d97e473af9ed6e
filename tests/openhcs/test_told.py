"""What a run tells people while it goes on, and at its end."""

from __future__ import annotations

import errno
import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from openhcs.cli import main
from openhcs.cli._progress import RunDisplay
from openhcs.execution import run
from openhcs.functions import correct_illumination, project_max, segment_nuclei
from openhcs.pipeline import (
    Event,
    Outcome,
    Pipeline,
    PreparationFinished,
    RunStarted,
    Step,
    WellRetried,
    WellStarted,
    compile_pipeline,
    to_source,
)
from openhcs.plates import open_plate
from openhcs.testing import synthetic_plate
from polystore import NotWrittenError

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


def _full(*_: object, **__: object) -> None:
    message = "the/file was not written: No space left on device; make room"
    raise NotWrittenError(errno.ENOSPC, message)


def test_a_full_disk_names_the_image_that_was_not_stored_and_its_file(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(Step(project_max, keep=True), Step(segment_nuclei, channel="DAPI"))
    monkeypatch.setattr("polystore.omezarr.ImageWriter.write_plane", _full)
    with ThreadPoolExecutor(1) as executor:
        plan = compile_pipeline(pipeline, open_plate(few))
        result = run(plan, tmp_path / "out", executor=executor)
    first = next(well for well in result.wells if well.outcome is Outcome.FAILED)
    error = str(first.error)
    assert error.startswith("the image projectmax of project_max was not stored, ")
    assert error.endswith("the/file was not written: No space left on device; make room")
    assert "segment_nuclei" not in error
    assert "is full: free space and give the same command" in str(result.reason)


def test_a_disk_that_is_full_at_the_end_is_said_once_and_not_hidden_by_the_report(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = tmp_path / "pipeline.py"
    pipeline.write_text(to_source(Pipeline(Step(project_max, keep=True))), "utf-8")
    words = ["run", str(few), str(pipeline), "--out", str(tmp_path / "out"), "--workers", "1"]
    with monkeypatch.context() as patched:
        patched.setattr("openhcs.execution._course.write_wells", _full)
        assert main(words) == 1
    out = capsys.readouterr().out
    assert "out is full: free space and give the same command, which goes on" in out
    assert "Report:  not written: the run ended before there was one to write" in out
    assert "no finished run" not in out
    assert main(words) == 0
    assert "2 of 2 wells are finished and unchanged" in capsys.readouterr().out


def test_a_doubtful_nuclear_channel_is_warned_of_at_the_end_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plate, out = tmp_path / "plate", tmp_path / "out"
    synthetic_plate(plate, wells=("A01",), grid=(1, 1), z=1, size_px=64, channels=("W1", "W2"))
    warning = "W1 is taken for the nuclei because its emission is the shortest, and no channel"
    assert main(["plan", str(plate), "--out", str(out)]) == 0
    assert f"Warning: {warning}" in capsys.readouterr().out
    for words in (["run", str(plate), "--out", str(out)], ["run", "--again", str(out)]):
        assert main([*words, "--workers", "1"]) == 0
        ending = capsys.readouterr().out.partition("\n1 well: 1 ok")[2]
        assert f"Warning: {warning}" in ending
        page = (out / "report.html").read_text("utf-8")
        assert f"<b>Warning</b> {warning}" in page


def test_a_channel_named_after_nuclei_is_not_warned_of(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(few), "--out", str(tmp_path / "out")]) == 0
    assert "Warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "failed"], "openhcs run: there is no --only; openhcs run --help tells more"),
        (["--forced"], "there is no --forced; did you mean --force? openhcs run --help"),
        (["pipeline.py", "--out", "out", "more"], "'more' is one word too many"),
    ],
)
def test_a_word_that_a_command_does_not_know_is_named_with_the_one_that_was_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "plate", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wells", "B07"], "'B07' names no well of this plate; it has A01, A02"),
        (["--fields", "0-40"], "the plate has no fields 1, 2, 3, 4, 5, 6, 7, 8 and more"),
        (["--fields", "4"], "the plate has no field 4; there are 0"),
    ],
)
def test_what_a_plate_does_not_have_is_said_in_one_line_with_what_it_has(
    words: list[str], said: str, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(few), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_plan_refuses_the_folders_that_a_run_refuses_and_makes_none(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").touch()
    for out, said in ((tmp_path, "holds other things"), (few / "out", "lies in the plate's own")):
        for command in ("plan", "run"):
            assert main([command, str(few), "--out", str(out)]) == 2
            assert said in capsys.readouterr().err
    assert not (few / "out").exists()


def test_a_misspelt_word_of_a_step_is_named_with_the_one_that_was_meant(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "pipeline.py"
    text = to_source(Pipeline(Step(segment_nuclei, channel="DAPI")))
    source.write_text(text.replace("channel=", "chanel="), "utf-8")
    assert main(["plan", str(few), str(source), "--out", str(tmp_path / "out")]) == 2
    assert "has no parameter 'chanel'; did you mean 'channel'?" in capsys.readouterr().err
