"""Cellpose and StarDist where they are installed, and what is said where they are not.

Most of it runs on doubles with their interfaces; what is marked real needs the packages themselves,
and no weights but what it trains, or leaves untrained, itself: ``hatch run networks:test``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from openhcs._errors import CompileError, ParameterError
from openhcs.cli import main
from openhcs.execution import run
from openhcs.functions import (
    REGISTRY,
    measure_objects,
    project_max,
    segment_cellpose,
    segment_cytoplasm,
    segment_stardist,
)
from openhcs.pipeline import (
    PROCESS_BYTES,
    Outcome,
    Pipeline,
    Step,
    StepFinished,
    compile_pipeline,
    estimate,
    to_source,
)
from openhcs.plates import open_plate
from openhcs.results import Results
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from openhcs.pipeline import Plan

DOUBLES = Path(__file__).parent / "network_doubles"
PACKAGES = ("cellpose", "torch", "stardist", "tensorflow")
VERSIONS = {"cellpose": "4.2.1", "torch": "2.13.0", "stardist": "0.9.2", "tensorflow": "2.21.0"}
REAL = {name: importlib.util.find_spec(name) is not None for name in PACKAGES}


def _pretend(folder: Path, package: str, version: str) -> None:
    """Have a package be of a version."""
    about = folder / f"{package}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")


@pytest.fixture
def doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Doubles of the packages, here and in processes that are started; gives what they were told.

    The home folder is an empty one.
    """
    if any(REAL.values()):
        pytest.skip("needs Cellpose and StarDist not to be installed")
    site = tmp_path / "site"
    site.mkdir()
    for package, version in VERSIONS.items():
        _pretend(site, package, version)
    paths = [str(DOUBLES), str(site)]
    for path in paths:
        monkeypatch.syspath_prepend(path)
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*paths, *([inherited] if inherited else [])]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CELLPOSE_LOCAL_MODELS_PATH", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    told = tmp_path / "told.json"
    monkeypatch.setenv("NETWORK_DOUBLE_TOLD", str(told))
    importlib.invalidate_caches()
    yield told
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks") / "plate"
    synthetic_plate(folder, wells=("A01", "B02"), grid=(1, 1), z=1, size_px=(128, 160), seed=5)
    return folder


def cellpose_weights(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:  # as PyTorch writes them
        file.writestr("archive/data.pkl", content)
    return path


def stardist_model(folder: Path, **config: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"n_dim": 2, "n_channel_in": 1, **config}))
    (folder / "weights_best.h5").write_bytes(b"\x89HDF\r\n\x1a\nweights")
    return folder


def planned(plate: Path, *steps: Step, **options: Any) -> Plan:
    pipeline = Pipeline(Step(project_max), *steps)
    return compile_pipeline(pipeline, open_plate(plate, cache=False), **options)


def problem(plate: Path, step: Step, **options: Any) -> str:
    with pytest.raises(CompileError) as caught:
        planned(plate, step, **options)
    (only,) = caught.value.problems
    return only


def cells(seed: int = 0) -> NDArray[np.uint16]:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :150]
    light = np.full((120, 150), 300.0)
    for centre_y, centre_x in ((30, 30), (35, 100), (90, 60), (85, 125)):
        light[np.hypot(y - centre_y, x - centre_x) < 12] = 3000
    return random.poisson(light).astype(np.uint16)


# Where something is missing


@pytest.mark.skipif(any(REAL.values()), reason="needs Cellpose and StarDist not to be installed")
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            segment_cellpose,
            "it needs cellpose and torch, which is not installed: pip install 'openhcs[cellpose]'",
        ),
        (
            segment_stardist,
            "it needs stardist and tensorflow, which is not installed: "
            "pip install 'openhcs[stardist]'",
        ),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    plate: Path, function: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in problem(plate, Step(function, channel="DAPI"))
    assert main(["functions", function.__name__]) == 0
    assert "not installed here" in capsys.readouterr().out


