"""IOThread: one thread that owns sockets, sleeps until something happens, and obeys."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import socket as stdlib_socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import zmq

from zmqruntime._errors import LoopStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["IOThread", "TimerHandle"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class TimerHandle:
    """A call that the loop will make once, unless it is cancelled first."""

    __slots__ = ("_function", "due")

    def __init__(self, due: float, function: Callable[[], object]) -> None:
        self.due = due
        self._function: Callable[[], object] | None = function

    def cancel(self) -> None:
        """Make sure that the call is not made any more; any thread, any number of times."""
        self._function = None

    @property
    def cancelled(self) -> bool:
        """Whether the call was cancelled or has been made."""
        return self._function is None

    def take(self) -> Callable[[], object] | None:
        """Return the function and forget it; for the loop."""
        function, self._function = self._function, None
        return function


class IOThread:
    """One thread that owns sockets and wakes only when something happened.

    Sockets are made, registered, used and closed on the loop: a component hands a function
    that does so to `submit`. Between events the thread blocks in the kernel without a time
    limit, so an idle loop costs nothing.

    Parameters
    ----------
    name
        Name of the thread, for logs and debuggers.

    Notes
    -----
    Any thread may call `submit`, `call_soon`, `call_later` and `stop`; `register` and
    `unregister` belong to the loop. Callbacks run one at a time. One that raises is logged with
    its traceback and the loop goes on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._on_readable: dict[zmq.Socket[bytes] | int, Callable[[], object]] = {}
        self._jobs: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()  # guards _jobs, _timers, _wake_pending and _stopping
        self._wake_receive, self._wake_send = stdlib_socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        self._wake_pending = False
        self._stopping = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False
        self.wakeups = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the thread is there and will still do what it is handed."""
        return self._started and not self._stopping

    @property
    def on_loop(self) -> bool:
        """Whether the caller runs on this loop."""
        return threading.get_ident() == self._thread.ident

    def start(self) -> None:
        """Start the thread; starting twice is harmless.

        Raises
        ------
        LoopStoppedError
            If the loop was stopped; a new one is needed then.
        """
        with self._lock:
            if self._stopping:
                raise LoopStoppedError(f"I/O thread {self.name!r} was stopped; make a new one")
            if self._started:
                return
            self._started = True
        self._thread.start()

    def stop(self) -> None:
        """End the loop, close what is still open and wait for the thread; twice is harmless.

        Work handed over before is done first. Called on the loop itself, it returns at once and
        the loop ends after the current callback.
        """
        with self._lock:
            started, self._stopping = self._started, True
            self._wake()
        if not started:
            if not self._ended.is_set():
                self._close()
            return
        if not self.on_loop:
            self._thread.join()

    def submit(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function on the loop.

        Parameters
        ----------
        fn
            What to call; it must not block.
        *args, **kwargs
            Handed to it.

        Returns
        -------
        Future
            Its result or exception. On the loop itself the call has been made already.

        Raises
        ------
        LoopStoppedError
            If the loop has been stopped.
        """
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - belongs to whoever waits
                future.set_exception(error)
            else:
                future.set_result(result)

        if self.on_loop:
            job()
        else:
            self._enqueue(job)
        return future

    def call_soon(self, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a function on the loop later, for its effect; a failure is logged.

        Parameters
        ----------
        fn
            What to call; it must not block.
        *args, **kwargs
            Handed to it.

        Raises
        ------
        LoopStoppedError
            If the loop has been stopped.
        """
        self._enqueue(lambda: fn(*args, **kwargs))

    def call_later(self, seconds: float, fn: Callable[[], object]) -> TimerHandle:
        """Run a function on the loop after some time; a failure is logged.

        Parameters
        ----------
        seconds
            Shortest wait, at least 0.
        fn
            What to call; it must not block.

        Returns
        -------
        TimerHandle
            With which the call can be cancelled.

        Raises
        ------
        LoopStoppedError
            If the loop has been stopped.
        """
        handle = TimerHandle(time.monotonic() + max(0.0, seconds), fn)
        with self._lock:
            self._check_open()
            heapq.heappush(self._timers, (handle.due, next(self._order), handle))
            if self._timers[0][2] is handle and not self.on_loop:
                self._wake()
        return handle

    def register(self, socket: zmq.Socket[bytes] | int, on_readable: Callable[[], object]) -> None:
        """Call a function whenever a socket has something to read.

        Parameters
        ----------
        socket
            A socket of this loop, or a file descriptor (a pipe, a pidfd). The loop looks at the
            level, not the edge: a function that leaves messages unread is called again.
        on_readable
            What to call; it must not block.

        Raises
        ------
        RuntimeError
            If the caller is not on the loop: one thread owns a socket.
        """
        self._check_on_loop()
        self._poller.register(socket, zmq.POLLIN)
        self._on_readable[socket] = on_readable

    def unregister(self, socket: zmq.Socket[bytes] | int) -> None:
        """Look at a socket no longer; one that is not registered is ignored.

        Parameters
        ----------
        socket
            As given to `register`; it is not closed.

        Raises
        ------
        RuntimeError
            If the caller is not on the loop.
        """
        self._check_on_loop()
        if self._on_readable.pop(socket, None) is not None:
            self._poller.unregister(socket)

    def _check_on_loop(self) -> None:
        if not self.on_loop:
            raise RuntimeError(f"sockets of {self.name!r} are used on its own thread: use submit()")

    def _check_open(self) -> None:
        if self._ended.is_set() or (self._stopping and not self.on_loop):
            raise LoopStoppedError(f"I/O thread {self.name!r} has been stopped")

    def _enqueue(self, job: Callable[[], object]) -> None:
        with self._lock:
            self._check_open()
            self._jobs.append(job)
            self._wake()

    def _wake(self) -> None:
        """Write one byte, unless one is on its way; under the lock."""
        if not self._wake_pending and not self._ended.is_set():
            self._wake_pending = True
            self._wake_send.send(b"\0")

    def _run(self) -> None:
        self._poller.register(self._wake_receive.fileno(), zmq.POLLIN)
        try:
            while True:
                ready = self._poller.poll(self._patience_ms())
                self.wakeups += 1
                for socket, _ in ready:
                    if socket == self._wake_receive.fileno():
                        continue
                    callback = self._on_readable.get(socket)
                    if callback is not None:  # else an earlier callback of this round closed it
                        self._guard(callback)
                self._run_timers()
                if self._run_jobs():
                    return
        finally:
            self._close()

    def _patience_ms(self) -> int | None:
        """Say how long nothing can be due; None is without end."""
        with self._lock:
            while self._timers and self._timers[0][2].cancelled:
                heapq.heappop(self._timers)
            if not self._timers:
                return None
            # zmq takes whole milliseconds; rounding down would spin through the last one
            return max(0, math.ceil((self._timers[0][0] - time.monotonic()) * 1000))

    def _run_timers(self) -> None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._timers or self._timers[0][0] > now:
                    return
                function = heapq.heappop(self._timers)[2].take()
            if function is not None:
                self._guard(function)

    def _run_jobs(self) -> bool:
        """Do what was handed over, and say whether the loop is to end."""
        with self._lock:
            if self._wake_pending:
                self._wake_pending = False
                self._wake_receive.recv(16)
            jobs, stopping = list(self._jobs), self._stopping
            self._jobs.clear()
        for job in jobs:
            self._guard(job)
        with self._lock:
            return stopping and not self._jobs

    def _guard(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception:
            logger.exception("callback %r on I/O thread %r failed", function, self.name)

    def _close(self) -> None:
        with self._lock:
            self._stopping = True
            self._ended.set()
            abandoned = list(self._jobs)
            self._jobs.clear()
            self._timers.clear()
        if abandoned:
            logger.warning("I/O thread %r ended with %d calls undone", self.name, len(abandoned))
        self.context.destroy(linger=0)
        self._on_readable.clear()
        self._wake_receive.close()
        self._wake_send.close()
