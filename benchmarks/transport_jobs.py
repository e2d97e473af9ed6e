"""Jobs that do nothing, from submit to done, beside the two commits that their journal takes."""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _rows import Row

from zmqruntime.execution import ZMQExecutionClient
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from zmqruntime.execution import JobContext

__all__ = ["noop", "rows"]

PATIENCE_S = 30.0
JOBS = 100
SERVER = """
import sys
from pathlib import Path
from zmqruntime import Endpoint, ZMQServer
from zmqruntime.execution import ExecutionServer
ExecutionServer(
    ZMQServer("jobs", Endpoint(port=int(sys.argv[1])), bind_address="127.0.0.1"),
    journal=Path(sys.argv[2]),
    functions={"noop": "transport_jobs:noop"},
).serve_until_signal()
"""


def noop(context: JobContext, payload: Any) -> dict[str, Any]:  # noqa: ARG001 - a job
    """Do nothing; runs in a worker process."""
    return {}


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the row of jobs; medians of `repeats`."""
    here = str(Path(__file__).parent)
    with tempfile.TemporaryDirectory(prefix="zr-bench-") as folder:
        endpoint = free_endpoint()
        jobs = ZMQExecutionClient(
            endpoint,
            app="jobs",
            command=[sys.executable, "-c", SERVER, str(endpoint.port), f"{folder}/jobs.db"],
            log_path=Path(folder) / "server.log",
            env={"PYTHONPATH": here},
        )
        ours: list[float] = []
        bare: list[float] = []
        with jobs, sqlite3.connect(f"{folder}/bare.db", isolation_level=None) as journal:
            jobs.connect_or_raise(PATIENCE_S)
            journal.execute("PRAGMA journal_mode=WAL")
            journal.execute("PRAGMA synchronous=FULL")
            journal.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT)")
            for repeat in range(repeats + 1):
                taken, committed = [], []
                for _ in range(JOBS):
                    start = time.perf_counter()
                    jobs.wait(jobs.submit("noop"), PATIENCE_S)
                    taken.append(time.perf_counter() - start)
                    start = time.perf_counter()
                    row = journal.execute("INSERT INTO jobs (state) VALUES ('queued')")
                    journal.execute("UPDATE jobs SET state='done' WHERE id=?", (row.lastrowid,))
                    committed.append(time.perf_counter() - start)
                if repeat:
                    ours.append(statistics.median(taken))
                    bare.append(statistics.median(committed))
        journal.close()
    value, limit = statistics.median(ours) * 1e3, statistics.median(bare) * 1e3
    return [
        Row(
            row="no-op job, submit to done, journal on",
            value=value,
            unit="ms",
            limit=limit,
            ratio=value / limit,
            target="< 3 ms with a warm worker",
            met=value < 3,
        )
    ]
