"""Connections: which are open, how many of them are strangers, and how to end one."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

import zmq

from zmqruntime.loop._descriptors import borrowed
from zmqruntime.security._rates import RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime.security._rates import Rates

__all__ = ["Connections"]

Name = tuple[str, int]


class Connections:
    """The connections to the listening sockets of one server, as libzmq's monitors tell them.

    Parameters
    ----------
    rates
        What is put up with.
    clock
        Monotonic seconds.
    on_refused
        Called with the address and the reason when a connection is ended before its handshake.

    Notes
    -----
    Events come in order, and messages name the descriptor that they were read from, so a
    connection is known by its descriptor while it lasts. Since a number may be used again, a
    connection is ended only if the descriptor still leads to the same port of the same host.
    """

    def __init__(
        self,
        rates: Rates,
        *,
        clock: Callable[[], float],
        on_refused: Callable[[str, str], object],
    ) -> None:
        self._rates = rates
        self._attempts = RateLimiter(rates.connections, clock=clock)
        self._on_refused = on_refused
        self._strangers: dict[int, str] = {}  # descriptor -> address, before the handshake
        self._keys: dict[int, tuple[str, Name]] = {}  # descriptor -> who, and from where

    def on_event(self, event: int, value: int) -> None:
        """Book what a monitor told."""
        if event == zmq.EVENT_ACCEPTED:
            self._accepted(value)
        elif event == zmq.EVENT_DISCONNECTED:
            self._strangers.pop(value, None)
            self._keys.pop(value, None)

    def authenticated(self, address: str) -> None:
        """Note that a connection from an address has completed its handshake.

        libzmq does not say which one it was; what counts is how many have not.
        """
        site = _site(address)
        for descriptor, stranger in self._strangers.items():
            if stranger == site:
                del self._strangers[descriptor]
                return

    def heard(self, descriptor: int, key: str) -> None:
        """Note whose messages come from a connection."""
        known = self._keys.get(descriptor)
        if known is not None and known[0] == key:
            return
        name = _name_of(descriptor)
        if name is not None:
            self._strangers.pop(descriptor, None)
            self._keys[descriptor] = (key, name)

    @property
    def strangers(self) -> int:
        """How many connections have not completed their handshake."""
        return len(self._strangers)

    def of(self, key: str) -> dict[int, Name]:
        """Return the connections of a key that are open: descriptor, and where it leads."""
        return {number: name for number, (whose, name) in self._keys.items() if whose == key}

    def leads_to(self, descriptor: int, name: Name) -> bool:
        """Say whether a descriptor still is the connection that it was."""
        return _name_of(descriptor) == name

    def end(self, descriptor: int, name: Name) -> bool:
        """End a connection, and say whether it was still there."""
        known = self._keys.get(descriptor)
        if known is not None and known[1] == name:
            del self._keys[descriptor]
        return _end(descriptor, name)

    def _accepted(self, descriptor: int) -> None:
        name = _name_of(descriptor)
        if name is None:
            return  # it has ended already
        if self._keys.get(descriptor, ("", None))[1] == name:
            return  # its first message was quicker than this news
        address = _site(name[0])
        self._strangers.pop(descriptor, None)
        self._keys.pop(descriptor, None)
        why = self._objection(address)
        if why:
            _end(descriptor, name)
            self._on_refused(address, why)
            return
        self._strangers[descriptor] = address

    def _objection(self, address: str) -> str:
        if not self._attempts.allows(address):
            rate = self._attempts.rate
            return f"more than {rate.burst:g} connections at once, or {rate.per_second:g} a second"
        if len(self._strangers) >= self._rates.silent:
            return f"{self._rates.silent} connections have not said who they are"
        mine = sum(1 for each in self._strangers.values() if each == address)
        if mine >= self._rates.silent_per_address:
            return f"{mine} connections from there have not said who they are"
        return ""


def _site(address: str) -> str:
    """Name what one party can have many of: of IPv6 the first 64 bits, of IPv4 the address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False).network_address)


def _name_of(descriptor: int) -> Name | None:
    """Say where a connection comes from; None when the descriptor is no connection any more."""
    try:
        with borrowed(descriptor) as connection:
            host, port = connection.getpeername()[:2]
    except (OSError, ValueError):
        return None
    return str(host), int(port)


def _end(descriptor: int, name: Name) -> bool:
    """End a connection; libzmq sees its end and cleans up."""
    try:
        with borrowed(descriptor) as connection:
            if connection.getpeername()[:2] != name:
                return False
            connection.shutdown(socket.SHUT_RDWR)
    except (OSError, ValueError):
        return False
    return True
