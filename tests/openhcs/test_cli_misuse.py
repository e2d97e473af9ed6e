"""Wrong use: one line on standard error, status 2, nothing done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from openhcs.cli import main
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

PIPELINE = """from openhcs import Pipeline, Step
from openhcs.functions import {name}
pipeline = Pipeline(Step({name}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plate and things that are none."""
    folder = tmp_path_factory.mktemp("misuse")
    synthetic_plate(folder / "plate", wells=("A01", "A02"), size_px=64, z=1, grid=(1, 1))
    (folder / "typo.py").write_text(PIPELINE.format(name="stich"), "utf-8")
    (folder / "combined.py").write_text(
        "from openhcs import Pipeline, Step\nfrom openhcs.functions import stitch\n"
        'pipeline = Pipeline(Step(stitch, reference="DAPY"))\n',
        "utf-8",
    )
    (folder / "notes").mkdir()
    (folder / "notes" / "thesis.txt").write_text("years of work", "utf-8")
    (folder / "file").write_text("text", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("inspect nowhere", "no folder"),
        ("inspect notes", "no plate that can be read"),
        ("inspect plate --format bmp", "bmp"),
        ("run nowhere --out out", "no folder"),
        ("run plate", "--out DIR"),
        ("run plate --out plate/results", "the plate's own folder"),
        ("run plate --out notes", "holds other things"),
        ("run plate --out file", "is a file"),
        ("run plate --out file/deeper", "file/deeper"),
        pytest.param(
            "run plate --out /proc/out",
            "/proc/out cannot be used",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="no folder is sure to refuse"),
        ),
        ("run plate --out out --wells Z99", "'Z99' is not a well"),
        ("run plate --out out --wells B*", "'B*' names no well"),
        ("run plate --out out --wells ,", "no well is named"),
        ("run plate --out out --fields 0-", "'0-' is no field"),
        ("run plate --out out --fields 3-1", "'3-1' is no field"),
        ("run plate --out out --fields 0-99999999999", "no"),
        ("run plate --out out --fields 7", "no field 7"),
        ("run plate --out out --channels DAPY", "did you mean 'DAPI'?"),
        ("run plate --out out --workers 0", "'0' is not a whole number of at least 1"),
        ("run plate --out out --workers two", "'two' is not a whole number"),
        ("run plate --out out --missing ignore", "ignore"),
        ("run plate typo.py --out out", "typo.py:2:31: 'openhcs.functions' has no 'stich'"),
        ("run plate combined.py --out out", "DAPY"),
        ("run plate nowhere.py --out out", "nowhere.py: No such file"),
        ("run plate --again out", "--again repeats a run as it was, and plate is given"),
        ("run --again out --wells A01", "--wells is given beside it"),
        ("run --again notes", "no record of a run"),
        ("pipeline show nowhere", "no folder"),
        ("pipeline check typo.py plate", "did you mean 'stitch'?"),
        ("report notes", "holds no run"),
        ("stop", "--all"),
        ("run plate --out out --viewer-port 65000", "'65000' is not a port from 1 to 64535"),
        ("viewer napari --port many", "'many' is not a port"),
        ("synth plate", "is not empty"),
        ("synth new --grid 2by2", "2by2"),
        ("synth new --faults missing-plain", "missing-plain"),
        ("synth new --single-plane RFP", "RFP"),
        ("synth new --wells A0", "'A0' is not a well"),
        ("synth new --plate 24 --wells H12", "'H12' names no well of this plate"),
        ("demo --out file", "file"),
        ("fly", "fly"),
        ("", "COMMAND"),
    ],
)
def test_wrong_use_is_said_in_one_line_and_nothing_is_done(
    place: Path,
    words: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    try:
        status = main(words.split())
    except SystemExit as exit_:  # argparse ends this way
        status = int(exit_.code or 0)
    error = capsys.readouterr().err
    assert status == 2
    assert told in error
    assert "Traceback" not in error
    assert error.startswith("openhcs")
    # Only the formats that were tried stand on lines of their own.
    lines = [line for line in error.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1
    assert sorted(place.rglob("*")) == before


@pytest.mark.usefixtures("permissions_bind")
@pytest.mark.parametrize("words", ["run plate --out locked/out", "inspect locked"])
def test_folders_without_permission_are_named(
    place: Path,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    locked = place / "locked"
    locked.mkdir(exist_ok=True)
    monkeypatch.chdir(place)
    locked.chmod(0)
    try:
        assert main(words.split()) == 2
    finally:
        locked.chmod(0o700)
    assert "locked" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="only there are names any bytes")
def test_names_of_files_that_are_no_text_are_shown(tmp_path: Path) -> None:
    plate = synthetic_plate(tmp_path / "plate", wells=("A01",), size_px=64, z=1, grid=(1, 1)).folder
    (plate / os.fsdecode(b"caf\xe9\n\x1b[31m.tif")).write_bytes(b"no image")
    for encoding in ("utf-8:strict", "ascii"):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        words = [sys.executable, "-m", "openhcs", "inspect", str(plate)]
        shown = subprocess.run(words, capture_output=True, env=environment, check=False, timeout=60)
        assert (shown.returncode, shown.stderr) == (0, b"")
        assert b"UNMATCHED_NAME" in shown.stdout
        assert b"\x1b" not in shown.stdout
        told = subprocess.run(
            [*words, "--json"], capture_output=True, env=environment, check=True, timeout=60
        )
        (finding,) = json.loads(told.stdout)["findings"]
        assert finding["file"] == "caf\udce9\n\x1b[31m.tif"
