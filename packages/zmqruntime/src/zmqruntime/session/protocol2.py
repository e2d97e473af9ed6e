"""Envelopes of session protocol 2: numbered deltas, acknowledgements, resume, heartbeats."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import (
    Auth,
    Body,
    Client,
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
    "ENVELOPES",
    "SEQUENCED",
    "TOPICS",
    "Ack",
    "AckPayload",
    "AckState",
    "CallCancel",
    "CallCommand",
    "CameraPayload",
    "Cancel",
    "CancelResult",
    "CommandCall",
    "CommandFailure",
    "CommandResult",
    "Conflict",
    "DataInfo",
    "DimsPayload",
    "Empty",
    "ErrorCommand",
    "Failure",
    "Farewell",
    "Feature",
    "GapPayload",
    "Goodbye",
    "Heartbeat",
    "Hello",
    "HelloPayload",
    "LayersPayload",
    "LevelPayload",
    "NotifyCamera",
    "NotifyDims",
    "NotifyError",
    "NotifyGap",
    "NotifyLayers",
    "NotifyProgress",
    "NotifyReference",
    "NotifyScene",
    "NotifySceneLevel",
    "NotifyStream",
    "NotifyTelemetry",
    "NotifyWork",
    "ProgressPayload",
    "Refusal",
    "Reject",
    "ReplyCancel",
    "ReplyCommand",
    "ResumeState",
    "ScenePayload",
    "ServerId",
    "SessionInfo",
    "StateUpdate",
    "StreamPayload",
    "TelemetryPayload",
    "Trouble",
    "Update",
    "Welcome",
    "WelcomePayload",
    "WorkPayload",
]

SEQUENCED = ("notify.scene", "notify.scene.level", "notify.layers", "notify.stream")
"""Topics whose envelopes carry `seq` and `delta_token`."""

TOPICS = (
    *SEQUENCED,
    "notify.dims",
    "notify.camera",
    "notify.telemetry",
    "notify.error",
    "notify.gap",
    "notify.work",
    "notify.progress",
    "notify.reference",
)
"""Everything a server notifies of; a hello says of each whether it is wanted."""

Token = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Version = Literal[2]


class _Framed(Envelope, frozen=True, kw_only=True):
    """Within a session, with a name of its own."""

    version: Version
    session: Id
    frame_id: Id


class _Named(Envelope, frozen=True, kw_only=True):
    """Before there is a session."""

    version: Version
    frame_id: Id


class _Delta(Envelope, frozen=True, kw_only=True):
    """A numbered notification."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET
    seq: Seq
    delta_token: Token


class _Notice(Envelope, frozen=True, kw_only=True):
    """A notification that carries no number: a later one replaces it."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET


class _View(Envelope, frozen=True, kw_only=True):
    """Where the view stands; it names its own frame, or the intent that it follows."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET
    intent_id: Id | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.frame_id is UNSET) == (self.intent_id is UNSET):
            raise ValueError("exactly one of frame_id and intent_id is required")


class HelloPayload(Body, frozen=True, kw_only=True):
    """Payload of ``session.hello``."""

    protocols: Annotated[list[int], msgspec.Meta(min_length=1, max_length=16)]
    client: Client
    features: dict[str, bool] = msgspec.field(default_factory=dict)
    resume_tokens: dict[str, Token | None] = msgspec.field(default_factory=dict)
    auth: Auth | UnsetType = UNSET


class Hello(_Named, frozen=True, kw_only=True, tag="session.hello"):
    """First envelope of a client."""

    payload: HelloPayload


class SessionInfo(Body, frozen=True, kw_only=True):
    """Which session a client has, and its times."""

    id: Id
    heartbeat_s: Annotated[float, msgspec.Meta(gt=0)]
    ack_timeout_ms: Annotated[int, msgspec.Meta(gt=0)]


class ResumeState(Body, frozen=True, kw_only=True):
    """From where a topic goes on.

    Attributes
    ----------
    seq, delta_token
        What the client is taken to have; the next delta is `seq` + 1.
    status
        ``resumed``; ``reset`` when a token could not be used, so that a baseline follows; or
        ``fresh`` when there was none.
    reason
        Why a topic was reset: ``epoch``, ``evicted``, ``ahead``, ``foreign``.
    """

    seq: Seq
    delta_token: Token
    status: Annotated[str, msgspec.Meta(pattern="^(fresh|resumed|reset)$")] | UnsetType = UNSET
    reason: Name | UnsetType = UNSET