def test_missing_weights_are_named_and_not_fetched(
    plate: Path, tmp_path: Path, doubles: Path
) -> None:
    said = problem(plate, Step(segment_cellpose, channel="DAPI"))
    assert str(tmp_path / "home/.cellpose/models/cpsam_v2") in said
    assert "A run downloads nothing: fetch it once with python -c" in said
    said = problem(plate, Step(segment_stardist, channel="DAPI"))
    assert str(tmp_path / "home/.keras/models/StarDist2D/2D_versatile_fluo") in said
    assert "StarDist2D.from_pretrained('2D_versatile_fluo')" in said
    with pytest.raises(ParameterError, match="is 'cpsam_v2' or 'cpsam', not 'cyto3'"):
        Step(segment_cellpose, model="cyto3")  # Cellpose would take another one
    said = problem(plate, Step(segment_cellpose, channel="DAPI", weights=str(tmp_path / "none")))
    assert f"{tmp_path / 'none'} is not there" in said
    assert not (tmp_path / "home").exists()
    assert not doubles.exists()


def test_models_that_cannot_be_used_are_refused(plate: Path, tmp_path: Path, doubles: Path) -> None:
    half = tmp_path / "half"
    half.write_bytes(cellpose_weights(tmp_path / "whole", bytes(2000)).read_bytes()[:1000])
    step = Step(segment_cellpose, channel="DAPI", weights=str(half))
    assert "no file of weights, or not all of it is there" in problem(plate, step)
    folder = stardist_model(tmp_path / "colour", n_channel_in=3)
    step = Step(segment_stardist, channel="DAPI", folder=str(folder))
    assert "one of 2 dimensions and 3 channels" in problem(plate, step)
    folder = stardist_model(tmp_path / "bare")
    (folder / "weights_best.h5").unlink()
    step = Step(segment_stardist, channel="DAPI", folder=str(folder))
    assert "has no weights (*.h5)" in problem(plate, step)  # StarDist would go on untrained
    (folder / "weights_last.h5").write_bytes(b"<html>")
    assert "is no file of weights" in problem(plate, step)
    (folder / "config.json").write_text("{}")
    assert "is no model of StarDist" in problem(plate, step)
    assert not doubles.exists()


def test_other_versions_are_refused(tmp_path: Path, doubles: Path, monkeypatch: Any) -> None:
    older = tmp_path / "older"
    older.mkdir()
    _pretend(older, "cellpose", "3.1.1.2")
    monkeypatch.syspath_prepend(str(older))
    weights = REGISTRY["segment_cellpose"].weights
    assert weights is not None
    with pytest.raises(ValueError, match=r"cellpose 3\.1\.1\.2 is installed, and 4\.2 or a later"):
        weights.files({"model": "cpsam_v2", "weights": None})
    assert not doubles.exists()


def test_too_many_channels_are_refused_before_anything_runs(tmp_path: Path, doubles: Path) -> None:
    weights = cellpose_weights(tmp_path / "mine")
    wide = tmp_path / "wide"
    synthetic_plate(
        wide,
        wells=("A01",),
        grid=(1, 1),
        z=1,
        size_px=(64, 64),
        channels=("DAPI", "FITC", "Cy3", "Cy5"),
        seed=5,
    )
    said = problem(wide, Step(segment_cellpose, weights=str(weights)))
    assert "Cellpose takes one to 3 channels, and there are DAPI, FITC, Cy3, Cy5" in said
    assert not doubles.exists()


# Where all is there


