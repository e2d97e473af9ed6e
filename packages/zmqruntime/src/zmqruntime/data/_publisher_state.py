"""How a publisher stands with its receiver, as its application and its users see it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from zmqruntime.data._credits import Credit

if TYPE_CHECKING:
    from zmqruntime.carriers._negotiate import CarrierReason
    from zmqruntime.data._lane import Lane

__all__ = ["LinkState", "PublisherState", "Standing"]


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


class Standing:
    """How a publisher stands with its receiver, as it keeps that itself; under its lock.

    Parameters
    ----------
    detail
        A sentence for people.
    """

    def __init__(self, detail: str) -> None:
        self.link = LinkState.WAITING
        self.since = time.time()
        self.detail = detail

    @property
    def closed(self) -> bool:
        """Whether the publisher was closed."""
        return self.link is LinkState.CLOSED

    def set(self, link: LinkState, detail: str) -> None:
        """Note a change, which is now."""
        self.link, self.since, self.detail = link, time.time(), detail

    def seen(self, lane: Lane | None) -> PublisherState:
        """Say it to the application, with the present run, if there is one."""
        return PublisherState(
            link=self.link,
            since=self.since,
            detail=self.detail,
            carrier_reason=None if lane is None else lane.reason,
            under_way=Credit(0, 0) if lane is None else lane.outbox.window.used,
            granted=Credit(0, 0) if lane is None else lane.outbox.window.granted,
        )
