"""Rows of a benchmark: a figure, the limit it is held against, and whether that is met."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Row", "print_rows"]


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    row
        What was measured.
    value, unit
        The median, and what it counts.
    limit
        The best that could be, measured in the same run and in the same unit; None without one.
    ratio
        Value over limit, or limit over value where more is better: the target says which.
    target
        What it has to be, in words.
    met
        Whether it is.
    """

    row: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None
    target: str
    met: bool


def print_rows(rows: Sequence[Row], *, as_json: bool) -> int:
    """Print rows as a table or as a JSON list.

    Returns
    -------
    int
        0 when every target is met, else 1.
    """
    if as_json:
        json.dump([asdict(row) for row in rows], sys.stdout, indent=2)
        print()
    else:
        cells = [("row", "value", "unit", "limit", "ratio", "target", "met")]
        cells += [
            (
                row.row,
                f"{row.value:.4g}",
                row.unit,
                "" if row.limit is None else f"{row.limit:.4g}",
                "" if row.ratio is None else f"{row.ratio:.3f}",
                row.target,
                "yes" if row.met else "NO",
            )
            for row in rows
        ]
        widths = [max(len(line[column]) for line in cells) for column in range(7)]
        for line in cells:
            print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
    return 0 if all(row.met for row in rows) else 1
