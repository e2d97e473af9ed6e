"""Envelopes of session protocol 1: ``type``, ``id``, ``timestamp``, ``payload``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import (
    Auth,
    Body,
    Client,
    ClientMark,
    Code,
    Envelope,
    Id,
    Name,
    Number,
    Phase,
    Reference,
    Seq,
)

__all__ = [
    "CAPABILITIES",
    "ENVELOPES",
    "FEATURES",
    "CallCommand",
    "CommandCall",
    "CommandFailure",
    "CommandResult",
    "ErrorCommand",
    "ErrorSession",
    "ErrorState",
    "Extras",
    "Failure",
    "Features",
    "Hello",
    "HelloPayload",
    "NotifyReference",
    "NotifyScene",
    "NotifyState",
    "NotifyStream",
    "Offending",
    "Refusal",
    "Reject",
    "ReplyCommand",
    "ScenePayload",
    "SceneState",
    "SessionInfo",
    "StateFailure",
    "StateMeta",
    "StatePayload",
    "StreamPayload",
    "Welcome",
    "WelcomePayload",
]

CAPABILITIES = ("notify.state", "notify.scene", "notify.stream", "call.command")
"""What a welcome of protocol 1 lists."""

FEATURES = ("notify_state", "notify_scene", "notify_stream")
"""What a hello of protocol 1 has to say yes to."""


class Features(Body, frozen=True, kw_only=True):
    """Which notifications a client takes."""

    notify_state: bool = False
    notify_scene: bool = False
    notify_stream: bool = False


class Extras(Body, frozen=True, kw_only=True):
    """What else a client says in its hello."""

    features: Features | UnsetType = UNSET


class HelloPayload(Body, frozen=True, kw_only=True):
    """Payload of ``session.hello``."""

    protocol: Literal[1]
    client: Client
    auth: Auth | UnsetType = UNSET
    extras: Extras | UnsetType = UNSET


class Hello(Envelope, frozen=True, kw_only=True, tag="session.hello"):
    """First envelope of a client."""

    id: Id | UnsetType = UNSET
    payload: HelloPayload


class SessionInfo(Body, frozen=True, kw_only=True):
    """Which session a client has, and what it may use in it."""

    id: Id
    capabilities: list[str]


class WelcomePayload(Body, frozen=True, kw_only=True):
    """Payload of ``session.welcome``."""

    protocol: Literal[1]
    session: SessionInfo


class Welcome(Envelope, frozen=True, kw_only=True, tag="session.welcome"):
    """Answer to a hello that is accepted; it echoes the id, or the frame_id, of the hello."""

    id: Id | UnsetType = UNSET
    frame_id: Id | UnsetType = UNSET
    payload: WelcomePayload


class Refusal(Body, frozen=True, kw_only=True):
    """Payload of ``session.reject``."""

    code: Code
    message: str
    details: dict[str, Any] | UnsetType = UNSET


class Reject(Envelope, frozen=True, kw_only=True, tag="session.reject"):
    """Answer to a hello that is not accepted; then the connection is closed."""

    id: Id | UnsetType = UNSET
    frame_id: Id | UnsetType = UNSET
    payload: Refusal


class SceneState(Body, frozen=True, kw_only=True):
    """Where the view stands in a scene."""

    current_step: list[Number] | UnsetType = UNSET
    ndisplay: Annotated[int, msgspec.Meta(ge=1, le=3)] | UnsetType = UNSET
    volume_mode: str | UnsetType = UNSET


class ScenePayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.scene``: everything a client needs to begin from nothing."""

    version: Literal[1]
    scene: dict[str, Any]
    state: SceneState


class NotifyScene(Envelope, frozen=True, kw_only=True, tag="notify.scene"):
    """Full baseline."""

    id: Id | UnsetType = UNSET
    payload: ScenePayload


class StateMeta(Body, frozen=True, kw_only=True):
    """Snapshot of the dimensions that a change belongs to."""

    ndim: int | UnsetType = UNSET
    order: list[Any] | UnsetType = UNSET
    axis_labels: list[str] | UnsetType = UNSET
    displayed: list[int] | UnsetType = UNSET
    ndisplay: int | UnsetType = UNSET
    range: list[list[Number]] | UnsetType = UNSET
    controls: dict[str, Any] | UnsetType = UNSET


class StatePayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.state``: one property and its value.

    A client sends it to ask for a change, without `server_seq` and `ack`; a server sends it to
    say what is so.
    """

    scope: Name
    target: Name
    key: Name
    value: Any
    server_seq: Seq | UnsetType = UNSET
    axis_index: Seq | UnsetType = UNSET
    current_step: list[Number] | UnsetType = UNSET
    meta: StateMeta | UnsetType = UNSET
    interaction_id: Id | UnsetType = UNSET
    phase: Phase | UnsetType = UNSET
    client: ClientMark | UnsetType = UNSET
    ack: bool | UnsetType = UNSET


class NotifyState(Envelope, frozen=True, kw_only=True, tag="notify.state"):
    """One property changed, or is to change."""

    id: Id | UnsetType = UNSET
    payload: StatePayload


class StreamPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.stream``: how the pixel channel is coded."""

    codec: Name
    fps: Number
    width: Annotated[int, msgspec.Meta(ge=1)]
    height: Annotated[int, msgspec.Meta(ge=1)]
    bitrate: Seq | UnsetType = UNSET
    idr_interval: Seq | UnsetType = UNSET


class NotifyStream(Envelope, frozen=True, kw_only=True, tag="notify.stream"):
    """The pixel channel was configured."""

    id: Id | UnsetType = UNSET
    payload: StreamPayload


class NotifyReference(Envelope, frozen=True, kw_only=True, tag="notify.reference"):
    """Something large is to be had elsewhere."""

    id: Id | UnsetType = UNSET
    payload: Reference


class CommandCall(Body, frozen=True, kw_only=True):
    """Payload of ``call.command``."""

    name: Name
    args: dict[str, Any] = msgspec.field(default_factory=dict)


class CallCommand(Envelope, frozen=True, kw_only=True, tag="call.command"):
    """A client asks for something to be done."""

    id: Id
    payload: CommandCall


class CommandResult(Body, frozen=True, kw_only=True):
    """Payload of ``reply.command``."""

    status: Literal["ok"]
    result: Any


class ReplyCommand(Envelope, frozen=True, kw_only=True, tag="reply.command"):
    """It was done."""

    id: Id
    payload: CommandResult


class CommandFailure(Body, frozen=True, kw_only=True):
    """Payload of ``error.command``."""

    status: Literal["failed"]
    code: Code
    message: str
    details: dict[str, Any] = msgspec.field(default_factory=dict)


class ErrorCommand(Envelope, frozen=True, kw_only=True, tag="error.command"):
    """It was not done."""

    id: Id
    payload: CommandFailure


class Failure(Body, frozen=True, kw_only=True):
    """Payload of ``error.session``."""

    code: Code
    message: str
    details: dict[str, Any] | UnsetType = UNSET


class ErrorSession(Envelope, frozen=True, kw_only=True, tag="error.session"):
    """Something is wrong with the session, or with a frame that cannot be understood."""

    id: Id | UnsetType = UNSET
    payload: Failure


class Offending(Body, frozen=True, kw_only=True):
    """The change that was refused, as far as it could be read."""

    scope: Any = UNSET
    target: Any = UNSET
    key: Any = UNSET
    value: Any = UNSET


class StateFailure(Body, frozen=True, kw_only=True):
    """Payload of ``error.state``."""

    code: Code
    message: str
    offending: Offending
    details: dict[str, Any] | UnsetType = UNSET


class ErrorState(Envelope, frozen=True, kw_only=True, tag="error.state"):
    """A change was refused; what the server holds is as before."""

    id: Id | UnsetType = UNSET
    payload: StateFailure


ENVELOPES: tuple[type[Envelope], ...] = (
    Hello,
    Welcome,
    Reject,
    NotifyScene,
    NotifyState,
    NotifyStream,
    NotifyReference,
    CallCommand,
    ReplyCommand,
    ErrorCommand,
    ErrorSession,
    ErrorState,
)
"""Every envelope of protocol 1."""
