"""A plan held against every way in which the planes of its wells are arranged, and tried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openhcs._errors import StepError
from openhcs.functions import Kind
from openhcs.pipeline._acting import LABELS_OF_PLATE, steps_in
from openhcs.pipeline._dry_run import dry_run
from openhcs.pipeline._evaluation import Evaluation
from openhcs.pipeline._lessons import lessons_of
from openhcs.pipeline._planes import keys_by_well

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._plan import Plan, PlannedStep

__all__ = ["trial"]


def trial(plan: Plan) -> Sequence[str]:
    """Give every problem that shows when the plan's steps meet the plate's arrangement of planes.

    Each arrangement that occurs is checked without pixels: that inputs of steps match one output
    each, and that stored images are whole. The largest is then tried on tiny images.
    """
    arrangements: dict[tuple[tuple[str, ...], tuple[GroupKey, ...]], str] = {}
    for well, keys in keys_by_well(plan.index, plan.channels).items():
        left_out = plan.skipped.get(well, frozenset())
        present = tuple(key for key in keys if (key.field, key.t) not in left_out)
        acting = tuple(step.name for step in steps_in(plan.steps, well))
        arrangements.setdefault((acting, present), well)
    places = _places(plan)
    problems = [
        f"{places.get(problem.step, '')}{f'well {well}: ' * (len(arrangements) > 1)}{problem}"
        for (_, keys), well in arrangements.items()
        for problem in _arrangement_problems(plan, steps_in(plan.steps, well), keys)
    ]
    learned, lessons = lessons_of(plan)
    problems.extend(f"{places.get(lesson.step, '')}{lesson}" for lesson in lessons)
    if problems:
        return problems
    largest: dict[tuple[str, ...], tuple[tuple[GroupKey, ...], str]] = {}
    for (acting, keys), well in arrangements.items():
        if len(keys) > len(largest.get(acting, ((), ""))[0]):
            largest[acting] = keys, well
    for keys, well in largest.values():
        tried = dry_run(
            steps_in(plan.steps, well),
            keys,
            dtype=plan.index.dtype,
            pixel_um=plan.pixel_um,
            prepared=learned,
        )
        problems.extend(f"{places.get(_step_of(error), '')}{error}" for error in tried)
    return problems


def _places(plan: Plan) -> Mapping[str | None, str]:
    """Say of each step where it stands in the text that it was read from, if it was."""
    steps = plan.pipeline.flat
    return {flat.name: f"{flat.step.place}: " for flat in steps if flat.step.place is not None}


def _step_of(error: Exception) -> str | None:
    return error.step if isinstance(error, StepError) else None


def _arrangement_problems(
    plan: Plan, steps: Sequence[PlannedStep], keys: Sequence[GroupKey]
) -> Sequence[StepError]:
    try:
        streams = Evaluation(steps, _Planes(keys, plan.pixel_um), _Untouched()).streams
    except StepError as error:
        return [error]
    problems = []
    for step, stream in zip(steps, streams, strict=True):
        if step.beside is None and any(output.kind is Kind.LABELS for output in step.outputs):
            problems.append(StepError(f"{step.name}: {LABELS_OF_PLATE}", step.name))
        if step.image is None:
            continue
        uneven = _uneven(tuple(stream))
        if uneven == "field":
            fused = sorted({str(key.channel) for key in stream if key.field is None})
            message = (
                f"{step.name}: its images are to be stored, but those of {', '.join(fused)} show "
                "all fields in one, and those of other channels a field each: stitch all channels, "
                "or drop the others"
            )
            problems.append(StepError(message, step.name))
        elif uneven is not None:
            message = (
                f"{step.name}: its images are to be stored, but channels differ in {uneven}: "
                "project them first, or take one channel"
            )
            problems.append(StepError(message, step.name))
    return problems


def _uneven(keys: Sequence[GroupKey]) -> str | None:
    """Name an axis whose members differ between channels; of z and t, those of a field."""
    if len({key.field is None for key in keys}) > 1:
        return "field"
    by_field: dict[int | None, dict[str | None, set[tuple[int | None, int | None]]]] = {}
    for key in keys:
        by_field.setdefault(key.field, {}).setdefault(key.channel, set()).add((key.t, key.z))
    for channels in by_field.values():
        members = list(channels.values())
        for position, axis in enumerate(("t", "z")):
            if len({frozenset(place[position] for place in each) for each in members}) > 1:
                return axis
    return None


class _Planes:
    """The keys of a well, without pixels."""

    def __init__(self, keys: Sequence[GroupKey], pixel_um: tuple[float, float] | None) -> None:
        self._keys = keys
        self.pixel_um = pixel_um

    def keys(self) -> Sequence[GroupKey]:
        return self._keys

    def read(self, key: GroupKey) -> NDArray[Any]:
        message = f"{key}: no pixels are read here"
        raise AssertionError(message)

    def place(self, key: GroupKey, axis: str) -> float:  # noqa: ARG002  # the protocol's
        return 0.0

    def prepared(
        self,
        step: str,  # noqa: ARG002  # the protocol's
        channel: str | None,  # noqa: ARG002  # the protocol's
    ) -> Mapping[str, NDArray[Any]]:
        return {}


class _Untouched:
    """Nothing is stored and nothing is there."""

    def store(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey, value: Any) -> None:
        """Drop it."""

    def reused(self, step: PlannedStep) -> bool:  # noqa: ARG002  # the protocol's
        return False

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        message = f"{step.name}: {kind} {name} of {key} is not stored"
        raise AssertionError(message)

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Nothing is counted."""

    def proceed(self) -> None:
        """Nothing stops it."""
