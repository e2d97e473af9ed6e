"""Life: heartbeats, their acknowledgements, and goodbye."""

from __future__ import annotations

from zmqruntime.session._shapes import Body, Code
from zmqruntime.session.protocol2._frames import Framed

__all__ = [
    "Ack",
    "Empty",
    "Farewell",
    "Goodbye",
    "Heartbeat",
]


class Farewell(Body, frozen=True, kw_only=True):
    """Payload of ``session.goodbye``."""

    code: Code
    message: str
    reason: str


class Goodbye(Framed, frozen=True, kw_only=True, tag="session.goodbye"):
    """The sender ends the session."""

    payload: Farewell


class Empty(Body, frozen=True, kw_only=True):
    """A payload that holds nothing."""


class Heartbeat(Framed, frozen=True, kw_only=True, tag="heartbeat"):
    """Asks for a sign of life of the session."""

    payload: Empty


class Ack(Framed, frozen=True, kw_only=True, tag="ack"):
    """Answers a heartbeat; `frame_id` is that of the heartbeat."""

    payload: Empty
