"""Frames: what the envelopes of protocol 2 have around their payloads."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime.session._shapes import Envelope, Id, Seq

__all__ = [
    "Delta",
    "Framed",
    "Named",
    "Notice",
    "Token",
    "Version",
    "View",
]

Token = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Version = Literal[2]


class Framed(Envelope, frozen=True, kw_only=True):
    """Within a session, with a name of its own."""

    version: Version
    session: Id
    frame_id: Id


class Named(Envelope, frozen=True, kw_only=True):
    """Before there is a session."""

    version: Version
    frame_id: Id


class Delta(Envelope, frozen=True, kw_only=True):
    """A numbered notification."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET
    seq: Seq
    delta_token: Token


class Notice(Envelope, frozen=True, kw_only=True):
    """A notification that carries no number: a later one replaces it."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET


class View(Envelope, frozen=True, kw_only=True):
    """Where the view stands; it names its own frame, or the intent that it follows."""

    version: Version
    session: Id
    frame_id: Id | UnsetType = UNSET
    intent_id: Id | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.frame_id is UNSET) == (self.intent_id is UNSET):
            raise ValueError("exactly one of frame_id and intent_id is required")
