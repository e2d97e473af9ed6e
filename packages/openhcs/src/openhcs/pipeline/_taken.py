"""What fills a parameter of a step with outputs of an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs._errors import StepError
from openhcs.functions import Axes, Kind, Stack
from openhcs.pipeline._groups import matching

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openhcs.pipeline._groups import GroupKey
    from openhcs.pipeline._lazy import Lazy
    from openhcs.pipeline._plan import PlannedStep

__all__ = ["Taken", "taken"]

_ALONG = {Axes.ZSTACK: "z", Axes.TIME: "t"}
"""Axes along which a call gets one output for each place."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The earlier outputs that fill one parameter for one group.

    Attributes
    ----------
    kind
        Of the outputs.
    values
        By group key, in the order of the axis.
    axis
        Along which there is one for each place; None for a single output.
    """

    kind: Kind
    values: Mapping[GroupKey, Lazy[Any]]
    axis: str | None

    def get(self, place: Callable[[GroupKey, str], float]) -> Any:
        """Give what the function is handed.

        Parameters
        ----------
        place
            Says where a key lies along an axis.
        """
        if self.axis is None:
            (value,) = self.values.values()
            return value.get()
        if self.kind is not Kind.LABELS:
            return tuple(value.get() for value in self.values.values())
        return Stack(
            [value.get for value in self.values.values()],
            [place(key, self.axis) for key in self.values],
            [getattr(key, self.axis) for key in self.values],
        )


def taken(
    step: PlannedStep,
    parameter: str,
    group: GroupKey,
    *,
    giver: PlannedStep,
    output: str,
    values: Mapping[GroupKey, Lazy[Any]],
) -> Taken:
    """Find the outputs of an earlier step that belong to a group.

    Parameters
    ----------
    step, parameter, group
        What is to be filled.
    giver, output, values
        The earlier step, the name of its output, and that output by group.

    Raises
    ------
    StepError
        If none or several belong to the group, other than one for each place along z or t where
        the step consumes that axis.
    """
    kind = next(each.kind for each in giver.outputs if each.name == output)
    matches = matching(group, values)
    axis = _ALONG.get(step.axes)
    if axis is not None and all(getattr(match, axis) is not None for match in matches):
        if len({match.without({axis}) for match in matches}) == 1:
            ordered = sorted(matches, key=lambda match: int(getattr(match, axis)))
            return Taken(kind, {match: values[match] for match in ordered}, axis)
    elif len(matches) == 1:
        return Taken(kind, {matches[0]: values[matches[0]]}, None)
    problem = f"{len(matches)} outputs there belong" if matches else "nothing there belongs"
    message = (
        f"{step.name} takes {output} of {giver.name} as {parameter}, but "
        f"{problem} to {group}{_advice(step, giver, group, matches, values)}"
    )
    raise StepError(message, step.name)


def _advice(
    step: PlannedStep,
    giver: PlannedStep,
    group: GroupKey,
    matches: tuple[GroupKey, ...],
    values: Mapping[GroupKey, Lazy[Any]],
) -> str:
    if matches:
        for axis in ("field", "z", "t"):
            several = len({getattr(match, axis) for match in matches}) > 1
            if several and axis != _ALONG.get(step.axes):
                return (
                    f": {giver.name} gives one for each {axis}, and here is one image of all: put "
                    "it behind the step that joins them"
                )
        return f": limit {giver.name} to one channel"
    others = {key.channel for key in matching(group.without({"channel"}), values)} - {None}
    names = " or ".join(sorted(map(str, others)))
    return f": limit {step.name} to channel {names}" if names else ""
