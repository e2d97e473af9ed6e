"""The table of wells: what was put into each, how it ended, and what its outputs come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs.pipeline import SKIP_GROUP
from openhcs.plates import parse_well

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.execution._result import WellResult
    from openhcs.pipeline import Plan

__all__ = ["Condition", "conditions_of", "well_rows"]

_OWN = frozenset(
    {"well", "row", "column", "outcome", "error", "seconds", "filled_planes", "fields_left_out"}
)
"""Columns of the table of wells that conditions may not replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A column of the platemap as it stands in the table of wells.

    Attributes
    ----------
    column
        Its name there: that of the platemap, behind ``platemap_`` where the table has that name
        for something else.
    name, unit
        Its name in the platemap, and the unit in it; the unit is empty without.
    values
        By well; None where a well has no entry.
    """

    column: str
    name: str
    unit: str
    values: Mapping[str, float | int | str | None]


def conditions_of(plan: Plan, records: Mapping[str, Mapping[str, Any]]) -> tuple[Condition, ...]:
    """Give the conditions of the plate for the table of wells.

    Parameters
    ----------
    plan
        The plan; its plate may have a platemap.
    records
        Records of the wells, whose measures keep their names.
    """
    platemap = plan.index.platemap
    if platemap is None:
        return ()
    taken = set(_OWN)
    for record in records.values():
        for measures in record.get("measures", {}).values():
            taken |= set(measures)
    return tuple(
        Condition(
            column=f"platemap_{name}" if name in taken else name,
            name=name,
            unit=platemap.units.get(name, ""),
            values=platemap.values(name),
        )
        for name in platemap.columns
    )


def well_rows(
    plan: Plan,
    wells: Sequence[WellResult],
    records: Mapping[str, Mapping[str, Any]],
    conditions: Sequence[Condition] = (),
) -> list[dict[str, Any]]:
    """Give the rows of the table of wells, in plate order.

    Parameters
    ----------
    plan
        The plan.
    wells
        Results of the wells of the plan, however they ended, and of others that still stand.
    records
        Records of the wells that are ok; what their outputs are summed up to is in them.
    conditions
        What was put into each well.
    """
    rows: list[dict[str, Any]] = []
    fills = plan.fill is not None or any(record.get("filled") for record in records.values())
    skips = plan.missing == SKIP_GROUP or any(record.get("left_out") for record in records.values())
    for well in sorted(wells, key=lambda well: parse_well(well.well)):
        row, column = parse_well(well.well)
        record = records.get(well.well, {})
        values: dict[str, Any] = {
            "well": well.well,
            "row": row + 1,
            "column": column + 1,
            **{each.column: each.values.get(well.well) for each in conditions},
            "outcome": str(well.outcome),
            "error": well.error,
            # What the well took when it was done, also where this run only took it over.
            "seconds": sum(record["seconds"].values()) if record else well.seconds,
        }
        if fills:
            values["filled_planes"] = len(record.get("filled", ())) if record else None
        if skips:
            values["fields_left_out"] = len(record.get("left_out", ())) if record else None
        measures = record.get("measures", {})
        for step in plan.steps:
            for output in step.outputs:
                values |= measures.get(output.stored, {})
        rows.append(values)
    return rows
