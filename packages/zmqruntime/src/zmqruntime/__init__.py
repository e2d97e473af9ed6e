"""ZeroMQ control and data channels, carriers and services."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime._client import ZMQClient
    from zmqruntime._codec import Encoding, Limits
    from zmqruntime._connect import ServiceManager, ZMQServiceManager
    from zmqruntime._control_client import ControlClient
    from zmqruntime._control_server import ControlServer
    from zmqruntime._credits import Credit
    from zmqruntime._discovery import ServiceRecord, find_services, stop_service
    from zmqruntime._endpoints import Endpoint, Transport
    from zmqruntime._errors import (
        BusyError,
        CancelledRequestError,
        ConflictError,
        ControlTimeout,
        DeadlineError,
        DescriptorError,
        EndpointError,
        EndpointInUse,
        ExposedKeyError,
        ForbiddenError,
        FrameError,
        FrameTooLargeError,
        HandshakeError,
        InsecureBindError,
        InternalError,
        InvalidEndpointError,
        InvalidRequestError,
        KeyFileError,
        LeaseInUseError,
        LeaseReleasedError,
        LoopStoppedError,
        NotAttachedError,
        NotFoundError,
        PayloadTooLargeError,
        PeerError,
        PeerLostError,
        PublishTimeoutError,
        RequestError,
        SecurityError,
        ServiceError,
        ServiceStartError,
        ServiceStopError,
        StaleSlotError,
        StreamError,
        TokenError,
        UnavailableError,
        ZmqRuntimeError,
    )
    from zmqruntime._feed import Feed
    from zmqruntime._feed_lane import Subscription
    from zmqruntime._feed_reader import FeedReader
    from zmqruntime._gaps import Gap, GapReason, Recovery
    from zmqruntime._handshake import App, Hello, Ports, ProcessInfo, ServerInfo, Welcome, Work
    from zmqruntime._identity import Identity
    from zmqruntime._item import Item, ProducerStatus
    from zmqruntime._lane_state import LaneState
    from zmqruntime._liveness import Liveness, LivenessState
    from zmqruntime._loop import IOThread
    from zmqruntime._messages import Reply, Request
    from zmqruntime._outbox import Ack
    from zmqruntime._peer import Peer
    from zmqruntime._polling import Backoff, Deadline
    from zmqruntime._publisher import Publisher
    from zmqruntime._publisher_pool import PublisherPool
    from zmqruntime._publisher_state import LinkState, PublisherState
    from zmqruntime._server import ZMQServer
    from zmqruntime._spawn import Readiness, ServiceProcess, launch_service, start_service
    from zmqruntime._stream_messages import AckStatus, Mode
    from zmqruntime._subscriber import Subscriber
    from zmqruntime._timers import TimerHandle
    from zmqruntime.carriers import Carrier, CarrierReason, InlineLimits, Lease, LinkStats

__all__ = [
    "Ack",
    "AckStatus",
    "App",
    "Backoff",
    "BusyError",
    "CancelledRequestError",
    "Carrier",
    "CarrierReason",
    "ConflictError",
    "ControlClient",
    "ControlServer",
    "ControlTimeout",
    "Credit",
    "Deadline",
    "DeadlineError",
    "DescriptorError",
    "Encoding",
    "Endpoint",
    "EndpointError",
    "EndpointInUse",
    "ExposedKeyError",
    "Feed",
    "FeedReader",
    "ForbiddenError",
    "FrameError",
    "FrameTooLargeError",
    "Gap",
    "GapReason",
    "HandshakeError",
    "Hello",
    "IOThread",
    "Identity",
    "InlineLimits",
    "InsecureBindError",
    "InternalError",
    "InvalidEndpointError",
    "InvalidRequestError",
    "Item",
    "KeyFileError",
    "LaneState",
    "Lease",
    "LeaseInUseError",
    "LeaseReleasedError",
    "Limits",
    "LinkState",
    "LinkStats",
    "Liveness",
    "LivenessState",
    "LoopStoppedError",
    "Mode",
    "NotAttachedError",
    "NotFoundError",
    "PayloadTooLargeError",
    "Peer",
    "PeerError",
    "PeerLostError",
    "Ports",
    "ProcessInfo",
    "ProducerStatus",
    "PublishTimeoutError",
    "Publisher",
    "PublisherPool",
    "PublisherState",
    "Readiness",
    "Recovery",
    "Reply",
    "Request",
    "RequestError",
    "SecurityError",
    "ServerInfo",
    "ServiceError",
    "ServiceManager",
    "ServiceProcess",
    "ServiceRecord",
    "ServiceStartError",
    "ServiceStopError",
    "StaleSlotError",
    "StreamError",
    "Subscriber",
    "Subscription",
    "TimerHandle",
    "TokenError",
    "Transport",
    "UnavailableError",
    "Welcome",
    "Work",
    "ZMQClient",
    "ZMQServer",
    "ZMQServiceManager",
    "ZmqRuntimeError",
    "find_services",
    "launch_service",
    "start_service",
    "stop_service",
]

_PLACES = {
    "Ack": "zmqruntime._outbox",
    "AckStatus": "zmqruntime._stream_messages",
    "App": "zmqruntime._handshake",
    "Backoff": "zmqruntime._polling",
    "BusyError": "zmqruntime._errors",
    "CancelledRequestError": "zmqruntime._errors",
    "Carrier": "zmqruntime.carriers",
    "CarrierReason": "zmqruntime.carriers",
    "ConflictError": "zmqruntime._errors",
    "ControlClient": "zmqruntime._control_client",
    "ControlServer": "zmqruntime._control_server",
    "ControlTimeout": "zmqruntime._errors",
    "Credit": "zmqruntime._credits",
    "Deadline": "zmqruntime._polling",
    "DeadlineError": "zmqruntime._errors",
    "DescriptorError": "zmqruntime._errors",
    "Encoding": "zmqruntime._codec",
    "Endpoint": "zmqruntime._endpoints",
    "EndpointError": "zmqruntime._errors",
    "EndpointInUse": "zmqruntime._errors",
    "ExposedKeyError": "zmqruntime._errors",
    "Feed": "zmqruntime._feed",
    "FeedReader": "zmqruntime._feed_reader",
    "ForbiddenError": "zmqruntime._errors",
    "FrameError": "zmqruntime._errors",
    "FrameTooLargeError": "zmqruntime._errors",
    "Gap": "zmqruntime._gaps",
    "GapReason": "zmqruntime._gaps",
    "HandshakeError": "zmqruntime._errors",
    "Hello": "zmqruntime._handshake",
    "IOThread": "zmqruntime._loop",
    "Identity": "zmqruntime._identity",
    "InlineLimits": "zmqruntime.carriers",
    "InsecureBindError": "zmqruntime._errors",
    "InternalError": "zmqruntime._errors",
    "InvalidEndpointError": "zmqruntime._errors",
    "InvalidRequestError": "zmqruntime._errors",
    "Item": "zmqruntime._item",
    "KeyFileError": "zmqruntime._errors",
    "LaneState": "zmqruntime._lane_state",
    "Lease": "zmqruntime.carriers",
    "LeaseInUseError": "zmqruntime._errors",
    "LeaseReleasedError": "zmqruntime._errors",
    "Limits": "zmqruntime._codec",
    "LinkState": "zmqruntime._publisher_state",
    "LinkStats": "zmqruntime.carriers",
    "Liveness": "zmqruntime._liveness",
    "LivenessState": "zmqruntime._liveness",
    "LoopStoppedError": "zmqruntime._errors",
    "Mode": "zmqruntime._stream_messages",
    "NotAttachedError": "zmqruntime._errors",
    "NotFoundError": "zmqruntime._errors",
    "PayloadTooLargeError": "zmqruntime._errors",
    "Peer": "zmqruntime._peer",
    "PeerError": "zmqruntime._errors",
    "PeerLostError": "zmqruntime._errors",
    "Ports": "zmqruntime._handshake",
    "ProcessInfo": "zmqruntime._handshake",
    "ProducerStatus": "zmqruntime._item",
    "PublishTimeoutError": "zmqruntime._errors",
    "Publisher": "zmqruntime._publisher",
    "PublisherPool": "zmqruntime._publisher_pool",
    "PublisherState": "zmqruntime._publisher_state",
    "Readiness": "zmqruntime._spawn",
    "Recovery": "zmqruntime._gaps",
    "Reply": "zmqruntime._messages",
    "Request": "zmqruntime._messages",
    "RequestError": "zmqruntime._errors",
    "SecurityError": "zmqruntime._errors",
    "ServerInfo": "zmqruntime._handshake",
    "ServiceError": "zmqruntime._errors",
    "ServiceManager": "zmqruntime._connect",
    "ServiceProcess": "zmqruntime._spawn",
    "ServiceRecord": "zmqruntime._discovery",
    "ServiceStartError": "zmqruntime._errors",
    "ServiceStopError": "zmqruntime._errors",
    "StaleSlotError": "zmqruntime._errors",
    "StreamError": "zmqruntime._errors",
    "Subscriber": "zmqruntime._subscriber",
    "Subscription": "zmqruntime._feed_lane",
    "TimerHandle": "zmqruntime._timers",
    "TokenError": "zmqruntime._errors",
    "Transport": "zmqruntime._endpoints",
    "UnavailableError": "zmqruntime._errors",
    "Welcome": "zmqruntime._handshake",
    "Work": "zmqruntime._handshake",
    "ZMQClient": "zmqruntime._client",
    "ZMQServer": "zmqruntime._server",
    "ZMQServiceManager": "zmqruntime._connect",
    "ZmqRuntimeError": "zmqruntime._errors",
    "find_services": "zmqruntime._discovery",
    "launch_service": "zmqruntime._spawn",
    "start_service": "zmqruntime._spawn",
    "stop_service": "zmqruntime._discovery",
}


def __getattr__(name: str) -> object:
    # Names are fetched when they are first used: importing zmqruntime alone reads none of zmq.
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
