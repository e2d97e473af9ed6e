"""IOThread: one thread that owns sockets, sleeps until something happens, and obeys."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import math
import os
import select
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
    from typing import Any, Self, TypeAlias

    _Ready: TypeAlias = list[tuple[Any, int]]

__all__ = ["IOThread", "TimerHandle"]

logger = logging.getLogger(__name__)

_MOST_TIMERS = 256  # before those that were cancelled are looked for
_LENT_SLEEPS = 256  # sleeps in which the sockets can be borrowed, after somebody wanted to

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
    Any thread may call `submit`, `call_soon`, `call_here`, `call_later` and `stop`; `register`
    and `unregister` belong to the loop. Callbacks run one at a time. One that raises is logged
    with its traceback and the loop goes on.

    While the thread sleeps it touches no socket: on Linux it waits for their descriptors. So a
    thread that wants to send, or to ask and wait for the answer, may borrow the sockets meanwhile
    (`borrow`, `wait`, `give_back`), which saves two changes of thread. At any moment one thread
    has the sockets, the loop's or the borrower; a borrower gives them back as soon as there is
    anything else to do. Callbacks of applications run on the loop's thread alone.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._on_readable: dict[zmq.Socket[bytes] | int, Callable[[], object]] = {}
        # Whoever holds it has the sockets. It knows its holder, so that a borrower which was
        # interrupted anywhere can find out whether it has them.
        self._turn = threading.RLock()
        self._owner = 0
        self._pid = os.getpid()
        self._unclean = False  # a borrower was interrupted while it used them
        self._lent_sleeps = 0
        self._interrupted_callbacks: list[Callable[[], object]] = []
        self._stopped_callbacks: list[Callable[[], object]] = []
        self._jobs: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._most_timers = _MOST_TIMERS
        self._order = itertools.count()
        self._lock = threading.Lock()  # guards _jobs, _timers, _wake_pending and _stopping
        self._wake_receive, self._wake_send = stdlib_socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        self._wake_descriptor = self._wake_receive.fileno()
        self._poller.register(self._wake_descriptor, zmq.POLLIN)
        self._wake_pending = False
        self._bell: _Bell | None = None
        if hasattr(select, "epoll"):  # elsewhere nobody borrows, and the thread waits in zmq_poll
            self._bell = _Bell()
            self._bell.add(self._wake_descriptor)
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
        return self._started and not self._stopping and os.getpid() == self._pid

    @property
    def on_loop(self) -> bool:
        """Whether the caller runs on this loop, or has borrowed its sockets."""
        return threading.get_ident() == self._owner

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
        if os.getpid() != self._pid:
            return  # a forked child has nothing to stop
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
            self._guard(lambda: fn(*args, **kwargs))
            return
        # Ctrl-C reaches the main thread only, and could leave half a message in a socket.
        main = threading.get_ident() == threading.main_thread().ident
        borrowed = clean = True
        try:
            borrowed = not main and self.borrow()
            if borrowed:
                clean = False
                self._guard(lambda: fn(*args, **kwargs))
                clean = True
        finally:
            if borrowed:
                try:
                    self.give_back(clean=clean)
                except BaseException:
                    self.give_back(clean=False)
                    raise
        if not borrowed:
            self._enqueue(lambda: fn(*args, **kwargs))

    def borrow(self) -> bool:
        """Take the sockets, if they are idle; the caller then counts as `on_loop`.

        Returns
        -------
        bool
            False when they are in use, or work for the loop waits that should come first.

        Raises
        ------
        LoopStoppedError
            In a forked child, which has the sockets' memory but not their threads.

        Notes
        -----
        Ctrl-C may interrupt this too, after the sockets were taken. So it is called inside the
        block that gives them back, and they are given back unless it has returned False.
        """
        self._check_process()
        self._lent_sleeps = _LENT_SLEEPS
        if self._bell is None or not self._turn.acquire(blocking=False):
            return False
        if self._jobs or self._unclean or self._stopping or not self._started:
            self._turn.release()
            return False
        self._bell.mute()
        self._owner = threading.get_ident()
        return True

    def wait(self, socket: zmq.Socket[bytes], timeout: float) -> bool | None:
        """Wait on borrowed sockets until one of them has something to read.

        Parameters
        ----------
        socket
            The one that the caller reads itself.
        timeout
            Longest wait in seconds.

        Returns
        -------
        bool or None
            True when there is something on this socket and nothing else to do; False when the
            time is over; None when the loop has work, so that the sockets must be given back.
        """
        ready = self._poller.poll(math.ceil(timeout * 1000))
        if not ready:
            return False
        return True if len(ready) == 1 and ready[0][0] is socket else None

    def give_back(self, *, clean: bool = True) -> None:
        """Let the loop have the sockets again.

        Parameters
        ----------
        clean
            False when the borrower was interrupted while it used them, as by Ctrl-C: whoever
            asked through `on_interrupted` begins anew, because a message may be half sent.

        Notes
        -----
        Without anything borrowed it does nothing. If an interrupt ends it, it may be called again.
        """
        try:
            self._hand_back(clean=clean)
        except BaseException:  # interrupted again, and just here
            self._hand_back(clean=False)
            raise

    def _hand_back(self, *, clean: bool) -> None:
        assert self._bell is not None
        known = self._owner == threading.get_ident()
        # An interrupt may have come between having the turn and noting it, here or in `borrow`:
        # whoever can take the turn has it for certain, and may let it go.
        if not known and not self._turn.acquire(blocking=False):
            return
        if not clean:
            self._unclean = True
            with self._lock:
                self._wake()
        elif self._poller.poll(0):
            # a socket's descriptor speaks of what is new only: say that something is left
            with self._lock:
                self._wake()
        self._owner = 0
        self._bell.unmute()
        self._turn.release()
        if not known:
            with contextlib.suppress(RuntimeError):  # until it is not ours any more
                while True:
                    self._turn.release()

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
        self._check_process()
        with self._lock:
            self._check_open()
            if len(self._timers) >= self._most_timers:
                self._drop_cancelled()
            heapq.heappush(self._timers, (handle.due, next(self._order), handle))
            first = self._timers[0][2] is handle
            if first and threading.get_ident() != self._thread.ident:
                self._wake()
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
        self._poller.register(socket, zmq.POLLIN)
        self._on_readable[socket] = on_readable
        if self._bell is not None:
            self._bell.add(_descriptor(socket))

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
            if self._bell is not None:
                self._bell.remove(_descriptor(socket))

    def _check_on_loop(self) -> None:
        if not self.on_loop:
            raise RuntimeError(f"sockets of {self.name!r} are used on its own thread: use submit()")

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LoopStoppedError(
                f"I/O thread {self.name!r} belongs to process {self._pid}; a forked worker makes "
                "its own"
            )

    def _check_open(self) -> None:
        self._check_process()
        if self._ended.is_set() or (self._stopping and not self.on_loop):
            raise LoopStoppedError(f"I/O thread {self.name!r} has been stopped")

    def _enqueue(self, job: Callable[[], object]) -> None:
        self._check_process()  # a forked child may have got the lock as another thread held it
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
        self._take_turn()
        ready = self._poller.poll(0)
        try:
            while not self._turn_of_work(ready):
                ready = self._sleep()
        finally:
            self._close()

    def _turn_of_work(self, ready: _Ready) -> bool:
        """Do what there is to do, and say whether the loop is to end."""
        for socket, _ in ready:
            callback = self._on_readable.get(socket)
            if callback is not None:  # else an earlier callback of this round closed it
                self._guard(callback)
        if self._timers:
            self._run_timers()
        return self._wake_pending and self._run_jobs()  # who hands over wakes

    def _sleep(self) -> _Ready:
        """Wait for something to do, and return which sockets have something to read.

        The sockets are left to borrowers meanwhile, which takes longer, so only as long as
        somebody has wanted them lately.
        """
        patience = self._patience_ms() if self._timers else None
        lends = self._lent_sleeps > 0 and self._bell is not None
        # Using a socket may swallow the news that its descriptor has: look before the sleep.
        ready = self._poller.poll(0 if lends else patience)
        if lends and ready:
            return ready
        if lends:
            assert self._bell is not None
            self._lent_sleeps -= 1
            self._owner = 0
            self._turn.release()
            self._bell.wait(patience)
            self._take_turn()
            ready = self._poller.poll(0)
        self.wakeups += 1
        return ready

    def _take_turn(self) -> None:
        if not self._turn.acquire(blocking=False):
            with self._lock:
                self._wake()  # whoever has borrowed the sockets sees it, and gives them back
            self._turn.acquire()
        self._owner = threading.get_ident()
        if self._unclean:  # before anything is read or sent: half a message may be left
            self._unclean = False
            for callback in self._interrupted_callbacks:
                self._guard(callback)

    def _patience_ms(self) -> int | None:
        """Say how long nothing can be due; None is without end."""
        if not self._timers:
            return None
        with self._lock:
            while self._timers and self._timers[0][2].cancelled:
                heapq.heappop(self._timers)
            if not self._timers:
                return None
            # zmq takes whole milliseconds; rounding down would spin through the last one
            return max(0, math.ceil((self._timers[0][0] - time.monotonic()) * 1000))

    def _drop_cancelled(self) -> None:
        """Forget the calls that were cancelled, under the lock: far ones would pile up.

        The next time is when there are twice as many, so that each costs a few steps at most.
        """
        self._timers = [entry for entry in self._timers if not entry[2].cancelled]
        heapq.heapify(self._timers)
        self._most_timers = max(_MOST_TIMERS, 2 * len(self._timers))

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
        except BaseException:  # sys.exit() in a callback must not end what others wait for
            if threading.get_ident() != self._thread.ident:
                raise  # Ctrl-C belongs to the borrower
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
        for callback in self._stopped_callbacks:
            self._guard(callback)
        self.context.destroy(linger=0)
        self._on_readable.clear()
        if self._bell is not None:
            self._bell.close()
        self._wake_receive.close()
        self._wake_send.close()
        self._owner = 0  # the system gives a thread's number to another one


class _Bell:
    """Rings when one of many descriptors has something to read, unless it is muted.

    A set of descriptors inside another one: taking the inner out of the outer and back is one
    system call each, which any thread may make while another waits.
    """

    def __init__(self) -> None:
        self._all = select.epoll()
        self._outer = select.epoll()
        self._outer.register(self._all.fileno(), select.EPOLLIN)
        self._inner = self._all.fileno()

    def add(self, descriptor: int) -> None:
        self._all.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        self._all.unregister(descriptor)

    def mute(self) -> None:
        self._outer.modify(self._inner, 0)

    def unmute(self) -> None:
        self._outer.modify(self._inner, select.EPOLLIN)

    def wait(self, patience_ms: int | None) -> None:
        self._outer.poll(None if patience_ms is None else patience_ms / 1000)

    def close(self) -> None:
        self._outer.close()
        self._all.close()


def _descriptor(socket: zmq.Socket[bytes] | int) -> int:
    """Return what the kernel can watch; for a zmq socket, it tells of news, not of a level."""
    return socket if isinstance(socket, int) else int(socket.getsockopt(zmq.FD))
