"""What a server says of itself: its ports, its version, and what may be called."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from zmqruntime.router._expose import return_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zmqruntime._endpoints import Endpoint
    from zmqruntime.control._peer import Peer
    from zmqruntime.router._calls import NamedCall
    from zmqruntime.router._expose import Exposed

__all__ = ["choose_ports", "describe_exposed", "own_version"]


def choose_ports(endpoint: Endpoint, rpc_port: int | None, broadcast_port: int | None) -> Endpoint:
    """Lay explicit ports over those of an endpoint.

    Parameters
    ----------
    endpoint
        Where else.
    rpc_port
        Port of calls, or None for that of the endpoint.
    broadcast_port
        Port of streams, or None for the usual distance from the port of calls.

    Returns
    -------
    Endpoint
        With the ports chosen.

    Raises
    ------
    InvalidEndpointError
        If a port is out of range, or both are the same.
    """
    port = endpoint.port if rpc_port is None else rpc_port
    offset = endpoint.data_port_offset if broadcast_port is None else broadcast_port - port
    return replace(endpoint, port=port, data_port_offset=offset)


def own_version() -> str:
    """Return the version of zmqruntime that is installed."""
    try:
        return version("zmqruntime")
    except PackageNotFoundError:
        return "unknown"


def describe_exposed(
    entries: Iterable[Exposed], named: Iterable[NamedCall], peer: Peer
) -> dict[str, Any]:
    """Say what a peer may call.

    Parameters
    ----------
    entries, named
        What there is.
    peer
        Who asks; the rest is kept from it.

    Returns
    -------
    dict
        ``objects``, a map from object to attribute to what it is, and ``named_calls``.
    """
    objects: dict[str, dict[str, dict[str, str]]] = {}
    allowed = [entry for entry in entries if peer.holds(entry.capability)]
    for entry in allowed:
        objects.setdefault(entry.obj, {})[entry.attr] = {
            "kind": "value" if entry.readable else "function",
            "return_type": "" if entry.readable else return_type(entry.function),
        }
    return {
        "objects": objects,
        "named_calls": {
            call.name: {"obj": call.obj, "attr": call.attr}
            for call in named
            if call.attr in objects.get(call.obj, {})
        },
    }
