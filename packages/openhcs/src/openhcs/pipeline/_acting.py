"""The steps that act in one well, and which of their images are stored there."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from openhcs.functions import Kind
from openhcs.pipeline._flat import PLATE
from openhcs.pipeline._plan import PlannedInput, PlannedStep

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

__all__ = [
    "COVERAGE",
    "LABELS_OF_PLATE",
    "NOWHERE",
    "group_name",
    "made_by",
    "spelled",
    "steps_in",
    "with_images",
]

COVERAGE = "coverage"
"""Name of the mask beside the image of a well: 1 where a tile lies. No labels of a step have it."""

LABELS_OF_PLATE = (
    "its labels belong to the plate's own planes, which are not copied to the result: put a step "
    "that gives images before it, such as project_max"
)
"""Why a step whose labels have no image to lie beside is refused."""

NOWHERE = -2
"""Step of an input whose giver does not act in the well."""


def steps_in(steps: Sequence[PlannedStep], well: str) -> tuple[PlannedStep, ...]:
    """Give the steps that act in a well, with their positions among themselves.

    Parameters
    ----------
    steps
        The steps of a plan.
    well
        Its name.

    Returns
    -------
    tuple
        A step that would take the images of one that is left out takes what goes on in its place;
        an output of one that is left out is taken from nowhere. All steps as they are, where none
        is limited to some wells.
    """
    if all(step.wells is None for step in steps):
        return tuple(steps)
    acting = [step.wells is None or well in step.wells for step in steps]
    places: dict[int, int] = {PLATE: PLATE}
    kept: list[PlannedStep] = []
    for position, (step, acts) in enumerate(zip(steps, acting, strict=True)):
        if not acts:
            places[position] = places[step.previous]
            continue
        inputs = tuple(
            PlannedInput(
                parameter=part.parameter,
                step=places[part.step] if acting[part.step] else NOWHERE,
                output=part.output,
            )
            for part in step.inputs
        )
        places[position] = len(kept)
        kept.append(
            replace(
                step,
                previous=places[step.previous],
                source=places[step.source],
                inputs=inputs,
                image=None,
                beside=None,
            )
        )
    return with_images(kept)


def made_by(steps: Sequence[PlannedStep], position: int) -> int:
    """Give the position of the step that made the images behind one; `PLATE` for raw planes."""
    while position != PLATE and not steps[position].gives_image:
        position = steps[position].previous
    return position


def with_images(steps: Sequence[PlannedStep]) -> tuple[PlannedStep, ...]:
    """Choose the steps whose images are stored, and name their image groups.

    Stored are images that are to be kept, those that go into no other step's images, and those
    that labels lie beside.
    """
    if not steps:
        return ()
    stored = {position for position, step in enumerate(steps) if step.keep and step.gives_image}
    used = {made_by(steps, step.source) for step in steps if step.gives_image}
    stored |= {
        position for position, step in enumerate(steps) if step.gives_image and position not in used
    }
    below: dict[int, int] = {}
    for position, step in enumerate(steps):
        if any(output.kind is Kind.LABELS for output in step.outputs):
            # Labels lie beside the image that they were found in.
            below[position] = made_by(steps, step.source)
            stored |= {below[position]} - {PLATE}
    groups: dict[int, str] = {}
    for position in sorted(stored):
        groups[position] = group_name(steps[position].name, groups.values())
    return tuple(
        replace(step, image=groups.get(position), beside=_beside(groups, below, position))
        for position, step in enumerate(steps)
    )


def _beside(groups: Mapping[int, str], below: Mapping[int, int], position: int) -> str | None:
    return groups.get(below[position]) if position in below else None


def spelled(channel: str) -> str:
    """Give the name of a channel as names of label images have it."""
    return re.sub(r"[^A-Za-z0-9]", "-", channel)


def group_name(step: str, taken: Collection[str] = ()) -> str:
    """Give the name of the image group of a step; the format takes letters and digits alone.

    No name ends in a digit: the images of single fields have the number of the field there.
    """
    base = "stitched" if step == "stitch" else re.sub(r"[^A-Za-z0-9]", "", step)
    name, count = base + "v" * base[-1:].isdigit(), 1
    while name in taken:
        count += 1
        name = f"{base}{count}v"
    return name
