"""From rows of objects or planes to one row per well, and to what stands out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.functions._inputs import Columns

__all__ = ["Outlier", "aggregate_groups", "aggregate_objects", "flag_outliers"]

_KEYS = frozenset({"ObjectNumber", "channel", "col", "field", "label", "row", "t", "well", "z"})
_PLACES = ("AreaShape_BoundingBox", "AreaShape_Center_", "Location_")

_QUALITY_FEATURES = (
    "background",
    "background_gradient",
    "focus_laplacian",
    "focus_slope",
    "mean",
    "noise",
    "p99",
    "saturated_fraction",
)

# One clipped pixel among planes without any is no finding: z 5 is 0.1 % of the pixels at least.
_LEAST_SPREADS = {"saturated_fraction": 2e-4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A value far from its like on the same plate.

    Attributes
    ----------
    feature
        Name of the column.
    value, median
        The value, and the median of its group, in the feature's units.
    robust_z
        Distance from the median in robust standard deviations, with sign.
    row
        Row of the table, from 0.
    well, field, channel
        Where it is; None where the table does not say.
    """

    feature: str
    value: float
    median: float
    robust_z: float
    row: int
    well: str | None
    field: int | None
    channel: str | int | None


def aggregate_objects(columns: Columns) -> Mapping[str, float]:
    """Summarise the objects of one well, or of one field, as one row.

    Parameters
    ----------
    columns
        Columns of one length, one row per object, as from `measure_objects`. Numbers and truth
        values are summarised; keys (well, field, ...), places and text are left out.

    Returns
    -------
    Mapping[str, float]
        ``count``: objects; then ``Mean_X``, ``Median_X`` and ``MAD_X`` (median absolute deviation,
        not scaled) for each number X, and ``Mean_X`` (a fraction) for each truth value. NaN is left
        out; a feature with nothing left, as in an empty well, is NaN.

    Raises
    ------
    ValueError
        If columns differ in length or are not one-dimensional.
    """
    arrays, length = _checked(columns)
    row: dict[str, float] = {"count": float(length)}
    for name, values in arrays.items():
        if name in _KEYS or name.startswith(_PLACES) or values.dtype.kind not in "biuf":
            continue
        numbers = values.astype(np.float64)
        numbers = numbers[~np.isnan(numbers)]
        empty = numbers.size == 0
        row[f"Mean_{name}"] = float("nan") if empty else float(numbers.mean())
        if values.dtype.kind != "b":
            median = float("nan") if empty else float(np.median(numbers))
            row[f"Median_{name}"] = median
            row[f"MAD_{name}"] = (
                float("nan") if empty else float(np.median(np.abs(numbers - median)))
            )
    return row


def aggregate_groups(
    columns: Columns, by: Sequence[str] = ("well", "field")
) -> dict[str, NDArray[Any]]:
    """Summarise the objects of each field, or the fields of each well, as one row each.

    Parameters
    ----------
    columns
        Columns of one length: one row per object, with keys such as ``well`` and ``field``; or what
        this function gave.
    by
        Columns that say which rows go together.

    Returns
    -------
    dict
        The columns of ``by``, then those of `aggregate_objects`, one row per group; groups ascend.
        Of the rows of fields, ``count`` is the number of fields that are there, and
        ``Median_count`` the number of objects that is usual in a field.

    Raises
    ------
    KeyError
        If a column of ``by`` is missing.
    ValueError
        If columns differ in length or are not one-dimensional.

    Examples
    --------
    >>> objects = {"well": ["A01"] * 3, "field": [0, 0, 1], "Area": [10.0, 20.0, 60.0]}
    >>> fields = aggregate_groups(objects)
    >>> fields["count"].tolist(), fields["Mean_Area"].tolist()
    ([2.0, 1.0], [15.0, 60.0])
    >>> wells = aggregate_groups(fields, by=["well"])
    >>> wells["count"].tolist(), wells["Mean_Mean_Area"].tolist()
    ([2.0], [37.5])
    """
    arrays, length = _checked(columns)
    numbered = [np.unique(arrays[key], return_inverse=True)[1] for key in by]
    order = np.lexsort(numbered[::-1]) if numbered else np.arange(length)
    begins = np.zeros(length, np.bool_)
    begins[:1] = True
    for numbers in numbered:
        begins[1:] |= np.diff(numbers[order]) != 0
    firsts = np.flatnonzero(begins)
    rows = [
        aggregate_objects({name: values[group] for name, values in arrays.items()})
        for group in np.split(order, firsts[1:])
        if group.size
    ]
    names = aggregate_objects({name: values[:0] for name, values in arrays.items()})
    found: dict[str, NDArray[Any]] = {key: arrays[key][order[firsts]] for key in by}
    return found | {name: np.array([row[name] for row in rows], np.float64) for name in names}


