"""What handing out tasks costs, beside what the tasks take: local processes, and a Dask cluster."""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from _rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openhcs.execution import Executor
    from openhcs.pipeline import Event, Plan

__all__ = ["scheduling_rows"]

WELLS = 32
LIMITS = {"local processes": 3.0, "Dask": 8.0}


class _Clock:
    """Listens to a run: when its wells began and ended, and what this process did meanwhile."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None
        self.ended = (0.0, 0.0)
        self.task_s = 0.0

    def __call__(self, event: Event) -> None:
        from openhcs.pipeline import WellFinished, WellStarted

        now = (time.perf_counter(), time.process_time())
        if isinstance(event, WellStarted) and self.began is None:
            self.began = now
        if isinstance(event, WellFinished):
            self.ended = now
            self.task_s += event.seconds

    def overhead(self) -> float:
        """Give the worker's idle time and this process's processor time, in % of the tasks' time.

        One worker has no last task to wait for, so that what it is idle is what it waits for the
        next; that this process works on another core meanwhile is counted as well.
        """
        assert self.began is not None
        wall, cpu = (end - start for end, start in zip(self.ended, self.began, strict=True))
        return 100 * (max(wall - self.task_s, 0.0) + cpu) / self.task_s


def scheduling_rows(folder: Path, *, repeats: int) -> list[Row]:
    """Measure runs with one worker on a plate of small wells."""
    from openhcs.pipeline import compile_pipeline, default_pipeline
    from openhcs.plates import open_plate
    from openhcs.testing import synthetic_plate

    plate = folder / "small wells"
    if not plate.exists():
        print(f"writing a plate of {WELLS} small wells", file=sys.stderr)
        names = tuple(f"{row}{column:02d}" for row in "ABCD" for column in range(1, 9))
        synthetic_plate(plate, wells=names, grid=(2, 2), overlap=0.1, z=1, size_px=540, seed=2)
    index = open_plate(plate)
    plan = compile_pipeline(default_pipeline(index), index)
    rows = []
    for name, limit in LIMITS.items():
        found, seconds = [], []
        with _executor(name) as executor:
            for _ in range(repeats):
                clock = _run(plan, folder / "scheduling", executor)
                found.append(clock.overhead())
                seconds.append(clock.task_s / WELLS)
        value = statistics.median(found)
        each = statistics.median(seconds)
        rows.append(
            Row(
                f"scheduling, {name}: idle worker and processor outside, tasks of {each:.2f} s",
                value,
                "%",
                None,
                None,
                f"at most {limit:.0f} %",
                value <= limit,
            )
        )
    return rows


def _run(plan: Plan, out: Path, executor: Executor) -> _Clock:
    from openhcs.execution import run

    clock = _Clock()
    result = run(plan, out, executor=executor, resume=False, on_event=clock)
    if not result.completed:
        raise RuntimeError(f"the run ended {result.outcome}: {result.wells}")
    return clock


@contextmanager
def _executor(name: str) -> Iterator[Any]:
    from openhcs.execution import DaskExecutor, LocalExecutor

    if name != "Dask":
        with LocalExecutor(1) as executor:
            yield executor
        return
    from distributed import LocalCluster

    # scheduler, client and nanny are in this process, so that its time is theirs
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
        ) as cluster,
        DaskExecutor(cluster) as executor,
    ):
        yield executor
