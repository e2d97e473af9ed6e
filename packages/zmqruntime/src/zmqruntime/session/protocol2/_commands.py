"""Commands: what a client asks to be done, what became of it, and taking it back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import Body, Code, Id, Name
from zmqruntime.session.protocol2._frames import Framed

__all__ = [
    "CallCancel",
    "CallCommand",
    "Cancel",
    "CancelResult",
    "CommandCall",
    "CommandFailure",
    "CommandResult",
    "ErrorCommand",
    "ReplyCancel",
    "ReplyCommand",
]


class CommandCall(Body, frozen=True, kw_only=True):
    """Payload of ``call.command``."""

    command: Name
    args: list[Any] = msgspec.field(default_factory=list)
    kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    origin: str = ""
    idempotency_key: Id | UnsetType = UNSET
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] | UnsetType = UNSET


class CallCommand(Framed, frozen=True, kw_only=True, tag="call.command"):
    """A client asks for something to be done."""

    payload: CommandCall


class CommandResult(Body, frozen=True, kw_only=True):
    """Payload of ``reply.command``."""

    in_reply_to: Id
    status: Literal["ok"]
    result: Any
    idempotency_key: Id | UnsetType = UNSET


class ReplyCommand(Framed, frozen=True, kw_only=True, tag="reply.command"):
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


class ErrorCommand(Framed, frozen=True, kw_only=True, tag="error.command"):
    """It was not done."""

    payload: CommandFailure


class Cancel(Body, frozen=True, kw_only=True):
    """Payload of ``call.cancel``; `command_id` is the `frame_id` of the call."""

    command_id: Id


class CallCancel(Framed, frozen=True, kw_only=True, tag="call.cancel"):
    """A client no longer wants something done."""

    payload: Cancel


class CancelResult(Body, frozen=True, kw_only=True):
    """Payload of ``reply.cancel``."""

    command_id: Id
    accepted: bool


class ReplyCancel(Framed, frozen=True, kw_only=True, tag="reply.cancel"):
    """Whether there was something to cancel; what became of it is said by its own reply."""

    payload: CancelResult
