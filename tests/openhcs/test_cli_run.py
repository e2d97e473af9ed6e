"""Runs as real processes: what the shell, the terminal and the next run see."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openhcs.cli._progress import TimeLeft
from openhcs.cli._run import default_workers
from openhcs.testing import PlateTruth, synthetic_plate

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")

WELLS = tuple(f"{row}{column:02d}" for row in "ABCD" for column in range(1, 7))
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# Without illumination, which is learned before any well is begun: these runs are about wells.
PIPELINE = """from openhcs import Pipeline, Step
from openhcs.functions import measure_image_quality, measure_objects, segment_nuclei, stitch

pipeline = Pipeline(
    Step(measure_image_quality),
    Step(stitch, reference="DAPI"),
    Step(segment_nuclei, channel="DAPI"),
    Step(measure_objects),
)
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "openhcs", *map(str, words)]


def openhcs(*words: object) -> subprocess.CompletedProcess[str]:
    """Carry out a command to its end."""
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Path:
    path = folder / "pipeline.py"
    path.write_text(PIPELINE, "utf-8")
    return path


@pytest.fixture(scope="module")
def small(folder: Path) -> PlateTruth:
    """Three wells; a plane of the second one cannot be decoded."""
    truth = synthetic_plate(
        folder / "small",
        wells=("A01", "B02", "C03"),
        size_px=96,
        z=1,
        grid=(1, 2),
        compression="deflate",
    )
    planes = truth.planes
    place = planes["path"][(planes["well"] == "B02") & (planes["channel"] == 1)][0]
    pixels = bytearray((truth.folder / place).read_bytes())
    middle = len(pixels) // 2
    pixels[middle : middle + 500] = b"\xff" * 500
    (truth.folder / place).write_bytes(pixels)
    return truth


@pytest.fixture(scope="module")
def broken(
    folder: Path, small: PlateTruth, pipeline: Path
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run over it."""
    out = folder / "broken"
    return out, openhcs("run", small.folder, pipeline, "--out", out, "--workers", 1)


@pytest.fixture(scope="module")
def many(folder: Path) -> Path:
    """So many wells that a run can be met in the middle."""
    return synthetic_plate(
        folder / "many", wells=WELLS, size_px=96, z=1, grid=(1, 2), channels=("DAPI",)
    ).folder


def outcomes(out: Path) -> dict[str, str]:
    rows = pq.ParquetFile(out / "wells.parquet").read().to_pylist()
    return {row["well"]: row["outcome"] for row in rows}


def test_a_failed_well_is_named_and_the_others_go_on(
    broken: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = broken
    assert done.returncode == 1
    assert "3 wells: 2 ok, 1 failed" in done.stdout
    assert re.search(r"^B02: failed: .*cannot be decoded", done.stdout, re.MULTILINE)
    assert re.search(r"^\W*B02\W+failed\W", done.stdout, re.MULTILINE)
    assert "Tracebacks are in" in done.stdout
    trace = "Traceback (most recent call last)"
    assert trace not in done.stdout + done.stderr
    assert trace in (out / "run.log").read_text("utf-8")
    assert outcomes(out) == {"A01": "ok", "B02": "failed", "C03": "ok"}
    assert (out / "report.html").is_file()


def test_a_run_without_a_terminal_prints_plain_lines(
    broken: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = broken
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert re.search(r"^A01: \d+\.\d s, 1 of 3$", done.stdout, re.MULTILINE)


def test_a_run_is_repeated_elsewhere_and_in_place(
    folder: Path, broken: tuple[Path, subprocess.CompletedProcess[str]], small: PlateTruth
) -> None:
    out, _ = broken
    elsewhere = openhcs("run", "--again", out, "--out", folder / "again")
    assert elsewhere.returncode == 1
    assert outcomes(folder / "again") == outcomes(out)
    first = small.folder / small.planes["path"][small.planes["well"] == "C03"][0]
    os.utime(first, ns=(1, 1))
    in_place = openhcs("run", "--again", out)
    assert in_place.returncode == 1
    assert "files of the plate have changed" in in_place.stdout
    assert "1 of 3 wells is finished and unchanged" in in_place.stdout


def test_a_run_with_wells_that_cannot_run_names_them_first(folder: Path, pipeline: Path) -> None:
    truth = synthetic_plate(
        folder / "holes",
        wells=("A01", "A02"),
        size_px=64,
        z=1,
        grid=(1, 1),
        channels=("DAPI",),
        faults=("empty-file",),
    )
    (fault,) = truth.faults
    done = openhcs("run", truth.folder, pipeline, "--out", folder / "holed", "--workers", 1)
    assert done.returncode == 1
    told = done.stdout.index(f"{fault.well} cannot run: the plane of field 0")
    assert told < done.stdout.index("1 of 2" if "1 of 2" in done.stdout else "2 of 2")


def test_a_viewer_that_cannot_be_had_is_left_out(
    folder: Path, small: PlateTruth, pipeline: Path
) -> None:
    words = ["run", small.folder, pipeline, "--out", folder / "unseen", "--wells", "A01"]
    surroundings = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DISPLAY", "WAYLAND_DISPLAY"}
    }
    done = subprocess.run(
        command(*words, "--viewer", "napari", "--viewer-port", 47_113),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=surroundings,
    )
    assert done.returncode == 0
    assert len([line for line in done.stdout.splitlines() if "Viewer left out" in line]) == 1


def test_a_plate_that_vanishes_fails_its_wells_by_name(
    folder: Path, many: Path, pipeline: Path
) -> None:
    plate = folder / "vanishing"
    shutil.copytree(many, plate)
    run = Stoppable(plate, pipeline, folder / "vanished")
    run.wait_for_a_well()
    run.freeze()
    shutil.rmtree(plate)
    run.thaw()
    assert run.finish() == 1
    told = outcomes(folder / "vanished")
    assert set(told) == set(WELLS)
    assert {"ok", "failed"} == set(told.values())


class Stoppable:
    """A run in a process of its own that can be met while a worker is at a well."""

    def __init__(self, plate: Path, pipeline: Path, out: Path) -> None:
        self.process = subprocess.Popen(
            command("run", plate, pipeline, "--out", out, "--workers", 1),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""
        self.workers: tuple[int, ...] = ()

    def wait_for_a_well(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if ", 1 of " in line:
                return
        pytest.fail(f"the run ended before a well was done: {self.output}")

    def freeze(self) -> None:
        """Hold the workers, so that the run cannot come to its end meanwhile."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        tasks = children.parent.parent.glob("*/children")
        self.workers = tuple(int(pid) for task in tasks for pid in task.read_text().split())
        assert self.workers
        for pid in self.workers:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.workers:
            os.kill(pid, signal.SIGCONT)

    def finish(self) -> int:
        rest, _ = self.process.communicate(timeout=40)
        self.output += rest
        return self.process.returncode


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)],
    ids=["ctrl-c", "twice", "sigterm"],
)
def test_a_run_that_is_stopped_keeps_what_is_finished_and_goes_on_later(
    folder: Path, many: Path, pipeline: Path, signals: tuple[signal.Signals, ...]
) -> None:
    out = folder / "-".join(each.name for each in signals)
    segments = set(Path("/dev/shm").iterdir())
    run = Stoppable(many, pipeline, out)
    run.wait_for_a_well()
    run.freeze()
    for each in signals:
        run.process.send_signal(each)
    run.thaw()
    assert run.finish() == 130
    assert "Stopping: what is finished is kept." in run.output
    assert "Traceback" not in run.output
    for pid in run.workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    made = set(Path("/dev/shm").iterdir()) - segments
    left = [path for path in made if str(run.process.pid) in path.name]
    assert not left
    told = outcomes(out)
    finished = [well for well, outcome in told.items() if outcome == "ok"]
    assert set(told) == set(WELLS)
    assert set(told.values()) == {"ok", "cancelled"}
    assert "cancelled" in (out / "report.html").read_text("utf-8")
    before = {well: (out / "objects" / f"{well}.parquet").stat().st_mtime_ns for well in finished}
    if len(signals) == 1 and signals[0] is signal.SIGINT:
        again = openhcs("run", many, pipeline, "--out", out)
        assert again.returncode == 0
        are = "is" if len(finished) == 1 else "are"
        assert f"{len(finished)} of {len(WELLS)} wells {are} finished and unchanged" in again.stdout
        assert set(outcomes(out).values()) == {"ok"}
        for well, time in before.items():
            assert (out / "objects" / f"{well}.parquet").stat().st_mtime_ns == time


