"""Envelopes: every one of protocol 2, and the topics among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmqruntime.session.protocol2._changes import AckState, StateUpdate
from zmqruntime.session.protocol2._commands import (
    CallCancel,
    CallCommand,
    ErrorCommand,
    ReplyCancel,
    ReplyCommand,
)
from zmqruntime.session.protocol2._deltas import (
    SEQUENCED,
    NotifyLayers,
    NotifyScene,
    NotifySceneLevel,
    NotifyStream,
)
from zmqruntime.session.protocol2._greeting import Hello, Reject, Welcome
from zmqruntime.session.protocol2._life import Ack, Goodbye, Heartbeat
from zmqruntime.session.protocol2._notices import (
    NotifyCamera,
    NotifyDims,
    NotifyError,
    NotifyGap,
    NotifyProgress,
    NotifyReference,
    NotifyTelemetry,
    NotifyWork,
)

if TYPE_CHECKING:
    from zmqruntime.session._shapes import Envelope

__all__ = ["ENVELOPES", "TOPICS"]

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
