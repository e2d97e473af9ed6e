"""Instructions: what the machine of a session wants done by whoever owns its connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime.session import protocol1, protocol2
    from zmqruntime.session._errors import EnvelopeError
    from zmqruntime.session._parser import Hello
    from zmqruntime.session._shapes import Envelope

__all__ = [
    "GOING_AWAY",
    "INTERNAL",
    "NORMAL",
    "POLICY",
    "PROTOCOL_ERROR",
    "TOO_BIG",
    "Close",
    "Deliver",
    "Greet",
    "Heard",
    "Instruction",
    "Malformed",
    "Pulse",
    "Welcomed",
]

NORMAL, GOING_AWAY, PROTOCOL_ERROR, POLICY, TOO_BIG, INTERNAL = 1000, 1001, 1002, 1008, 1009, 1011
"""Close codes of RFC 6455, section 7.4.1, on every carrier."""


@dataclass(frozen=True, slots=True)
class Greet:
    """A hello came: welcome or reject it."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The server welcomed this client."""

    envelope: protocol1.Welcome | protocol2.Welcome
    protocol: int


@dataclass(frozen=True, slots=True)
class Deliver:
    """An envelope came that the other parts are to act upon."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame came that is no envelope, or none that the other side may send now."""

    error: EnvelopeError


@dataclass(frozen=True, slots=True)
class Heard:
    """A heartbeat came: acknowledge it by its name."""

    frame_id: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """Nothing was heard for a while: send a heartbeat."""


@dataclass(frozen=True, slots=True)
class Close:
    """The connection is to be closed, after saying why where that is possible.

    Attributes
    ----------
    code
        Of RFC 6455.
    word
        Word of the protocol, for example ``timeout``.
    message
        Why, for people.
    hello
        Whether the other side is owed a reject rather than a goodbye.
    silent
        Whether it is owed neither, because it ended the session itself.
    """

    code: int
    word: str
    message: str
    hello: bool = False
    silent: bool = False


Instruction = Greet | Welcomed | Deliver | Malformed | Heard | Pulse | Close