def flag_outliers(
    columns: Columns,
    *,
    features: Sequence[str] | None = None,
    by: Sequence[str] = ("channel", "z"),
    limit: float = 5.0,
) -> tuple[Outlier, ...]:
    """Name the rows whose value is far from that of their like.

    Parameters
    ----------
    columns
        Columns of one length: one row per plane, as `measure_image_quality` gives them with their
        keys, or per well.
    features
        Columns to look at; those of the image quality that are there by default.
    by
        Columns that say which rows are alike; those that are missing are not used.
    limit
        Smallest robust z that is named; greater than 0.

    Returns
    -------
    tuple[Outlier, ...]
        Farthest first.

    Raises
    ------
    KeyError
        If a feature is no column.
    ValueError
        If ``limit`` is not greater than 0.

    Notes
    -----
    Robust z is (x - median) / (1.4826 MAD) among at least five rows that are alike. Where more
    than half of them are equal, the mean absolute deviation times 1.2533 takes the place of the
    MAD (Iglewicz & Hoaglin, How to detect and handle outliers, 1993). Saturation less than 0.1 %
    of the pixels from the median is never named.
    """
    if not limit > 0:
        raise ValueError(f"limit is {limit}; it must be greater than 0")
    if features is None:
        features = [name for name in _QUALITY_FEATURES if name in columns]
    length = len(next(iter(columns.values()))) if columns else 0
    found: list[Outlier] = []
    for rows in _groups([np.asarray(columns[key]) for key in by if key in columns], length):
        for name in features:
            values = np.asarray(columns[name])[rows].astype(np.float64)
            if name.startswith("focus") and "empty" in columns:
                values[np.asarray(columns["empty"], bool)[rows]] = np.nan
            median, scores = _robust_scores(values, _LEAST_SPREADS.get(name, 0.0))
            found.extend(
                Outlier(
                    feature=name,
                    value=float(values[i]),
                    median=median,
                    robust_z=float(scores[i]),
                    row=int(rows[i]),
                    well=_entry(columns, "well", rows[i]),
                    field=_entry(columns, "field", rows[i]),
                    channel=_entry(columns, "channel", rows[i]),
                )
                for i in np.flatnonzero(np.abs(scores) > limit)
            )
    return tuple(sorted(found, key=lambda outlier: -abs(outlier.robust_z)))


def _checked(columns: Columns) -> tuple[dict[str, NDArray[Any]], int]:
    """Give the columns as arrays, and their length."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
        raise ValueError(f"columns must be of one length; their shapes are {sorted(shapes)}")
    return arrays, shapes.pop()[0] if shapes else 0


def _groups(keys: Sequence[NDArray[Any]], length: int) -> list[NDArray[np.intp]]:
    """Give the rows of each combination of keys."""
    groups = [np.arange(length)]
    for key in keys:
        groups = [group[key[group] == value] for group in groups for value in np.unique(key[group])]
    return [group for group in groups if group.size >= 5]


def _robust_scores(values: NDArray[np.float64], least: float) -> tuple[float, NDArray[np.float64]]:
    """Give the median, and each value's distance from it; 0 without spread or value."""
    there = np.isfinite(values)
    known = values[there]
    if known.size == 0:
        return float("nan"), np.zeros(values.size)
    median = float(np.median(known))
    away = np.abs(known - median)
    spread = max(1.4826 * float(np.median(away)) or 1.2533 * float(away.mean()), least)
    if not spread > 0:
        return median, np.zeros(values.size)
    return median, np.where(there, (values - median) / spread, 0.0)


def _entry(columns: Columns, name: str, row: np.intp) -> Any:
    """Give one cell of a key column as a plain value, None where the column is missing."""
    if name not in columns:
        return None
    value = columns[name][row]
    return value.item() if isinstance(value, np.generic) else value