def test_cellpose_finds_cells_and_is_told_lengths_in_pixels(tmp_path: Path, doubles: Path) -> None:
    weights = cellpose_weights(tmp_path / "mine")
    speckled = cells()
    speckled[2:4, 2:5] = 3000  # the first object, and too small
    labels = segment_cellpose(
        {"DAPI": speckled, "FITC": cells(1)},
        pixel_um=(0.5, 0.5),
        weights=str(weights),
        diameter_um=12.0,
        min_diameter_um=4.0,
        flow_threshold=0.2,
        cell_threshold=-1.0,
        intensity_range=(100.0, 4000.0),
    )
    assert labels.dtype == np.int32
    assert labels.shape == (120, 150)
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]
    told = json.loads(doubles.read_text())
    assert told["diameter"] == 24.0
    assert told["most"] == 1.0  # Cellpose would leave out what is large
    assert told["min_size"] == 50  # a disk of 4 µm in pixels of 0.25 µm²
    assert told["normalize"] == {"lowhigh": [100.0, 4000.0]}
    assert (told["channels"], told["flow"], told["cell"]) == (2, 0.2, -1.0)
    assert (told["device"], told["use_bfloat16"]) == ("cpu", False)
    blank = segment_cellpose(
        {"DAPI": np.zeros((9, 7), np.uint16)}, pixel_um=(0.5, 0.5), weights=str(weights)
    )
    assert blank.shape == (9, 7)
    assert not blank.any()
    with pytest.raises(ValueError, match="the second must be above the first"):
        segment_cellpose({"DAPI": cells()}, pixel_um=(0.5, 0.5), intensity_range=(5.0, 5.0))


def test_stardist_finds_nuclei_at_the_scale_of_its_network(tmp_path: Path, doubles: Path) -> None:
    folder = stardist_model(tmp_path / "mine")
    labels = segment_stardist(
        cells(),
        pixel_um=(0.5, 0.5),
        folder=str(folder),
        network_pixel_um=0.25,
        probability_threshold=0.6,
    )
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]
    told = json.loads(doubles.read_text())
    assert told["scale"] == [2.0, 2.0]
    assert (told["prob"], told["nms"], told["n_tiles"]) == (0.6, None, [1, 1])
    assert told["high"] == pytest.approx(1.0, abs=0.01)
    blank = segment_stardist(
        np.full((40, 30), 7, np.uint16), pixel_um=(0.5, 0.5), folder=str(folder)
    )
    assert not blank.any()
    large = np.tile(cells(), (10, 1))
    segment_stardist(large, pixel_um=(0.5, 0.5), folder=str(folder))
    assert json.loads(doubles.read_text())["n_tiles"] == [2, 1]


def test_models_are_found_where_their_packages_keep_them(
    plate: Path, tmp_path: Path, doubles: Path
) -> None:
    kept = cellpose_weights(tmp_path / "home/.cellpose/models/cpsam_v2")
    folder = stardist_model(tmp_path / "home/.keras/models/StarDist2D/2D_demo/2D_demo_extracted")
    steps = (
        Step(segment_cellpose, channel="DAPI"),
        Step(segment_stardist, channel="DAPI", model="2D_demo"),
    )
    plan = planned(plate, *steps)
    assert list(plan.steps[1].files) == [str(kept)]
    assert set(plan.steps[2].files) == {
        str(folder / name) for name in ("config.json", "weights_best.h5")
    }
    assert not doubles.exists()  # no network is loaded for a plan, nor for an estimate
    assert estimate(plan).peak_bytes > PROCESS_BYTES + 2_600_000_000
    assert not doubles.exists()


@pytest.mark.timeout(180)
def test_a_run_uses_them_as_any_function(plate: Path, tmp_path: Path, doubles: Path) -> None:
    weights, folder = cellpose_weights(tmp_path / "mine"), stardist_model(tmp_path / "net")
    plan = planned(
        plate,
        Step(segment_stardist, channel="DAPI", folder=str(folder)),
        Step(segment_cellpose, channel=("DAPI",), weights=str(weights)),
        Step(segment_cytoplasm),
        Step(measure_objects, labels="segment_cellpose"),
    )
    result = run(plan, tmp_path / "out", workers=1)
    assert [well.error for well in result.wells] == [None, None]
    assert doubles.exists()
    results = Results(tmp_path / "out")
    assert {"nuclei", "cells", "cytoplasm"} <= set(results.label_names("A01"))
    assert results.table("objects").num_rows > 0
    document = json.loads((tmp_path / "out/run.json").read_bytes())
    assert document["steps"][2]["parameters"]["weights"] == str(weights)


