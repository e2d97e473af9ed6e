"""Sessions and pixels over WebSocket, for browsers and whoever has no ZeroMQ.

Needs the extra ``websocket``: ``pip install 'zmqruntime[websocket]'``.
"""

from __future__ import annotations

from zmqruntime.gateway import _extra  # noqa: F401 - says what is missing before it is missed
from zmqruntime.gateway._carrier import WebSocketCarrier
from zmqruntime.gateway._lanes import LaneFrame, LaneReader, LaneRecord, pack_frame
from zmqruntime.gateway._pixels import PixelLanes, PixelReceiver
from zmqruntime.gateway._tickets import TicketOffice
from zmqruntime.gateway._websocket import WebSocketGateway

__all__ = [
    "LaneFrame",
    "LaneReader",
    "LaneRecord",
    "PixelLanes",
    "PixelReceiver",
    "TicketOffice",
    "WebSocketCarrier",
    "WebSocketGateway",
    "pack_frame",
]
