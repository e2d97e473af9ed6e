"""``hatch run bench:plate``: a whole plate and its parts, each against its limit."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from _plate_run import plate_rows
from _rows import print_rows
from _scheduling import scheduling_rows
from _streaming import rows as streaming_rows
from functions_stitching import rows as stitching_rows
from plate_index import rows as index_rows
from plate_scale import rows as scale_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from _rows import Row


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON list of rows")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many runs")
    parser.add_argument(
        "--wells", type=int, default=96, help="wells of the plate; fewer give a rough look only"
    )
    parser.add_argument(
        "--only",
        choices=["plate", "index", "scale", "scheduling", "stitching", "streaming"],
        help="one of the parts",
    )
    parser.add_argument("--keep", type=Path, help="folder in which plate and results stay")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="openhcs-bench-"))
    parts: dict[str, Callable[[], list[Row]]] = {
        "streaming": lambda: streaming_rows(repeats=arguments.repeats),
        "stitching": stitching_rows,
        "index": lambda: index_rows(min(3, arguments.repeats)),
        "scale": lambda: scale_rows(folder, wells=arguments.wells, repeats=arguments.repeats),
        "scheduling": lambda: scheduling_rows(folder, repeats=arguments.repeats),
        "plate": lambda: plate_rows(folder, wells=arguments.wells, repeats=arguments.repeats),
    }
    try:
        rows = [
            row
            for name, measure in parts.items()
            if arguments.only in (None, name)
            for row in measure()
        ]
    finally:
        if arguments.keep is None:
            shutil.rmtree(folder)
    return print_rows(rows, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
