"""One well of a plan, or a part of what a step learns from the plate; runs in a worker process."""

from __future__ import annotations

import json
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openhcs._errors import PlaneDamagedError, PlaneUnreadableError
from openhcs._words import reason_of
from openhcs.execution._fitness import installed, unfit
from openhcs.execution._folder import ResultFolder
from openhcs.execution._resume import read_filled
from openhcs.execution._turn import Stopped, Turn
from openhcs.execution._well_outputs import WellOutputs, clear_outputs
from openhcs.functions import gpu_is_lost
from openhcs.pipeline import (
    Evaluation,
    FilledPlane,
    GroupKey,
    Outcome,
    PlannedStep,
    filled_of,
    steps_in,
    well_planes,
)
from openhcs.plates import IndexShards, write_shards
from polystore.files import atomic_folder, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions import Prepared
    from openhcs.pipeline import Plan
    from openhcs.plates import Plane, PlateIndex

__all__ = [
    "CombineTask",
    "SummaryTask",
    "Task",
    "WellTask",
    "combine",
    "errno_of",
    "keep",
    "perform",
    "run_task",
    "summary_files",
    "write_work",
]

_SCHEMA = 1
_PER_TASK = 8
"""Planes of a summary task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WellTask:
    """A well to be taken through the steps.

    Attributes
    ----------
    folder
        The result folder, which holds the plan and the index of the plate.
    well
        Name of the well.
    keys
        Content key of each step, by name.
    reused
        Steps whose outputs are there and still right.
    prepared
        Key of what each step learned from the plate, by step name.
    run_id
        The run that this is a part of.
    attempt
        Which attempt at it this is, from 1.
    """

    folder: str
    well: str
    keys: Mapping[str, str]
    reused: tuple[str, ...]
    prepared: Mapping[str, str]
    run_id: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Names it among the tasks of its run."""
        return self.well


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryTask:
    """Planes to be summarised for a step that learns from the plate.

    Attributes
    ----------
    folder
        The result folder.
    step
        Name of the step.
    channel
        Number of the channel.
    planes
        Well, field, z and t of each.
    out
        File for the summaries.
    run_id, attempt
        As in `WellTask`.
    """

    folder: str
    step: str
    channel: int
    planes: tuple[tuple[str, int, int, int], ...]
    out: str
    run_id: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Names it among the tasks of its run."""
        return f"{self.step}-{Path(self.out).stem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CombineTask:
    """Summaries of a channel to be made into what a step learns of it.

    Attributes
    ----------
    folder
        The result folder.
    step
        Name of the step.
    channel
        Number of the channel.
    summaries
        Folder with what summary tasks found, in the files that `summary_files` names.
    planes
        How many planes they were given.
    shape
        (y, x) of the channel's planes, in pixels.
    vendor
        File with the plate's own profile; None where it has none.
    out
        Folder for the arrays.
    run_id, attempt
        As in `WellTask`.
    """

    folder: str
    step: str
    channel: int
    summaries: str
    planes: int
    shape: tuple[int, int]
    vendor: str | None
    out: str
    run_id: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Names it among the tasks of its run."""
        return f"{self.step}-{self.channel}"


Task: TypeAlias = WellTask | SummaryTask | CombineTask

Finished: TypeAlias = Callable[[str, float], None]


def summary_files(folder: Path, channel: int, planes: int) -> Mapping[range, Path]:
    """Divide the planes that a channel is learned from among tasks, and name the file of each."""
    return {
        range(planes)[begin : begin + _PER_TASK]: folder / f"{channel}-{begin:04d}.npz"
        for begin in range(0, planes, _PER_TASK)
    }


def write_work(folder: ResultFolder, plan: Plan) -> None:
    """Write what tasks refer to: the plan's steps and the index of the plate."""
    shutil.rmtree(folder.claims, ignore_errors=True)
    folder.claims.mkdir()
    for name, index in (("index", plan.index), ("plate", plan.plate)):
        place = folder.work / name
        if place.is_file():
            place.unlink()  # as runs of before wrote it
        with atomic_folder(place) as path:
            write_shards(index, path)
    write_json(
        folder.work / "plan.json",
        {
            "schema": _SCHEMA,
            "steps": [step.to_json() for step in plan.steps],
            "channels": list(plan.channels),
            "pixel_um": plan.pixel_um,
            "fill": plan.fill,
            "skipped": {well: sorted(groups) for well, groups in plan.skipped.items()},
            "installed": installed(),
            "plate": _plate_facts(plan.index),
        },
    )