@pytest.mark.timeout(180)
def test_other_weights_are_other_results(plate: Path, tmp_path: Path, doubles: Path) -> None:
    done: list[str] = []

    def again(model: Path) -> list[str]:
        done.clear()
        plan = planned(plate, Step(segment_cellpose, channel="DAPI", weights=str(model)))

        def note(event: object) -> None:
            if isinstance(event, StepFinished) and not event.reused and event.well == "A01":
                done.append(event.step)

        assert run(plan, tmp_path / "out", workers=1, on_event=note).completed
        return sorted(done)

    weights = cellpose_weights(tmp_path / "mine")
    assert again(weights) == ["project_max", "segment_cellpose"]
    assert again(weights) == []
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(weights.read_bytes())
    assert again(elsewhere) == []  # what they hold counts
    cellpose_weights(weights, b"trained on")
    assert again(weights) == ["segment_cellpose"]
    assert doubles.exists()


def test_a_worker_elsewhere_with_other_weights_is_not_used(
    plate: Path, tmp_path: Path, doubles: Path
) -> None:
    weights = cellpose_weights(tmp_path / "mine")
    plan = planned(plate, Step(segment_cellpose, channel="DAPI", weights=str(weights)))
    cellpose_weights(weights, b"trained on")
    with ThreadPoolExecutor(1) as elsewhere:
        result = run(plan, tmp_path / "out", executor=elsewhere)
    assert {well.outcome for well in result.wells} == {Outcome.LOST}
    assert "the weights of its network are others there" in str(result.wells[0].error)
    assert not doubles.exists()