class Feature(Body, frozen=True, kw_only=True):
    """What a topic is in this session."""

    enabled: bool
    version: int | UnsetType = UNSET
    resume: bool | UnsetType = UNSET
    commands: list[str] | UnsetType = UNSET
    resume_state: ResumeState | UnsetType = UNSET


class ServerId(Body, frozen=True, kw_only=True):
    """Which server this is; a changed epoch means that deltas of before do not apply."""

    id: str
    incarnation: str
    epoch: Seq


class DataInfo(Body, frozen=True, kw_only=True):
    """Where pixels travel; `ticket` opens a lane once."""

    ports: dict[str, int] = msgspec.field(default_factory=dict)
    ticket: str | UnsetType = UNSET
    carriers: list[str] = msgspec.field(default_factory=list)


class WelcomePayload(Body, frozen=True, kw_only=True):
    """Payload of ``session.welcome``."""

    protocol_version: Version
    session: SessionInfo
    features: dict[str, Feature] = msgspec.field(default_factory=dict)
    server: ServerId | UnsetType = UNSET
    capabilities: list[str] = msgspec.field(default_factory=list)
    data: DataInfo | UnsetType = UNSET
    limits: dict[str, int] = msgspec.field(default_factory=dict)


class Welcome(Envelope, frozen=True, kw_only=True, tag="session.welcome"):
    """Answer to a hello that is accepted; it echoes the id, or the frame_id, of the hello."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET
    id: Id | UnsetType = UNSET
    payload: WelcomePayload

    def __post_init__(self) -> None:
        if (self.frame_id is UNSET) == (self.id is UNSET):
            raise ValueError("exactly one of frame_id and id is required")


class Refusal(Body, frozen=True, kw_only=True):
    """Payload of ``session.reject``."""

    code: Code
    message: str
    details: dict[str, Any] | UnsetType = UNSET


class Reject(_Named, frozen=True, kw_only=True, tag="session.reject"):
    """Answer to a hello that is not accepted; then the connection is closed."""

    payload: Refusal


class Farewell(Body, frozen=True, kw_only=True):
    """Payload of ``session.goodbye``."""

    code: Code
    message: str
    reason: str


class Goodbye(_Framed, frozen=True, kw_only=True, tag="session.goodbye"):
    """The sender ends the session."""

    payload: Farewell


class Empty(Body, frozen=True, kw_only=True):
    """A payload that holds nothing."""


class Heartbeat(_Framed, frozen=True, kw_only=True, tag="heartbeat"):
    """Asks for a sign of life of the session."""

    payload: Empty


class Ack(_Framed, frozen=True, kw_only=True, tag="ack"):
    """Answers a heartbeat; `frame_id` is that of the heartbeat."""

    payload: Empty


class ScenePayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.scene``: everything a client needs to begin from nothing."""

    viewer: dict[str, Any]
    layers: list[dict[str, Any]]
    policies: dict[str, Any] = msgspec.field(default_factory=dict)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    state_version: Seq | UnsetType = UNSET


class NotifyScene(_Delta, frozen=True, kw_only=True, tag="notify.scene"):
    """Full baseline; its `seq` is 0."""

    intent_id: Id | UnsetType = UNSET
    payload: ScenePayload

    def __post_init__(self) -> None:
        if self.seq != 0:
            raise ValueError("a scene is a baseline: its seq is 0")


class LevelPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.scene.level``."""

    current_level: Seq
    layer_id: Id | UnsetType = UNSET
    levels: list[dict[str, Any]] | UnsetType = UNSET
    downgraded: bool | UnsetType = UNSET


class NotifySceneLevel(_Delta, frozen=True, kw_only=True, tag="notify.scene.level"):
    """Another level of detail is shown."""

    intent_id: Id | UnsetType = UNSET
    payload: LevelPayload


class LayersPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.layers``: what changed of one layer, or that it is gone."""

    layer_id: Id
    controls: dict[str, Any] | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET
    data: dict[str, Any] | UnsetType = UNSET
    thumbnail: dict[str, Any] | UnsetType = UNSET
    layer: dict[str, Any] | UnsetType = UNSET
    removed: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        parts = ("controls", "metadata", "data", "thumbnail", "layer", "removed")
        if all(getattr(self, part) is UNSET for part in parts):
            raise ValueError(f"one of {', '.join(parts)} is required")