def _plate_facts(index: PlateIndex) -> dict[str, Any]:
    """Give what a worker elsewhere knows the plate by: its place, and a file in it."""
    sizes = zip(index.column("path").tolist(), index.column("file_size").tolist(), strict=True)
    file, size = next(((path, size) for path, size in sizes if path and size > 0), (None, None))
    return {"path": str(index.root), "file": file, "size": size}


def perform(task: Task) -> dict[str, Any]:
    """Do a task in any process that sees the result folder, and give its record as JSON values.

    This is what is submitted to an executor of the standard library. It stops, between planes, when
    the run is stopped or another one has begun.
    """
    problem = unfit(task.folder, task.run_id)
    if problem is not None:
        error = f"a worker on {socket.gethostname()} cannot be used: {problem}"
        return {"outcome": str(Outcome.LOST), "error": error}
    return run_task(task, proceed=_go_on, finished=_unheard)


def _go_on() -> None:
    """Do as the result folder says, and look nowhere else."""


def _unheard(step: str, seconds: float) -> None:
    """Tell nobody: the record has it."""


def run_task(task: Task, *, proceed: Callable[[], None], finished: Finished) -> dict[str, Any]:
    """Do a task and give its record as JSON values.

    Parameters
    ----------
    task
        What is to be done.
    proceed
        Called between planes; raises `Stopped` to end the task.
    finished
        Told each step that is done, and its seconds.

    Returns
    -------
    dict
        ``outcome`` and what belongs to it; an error comes with its traceback, and with ``spent``
        where this process is of no use after it.
    """
    started = time.perf_counter()
    try:
        work = _work(task.folder, (Path(task.folder) / "work" / "plan.json").stat().st_mtime_ns)
        turn = Turn(work.folder, task.run_id)

        def go_on() -> None:
            proceed()
            turn.glance()

        match task:
            case SummaryTask():
                record = _summarise(work, task, go_on)
            case CombineTask():
                step = next(step for step in work.steps if step.name == task.step)
                record = keep(combine(step, task), task)
            case WellTask():
                record = _run_well(work, task, go_on, finished)
    except Stopped:
        return {"outcome": str(Outcome.CANCELLED)}
    except Exception as error:  # noqa: BLE001  # the end of a task, with the traceback kept
        return {
            "outcome": str(Outcome.FAILED),
            "error": reason_of(error)
            if isinstance(error, OSError)
            else str(error) or type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
            "errno": errno_of(error),
            "spent": gpu_is_lost(error),
            "seconds": time.perf_counter() - started,
        }
    return record | {"outcome": str(Outcome.OK), "seconds": time.perf_counter() - started}


