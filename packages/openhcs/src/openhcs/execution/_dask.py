"""Workers of a Dask cluster: each task is one of Dask's, and refers to the result folder."""

from __future__ import annotations

import importlib.metadata
import json
import threading
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from openhcs._errors import ClusterError, WorkerLostError
from openhcs.execution._dask_worker import TOPIC, look, perform_text
from openhcs.execution._executor import Executor, StepDone, TaskBegun, task_of
from openhcs.execution._fitness import installed
from openhcs.execution._folder import ResultFolder
from openhcs.execution._worker import encode_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from openhcs.execution._executor import Told
    from openhcs.execution._task import Task

__all__ = ["DaskExecutor"]

_MOST_BYTES = 20_000
_MOST_NAMED = 5
_MEMORY = "worker-restart-memory"
_ALL = "all"

P = ParamSpec("P")
R = TypeVar("R")


class _Job(Future[dict[str, Any]]):
    """The future of a task; what Dask calls its future is held with it."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.there: Any = None

    def cancel(self) -> bool:
        """Drop the task if it waits; one that runs stops when its run does."""
        dropped = super().cancel()
        if dropped and self.there is not None:
            self.there.cancel()
        return dropped


class DaskExecutor(Executor):
    """Does tasks on the workers of a Dask cluster.

    Workers need the plate and the result folder under the same paths as here, and the same
    versions of what computes; both are checked before the first task. A lost worker's task is
    not begun again by Dask, whatever its scheduler is set to.

    Parameters
    ----------
    cluster
        Address of a scheduler, such as ``"tcp://host:8786"``; or a client or cluster of Dask's,
        which stays as it is: a connection of our own is made to the same scheduler.
    wait_s
        How long to wait for the scheduler, and for a first worker.
    patience_s
        How long a run goes on without any worker; then its wells are lost. None to wait for as
        long as it takes.

    Raises
    ------
    ClusterError
        If Dask is not installed, or the scheduler cannot be reached.

    Notes
    -----
    Dask sends pickles: whoever reaches its scheduler or workers can run what they like as the user
    that started them. Use a cluster of your own in a network you trust, or TLS.
    """

    def __init__(
        self, cluster: Any, *, wait_s: float = 30.0, patience_s: float | None = 300.0
    ) -> None:
        distributed = _distributed()
        self._address, security = _scheduler_of(cluster)
        self._wait_s = wait_s
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._told: dict[str, Told] = {}
        self._jobs: dict[tuple[str, str, int], _Job] = {}
        self._numbers: dict[str, int] = {}
        self._memory: dict[str, int] = {}
        self._out_of_patience: threading.Timer | None = None
        self._workerless: str | None = None
        self._ended = False
        try:
            self._client = distributed.Client(
                self._address,
                security=security,
                timeout=wait_s,
                set_as_default=False,
                name="openhcs",
            )
        except (OSError, ValueError, ImportError) as error:
            message = f"no Dask scheduler answers at {self._address}: {error}"
            raise ClusterError(message) from error
        self._client.subscribe_topic(TOPIC, self._hear)
        self._client.subscribe_topic(_MEMORY, self._hear_of_memory)
        self._client.subscribe_topic(_ALL, self._hear_of_workers)

    def __str__(self) -> str:
        return f"Dask at {self._address}"

    @property
    def workers(self) -> int:
        """How many tasks the cluster does at a time, as it is now."""
        return sum(self._threads().values())

    def wait_for_worker(self, timeout_s: float) -> bool:
        """Wait until there is a worker, and say whether there is one.

        Raises
        ------
        ClusterError
            If the scheduler is gone, or there will be no worker.
        """
        with self._lock:
            if self._workerless is not None:
                raise ClusterError(self._workerless)
        if self._threads():
            return True
        try:
            self._client.wait_for_workers(1, timeout=timeout_s)
        except TimeoutError:
            return bool(self._threads())
        return True

    @contextmanager
    def open_run(self, run_id: str, folder: Path, told: Told) -> Iterator[None]:
        """Check the workers, and tell what the tasks of a run do; see `Executor`.

        Raises
        ------
        ClusterError
            If there is no worker, or one of them cannot do the tasks.
        """
        if not self.wait_for_worker(self._wait_s):
            message = (
                f"the Dask cluster at {self._address} has no workers: start some, and run again"
            )
            raise ClusterError(message)
        self._check(run_id, ResultFolder(folder))
        self._told[run_id] = told
        try:
            yield
        finally:
            del self._told[run_id]

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Take a task: ``submit(perform, task)``.

        Raises
        ------
        TypeError
            If it is something else.
        BrokenExecutor
            If the scheduler is gone.
        RuntimeError
            After `shutdown`.
        """
        job = _Job(task_of(fn, args, kwargs))
        task = job.task
        text = encode_task(task)
        assert len(text) <= _MOST_BYTES, task.name  # a task names things and holds none of them
        key = (f"openhcs-{task.run_id}", task.name, task.attempt)
        with self._lock:
            if self._ended:
                message = "tasks cannot be submitted to an executor that was shut down"
                raise RuntimeError(message)
            if self._workerless is not None:
                raise BrokenExecutor(self._workerless)
            self._jobs[key] = job
        try:
            # Of one group without dependencies, so that workers take them one by one.
            job.there = self._client.submit(perform_text, text, key=key, pure=False, retries=0)
        except Exception as error:
            with self._lock:
                del self._jobs[key]
            raise BrokenExecutor(self._gone(error)) from error
        job.there.add_done_callback(lambda there: self._over(key, there))
        return cast("Future[R]", job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on; harmless twice.

        Parameters
        ----------
        wait
            Whether to wait for the tasks that were submitted.
        cancel_futures
            Whether to drop the tasks that wait.
        """
        with self._lock:
            ended, self._ended = self._ended, True
            jobs = list(self._jobs.values())
        if ended:
            return
        for job in jobs:
            if cancel_futures:
                job.cancel()
        if wait:
            for job in jobs:
                with suppress(CancelledError):
                    job.exception()
        self._rest()
        if self._client.status == "running":
            for topic in (TOPIC, _MEMORY, _ALL):
                self._client.unsubscribe_topic(topic)  # or the scheduler complains of whom it tells
        self._client.close(timeout=5)

    def give_up(self, reason: str) -> None:
        """End all tasks, because there is no worker and will be none; one that comes lifts it.

        Parameters
        ----------
        reason
            What those who wait for the tasks are told.
        """
        with self._lock:
            self._workerless = reason
            jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            if job.there is not None:
                job.there.cancel()
            self._settle(job, BrokenExecutor(reason))

    # from here on: called by Dask, from threads of its own

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        said = event[1]
        told = self._told.get(str(said.get("run")))
        if told is None:
            return
        task, attempt, address = str(said["task"]), int(said["attempt"]), str(said["worker"])
        if said["kind"] == "begun":
            with self._lock:
                job = self._jobs.get((f"openhcs-{said['run']}", task, attempt))
                number = self._numbers.setdefault(address, len(self._numbers))
                if job is not None and not _running(job):
                    return
            told(TaskBegun(task=task, attempt=attempt, worker=number))
        else:
            for step, seconds in said["steps"]:
                told(StepDone(task=task, attempt=attempt, step=str(step), seconds=float(seconds)))

    def _hear_of_memory(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._memory[str(event[1].get("worker"))] = int(event[1].get("rss", 0))

    def _hear_of_workers(self, event: tuple[float, Mapping[str, Any]]) -> None:
        action = event[1].get("action") if isinstance(event[1], dict) else None
        if action == "add-worker":
            self._rest()
        elif action == "remove-worker":
            self._client.loop.add_callback(self._count_workers)

    async def _count_workers(self) -> None:
        try:
            if await self._client.scheduler.ncores():
                return
        except OSError:  # the scheduler is gone: each task hears of that by itself
            return
        patience_s = self._patience_s
        if patience_s is None:
            return
        reason = f"the Dask cluster at {self._address} had no worker for {patience_s:.0f} s"
        with self._lock:
            if self._out_of_patience is None and not self._ended:
                self._out_of_patience = threading.Timer(patience_s, self.give_up, (reason,))
                self._out_of_patience.daemon = True
                self._out_of_patience.start()

    def _rest(self) -> None:
        with self._lock:
            self._workerless = None
            timer, self._out_of_patience = self._out_of_patience, None
        if timer is not None:
            timer.cancel()

    def _over(self, key: tuple[str, str, int], there: Any) -> None:
        with self._lock:
            job = self._jobs.pop(key, None)
        if job is None or job.cancelled():
            return
        try:
            self._settle(job, self._record(there))
        except Exception as error:  # noqa: BLE001  # the end of a task, whatever Dask raises
            self._settle(job, error)
        finally:
            job.there = None  # the scheduler forgets what nobody holds

    def _settle(self, job: _Job, end: dict[str, Any] | Exception) -> None:
        with self._lock:
            if not _running(job):
                return
        if isinstance(end, Exception):
            job.set_exception(end)
        else:
            job.set_result(end)

    def _record(self, there: Any) -> dict[str, Any] | Exception:
        """Give how a task ended."""
        if there.status == "cancelled":
            return BrokenExecutor(self._gone(None))
        if there.status != "finished":
            error = there.exception()
            if type(error).__name__ == "KilledWorker":
                address = str(getattr(getattr(error, "last_worker", None), "address", "unknown"))
                return WorkerLostError(self._lost({"worker": address}))
            return WorkerLostError(f"a Dask worker could not do the task: {error!r}")
        try:
            record = json.loads(there.result())
        except (OSError, TimeoutError) as error:
            return BrokenExecutor(self._gone(error))
        if "lost" in record:
            return WorkerLostError(self._lost(record["lost"]))
        return cast("dict[str, Any]", record)

    def _lost(self, lost: Mapping[str, Any]) -> str:
        address = str(lost.get("worker", "unknown"))
        text = f"the Dask worker {address}"
        if "pid" in lost:
            text += f" (process {lost['pid']} on {lost['host']})"
        if address in self._memory:
            gigabytes = self._memory[address] / 1e9
            return (
                f"{text} was ended by its nanny: it held {gigabytes:.2f} GB, near its memory limit"
            )
        return f"{text} was lost"

    def _gone(self, error: BaseException | None) -> str:
        why = f": {error}" if error is not None and str(error) else ""
        return f"the Dask scheduler at {self._address} is gone, or dropped the task{why}"

    def _threads(self) -> Mapping[str, int]:
        try:
            threads: Mapping[str, int] = self._client.nthreads()
        except Exception as error:
            raise ClusterError(self._gone(error)) from error
        return threads

    def _check(self, run_id: str, folder: ResultFolder) -> None:
        """Refuse workers that cannot do the tasks of a run.

        Their version is asked for by a function of the standard library: one without openhcs
        cannot load a function of ours.
        """
        here = installed()["openhcs"]
        found = self._on_workers(importlib.metadata.version, "openhcs")
        problems = {
            address: f"openhcs is not installed there, and {here} here"
            if isinstance(version, Exception)
            else f"openhcs is {version} there, and {here} here"
            for address, version in found.items()
            if version != here
        }
        if not problems:
            answers = self._on_workers(look, str(folder.root), run_id)
            problems = {
                address: problem
                for address, answer in answers.items()
                if (problem := _problem(answer, folder)) is not None
            }
        if not problems:
            return
        named = [f"worker {address}: {why}" for address, why in sorted(problems.items())]
        more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
        message = "workers of the Dask cluster cannot do this run: "
        raise ClusterError(message + "; ".join([*named[:_MOST_NAMED], *more]))

    def _on_workers(self, fn: Callable[..., Any], *args: str) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._client.run(fn, *args, on_error="return")
        except Exception as error:
            raise ClusterError(self._gone(error)) from error
        return found


def _problem(answer: Any, folder: ResultFolder) -> str | None:
    if isinstance(answer, Exception):
        return f"it cannot say what it sees: {answer!r}"
    said = json.loads(answer)
    if said["problem"] is not None:
        return f"on {said['host']}, {said['problem']}"
    if not (folder.claims / said["seen"]).exists():
        return f"what it writes on {said['host']} into {folder.root} does not arrive here"
    return None


def _running(job: _Job) -> bool:
    """Take a task for begun; False when it was dropped before. Called with the lock held."""
    return job.running() or (not job.done() and job.set_running_or_notify_cancel())


def _scheduler_of(cluster: Any) -> tuple[str, Any]:
    """Give the address of a scheduler, and what it takes to talk to it."""
    if isinstance(cluster, str):
        return cluster, None
    scheduler = getattr(cluster, "scheduler", None)
    address = getattr(cluster, "scheduler_address", None) or getattr(scheduler, "address", None)
    if not isinstance(address, str):
        message = f"{cluster!r} is neither the address of a Dask scheduler, a client nor a cluster"
        raise TypeError(message)
    return address, getattr(cluster, "security", None)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        message = "Dask is not installed: install openhcs[dask], here and where its workers run"
        raise ClusterError(message) from error
    return distributed
