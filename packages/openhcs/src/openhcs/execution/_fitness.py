"""Whether a process elsewhere can do the tasks of a run: what it sees, and what is installed."""

from __future__ import annotations

import importlib.metadata
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import PipelineError
from openhcs.execution._folder import ResultFolder
from openhcs.execution._turn import is_turn
from openhcs.functions import device_problem
from openhcs.pipeline import PlannedStep, edited_since_import, file_key, package_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.functions import FunctionSpec

__all__ = ["installed", "unfit"]

# What results depend on: the keys by which they are taken over name these of the run's own process.
_SAME = ("openhcs", "polystore", "numpy", "scipy", "scikit-image")


def installed() -> dict[str, str | None]:
    """Give the versions, in this process, of what has to be the same wherever tasks are done."""
    return {name: _version(name) for name in _SAME}


@lru_cache(maxsize=16)
def unfit(root: str, run_id: str) -> str | None:
    """Say why this process cannot do the tasks of a run; None when it can.

    Parameters
    ----------
    root
        The result folder.
    run_id
        Names the run.
    """
    folder = ResultFolder(root)
    try:
        if not is_turn(folder, run_id):
            return f"the result folder {root} is another one there: a path that all workers share"
        plan = json.loads((folder.work / "plan.json").read_bytes())
    except OSError as error:
        return f"the result folder {root} cannot be seen: {error.strerror or error}"
    return _of_versions(plan) or _of_plate(plan["plate"])


def _of_versions(plan: Mapping[str, Any]) -> str | None:
    here = installed()
    for name, version in plan["installed"].items():
        if here.get(name) != version:
            return f"{name} is {here.get(name) or 'not installed'} there, and {version} here"
    for values in plan["steps"]:
        step = PlannedStep.from_json(values)
        try:
            spec = step.spec
        except PipelineError as error:
            return str(error)
        found = package_versions(spec, step.device)
        for name, version in step.packages.items():
            if found.get(name) != version:
                lack = found.get(name) or "not installed"
                return f"{step.name}: {name} is {lack} there, and {version} here"
        if edited_since_import(spec):
            return f"{step.name}: {step.module} was edited after it was read there: restart it"
        other = _of_weights(step, spec)
        if other is not None:
            return other
        none = device_problem(spec.gpu) if step.device == "gpu" else None
        if none is not None:
            return f"{step.name} is to compute on a GPU, and {none}"
    return None


def _of_weights(step: PlannedStep, spec: FunctionSpec) -> str | None:
    if spec.weights is None:
        return None
    try:
        found = [file_key(path) for path in spec.weights.files(step.parameters)]
    except (ValueError, OSError) as error:
        return f"{step.name}: {error}"
    if sorted(found) == sorted(step.files.values()):
        return None
    return f"{step.name}: the weights of its network are others there than here"


def _of_plate(plate: Mapping[str, Any]) -> str | None:
    root = Path(plate["path"])
    try:
        if plate["file"] is None:
            root.stat()
        elif (size := (root / plate["file"]).stat().st_size) != plate["size"]:
            return f"{root / plate['file']} has {size} bytes there, and {plate['size']} here"
    except OSError as error:
        return f"the plate {root} cannot be seen: {error.strerror or error}"
    return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
