"""Wells of earlier runs that a run leaves alone: whether they still stand beside its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openhcs.execution._resume import filled_otherwise, well_result
from openhcs.pipeline import Outcome, step_keys, steps_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._result import WellResult
    from openhcs.pipeline import Plan

__all__ = ["OtherWells", "other_wells"]

_MOST_NAMED = 12


@dataclass(frozen=True, slots=True)
class OtherWells:
    """Wells in a result folder that are not in the plan.

    Attributes
    ----------
    standing
        Records of the wells whose results are what the plan would give, in plate order.
    stale
        Wells with other results.
    """

    standing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stale: tuple[str, ...] = ()

    def results(self) -> Iterator[WellResult]:
        """Give the results of the wells that stand."""
        for well, record in self.standing.items():
            yield well_result(well, record)

    def notes(self) -> Iterator[str]:
        """Say what to know about them, one sentence each."""
        if self.standing:
            yield (
                "The table of wells also holds wells of earlier runs, whose results are the same "
                f"as this run's would be: {_listed(tuple(self.standing))}"
            )
        if self.stale:
            yield (
                "The folder also holds wells of earlier runs with another pipeline, other fields "
                "or channels, or changed images; they are not in the table of wells, and running "
                f"them again brings them up to date: {_listed(self.stale)}"
            )


def other_wells(
    plan: Plan,
    folder: ResultFolder,
    raw_keys: Mapping[str, str],
    prepared: Mapping[str, str],
) -> OtherWells:
    """Look at the wells of earlier runs that are not in the plan.

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
    """
    standing: dict[str, Mapping[str, Any]] = {}
    stale: list[str] = []
    names = {path.stem for path in folder.records.glob("*.json")} - set(plan.wells)
    for well in sorted(names, key=lambda name: (len(name), name)):
        record = folder.read_record(well) or {}
        if not record.get("images") and not record.get("measures"):
            continue
        if (
            well in raw_keys
            and record.get("outcome") == str(Outcome.OK)
            and not filled_otherwise(record, plan)
            and record.get("keys")
            == step_keys(steps_in(plan.steps, well), raw_keys[well], prepared)
        ):
            standing[well] = record
        else:
            stale.append(well)
    return OtherWells(standing, tuple(stale))


def _listed(wells: Sequence[str]) -> str:
    more = f" and {len(wells) - _MOST_NAMED} more" if len(wells) > _MOST_NAMED else ""
    return ", ".join(wells[:_MOST_NAMED]) + more