def test_without_a_gpu_its_package_is_asked(
    plate: Path, tmp_path: Path, doubles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = cellpose_weights(tmp_path / "mine")
    text = tmp_path / "p.py"
    step = Step(segment_cellpose, channel="DAPI", weights=str(weights), device="gpu")
    text.write_text(to_source(Pipeline(Step(project_max), step)))
    assert main(["run", str(plate), str(text), "--out", str(tmp_path / "out")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "segment_cellpose: to compute on a GPU, but torch is installed, and finds no" in said
    assert not doubles.exists()


@pytest.mark.timeout(180)
def test_on_a_gpu_it_computes_there_and_tells_when_that_is_full(
    plate: Path, tmp_path: Path, doubles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETWORK_DOUBLE_GPUS", "1")
    weights = cellpose_weights(tmp_path / "mine")
    step = Step(segment_cellpose, channel="DAPI", weights=str(weights))
    plan = planned(plate, step, device="gpu")
    assert run(plan, tmp_path / "out", workers=1).completed
    told = json.loads(doubles.read_text())
    assert (told["device"], told["use_bfloat16"]) == ("cuda", True)
    monkeypatch.setenv("NETWORK_DOUBLE_FULL", "1")
    result = run(plan, tmp_path / "out", workers=1, resume=False)
    assert "the memory of the GPU is full" in str(result.wells[0].error)


# The packages themselves


@pytest.mark.skipif(not REAL["cellpose"], reason="needs Cellpose: hatch run networks:test")
@pytest.mark.filterwarnings("ignore")  # what these packages warn of is their own
def test_the_double_has_the_interface_of_cellpose() -> None:
    from cellpose.models import CellposeModel

    double = _module_of_doubles("cellpose/models.py").CellposeModel
    for name in ("__init__", "eval"):
        assert _names(getattr(double, name)) == _names(getattr(CellposeModel, name)), name


@pytest.mark.skipif(not REAL["stardist"], reason="needs StarDist: hatch run networks:test")
@pytest.mark.filterwarnings("ignore")  # what these packages warn of is their own
def test_the_double_has_the_interface_of_stardist() -> None:
    from stardist.models import StarDist2D

    double = _module_of_doubles("stardist/models.py").StarDist2D
    real = StarDist2D._predict_instances_generator
    assert _names(double.predict_instances) == _names(real)


def _module_of_doubles(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("a_double", DOUBLES / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _names(call: Any) -> list[str]:
    return list(inspect.signature(call).parameters)


@pytest.mark.skipif(not REAL["cellpose"], reason="needs Cellpose: hatch run networks:test")
@pytest.mark.filterwarnings("ignore")  # what these packages warn of is their own
@pytest.mark.timeout(900)
def test_cellpose_itself_runs(plate: Path, tmp_path: Path) -> None:
    """Weights that were never trained find nothing of sense; that they are used is what counts."""
    import torch
    from cellpose.vit import CPSAM

    torch.manual_seed(0)
    weights = tmp_path / "untrained"
    CPSAM(dtype=torch.float32).save_model(str(weights))
    step = Step(
        segment_cellpose,
        channel="DAPI",
        weights=str(weights),
        cell_threshold=-6.0,
        flow_threshold=0.0,
    )
    result = run(planned(plate, step, wells=["A01"]), tmp_path / "out", workers=1)
    assert [well.error for well in result.wells] == [None]
    assert Results(tmp_path / "out").labels("A01", "cells").shape[-2:] == (128, 160)


@pytest.mark.skipif(not REAL["stardist"], reason="needs StarDist: hatch run networks:test")
@pytest.mark.filterwarnings("ignore")  # what these packages warn of is their own
@pytest.mark.timeout(900)
def test_stardist_itself_finds_what_it_was_trained_on(tmp_path: Path) -> None:
    from stardist.models import Config2D, StarDist2D

    def scene(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[:128, :128]
        light, labels = np.full((128, 128), 100.0), np.zeros((128, 128), np.int32)
        for _ in range(18):
            centre, radius = random.uniform(8, 120, 2), random.uniform(6, 9)
            away = np.hypot(y - centre[0], x - centre[1])
            if not labels[away < radius].any():
                labels[away < radius] = labels.max() + 1
                light += 1500 / (1 + np.exp((away - radius) / 0.8))
        return random.poisson(light).astype(np.float32), labels

    pictures, truths = zip(*map(scene, range(30)), strict=True)
    scaled = [(p - np.percentile(p, 1)) / np.ptp(np.percentile(p, (1, 99.8))) for p in pictures]
    config = Config2D(
        n_rays=16,
        grid=(2, 2),
        n_channel_in=1,
        unet_n_depth=2,
        unet_n_filter_base=8,
        net_conv_after_unet=16,
        train_patch_size=(96, 96),
        train_batch_size=4,
        train_epochs=5,
        train_steps_per_epoch=50,
        train_learning_rate=1e-3,
        train_tensorboard=False,
    )
    network = StarDist2D(config, name="mine", basedir=str(tmp_path))
    network.train(scaled[:27], truths[:27], validation_data=(scaled[27:], list(truths[27:])))
    picture, truth = scene(99)
    for plane in (picture, picture.astype(np.uint16), np.tile(picture, (9, 1))):
        found = segment_stardist(
            plane, pixel_um=(0.5, 0.5), folder=str(tmp_path / "mine"), probability_threshold=0.5
        )
        matched = 0.0
        for number in range(1, truth.max() + 1):
            inside = truth == number
            best = np.bincount(found[:128][inside]).argmax()
            union = np.count_nonzero(inside | (found[:128] == best))
            both = np.count_nonzero(inside & (found[:128] == best))
            matched += float(best > 0 and both > union / 2)
        assert matched >= 0.9 * truth.max()
