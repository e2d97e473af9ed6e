"""What of an earlier run still stands: per well, the steps whose results need not be made again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from openhcs.execution._exclusion import rule_keys
from openhcs.execution._image_group import group_of, is_of
from openhcs.execution._result import WellResult
from openhcs.functions import Kind
from openhcs.pipeline import FilledPlane, Outcome, WellImage, step_keys, steps_in
from polystore.omezarr import ImageSlot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from openhcs.execution._folder import ResultFolder
    from openhcs.pipeline import Plan, PlannedStep

__all__ = [
    "Resume",
    "WellState",
    "filled_otherwise",
    "read_filled",
    "read_images",
    "read_left_out",
    "slots",
    "well_result",
    "well_states",
]

Resume: TypeAlias = "bool | Set[str]"
"""Whether what is finished is taken over; or the runs of which alone it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WellState:
    """How a well stands before a run.

    Attributes
    ----------
    well
        Name of the well.
    keys
        Content key of each step, as planned.
    reused
        Steps whose outputs are there and still right.
    record
        The record of a well that is finished and unchanged; None when something is to be done.
    """

    well: str
    keys: Mapping[str, str]
    reused: tuple[str, ...]
    record: Mapping[str, Any] | None


def well_states(
    plan: Plan,
    folder: ResultFolder,
    raw_keys: Mapping[str, str],
    prepared: Mapping[str, str],
    *,
    resume: Resume,
) -> tuple[WellState, ...]:
    """Compare the plan with what lies in the result folder.

    Parameters
    ----------
    plan
        The plan.
    folder
        The result folder.
    raw_keys
        Key of each well's raw planes.
    prepared
        Key of what each step learned from the plate.
    resume
        Whether results that stand are taken over at all; of runs that are named, wells that these
        have finished.
    """
    states: list[WellState] = []
    for well in plan.wells:
        if well in plan.refused:
            continue
        steps = steps_in(plan.steps, well)
        keys = step_keys(steps, raw_keys[well], prepared)
        record = folder.read_record(well) if resume else None
        if record is not None and (not _is_taken(record, resume) or filled_otherwise(record, plan)):
            record = None
        reused = () if record is None else _standing(steps, folder, well, keys, record)
        whole = (
            record is not None
            and len(reused) == len(steps)
            and record.get("outcome") == str(Outcome.OK)
            and record.get("rules", {}) == rule_keys(steps, keys)
        )
        states.append(
            WellState(well=well, keys=keys, reused=reused, record=record if whole else None)
        )
    return tuple(states)


def _is_taken(record: Mapping[str, Any], resume: Resume) -> bool:
    """Say whether a record is of a run whose results are taken over.

    A well that a run has not finished may still have what others left, whatever run its record
    names: it is done again where runs are named.
    """
    return isinstance(resume, bool) or (
        record.get("run_id") in resume and record.get("outcome") == str(Outcome.OK)
    )


def filled_otherwise(record: Mapping[str, Any], plan: Plan) -> bool:
    """Say whether a well has planes that were found damaged, and that the plan would not fill so.

    That the others are filled, and with what, is in the keys.
    """
    return any(
        plane.error is not None and plane.value != plan.fill for plane in read_filled(record)
    )


def read_filled(record: Mapping[str, Any]) -> tuple[FilledPlane, ...]:
    """Give the filled planes that a well's record lists."""
    return tuple(FilledPlane(**plane) for plane in record.get("filled", ()))


def read_left_out(record: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """Give the fields and time points that a well went without, as its record lists them."""
    return tuple((field, t) for field, t in record.get("left_out", ()))


def slots(plan: Plan) -> Mapping[str, tuple[ImageSlot, ...]]:
    """Give the image groups that each well of the plan will have, by well."""
    fields: dict[str, dict[int, None]] = {}
    for well, field in zip(
        plan.index.column("well").tolist(), plan.index.column("field").tolist(), strict=True
    ):
        fields.setdefault(well, {})[field] = None
    found: dict[str, tuple[ImageSlot, ...]] = {}
    for well, present in fields.items():
        groups = [
            group_of(name, field)
            for name, by_field in _image_groups(steps_in(plan.steps, well))
            for field in (sorted(present) if by_field else [None])
        ]
        if groups:
            found[well] = tuple(ImageSlot(group) for group in groups)
    return found


def _image_groups(steps: Sequence[PlannedStep]) -> list[tuple[str, bool]]:
    """Give the stored images, and whether there is one for each field."""
    found: list[tuple[str, bool]] = []
    by_field: list[bool] = []
    for step in steps:
        before = by_field[step.source] if step.source >= 0 else True
        here = by_field[step.previous] if step.previous >= 0 else True
        if step.gives_image:
            here = before and "field" not in step.spec.collapses
        by_field.append(here)
        if step.image is not None:
            found.append((step.image, here))
    return found


def read_images(record: Mapping[str, Any]) -> tuple[WellImage, ...]:
    """Give the images that a well's record lists."""
    images: list[WellImage] = []
    for image in record.get("images", []):
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in image.items()
        }
        images.append(WellImage(**values))
    return tuple(images)


def well_result(
    well: str, record: Mapping[str, Any], *, seconds: float = 0.0, reused: bool = True
) -> WellResult:
    """Give the result of a well that is ok, as its record has it."""
    return WellResult(
        well=well,
        outcome=Outcome.OK,
        seconds=seconds,
        reused=reused,
        images=read_images(record),
        error=None,
        traceback=None,
        steps={} if reused else dict(record["seconds"]),
        filled=read_filled(record),
        left_out=read_left_out(record),
    )


def _standing(
    steps: Sequence[PlannedStep],
    folder: ResultFolder,
    well: str,
    keys: Mapping[str, str],
    record: Mapping[str, Any],
) -> tuple[str, ...]:
    there = record.get("keys", {})
    images = read_images(record)
    return tuple(
        step.name
        for step in steps
        if there.get(step.name) == keys[step.name] and _present(folder, well, step, images)
    )


def _present(
    folder: ResultFolder, well: str, step: PlannedStep, images: Sequence[WellImage]
) -> bool:
    """Say whether a step's stored outputs are on disk."""
    tables = [output for output in step.outputs if output.kind is not Kind.LABELS]
    if not all(folder.table(output.stored, well).is_file() for output in tables):
        return False
    groups = [image for image in images if is_of(image.name, step.image)]
    if step.image is not None and not groups:
        return False
    beside = [image for image in images if is_of(image.name, step.beside)]
    if step.beside is not None and not beside:
        return False
    return all((folder.plate / image.path / "zarr.json").is_file() for image in groups + beside)
