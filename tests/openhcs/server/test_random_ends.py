"""Servers that end at random moments, over and over: each run has its end, whole and once."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest
from tests.openhcs.server.served_runs import (
    SOON,
    Program,
    Watched,
    connected,
    every_well_is_done_once,
    order,
)

import openhcs
from openhcs.pipeline import from_source
from openhcs.results import open_results
from zmqruntime.execution import ExecutionStatus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
    pytest.mark.timeout(3600),
]

ROUNDS = 50 if os.environ.get("OPENHCS_SOAK") else 2
SHORT = """from openhcs import Pipeline, Step
from openhcs.functions import measure_image_quality, project_max

pipeline = Pipeline(Step(measure_image_quality), Step(project_max, keep=True))
"""


def test_every_run_has_its_end_however_its_server_ends(
    program: Program, screens: Path, tmp_path: Path
) -> None:
    chance = random.Random(7)
    wanted = openhcs.run(screens / "p1", from_source(SHORT), out=tmp_path / "here", workers=1)
    for number in range(ROUNDS):
        how = chance.choice([signal.SIGKILL, signal.SIGTERM])
        after, cancels = chance.randrange(12), chance.random() < 0.3
        name = f"run{number}"
        told = f"round {number}: {how.name} after {after} events, cancel: {cancels}"
        with connected(program) as client:
            run = Watched(client, client.submit_run(order(name, text=SHORT)).job)
            run.wait_for(lambda events, after=after: len(events) >= after)  # type: ignore[misc]
            if cancels:
                client.cancel(run.job)
            program.end(how)
            program.start()
            record = run.ended()
        if cancels and record.state in (ExecutionStatus.CANCELLED, ExecutionStatus.LOST):
            continue
        assert record.state is ExecutionStatus.COMPLETED, (told, record)
        assert every_well_is_done_once(run.events), told
        results = open_results(tmp_path / "results" / "local" / name)
        assert results.wells.drop(["seconds"]).equals(wanted.wells.drop(["seconds"])), told
    with connected(program) as client:
        assert client.server_status(timeout=SOON)["counts"].get("running", 0) == 0
