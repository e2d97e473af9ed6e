"""How a run grows: compiling for a whole plate, memory by wells, and time by workers."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from _plate_run import measure_run, write_plate
from _rows import Row

from openhcs import Pipeline, Step, compile_pipeline, open_plate
from openhcs.functions import (
    correct_illumination,
    gaussian,
    measure_image_quality,
    measure_objects,
    project_max,
    segment_cells,
    segment_cytoplasm,
    segment_nuclei,
    stitch,
    subtract_background,
)
from openhcs.testing import synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path

STEPS = (
    Step(measure_image_quality),
    Step(correct_illumination),
    Step(project_max),
    Step(subtract_background),
    Step(gaussian, sigma_um=0.5),
    Step(stitch, reference="DAPI"),
    Step(segment_nuclei, channel="DAPI"),
    Step(segment_cells),
    Step(segment_cytoplasm),
    Step(measure_objects),
)
ROWS, COLUMNS = 16, 24
BUSY = """
import time
end, count = time.perf_counter() + {}, 0
while time.perf_counter() < end:
    count += sum(range(1000)) > 0
print(count)
"""
BUSY_S = 3.0


def rows(folder: Path, *, wells: int, repeats: int) -> list[Row]:
    """Measure on plates of small images, and the gain by workers on one of `wells` wells."""
    return [
        *_compile(folder, repeats),
        *_memory(folder, repeats),
        *_workers(folder, repeats, wells),
    ]


def _well_names(count: int) -> tuple[str, ...]:
    every = [f"{chr(65 + row)}{col + 1:02d}" for row in range(ROWS) for col in range(COLUMNS)]
    return tuple(every[:: len(every) // count][:count])


def _plate(folder: Path, name: str, wells: int, **kind: Any) -> Path:
    path = folder / name
    if not path.exists():
        synthetic_plate(
            path,
            wells=_well_names(wells),
            z=1,
            channels=("DAPI", "GFP", "Cy5"),
            plate_rows=ROWS,
            plate_columns=COLUMNS,
            processes=os.cpu_count() or 1,
            **kind,
        )
    return path


def _compile(folder: Path, repeats: int) -> list[Row]:
    plate = _plate(folder, "small", 384, grid=(2, 2), size_px=128, cells_per_field=3)
    index = open_plate(plate, cache=False)
    pipeline = Pipeline(*STEPS)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        compile_pipeline(pipeline, index)
        seconds.append(time.perf_counter() - started)
    value = statistics.median(seconds)
    row = "compile, 384 wells x 10 steps, 4,608 planes"
    return [Row(row, value, "s", None, None, "under 2 s", value < 2.0)]


def _memory(folder: Path, repeats: int) -> list[Row]:
    """Compare few wells and many, in each of which every step has its usual work.

    Eight wells have 64 fields, from which as much is learned as from more.
    """
    peaks: dict[int, list[int]] = {8: [], 384: []}
    kind = {"grid": (2, 4), "size_px": 256, "cells_per_field": 40, "touching": 0.5}
    for _ in range(min(3, repeats)):
        for wells, found in peaks.items():
            plate = _plate(folder, f"alike-{wells}", wells, **kind)
            words = [str(plate), "--out", str(folder / f"out-{wells}"), "--force"]
            found.append(measure_run(words).peak_rss)
    few, many = (statistics.median(found) / 1e6 for found in peaks.values())
    row = "resident memory, process tree, 384 wells beside 8"
    return [Row(row, many, "MB", few, many / few, "at most 1.1 x", many / few <= 1.1)]


def _workers(folder: Path, repeats: int, wells: int) -> list[Row]:
    """Time whole commands, start and report and all, on a plate of images of the usual size."""
    plate = folder / "plate"
    write_plate(plate, wells)
    walls: dict[int, list[float]] = {1: [], 2: []}
    free = []
    for repeat in range(min(3, repeats)):
        free.append(_free())
        for workers, found in walls.items():
            words = [str(plate), "--out", str(folder / "results"), "--force"]
            found.append(measure_run(words, workers).wall_s)
        took = ", ".join(f"{found[-1]:.1f} s by {workers}" for workers, found in walls.items())
        print(f"run {repeat + 1}: {took}; busy loops {free[-1]:.2f}", file=sys.stderr)
    gain = statistics.median(one / two for one, two in zip(*walls.values(), strict=True))
    limit = statistics.median(free)
    row = f"{wells} wells by two workers beside one; limit: two busy loops beside one"
    return [Row(row, gain, "x", limit, gain / limit, "at least 0.9 x", gain / limit >= 0.9)]


def _free() -> float:
    """Say how much more two processes get done than one, on the cores as they are."""

    def counted(processes: int) -> int:
        words = [sys.executable, "-c", BUSY.format(BUSY_S)]
        running = [
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        return sum(int(process.communicate()[0]) for process in running)

    return counted(2) / counted(1)
