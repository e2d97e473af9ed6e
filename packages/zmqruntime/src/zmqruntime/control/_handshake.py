"""Hello and welcome: who each side is, and which protocol they share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from zmqruntime._errors import HandshakeError, UnavailableError
from zmqruntime._typed import from_plain
from zmqruntime.control._messages import V_MAX, V_MIN
from zmqruntime.processes._identity import current_identity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = [
    "App",
    "Hello",
    "Ports",
    "ProcessInfo",
    "ServerInfo",
    "Welcome",
    "Work",
    "choose_version",
]

_Name = Annotated[str, msgspec.Meta(max_length=128)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]

B = TypeVar("B", bound="_Body")


class App(msgspec.Struct, frozen=True, kw_only=True):
    """Name and version of a program."""

    name: _Name
    version: _Name = ""


class ProcessInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which process a peer is; pid and start time name it for ever within one boot."""

    pid: Annotated[int, msgspec.Meta(ge=1, le=(1 << 31) - 1)]
    start_time: int
    uid: int

    @classmethod
    def mine(cls) -> Self:
        """Return this process as a hello or welcome names it."""
        identity = current_identity()
        return cls(pid=identity.pid, start_time=identity.start_time, uid=os.getuid())


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which server answers.

    `id` stays the same when the server restarts on its port; `incarnation` is new each time.
    """

    name: _Name
    version: _Name
    id: _Name
    incarnation: _Name


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of the two channels."""

    control: _Port
    data: _Port


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the application says it is doing; being busy is not being dead."""

    state: Annotated[str, msgspec.Meta(pattern="^(idle|busy)$")] = "idle"
    task: _Name = ""
    since: float | None = None
    queued: int = 0


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    """Known fields, and whatever else the other side sent, under `extras`."""

    extras: dict[str, Any] = msgspec.field(default_factory=dict)

    def to_body(self) -> dict[str, Any]:
        """Return the fields and the extras side by side, as they are sent."""
        body: dict[str, Any] = msgspec.to_builtins(self)
        del body["extras"]
        return {**self.extras, **body}

    @classmethod
    def from_body(cls: type[B], body: Mapping[str, Any]) -> B:
        """Read a body; fields that are not known are kept as extras.

        Raises
        ------
        HandshakeError
            If a known field is missing or malformed.
        """
        known = {key: value for key, value in body.items() if key in cls.__struct_fields__}
        known["extras"] = {key: value for key, value in body.items() if key not in known}
        try:
            return from_plain(known, cls)
        except msgspec.ValidationError as error:
            raise HandshakeError(f"{cls.__name__.lower()} is malformed: {error}") from error


class Hello(_Body, frozen=True, kw_only=True):
    """What a client says of itself.

    Attributes
    ----------
    v_min, v_max
        Control protocols it speaks.
    app
        What program it is.
    role
        What it wants to be, for example ``client`` or ``producer``.
    peer_id
        Name it keeps across reconnects.
    incarnation
        Name of this process start.
    process
        Which process it is.
    host_digest
        blake2b-16 of the boot id, hexadecimal; equal digests may be one computer.
    extras
        Everything else, for those who negotiate more.
    """

    v_min: int
    v_max: int
    app: App
    peer_id: _Name
    incarnation: _Name
    process: ProcessInfo
    role: _Name = "client"
    host_digest: _Name = ""


class Welcome(_Body, frozen=True, kw_only=True):
    """What a server answers to a hello.

    Attributes
    ----------
    v
        Control protocol to speak from now on.
    server
        Which server this is.
    ports
        Where its channels are; clients use these, not what they assumed.
    bound
        Hosts on which it listens.
    insecure
        Whether it serves anybody who reaches it.
    capabilities
        What this peer may ask for.
    limits
        Caps on what may be sent.
    heartbeat_ms
        How often libzmq checks the connection.
    process
        Which process it is.
    host_digest
        blake2b-16 of its boot id, hexadecimal.
    work
        What it is doing.
    ticket
        Opens one further lane, once, within 30 s; empty where none is needed.
    extras
        Everything else, from the hello hooks of the server.
    """

    v: int
    server: ServerInfo
    ports: Ports
    process: ProcessInfo
    bound: tuple[str, ...] = ()
    insecure: bool = False
    capabilities: tuple[str, ...] = ()
    limits: dict[str, int] = msgspec.field(default_factory=dict)
    heartbeat_ms: int = 1000
    host_digest: _Name = ""
    work: Work = Work()
    ticket: _Name = ""

    @property
    def incarnation(self) -> str:
        """Name of this start of the server."""
        return self.server.incarnation


def choose_version(v_min: int, v_max: int) -> int:
    """Choose the highest control protocol that both sides speak.

    Parameters
    ----------
    v_min, v_max
        Range of the peer.

    Returns
    -------
    int
        The number to speak.

    Raises
    ------
    UnavailableError
        With the code ``unsupported_version`` and both ranges, if there is none.
    """
    chosen = min(v_max, V_MAX)
    if v_min > v_max or chosen < max(v_min, V_MIN):
        raise UnavailableError(
            f"no common protocol: the peer speaks {v_min} to {v_max}, this one {V_MIN} to {V_MAX}",
            code="unsupported_version",
            details={"v_min": V_MIN, "v_max": V_MAX},
        )
    return chosen
