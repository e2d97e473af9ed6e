"""Workers: as many processes as jobs may run at once, kept warm, and replaced when they end."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from zmqruntime.execution._worker_messages import Exit
from zmqruntime.execution._worker_process import WorkerProcess
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zmqruntime.execution._worker_messages import FromWorker
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.processes._identity import Identity

__all__ = ["Workers"]

logger = logging.getLogger(__name__)


class Workers:
    """The worker processes of a server; made and used on the loop.

    Parameters
    ----------
    loop
        Thread that hears them.
    count
        How many there are.
    functions, mark, env
        As for `WorkerProcess`.
    on_message, on_output
        Called with what a worker says and prints.
    on_start
        Called with the identity of a new process.
    on_end
        Called with a process that ended, and the reason.

    Notes
    -----
    A worker that ended while it was of use is replaced at once; one that never became ready
    after 1 s, doubling to 32 s, for as long as that goes on.
    """

    def __init__(
        self,
        loop: IOThread,
        *,
        count: int,
        functions: Mapping[str, str],
        mark: str,
        env: Mapping[str, str],
        on_message: Callable[[WorkerProcess, FromWorker], object],
        on_output: Callable[[WorkerProcess, bytes], object],
        on_start: Callable[[Identity], object],
        on_end: Callable[[WorkerProcess, str], object],
    ) -> None:
        self._loop = loop
        self._count = count
        self._functions = functions
        self._mark = mark
        self._env = env
        self._on_message = on_message
        self._on_output = on_output
        self._on_start = on_start
        self._on_end = on_end
        self._backoff = Backoff(first=1.0, longest=32.0)
        self._processes: list[WorkerProcess] = []
        self._ending = False
        self.trouble = ""
        """Why the last worker could not be started; empty when it could."""

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(tuple(self._processes))

    def __len__(self) -> int:
        return len(self._processes)

    def start(self) -> None:
        """Start those that are missing."""
        while len(self._processes) < self._count and not self._ending:
            try:
                process = WorkerProcess(
                    self._loop,
                    self._functions,
                    mark=self._mark,
                    env=self._env,
                    on_message=self._hear,
                    on_output=self._on_output,
                    on_end=self._ended,
                )
            except OSError as error:
                self._wait(f"no worker process can be started: {error}")
                return
            self._processes.append(process)
            if process.identity is not None:
                self._on_start(process.identity)

    def idle(self) -> list[WorkerProcess]:
        """Return those that can take a job, the one that worked last first."""
        return [each for each in reversed(self._processes) if self._is_free(each)]

    def doing(self, id_: str) -> WorkerProcess | None:
        """Return the one that does a job."""
        for process in self._processes:
            if process.job is not None and process.job[0] == id_:
                return process
        return None

    def end(self, timeout: float) -> None:
        """End all of them, in order where they will, else by force."""
        self._ending = True
        for process in self._processes:
            process.tell(Exit())
        due = time.monotonic() + timeout
        for process in self._processes:
            process.end(max(0.0, due - time.monotonic()))
        self._processes.clear()

    def _is_free(self, process: WorkerProcess) -> bool:
        return process.ready and process.job is None and not process.killed

    def _hear(self, process: WorkerProcess, message: FromWorker) -> None:
        if process.ready and self.trouble:
            self.trouble = ""
            self._backoff.reset()
        self._on_message(process, message)

    def _ended(self, process: WorkerProcess, reason: str) -> None:
        if process in self._processes:
            self._processes.remove(process)
        self._on_end(process, reason)
        if process.ready or process.killed:
            self.start()
        else:
            self._wait(f"a worker did not become ready: {reason}")

    def _wait(self, trouble: str) -> None:
        wait = self._backoff.next()
        self.trouble = trouble
        logger.error("%s; the next try is in %g s", trouble, wait)
        self._loop.call_later(wait, self.start)
