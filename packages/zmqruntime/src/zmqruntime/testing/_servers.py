"""Free endpoints, and servers that run in the process of a test."""

from __future__ import annotations

import os
import random
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zmqruntime._endpoints import DATA_PORT_OFFSET, Endpoint
from zmqruntime._errors import EndpointInUse
from zmqruntime._server import ZMQServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from zmqruntime.control._messages import Reply, Request
    from zmqruntime.control._peer import Peer

__all__ = ["free_endpoint", "serve_in_thread"]

# Below the ports that Linux (32768 up) and macOS (49152 up) give to outgoing connections.
_LOWEST, _HIGHEST = 20_000, 31_000


def free_endpoint() -> Endpoint:
    """Find an endpoint on loopback whose two ports nobody listens on.

    Returns
    -------
    Endpoint
        With the default data port offset.

    Raises
    ------
    EndpointInUse
        If a hundred guesses were all taken.

    Notes
    -----
    Another process may take the ports before they are used, or while a server that is to come
    back is away. Guesses are spread over thousands of ports, so runs side by side rarely meet;
    the first five workers of one ``pytest -n`` never do.
    """
    guess = random.SystemRandom()
    ports = _ports(os.environ.get("PYTEST_XDIST_WORKER", ""))
    for _ in range(100):
        port = guess.choice(ports)
        if _is_free(port) and _is_free(port + DATA_PORT_OFFSET):
            return Endpoint(port=port)
    raise EndpointInUse(f"found no free pair of ports among {ports[0]} to {ports[-1]}")


@contextmanager
def serve_in_thread(
    handlers: Mapping[str, Callable[[Request, Peer], Mapping[str, Any] | Reply | None]]
    | None = None,
    *,
    app: str = "test",
    insecure: bool = False,
) -> Iterator[ZMQServer]:
    """Serve in this process while the block runs.

    Parameters
    ----------
    handlers
        Handler per type of request; they run on worker threads.
    app
        What the server calls itself.
    insecure
        Serve peers without the token.

    Yields
    ------
    ZMQServer
        Started, at a free endpoint on loopback.

    Examples
    --------
    >>> from zmqruntime import ZMQClient
    >>> with serve_in_thread({"add": lambda request, _peer: {"sum": sum(request.body["of"])}}) as s:
    ...     with ZMQClient(s.endpoint) as client:
    ...         _ = client.connect()
    ...         client.control.request("add", {"of": [1, 2]})
    {'sum': 3}
    """
    server = ZMQServer(app, free_endpoint(), bind_address="127.0.0.1", insecure=insecure)
    for type_, handler in (handlers or {}).items():
        server.control.handle(type_, handler)
    with server:
        yield server


def _ports(worker: str) -> range:
    """List a test worker's own control ports; its data ports lie between them and the next's."""
    number = worker.removeprefix("gw")
    if not number.isdigit():
        return range(_LOWEST, _HIGHEST)
    bands = range(_LOWEST, _HIGHEST - DATA_PORT_OFFSET, 2 * DATA_PORT_OFFSET)
    first = bands[int(number) % len(bands)]
    return range(first, first + DATA_PORT_OFFSET)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
