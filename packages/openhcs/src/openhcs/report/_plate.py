"""A finished run as a plate of wells with values, read from its result folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openhcs._errors import ResultFolderError
from openhcs.plates import Platemap, parse_well
from openhcs.report._measures import Measure, measures_of
from openhcs.report._quality import FEWEST_OBJECTS, Flag, plane_flags, read_planes, well_flags

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

__all__ = ["PlateView", "ReportWell", "load_plate_view"]

# Columns of wells.parquet that say which well it is or how it went, rather than measure it.
_NOT_MEASURES: Final = frozenset({"well", "row", "column", "outcome", "error"})
_OK: Final = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWell:
    """One well of the plate.

    Attributes
    ----------
    well, row, col
        Name, and place from 0.
    outcome
        ``ok``, ``failed``, ``cancelled`` or ``lost``.
    error
        What went wrong, in one sentence; empty when nothing did.
    traceback
        Where it went wrong; empty when there is nothing to show.
    values
        Finite numbers by measure.
    conditions
        What was put into it, as text, by the platemap's name for it.
    words
        Verdicts by column.
    flags
        What should be looked at.
    """

    well: str
    row: int
    col: int
    outcome: str
    error: str
    traceback: str
    values: Mapping[str, float]
    conditions: Mapping[str, str]
    words: Mapping[str, str]
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateView:
    """Everything that the page shows.

    Attributes
    ----------
    name
        Name of the plate.
    rows, columns
        Size of the plate.
    wells
        Wells of the run, in plate order.
    measures
        Numbers to choose from.
    flags
        What concerns the plate as a whole.
    run
        The run record, as it is in ``run.json``.
    platemap
        What was put into the wells; None when nobody said.
    """

    name: str
    rows: int
    columns: int
    wells: tuple[ReportWell, ...]
    measures: tuple[Measure, ...]
    flags: tuple[Flag, ...]
    run: Mapping[str, Any] = field(default_factory=dict)
    platemap: Platemap | None = None

    def count(self, outcome: str) -> int:
        """Count the wells that ended in one way."""
        return sum(well.outcome == outcome for well in self.wells)

    @property
    def failed(self) -> tuple[ReportWell, ...]:
        """Wells that have no result."""
        return tuple(well for well in self.wells if well.outcome != _OK)

    @property
    def flagged(self) -> tuple[ReportWell, ...]:
        """Wells that have a result and should be looked at."""
        return tuple(well for well in self.wells if well.outcome == _OK and well.flags)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that were used."""
        return tuple(map(str, self.run.get("options", {}).get("channels", ())))


