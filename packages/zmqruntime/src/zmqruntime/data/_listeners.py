"""Listeners: what each connection of a socket that sends is subscribed to, within bounds."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zmqruntime.loop._descriptors import borrowed, bytes_delivered, end_connection, inode

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Listeners"]

logger = logging.getLogger(__name__)

_MOST_NAMES = 1024
_MOST_BYTES = 64 << 10
_MOST_BYTES_TOGETHER = 1 << 20
_MOST_UNPROVED = 16 << 20

Identity = tuple[int, object]


@dataclass(slots=True, eq=False)
class _Connection:
    descriptor: int
    identity: Identity
    names: set[bytes] = field(default_factory=set)  # that nobody has asked it to listen to
    nbytes: int = 0
    claimed: int = 0  # payload bytes that its readers say they have received
    delivered: int = 0  # bytes that have reached its system, when that was looked up last
    fresh: bool = True  # whether what is read may still be of who had the descriptor before
    unsure: set[bytes] = field(default_factory=set)  # names that were read while it was
    unsure_bytes: int = 0
    follows: bool = False  # whether somebody is known to have had it, whose those names may be
    cut: bool = False


class Listeners:
    """The connections of one data socket, and the names that each of them holds.

    Parameters
    ----------
    endpoint
        Where the socket listens, or connects to, as libzmq says it (``LAST_ENDPOINT``).
    outward
        Whether it connects.
    most_names, most_bytes
        What one connection may hold, names that it was invited to left out.
    most_bytes_together
        What all of them may hold; beyond it, the one that holds most is ended.
    most_unproved
        Payload bytes that readers of one connection may acknowledge beyond what has reached them.

    Notes
    -----
    libzmq keeps every name that a connection subscribes to for as long as the connection lasts,
    whether or not the name is let in (``XPUB_MANUAL``), at some fifty times its length, and has no
    cap. So the connection of whoever holds too many is ended here, which frees them.

    A connection is known by its descriptor while it lasts. Since a number may be used again, it is
    ended only if the descriptor still leads to the same connection of this socket. What is read
    after a number was used again, and before the socket was read to the end, may be of either; it
    counts for all connections together, but nobody is ended for it alone.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        outward: bool = False,
        most_names: int = _MOST_NAMES,
        most_bytes: int = _MOST_BYTES,
        most_bytes_together: int = _MOST_BYTES_TOGETHER,
        most_unproved: int = _MOST_UNPROVED,
    ) -> None:
        self._outward = outward
        self._port = endpoint.rpartition(":")[2] if endpoint.startswith("tcp://") else ""
        self._path = endpoint.partition("://")[2]
        self._most_names = most_names
        self._most_bytes = most_bytes
        self._most_together = most_bytes_together
        self._most_unproved = most_unproved
        self._connections: dict[int, _Connection] = {}
        self._invited: dict[bytes, _Connection] = {}
        self._gone: set[int] = set()  # descriptors of who left since the socket was read to the end
        self._fresh: list[_Connection] = []
        self.nbytes = 0
        """Bytes of all names that are held uninvited."""
        self.cut = 0
        """How many connections were ended."""

    def __len__(self) -> int:
        return len(self._connections)

    def subscribed(self, descriptor: int, name: bytes, *, invited: bool) -> bool:
        """Note a subscription.

        Parameters
        ----------
        descriptor
            Of the connection that it came from; one that is none of this socket's is not booked.
        name
            To what.
        invited
            Whether it is the secret word of a reader that takes part.

        Returns
        -------
        bool
            Whether to go on with it: the connection has not been ended, and did not hold the name
            for sure.
        """
        connection = self._connection(descriptor)
        if connection is None:
            return True
        if connection.cut:
            return False
        if invited and self._invited.setdefault(name, connection) is connection:
            return True
        if name in connection.names:
            if name not in connection.unsure:
                return False
            if not connection.fresh:
                self._believe(connection, name)
            return True
        self._hold(connection, name)
        return not connection.cut

    def unsubscribed(self, descriptor: int, name: bytes) -> None:
        """Note that a connection holds a name no longer."""
        connection = self._connection(descriptor)
        if connection is None:
            return
        if self._invited.get(name) is connection:
            del self._invited[name]
        if name in connection.names:
            connection.names.discard(name)
            self._believe(connection, name)
            self._give_back(connection, len(name))

    def uninvite(self, name: bytes) -> None:
        """Note that the reader whose secret word this was takes part no longer."""
        connection = self._invited.pop(name, None)
        if connection is not None and not connection.cut:
            self._hold(connection, name)  # until it says that it does so no more

    def read_to_the_end(self) -> None:
        """Note that nothing of those who have left is still to be read."""
        self._gone.clear()
        for connection in self._fresh:
            connection.fresh = False
        self._fresh.clear()

    def believes(self, name: bytes, nbytes: int) -> bool:
        """Say whether what a reader acknowledges can have reached it.

        Parameters
        ----------
        name
            The secret word of the reader.
        nbytes
            Payload bytes that it says it has received now.

        Returns
        -------
        bool
            False if its connection has carried so little that it lies; true where nobody tells.
        """
        connection = self._invited.get(name)
        if connection is None:
            return True
        connection.claimed += nbytes
        ahead = connection.claimed - self._most_unproved
        if ahead > connection.delivered:
            delivered = bytes_delivered(connection.descriptor)
            connection.delivered = ahead if delivered is None else delivered
        return ahead <= connection.delivered

    def expel(self, name: bytes) -> None:
        """End the connection of a reader, which frees what waits for it there."""
        connection = self._invited.get(name)
        if connection is not None:
            self._cut(connection, "acknowledged what has not reached it")

    def dismiss(self, descriptor: int, why: str, *, anyway: bool = False) -> None:
        """End the connection that something was read from, as soon as it is sure which it was.

        Parameters
        ----------
        descriptor
            Which; one that is none of this socket's is left alone.
        why
            What it has done.
        anyway
            Also if what was read may be of who had the descriptor before.
        """
        connection = self._connection(descriptor)
        if connection is None or connection.cut:
            return
        if anyway or not connection.fresh:
            self._cut(connection, why)

    def look(self) -> None:
        """Forget the connections that have ended; libzmq says of none which it was."""
        for connection in tuple(self._connections.values()):
            if inode(connection.descriptor) != connection.identity[0]:
                self._forget(connection)

    def _connection(self, descriptor: int) -> _Connection | None:
        known = self._connections.get(descriptor)
        if known is not None and inode(descriptor) == known.identity[0]:
            return known
        if known is not None:
            self._forget(known)
        identity = self._identity(descriptor)
        if identity is None:
            return None
        connection = self._connections[descriptor] = _Connection(descriptor, identity)
        connection.follows = descriptor in self._gone
        self._fresh.append(connection)
        return connection

    def _hold(self, connection: _Connection, name: bytes) -> None:
        connection.names.add(name)
        connection.nbytes += len(name)
        self.nbytes += len(name)
        if connection.fresh:
            connection.unsure.add(name)
            connection.unsure_bytes += len(name)
        names, nbytes = len(connection.names), connection.nbytes
        if connection.follows:
            names -= len(connection.unsure)
            nbytes -= connection.unsure_bytes
        if names > self._most_names or nbytes > self._most_bytes:
            self._cut(connection)
        if self.nbytes > self._most_together:
            self.look()
        while self.nbytes > self._most_together:
            self._cut(max(self._connections.values(), key=lambda each: each.nbytes))

    def _believe(self, connection: _Connection, name: bytes) -> None:
        """Be sure of a name: it was said again, or given up."""
        if name in connection.unsure:
            connection.unsure.discard(name)
            connection.unsure_bytes -= len(name)

    def _cut(self, connection: _Connection, why: str = "") -> None:
        """End a connection; what is still to come of it is not heeded."""
        why = why or f"holds {len(connection.names)} names that nobody sends to it"
        whose = connection.identity[1] or "on this computer"
        logger.warning("a subscriber (%s) %s, and is cut off", whose, why)
        self.cut += 1
        self._release(connection)
        connection.cut = True
        end_connection(connection.descriptor, connection.identity[0])

    def _forget(self, connection: _Connection) -> None:
        self._release(connection)
        self._connections.pop(connection.descriptor, None)
        self._gone.add(connection.descriptor)

    def _release(self, connection: _Connection) -> None:
        self._give_back(connection, connection.nbytes)
        connection.names.clear()
        connection.unsure.clear()
        connection.unsure_bytes = 0
        for name in self._held_invited(connection):
            del self._invited[name]

    def _held_invited(self, connection: _Connection) -> Iterable[bytes]:
        return [name for name, holder in self._invited.items() if holder is connection]

    def _give_back(self, connection: _Connection, nbytes: int) -> None:
        connection.nbytes -= nbytes
        self.nbytes -= nbytes

    def _identity(self, descriptor: int) -> Identity | None:
        """Say which connection of this socket a descriptor is; None if it is none."""
        try:
            with borrowed(descriptor) as ours:
                here, there = ours.getsockname(), ours.getpeername()
        except (OSError, ValueError):
            return None
        known = there if self._outward else here
        if isinstance(known, tuple):
            of_ours = str(known[1]) == self._port
        else:
            of_ours = os.fsdecode(known) == self._path
        return (inode(descriptor), there) if of_ours else None
