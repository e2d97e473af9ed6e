"""One switch says where steps compute; it is done so, or refused before anything is begun."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.openhcs.gpu_cases import CASES, Case, agreement

from openhcs._errors import CompileError, DeviceError, ParameterError
from openhcs.cli import main
from openhcs.execution import gpu_workers, load_run, run
from openhcs.functions import (
    REGISTRY,
    gaussian,
    measure_objects,
    project_max,
    segment_nuclei,
    stitch,
    subtract_background,
)
from openhcs.pipeline import (
    Outcome,
    Pipeline,
    RunRequest,
    Settings,
    Step,
    StepFinished,
    compile_pipeline,
    from_source,
    to_source,
)
from openhcs.plates import open_plate
from openhcs.results import Results
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openhcs.pipeline import Plan

DOUBLE = Path(__file__).parent / "gpu_double"
STEPS = (
    Step(project_max),
    Step(gaussian, sigma_um=1.0, keep=True),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)


def _forget() -> dict[str, Any]:
    """Take CuPy, or its double, out of this process, and give what was there."""
    names = [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx")]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The double of CuPy, in this process and in those that it starts."""
    before = _forget()
    monkeypatch.syspath_prepend(str(DOUBLE))
    inherited = os.environ.get("PYTHONPATH")
    paths = [str(DOUBLE), *([inherited] if inherited else [])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    importlib.invalidate_caches()
    yield importlib.import_module("cupy")
    _forget()
    sys.modules.update(before)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device") / "plate"
    synthetic_plate(folder, wells=("A01", "B02"), grid=(1, 1), z=2, size_px=(128, 160), seed=5)
    return folder


def planned(plate: Path, *steps: Step, **options: Any) -> Plan:
    return compile_pipeline(Pipeline(*(steps or STEPS)), open_plate(plate, cache=False), **options)


# The functions


def test_every_function_that_says_so_has_a_case() -> None:
    said = {name for name, spec in REGISTRY.items() if spec.gpu == "cupy"}
    assert said == {case.function for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_function_calls_nothing_but_what_belongs_to_the_array(case: Case, double: Any) -> None:
    """The double refuses NumPy's and SciPy's own functions, and arrays of the host."""
    assert double.__version__ == "0.double"
    before = len(double.CALLS)
    apart = agreement(case.call(device=False), case.call(device=True))
    assert apart == dict.fromkeys(apart, 0.0)  # it computes with NumPy: the same to the bit
    assert len(double.CALLS) > before


def test_the_double_refuses_what_cupy_refuses(double: Any) -> None:
    array = double.asarray(np.ones((3, 3)))
    for misuse in (np.asarray, np.median, np.sqrt, lambda a: a + np.ones((3, 3))):
        with pytest.raises(TypeError):
            misuse(array)
    with pytest.raises(TypeError):
        # This one opens a background by SciPy's own filter: it does not say that it can.
        subtract_background(array, pixel_um=(0.5, 0.5))


def test_cupy_has_all_that_is_called(double: Any) -> None:
    """Names and keywords alone: no GPU is needed to know these."""
    for case in CASES:
        case.call(device=True)
    calls = sorted(double.CALLS)
    assert len(calls) > 40
    _forget()
    sys.path.remove(str(DOUBLE))
    importlib.invalidate_caches()
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("no CUDA device: CuPy is not installed")
    for module, name, positional, keywords in calls:
        called = getattr(_resolved(module), name)
        if isinstance(called, importlib.import_module("cupy").ufunc):
            assert set(keywords) <= {"out", "dtype"}, name
            continue
        try:
            signature = inspect.signature(called)
        except ValueError:  # compiled: its first line tells
            first = (called.__doc__ or "").partition("\n")[0]
            assert all(f"{keyword}=" in first for keyword in keywords), first
            continue
        signature.bind(*[None] * positional, **dict.fromkeys(keywords))


def _resolved(path: str) -> Any:
    """Give a module, or a class or function in one."""
    try:
        return importlib.import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(_resolved(module), name)


def _no_gpu() -> str:
    from openhcs.functions import device_problem

    problem = device_problem("cupy")
    return "" if problem is None else f"no CUDA device: {problem}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_gpu_gives_what_the_host_gives(case: Case) -> None:
    """The stated tolerance; see the guide."""
    if _no_gpu():
        pytest.skip(_no_gpu())
    apart = agreement(case.call(device=False), case.call(device=True))
    assert apart["counts"] <= (8 if case.function == "register_channels" else 1)
    assert apart["parts"] <= 1e-5
    assert apart["labels"] <= 0.005
    assert apart["values"] <= 1e-3


# The setting


def test_where_a_step_computes_is_inherited_and_tells_its_origin(plate: Path) -> None:
    inner = Pipeline(Step(gaussian), name="clean", device="cpu")
    pipeline = Pipeline(
        Step(project_max), inner, Step(segment_nuclei, channel="DAPI"), Step(measure_objects)
    )
    plan = compile_pipeline(pipeline, open_plate(plate, cache=False), device="gpu")
    assert [step.device for step in plan.steps] == ["cpu", "cpu", "gpu", "cpu"]
    origins = {name: plan.settings[name]["device"].origin for name in pipeline.names}
    assert origins["gaussian"] == "pipeline clean"
    assert origins["segment_nuclei"] == "run"


def test_a_plan_says_which_steps_cannot_compute_there(plate: Path) -> None:
    notes = " ".join(planned(plate, device="gpu").notes)
    assert "on the GPU: gaussian, segment_nuclei" in notes
    assert "alone: project_max, measure_objects" in notes
    notes = " ".join(planned(plate, Step(project_max), device="gpu").notes)
    assert "no step can compute there: project_max" in notes
    assert planned(plate).notes == ()


def test_a_step_that_asks_for_what_its_function_cannot_do_is_refused(plate: Path) -> None:
    with pytest.raises(CompileError, match="stitch computes in the processor alone"):
        planned(plate, Step(project_max), Step(stitch, device="gpu"))


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(ParameterError, match="device is 'cpu' or 'gpu', not 'gpus'; did you mean"):
        Step(gaussian, device="gpus")  # type: ignore[arg-type]


def test_source_says_where_to_compute() -> None:
    pipeline = Pipeline(Step(gaussian, device="gpu"), device="cpu")
    assert from_source(to_source(pipeline)) == pipeline
    assert 'Step(gaussian, device="gpu")' in to_source(pipeline)
    request = RunRequest(plate="P", pipeline=pipeline, settings=Settings(device="gpu"))
    assert RunRequest.from_source(request.to_source()) == request


def test_help_says_which_functions_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["functions", "gaussian"]) == 0
    assert "can compute on a GPU, through cupy" in capsys.readouterr().out
    assert main(["functions", "gpu", "--json"]) == 0
    listed = {each["name"] for each in json.loads(capsys.readouterr().out)}
    assert {"gaussian", "segment_nuclei", "register_channels"} <= listed
    assert "project_max" not in listed


# Runs


@pytest.mark.timeout(180)
def test_a_run_computes_there_and_says_so(plate: Path, tmp_path: Path, double: Any) -> None:
    host, there = tmp_path / "host", tmp_path / "there"
    assert run(planned(plate), host, workers=1).completed
    assert run(planned(plate, device="gpu"), there, workers=1).completed
    one, other = Results(host), Results(there)
    assert one.table("objects").equals(other.table("objects"))
    document = json.loads((there / "run.json").read_bytes())
    assert [step["device"] for step in document["steps"]] == ["cpu", "gpu", "gpu", "cpu"]
    assert document["options"]["device"] == "gpu"
    assert load_run(there).plan().run.device == "gpu"
    assert double.__version__ == "0.double"


def test_where_a_step_computes_belongs_to_its_key(plate: Path) -> None:
    """Also where CuPy, whose version does too, is not installed."""
    keys = [[step.to_key() for step in planned(plate, device=d).steps] for d in ("cpu", "gpu")]
    assert [one == other for one, other in zip(*keys, strict=True)] == [True, False, False, True]
    assert all("device" not in key for key in keys[0])  # what was computed before still stands


@pytest.mark.timeout(180)
def test_what_computed_elsewhere_is_done_again_and_nothing_else(
    plate: Path, tmp_path: Path, double: Any
) -> None:
    """Results are equal to within a tolerance: a plate must not be of two kinds."""
    done: list[str] = []

    def note(event: object) -> None:
        if isinstance(event, StepFinished) and not event.reused and event.well == "A01":
            done.append(event.step)

    assert double.__version__ == "0.double"
    assert run(planned(plate), tmp_path, workers=1).completed
    assert run(planned(plate, device="gpu"), tmp_path, workers=1, on_event=note).completed
    assert sorted(done) == ["gaussian", "measure_objects", "segment_nuclei"]
    done.clear()
    assert run(planned(plate, device="gpu"), tmp_path, workers=1, on_event=note).completed
    assert done == []
    # Measuring cannot be done there: asking for it changes nothing.
    steps = (*STEPS[:3], Step(measure_objects))
    asked = Pipeline(*steps[:1], Pipeline(*steps[1:3], device="gpu"), *steps[3:])
    assert run(
        compile_pipeline(asked, open_plate(plate, cache=False)), tmp_path, workers=1, on_event=note
    ).completed
    assert done == []


def test_without_cupy_a_run_says_what_to_install_and_begins_nothing(
    plate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("cupy") is not None:
        pytest.skip("no CUDA device is wanted here: CuPy is installed")
    out = tmp_path / "out"
    text = tmp_path / "p.py"
    text.write_text(to_source(Pipeline(*STEPS)))
    assert main(["run", str(plate), str(text), "--out", str(out), "--device", "gpu"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "gaussian, segment_nuclei: to compute on a GPU" in said
    assert "cupy is not installed: pip install 'openhcs[gpu]'" in said
    assert not (out / "run.json").exists()
    words = ["plan", str(plate), str(text), "--out", str(out), "--device", "gpu"]
    assert main([*words, "--json"]) == 2
    values = json.loads(capsys.readouterr().out)
    assert "openhcs[gpu]" in values["problem"]
    assert [step["device"] for step in values["steps"]] == ["cpu", "gpu", "gpu", "cpu"]
    assert main(words) == 2
    assert "device='gpu' (run)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("devices", "said"),
    [("-1", "cupy finds no GPU: cudaErrorInsufficientDriver"), ("0", "finds no NVIDIA GPU")],
)
def test_without_a_gpu_a_run_says_what_was_looked_for(
    plate: Path,
    tmp_path: Path,
    double: Any,
    monkeypatch: pytest.MonkeyPatch,
    devices: str,
    said: str,
) -> None:
    assert double.__version__ == "0.double"
    monkeypatch.setenv("CUPY_DOUBLE_DEVICES", devices)
    with pytest.raises(DeviceError, match=said):
        run(planned(plate, device="gpu"), tmp_path, workers=1)
    assert not (tmp_path / "run.json").exists()


def test_a_worker_elsewhere_without_a_gpu_is_not_used(
    plate: Path, tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan may be made where there is no GPU: who works for it has to have one."""
    assert double.__version__ == "0.double"
    monkeypatch.setenv("CUPY_DOUBLE_DEVICES", "0")
    with ThreadPoolExecutor(1) as elsewhere:
        result = run(planned(plate, device="gpu"), tmp_path, executor=elsewhere)
    assert {well.outcome for well in result.wells} == {Outcome.LOST}
    assert "gaussian is to compute on a GPU, and cupy is installed" in str(result.wells[0].error)


def test_no_more_workers_are_used_than_the_gpu_has_room_for(
    plate: Path, tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert double.__version__ == "0.double"
    plan = planned(plate, device="gpu")
    assert gpu_workers(plan, 3) == (3, None)
    monkeypatch.setenv("CUPY_DOUBLE_FREE", "1300000000")
    assert gpu_workers(plan, 3)[0] == 2
    monkeypatch.setenv("CUPY_DOUBLE_FREE", "700000000")
    result = run(plan, tmp_path, workers=2)
    assert result.completed
    assert any("1 of 2 workers are used: each may take" in note for note in result.notes)
    assert gpu_workers(planned(plate), 3) == (3, None)  # nothing computes there


@pytest.mark.timeout(180)
def test_a_worker_whose_gpu_is_lost_is_replaced(
    plate: Path, tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error of the driver, whatever a process does on the GPU fails as well."""
    assert double.__version__ == "0.double"
    broken = tmp_path / "broken"
    broken.touch()
    monkeypatch.setenv("CUPY_DOUBLE_BROKEN", str(broken))
    result = run(planned(plate, device="gpu"), tmp_path / "out", workers=1)
    assert [well.outcome for well in result.wells] == [Outcome.FAILED, Outcome.OK]
    assert "gaussian failed on " in str(result.wells[0].error)
    assert "cudaErrorIllegalAddress" in str(result.wells[0].error)


def test_a_full_gpu_is_told_for_people(
    plate: Path, tmp_path: Path, double: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert double.__version__ == "0.double"
    monkeypatch.setenv("CUPY_DOUBLE_BYTES", "1000")
    result = run(planned(plate, device="gpu"), tmp_path, workers=1)
    assert {well.outcome for well in result.wells} == {Outcome.FAILED}
    error = str(result.wells[0].error)
    assert error.startswith("gaussian failed on ")
    assert "the memory of the GPU is full" in error
    assert "use fewer workers, or device='cpu'" in error
