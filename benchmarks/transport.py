"""``hatch run bench:transport``: both channels and jobs, each against its limit."""

from __future__ import annotations

import os
import sys
import tempfile

import transport_control
import transport_data
import transport_jobs
from _parts import measure_parts


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parts = {
        "control": transport_control.rows,
        "data": transport_data.rows,
        "jobs": transport_jobs.rows,
    }
    with tempfile.TemporaryDirectory(prefix="zr-bench-") as folder:
        for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = folder  # locks, keys and logs of this run go with it
        return measure_parts(__doc__, parts)


if __name__ == "__main__":
    sys.exit(main())