def errno_of(error: BaseException | None) -> int | None:
    """Give the operating system's number for what went wrong, if it had a part in it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """The plan as a worker knows it."""

    folder: ResultFolder
    index: IndexShards
    steps: tuple[PlannedStep, ...]
    channels: tuple[str, ...]
    pixel_um: tuple[float, float] | None
    skipped: Mapping[str, frozenset[tuple[int, int]]]
    fill: int | float | None


@lru_cache(maxsize=1)
def _work(path: str, changed: int) -> _Work:  # noqa: ARG001  # a changed plan is read anew
    folder = ResultFolder(path)
    plan = json.loads((folder.work / "plan.json").read_bytes())
    size = plan["pixel_um"]
    return _Work(
        folder=folder,
        index=IndexShards(folder.work / "index"),
        steps=tuple(PlannedStep.from_json(step) for step in plan["steps"]),
        channels=tuple(plan["channels"]),
        pixel_um=None if size is None else (size[0], size[1]),
        skipped={
            well: frozenset((field, t) for field, t in groups)
            for well, groups in plan["skipped"].items()
        },
        fill=plan["fill"],
    )


@lru_cache(maxsize=1)
def _plate(path: Path, changed: int) -> IndexShards:  # noqa: ARG001  # a changed one is read anew
    return IndexShards(path)


@lru_cache(maxsize=64)
def _prepared(folder: Path, key: str) -> Mapping[str, NDArray[Any]]:  # noqa: ARG001  # by content
    # Mapped, so that the workers of one host hold one copy between them.
    return {
        path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
        for path in sorted(folder.glob("*.npy"))
    }


class _WellPlanes:
    """The raw planes of one well."""

    def __init__(self, work: _Work, task: WellTask) -> None:
        self._work = work
        self._task = task
        skipped = work.skipped.get(task.well, frozenset())
        self._index = work.index.well(task.well)
        self._planes = well_planes(self._index, task.well, work.channels, skipped)
        self.pixel_um = work.pixel_um
        self._filled = {
            plane.place: plane
            for plane in filled_of(self._index, work.channels, work.fill).get(task.well, ())
        }

    def keys(self) -> Sequence[GroupKey]:
        return tuple(self._planes)

    def read(self, key: GroupKey) -> NDArray[Any]:
        plane = self._planes[key]
        if plane.status != "ok":
            return self._constant(plane)
        try:
            return self._index.read(plane)
        except PlaneDamagedError as error:
            # What cannot be reached, or has changed, may be there the next time: it is no damage.
            if self._work.fill is None or plane.shape is None or plane.dtype is None:
                raise
            filled = FilledPlane.of(plane, self._work.channels, self._work.fill, str(error))
            self._filled[filled.place] = filled
            return self._constant(plane)

    def _constant(self, plane: Plane) -> NDArray[Any]:
        assert self._work.fill is not None  # else the plan has no such plane
        assert plane.shape is not None  # of its channel
        return np.full(plane.shape, self._work.fill, plane.dtype)

    def filled(self, earlier: Sequence[FilledPlane]) -> list[dict[str, Any]]:
        """List the planes that were filled; also those that only reused steps have read."""
        found = {plane.place: plane for plane in earlier if plane.error is not None}
        return [plane.to_json() for _, plane in sorted((found | self._filled).items())]

    def place(self, key: GroupKey, axis: str) -> float:
        plane = self._plane(key)
        match axis:
            case "x":
                return plane.x_um
            case "y":
                return plane.y_um
            case "z":
                return plane.z_um
            case _:
                return float("nan") if plane.time_s is None else plane.time_s

    def size(self, key: GroupKey) -> tuple[int, int] | None:
        return self._plane(key).shape

    def prepared(self, step: str, channel: str | None) -> Mapping[str, NDArray[Any]]:
        number = self._work.channels.index(str(channel))
        folder = self._work.folder.prepared / step / str(number)
        return _prepared(folder, self._task.prepared[step])

    def _plane(self, key: GroupKey) -> Plane:
        plane = self._planes.get(key)
        if plane is None:
            plane = next(plane for other, plane in self._planes.items() if key.agrees(other))
        return plane


def _run_well(
    work: _Work, task: WellTask, proceed: Callable[[], None], finished: Finished
) -> dict[str, Any]:
    seconds: dict[str, float] = {}

    def done(step: str, time_taken: float) -> None:
        seconds[step] = time_taken
        finished(step, time_taken)

    steps = steps_in(work.steps, task.well)
    planes = _WellPlanes(work, task)
    outputs = WellOutputs(
        work.folder,
        steps,
        task.well,
        planes=planes,
        pixel_um=work.pixel_um,
        reused=frozenset(task.reused),
        proceed=proceed,
        finished=done,
    )
    earlier, filled = _begin(work.folder, steps, task)
    clear_outputs(work.folder, steps, task.well, task.reused)
    try:
        evaluation = Evaluation(steps, planes, outputs)
        outputs.arrange(evaluation)
        evaluation.run()
        started = time.perf_counter()
        _check_still_ours(work.folder, task)
        rows = outputs.commit()
    finally:
        outputs.abort()
    seconds["read"] = evaluation.seconds.get("read", 0.0)
    seconds["write"] = evaluation.seconds.get("write", 0.0) + time.perf_counter() - started
    record = {
        "schema": _SCHEMA,
        "well": task.well,
        "run_id": task.run_id,
        "attempt": task.attempt,
        "outcome": str(Outcome.OK),
        "keys": dict(task.keys),
        "seconds": seconds,
        "measures": earlier | {name: _plain(row) for name, row in rows.items()},
        "images": [asdict(image) for image in outputs.images()],
        "filled": planes.filled(filled),
    }
    work.folder.write_record(task.well, record)
    return {"record": record}


def _check_still_ours(folder: ResultFolder, task: WellTask) -> None:
    """Stop a task that was given up, or begun again elsewhere, before its results are in place.

    Its worker may have been cut off for a while, and does not know.
    """
    Turn(folder, task.run_id).check()
    there = folder.read_record(task.well) or {}
    ours = {"run_id": task.run_id, "attempt": task.attempt, "outcome": "running"}
    if any(there.get(name) != value for name, value in ours.items()):
        raise Stopped


def _begin(
    folder: ResultFolder, steps: Sequence[PlannedStep], task: WellTask
) -> tuple[dict[str, Any], tuple[FilledPlane, ...]]:
    """Say on disk that only reused steps count from now on.

    Gives what these are summed up to, and the planes that were filled for them.
    """
    there = folder.read_record(task.well) or {}
    reused = {
        output.stored for step in steps if step.name in task.reused for output in step.outputs
    }
    filled = read_filled(there) if task.reused else ()
    kept = {output: row for output, row in there.get("measures", {}).items() if output in reused}
    record = {
        "schema": _SCHEMA,
        "well": task.well,
        "run_id": task.run_id,
        "attempt": task.attempt,
        "outcome": "running",
        "keys": {name: key for name, key in task.keys.items() if name in task.reused},
        "measures": kept,
        "images": there.get("images", []),
        "filled": [plane.to_json() for plane in filled],
    }
    folder.write_record(task.well, record)
    return kept, filled


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give scalars as JSON has them: no number that is none."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in row.items()
    }


def _summarise(work: _Work, task: SummaryTask, proceed: Callable[[], None]) -> dict[str, Any]:
    step = next(step for step in work.steps if step.name == task.step)
    preparation = step.spec.preparation
    assert preparation is not None  # summaries are asked for steps that have one
    path = work.folder.work / "plate"
    plate = _plate(path, path.stat().st_mtime_ns)
    arrays: dict[str, NDArray[Any]] = {}
    unread: list[str] = []
    planes = plate.well("")
    for number, (well, field, z, t) in enumerate(task.planes):
        if well not in planes.wells:
            planes = plate.well(well)
        (plane,) = planes.select(
            fields=[field],
            channels=[task.channel],
            z=[z],
            t=[t],
            kind=None,
            status=None,
        )
        proceed()
        try:
            pixels = planes.read(plane)
        except PlaneUnreadableError as error:
            # It costs its own well when its turn comes, not the plate.
            unread.append(str(error))
            continue
        summary = preparation.summarise(pixels, step.parameters)
        arrays.update({f"{number}/{name}": array for name, array in summary.items()})
    np.savez(task.out, **arrays)  # type: ignore[arg-type]  # names of arrays, none of them a flag
    return {"out": task.out, "unread": unread}


def combine(step: PlannedStep, task: CombineTask) -> Prepared:
    """Make what a step learns of a channel from its summaries."""
    preparation = step.spec.preparation
    assert preparation is not None  # as for its summaries
    files = summary_files(Path(task.summaries), task.channel, task.planes).values()
    return preparation.combine(
        [summary for file in files for summary in _read_summaries(file)],
        step.parameters,
        shape=task.shape,
        vendor=None if task.vendor is None else np.load(task.vendor, allow_pickle=False),
    )


def keep(prepared: Prepared, task: CombineTask) -> dict[str, Any]:
    """Write what was learned of a channel, and give the record of the task."""
    with atomic_folder(Path(task.out)) as folder:
        for name, array in prepared.arrays.items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
    return {"note": dict(prepared.note)}


def _read_summaries(path: Path) -> list[dict[str, NDArray[Any]]]:
    """Give the summaries of those planes that could be read, in their order."""
    by_plane: dict[int, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            number, _, part = name.partition("/")
            by_plane.setdefault(int(number), {})[part] = stored[name]
    return [by_plane[number] for number in sorted(by_plane)]
