"""Two calls that run in turn, so that whatever else the computer does falls on both."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from _rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["at_most"]


def at_most(
    row: str,
    ours: Callable[[], object],
    limit: Callable[[], object],
    *,
    target: float,
    repeats: int,
    per: float = 1.0,
    unit: str = "ms/field",
) -> Row:
    """Compare the processor time of two calls.

    Parameters
    ----------
    row
        What is measured, and against what.
    ours, limit
        The two calls; each runs once to warm up.
    target
        What ours over the limit may be.
    repeats
        Medians of so many runs.
    per, unit
        Milliseconds are divided by this, and called that.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for times, call in zip(taken, (ours, limit), strict=True):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    value, least = (statistics.median(times[1:]) * 1e3 / per for times in taken)
    return Row(
        row=row,
        value=value,
        unit=unit,
        limit=least,
        ratio=value / least,
        target=f"ratio <= {target:g}",
        met=value <= target * least,
    )
