"""A 96-well plate end to end, against the sum of what its parts cost on the same cores."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from _rows import Row

WORKERS = 2
SAMPLE_S = 0.1
ENDED_S = 30.0


@dataclass(frozen=True)
class Measured:
    """What one run of the command took."""

    wall_s: float
    cpu_s: float
    parent_cpu_s: float
    peak_rss: int


def plate_rows(folder: Path, *, wells: int, repeats: int) -> list[Row]:
    """Measure runs of the command on a synthetic plate, and its parts in between."""
    plate = folder / "plate"
    write_plate(plate, wells)
    walls, floors, overheads, peaks, resumes = [], [], [], [], []
    for repeat in range(repeats):
        floors.append(_parts_s(plate, wells))
        out = folder / "results"
        run = measure_run([str(plate), "--out", str(out), "--force"])
        walls.append(run.wall_s)
        overheads.append(run.parent_cpu_s / run.cpu_s)
        peaks.append(run.peak_rss)
        resumes.append(measure_run([str(plate), "--out", str(out)]).wall_s)
        print(f"run {repeat + 1}: {run}, parts {floors[-1]:.1f} s", file=sys.stderr)
    ratio = statistics.median(wall / floor for wall, floor in zip(walls, floors, strict=True))
    overhead = 100 * statistics.median(overheads)
    peak = statistics.median(peaks) / 1e9
    resume = statistics.median(resumes)
    name = f"{wells} wells x 4 fields x 3 channels, 1080 x 1080, {WORKERS} workers"
    return [
        Row(
            f"end to end, {name}",
            statistics.median(walls),
            "s",
            statistics.median(floors),
            ratio,
            "at most 1.5 x the sum of its parts",
            ratio <= 1.5,
        ),
        Row(
            "all CPU outside the workers: start, index, plan, scheduling, report",
            overhead,
            "%",
            None,
            None,
            "at most 5 %",
            overhead <= 5.0,
        ),
        Row(
            "resident memory, process tree at its largest",
            peak,
            "GB",
            None,
            None,
            "at most 1.5 GB",
            peak <= 1.5,
        ),
        Row("resume of a finished plate", resume, "s", None, None, "under 3 s", resume < 3.0),
    ]


def write_plate(plate: Path, wells: int) -> None:
    """Write the plate unless it is there: images of the usual size, in wells from A01 on."""
    from openhcs.testing import synthetic_plate

    if plate.exists():
        return
    names = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 13)]
    print(f"writing a plate of {wells} wells", file=sys.stderr)
    synthetic_plate(
        plate,
        wells=tuple(names[:wells]),
        grid=(2, 2),
        overlap=0.1,
        channels=("DAPI", "GFP", "Cy5"),
        z=1,
        size_px=1080,
        compression="lzw",
        seed=1,
        processes=WORKERS,
    )


def _parts_s(plate: Path, wells: int) -> float:
    """Time the parts in plain loops on as many cores, scaled to the whole plate."""
    with_parts = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_plate_parts.py")), str(plate), str(n)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(WORKERS)
    ]
    seconds = [
        float(json.loads(process.communicate()[0])["seconds_per_well"]) for process in with_parts
    ]
    return statistics.mean(seconds) * wells / WORKERS


def measure_run(words: list[str], workers: int = WORKERS) -> Measured:
    """Run the command as a user does, and watch its processes."""
    environment = {**os.environ, "COLUMNS": "100"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "openhcs", "run", *words, "--workers", str(workers)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    parent = psutil.Process(process.pid)
    cpu: dict[int, float] = {}
    peak = 0
    while process.poll() is None:
        total = 0
        try:
            tree = [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            break
        for member in tree:
            try:
                with member.oneshot():
                    total += member.memory_info().rss
                    times = member.cpu_times()
                    cpu[member.pid] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        peak = max(peak, total)
        time.sleep(SAMPLE_S)
    wall = time.perf_counter() - began
    _, said = process.communicate(timeout=ENDED_S)
    if process.returncode:
        raise RuntimeError(f"the run ended with status {process.returncode}:\n{said}")
    return Measured(wall, sum(cpu.values()), cpu[process.pid], peak)
