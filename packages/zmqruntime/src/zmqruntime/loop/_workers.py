"""WorkerPool: a few threads for handlers that may take their time."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WorkerPool"]

logger = logging.getLogger(__name__)


class WorkerPool:
    """Threads that run jobs in the order of arrival, several at a time.

    Parameters
    ----------
    name
        Prefix of the thread names.
    threads
        Most jobs at a time; a thread is started when the first job needs it.
    waiting
        Most jobs that may wait.

    Notes
    -----
    The threads are daemons: a job that hangs must not keep a process from ending, which
    `concurrent.futures.ThreadPoolExecutor` would.
    """

    def __init__(self, name: str, *, threads: int = 4, waiting: int = 256) -> None:
        self._name = name
        self._most_threads = threads
        self._most_waiting = waiting
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._unfinished = 0
        self._closed = False

    def offer(self, job: Callable[[], object]) -> bool:
        """Take a job, unless too many wait already.

        Parameters
        ----------
        job
            What to call; an exception is logged.

        Returns
        -------
        bool
            False when the job was not taken.
        """
        with self._lock:
            if self._closed or self._unfinished >= self._most_threads + self._most_waiting:
                return False
            self._unfinished += 1
            if self._unfinished > self._threads < self._most_threads:
                self._threads += 1
                name = f"{self._name}-{self._threads}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
            self._jobs.put(job)
        return True

    def close(self) -> None:
        """Take no more jobs; those under way are left to end by themselves."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not self._closed:
                    job()
            except BaseException:  # sys.exit() in a job must not end a thread that others need
                logger.exception("job %r of %r failed", job, self._name)
            finally:
                with self._lock:
                    self._unfinished -= 1
