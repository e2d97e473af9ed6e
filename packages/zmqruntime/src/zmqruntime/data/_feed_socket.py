"""FeedSocket: the data socket of a feed, and who may subscribe to what on it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import zmq

from zmqruntime._endpoints import bind_socket
from zmqruntime._errors import BusyError, ForbiddenError, LoopStoppedError
from zmqruntime.control._peer import NOWHERE
from zmqruntime.data._subscriptions import Subscriptions
from zmqruntime.loop._descriptors import descriptor_of
from zmqruntime.loop._frames import send_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime._server import ZMQServer
    from zmqruntime.control._peer import Source
    from zmqruntime.loop._monitor import Monitor

__all__ = ["FeedSocket", "SocketEvents"]

_NOBLOCK = int(zmq.NOBLOCK)  # enum arithmetic costs more than the call
_HIGH_WATER = 1024
_LINGER_MS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketEvents:
    """What the owner of a feed's socket is asked and told, on the loop.

    Attributes
    ----------
    invited
        Says with which key a reader may subscribe to a secret word; None if it is nobody's.
    came, left
        The reader of a secret word has subscribed to it, or no longer does.
    missed
        It has subscribed, but cannot be let in, and must begin anew.
    joined
        A plain subscriber wants the broadcasts of a topic.
    """

    invited: Callable[[bytes], str | None]
    came: Callable[[bytes], object]
    left: Callable[[bytes], object]
    missed: Callable[[bytes], object]
    joined: Callable[[str], object]


class FeedSocket:
    """Owns the data socket; every method runs on the loop.

    Parameters
    ----------
    server
        Whose loop and data port these are.
    events
        Who is asked and told.

    Notes
    -----
    A subscription is let in only if it is the secret word of a reader that was invited, or exactly
    a topic's name and a zero byte, where nothing but broadcasts is sent: whoever subscribes to
    everything gets nothing.

    libzmq lets the connection in from which it believes the last message to be. When that was no
    subscription, which an XSUB socket can send but a SUB socket cannot, it counts wrongly, and
    takes the connections of the next ones for it until there is nothing more to read. So nobody is
    let in or out meanwhile, and whoever should have been begins anew.
    """

    def __init__(self, server: ZMQServer, events: SocketEvents) -> None:
        self._server = server
        self._loop = server.loop
        self._gate = server.gate
        self._events = events
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: Monitor | None = None
        self._subscriptions: Subscriptions | None = None
        self.refused = 0
        """Subscriptions that nobody may have, and messages that are none."""

    @property
    def is_open(self) -> bool:
        """Whether it can be sent on."""
        return self._socket is not None

    @property
    def cut(self) -> int:
        """Connections that were ended because they were misused."""
        return 0 if self._subscriptions is None else self._subscriptions.cut

    def open(self) -> None:
        """Bind it to the data port of the server.

        Raises
        ------
        EndpointInUse
            If something else listens there.
        """
        url = self._server.endpoint.data_bind_url(self._server.bound)
        socket = self._loop.context.socket(zmq.XPUB)
        try:
            socket.setsockopt(zmq.XPUB_MANUAL, 1)
            socket.setsockopt(zmq.XPUB_NODROP, 1)
            socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
            self._subscriptions = Subscriptions(socket, on_event=self._pass_on)
            self._bind(socket, url, watched=self._subscriptions.watched)
            self._subscriptions.begin()
        except BaseException:
            self._close_monitors()
            socket.close(linger=0)
            raise
        self._socket = socket
        self._loop.register(socket, self._on_subscriptions)

    def _bind(self, socket: zmq.Socket[bytes], url: str, *, watched: bool) -> None:
        """Bind the socket, and have the gate look after who connects to it."""
        if not watched:
            self._monitor = self._server.bind(socket, url)
            return
        if self._gate is not None:
            self._gate.prepare(socket)
        bind_socket(socket, url)

    def _pass_on(self, event: int, descriptor: int) -> None:
        """Let the gate know of the connections too; on another thread."""
        if self._gate is not None:
            with suppress(LoopStoppedError):
                self._loop.call_soon(self._gate.on_event, event, descriptor)

    def _close_monitors(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._subscriptions is not None:
            self._subscriptions.close()

    def close(self) -> None:
        """Close it, when what was sent is out."""
        if self._socket is not None:
            self._close_monitors()
            self._loop.unregister(self._socket)
            self._socket.close(linger=_LINGER_MS)
            self._socket = None

    def send(self, frames: Sequence[bytes | memoryview]) -> bool:
        """Send one message to a reader, and say whether the socket took it."""
        if self._socket is None:
            return True
        try:
            send_frames(self._socket, frames)
        except zmq.Again:
            return False
        return True

    def tell(self, frames: Sequence[bytes | memoryview]) -> None:
        """Send a broadcast; who does not read it misses it and delays nobody."""
        if self._socket is None:
            return
        self._socket.setsockopt(zmq.XPUB_NODROP, 0)
        try:
            self._socket.send_multipart(frames, _NOBLOCK)
        finally:
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)

    def uninvite(self, word: bytes) -> None:
        """Expect a reader no longer under its secret word."""
        if self._subscriptions is not None:
            self._subscriptions.listeners.uninvite(word)

    def expel(self, word: bytes) -> None:
        """End the connection that subscribed to a secret word."""
        if self._subscriptions is not None:
            self._subscriptions.listeners.expel(word)

    def believes(self, word: bytes, nbytes: int) -> bool:
        """Say whether a reader can have received so many bytes beyond those it named before."""
        subscriptions = self._subscriptions
        return subscriptions is None or subscriptions.listeners.believes(word, nbytes)

    def _on_subscriptions(self) -> None:
        subscriptions = self._subscriptions
        if subscriptions is None:
            return
        someone_left = False
        for read in subscriptions.read():
            kind, wanted = read.bytes[:1], read.bytes[1:]
            source = NOWHERE if self._gate is None else self._gate.source_of(read)
            descriptor = descriptor_of(read) if self._gate is None else source.descriptor
            if kind == b"\x01":
                self._let_in(wanted, source, descriptor, subscriptions)
            elif kind == b"\x00":
                self._let_out(wanted, descriptor, subscriptions)
                someone_left |= descriptor < 0  # of one that is gone, libzmq says so itself
                someone_left |= descriptor < 0  # of one that is gone, libzmq says so itself
            else:
                self.refused += 1
                subscriptions.lead_astray(descriptor)
        if someone_left:
            subscriptions.listeners.look()

    def _let_in(
        self, wanted: bytes, source: Source, descriptor: int, subscriptions: Subscriptions
    ) -> None:
        """Let the subscription that was just read in, or not."""
        if self._socket is None:
            return
        key = self._events.invited(wanted)
        name = _broadcast_name(wanted)
        allowed = name is not None if key is None else key == source.key
        invited = allowed and key is not None
        fresh = subscriptions.listeners.subscribed(descriptor, wanted, invited=invited)
        if not fresh or not allowed or not self._admits(source, name):
            self.refused += 1
            return
        if subscriptions.astray:
            self._turn_back(wanted, descriptor, subscriptions, invited=invited)
            return
        self._socket.setsockopt(zmq.SUBSCRIBE, wanted)
        if key is not None:
            self._events.came(wanted)
        elif name is not None:
            self._events.joined(name)

    def _admits(self, source: Source, broadcast: str | None) -> bool:
        """Say whether who sends a subscription may be here, and hear what is broadcast."""
        if self._gate is None:
            return True
        if not self._gate.admits(source):
            return False
        if broadcast is None or not self._gate.keyed:
            return True
        try:
            grants = self._gate.judge(source, None).grants
        except (BusyError, ForbiddenError):
            return False
        return any(fnmatchcase(f"topic:subscribe:{broadcast}", grant) for grant in grants)

    def _turn_back(
        self, wanted: bytes, descriptor: int, subscriptions: Subscriptions, *, invited: bool
    ) -> None:
        """Have somebody subscribe again whom libzmq would take for another."""
        if invited:
            self._events.missed(wanted)
        else:  # there is no other way to tell a plain subscriber
            why = "subscribed while another one sent what is no subscription"
            subscriptions.listeners.dismiss(descriptor, why, anyway=True)

    def _let_out(self, wanted: bytes, descriptor: int, subscriptions: Subscriptions) -> None:
        if self._socket is not None and not subscriptions.astray:
            subscriptions.listeners.unsubscribed(descriptor, wanted)  # else it still holds the name
            self._socket.setsockopt(zmq.UNSUBSCRIBE, wanted)
        self._events.left(wanted)


def _broadcast_name(wanted: bytes) -> str | None:
    """Return the topic whose broadcasts a subscription asks for; None for any other one."""
    name, end, rest = wanted.partition(b"\0")
    if not name or not end or rest:
        return None
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
