"""Jobs of SLURM while a run lasts: there are as many as were asked for, or it is said why not."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path
    from types import TracebackType

__all__ = ["JobWatch", "reporting"]

_GLANCE_S = 1.0
_PATIENCE_S = 30.0
_MOST_BAD = 3
_LAST_LINES = 5


def reporting(job: type[Any]) -> type[Any]:
    """Give a kind of job that keeps why SLURM refused it, in place of an error nobody awaits."""
    from distributed.core import Status

    class Reporting(job):  # type: ignore[misc]  # of a library without types
        refusal: str | None = None

        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, ValueError, OSError) as error:
                self.refusal = _essence(str(error))
                self.status = Status.running  # as Dask expects of all that it has started

        async def close(self) -> None:
            await super().close()
            self.status = Status.closed

    return Reporting


class JobWatch:
    """Submits jobs anew where others ended, as at their walltime, and gives up when none begins.

    Parameters
    ----------
    cluster
        Of dask-jobqueue, whose jobs are of a `reporting` kind.
    workers
        Worker processes that there are to be, in all.
    logs
        The folder of what jobs print.
    ask_s
        Time in s from one look at SLURM's queue to the next.
    give_up
        Told why there will be no worker any more.
    tell
        Told, from a thread of the watch, what the jobs wait for.

    Notes
    -----
    A job is over when SLURM's queue does not list it. One that ends before it has brought a worker
    would end so again: after three of them no more are submitted.
    """

    def __init__(
        self,
        cluster: Any,
        workers: int,
        *,
        logs: Path,
        ask_s: float,
        give_up: Callable[[str], None],
        tell: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._workers = workers
        self._logs = logs
        self._ask_s = ask_s
        self._give_up = give_up
        self._tell = tell
        self._began: set[str] = set()
        self._bad: list[str] = []
        self._refused = 0
        self._said = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="slurm-jobs", daemon=True)

    def __enter__(self) -> JobWatch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        asked = time.monotonic()
        while not self._end.wait(_GLANCE_S):
            queue = None
            if time.monotonic() - asked >= self._ask_s:
                known = self._cluster.sync(self._known)
                queue = _queue()
                asked = time.monotonic()
                if queue is not None:
                    self._say_what_waits(known, queue)
                    self._cluster.sync(self._submit_anew, known - queue.keys())
            problem = self._cluster.sync(self._problem)
            if problem is not None:
                self._give_up(problem)
                return

    async def _known(self) -> set[str]:
        return {job.job_id for job in self._cluster.workers.values() if job.job_id}

    async def _submit_anew(self, over: set[str]) -> None:
        jobs = self._cluster.workers
        for name, job in list(jobs.items()):
            if job.refusal is None and (job.job_id not in over or self._has_worker(name)):
                continue
            if job.refusal is None and job.job_id not in self._began:
                self._bad.append(job.job_id)
            del jobs[name]
        if len(self._bad) < _MOST_BAD:
            self._cluster.scale(self._workers)

    async def _problem(self) -> str | None:
        """Say why there is no worker and will be none, if so."""
        jobs = self._cluster.workers
        self._began.update(job.job_id for name, job in jobs.items() if self._has_worker(name))
        refusals = [job.refusal for job in jobs.values() if job.refusal is not None]
        if len(refusals) < len(jobs) or self._cluster.scheduler.workers:
            return None
        if refusals and not self._began:
            return f"SLURM takes no jobs: {refusals[0]}"
        if len(self._bad) >= _MOST_BAD:
            return (
                f"{len(self._bad)} jobs of SLURM ended before they had a worker; "
                f"{self._last_words(self._bad[-1])}"
            )
        return None

    def _has_worker(self, name: object) -> bool:
        """Say whether a job has a worker now; the name of each begins with that of its job."""
        return any(
            str(worker.name) == str(name) or str(worker.name).startswith(f"{name}-")
            for worker in self._cluster.scheduler.workers.values()
        )

    def _last_words(self, job: str) -> str:
        """Give the end of what a job has printed."""
        for path in sorted(self._logs.glob(f"*-{job}.err")):
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            words = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
            if words:
                return f"{path} ends with: {' / '.join(words)}"
        return f"{self._logs} has what they printed, if anything"

    def _say_what_waits(self, ours: Collection[str], queue: Mapping[str, str]) -> None:
        waiting = Counter(reason for job, reason in queue.items() if job in ours and reason)
        said = "; ".join(f"{count} ({reason})" for reason, count in sorted(waiting.items()))
        if said and said != self._said:
            self._tell(f"Jobs that wait in SLURM's queue: {said}")
        self._said = said


def _queue() -> Mapping[str, str] | None:
    """Give this user's jobs, and what each that waits waits for; None when SLURM does not say."""
    words = ["squeue", "--noheader", "--user", str(os.getuid()), "--format=%i|%t|%r"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # its controller may be restarted; the jobs go on without it
    found = {}
    for line in done.stdout.splitlines():
        job, state, reason = line.strip().split("|", 2)
        found[job] = reason if state == "PD" else ""
    return found


def _essence(text: str) -> str:
    """Give what a command has said on stderr, out of what dask-jobqueue tells of it."""
    said = text.rpartition("stderr:")[2] or text
    return " / ".join(line.strip() for line in said.splitlines() if line.strip())
