"""SocketTurn: the sockets of a loop, and which thread may use them now."""

from __future__ import annotations

import contextlib
import math
import os
import socket as stdlib_socket
import threading
from typing import TYPE_CHECKING

import zmq

from zmqruntime._errors import LoopStoppedError
from zmqruntime.loop._bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Ready: TypeAlias = list[tuple[Any, int]]

__all__ = ["SocketTurn"]

_LENT_SLEEPS = 256  # sleeps in which the sockets can be borrowed, after somebody wanted to


class SocketTurn:
    """Gives the sockets of a loop to one thread at a time: the loop's own, or a borrower.

    Parameters
    ----------
    name
        Of the loop, for errors.
    lock
        The loop's; `call` and `answer` are made under it.
    begin_anew
        Called on the loop's thread, before it uses a socket, when a borrower was interrupted while
        it used one.

    Attributes
    ----------
    owner
        Number of the thread that has the sockets; 0 when none has.
    called
        Whether the loop's thread is wanted, and what wakes it is under way.
    pid
        Process that has them.
    wakeups
        How often the loop's thread has woken.

    Notes
    -----
    While the loop's thread sleeps it touches no socket: on Linux it waits for their descriptors. So
    a thread that wants to send, or to ask and wait for the answer, may borrow the sockets meanwhile
    (`borrow`, `wait`, `give_back`), which saves two changes of thread. A borrower gives them back
    as soon as there is anything else to do. Elsewhere nobody borrows, and the loop's thread waits
    in zmq_poll.
    """

    def __init__(self, name: str, lock: threading.Lock, begin_anew: Callable[[], object]) -> None:
        self.owner = 0
        self.called = False
        self.pid = os.getpid()
        self.wakeups = 0
        self._name = name
        self._lock = lock
        self._begin_anew = begin_anew
        # Whoever holds it has the sockets. It knows its holder, so that a borrower which was
        # interrupted anywhere can find out whether it has them.
        self._turn = threading.RLock()
        self._begun = False
        self._unclean = False  # a borrower was interrupted while it used them
        self._lent_sleeps = 0
        self._poller = zmq.Poller()
        self._bell = Bell.hang()
        self._wake_receive, self._wake_send = stdlib_socket.socketpair()
        self._wake_receive.setblocking(False)
        self._wake_send.setblocking(False)
        self.add(self._wake_receive.fileno())

    # For borrowers.

    def borrow(self) -> bool:
        """Take the sockets, if they are idle; the caller then counts as on the loop.

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
        self.require_process()
        self._lent_sleeps = _LENT_SLEEPS
        if self._bell is None or not self._turn.acquire(blocking=False):
            return False
        if self.called or self._unclean or not self._begun:
            self._turn.release()
            return False
        self._bell.mute()
        self.owner = threading.get_ident()
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
            asked through `IOThread.on_interrupted` begins anew, because a message may be half sent.

        Notes
        -----
        Without anything borrowed it does nothing. If an interrupt ends it, it may be called again.
        """
        try:
            self._hand_back(clean=clean)
        except BaseException:  # interrupted again, and just here
            self._hand_back(clean=False)
            raise

    def require_process(self) -> None:
        """Refuse to go on in a forked child.

        Raises
        ------
        LoopStoppedError
            If this is one: the sockets are its parent's.
        """
        if os.getpid() != self.pid:
            raise LoopStoppedError(
                f"I/O thread {self._name!r} belongs to process {self.pid}; a forked worker makes "
                "its own"
            )

    # For the loop, on whichever thread.

    def call(self) -> None:
        """Make the loop's thread take its turn soon, whoever has it; under the lock."""
        if not self.called:
            self.called = True
            self._wake_send.send(b"\0")

    # For the loop, on its thread.

    def begin(self) -> Ready:
        """Take the first turn, and return which sockets have something to read."""
        self._take()
        self._begun = True
        return self._poller.poll(0)

    def answer(self) -> None:
        """Note that the thread has come because it was called; under the lock."""
        if self.called:
            self.called = False
            self._wake_receive.recv(16)

    def sleep(self, patience_ms: int | None) -> Ready:
        """Wait for something to do, and return which sockets have something to read.

        The sockets are left to borrowers meanwhile, which takes longer, so only as long as
        somebody has wanted them lately.

        Parameters
        ----------
        patience_ms
            Longest wait; None is without end.
        """
        lends = self._lent_sleeps > 0 and self._bell is not None
        # Using a socket may swallow the news that its descriptor has: look before the sleep.
        ready = self._poller.poll(0 if lends else patience_ms)
        if lends and ready:
            return ready
        if lends:
            assert self._bell is not None
            self._lent_sleeps -= 1
            self.owner = 0
            self._turn.release()
            self._bell.wait(patience_ms)
            self._take()
            ready = self._poller.poll(0)
        self.wakeups += 1
        return ready

    def add(self, socket: zmq.Socket[bytes] | int) -> None:
        """Look at a socket, or a descriptor, too."""
        self._poller.register(socket, zmq.POLLIN)
        if self._bell is not None:
            self._bell.add(socket)

    def remove(self, socket: zmq.Socket[bytes] | int) -> None:
        """Look at it no longer; it is not closed."""
        self._poller.unregister(socket)
        if self._bell is not None:
            self._bell.remove(socket)

    def close(self) -> None:
        """Let nobody have the sockets any more, which are closed already."""
        with self._lock:
            self.called = True  # nobody answers any more, so nobody is to be woken
        if self._bell is not None:
            self._bell.close()
        self._wake_receive.close()
        self._wake_send.close()
        self.owner = 0  # the system gives a thread's number to another one

    def _hand_back(self, *, clean: bool) -> None:
        assert self._bell is not None
        known = self.owner == threading.get_ident()
        # An interrupt may have come between having the turn and noting it, here or in `borrow`:
        # whoever can take the turn has it for certain, and may let it go.
        if not known and not self._turn.acquire(blocking=False):
            return
        if not clean:
            self._unclean = True
            with self._lock:
                self.call()
        elif self._poller.poll(0):
            # a socket's descriptor speaks of what is new only: say that something is left
            with self._lock:
                self.call()
        self.owner = 0
        self._bell.unmute()
        self._turn.release()
        if not known:
            with contextlib.suppress(RuntimeError):  # until it is not ours any more
                while True:
                    self._turn.release()

    def _take(self) -> None:
        if not self._turn.acquire(blocking=False):
            with self._lock:
                self.call()  # whoever has borrowed the sockets sees it, and gives them back
            self._turn.acquire()
        self.owner = threading.get_ident()
        if self._unclean:  # before anything is read or sent: half a message may be left
            self._unclean = False
            self._begin_anew()
