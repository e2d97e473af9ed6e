"""LaneState: how one stream between two ends stands, for people who look."""

from __future__ import annotations

from typing import Literal

import msgspec

from zmqruntime.carriers._link import LinkStats
from zmqruntime.carriers._negotiate import Carrier, CarrierReason
from zmqruntime.data._credits import Credit
from zmqruntime.data._stream_messages import Mode

__all__ = ["LaneState"]


class LaneState(msgspec.Struct, frozen=True, kw_only=True):
    """How one stream between a producer and one receiver stands, seen from one of its ends.

    Attributes
    ----------
    topic, peer
        Name of the stream, and who is at its other end.
    direction
        ``out`` at the producer, ``in`` at the receiver.
    mode
        What happens when there is no room.
    carrier, reason
        How large payloads travel, and why.
    granted, used
        Room of the receiver, and what of it is under way, in messages and payload bytes. At the
        receiver: what its application has not released.
    lag_s
        Age of the oldest payload that was not acknowledged, or released, in seconds; 0 if none.
    sent, nbytes
        Payloads that went, or came, and their bytes.
    bytes_copied
        Bytes that this end has copied.
    peer_copied
        Bytes that the receiver says it has copied; 0 at the receiver itself.
    superseded, lost
        Payloads that gave way to newer ones, and payloads that were lost for another reason.
    queued
        Payloads that wait for room.
    link
        What the producer has measured of the way to its receiver; nothing at the receiver itself.
    """

    topic: str
    peer: str
    direction: Literal["out", "in"]
    mode: Mode
    carrier: Carrier
    reason: CarrierReason
    granted: Credit
    used: Credit
    lag_s: float
    sent: int
    nbytes: int
    bytes_copied: int
    peer_copied: int = 0
    superseded: int = 0
    lost: int = 0
    queued: int = 0
    link: LinkStats = LinkStats()
