"""Columns of equal length, with names, types and units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from polystore._dtypes import check_dtype, read_only
from polystore._errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Column", "Table"]

Column: TypeAlias = "NDArray[Any] | tuple[str, ...]"
"""Numbers or truth values of shape (rows,), or texts."""

_NAME_MOST = 256
_UNIT_MOST = 256


@dataclass(frozen=True, slots=True, eq=False)
class Table(Mapping[str, Column]):
    """Columns of equal length by name; a mapping, in the order in which they were given.

    Arrays are kept as read-only views, not as copies.

    Attributes
    ----------
    columns
        By name: an array of shape (rows,), or texts, of which those that are None count as
        missing. An array of text becomes a tuple.
    units
        Unit of a column by its name, as ``"µm"``; not every column needs one.
    missing
        Where a column has no value: by its name, truth values of shape (rows,). Only columns that
        miss one are here. What stands in its place is always NaN, 0, False or ``""``; NaN alone
        is a value, the result of a calculation that has none.

    Raises
    ------
    PayloadError
        If columns differ in length, a name is empty or longer than 256 characters, an array is of
        a type that cannot be sent, or units or missing values are of a column that is not there.
    """

    columns: Mapping[str, Column]
    units: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {name: _mask(name, mask) for name, mask in self.missing.items()}
        columns: dict[str, Column] = {}
        rows: int | None = None
        for name, column in self.columns.items():
            if type(name) is not str or not 0 < len(name) <= _NAME_MOST:
                raise PayloadError(
                    f"a column's name has to be text of 1 to {_NAME_MOST} characters: {name!r}"
                )
            made, absent = _column(name, column, missing.get(name))
            if rows is not None and len(made) != rows:
                raise PayloadError(
                    f"column {name!r} has {len(made)} rows, those before it have {rows}"
                )
            rows = len(made)
            columns[name] = made
            if absent is None:
                missing.pop(name, None)
            else:
                missing[name] = absent
        units = dict(self.units)
        for what, names in (("a unit", units), ("missing values", missing)):
            if unknown := names.keys() - columns.keys():
                raise PayloadError(f"{what} for {sorted(unknown)}, which are no columns")
        for name, unit in units.items():
            if type(unit) is not str or not 0 < len(unit) <= _UNIT_MOST:
                raise PayloadError(
                    f"the unit of {name!r} has to be text of 1 to {_UNIT_MOST} characters"
                )
        object.__setattr__(self, "columns", MappingProxyType(columns))
        object.__setattr__(self, "units", MappingProxyType(units))
        object.__setattr__(self, "missing", MappingProxyType(missing))

    @property
    def rows(self) -> int:
        """Number of rows; 0 without columns."""
        return next((len(column) for column in self.columns.values()), 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the values; of texts, their characters."""
        return sum(
            column.nbytes if isinstance(column, np.ndarray) else sum(map(len, column))
            for column in self.columns.values()
        )

    def take(self, rows: ArrayLike) -> Table:
        """Give some rows, as a table of their own.

        Parameters
        ----------
        rows
            Numbers of the rows, or truth values of shape (rows,).
        """
        chosen = np.asarray(rows)
        if chosen.dtype.kind == "b":
            chosen = np.flatnonzero(chosen)
        chosen = chosen.astype(np.intp)
        columns: dict[str, Column] = {}
        for name, column in self.columns.items():
            if isinstance(column, np.ndarray):
                columns[name] = column[chosen]
            else:
                columns[name] = tuple(column[row] for row in chosen.tolist())
        missing = {name: mask[chosen] for name, mask in self.missing.items()}
        return Table(columns, self.units, missing)

    def copy(self) -> Table:
        """Give the same table in memory of its own."""
        return Table(
            {
                name: column.copy() if isinstance(column, np.ndarray) else column
                for name, column in self.columns.items()
            },
            self.units,
            {name: mask.copy() for name, mask in self.missing.items()},
        )

    def to_arrow(self) -> pa.Table:
        """Give the table to Arrow.

        Returns
        -------
        pyarrow.Table
            One chunk for each column. Numbers of this computer's byte order that lie side by side
            are the same memory; truth values become bits and texts are encoded. Missing values
            are null, NaN stays NaN, and a unit is the field's metadata ``unit``.

        Raises
        ------
        MissingExtraError
            If pyarrow is not installed.
        """
        from polystore._arrow import to_arrow

        return to_arrow(self)

    @classmethod
    def from_arrow(cls, table: pa.Table | pa.RecordBatch) -> Table:
        """Take a table over from Arrow.

        Parameters
        ----------
        table
            Columns of integers, floats, truth values or text; text may be a dictionary.

        Returns
        -------
        Table
            Numbers of one chunk without a null are the same memory. Null is missing, NaN stays
            NaN, and the field's metadata ``unit`` is the unit. A column of type ``null`` becomes
            floats, all of them missing.

        Raises
        ------
        ColumnTypeError
            If a column is of another type; the message names it and says what to do.
        PayloadError
            If two columns have one name, or a column's buffers contradict each other.
        MissingExtraError
            If pyarrow is not installed.
        """
        from polystore._arrow import from_arrow

        return from_arrow(table)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    def __eq__(self, other: object) -> bool:
        """Whether names, types, units and values are the same; NaN equals NaN."""
        if not isinstance(other, Table):
            return NotImplemented
        return (
            list(self.columns) == list(other.columns)
            and self.units == other.units
            and self.missing.keys() == other.missing.keys()
            and all(np.array_equal(mask, other.missing[n]) for n, mask in self.missing.items())
            and all(_same(column, other.columns[name]) for name, column in self.columns.items())
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash, so neither has this


def _column(
    name: str, column: Column, missing: NDArray[np.bool_] | None
) -> tuple[Column, NDArray[np.bool_] | None]:
    if isinstance(column, np.ndarray) and column.dtype.kind != "U":
        if column.ndim != 1:
            raise PayloadError(f"column {name!r} has to be (rows,), not {column.shape}")
        check_dtype(column.dtype)
        absent = _fitting(name, missing, len(column))
        return read_only(column if absent is None else _cleared(column, absent)), absent
    if isinstance(column, np.ndarray) and column.ndim != 1:
        raise PayloadError(f"column {name!r} has to be (rows,), not {column.shape}")
    values = column.tolist() if isinstance(column, np.ndarray) else column
    if isinstance(values, str):
        raise PayloadError(f"column {name!r} has to be an array or a sequence of str")
    texts = cast("tuple[str | None, ...]", tuple(values))
    if None in texts:
        nothing = np.array([text is None for text in texts], dtype=np.bool_)
        missing = nothing if missing is None else _mask(name, missing) | nothing
        texts = tuple("" if text is None else text for text in texts)
    absent = _fitting(name, missing, len(texts))
    if absent is not None:
        texts = tuple(
            "" if nothing else text for text, nothing in zip(texts, absent.tolist(), strict=True)
        )
    if not all(type(text) is str for text in texts):
        raise PayloadError(f"column {name!r} has to be an array or a sequence of str")
    return cast("tuple[str, ...]", texts), absent


def _mask(name: str, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    made = np.asarray(mask)
    if made.dtype.kind != "b" or made.ndim != 1:
        raise PayloadError(
            f"missing values of {name!r} have to be truth values of shape (rows,), not "
            f"{made.dtype} {made.shape}"
        )
    return read_only(made)


def _fitting(name: str, missing: NDArray[np.bool_] | None, rows: int) -> NDArray[np.bool_] | None:
    if missing is None:
        return None
    if len(missing) != rows:
        raise PayloadError(f"column {name!r} has {rows} rows, its missing values {len(missing)}")
    return missing if missing.any() else None


def _cleared(column: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """Put NaN or 0 where there is no value, so that equal tables have equal bytes."""
    beneath = column[missing]
    if bool(np.isnan(beneath).all()) if column.dtype.kind == "f" else not beneath.any():
        return column
    made = column.copy()
    made[missing] = np.nan if column.dtype.kind == "f" else 0
    return made


def _same(one: Column, other: Column) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        )
    return type(one) is type(other) and one == other
