"""``openhcs serve``, ``openhcs run --server`` and ``openhcs jobs``, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from openhcs.execution import load_run
from openhcs.results import open_results
from openhcs.testing import synthetic_plate
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

WELLS = ("A01", "A02", "B01")
SOON = 60
PIPELINE = """from openhcs import Pipeline, Step
from openhcs.functions import measure_image_quality, project_max

pipeline = Pipeline(Step(measure_image_quality), Step(project_max, keep=True))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    synthetic_plate(folder / "data" / "p1", wells=WELLS, grid=(1, 2), size_px=128, seed=3)
    (folder / "pipeline.py").write_text(PIPELINE, "utf-8")
    (folder / "map.csv").write_text("well,drug\nA01,DMSO\nA02,x\nB01,y\n", "utf-8")
    (folder / "runtime").mkdir(mode=0o700)
    return folder


def openhcs(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Carry out a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "openhcs", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
        env=environment(folder),
        cwd=folder,
    )


def environment(folder: Path) -> dict[str, str]:
    places = {"XDG_RUNTIME_DIR": "runtime", "XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config"}
    return os.environ | {name: str(folder / place) for name, place in places.items()}


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    port = free_endpoint().port
    words = [sys.executable, "-m", "openhcs", "serve", "--root", "screens=data"]
    words += ["--results", "results", "--port", str(port), "--workers", "1"]
    with subprocess.Popen(
        words, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert f"on port {port}; roots: screens" in process.stdout.readline()
        yield f"localhost:{port}"
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=SOON)
        assert "Stopped." in rest
        assert process.returncode == 0


