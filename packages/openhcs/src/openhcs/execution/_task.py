"""One well of a plan, or a part of what a step learns from the plate; runs in a worker process."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openhcs._errors import PlaneUnreadableError
from openhcs.execution._folder import ResultFolder
from openhcs.execution._well_outputs import WellOutputs, clear_outputs
from openhcs.pipeline import Evaluation, GroupKey, Outcome, PlannedStep, steps_in, well_planes
from openhcs.plates import IndexShards, write_shards
from polystore.files import atomic_folder, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.pipeline import Plan
    from openhcs.plates import Plane

__all__ = ["Stopped", "SummaryTask", "Task", "WellTask", "errno_of", "run_task", "write_work"]

_SCHEMA = 1


class Stopped(BaseException):
    """The run was cancelled; no function that catches its own errors may catch this."""


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
    """

    folder: str
    well: str
    keys: Mapping[str, str]
    reused: tuple[str, ...]
    prepared: Mapping[str, str]
    run_id: str


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
    """

    folder: str
    step: str
    channel: int
    planes: tuple[tuple[str, int, int, int], ...]
    out: str


Task: TypeAlias = WellTask | SummaryTask

Finished: TypeAlias = Callable[[str, float], None]


def write_work(folder: ResultFolder, plan: Plan) -> None:
    """Write what tasks refer to: the plan's steps and the index of the plate."""
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
            "skipped": {well: sorted(groups) for well, groups in plan.skipped.items()},
        },
    )


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
        ``outcome`` and what belongs to it; an error comes with its traceback.
    """
    started = time.perf_counter()
    try:
        work = _work(task.folder, (Path(task.folder) / "work" / "plan.json").stat().st_mtime_ns)
        if isinstance(task, SummaryTask):
            record = _summarise(work, task, proceed)
        else:
            record = _run_well(work, task, proceed, finished)
    except Stopped:
        return {"outcome": str(Outcome.CANCELLED)}
    except Exception as error:  # noqa: BLE001  # the end of a task, with the traceback kept
        return {
            "outcome": str(Outcome.FAILED),
            "error": str(error) or type(error).__name__,
            "traceback": "".join(traceback.format_exception(error)),
            "errno": errno_of(error),
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

    def keys(self) -> Sequence[GroupKey]:
        return tuple(self._planes)

    def read(self, key: GroupKey) -> NDArray[Any]:
        return self._index.read(self._planes[key])

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
    outputs = WellOutputs(
        work.folder,
        steps,
        task.well,
        pixel_um=work.pixel_um,
        reused=frozenset(task.reused),
        proceed=proceed,
        finished=done,
    )
    earlier = _begin(work.folder, task)
    clear_outputs(work.folder, steps, task.well, task.reused)
    try:
        evaluation = Evaluation(steps, _WellPlanes(work, task), outputs)
        outputs.arrange(evaluation)
        evaluation.run()
        started = time.perf_counter()
        rows = outputs.commit()
    finally:
        outputs.abort()
    seconds["read"] = evaluation.seconds.get("read", 0.0)
    seconds["write"] = evaluation.seconds.get("write", 0.0) + time.perf_counter() - started
    record = {
        "schema": _SCHEMA,
        "well": task.well,
        "run_id": task.run_id,
        "outcome": str(Outcome.OK),
        "keys": dict(task.keys),
        "seconds": seconds,
        "measures": earlier | {name: _plain(row) for name, row in rows.items()},
        "images": [asdict(image) for image in outputs.images()],
    }
    work.folder.write_record(task.well, record)
    return {"record": record}


def _begin(folder: ResultFolder, task: WellTask) -> dict[str, Any]:
    """Say on disk that only reused steps count from now on; give what they are summed up to."""
    there = folder.read_record(task.well) or {}
    kept = {
        output: row
        for output, row in there.get("measures", {}).items()
        if output in _reused_outputs(folder, task)
    }
    record = {
        "schema": _SCHEMA,
        "well": task.well,
        "run_id": task.run_id,
        "outcome": "running",
        "keys": {name: key for name, key in task.keys.items() if name in task.reused},
        "measures": kept,
        "images": there.get("images", []),
    }
    folder.write_record(task.well, record)
    return kept


def _reused_outputs(folder: ResultFolder, task: WellTask) -> frozenset[str]:
    plan = json.loads((folder.work / "plan.json").read_bytes())
    return frozenset(
        stored
        for step in plan["steps"]
        if step["name"] in task.reused
        for _, _, stored in step["outputs"]
    )


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
    for number, (well, field, z, t) in enumerate(task.planes):
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
