"""Greeter: answers pings and hellos with who a service is, and how it stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from zmqruntime._errors import ForbiddenError, HandshakeError, InvalidRequestError
from zmqruntime.control._handshake import (
    Hello,
    ProcessInfo,
    ServerInfo,
    Welcome,
    choose_version,
)
from zmqruntime.control._messages import V_MAX, V_MIN, Reply
from zmqruntime.processes._identity import host_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.control._handshake import Ports, Work
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.control._server import ControlServer
    from zmqruntime.security._gate import Gate

    HelloHook = Callable[[Hello, Peer], Mapping[str, Any]]

__all__ = ["Greeter"]


class Greeted(Protocol):
    """What is told of a service."""

    app: str
    version: str
    ports: Ports
    bound: str
    insecure: bool
    server_id: str
    incarnation: str
    ready: bool
    hello_hooks: list[HelloHook]

    @property
    def work(self) -> Work:
        """What it is doing."""

    @property
    def server_key(self) -> str:
        """Public key that clients pin; empty without keys."""


class Greeter:
    """Speaks for a service; on the loop.

    Parameters
    ----------
    service
        For whom.
    control
        Where peers ask.
    gate
        Knows their keys, if it takes any.
    """

    def __init__(self, service: Greeted, control: ControlServer, gate: Gate | None) -> None:
        self._service = service
        self._control = control
        self._gate = gate
        self._process = ProcessInfo.mine()
        self._since = 0.0
        control.handle("ping", self._on_ping, on_loop=True)
        control.handle("hello", self._on_hello, on_loop=True)

    def begin(self) -> None:
        """Count the time from now on."""
        self._since = time.monotonic()

    def describe(self) -> dict[str, Any]:
        """Return what a permitted ping is told."""
        service = self._service
        return {
            "ready": service.ready,
            "v_min": V_MIN,
            "v_max": V_MAX,
            "app": service.app,
            "version": service.version,
            "server_id": service.server_id,
            "incarnation": service.incarnation,
            "pid": self._process.pid,
            "start_time": self._process.start_time,
            "ports": {"control": service.ports.control, "data": service.ports.data},
            "bound": [service.bound],
            "insecure": service.insecure,
            "server_key": service.server_key,
            "work": msgspec.to_builtins(service.work),
            "uptime": time.monotonic() - self._since,
            "counters": self._counters(),
        }

    def _counters(self) -> dict[str, int]:
        counters = dict(self._control.counters)
        if self._gate is not None:
            counters |= {f"gate.{name}": count for name, count in self._gate.counters.items()}
            counters["gate.audit_lost"] = self._gate.audit.lost if self._gate.audit else 0
        return counters

    def _on_ping(self, request: Request, peer: Peer) -> Reply:  # noqa: ARG002 - a handler
        if peer.permitted:
            return Reply(self.describe(), "pong")
        return Reply({"ready": self._service.ready, "v_min": V_MIN, "v_max": V_MAX}, "pong")

    def _on_hello(self, request: Request, peer: Peer) -> Reply:
        service = self._service
        if not peer.permitted:
            raise ForbiddenError(
                f"{service.app} on port {service.ports.control} welcomes only who shows its "
                "token; its file is readable by the user who runs it",
                code="unauthenticated",
            )
        try:
            hello = Hello.from_body(request.body)
        except HandshakeError as error:
            raise InvalidRequestError(str(error)) from error
        version = choose_version(hello.v_min, hello.v_max)
        peer = self._control.admit(peer, hello)
        extras: dict[str, Any] = {}
        for hook in service.hello_hooks:
            extras.update(hook(hello, peer))
        limits = self._control.limits
        welcome = Welcome(
            v=version,
            server=ServerInfo(
                name=service.app,
                version=service.version,
                id=service.server_id,
                incarnation=service.incarnation,
            ),
            ports=service.ports,
            process=self._process,
            bound=(service.bound,),
            insecure=service.insecure,
            capabilities=("*",) if peer.owner else tuple(sorted(peer.grants)),
            limits={
                "frame_bytes": limits.frame_bytes,
                "request_bytes": limits.request_bytes,
                "frames": limits.frames,
            },
            host_digest=host_digest(),
            work=service.work,
            ticket=self._issue_ticket(peer),
            extras=extras,
        )
        return Reply(welcome.to_body(), "welcome")

    def _issue_ticket(self, peer: Peer) -> str:
        if self._gate is None:
            return ""
        return self._gate.tickets.issue(f"{peer.source.key}/{peer.id.hex()}")