def load_plate_view(folder: str | Path, *, fewest_objects: int = FEWEST_OBJECTS) -> PlateView:
    """Read the tables and the record of a finished run.

    Parameters
    ----------
    folder
        A result folder.
    fewest_objects
        Wells with fewer objects are flagged; 0 or more.

    Raises
    ------
    ResultFolderError
        If the folder holds no finished run, or a file of it cannot be read.
    ValueError
        If ``fewest_objects`` is below 0.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if fewest_objects < 0:
        raise ValueError(f"fewest_objects is {fewest_objects}; it must be 0 or more")
    folder = Path(folder)
    if not (folder / "run.json").exists():
        message = f"{folder} holds no run: name a folder that the results of a run were written to"
        raise ResultFolderError(message)
    if not (folder / "wells.parquet").exists():
        message = (
            f"{folder} has no table of wells: its run never came to its end; run it again, and "
            "what is finished is taken over"
        )
        raise ResultFolderError(message)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        table = pq.ParquetFile(folder / "wells.parquet").read()
        conditions = _conditions(table.schema)
        rows = table.to_pylist()
        good = [row for row in rows if row["outcome"] == _OK]
        planes = read_planes(folder, _tables_of_quality(run), [row["well"] for row in good])
        told = run.get("plate", {}).get("platemap")
        platemap = Platemap.from_json(told) if told else None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        message = f"{folder} holds no finished run that can be reported: {error}"
        raise ResultFolderError(message) from error
    of_wells = well_flags(good, why=_whys(run), fewest_objects=fewest_objects)
    flags = (*_unread(run), *of_wells, *plane_flags(planes))
    wells = tuple(_well(folder, run, row, flags, conditions) for row in rows)
    plate = run.get("plate", {})
    options = run.get("options", {})
    return PlateView(
        name=str(plate.get("name") or folder.name),
        rows=max([int(plate.get("rows") or 0), *(well.row + 1 for well in wells)]),
        columns=max([int(plate.get("columns") or 0), *(well.col + 1 for well in wells)]),
        wells=wells,
        measures=measures_of(
            [well.values for well in wells],
            [str(name) for name in options.get("channels", ())],
            [stored for step in run.get("steps", ()) for stored in step.get("outputs", {})],
            conditions,
        ),
        flags=tuple(flag for flag in flags if flag.well is None),
        run=run,
        platemap=platemap,
    )


def _conditions(schema: pa.Schema) -> dict[str, tuple[str, str]]:
    """Give name and unit of the columns that come from a platemap."""
    found: dict[str, tuple[str, str]] = {}
    for column in schema:
        told = column.metadata or {}
        if b"condition" in told:
            found[column.name] = told[b"condition"].decode(), told.get(b"unit", b"").decode()
    return found


def _unread(run: Mapping[str, Any]) -> list[Flag]:
    """Flag steps that learned from the plate without some of its planes."""
    flags: list[Flag] = []
    for step in run.get("steps", ()):
        unread = (step.get("prepared") or {}).get("unread") or ()
        if unread:
            what = (
                f"{step['name']} learned without {len(unread)} of the planes, which cannot be read"
            )
            flags.append(Flag(well=None, what=what, where=str(unread[0])))
    return flags


def _whys(run: Mapping[str, Any]) -> dict[str, str]:
    """Give by channel what kept the illumination from being learned as it should be."""
    return {
        channel: str(learned["why"])
        for step in run.get("steps", ())
        if step.get("function") == "correct_illumination"
        for channel, learned in ((step.get("prepared") or {}).get("channels") or {}).items()
        if learned.get("why")
    }


def _tables_of_quality(run: Mapping[str, Any]) -> list[str]:
    """Give the folders in which the image quality of planes is stored."""
    return [
        stored
        for step in run.get("steps", ())
        if step.get("function") == "measure_image_quality"
        for stored in step.get("outputs", {})
    ]


def _well(
    folder: Path,
    run: Mapping[str, Any],
    row: Mapping[str, Any],
    flags: Sequence[Flag],
    conditions: Mapping[str, tuple[str, str]],
) -> ReportWell:
    name, outcome = str(row["well"]), str(row["outcome"])
    row_number, col_number = parse_well(name)
    values = {
        column: float(value)
        for column, value in row.items()
        if column not in _NOT_MEASURES and isinstance(value, int | float) and math.isfinite(value)
    }
    words = {
        column: value
        for column, value in row.items()
        if column not in _NOT_MEASURES and isinstance(value, str) and value
    }
    told = {conditions[column][0]: word for column, word in words.items() if column in conditions}
    return ReportWell(
        well=name,
        row=row_number,
        col=col_number,
        outcome=outcome,
        error=str(row.get("error") or ""),
        traceback="" if outcome == _OK else _traceback(folder, run, name),
        values=values if outcome == _OK else {},
        conditions=told,
        words={column: word for column, word in words.items() if column not in conditions},
        flags=tuple(flag for flag in flags if flag.well == name),
    )


def _traceback(folder: Path, run: Mapping[str, Any], well: str) -> str:
    """Give the traceback in the record of a well, if this run wrote it."""
    try:
        record = json.loads((folder / "records" / f"{well}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    ours = isinstance(record, dict) and record.get("run_id") == run.get("run_id")
    return str(record.get("traceback") or "") if ours else ""
