"""Endpoint: where a service is reached; control = base port, data = base + offset."""

from __future__ import annotations

import errno
import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import zmq

from zmqruntime._errors import EndpointInUse, InsecureBindError, InvalidEndpointError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DATA_PORT_OFFSET", "Endpoint", "Transport", "bind_host", "bind_socket", "is_loopback"]

DATA_PORT_OFFSET = 1000

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?")


class Transport(StrEnum):
    """How bytes travel to an endpoint."""

    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service is reached.

    Parameters
    ----------
    host
        ``localhost``, an IPv4 or IPv6 literal, or a host name.
    port
        Control port, 1 to 65535. napari viewers use 5555, Fiji 5565, execution servers 7777.
    transport
        ``tcp``.
    data_port_offset
        Data port minus control port; may be negative, not 0.

    Raises
    ------
    InvalidEndpointError
        If the host is not one, a port is out of range, or the transport is unknown.

    Examples
    --------
    >>> Endpoint(port=5555).control_url, Endpoint(port=5555).data_url
    ('tcp://127.0.0.1:5555', 'tcp://127.0.0.1:6555')
    """

    host: str = "localhost"
    port: int = 5555
    transport: str = Transport.TCP
    data_port_offset: int = DATA_PORT_OFFSET

    def __post_init__(self) -> None:
        if self.transport not in {str(member) for member in Transport}:
            raise InvalidEndpointError(f"transport {self.transport!r} is not known: use 'tcp'")
        if _address(self.host) is None and not _HOST_NAME.fullmatch(self.host):
            raise InvalidEndpointError(
                f"host {self.host!r} is not a host name or an address "
                "(a server that listens on every interface is told so by its bind address)"
            )
        for name, port in (("port", self.port), ("data port", self.data_port)):
            if not 1 <= port <= 65535:
                raise InvalidEndpointError(
                    f"{name} {port} of {self.host}:{self.port} is not between 1 and 65535"
                )
        if self.data_port == self.port:
            raise InvalidEndpointError(f"control and data cannot share port {self.port}")

    @classmethod
    def parse(cls, text: str, *, default_port: int = 5555) -> Self:
        """Read ``host``, ``host:port``, ``[ipv6]:port`` or ``tcp://host:port``.

        Parameters
        ----------
        text
            What a user typed.
        default_port
            Control port when the text names none.

        Returns
        -------
        Endpoint
            With the default data port offset.

        Raises
        ------
        InvalidEndpointError
            If the text is none of these.
        """
        rest = text.strip().removeprefix("tcp://")
        bracketed = re.fullmatch(r"\[([^\]]+)\](?::([0-9]{1,5}))?", rest)
        if bracketed:
            host, port = bracketed.group(1), bracketed.group(2)
        elif _address(rest) is not None:
            host, port = rest, None
        else:
            plain = re.fullmatch(r"([^:/]+)(?::([0-9]{1,5}))?", rest)
            if plain is None:
                raise InvalidEndpointError(f"{text!r} is not an endpoint: expected host:port")
            host, port = plain.group(1), plain.group(2)
        return cls(host, default_port if port is None else int(port))

    @property
    def data_port(self) -> int:
        """Port of the data channel."""
        return self.port + self.data_port_offset

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this computer for certain."""
        return is_loopback(self.host)

    @property
    def control_url(self) -> str:
        """URL to connect a control socket to."""
        return _tcp_url(self.host, self.port)

    @property
    def data_url(self) -> str:
        """URL to connect a data socket to."""
        return _tcp_url(self.host, self.data_port)

    def control_bind_url(self, host: str) -> str:
        """Say what URL a control socket binds, for a host from `bind_host`."""
        return _tcp_url(host, self.port)

    def data_bind_url(self, host: str) -> str:
        """Say what URL a data socket binds, for a host from `bind_host`."""
        return _tcp_url(host, self.data_port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Say whether a host names this computer for certain.

    Parameters
    ----------
    host
        Host name or address literal.

    Returns
    -------
    bool
        True for ``localhost`` and loopback literals; names are not resolved.
    """
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def bind_host(bind_address: str, *, insecure: bool = False, keyed: bool = False) -> str:
    """Say on which host a server may listen.

    Parameters
    ----------
    bind_address
        ``*`` for all interfaces that are permitted, or one address of this computer.
    insecure
        Permit interfaces that other computers can reach although there are no keys.
    keyed
        The server has keys, so other computers may reach it.

    Returns
    -------
    str
        ``*`` only when keyed or insecure; ``127.0.0.1`` for ``*`` and ``localhost`` otherwise.

    Raises
    ------
    InsecureBindError
        If the address is not loopback, there are no keys and `insecure` was not given.
    InvalidEndpointError
        If the address is neither ``*``, ``localhost`` nor a literal.
    """
    if bind_address == "*":
        return "*" if insecure or keyed else "127.0.0.1"
    if bind_address == "localhost":
        return "127.0.0.1"
    if _address(bind_address) is None:
        raise InvalidEndpointError(
            f"bind address {bind_address!r} is not '*', 'localhost' or an IP address"
        )
    if is_loopback(bind_address) or insecure or keyed:
        return bind_address
    raise InsecureBindError(
        f"refusing to listen on {bind_address}: other computers could reach it, and there are no "
        "keys to tell them apart; make some (zmqruntime keys make --name server) and pass keys=, "
        "or, on a network where you trust everybody, pass insecure=True (--insecure)"
    )


def bind_socket(socket: zmq.Socket[bytes], url: str) -> None:
    """Bind a socket to peers of ZMTP 3; an occupied port is an `EndpointInUse`.

    Parameters
    ----------
    socket
        Socket of any type, owned by the calling thread.
    url
        From `Endpoint.control_bind_url` or `Endpoint.data_bind_url`.

    Raises
    ------
    EndpointInUse
        If another program listens there; it is left alone.
    InvalidEndpointError
        If the address does not belong to this computer or the port needs more rights.
    """
    socket.setsockopt(zmq.IPV6, 1 if "[" in url else 0)
    # A domain makes libzmq refuse peers of ZMTP 1 and 2. libzmq 4.3.5 takes any stray bytes for
    # such a peer, and aborts the process when they arrive while the socket closes.
    socket.setsockopt(zmq.ZAP_DOMAIN, b"zmqruntime")
    try:
        socket.bind(url)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise EndpointInUse(
                f"{url} is taken by another program; choose another port or stop that program"
            ) from error
        raise InvalidEndpointError(f"cannot listen on {url}: {error.strerror}") from error


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _tcp_url(host: str, port: int) -> str:
    if host == "localhost":
        host = "127.0.0.1"  # libzmq resolves names with IPv6 off; be explicit
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
