"""Results of steps that are no longer in the pipeline: taken out of the result folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from openhcs.execution._image_group import channel_name, is_of
from openhcs.execution._resume import read_images
from openhcs.execution._well_labels import label_names, remove_labels
from openhcs.functions import Kind
from openhcs.pipeline import steps_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    channels = [None if channel == channel_name(None) else channel for channel in image.channels]
    names = {
        name
        for step in steps
        if is_of(image.name, step.beside)
        for output in step.outputs
        if output.kind is Kind.LABELS
        for name in label_names(output.stored, channels)
    }
    kept = tuple(label for label in image.labels if label in names)
    if kept != image.labels:
        remove_labels(folder.plate / image.path, set(image.labels) - names)
    return replace(image, labels=kept)
