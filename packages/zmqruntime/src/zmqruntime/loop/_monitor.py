"""Monitor: what libzmq says about the connections of a socket."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import zmq

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.loop._loop import IOThread

__all__ = ["Monitor"]

_EVENT = struct.Struct("=HI")  # event and value, as zmq_socket_monitor(3) lays them out


class Monitor:
    """Tells of the events of one socket, on the loop that owns it.

    Parameters
    ----------
    loop
        The loop; the constructor runs on it.
    socket
        Socket to watch.
    events
        Events wanted, ``zmq.EVENT_...`` added up. Ask for few: each one wakes the loop.
    callback
        Called with the events that came, in order.
    detail
        Called before with each event and its value, a descriptor for most; None calls nobody.
    """

    def __init__(
        self,
        loop: IOThread,
        socket: zmq.Socket[bytes],
        events: int,
        callback: Callable[[list[int]], object],
        *,
        detail: Callable[[int, int], object] | None = None,
    ) -> None:
        self._loop = loop
        self._watched = socket
        self._callback = callback
        self._detail = detail
        self._socket: zmq.Socket[bytes] | None = socket.get_monitor_socket(events)
        # Nobody else uses it and it is always read to its end, so its descriptor tells of all that
        # is new; to ask the socket itself is three system calls more for every wait of the loop.
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        loop.register(self._descriptor, self._on_readable)
        loop.call_soon(self._on_readable)  # what came before may have been noticed by `connect`

    def close(self) -> None:
        """Watch no longer; on the loop, before the watched socket is closed. Twice is harmless."""
        if self._socket is None:
            return
        self._loop.unregister(self._descriptor)
        self._watched.disable_monitor()
        self._socket.close(linger=0)
        self._socket = None

    def _on_readable(self) -> None:
        events = []
        while self._socket is not None:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            event, value = _EVENT.unpack(frames[0])
            events.append(event)
            if self._detail is not None:
                self._detail(event, value)
        if events:
            self._callback(events)
