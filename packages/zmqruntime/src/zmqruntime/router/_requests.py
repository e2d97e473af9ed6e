"""Requests: what a server answers on its control channel."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import ForbiddenError, PeerError, UnavailableError
from zmqruntime.router._describe import describe_exposed, own_version
from zmqruntime.router._messages import PROTOCOL, RouteBody, StreamName
from zmqruntime.router._route import follow_route

if TYPE_CHECKING:
    from collections.abc import Callable

    from zmqruntime._server import ZMQServer
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.router._calls import CallDesk
    from zmqruntime.router._expose import Exposure
    from zmqruntime.router._stream_desk import StreamDesk

__all__ = ["Requests"]

_LARGE_TYPES = frozenset({"call", "call_named"})


class Requests:
    """The handlers of a server.

    Parameters
    ----------
    service
        Whose control channel.
    exposure, calls, streams
        What it has.
    """

    def __init__(
        self, service: ZMQServer, *, exposure: Exposure, calls: CallDesk, streams: StreamDesk
    ) -> None:
        self._service = service
        self._exposure = exposure
        self._calls = calls
        self._streams = streams

    def register(self) -> None:
        """Answer from now on."""
        control = self._service.control
        limits = control.limits
        control.limits = replace(limits, large_types=limits.large_types | _LARGE_TYPES)
        control.handle("call", self._calls.on_call)
        control.handle("call_named", self._calls.on_call_named)
        control.handle("get_router", self._on_get_router, on_loop=True)
        control.handle("get_exposed", self._on_get_exposed, on_loop=True)
        control.handle("get_streams", self._on_get_streams, on_loop=True)
        control.handle("get_route", self._on_get_route)
        for type_, change in (
            ("enable_stream", lambda name: self._streams.set_enabled(name, enabled=True)),
            ("disable_stream", lambda name: self._streams.set_enabled(name, enabled=False)),
            ("remove_stream", self._streams.remove),
        ):
            control.handle(type_, self._stream_handler(change), capability=f"command:{type_}")

    def _stream_handler(
        self, change: Callable[[str], object]
    ) -> Callable[[Request, Peer], dict[str, Any]]:
        def handler(request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG001 - a handler
            change(request.parse(StreamName).name)
            return {}

        return handler

    def _on_get_router(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002
        return {
            "protocol": PROTOCOL,
            "zmqruntime": own_version(),
            "app": self._service.app,
            "version": self._service.version,
            "server": self._service.server_id,
        }

    def _on_get_streams(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002
        return {
            kind: {
                name: each
                for name, each in streams.items()
                if peer.holds(f"topic:subscribe:{name}")
            }
            for kind, streams in self._streams.describe().items()
        }

    def _on_get_route(self, request: Request, peer: Peer) -> dict[str, Any]:
        wanted = request.parse(RouteBody)
        capability = f"topic:subscribe:{wanted.name}"
        if not peer.may(capability):
            raise ForbiddenError(
                f"{peer} was not given the capability {capability!r}",
                details={"capability": capability},
            )
        left = request.due - time.monotonic()
        try:
            path = follow_route(
                self._streams.relayed, self._service.server_id, wanted.name, wanted.via, left
            )
        except PeerError as error:
            raise UnavailableError(str(error), retryable=True) from error
        return {"path": path}

    def _on_get_exposed(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002
        return describe_exposed(self._exposure.entries, self._calls.named, peer)
