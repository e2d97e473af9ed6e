"""What a Dask worker does for a run: it takes text, and gives text.

Dask carries the names of these functions and strings; neither plates, pixels nor plans. Dask may
begin a task anew when it has lost its worker, as often as the scheduler is set to. Each task is
therefore claimed with a file before it is begun, and a task that is claimed already is not done:
how often it is tried is the run's to count.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from openhcs.execution._fitness import unfit
from openhcs.execution._folder import ResultFolder
from openhcs.execution._perform import run_task
from openhcs.execution._task import WellTask
from openhcs.execution._worker import decode_task
from openhcs.pipeline import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.execution._task import Task

__all__ = ["TOPIC", "look", "perform_text"]

TOPIC = "openhcs"
"""Topic of the scheduler's events that tell what tasks do."""

_TELL_S = 1.0
"""Between two of them from one task: the scheduler of many workers hears all of theirs. What is not
told so stands in the record of the task."""


def look(root: str, run_id: str) -> str:
    """Say whether this worker can do the tasks of a run, as JSON.

    Returns
    -------
    str
        ``host``; ``problem``, None when there is none; ``seen``, the name of a file that it wrote
        into the folder's ``work/claims``.
    """
    problem = unfit(root, run_id)
    name = f"seen-{uuid.uuid4().hex}"
    if problem is None:
        try:
            (ResultFolder(root).claims / name).touch(exist_ok=False)
        except OSError as error:
            problem = f"the result folder {root} cannot be written to: {error.strerror or error}"
    return json.dumps({"host": socket.gethostname(), "problem": problem, "seen": name})


def perform_text(text: str) -> str:
    """Do a task that `encode_task` wrote, and give its record as JSON."""
    from distributed import get_worker

    worker = get_worker()
    task = decode_task(text)

    def tell(**values: Any) -> None:
        about = {"run": task.run_id, "task": task.name, "attempt": task.attempt}
        worker.log_event(TOPIC, about | {"worker": worker.address} | values)

    problem = unfit(task.folder, task.run_id)
    if problem is not None:
        error = f"worker {worker.address} on {socket.gethostname()} cannot be used: {problem}"
        return json.dumps({"outcome": str(Outcome.LOST), "error": error})
    folder = ResultFolder(task.folder)
    claim = folder.claims / f"{task.name}-{task.attempt}"
    mine = {"worker": worker.address, "host": socket.gethostname(), "pid": os.getpid()}
    try:
        with claim.open("x", encoding="utf-8") as stream:
            json.dump(mine, stream)
    except FileExistsError:
        return json.dumps(_begun_before(folder, task, claim))
    tell(kind="begun")
    steps: list[tuple[str, float]] = []
    told = time.monotonic()

    def finished(step: str, seconds: float) -> None:
        nonlocal told
        steps.append((step, seconds))
        if time.monotonic() - told >= _TELL_S:
            tell(kind="steps", steps=steps.copy())
            steps.clear()
            told = time.monotonic()

    return json.dumps(run_task(task, proceed=_go_on, finished=finished))


def _begun_before(folder: ResultFolder, task: Task, claim: Path) -> dict[str, Any]:
    """Give the record of an attempt whose worker Dask has lost: done, or lost with it."""
    if isinstance(task, WellTask):
        record = folder.read_record(task.well) or {}
        done = {"run_id": task.run_id, "attempt": task.attempt, "outcome": str(Outcome.OK)}
        if all(record.get(name) == value for name, value in done.items()):
            return {"outcome": str(Outcome.OK), "record": record}
    try:
        lost = json.loads(claim.read_bytes())
    except ValueError:  # it was lost while it wrote this
        lost = {}
    return {"outcome": str(Outcome.LOST), "error": "the Dask worker was lost", "lost": lost}


def _go_on() -> None:
    """Do as the result folder says, which every worker sees."""
