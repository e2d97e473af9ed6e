"""A finished run as a plate of wells with values, read from its result folder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from openhcs._errors import ResultFolderError
from openhcs.plates import parse_well

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Measure", "PlateView", "ReportWell", "load_plate_view"]

# Columns of wells.parquet that say which well it is or how it went, rather than measure it.
_NOT_MEASURES: Final = frozenset({"row", "col", "seconds", "attempts"})
_FIRST: Final = ("objects_count", "count", "stitch_accepted_fraction", "stitch_residual_95_px")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number that every well may have.

    Attributes
    ----------
    name
        Column of ``wells.parquet``.
    low, high
        2nd and 98th percentile over the wells: the ends of the colour scale.
    """

    name: str
    low: float
    high: float


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
    values
        Finite numbers by measure.
    words
        Verdicts and flags by column.
    """

    well: str
    row: int
    col: int
    outcome: str
    error: str
    values: Mapping[str, float]
    words: Mapping[str, str]

    @property
    def flags(self) -> tuple[str, ...]:
        """Quality flags raised for the well."""
        return tuple(self.words.get("qc_flags", "").split())


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
    run
        The run record, as it is in ``run.json``.
    """

    name: str
    rows: int
    columns: int
    wells: tuple[ReportWell, ...]
    measures: tuple[Measure, ...]
    run: Mapping[str, Any] = field(default_factory=dict)

    def count(self, outcome: str) -> int:
        """Count the wells that ended in one way."""
        return sum(well.outcome == outcome for well in self.wells)


def load_plate_view(folder: Path) -> PlateView:
    """Read the tables and the record of a finished run.

    Parameters
    ----------
    folder
        A result folder.

    Raises
    ------
    ResultFolderError
        If the folder holds no finished run, or a file of it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        rows = pq.read_table(folder / "wells.parquet").to_pylist()
    except (OSError, ValueError, pa.ArrowException) as error:
        message = f"{folder} holds no finished run that can be reported: {error}"
        raise ResultFolderError(message) from error
    wells = tuple(_well(row) for row in rows)
    plate = run.get("plate", {})
    return PlateView(
        name=str(plate.get("name") or folder.name),
        rows=max([int(plate.get("rows") or 0), *(well.row + 1 for well in wells)]),
        columns=max([int(plate.get("columns") or 0), *(well.col + 1 for well in wells)]),
        wells=wells,
        measures=_measures(wells),
        run=run,
    )


def _well(row: Mapping[str, Any]) -> ReportWell:
    name = str(row["well"])
    row_number, col_number = parse_well(name)
    values = {
        column: float(value)
        for column, value in row.items()
        if column not in _NOT_MEASURES and isinstance(value, int | float) and math.isfinite(value)
    }
    words = {
        column: value
        for column, value in row.items()
        if isinstance(value, str) and column not in {"well", "outcome", "error"} and value
    }
    return ReportWell(
        well=name,
        row=row_number,
        col=col_number,
        outcome=str(row["outcome"]),
        error=str(row.get("error") or ""),
        values=values,
        words=words,
    )


def _measures(wells: tuple[ReportWell, ...]) -> tuple[Measure, ...]:
    import numpy as np

    names = dict.fromkeys(name for well in wells for name in well.values)
    order = sorted(
        names, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)
    )
    measures: list[Measure] = []
    for name in order:
        values = np.array([well.values[name] for well in wells if name in well.values])
        low, high = np.percentile(values, [2, 98])
        measures.append(Measure(name=name, low=float(low), high=float(high)))
    return tuple(measures)
