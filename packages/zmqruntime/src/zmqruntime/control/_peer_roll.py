"""PeerRoll: the peers that said hello, and which of them are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zmqruntime._errors import BusyError
from zmqruntime.control import _codec
from zmqruntime.control._messages import V_MAX, PushMessage

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from zmqruntime.control._handshake import Hello
    from zmqruntime.control._peer import Peer
    from zmqruntime.loop._loop import IOThread

__all__ = ["PeerRoll"]

_MOST_PEERS = 1024
_SETTLE_S = 0.02  # the monitor speaks a moment before the socket forgets the connection


class PeerRoll:
    """Knows who said hello on one socket, and can push them messages; everything on the loop.

    Parameters
    ----------
    loop
        Thread that owns the socket.
    counters
        Where what was ``pushed`` and ``dropped`` is counted.
    send
        Sends the frames of a message, or says that it cannot; who is gone is handed to `forget`.
    see_ends
        Makes the socket see connections that have ended; False when it is closed.

    Attributes
    ----------
    peers
        Those that are not known to be gone, by their routing ids; only to be read.
    """

    def __init__(
        self,
        loop: IOThread,
        counters: Counter[str],
        *,
        send: Callable[[Sequence[bytes]], bool],
        see_ends: Callable[[], bool],
    ) -> None:
        self.peers: dict[bytes, Peer] = {}
        self._loop = loop
        self._counters = counters
        self._send = send
        self._see_ends = see_ends
        self._lost_callbacks: list[Callable[[Peer], object]] = []
        self._disconnected_callbacks: list[Callable[[], object]] = []
        self._looking = False

    def on_lost(self, callback: Callable[[Peer], object]) -> None:
        """Call a function when a peer is gone."""
        self._lost_callbacks.append(callback)

    def on_disconnected(self, callback: Callable[[], object]) -> None:
        """Call a function when some connection ended, whosever it was."""
        self._disconnected_callbacks.append(callback)

    def admit(self, peer: Peer, hello: Hello) -> Peer:
        """Remember a peer that said hello, as `ControlServer.admit` says.

        Raises
        ------
        BusyError
            If too many peers are known already.
        """
        if peer.id not in self.peers and len(self.peers) >= _MOST_PEERS:
            raise BusyError(f"{_MOST_PEERS} peers are connected already", retryable=True)
        known = replace(peer, hello=hello)
        self.peers[peer.id] = known
        return known

    def push(self, peer_id: bytes, message: PushMessage) -> None:
        """Send a peer what it did not ask for; who is not known is a counted drop."""
        peer = self.peers.get(peer_id)
        if peer is None:
            self._counters["dropped"] += 1
            return
        frame = _codec.encode(message, peer.encoding)
        if self._send([peer_id, b"", frame]):
            self._counters["pushed"] += 1

    def part(self, key: str, why: str) -> None:
        """Tell the peers that have a key why they are cut off, and forget them."""
        message = PushMessage(v=V_MAX, type="revoked", body={"message": why})
        for peer in tuple(self.peers.values()):
            if peer.source.key == key:
                self.push(peer.id, message)
                self.forget(peer.id)

    def forget(self, peer_id: bytes) -> None:
        """Know a peer no longer: it is gone. One that is not known is ignored."""
        peer = self.peers.pop(peer_id, None)
        if peer is None:
            return
        for callback in self._lost_callbacks:
            self._loop.call_soon(callback, peer)

    def disconnected(self) -> None:
        """Learn that some connection ended; see, a moment later, whose."""
        if not self._looking and (self.peers or self._disconnected_callbacks):
            self._looking = True
            self._loop.call_later(_SETTLE_S, self._look_for_lost)

    def _look_for_lost(self) -> None:
        """Touch every peer; the socket knows at once which are gone. Peers ignore the touch."""
        self._looking = False
        if not self._see_ends():
            return
        touch = PushMessage(v=V_MAX, type="touch")
        for peer_id in tuple(self.peers):
            self.push(peer_id, touch)
        for callback in self._disconnected_callbacks:
            self._loop.call_soon(callback)
