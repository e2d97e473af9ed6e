"""ControlLink: a DEALER socket whose connection heals itself, and what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from zmqruntime.loop._frames import send_frames
from zmqruntime.loop._monitor import Monitor
from zmqruntime.loop._polling import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle

__all__ = ["ControlLink"]

_HEARTBEAT_MS = 1000
_GIVE_UP_MS = 1900  # after a heartbeat: silence is noticed before the third
_RECONNECT_MS = 50
_RECONNECT_MOST_MS = 1000
_REFUSED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class ControlLink:
    """One socket, connected to one server; everything here is called on the loop.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    url
        Where the server listens.
    secure
        Called with each socket before it connects, to give it its keys.
    on_readable
        Called when there may be a message.
    on_up
        Called when a connection has completed its handshake.
    on_down
        Called with a reason when a connection is there no more; what came over it has been read.
    on_refused
        Called with libzmq's event when a handshake failed.

    Attributes
    ----------
    up
        Whether libzmq has a connection that completed its handshake.
    socket
        The socket; None before `open` and after `close`.
    """

    def __init__(
        self,
        loop: IOThread,
        url: str,
        *,
        secure: Callable[[zmq.Socket[bytes]], object],
        on_readable: Callable[[], bool],
        on_up: Callable[[], object],
        on_down: Callable[[str], object],
        on_refused: Callable[[int], object],
    ) -> None:
        self.up = False
        self.socket: zmq.Socket[bytes] | None = None
        self._loop = loop
        self._url = url
        self._secure = secure
        self._on_readable = on_readable
        self._on_up = on_up
        self._on_down = on_down
        self._on_refused = on_refused
        self._monitor: Monitor | None = None
        self._reopening: TimerHandle | None = None
        self._backoff = Backoff()

    def open(self) -> None:
        """Make the socket and begin to connect."""
        socket = self._loop.context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 200)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.IPV6, 1 if "[" in self._url else 0)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _GIVE_UP_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MOST_MS)
        self._secure(socket)
        self.socket = socket
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | _REFUSED
        self._monitor = Monitor(self._loop, socket, events, self._on_events)
        self._loop.register(socket, self._on_readable)
        socket.connect(self._url)

    def close(self) -> None:
        """Close the socket, and connect no more."""
        if self._reopening is not None:
            self._reopening.cancel()
        self._close_socket()

    def reopen(self, reason: str, *, linger_ms: int = 200) -> None:
        """Connect with a new socket.

        Parameters
        ----------
        reason
            Why the old one will not do, for `on_down`.
        linger_ms
            How long it may still try to send; 0 where half a message may be in it.
        """
        if self.socket is None:
            return
        self.declare_down(reason)
        self.socket.setsockopt(zmq.LINGER, linger_ms)
        self._close_socket()
        self.open()

    def declare_down(self, reason: str) -> None:
        """Treat the connection as broken; harmless without one."""
        if self.up:
            self.up = False
            self._on_down(reason)

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message without waiting; False when it cannot be sent now."""
        if self.socket is None:
            return False
        try:
            send_frames(self.socket, frames)
        except zmq.Again:
            return False
        return True

    def _close_socket(self) -> None:
        if self.socket is None or self._monitor is None:
            return
        self.up = False
        self._loop.unregister(self.socket)
        self._monitor.close()
        self.socket.close()
        self.socket = self._monitor = None

    def _on_events(self, events: list[int]) -> None:
        for event in events:
            if event == zmq.EVENT_DISCONNECTED:
                while self._on_readable():  # hear what came before the end
                    pass
                self.declare_down("the connection broke")
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._on_handshake()
            elif event & _REFUSED:
                self._on_refused_handshake(event)

    def _on_refused_handshake(self, event: int) -> None:
        """Try again by ourselves where libzmq does not: it takes some refusals for final."""
        if event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and self._reopening is None:

            def again() -> None:
                self._reopening = None
                self.reopen("the connection is made anew")

            self._reopening = self._loop.call_later(self._backoff.next(), again)
        self._on_refused(event)

    def _on_handshake(self) -> None:
        if self.socket is None or self.up:
            return
        self.socket.getsockopt(zmq.EVENTS)  # makes the socket see its new connection
        self.up = True
        self._backoff.reset()
        self._on_up()