class NotifyLayers(_Delta, frozen=True, kw_only=True, tag="notify.layers"):
    """A layer changed."""

    intent_id: Id | UnsetType = UNSET
    payload: LayersPayload


class StreamPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.stream``: how the pixel channel is coded."""

    codec: Name
    format: Name
    fps: Number
    frame_size: Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]
    latency_policy: dict[str, Any] = msgspec.field(default_factory=dict)
    nal_length_size: Seq | UnsetType = UNSET
    avcc: str | UnsetType = UNSET
    vt_hint: dict[str, Any] | UnsetType = UNSET
    rungs: list[dict[str, Any]] | UnsetType = UNSET
    settled: dict[str, Any] | UnsetType = UNSET


class NotifyStream(_Delta, frozen=True, kw_only=True, tag="notify.stream"):
    """The pixel channel was configured."""

    payload: StreamPayload


class DimsPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.dims``: where the view stands in the data."""

    step: list[Number] | UnsetType = UNSET
    current_step: list[Number]
    levels: list[dict[str, Any]]
    level_shapes: list[list[int]]
    current_level: Seq
    mode: Annotated[str, msgspec.Meta(pattern="^(plane|volume)$")]
    ndisplay: Annotated[int, msgspec.Meta(ge=1, le=3)]
    downgraded: bool | UnsetType = UNSET
    axis_labels: list[str] | UnsetType = UNSET
    order: list[Any] | UnsetType = UNSET
    displayed: list[int] | UnsetType = UNSET
    labels: list[str] | UnsetType = UNSET


class NotifyDims(_View, frozen=True, kw_only=True, tag="notify.dims"):
    """The view moved through the data."""

    payload: DimsPayload


class CameraPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.camera``: by how much the camera moved, or where it is."""

    mode: Name
    origin: Name
    delta: dict[str, Any] | UnsetType = UNSET
    state: dict[str, Any] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.delta is UNSET) == (self.state is UNSET):
            raise ValueError("exactly one of delta and state is required")


class NotifyCamera(_View, frozen=True, kw_only=True, tag="notify.camera"):
    """The camera moved."""

    payload: CameraPayload


class TelemetryPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.telemetry``."""

    presenter: dict[str, Any] = msgspec.field(default_factory=dict)
    decode: dict[str, Any] = msgspec.field(default_factory=dict)
    queue_depth: Seq = 0


class NotifyTelemetry(_Notice, frozen=True, kw_only=True, tag="notify.telemetry"):
    """How the sender is doing."""

    payload: TelemetryPayload


class Trouble(Body, frozen=True, kw_only=True):
    """Payload of ``notify.error``."""

    domain: Name
    code: Code
    message: str
    severity: Annotated[str, msgspec.Meta(pattern="^(info|warning|critical)$")]
    context: dict[str, Any] = msgspec.field(default_factory=dict)


class NotifyError(_Notice, frozen=True, kw_only=True, tag="notify.error"):
    """Something went wrong that no request is to blame for; a critical one ends the session."""

    payload: Trouble


class GapPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.gap``: numbers that will not come, and what to do."""

    topic: Name
    first: Seq = msgspec.field(name="from")
    last: Seq = msgspec.field(name="to")
    reason: Name
    recover: Name


class NotifyGap(_Notice, frozen=True, kw_only=True, tag="notify.gap"):
    """Some deltas were left out."""

    payload: GapPayload


class WorkPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.work``: what the server is busy with."""

    state: Annotated[str, msgspec.Meta(pattern="^(idle|busy)$")]
    task: str = ""
    since: Number | UnsetType = UNSET
    queue: Seq = 0


class NotifyWork(_Notice, frozen=True, kw_only=True, tag="notify.work"):
    """The server began or ended work."""

    payload: WorkPayload


class ProgressPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.progress``: how far a command is."""

    command_id: Id
    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType = UNSET
    message: str | UnsetType = UNSET
    queue_position: Seq | UnsetType = UNSET


class NotifyProgress(_Notice, frozen=True, kw_only=True, tag="notify.progress"):
    """A command is on its way."""

    payload: ProgressPayload


class NotifyReference(_Notice, frozen=True, kw_only=True, tag="notify.reference"):
    """Something large is to be had elsewhere."""

    payload: Reference


class Update(Body, frozen=True, kw_only=True):
    """Payload of ``state.update``.

    Attributes
    ----------
    expected_version
        Change it only if this is its version; 0 is that of a property never changed.
    interaction_id, phase
        Which drag it belongs to.
    """

    scope: Name
    target: Name
    key: Name
    value: Any
    expected_version: Seq | UnsetType = UNSET
    interaction_id: Id | UnsetType = UNSET
    phase: Phase | UnsetType = UNSET


class StateUpdate(_Framed, frozen=True, kw_only=True, tag="state.update"):
    """A client asks for a change."""

    intent_id: Id
    payload: Update


class Failure(Body, frozen=True, kw_only=True):
    """Why a change was refused."""

    code: Code
    message: str
    details: dict[str, Any] | UnsetType = UNSET


class Conflict(Body, frozen=True, kw_only=True):
    """What stands in the way of a change: who set or holds it, and what it is now."""

    client: str
    version: Seq
    value: Any = UNSET


class AckPayload(Body, frozen=True, kw_only=True):
    """Payload of ``ack.state``."""

    intent_id: Id
    in_reply_to: Id
    status: Annotated[str, msgspec.Meta(pattern="^(accepted|rejected)$")]
    applied_value: Any = UNSET
    version: Seq | UnsetType = UNSET
    error: Failure | UnsetType = UNSET
    conflict_with: Conflict | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.status == "accepted" and self.version is UNSET:
            raise ValueError("version is required when accepted")
        if (self.status == "rejected") == (self.error is UNSET):
            raise ValueError("error is there when rejected, and only then")


class AckState(_Framed, frozen=True, kw_only=True, tag="ack.state"):
    """What became of a change; it comes before the notification of it."""

    payload: AckPayload


class CommandCall(Body, frozen=True, kw_only=True):
    """Payload of ``call.command``."""

    command: Name
    args: list[Any] = msgspec.field(default_factory=list)
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    origin: str = ""
    idempotency_key: Id | UnsetType = UNSET
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | UnsetType = UNSET


class CallCommand(_Framed, frozen=True, kw_only=True, tag="call.command"):
    """A client asks for something to be done."""

    payload: CommandCall


class CommandResult(Body, frozen=True, kw_only=True):
    """Payload of ``reply.command``."""

    in_reply_to: Id
    status: Literal["ok"]
    result: Any
    idempotency_key: Id | UnsetType = UNSET


class ReplyCommand(_Framed, frozen=True, kw_only=True, tag="reply.command"):
    """It was done."""

    payload: CommandResult


class CommandFailure(Body, frozen=True, kw_only=True):
    """Payload of ``error.command``."""

    in_reply_to: Id
    status: Literal["error"]
    code: Code
    message: str
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    idempotency_key: Id | UnsetType = UNSET


class ErrorCommand(_Framed, frozen=True, kw_only=True, tag="error.command"):
    """It was not done."""

    payload: CommandFailure


class Cancel(Body, frozen=True, kw_only=True):
    """Payload of ``call.cancel``; `command_id` is the `frame_id` of the call."""

    command_id: Id


class CallCancel(_Framed, frozen=True, kw_only=True, tag="call.cancel"):
    """A client no longer wants something done."""

    payload: Cancel


class CancelResult(Body, frozen=True, kw_only=True):
    """Payload of ``reply.cancel``."""

    command_id: Id
    accepted: bool


class ReplyCancel(_Framed, frozen=True, kw_only=True, tag="reply.cancel"):
    """Whether there was something to cancel; what became of it is said by its own reply."""

    payload: CancelResult


ENVELOPES: tuple[type[Envelope], ...] = (
    Hello,
    Welcome,
    Reject,
    Goodbye,
    Heartbeat,
    Ack,
    NotifyScene,
    NotifySceneLevel,
    NotifyLayers,
    NotifyStream,
    NotifyDims,
    NotifyCamera,
    NotifyTelemetry,
    NotifyError,
    NotifyGap,
    NotifyWork,
    NotifyProgress,
    NotifyReference,
    StateUpdate,
    AckState,
    CallCommand,
    ReplyCommand,
    ErrorCommand,
    CallCancel,
    ReplyCancel,
)
"""Every envelope of protocol 2."""
