"""Results of steps that are no longer in the pipeline: taken out of the result folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from openhcs.execution._resume import read_images
from openhcs.execution._well_outputs import is_of
from openhcs.functions import Kind
from polystore.backends import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import Plan, WellImage

__all__ = ["tidy"]


def tidy(plan: Plan, folder: ResultFolder) -> None:
    """Take away what an earlier run with other steps left for the wells of a plan.

    Only what that run's own record names is touched.

    Raises
    ------
    OSError
        If something cannot be removed.
    NotWrittenError
        If what is left cannot be put on record.
    """
    earlier = folder.read_run()
    if earlier is None:
        return
    there = {
        (name, kind) for step in earlier.get("steps", []) for name, kind in step["outputs"].items()
    }
    planned = {(output.stored, str(output.kind)) for step in plan.steps for output in step.outputs}
    images = {step.get("image") for step in earlier.get("steps", [])} - {None}
    if there <= planned and images <= {step.image for step in plan.steps}:
        return
    tables = {name for name, kind in there - planned if kind != Kind.LABELS}
    for well in plan.wells:
        for name in tables:
            folder.table(name, well).unlink(missing_ok=True)
        record = folder.read_record(well)
        if record is not None:
            kept = [_without_labels(plan, folder, image) for image in _left(plan, folder, record)]
            measures = {
                name: row for name, row in record.get("measures", {}).items() if name not in tables
            }
            changed: dict[str, Any] = {
                "images": [asdict(image) for image in kept],
                "measures": measures,
            }
            folder.write_record(well, record | changed)
    for name in tables:
        path = folder.root / name
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _left(plan: Plan, folder: ResultFolder, record: dict[str, Any]) -> list[WellImage]:
    """Remove the images of a well that the plan does not store, and give the others."""
    left: list[WellImage] = []
    for image in read_images(record):
        if any(is_of(image.name, step.image) for step in plan.steps):
            left.append(image)
        else:
            shutil.rmtree(folder.plate / image.path, ignore_errors=True)
    return left


def _without_labels(plan: Plan, folder: ResultFolder, image: WellImage) -> WellImage:
    """Remove the labels of an image that the plan does not give."""
    names = {
        output.stored
        for step in plan.steps
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
    if not names:
        shutil.rmtree(labels, ignore_errors=True)
        return
    group = json.loads((labels / "zarr.json").read_bytes())
    group["attributes"]["ome"]["labels"] = sorted(names)
    write_json(labels / "zarr.json", group)
