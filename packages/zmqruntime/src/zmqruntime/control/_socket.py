"""ControlSocket: the ROUTER socket of a control server, and what libzmq says of its peers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import zmq

from zmqruntime._endpoints import bind_socket
from zmqruntime._errors import PeerLostError
from zmqruntime.control._peer import NOWHERE
from zmqruntime.loop._frames import receive_frames, send_frames
from zmqruntime.loop._monitor import Monitor

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from zmqruntime.control._peer import Source
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.security._gate import Gate

__all__ = ["ControlSocket"]

logger = logging.getLogger(__name__)

_HEARTBEAT_MS = 1000
_GIVE_UP_MS = 1900  # after a heartbeat: silence is noticed before the third


class ControlSocket:
    """One bound socket; everything here is called on the loop.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    url
        Where to bind.
    most_bytes
        Longest frame that a peer may send; who sends a longer one is disconnected.
    gate
        Gives the socket its keys, and knows whose a message is; None without.
    counters
        Where messages that nobody could be sent are counted as ``dropped``.
    on_message
        Called with the frames of each message, and where it comes from.
    on_gone
        Called with the routing id of a peer that a message could not be sent to, as it is gone.
    on_disconnected
        Called when some connection ended, whosever it was.
    """

    def __init__(
        self,
        loop: IOThread,
        url: str,
        *,
        most_bytes: int,
        gate: Gate | None,
        counters: Counter[str],
        on_message: Callable[[Sequence[bytes], Source], object],
        on_gone: Callable[[bytes], object],
        on_disconnected: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._url = url
        self._most_bytes = most_bytes
        self._gate = gate
        self._counters = counters
        self._on_message = on_message
        self._on_gone = on_gone
        self._on_disconnected = on_disconnected
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: Monitor | None = None

    def open(self) -> None:
        """Bind, and hand over what comes.

        Raises
        ------
        EndpointInUse
            If another program listens there.
        InvalidEndpointError
            If the address does not belong to this computer.
        """
        socket = self._loop.context.socket(zmq.ROUTER)
        try:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.setsockopt(zmq.LINGER, 500)
            socket.setsockopt(zmq.MAXMSGSIZE, self._most_bytes)
            socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _GIVE_UP_MS)
            if self._gate is not None:
                self._gate.prepare(socket)
            bind_socket(socket, self._url)
        except BaseException:
            socket.close(linger=0)
            raise
        self._socket = socket
        events, detail = zmq.EVENT_DISCONNECTED, None
        if self._gate is not None:
            events, detail = events | zmq.EVENT_ACCEPTED, self._gate.on_event
        self._monitor = Monitor(self._loop, socket, events, self._on_events, detail=detail)
        self._loop.register(socket, self._on_readable)

    def close(self) -> None:
        """Let go of the socket; what was sent is still delivered. Twice is harmless."""
        if self._socket is None or self._monitor is None:
            return
        self._loop.unregister(self._socket)
        self._monitor.close()
        self._socket.close()
        self._socket = self._monitor = None

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send without waiting; who is gone or does not read is a counted drop.

        Parameters
        ----------
        frames
            Routing id first.

        Returns
        -------
        bool
            Whether it was sent.
        """
        if self._socket is None:
            self._counters["dropped"] += 1
            return False
        try:
            send_frames(self._socket, frames)
        except zmq.Again:
            self._counters["dropped"] += 1
            logger.warning("peer %s does not read its messages: one was dropped", frames[0].hex())
            return False
        except zmq.ZMQError as error:
            self._counters["dropped"] += 1
            if error.errno == zmq.EHOSTUNREACH:
                self._on_gone(frames[0])
            else:
                logger.warning("cannot send to peer %s: %s", frames[0].hex(), error)
            return False
        return True

    def post(self, frames: Sequence[bytes]) -> bool:
        """Send without waiting, and let the caller deal with what stands in the way.

        Parameters
        ----------
        frames
            Routing id first.

        Returns
        -------
        bool
            False when the peer does not read its messages and this one was not sent.

        Raises
        ------
        PeerLostError
            If the peer is gone, or the socket is closed.
        """
        if self._socket is None:
            raise PeerLostError("the server is closed")
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            raise PeerLostError(f"peer {frames[0].hex()} is gone: {error}") from error
        return True

    def see_ends(self) -> bool:
        """Make the socket see connections that have ended, so that `send` knows who is gone.

        Returns
        -------
        bool
            False when the socket is closed.
        """
        if self._socket is None:
            return False
        self._socket.getsockopt(zmq.EVENTS)
        return True

    def _on_readable(self) -> None:
        if self._socket is None:
            return
        source = NOWHERE
        if self._gate is None:
            frames = receive_frames(self._socket)
        else:
            try:
                first = self._socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            source = self._gate.source_of(first)
            frames = [first.bytes, *receive_frames(self._socket)]
        if frames:
            self._on_message(frames, source)

    def _on_events(self, events: list[int]) -> None:
        if zmq.EVENT_DISCONNECTED in events:
            self._on_disconnected()
