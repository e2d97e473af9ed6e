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
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Self

from openhcs._errors import WorkerLostError
from openhcs.execution._worker import encode_task

if TYPE_CHECKING:
    from types import TracebackType

    from openhcs.execution._executor import Watcher
    from openhcs.execution._task import Task

__all__ = ["LocalExecutor"]

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 2
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_COMMAND = "from openhcs.execution._worker import main; main()"


@dataclass(frozen=True, slots=True)
class _Waiting:
    task: Task
    watcher: Watcher
    future: Future[dict[str, Any]]


class LocalExecutor:
    """Processes that do tasks, each by itself.

    A process that dies takes down its own task alone; that is given to a new process once, and is
    lost when that dies too.

    Parameters
    ----------
    workers
        How many processes; at least 1.
    errors
        Where the processes' standard error goes, such as an open log file.
    grace
        Seconds that a cancelled task has to stop by itself; after that its process is ended.

    Raises
    ------
    ValueError
        If there are no workers.
    """

    def __init__(self, workers: int, errors: IO[Any], *, grace: float = 8.0) -> None:
        if workers < 1:
            message = f"a run has at least one worker, not {workers}"
            raise ValueError(message)
        self._errors = errors
        self._grace = grace
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._slots = [_Slot(self, number) for number in range(workers)]
        for slot in self._slots:
            slot.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run now."""
        return tuple(slot.pid for slot in self._slots if slot.pid is not None)

    def submit(self, task: Task, watcher: Watcher) -> Future[dict[str, Any]]:
        """Take a task; see `openhcs.execution.Executor`."""
        future: Future[dict[str, Any]] = Future()
        self._waiting.put(_Waiting(task, watcher, future))
        return future

    def cancel(self) -> None:
        """Stop tasks that run and drop those that wait; returns at once."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            for slot in self._slots:
                slot.stop_task()

    def shutdown(self) -> None:
        """End all workers and wait until they are gone."""
        self.cancel()
        for _ in self._slots:
            self._waiting.put(None)
        for slot in self._slots:
            slot.join()

    def next_task(self) -> _Waiting | None:
        """Give a slot its next task; None when there will be no more."""
        return self._waiting.get()

    @property
    def cancelled(self) -> bool:
        """Whether no further task is to be begun."""
        return self._cancelled.is_set()

    @property
    def grace(self) -> float:
        """Seconds that a process has to end by itself."""
        return self._grace

    @property
    def errors(self) -> IO[Any]:
        """Where the processes' standard error goes."""
        return self._errors


class _Slot(threading.Thread):
    """The thread that owns one worker process."""

    def __init__(self, executor: LocalExecutor, number: int) -> None:
        super().__init__(name=f"openhcs worker {number}", daemon=True)
        self._executor = executor
        self._number = number
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._killer: threading.Timer | None = None
        self._busy = False

    @property
    def pid(self) -> int | None:
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def stop_task(self) -> None:
        """Ask the process to stop what it does, and end it if it does not."""
        with self._lock:
            process = self._process
            if process is None or not self._busy:
                return
            self._send(process, '{"kind":"stop"}\n')
            self._killer = threading.Timer(self._executor.grace, process.kill)
            self._killer.daemon = True
            self._killer.start()

    def run(self) -> None:
        try:
            self._open()
            while (waiting := self._executor.next_task()) is not None:
                if self._executor.cancelled or not waiting.future.set_running_or_notify_cancel():
                    waiting.future.cancel()
                    continue
                try:
                    record = self._done(waiting)
                except Exception as error:  # noqa: BLE001  # the end of a task's thread
                    waiting.future.set_exception(error)
                else:
                    waiting.future.set_result(record)
        finally:
            self._close()

    def _done(self, waiting: _Waiting) -> dict[str, Any]:
        """Have a task done, by a second process if the first one dies."""
        reason = ""
        for attempt in range(1, _ATTEMPTS + 1):
            if self._executor.cancelled:
                return {"outcome": "cancelled"}
            waiting.watcher.started(self._number, attempt)
            try:
                return self._attempt(waiting)
            except WorkerLostError as error:
                reason = str(error)
                _LOG.warning("worker %d: %s", self._number, reason)
                self._close()
                if attempt < _ATTEMPTS and not self._executor.cancelled:
                    waiting.watcher.retried(reason)
        if self._executor.cancelled:
            return {"outcome": "cancelled"}
        raise WorkerLostError(reason)

    def _attempt(self, waiting: _Waiting) -> dict[str, Any]:
        with self._lock:
            process = self._open()
            self._busy = True
            self._send(process, encode_task(waiting.task))
            if self._executor.cancelled:
                self._send(process, '{"kind":"stop"}\n')
        try:
            assert process.stdout is not None  # opened as a pipe
            for line in process.stdout:
                answer = _answer(line)
                if answer.get("kind") == "step":
                    waiting.watcher.finished_step(answer["step"], answer["seconds"])
                elif answer.get("kind") == "done":
                    record: dict[str, Any] = answer["record"]
                    return record
        finally:
            with self._lock:
                self._busy = False
                if self._killer is not None:
                    self._killer.cancel()
                    self._killer = None
        raise WorkerLostError(_ending(process.wait()))

    def _open(self) -> subprocess.Popen[str]:
        if self._process is None:
            # A process group of its own keeps the terminal's Ctrl-C away from it, -P the folder
            # that the user happens to stand in.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND],
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
