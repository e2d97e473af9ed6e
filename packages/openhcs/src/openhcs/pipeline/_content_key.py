"""Keys under which results are found again: equal keys mean equal results.

The key of a step in a well is a hash over the keys of what goes into it, the function and its
version, its parameters, and the versions of the libraries that compute. The key of raw planes is a
hash over path, page, size and time of change, position and what is taken off their pixels. Whatever
changes one of these changes the keys of all that depends on it, and of nothing else.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs.pipeline._flat import PLATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.functions import Device, FunctionSpec
    from openhcs.pipeline._plan import Plan, PlannedStep

__all__ = [
    "content_key",
    "edited_since_import",
    "file_key",
    "package_versions",
    "step_keys",
    "well_keys",
]

_SCHEMA = 2
"""Raised when the layout of stored results changes, so that older ones are not taken over."""

_COMPUTING = ("numpy", "scikit-image", "scipy")


def content_key(value: Any) -> str:
    """Hash JSON values to 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def file_key(path: str) -> str:
    """Hash what a file holds.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    about = Path(path).stat()
    return _file_key(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _file_key(path: str, size: int, changed: int) -> str:  # noqa: ARG001  # a changed one is new
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@cache
def _versions() -> Mapping[str, str]:
    return {name: importlib.metadata.version(name) for name in _COMPUTING}


def package_versions(spec: FunctionSpec, device: Device = "cpu") -> Mapping[str, str]:
    """Give the versions of the packages that a function needs beside those of every step.

    A package that tells no version, such as a module in a folder of its own, has an empty one. What
    computes on a GPU is named where it is installed: a plan may be made where no GPU is. The module
    of a function that is none of ours stands with a hash of its file: it is edited between runs.
    """
    names = list(spec.requires)
    if device == "gpu" and importlib.util.find_spec(spec.gpu) is not None:
        names.append(spec.gpu)
    if spec.library is not None:
        names.append(spec.library.path.partition(".")[0])
    versions = {name: _version(name) for name in names if name not in ("numpy", "scipy", "skimage")}
    module = spec.call.__module__
    if spec.library is None and module.partition(".")[0] not in ("openhcs", "__main__"):
        _first_source_key(module)  # kept, to see that it is edited later
        versions[module] = _source_key(module)
    return versions


def _source_key(module: str) -> str:
    """Hash the file of a module; nothing where it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return "" if file is None else file_key(file)
    except OSError:
        return ""


@cache
def _first_source_key(module: str) -> str:
    """Give the hash of a module's file as it was when this process first used it."""
    return _source_key(module)


def edited_since_import(spec: FunctionSpec) -> bool:
    """Say whether a function's module has another text than when this process first used it."""
    module = spec.call.__module__
    return _first_source_key(module) != _source_key(module)


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # Some are installed under other names than they are imported by, such as cupy-cuda12x.
        for name in importlib.metadata.packages_distributions().get(package, ()):
            return importlib.metadata.version(name)
        return str(getattr(importlib.import_module(package), "__version__", ""))


def well_keys(plan: Plan) -> Mapping[str, str]:
    """Give the key of each well's raw planes, also of wells that the plan leaves alone."""
    of_file = ("path", "page", "file_size", "mtime_ns")
    # Readers have these from other files than the plane's own, such as a list of positions.
    of_plate = ("offset_counts", "x_um", "y_um", "z_um")
    names = ("well", "t", "field", "channel", "z", *of_file, *of_plate)
    index = plan.plate.select(fields=plan.fields, kind=None)
    rows: dict[str, list[Any]] = {}
    columns = [index.column(name).tolist() for name in names]
    for well, *facts in zip(*columns, strict=True):
        if (facts[1], facts[0]) not in plan.skipped.get(well, ()):
            rows.setdefault(well, []).append(facts)
    common = [plan.format_facts, list(plan.channels), plan.pixel_um]
    # Wells without filled planes keep the keys that they have under every policy.
    filled = _filled(plan)
    return {
        well: content_key([common, sorted(facts), *filled.get(well, ())])
        for well, facts in rows.items()
    }


def _filled(plan: Plan) -> Mapping[str, list[Any]]:
    """Give what decides the pixels and places of each well's filled planes."""
    names = ("well", "t", "field", "channel", "z", "height", "width", "dtype")
    index = plan.fillable.select(fields=plan.fields, kind=None, status=None)
    columns = [index.column(name).tolist() for name in (*names, "x_um", "y_um", "z_um")]
    rows: dict[str, list[Any]] = {}
    for well, *facts in zip(*columns, strict=True):
        rows.setdefault(well, []).append(facts)
    return {well: [plan.fill, sorted(facts)] for well, facts in rows.items()}


def step_keys(
    steps: Sequence[PlannedStep], well_key: str, prepared: Mapping[str, str]
) -> Mapping[str, str]:
    """Give the key of each step of one well, by step name.

    Parameters
    ----------
    steps
        The plan's steps.
    well_key
        Key of the well's raw planes.
    prepared
        Key of what each step learned from the plate, by step name.
    """
    keys: dict[str, str] = {}
    streams: list[str] = []
    names = [step.name for step in steps]
    for step in steps:
        source = well_key if step.source == PLATE else streams[step.source]
        given = [[part.parameter, part.output, keys[names[part.step]]] for part in step.inputs]
        key = content_key(
            [_SCHEMA, _versions(), source, given, step.to_key(), prepared.get(step.name)]
        )
        keys[step.name] = key
        # What does not change images leaves their key alone.
        before = well_key if step.previous == PLATE else streams[step.previous]
        streams.append(key if step.gives_image else before)
    return keys
