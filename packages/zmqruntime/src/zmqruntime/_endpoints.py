"""Endpoint: where a service is reached; control = base port, data = base + offset."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from zmqruntime._errors import (
    EndpointInUse,
    InsecureBindError,
    InvalidEndpointError,
    ServiceError,
)
from zmqruntime.processes._holder import holder_of
from zmqruntime.processes._runtime_dir import is_app, remove_socket_file, runtime_dir

if TYPE_CHECKING:
    from typing import Self

__all__ = ["DATA_PORT_OFFSET", "Endpoint", "Transport", "bind_host", "bind_socket", "is_loopback"]

DATA_PORT_OFFSET = 1000
HANDSHAKE_MS = 5000
"""How long who connects may take to say what it speaks; then the connection ends."""

_LONGEST_PATH = 107  # bytes of a Unix socket's path, sockaddr_un without its last zero

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?")


class Transport(StrEnum):
    """How bytes travel to an endpoint."""

    TCP = "tcp"
    IPC = "ipc"


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
        ``tcp``, or ``ipc``: a socket file of this user on this computer, which no other user and
        no other computer can reach. The port is then part of the file's name only.
    data_port_offset
        Data port minus control port; may be negative, not 0.
    app
        Application that serves there, which is part of the name of a socket file. A server knows
        its own; a client without one looks for who serves on the port.

    Raises
    ------
    InvalidEndpointError
        If the host is not one, a port is out of range, the transport is unknown, or an ipc
        endpoint is on another computer.

    Examples
    --------
    >>> Endpoint(port=5555).control_url, Endpoint(port=5555).data_url
    ('tcp://127.0.0.1:5555', 'tcp://127.0.0.1:6555')
    >>> str(Endpoint(port=5555, transport="ipc", app="viewer"))
    'ipc://viewer:5555'
    """

    host: str = "localhost"
    port: int = 5555
    transport: str = Transport.TCP
    data_port_offset: int = DATA_PORT_OFFSET
    app: str = ""

    def __post_init__(self) -> None:
        if self.transport not in {str(member) for member in Transport}:
            raise InvalidEndpointError(
                f"transport {self.transport!r} is not known: use 'tcp' or 'ipc'"
            )
        if self.transport == Transport.IPC and not is_loopback(self.host):
            raise InvalidEndpointError(f"{self.host} cannot be reached by ipc: use tcp")
        if self.app and not is_app(self.app):
            raise InvalidEndpointError(
                f"app {self.app!r} names files: use lower-case letters, digits, '-' and '_' only"
            )
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
        """Read ``host``, ``host:port``, ``[ipv6]:port``, ``tcp://host:port``, ``ipc://app:port``.

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
        socket_file = re.fullmatch(r"ipc://([^:/]+)(?::([0-9]{1,5}))?", text.strip())
        if socket_file is not None:
            app, port = socket_file.groups()
            return cls(port=int(port or default_port), transport=Transport.IPC, app=app)
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
        return self._url(self.host, self.port, "")

    @property
    def data_url(self) -> str:
        """URL to connect a data socket to."""
        return self._url(self.host, self.data_port, ".data")

    def control_bind_url(self, host: str) -> str:
        """Say what URL a control socket binds, for a host from `bind_host`."""
        return self._url(host, self.port, "")

    def data_bind_url(self, host: str) -> str:
        """Say what URL a data socket binds, for a host from `bind_host`."""
        return self._url(host, self.data_port, ".data")

    def _url(self, host: str, port: int, kind: str) -> str:
        if self.transport == Transport.TCP:
            return _tcp_url(host, port)
        if not self.app:
            raise InvalidEndpointError(
                f"ipc port {self.port} is the socket file of an application: name it, app='...'"
            )
        path = runtime_dir() / f"{self.app}-{self.port}{kind}.sock"
        length = len(os.fsencode(path))
        if length > _LONGEST_PATH:
            raise InvalidEndpointError(
                f"the socket file {path} has a name of {length} bytes, and the system takes at "
                f"most {_LONGEST_PATH}: set XDG_RUNTIME_DIR to a shorter folder, or use tcp"
            )
        return f"ipc://{path}"

    def __str__(self) -> str:
        if self.transport == Transport.IPC:
            return f"ipc://{self.app or '?'}:{self.port}"
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
        From `Endpoint.control_bind_url` or `Endpoint.data_bind_url`. Who binds a socket file
        holds the lock of its name, because a second bind takes the name from the first in
        silence.

    Raises
    ------
    EndpointInUse
        If another program listens there; it is left alone.
    InvalidEndpointError
        If the address does not belong to this computer, the port needs more rights, or
        something else than a socket of this user has the name of the socket file.
    """
    path = Path(url.removeprefix("ipc://")) if url.startswith("ipc://") else None
    if path is not None:
        try:
            remove_socket_file(path)
        except ServiceError as error:  # libzmq would remove whatever is there
            raise InvalidEndpointError(str(error)) from error
    socket.setsockopt(zmq.IPV6, 1 if "[" in url else 0)
    # A domain makes libzmq refuse peers of ZMTP 1 and 2. libzmq 4.3.5 takes any stray bytes for
    # such a peer, and aborts the process when they arrive while the socket closes.
    socket.setsockopt(zmq.ZAP_DOMAIN, b"zmqruntime")
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    try:
        socket.bind(url)
    except zmq.ZMQError as error:
        if error.errno == errno.EADDRINUSE:
            raise _in_use(url) from error
        raise InvalidEndpointError(f"cannot listen on {url}: {error.strerror}") from error
    if path is not None:
        path.chmod(0o600)  # its folder keeps others out from the first moment


def _in_use(url: str) -> EndpointInUse:
    port = url.rpartition(":")[2]
    holder = holder_of(int(port)) if url.startswith("tcp://") else None
    if holder is None:
        return EndpointInUse(
            f"{url} is taken by another program; choose another port or stop that program"
        )
    return EndpointInUse(
        f"{url} is taken by another program, {holder.name!r} (process {holder.pid}); "
        "choose another port or stop that program",
        pid=holder.pid,
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _tcp_url(host: str, port: int) -> str:
    if host == "localhost":
        host = "127.0.0.1"  # libzmq resolves names with IPv6 off; be explicit
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
