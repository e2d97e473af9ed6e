"""The command of a benchmark that has parts: which to measure, how often, printed how."""

from __future__ import annotations

import argparse
import os
import platform
from typing import TYPE_CHECKING

from _rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from _rows import Row

__all__ = ["measure_parts"]


def measure_parts(what: str | None, parts: Mapping[str, Callable[[int], Sequence[Row]]]) -> int:
    """Read the command line, measure and print.

    Parameters
    ----------
    what
        What is measured, for ``--help``.
    parts
        By name, a function of the number of repetitions that gives rows.

    Returns
    -------
    int
        0 when every target is met, else 1.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many runs")
    parser.add_argument("--only", choices=sorted(parts), help="one of the parts")
    arguments = parser.parse_args()
    rows = [
        row
        for name, measure in parts.items()
        if arguments.only in (None, name)
        for row in measure(arguments.repeats)
    ]
    if not arguments.json:
        print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    return print_rows(rows, as_json=arguments.json)
