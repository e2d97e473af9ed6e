"""One well of a plan, from its planes to its results; runs in a worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from openhcs._errors import PlaneDamagedError
from openhcs.execution._exclusion import rule_keys
from openhcs.execution._resume import read_filled
from openhcs.execution._turn import Stopped, Turn
from openhcs.execution._well_outputs import WellOutputs, clear_outputs
from openhcs.execution._work import SCHEMA
from openhcs.pipeline import Evaluation, FilledPlane, Outcome, filled_of, steps_in, well_planes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._task import WellTask
    from openhcs.execution._work import Work
    from openhcs.pipeline import GroupKey, PlannedStep
    from openhcs.plates import Plane

__all__ = ["Finished", "run_well"]

Finished: TypeAlias = Callable[[str, float], None]
"""Told each step that is done, and its seconds."""


class _WellPlanes:
    """The raw planes of one well."""

    def __init__(self, work: Work, task: WellTask) -> None:
        self._work = work
        self._task = task
        self.left_out = work.skipped.get(task.well, frozenset())
        self._index = work.index.well(task.well)
        self._planes = well_planes(self._index, task.well, work.channels, self.left_out)
        self.pixel_um = work.pixel_um
        self._filled = {
            plane.place: plane
            for plane in filled_of(self._index, work.channels, work.fill).get(task.well, ())
        }

    def keys(self) -> Sequence[GroupKey]:
        return tuple(self._planes)

    def fields(self) -> frozenset[int]:
        return frozenset(key.field for key in self._planes if key.field is not None)

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


def run_well(
    work: Work, task: WellTask, proceed: Callable[[], None], finished: Finished
) -> dict[str, Any]:
    """Do the steps of a well, put its results in place, and give the record of the task."""
    seconds: dict[str, float] = {}

    def done(step: str, time_taken: float) -> None:
        seconds[step] = time_taken
        finished(step, time_taken)

    steps = steps_in(work.steps, task.well)
    planes = _WellPlanes(work, task)
    earlier, filled = _begin(work.folder, steps, task)
    rules = rule_keys(steps, task.keys)
    outputs = WellOutputs(
        work.folder,
        steps,
        task.well,
        planes=planes,
        pixel_um=work.pixel_um,
        reused=frozenset(task.reused),
        anew=None if earlier["rules"] == rules else earlier["fields"],
        proceed=proceed,
        finished=done,
    )
    clear_outputs(work.folder, steps, task.well, task.reused)
    try:
        evaluation = Evaluation(steps, planes, outputs)
        outputs.arrange(evaluation)
        evaluation.run()
        started = time.perf_counter()
        _check_still_ours(work.folder, task)
        sums = outputs.commit()
    finally:
        outputs.abort()
    seconds["read"] = evaluation.seconds.get("read", 0.0)
    seconds["write"] = evaluation.seconds.get("write", 0.0) + time.perf_counter() - started
    record = {
        "schema": SCHEMA,
        "well": task.well,
        "run_id": task.run_id,
        "attempt": task.attempt,
        "outcome": str(Outcome.OK),
        "keys": dict(task.keys),
        "seconds": seconds,
        "measures": earlier["measures"]
        | {name: _plain(row) for name, row in sums.measures.items()},
        "fields": earlier["fields"] | sums.fields,
        "excluded": (earlier["excluded"] if earlier["rules"] == rules else {}) | sums.excluded,
        "rules": rules,
        "images": [asdict(image) for image in outputs.images()],
        "filled": planes.filled(filled),
        "left_out": sorted(planes.left_out),
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

    Gives what these are summed up to and were made from, by output, and the planes that were filled
    for them.
    """
    there = folder.read_record(task.well) or {}
    reused = {
        output.stored for step in steps if step.name in task.reused for output in step.outputs
    }
    filled = read_filled(there) if task.reused else ()
    kept = {
        name: {output: row for output, row in there.get(name, {}).items() if output in reused}
        for name in ("measures", "fields", "excluded")
    }
    kept["rules"] = there.get("rules", {})
    record = {
        "schema": SCHEMA,
        "well": task.well,
        "run_id": task.run_id,
        "attempt": task.attempt,
        "outcome": "running",
        "keys": {name: key for name, key in task.keys.items() if name in task.reused},
        **kept,
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


@lru_cache(maxsize=64)
def _prepared(folder: Path, key: str) -> Mapping[str, NDArray[Any]]:  # noqa: ARG001  # by content
    # Mapped, so that the workers of one host hold one copy between them.
    return {
        path.stem: np.load(path, mmap_mode="r", allow_pickle=False)
        for path in sorted(folder.glob("*.npy"))
    }
