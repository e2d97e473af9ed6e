"""Notices: the notifications without a number; what they say is as of now."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import Body, Code, Id, Name, Number, Reference, Seq
from zmqruntime.session.protocol2._frames import Notice, View

__all__ = [
    "CameraPayload",
    "DimsPayload",
    "GapPayload",
    "NotifyCamera",
    "NotifyDims",
    "NotifyError",
    "NotifyGap",
    "NotifyProgress",
    "NotifyReference",
    "NotifyTelemetry",
    "NotifyWork",
    "ProgressPayload",
    "TelemetryPayload",
    "Trouble",
    "WorkPayload",
]


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
    state_version: Seq | UnsetType = UNSET


class NotifyDims(View, frozen=True, kw_only=True, tag="notify.dims"):
    """The view moved through the data."""

    payload: DimsPayload


class CameraPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.camera``: by how much the camera moved, or where it is."""

    mode: Name
    origin: Name
    delta: dict[str, Any] | UnsetType = UNSET
    state: dict[str, Any] | UnsetType = UNSET
    state_version: Seq | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.delta is UNSET) == (self.state is UNSET):
            raise ValueError("exactly one of delta and state is required")


class NotifyCamera(View, frozen=True, kw_only=True, tag="notify.camera"):
    """The camera moved."""

    payload: CameraPayload


class TelemetryPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.telemetry``."""

    presenter: dict[str, Any] = msgspec.field(default_factory=dict)
    decode: dict[str, Any] = msgspec.field(default_factory=dict)
    queue_depth: Seq = 0


class NotifyTelemetry(Notice, frozen=True, kw_only=True, tag="notify.telemetry"):
    """How the sender is doing."""

    payload: TelemetryPayload


class Trouble(Body, frozen=True, kw_only=True):
    """Payload of ``notify.error``."""

    domain: Name
    code: Code
    message: str
    severity: Annotated[str, msgspec.Meta(pattern="^(info|warning|critical)$")]
    context: dict[str, Any] = msgspec.field(default_factory=dict)


class NotifyError(Notice, frozen=True, kw_only=True, tag="notify.error"):
    """Something went wrong that no request is to blame for; a critical one ends the session."""

    payload: Trouble


class GapPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.gap``: numbers that will not come, and what to do."""

    topic: Name
    first: Seq = msgspec.field(name="from")
    last: Seq = msgspec.field(name="to")
    reason: Name
    recover: Name


class NotifyGap(Notice, frozen=True, kw_only=True, tag="notify.gap"):
    """Some deltas were left out."""

    payload: GapPayload


class WorkPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.work``: what the server is busy with."""

    state: Annotated[str, msgspec.Meta(pattern="^(idle|busy)$")]
    task: str = ""
    since: Number | UnsetType = UNSET
    queue: Seq = 0


class NotifyWork(Notice, frozen=True, kw_only=True, tag="notify.work"):
    """The server began or ended work."""

    payload: WorkPayload


class ProgressPayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.progress``: how far a command is."""

    command_id: Id
    fraction: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType = UNSET
    message: str | UnsetType = UNSET
    queue_position: Seq | UnsetType = UNSET


class NotifyProgress(Notice, frozen=True, kw_only=True, tag="notify.progress"):
    """A command is on its way."""

    payload: ProgressPayload


class NotifyReference(Notice, frozen=True, kw_only=True, tag="notify.reference"):
    """Something large is to be had elsewhere."""

    payload: Reference
