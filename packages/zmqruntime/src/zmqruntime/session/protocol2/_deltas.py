"""Deltas: the notifications that carry a number, so that a client can resume."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import Body, Id, Name, Number, Seq
from zmqruntime.session.protocol2._frames import Delta

__all__ = [
    "SEQUENCED",
    "LayersPayload",
    "LevelPayload",
    "NotifyLayers",
    "NotifyScene",
    "NotifySceneLevel",
    "NotifyStream",
    "ScenePayload",
    "StreamPayload",
]

SEQUENCED = ("notify.scene", "notify.scene.level", "notify.layers", "notify.stream")
"""Topics whose envelopes carry `seq` and `delta_token`."""


class ScenePayload(Body, frozen=True, kw_only=True):
    """Payload of ``notify.scene``: everything a client needs to begin from nothing."""

    viewer: dict[str, Any]
    layers: list[dict[str, Any]]
    policies: dict[str, Any] = msgspec.field(default_factory=dict)
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    state_version: Seq | UnsetType = UNSET


class NotifyScene(Delta, frozen=True, kw_only=True, tag="notify.scene"):
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
    state_version: Seq | UnsetType = UNSET


class NotifySceneLevel(Delta, frozen=True, kw_only=True, tag="notify.scene.level"):
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
    state_version: Seq | UnsetType = UNSET

    def __post_init__(self) -> None:
        parts = ("controls", "metadata", "data", "thumbnail", "layer", "removed")
        if all(getattr(self, part) is UNSET for part in parts):
            raise ValueError(f"one of {', '.join(parts)} is required")


class NotifyLayers(Delta, frozen=True, kw_only=True, tag="notify.layers"):
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


class NotifyStream(Delta, frozen=True, kw_only=True, tag="notify.stream"):
    """The pixel channel was configured."""

    payload: StreamPayload
