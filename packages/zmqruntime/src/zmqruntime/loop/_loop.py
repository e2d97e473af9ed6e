"""IOThread: one thread that owns sockets, sleeps until something happens, and obeys."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import zmq

from zmqruntime._errors import LoopStoppedError
from zmqruntime.loop._socket_turn import SocketTurn
from zmqruntime.loop._timers import TimerHandle, Timers

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from zmqruntime.loop._socket_turn import Ready

__all__ = ["IOThread"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class IOThread:
    """One thread that owns sockets and wakes only when something happened.

    Sockets are made, registered, used and closed on the loop: a component hands a function
    that does so to `submit`. Between events the thread blocks in the kernel without a time
    limit, so an idle loop costs nothing.

    Parameters
    ----------
    name
        Name of the thread, for logs and debuggers.

    Attributes
    ----------
    context
        In which sockets are made.
    turn
        Which thread may use them now.
    failed_callbacks
        How many callbacks have raised, those of the application among them.

    Notes
    -----
    Any thread may call `submit`, `call_soon`, `call_here`, `call_later` and `stop`; `register`
    and `unregister` belong to the loop. Callbacks run one at a time. One that raises is logged
    with its traceback and counted, and the loop goes on.

    While the thread sleeps, another one may borrow its sockets (`turn`), so at any moment one
    thread has them. Callbacks of applications run on the loop's thread alone.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._lock = threading.Lock()  # guards _jobs, _timers, _stopping and what calls the thread
        self.turn = SocketTurn(name, self._lock, self._begin_anew)
        self.failed_callbacks = 0
        self._on_readable: dict[zmq.Socket[bytes] | int, Callable[[], object]] = {}
        self._interrupted_callbacks: list[Callable[[], object]] = []
        self._stopped_callbacks: list[Callable[[], object]] = []
        self._jobs: deque[Callable[[], object]] = deque()
        self._timers = Timers()
        self._stopping = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether the thread is there and will still do what it is handed."""
        return self._started and not self._stopping and os.getpid() == self.turn.pid

    @property
    def on_loop(self) -> bool:
        """Whether the caller runs on this loop, or has borrowed its sockets."""
        return threading.get_ident() == self.turn.owner

    @property
    def wakeups(self) -> int:
        """How often the thread has woken."""
        return self.turn.wakeups

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
        if os.getpid() != self.turn.pid:
            return  # a forked child has nothing to stop
        with self._lock:
            started, self._stopping = self._started, True
            self.turn.call()
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

    def call_here(self, fn: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run a function at once on this thread if the sockets are idle, else soon on the loop.

        From the main thread it is always on the loop.

        Parameters
        ----------
        fn
            What to call; it must not block, and must call nothing of the application.
        *args, **kwargs
            Handed to it.

        Raises
        ------
        LoopStoppedError
            If the loop has been stopped.
        """
        if self.on_loop:
            self.guard(lambda: fn(*args, **kwargs))
            return
        # Ctrl-C reaches the main thread only, and could leave half a message in a socket.
        main = threading.get_ident() == threading.main_thread().ident
        borrowed = clean = True
        try:
            borrowed = not main and self.turn.borrow()
            if borrowed:
                clean = False
                self.guard(lambda: fn(*args, **kwargs))
                clean = True
        finally:
            if borrowed:
                try:
                    self.turn.give_back(clean=clean)
                except BaseException:
                    self.turn.give_back(clean=False)
                    raise
        if not borrowed:
            self._enqueue(lambda: fn(*args, **kwargs))

    def on_interrupted(self, callback: Callable[[], object]) -> None:
        """Call a function, on the loop, when a borrower was interrupted while it used the sockets.

        Parameters
        ----------
        callback
            Brings its sockets into a known state.
        """
        self._interrupted_callbacks.append(callback)

    def on_stopped(self, callback: Callable[[], object]) -> None:
        """Call a function, on the loop, when it ends, before what is still open is closed.

        Parameters
        ----------
        callback
            Tells those who wait for the loop that they wait in vain.
        """
        self._stopped_callbacks.append(callback)

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
        self.turn.require_process()
        with self._lock:
            self._check_open()
            first = handle.due < self._timers.due
            self._timers.add(handle)
            if first and threading.get_ident() != self._thread.ident:
                self.turn.call()
        return handle

    def register(self, socket: zmq.Socket[bytes] | int, on_readable: Callable[[], object]) -> None:
        """Call a function whenever a socket has something to read.

        Parameters
        ----------
        socket
            A socket of this loop, or a file descriptor (a pipe, a pidfd). The loop looks at the
            level, not the edge: a function that leaves messages unread is called again, so it
            need not read until there are none.
        on_readable
            What to call; it must not block.

        Raises
        ------
        RuntimeError
            If the caller is not on the loop: one thread owns a socket.
        """
        self._check_on_loop()
        self.turn.add(socket)
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
            self.turn.remove(socket)

    def guard(self, fn: Callable[..., object], *args: object) -> None:
        """Call a function now; when it fails, that is logged and counted. On the loop.

        Parameters
        ----------
        fn
            What to call, for example a callback of the application.
        *args
            Handed to it.
        """
        try:
            fn(*args)
        except BaseException as error:  # sys.exit() must not end what others wait for
            if not isinstance(error, Exception) and threading.get_ident() != self._thread.ident:
                raise  # Ctrl-C belongs to the borrower
            self.failed_callbacks += 1
            logger.exception("callback %r on I/O thread %r failed", fn, self.name)

    def _check_on_loop(self) -> None:
        if not self.on_loop:
            raise RuntimeError(f"sockets of {self.name!r} are used on its own thread: use submit()")

    def _check_open(self) -> None:
        if self._ended.is_set() or (self._stopping and not self.on_loop):
            raise LoopStoppedError(f"I/O thread {self.name!r} has been stopped")

    def _enqueue(self, job: Callable[[], object]) -> None:
        self.turn.require_process()  # a child may have been forked while a thread held the lock
        with self._lock:
            self._check_open()
            self._jobs.append(job)
            self.turn.call()

    def _run(self) -> None:
        ready = self.turn.begin()
        try:
            while not self._turn_of_work(ready):
                patience = None
                if self._timers.due != math.inf:  # who plans an earlier call than that wakes us
                    with self._lock:
                        patience = self._timers.patience_ms(time.monotonic())
                ready = self.turn.sleep(patience)
        finally:
            self._close()

    def _turn_of_work(self, ready: Ready) -> bool:
        """Do what there is to do, and say whether the loop is to end."""
        for socket, _ in ready:
            callback = self._on_readable.get(socket)
            if callback is not None:  # else an earlier callback of this round closed it
                self.guard(callback)
        if self._timers.due != math.inf:
            self._run_timers()
        return self.turn.called and self._run_jobs()  # who hands over calls

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers.due <= now:
            with self._lock:
                function = self._timers.take_due(now)
            if function is not None:
                self.guard(function)

    def _run_jobs(self) -> bool:
        """Do what was handed over, and say whether the loop is to end."""
        with self._lock:
            self.turn.answer()
            jobs, stopping = list(self._jobs), self._stopping
            self._jobs.clear()
        for job in jobs:
            self.guard(job)
        with self._lock:
            return stopping and not self._jobs

    def _begin_anew(self) -> None:
        for callback in self._interrupted_callbacks:
            self.guard(callback)

    def _close(self) -> None:
        with self._lock:
            self._stopping = True
            self._ended.set()
            abandoned = list(self._jobs)
            self._jobs.clear()
            self._timers.clear()
        if abandoned:
            logger.warning("I/O thread %r ended with %d calls undone", self.name, len(abandoned))
        for callback in self._stopped_callbacks:
            self.guard(callback)
        self.context.destroy(linger=0)
        self._on_readable.clear()
        self.turn.close()
