"""Results of steps that are no longer in the pipeline: taken out of the result folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from openhcs.execution._image_group import is_of
from openhcs.execution._resume import read_images
from openhcs.functions import Kind
from openhcs.pipeline import COVERAGE, steps_in
from polystore.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import Plan, PlannedStep, WellImage

__all__ = ["tidy"]


def tidy(plan: Plan, folder: ResultFolder) -> bool:
    """Take away what earlier runs with other steps left for the wells of a plan.

    Only what the record of the last run or of the well names is touched.

    Returns
    -------
    bool
        Whether there was anything.

    Raises
    ------
    OSError
        If something cannot be removed.
    NotWrittenError
        If what is left cannot be put on record.
    """
    begun = {
        name
        for step in (folder.read_run() or {}).get("steps", [])
        for name, kind in step["outputs"].items()
        if kind != Kind.LABELS
    }
    emptied: set[str] = set()
    found = False
    for well in plan.wells:
        steps = steps_in(plan.steps, well)
        planned = {output.stored for step in steps for output in step.outputs}
        record = folder.read_record(well) or {}
        measures = record.get("measures", {})
        tables = (begun | measures.keys()) - planned
        for name in tables:
            folder.table(name, well).unlink(missing_ok=True)
        emptied |= tables
        images = read_images(record)
        kept = [_without_labels(steps, folder, image) for image in _left(steps, folder, images)]
        stored = tuple(kept) != images or bool(tables & measures.keys())
        found |= stored
        keys = {step.name for step in steps}
        if stored or not record.get("keys", {}).keys() <= keys:
            changed: dict[str, Any] = {
                "keys": {name: key for name, key in record.get("keys", {}).items() if name in keys},
                "images": [asdict(image) for image in kept],
            }
            for part in ("measures", "fields", "excluded"):
                there = record.get(part, {})
                changed[part] = {name: row for name, row in there.items() if name not in tables}
            folder.write_record(well, record | changed)
    for name in emptied:
        path = folder.root / name
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return found


def _left(
    steps: Sequence[PlannedStep], folder: ResultFolder, images: Iterable[WellImage]
) -> list[WellImage]:
    """Remove the images of a well that its steps do not store, and give the others."""
    left: list[WellImage] = []
    for image in images:
        if any(is_of(image.name, step.image) for step in steps):
            left.append(image)
        else:
            shutil.rmtree(folder.plate / image.path, ignore_errors=True)
    return left


def _without_labels(
    steps: Sequence[PlannedStep], folder: ResultFolder, image: WellImage
) -> WellImage:
    """Remove the labels of an image that its well's steps do not give."""
    names = {
        output.stored
        for step in steps
        if is_of(image.name, step.beside)
        for output in step.outputs
        if output.kind is Kind.LABELS
    }
    kept = tuple(
        label
        for label in image.labels
        if label in names or any(label.startswith(f"{name}_") for name in names)
    )
    if kept != image.labels:
        labels = folder.plate / image.path / "labels"
        _list_labels(labels, kept)
        for label in image.labels:
            if label not in kept:
                shutil.rmtree(labels / label, ignore_errors=True)
    return replace(image, labels=kept)


def _list_labels(labels: Path, names: tuple[str, ...]) -> None:
    """Name the labels that are left; they are unlisted before they go."""
    if (labels / COVERAGE).is_dir():
        names = (*names, COVERAGE)
    if not names:
        shutil.rmtree(labels, ignore_errors=True)
        return
    group = json.loads((labels / "zarr.json").read_bytes())
    group["attributes"]["ome"]["labels"] = sorted(names)
    write_json(labels / "zarr.json", group)
