"""What each well is worth beside the others, by every measure, as a table and for the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from openhcs._columns import array_column, value_column
from openhcs.functions import b_score, percent_of_control, robust_z
from openhcs.plates import Role, well_name
from openhcs.report._grid import grid_of, values_of
from openhcs.report._measures import tells_of_the_assay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from openhcs.functions import BScores
    from openhcs.report._grid import Grid
    from openhcs.report._measures import Measure
    from openhcs.report._plate import PlateView

__all__ = ["Scores", "StandOut", "stand_outs", "well_scores", "write_scores"]

_FAR_Z: Final = 5.0
# The polish leaves many residuals near 0, so that a few of an even plate lie beyond 5 too.
_FAR_B: Final = 8.0
_FEWEST_FOR_B: Final = 60
_FEWEST_CONTROLS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of all wells by one measure, each of shape (wells,); NaN where there is none.

    Attributes
    ----------
    measure
        The measure.
    values
        What was measured, in its unit.
    robust_z
        Distance from the samples in robust standard deviations.
    robust_z_negative
        The same from the negative controls; NaN with fewer than three.
    percent_of_control
        0 at the negative controls, 100 at the positive ones.
    b_score
        Robust standard deviations without the trends of rows and columns.
    b_score_sparse
        Whether fewer than half of the well's row or column are samples, so that its B-score is not
        to be trusted.
    sparse
        The rows and columns of which that is so, in words; empty where there are none.
    lines
        Of the scores that are straight lines over the values: what they give for 0 and for 1.
    """

    measure: Measure
    values: NDArray[np.float64]
    robust_z: NDArray[np.float64]
    robust_z_negative: NDArray[np.float64]
    percent_of_control: NDArray[np.float64]
    b_score: NDArray[np.float64]
    b_score_sparse: NDArray[np.bool_]
    sparse: str
    lines: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StandOut:
    """A sample that lies far from the others.

    Attributes
    ----------
    well
        Its name.
    value, robust_z, robust_z_negative, percent_of_control, b_score
        As in `Scores`; the B-score is NaN where it is not to be trusted.
    """

    well: str
    value: float
    robust_z: float
    robust_z_negative: float
    percent_of_control: float
    b_score: float


def well_scores(view: PlateView) -> tuple[Scores, ...]:
    """Score the wells by each measure of the assay.

    Parameters
    ----------
    view
        The run. Without a platemap all wells are samples.
    """
    grid = grid_of(view)
    positive, negative = grid.of(Role.POSITIVE), grid.of(Role.NEGATIVE)
    found: list[Scores] = []
    for measure in view.measures:
        if not tells_of_the_assay(measure):
            continue
        values = values_of(view, measure)
        polished = b_score(grid.plate(values), controls=grid.others)
        low = values[negative]
        enough = np.isfinite(low).sum() >= _FEWEST_CONTROLS
        usual = low if enough else np.full(1, math.nan)
        # 0 and 1 go along, and tell the page how to score by itself.
        more = np.concatenate([values, [0.0, 1.0]])
        scored = {
            "robust_z": robust_z(more, reference=values[grid.samples]),
            "robust_z_negative": robust_z(more, reference=usual),
            "percent_of_control": percent_of_control(more, positive=values[positive], negative=low),
        }
        found.append(
            Scores(
                measure=measure,
                values=values,
                b_score=polished.scores[grid.rows, grid.columns],
                b_score_sparse=np.isin(grid.rows, polished.sparse_rows)
                | np.isin(grid.columns, polished.sparse_columns),
                sparse=_sparse(grid, polished),
                lines={
                    name: (float(numbers[-2]), float(numbers[-1]))
                    for name, numbers in scored.items()
                    if math.isfinite(numbers[-1])
                },
                **{name: numbers[:-2] for name, numbers in scored.items()},
            )
        )
    return tuple(found)


