"""EndpointProxy: both channels of a service, each behind a link that fails as it is told."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zmqruntime._endpoints import Endpoint
from zmqruntime._errors import EndpointInUse
from zmqruntime.testing._faults import Ending, FaultProxy, Way

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EndpointProxy", "proxy_endpoint"]


class EndpointProxy:
    """The way to a service: one link for control, one for data.

    Made by `proxy_endpoint`.

    Attributes
    ----------
    endpoint
        What clients connect to instead of the service.
    control, data
        The two links; a fault can be given to one of them alone.
    """

    def __init__(self, endpoint: Endpoint, *, control: FaultProxy, data: FaultProxy) -> None:
        self.endpoint = endpoint
        self.control = control
        self.data = data

    @property
    def connections(self) -> int:
        """How many connections are open now, of both channels."""
        return self.control.connections + self.data.connections

    def cut(self, ending: Ending | str = Ending.RST, *, told: Way | str = Way.BOTH) -> None:
        """Cut both links, as `FaultProxy.cut`."""
        for link in (self.control, self.data):
            link.cut(ending, told=told)

    def break_connections(self, ending: Ending | str = Ending.RST) -> None:
        """Break what is connected now, as `FaultProxy.break_connections`."""
        for link in (self.control, self.data):
            link.break_connections(ending)

    def pause(self, way: Way | str = Way.BOTH) -> None:
        """Let both links stand still, as `FaultProxy.pause`."""
        for link in (self.control, self.data):
            link.pause(way)

    def resume(self, way: Way | str = Way.BOTH) -> None:
        """Let both links go on, as `FaultProxy.resume`."""
        for link in (self.control, self.data):
            link.resume(way)

    def swallow(self, way: Way | str = Way.BOTH) -> None:
        """Let bytes vanish on both links, as `FaultProxy.swallow`."""
        for link in (self.control, self.data):
            link.swallow(way)

    def delay(self, seconds: float) -> None:
        """Delay both links, as `FaultProxy.delay`."""
        for link in (self.control, self.data):
            link.delay(seconds)

    def limit(self, bytes_per_s: float | None) -> None:
        """Limit each connection of both links, as `FaultProxy.limit`."""
        for link in (self.control, self.data):
            link.limit(bytes_per_s)

    def heal(self) -> None:
        """End every fault of both links."""
        for link in (self.control, self.data):
            link.heal()


@contextmanager
def proxy_endpoint(endpoint: Endpoint, *, buffer_bytes: int = 1 << 20) -> Iterator[EndpointProxy]:
    """Stand between clients and a service on this computer while the block runs.

    Parameters
    ----------
    endpoint
        Where the service listens, or will: a loopback address other than ``*``.
    buffer_bytes
        As for `FaultProxy`.

    Yields
    ------
    EndpointProxy
        Its endpoint has the service's two ports on another loopback address. So a client that
        uses the ports which the service states still goes through the proxy, and finds the
        service's token, also that of its successor.

    Raises
    ------
    EndpointInUse
        If no other loopback address has both ports free: the service listens on all of them, or
        the system, unlike Linux, has only one.

    Examples
    --------
    >>> from zmqruntime import ZMQClient
    >>> from zmqruntime.testing import serve_in_thread
    >>> with serve_in_thread() as server, proxy_endpoint(server.endpoint) as proxy:
    ...     with ZMQClient(proxy.endpoint) as client:
    ...         client.connect().server.id == server.server_id
    True
    """
    host = "127.0.0.1" if endpoint.host == "localhost" else endpoint.host
    offset = endpoint.data_port_offset
    guess = random.SystemRandom()
    for _ in range(20):
        other = f"127.{guess.randrange(1, 255)}.{guess.randrange(256)}.{guess.randrange(1, 255)}"
        try:
            control = FaultProxy(
                (host, endpoint.port), listen=(other, endpoint.port), buffer_bytes=buffer_bytes
            )
        except EndpointInUse:
            continue
        with control:
            try:
                data = FaultProxy(
                    (host, endpoint.data_port),
                    listen=(other, endpoint.data_port),
                    buffer_bytes=buffer_bytes,
                )
            except EndpointInUse:
                continue
            with data:
                yield EndpointProxy(
                    Endpoint(other, endpoint.port, data_port_offset=offset),
                    control=control,
                    data=data,
                )
                return
    raise EndpointInUse(
        f"no loopback address beside {host} has ports {endpoint.port} and {endpoint.data_port} "
        "free: does the service listen on all addresses, or has this system only one?"
    )