def test_a_plan_is_made_on_the_server_and_nothing_is_submitted(folder: Path, server: str) -> None:
    words = ("plan", "--server", server, "screens/p1", "pipeline.py")
    done = openhcs(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "p1: " in done.stdout
    assert "measure_image_quality" in done.stdout
    there = json.loads(openhcs(folder, *words, "--leave", "first", "--json").stdout)
    assert there["plate"] == str(folder / "data" / "p1")
    assert list(there["to_do"]) == list(WELLS)
    (folder / "wrong.py").write_text(PIPELINE.replace("project_max,", 'project_max, channel="X",'))
    wrong = openhcs(folder, *words[:-1], "wrong.py")
    assert wrong.returncode == 2
    assert "wrong.py:4" in wrong.stderr
    for more, said in (
        (("--workers", "2"), "--workers is the server's matter"),
        (("--source",), "--source is the server's matter"),
        (("--out", "x", "--leave", "y"), "leave one out"),
    ):
        refused = openhcs(folder, *words, *more)
        assert refused.returncode == 2
        assert said in refused.stderr
    assert "No runs." in openhcs(folder, "jobs", "list", "--server", server).stdout
    here = openhcs(folder, "plan", "data/p1", "--leave", "x", "--out", "y")
    assert "--leave is for runs on a server" in here.stderr


def test_a_run_is_submitted_shown_and_brought(folder: Path, server: str) -> None:
    there = ("run", "--server", server, "screens/p1", "pipeline.py", "--out", "home")
    words = (*there, "--duplicates", "newest", "--include-unlisted")
    done = openhcs(folder, *words, "--platemap", "map.csv", "--wells", "A*")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Accepted as job [0-9a-f]{16}\.", done.stdout)
    assert "A02: " in done.stdout
    assert re.search(r"Fetched \d+ files", done.stdout)
    assert "2 wells: 2 ok" in done.stdout
    assert "home/report.html" in done.stdout
    results = open_results(folder / "home")
    assert set(results.wells["outcome"].to_pylist()) == {"ok"}
    record = load_run(folder / "home")
    assert (record.duplicates, record.include_unlisted) == ("newest", True)
    again = openhcs(folder, *words, "--platemap", "map.csv", "--wells", "A*")
    assert "2 of 2 wells are finished and unchanged" in again.stdout
    assert "2 of them from before" in again.stdout


def test_a_run_is_left_listed_followed_and_fetched(folder: Path, server: str) -> None:
    words = ("run", "--server", server, "screens/p1", "pipeline.py", "--leave", "kept")
    detached = openhcs(folder, *words, "--detach")
    assert detached.returncode == 0, detached.stderr
    match = re.search(r"openhcs jobs follow ([0-9a-f]{16})", detached.stdout)
    assert match is not None
    followed = openhcs(folder, "jobs", "follow", match[1], "--server", server)
    assert followed.returncode == 0, followed.stderr
    assert "under the name kept" in followed.stdout
    listed = json.loads(openhcs(folder, "jobs", "list", "--server", server, "--json").stdout)
    assert listed["roots"] == ["screens"]
    assert "kept" in listed["results"]
    (ours,) = [job for job in listed["jobs"] if job["job"] == match[1]]
    assert (ours["plate"], ours["results"], ours["state"]) == ("screens/p1", "kept", "completed")
    table = openhcs(folder, "jobs", "list", "--server", server).stdout  # 80 columns wide
    assert "screens/p1" in table
    assert match[1] in table
    fetched = openhcs(folder, "jobs", "fetch", "kept", "--out", "kept", "--server", server)
    assert fetched.returncode == 0, fetched.stderr
    assert len(open_results(folder / "kept").wells) == len(WELLS)
    record = folder / "results" / "local" / "kept" / "run.json"
    document = json.loads(record.read_bytes())
    record.write_text(json.dumps(document | {"outcome": "running"}), "utf-8")
    fetched = openhcs(folder, "jobs", "fetch", "kept", "--out", "half", "--server", server)
    assert fetched.returncode == 1
    assert "has not come to its end: fetch them again" in fetched.stdout
    record.write_text(json.dumps(document), "utf-8")
    assert openhcs(folder, "jobs", "log", match[1], "--server", server).returncode == 0
    over = openhcs(folder, "jobs", "cancel", match[1], "--server", server)
    assert "is completed" in over.stdout


def test_ctrl_c_cancels_the_run_and_no_other(folder: Path, server: str) -> None:
    base = ("run", "--server", server, "screens/p1", "pipeline.py")
    other = openhcs(folder, *base, "--leave", "first", "--force", "--detach")
    match = re.search(r"follow ([0-9a-f]{16})", other.stdout)
    assert match is not None
    with subprocess.Popen(
        [sys.executable, "-m", "openhcs", *base, "--leave", "second", "--force"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(folder),
    ) as process:
        assert process.stdout is not None
        assert "Accepted" in process.stdout.readline()
        process.stdout.readline()  # its place in the line, or its first well: signals are minded
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate(timeout=SOON)
    assert process.returncode == 130
    assert "Stopped. Give the same command to go on" in text
    followed = openhcs(folder, "jobs", "follow", match[1], "--server", server)
    assert followed.returncode == 0, followed.stderr
    states = json.loads(openhcs(folder, "jobs", "list", "--server", server, "--json").stdout)
    by_name = {job["results"]: job["state"] for job in states["jobs"]}
    assert by_name["first"] == "completed"
    assert by_name["second"] == "cancelled"


def test_a_request_file_is_run_with_its_tables(folder: Path, server: str) -> None:
    source = openhcs(
        folder, "plan", "data/p1", "pipeline.py", "--out", "x", "--wells", "B01", "--source"
    ).stdout
    text = source.replace("data/p1", "screens/p1").replace(
        'wells="B01"', 'platemap="map.csv",\n    wells="B01"'
    )
    (folder / "request.py").write_text(text, "utf-8")
    done = openhcs(folder, "run", "--server", server, "--request", "request.py", "--out", "asked")
    assert done.returncode == 0, done.stderr
    table = open_results(folder / "asked").wells
    assert table["well"].to_pylist() == ["B01"]
    assert "y" in {row.get("drug") for row in table.to_pylist()}


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (("screens/p1x", "--out", "o"), 2, "did you mean screens/p1"),
        (("elsewhere/p1", "--out", "o"), 2, "it may read screens"),
        (("screens/p1", "--out", "o", "--workers", "2"), 2, "--workers is the server's matter"),
        (("screens/p1", "--out", "o", "--leave", "x"), 2, "say where results go"),
        (("screens/p1",), 2, "say where results go"),
        (("--out", "o"), 2, "name a plate"),
        (("--out", "o", "--keys", "data/p1"), 2, "data/p1 was taken for the folder of --keys"),
        (("screens/p1", "--out", "o", "--keys", "none"), 2, "none has no key of localhost: zmqrun"),
        (("screens/p1", "missing.py", "--out", "o"), 2, "missing.py"),
        (("screens/p1", "--platemap", "none.csv", "--out", "o"), 2, "none.csv"),
        (("screens/p1", "--leave", "x", "--fields", "7"), 1, "field"),
        (("screens/p1", "--leave", "../x"), 2, "the first a letter or a digit, not '../x'"),
    ],
)
def test_misuse_is_said_in_a_line(
    folder: Path, server: str, words: tuple[str, ...], status: int, text: str
) -> None:
    done = openhcs(folder, "run", "--server", server, *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_cannot_serve_says_why(folder: Path, server: str) -> None:
    port = server.partition(":")[2]
    base = ("serve", "--results", "results")
    for words, text in (
        (("--root", "screens"), "write NAME=DIR"),
        (("--root", "screens=nowhere"), "is no folder"),
        (("--root", "a/b=data"), "no name of a root"),
        (("--root", "a=data", "--root", "a=data"), "given twice"),
        (("--root", "a=data", "--bind", "0.0.0.0", "--port", "27401"), "refusing to listen"),
        (("--root", "a=data", "--port", port), port),
    ):
        refused = openhcs(folder, *base, *words)
        assert refused.returncode in (1, 2), refused.stdout
        assert text in refused.stderr
        assert "Traceback" not in refused.stderr


def test_options_of_a_server_need_one(folder: Path) -> None:
    for option in (("--leave", "x"), ("--detach",), ("--keys",)):
        refused = openhcs(folder, "run", "data/p1", "--out", "o", *option)
        assert refused.returncode == 2
        assert "give --server too" in refused.stderr