def test_a_terminal_shows_a_bar_with_the_time_left(
    folder: Path, many: Path, pipeline: Path
) -> None:
    import pty

    ours, theirs = pty.openpty()
    out = folder / "watched"
    process = subprocess.Popen(
        command("run", many, pipeline, "--out", out, "--workers", 1),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"},
    )
    os.close(theirs)
    pieces: list[bytes] = []
    try:
        while select.select([ours], [], [], 50)[0]:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            pieces.append(piece)
        assert process.wait(50) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    drawn = ESCAPES.sub("", b"".join(pieces).decode())
    frames = re.findall(r"(\d+)/24 wells", drawn)
    assert len(set(frames)) > 2
    assert re.search(r"about \d+:\d\d left", drawn)
    assert "━" in drawn
    assert "segment_nuclei" in drawn
    assert "24 wells: 24 ok" in drawn
    assert ", 1 of 24" not in drawn


def test_inspect_tells_scripts_what_a_plate_holds(small: PlateTruth) -> None:
    done = openhcs("inspect", small.folder, "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert {key: facts[key] for key in ("wells", "fields", "channels", "z", "t")} == {
        "wells": ["A01", "B02", "C03"],
        "fields": [0, 1],
        "channels": ["DAPI", "GFP"],
        "z": [0],
        "t": [0],
    }
    assert facts["format"] == "imagexpress"
    assert facts["planes"] == 12
    assert facts["dtype"] == "uint16"
    assert facts["pixel_size_um"] == pytest.approx([0.65, 0.65])
    assert facts["findings"] == []


def test_inspect_tells_people_what_is_wrong_worst_first(folder: Path) -> None:
    plate = synthetic_plate(
        folder / "odd",
        wells=("A01", "A02"),
        size_px=48,
        z=1,
        faults=("foreign-file", "missing-plane"),
    ).folder
    done = openhcs("inspect", plate)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert any(re.match(r"wells\s+2 of 96: A01, A02", line) for line in lines)
    ranks = [line.split()[0] for line in lines if line.startswith(("error", "warning", "info"))]
    assert ranks
    assert ranks == sorted(ranks, key=["error", "warning", "info"].index)
    assert "MISSING_PLANE" in done.stdout
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("now", "done", "left"), [(1.0, 0.1, None), (30.0, 6.0, 90.0), (60.0, 24.0, 0.0)]
)
def test_the_time_left_follows_from_what_is_done(
    now: float, done: float, left: float | None
) -> None:
    clock = [0.0]
    estimate = TimeLeft(lambda: clock[0])
    assert estimate.seconds() is None
    estimate.advance(0.0, 24.0)
    clock[0] = now
    estimate.advance(done, 24.0)
    assert estimate.seconds() == (None if left is None else pytest.approx(left))


def test_there_is_a_worker_for_each_processor() -> None:
    assert 1 <= default_workers() <= (os.cpu_count() or 1)
