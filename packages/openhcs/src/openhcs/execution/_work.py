"""What tasks refer to: the plan and the index of its plate, in the result folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs.execution._fitness import installed
from openhcs.execution._folder import ResultFolder
from openhcs.pipeline import PlannedStep
from openhcs.plates import IndexShards, write_shards
from polystore.files import atomic_folder, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.pipeline import Plan
    from openhcs.plates import PlateIndex

__all__ = ["SCHEMA", "Work", "read_work", "write_work"]

SCHEMA = 1
"""Of the plan and of the records of wells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The plan as a worker knows it."""

    folder: ResultFolder
    index: IndexShards
    steps: tuple[PlannedStep, ...]
    channels: tuple[str, ...]
    pixel_um: tuple[float, float] | None
    skipped: Mapping[str, frozenset[tuple[int, int]]]
    fill: int | float | None


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
            "schema": SCHEMA,
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


def read_work(path: str) -> Work:
    """Read the plan of a result folder, unless it is the one that was read last."""
    return _read(path, (Path(path) / "work" / "plan.json").stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _read(path: str, changed: int) -> Work:  # noqa: ARG001  # a changed plan is read anew
    folder = ResultFolder(path)
    plan = json.loads((folder.work / "plan.json").read_bytes())
    size = plan["pixel_um"]
    return Work(
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
