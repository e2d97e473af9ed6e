"""Greeting: hello, and its answer, welcome or reject."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import Auth, Body, Client, Code, Envelope, Id, Name, Seq
from zmqruntime.session.protocol2._frames import Named, Token, Version

__all__ = [
    "DataInfo",
    "Feature",
    "Hello",
    "HelloPayload",
    "Refusal",
    "Reject",
    "ResumeState",
    "ServerId",
    "SessionInfo",
    "Welcome",
    "WelcomePayload",
]


class HelloPayload(Body, frozen=True, kw_only=True):
    """Payload of ``session.hello``."""

    protocols: Annotated[list[int], msgspec.Meta(min_length=1, max_length=16)]
    client: Client
    features: dict[str, bool] = msgspec.field(default_factory=dict)
    resume_tokens: dict[str, Token | None] = msgspec.field(default_factory=dict)
    auth: Auth | UnsetType = UNSET


class Hello(Named, frozen=True, kw_only=True, tag="session.hello"):
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


class Reject(Named, frozen=True, kw_only=True, tag="session.reject"):
    """Answer to a hello that is not accepted; then the connection is closed."""

    payload: Refusal
