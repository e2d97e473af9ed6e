"""``hatch run bench:store``: what is kept and shown, each part against its limit."""

from __future__ import annotations

import argparse
import os
import platform
import sys

import store_codecs
import store_tiles
from _rows import print_rows


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parts = {
        "codecs": store_codecs.rows,
        "tiles": store_tiles.rows,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many runs")
    parser.add_argument("--only", choices=sorted(parts), help="one of the parts")
    arguments = parser.parse_args()
    rows = [
        row
        for name, measure in parts.items()
        if arguments.only in (None, name)
        for row in measure(repeats=arguments.repeats)
    ]
    if not arguments.json:
        print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    return print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