def _sparse(grid: Grid, polished: BScores) -> str:
    """Name the rows and columns with wells of the run of which few are samples."""
    rows = sorted({*polished.sparse_rows} & {*grid.rows.tolist()})
    columns = sorted({*polished.sparse_columns} & {*grid.columns.tolist()})
    parts = []
    if rows:
        names = ", ".join(well_name(row, 0)[:-2] for row in rows)
        parts.append(f"{'row' if len(rows) == 1 else 'rows'} {names}")
    if columns:
        names = ", ".join(str(column + 1) for column in columns)
        parts.append(f"{'column' if len(columns) == 1 else 'columns'} {names}")
    return " and ".join(parts)


def stand_outs(view: PlateView, scores: Scores) -> tuple[StandOut, ...]:
    """Name the samples that lie far from the others, the farthest first.

    Parameters
    ----------
    view
        The run.
    scores
        Of the measure to judge by.

    Returns
    -------
    tuple of StandOut
        Samples with a robust z beyond 5, or with a B-score beyond 8 where it may be trusted: the
        row and the column are not sparse, and there are 60 samples or more.
    """
    samples = grid_of(view).samples
    many = int(np.isfinite(scores.values[samples]).sum()) >= _FEWEST_FOR_B
    trusted = np.where(scores.b_score_sparse | (not many), math.nan, scores.b_score)
    far = np.fmax(np.abs(scores.robust_z) / _FAR_Z, np.abs(trusted) / _FAR_B)
    chosen = [i for i in np.argsort(-far, kind="stable") if samples[i] and far[i] > 1]
    return tuple(
        StandOut(
            well=view.wells[i].well,
            value=float(scores.values[i]),
            robust_z=float(scores.robust_z[i]),
            robust_z_negative=float(scores.robust_z_negative[i]),
            percent_of_control=float(scores.percent_of_control[i]),
            b_score=float(trusted[i]),
        )
        for i in chosen
    )


def write_scores(
    path: Path, view: PlateView, scores: Sequence[Scores], *, fewest_objects: int
) -> None:
    """Write the table of scores: one row for each well and measure.

    Parameters
    ----------
    path
        The file; an older one is replaced in one step.
    view
        The run.
    scores
        Of its measures.
    fewest_objects
        Objects below which a well is marked in the column ``few_objects``.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from polystore.files import atomic_file

    grid, times = grid_of(view), len(scores)
    wells = [well.well for well in view.wells]
    counts = [well.values.get("count") for well in view.wells]
    few = [None if count is None else count < fewest_objects for count in counts]
    columns = {
        "well": value_column(wells * times),
        "row": array_column(np.tile(grid.rows.astype(np.int32) + 1, times)),
        "column": array_column(np.tile(grid.columns.astype(np.int32) + 1, times)),
        "role": value_column([str(role) for role in grid.roles] * times),
        "few_objects": value_column(few * times),
        "measure": value_column([each.measure.name for each in scores for _ in wells]),
    }
    told = {
        "few_objects": {"fewest": str(fewest_objects)},
        "robust_z": {"reference": "samples"},
        "robust_z_negative": {"reference": "negative controls"},
        "percent_of_control": {"unit": "%"},
    }
    for name, field in (
        ("value", "values"),
        *((name, name) for name in ("robust_z", "robust_z_negative", "percent_of_control")),
        ("b_score", "b_score"),
    ):
        numbers = np.concatenate([getattr(each, field) for each in scores] or [np.empty(0)])
        columns[name] = array_column(numbers, np.isfinite(numbers))
    sparse = [each.b_score_sparse for each in scores] or [np.empty(0, np.bool_)]
    columns["b_score_sparse"] = array_column(np.concatenate(sparse))
    schema = pa.schema(
        [pa.field(name, column.type, metadata=told.get(name)) for name, column in columns.items()]
    )
    with atomic_file(path) as stream:
        pq.write_table(pa.table(list(columns.values()), schema=schema), stream, compression="zstd")
