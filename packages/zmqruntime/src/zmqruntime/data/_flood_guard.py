"""FloodGuard: a thread that ends connections which send faster than they are read."""

from __future__ import annotations

import logging
import os
import select
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from zmqruntime.loop._descriptors import bytes_arrived, end_connection, inode

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FloodGuard", "can_guard"]

logger = logging.getLogger(__name__)

_BEGUN = (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED)
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED
_EVENT = struct.Struct("=HI")  # event and value, as zmq_socket_monitor(3) lays them out
_MOST_AHEAD = 128 << 10


@dataclass(slots=True, eq=False)
class _Connection:
    inode: int
    turn: int
    base: int


class FloodGuard:
    """Looks after the connections of a socket whose peers have little to say.

    Parameters
    ----------
    watched
        The socket, before it binds or connects; a socket has one monitor, and this is it.
    on_event
        Told of the monitor's events, on the guard's thread: which, and of which descriptor.
    most_ahead
        Bytes that one connection may send while its socket's thread reads nothing to the end.

    Notes
    -----
    libzmq takes subscriptions from a connection in one go, until none is left. As long as they come
    as fast as it takes them, it stays in there, on the thread that owns the socket, and nobody on
    that thread can say stop. So another thread sees from the kernel how much each connection has
    sent, and ends one that is too far ahead.

    It sleeps while nobody sends anything. Linux only, TCP only: elsewhere nobody tells.
    """

    def __init__(
        self,
        watched: zmq.Socket[bytes],
        *,
        on_event: Callable[[int, int], object] = lambda _event, _value: None,
        most_ahead: int = _MOST_AHEAD,
    ) -> None:
        self.turns = 0
        """How often the socket was read to the end; counted by its owner."""
        self.cut = 0
        """How many connections were ended."""
        self._watched = watched
        self._on_event = on_event
        self._most_ahead = most_ahead
        self._connections: dict[int, _Connection] = {}
        self._epoll = select.epoll()
        self._wake_read, self._wake_write = os.pipe()
        self._monitor = watched.get_monitor_socket(_EVENTS)
        self._thread = threading.Thread(target=self._run, name="flood-guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look after nobody any more; on the thread of the socket, before that is closed."""
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._watched.disable_monitor()
        self._monitor.close(linger=0)
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # What follows runs on the guard's thread.

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._monitor, self._wake_read, self._epoll.fileno()):
            poller.register(source, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._wake_read in ready:
                return
            if self._monitor in ready:
                self._hear()
            if self._epoll.fileno() in ready:
                for descriptor, _ in self._epoll.poll(0):
                    self._look(descriptor)

    def _hear(self) -> None:
        with suppress(zmq.Again):
            while True:
                event, descriptor = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event in _BEGUN:
                    self._add(descriptor)
                else:
                    self._connections.pop(descriptor, None)
                self._on_event(event, descriptor)

    def _add(self, descriptor: int) -> None:
        received = bytes_arrived(descriptor)
        if received is None:
            return
        self._connections[descriptor] = _Connection(inode(descriptor), self.turns, 0)
        with suppress(OSError):  # it has ended already
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def _look(self, descriptor: int) -> None:
        """See how far ahead a connection is that has sent something."""
        known = self._connections.get(descriptor)
        if known is None:
            return
        received = bytes_arrived(descriptor)
        if received is None or inode(descriptor) != known.inode:
            del self._connections[descriptor]
        elif known.turn != self.turns:  # everything was read meanwhile
            known.turn, known.base = self.turns, received
        elif received - known.base > self._most_ahead:
            self._end(descriptor, known, received - known.base)

    def _end(self, descriptor: int, known: _Connection, ahead: int) -> None:
        del self._connections[descriptor]
        self.cut += 1  # first, so that whoever sees its end finds it counted
        logger.warning("a connection sent %d bytes before any was read, and is cut off", ahead)
        end_connection(descriptor, known.inode)


def can_guard() -> bool:
    """Say whether the system tells what a guard needs to know."""
    return sys.platform == "linux"
