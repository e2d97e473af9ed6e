"""Carriers: how the bytes of a payload travel from one process to another."""

from __future__ import annotations

from zmqruntime.carriers._arena import Arena
from zmqruntime.carriers._arena_view import ArenaView
from zmqruntime.carriers._inline import Assembly, InlineLimits
from zmqruntime.carriers._layout import SlotReference
from zmqruntime.carriers._lease import Lease
from zmqruntime.carriers._lender import SlotLender
from zmqruntime.carriers._link import LinkMeter, LinkStats
from zmqruntime.carriers._names import SHARED_MEMORY, SegmentName
from zmqruntime.carriers._negotiate import Carrier, CarrierReason, HostIdentity, Probe
from zmqruntime.carriers._slots import SlotBook
from zmqruntime.carriers._sweep import sweep

__all__ = [
    "SHARED_MEMORY",
    "Arena",
    "ArenaView",
    "Assembly",
    "Carrier",
    "CarrierReason",
    "HostIdentity",
    "InlineLimits",
    "Lease",
    "LinkMeter",
    "LinkStats",
    "Probe",
    "SegmentName",
    "SlotBook",
    "SlotLender",
    "SlotReference",
    "sweep",
]
