"""What a step learns from the plate: planes are summarised, summaries combined, and kept."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlaneUnreadableError
from openhcs.plates import IndexShards
from polystore.files import atomic_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from openhcs.execution._task import CombineTask, SummaryTask
    from openhcs.execution._work import Work
    from openhcs.functions import Prepared
    from openhcs.pipeline import PlannedStep

__all__ = ["combine", "keep", "summarise", "summary_files"]

_PER_TASK = 8
"""Planes of a summary task."""


def summary_files(folder: Path, channel: int, planes: int) -> Mapping[range, Path]:
    """Divide the planes that a channel is learned from among tasks, and name the file of each."""
    return {
        range(planes)[begin : begin + _PER_TASK]: folder / f"{channel}-{begin:04d}.npz"
        for begin in range(0, planes, _PER_TASK)
    }


def summarise(work: Work, task: SummaryTask, proceed: Callable[[], None]) -> dict[str, Any]:
    """Write the summaries of planes, and give the record of the task."""
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
        vendor_dark=task.vendor_dark,
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


@lru_cache(maxsize=1)
def _plate(path: Path, changed: int) -> IndexShards:  # noqa: ARG001  # a changed one is read anew
    return IndexShards(path)
