"""How a publisher stands with its receiver, as its application and its users see it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime._credits import Credit
    from zmqruntime.carriers._negotiate import CarrierReason

__all__ = ["LinkState", "PublisherState"]


class LinkState(StrEnum):
    """Whether a publisher has a receiver."""

    WAITING = "waiting"
    ATTACHED = "attached"
    LOST = "lost"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherState:
    """How a publisher stands with its receiver.

    Attributes
    ----------
    link
        ``waiting`` before there is a receiver, ``attached``, ``lost`` while it is sought again, or
        ``closed``.
    since
        Seconds since the epoch.
    detail
        A sentence for people.
    carrier_reason
        Why payloads travel as they do; None without a receiver.
    under_way
        Messages and payload bytes the receiver has not given back.
    granted
        Its whole room; nothing without a receiver.
    """

    link: LinkState
    since: float
    detail: str
    carrier_reason: CarrierReason | None
    under_way: Credit
    granted: Credit
