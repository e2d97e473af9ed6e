"""The rules of a pipeline that leave fields out of the table of wells, applied to one well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs.functions import exclude_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openhcs.pipeline import GroupKey, PlannedStep

__all__ = ["Exclusion", "rule_keys"]


def rule_keys(steps: Sequence[PlannedStep], keys: Mapping[str, str]) -> dict[str, str]:
    """Give the content keys of the steps that are rules: with others, wells are summed up anew.

    Parameters
    ----------
    steps
        Of a well.
    keys
        Content key of each step.
    """
    return {step.name: keys[step.name] for step in steps if _is_rule(step)}


@dataclass(frozen=True, slots=True)
class _Rule:
    whole: bool
    """Whether only stacks of which all planes are out of bounds are left out."""
    stacks: Mapping[int | None, Mapping[GroupKey, Mapping[GroupKey, bool]]]
    """Whether each plane is out of bounds, by field and by stack."""

    def leaves_out(self, key: GroupKey) -> bool:
        """Say whether a group is left out; one of no field, where every field is."""
        judged: list[bool] = []
        for field in self.stacks if key.field is None else [key.field]:
            found = [
                outs
                for stack, planes in self.stacks.get(field, {}).items()
                if stack.agrees(key)
                and (outs := [out for plane, out in planes.items() if plane.agrees(key)])
            ]
            if found:
                judged.append(any(map(all if self.whole else any, found)))
        return bool(judged) and all(judged)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What the rules of a well leave out.

    Attributes
    ----------
    spared
        Outputs that always count: those of the rules, and those that they look at.
    rules
        One for each step.
    """

    spared: frozenset[str]
    rules: tuple[_Rule, ...]

    @classmethod
    def of(
        cls,
        steps: Sequence[PlannedStep],
        planes: Callable[[str], Sequence[tuple[GroupKey, Mapping[str, Any]]]],
    ) -> Exclusion:
        """Gather the rules of a well.

        Parameters
        ----------
        steps
            Of the well.
        planes
            Gives what a rule said of every plane, by the name of its output in the results.
        """
        spared: set[str] = set()
        rules: list[_Rule] = []
        for step in filter(_is_rule, steps):
            for part in step.inputs:
                spared |= {output.stored for output in steps[part.step].outputs}
            for output in step.outputs:
                spared.add(output.stored)
                stacks: dict[int | None, dict[GroupKey, dict[GroupKey, bool]]] = {}
                for key, row in planes(output.stored):
                    of_field = stacks.setdefault(key.field, {})
                    of_field.setdefault(key.without(["z"]), {})[key] = bool(row["excluded"])
                rules.append(_Rule(step.parameters.get("stacks") == "all", stacks))
        return cls(frozenset(spared), tuple(rules))

    def leaves_out(self, stored: str, key: GroupKey) -> bool:
        """Say whether a group of an output does not count.

        What belongs to no field, such as the objects of a stitched image, is left out where all
        fields are.
        """
        return stored not in self.spared and any(rule.leaves_out(key) for rule in self.rules)


def _is_rule(step: PlannedStep) -> bool:
    return step.function == exclude_fields.__name__ and step.module == exclude_fields.__module__
