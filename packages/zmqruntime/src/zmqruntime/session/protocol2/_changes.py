"""Changes: what a client asks to be changed, and what became of it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import Body, Code, Id, Name, Phase, Seq
from zmqruntime.session.protocol2._frames import Framed

__all__ = [
    "AckPayload",
    "AckState",
    "Conflict",
    "Failure",
    "StateUpdate",
    "Update",
]


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


class StateUpdate(Framed, frozen=True, kw_only=True, tag="state.update"):
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


class AckState(Framed, frozen=True, kw_only=True, tag="ack.state"):
    """What became of a change; it comes before the notification of it."""

    payload: AckPayload
