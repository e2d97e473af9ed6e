"""What the outputs of a well come to, and the fields that they were made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from openhcs.execution._exclusion import Exclusion
from openhcs.execution._tables import fields_of, measures
from openhcs.functions import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Sequence

    from openhcs.execution._tables import Groups
    from openhcs.pipeline import PlannedOutput, PlannedStep

    Read: TypeAlias = Callable[[PlannedStep, PlannedOutput], Groups]

__all__ = ["WellSums", "sum_up"]


@dataclass(frozen=True, slots=True)
class WellSums:
    """What outputs of a well come to.

    Attributes
    ----------
    measures
        The scalars that sum up each output: part of the row of the well.
    fields
        Fields that each output was made from, by output.
    excluded
        Those of them that a rule of the pipeline left out of the sums, where there is one.
    """

    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    fields: dict[str, list[int]] = field(default_factory=dict)
    excluded: dict[str, list[int]] = field(default_factory=dict)


def sum_up(
    steps: Sequence[PlannedStep], stand: Container[str], read: Read, whole: Collection[int]
) -> WellSums:
    """Sum up the outputs of a well.

    Parameters
    ----------
    steps
        Of the well.
    stand
        Names of the steps whose sums are there and still right.
    read
        Gives the groups of an output.
    whole
        Fields of the well.
    """
    outputs = {output.stored: (step, output) for step in steps for output in step.outputs}
    exclusion = Exclusion.of(steps, lambda stored: read(*outputs[stored]))
    sums = WellSums()
    for stored, (step, output) in outputs.items():
        if step.name in stand or output.kind is Kind.LABELS:
            continue
        groups = read(step, output)
        counting = [group for group in groups if not exclusion.leaves_out(stored, group[0])]
        made, fields = fields_of(groups, whole), fields_of(counting, whole)
        row = measures(stored, output.kind, groups, counting, len(fields))
        if row and exclusion.rules and stored not in exclusion.spared:
            out = sums.excluded[stored] = [number for number in made if number not in fields]
            row |= {f"{next(iter(row))}_excluded": len(out)}
        sums.fields[stored], sums.measures[stored] = made, row
    return sums
