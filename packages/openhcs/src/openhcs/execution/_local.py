"""Worker processes on this computer: each has one task at a time, and dies alone."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from openhcs._errors import WorkerLostError
from openhcs.execution._executor import Executor, StepDone, TaskBegun, task_of
from openhcs.execution._worker import encode_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openhcs.execution._executor import Notice, Told
    from openhcs.execution._task import Task

__all__ = ["LocalExecutor"]

_LOG = logging.getLogger(__name__)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_COMMAND = (
    "import sys; sys.path += sys.argv[1:]; from openhcs.execution._worker import main; main()"
)

P = ParamSpec("P")
R = TypeVar("R")


class _Job(Future[dict[str, Any]]):
    """The future of a task; cancelled while it runs, its process is asked to stop."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.stop_asked = threading.Event()
        self.slot: _Slot | None = None

    def cancel(self) -> bool:
        if super().cancel():
            return True
        self.stop_asked.set()
        slot = self.slot
        if slot is not None and not self.done():
            slot.stop_task(self)
        return False


class LocalExecutor(Executor):
    """Processes that do tasks, each by itself.

    A process that dies takes down its own task alone; the next task gets a new one.

    Parameters
    ----------
    workers
        How many processes; at least 1.
    errors
        Where the processes' standard error goes, such as an open log file; None for that of this
        process.
    grace
        Seconds that a cancelled task has to stop by itself; after that its process is ended.

    Raises
    ------
    ValueError
        If there are no workers.
    """

    def __init__(self, workers: int, errors: IO[Any] | None = None, *, grace: float = 8.0) -> None:
        if workers < 1:
            message = f"a run has at least one worker, not {workers}"
            raise ValueError(message)
        self._errors = errors
        self._grace = grace
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._told: dict[str, Told] = {}
        self._lock = threading.Lock()
        self._ended = False
        self._slots = [_Slot(self, number) for number in range(workers)]
        for slot in self._slots:
            slot.start()

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return len(self._slots)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(slot.pid for slot in self._slots if slot.pid is not None)

    @contextmanager
    def open_run(self, run_id: str, folder: Path, told: Told) -> Iterator[None]:  # noqa: ARG002  # its processes see all that this one sees
        """Tell what the tasks of a run do; see `openhcs.execution.Executor`."""
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
        RuntimeError
            After `shutdown`.
        """
        job = _Job(task_of(fn, args, kwargs))
        with self._lock:
            if self._ended:
                message = "tasks cannot be submitted to an executor that was shut down"
                raise RuntimeError(message)
            self._waiting.put(job)
        return cast("Future[R]", job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End all workers when their tasks are done; harmless twice.

        Parameters
        ----------
        wait
            Whether to return only when they are gone.
        cancel_futures
            Whether to drop the tasks that wait.
        """
        with self._lock:
            if not self._ended:
                self._ended = True
                for _ in self._slots:
                    self._waiting.put(None)
        if cancel_futures:
            self._drop()
        if wait:
            for slot in self._slots:
                slot.join()

    def next_job(self) -> _Job | None:
        """Give a slot its next task; None when there will be no more."""
        return self._waiting.get()

    def tell(self, run_id: str, notice: Notice) -> None:
        """Pass on what a task does to its run, if that listens."""
        told = self._told.get(run_id)
        if told is not None:
            told(notice)

    @property
    def grace(self) -> float:
        """Seconds that a process has to end by itself."""
        return self._grace

    @property
    def errors(self) -> IO[Any] | None:
        """Where the processes' standard error goes."""
        return self._errors

    def _drop(self) -> None:
        ends = 0
        while True:
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None:
                ends += 1
            else:
                job.cancel()
        for _ in range(ends):
            self._waiting.put(None)


class _Slot(threading.Thread):
    """The thread that owns one worker process."""

    def __init__(self, executor: LocalExecutor, number: int) -> None:
        super().__init__(name=f"openhcs worker {number}", daemon=True)
        self._executor = executor
        self._number = number
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._killer: threading.Timer | None = None
        self._job: _Job | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def stop_task(self, job: _Job) -> None:
        """Ask the process to stop what it does, and end it if it does not."""
        with self._lock:
            process = self._process
            if process is None or self._job is not job or self._killer is not None:
                return
            self._send(process, '{"kind":"stop"}\n')
            self._killer = threading.Timer(self._executor.grace, self._end, (job, process))
            self._killer.daemon = True
            self._killer.start()

    def _end(self, job: _Job, process: subprocess.Popen[str]) -> None:
        with self._lock:
            if self._job is job:
                process.kill()

    def run(self) -> None:
        try:
            self._open()
            while (job := self._executor.next_job()) is not None:
                if not job.set_running_or_notify_cancel():
                    continue
                try:
                    record = self._done(job)
                except Exception as error:  # noqa: BLE001  # the end of a task's thread
                    job.set_exception(error)
                else:
                    job.set_result(record)
        finally:
            self._close()

    def _done(self, job: _Job) -> dict[str, Any]:
        """Have a task done; a process that was asked to stop may end in any way."""
        task = job.task
        begun = TaskBegun(task=task.name, attempt=task.attempt, worker=self._number)
        self._executor.tell(task.run_id, begun)
        try:
            record = self._attempt(job)
        except WorkerLostError as error:
            _LOG.warning("worker %d: %s", self._number, error)
            self._close()
            if job.stop_asked.is_set():
                return {"outcome": "cancelled"}
            raise
        if record.get("spent"):
            self._close()  # whatever it would do on the GPU would fail as well
        return record

    def _attempt(self, job: _Job) -> dict[str, Any]:
        task = job.task
        with self._lock:
            process = self._open()
            self._job = job
            self._send(process, encode_task(task))
        job.slot = self
        if job.stop_asked.is_set():
            self.stop_task(job)
        try:
            assert process.stdout is not None  # opened as a pipe
            for line in process.stdout:
                answer = _answer(line)
                if answer.get("kind") == "step":
                    done = StepDone(
                        task=task.name,
                        attempt=task.attempt,
                        step=answer["step"],
                        seconds=answer["seconds"],
                    )
                    self._executor.tell(task.run_id, done)
                elif answer.get("kind") == "done":
                    record: dict[str, Any] = answer["record"]
                    return record
        finally:
            with self._lock:
                self._job = None
                if self._killer is not None:
                    self._killer.cancel()
                    self._killer = None
        raise WorkerLostError(_ending(process.wait()))

    def _open(self) -> subprocess.Popen[str]:
        if self._process is None:
            # A process group of its own keeps the terminal's Ctrl-C away from it, -P the folder
            # that the user happens to stand in. Where modules are found here, such as beside the
            # script, they are found there too, behind all that is installed.
            places = [str(Path(place).absolute()) for place in sys.path]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, *places],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._executor.errors,
                env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
                encoding="utf-8",
                process_group=0 if os.name == "posix" else None,
            )
        return self._process

    def _send(self, process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None  # opened as a pipe
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            _LOG.debug("worker %d has gone away", self._number)

    def _close(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # opened as a pipe
        assert process.stdout is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            _LOG.debug("worker %d has gone away", self._number)
        process.stdout.close()
        try:
            process.wait(self._executor.grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answer(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:  # the last line of a process that was ended while it wrote
        return {}
    return value if isinstance(value, dict) else {}


def _ending(code: int) -> str:
    if code >= 0:
        return f"the worker process ended by itself with status {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"the worker process was ended by {name}{hint}"
