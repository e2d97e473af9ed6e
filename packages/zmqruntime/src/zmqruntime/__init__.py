"""ZeroMQ control and data channels, carriers and services."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmqruntime._client import ZMQClient
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
    from zmqruntime._server import ZMQServer
    from zmqruntime.carriers import Carrier, CarrierReason, InlineLimits, Lease, LinkStats
    from zmqruntime.control._client import ControlClient
    from zmqruntime.control._codec import Encoding, Limits
    from zmqruntime.control._handshake import (
        App,
        Hello,
        Ports,
        ProcessInfo,
        ServerInfo,
        Welcome,
        Work,
    )
    from zmqruntime.control._liveness import Liveness, LivenessState
    from zmqruntime.control._messages import Reply, Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.control._server import ControlServer
    from zmqruntime.data._credits import Credit
    from zmqruntime.data._feed import Feed
    from zmqruntime.data._feed_lane import Subscription
    from zmqruntime.data._feed_reader import FeedReader
    from zmqruntime.data._gaps import Gap, GapReason, Recovery
    from zmqruntime.data._item import Item, ProducerStatus
    from zmqruntime.data._lane_state import LaneState
    from zmqruntime.data._outbox import Ack
    from zmqruntime.data._publisher import Publisher
    from zmqruntime.data._publisher_pool import PublisherPool
    from zmqruntime.data._publisher_state import LinkState, PublisherState
    from zmqruntime.data._stream_messages import AckStatus, Mode
    from zmqruntime.data._subscriber import Subscriber
    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._polling import Backoff, Deadline
    from zmqruntime.loop._timers import TimerHandle
    from zmqruntime.processes._identity import Identity
    from zmqruntime.services._connect import ServiceManager, ZMQServiceManager
    from zmqruntime.services._discovery import ServiceRecord, find_services, stop_service
    from zmqruntime.services._spawn import Readiness, ServiceProcess, launch_service, start_service

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
    "Ack": "zmqruntime.data._outbox",
    "AckStatus": "zmqruntime.data._stream_messages",
    "App": "zmqruntime.control._handshake",
    "Backoff": "zmqruntime.loop._polling",
    "BusyError": "zmqruntime._errors",
    "CancelledRequestError": "zmqruntime._errors",
    "Carrier": "zmqruntime.carriers",
    "CarrierReason": "zmqruntime.carriers",
    "ConflictError": "zmqruntime._errors",
    "ControlClient": "zmqruntime.control._client",
    "ControlServer": "zmqruntime.control._server",
    "ControlTimeout": "zmqruntime._errors",
    "Credit": "zmqruntime.data._credits",
    "Deadline": "zmqruntime.loop._polling",
    "DeadlineError": "zmqruntime._errors",
    "DescriptorError": "zmqruntime._errors",
    "Encoding": "zmqruntime.control._codec",
    "Endpoint": "zmqruntime._endpoints",
    "EndpointError": "zmqruntime._errors",
    "EndpointInUse": "zmqruntime._errors",
    "ExposedKeyError": "zmqruntime._errors",
    "Feed": "zmqruntime.data._feed",
    "FeedReader": "zmqruntime.data._feed_reader",
    "ForbiddenError": "zmqruntime._errors",
    "FrameError": "zmqruntime._errors",
    "FrameTooLargeError": "zmqruntime._errors",
    "Gap": "zmqruntime.data._gaps",
    "GapReason": "zmqruntime.data._gaps",
    "HandshakeError": "zmqruntime._errors",
    "Hello": "zmqruntime.control._handshake",
    "IOThread": "zmqruntime.loop._loop",
    "Identity": "zmqruntime.processes._identity",
    "InlineLimits": "zmqruntime.carriers",
    "InsecureBindError": "zmqruntime._errors",
    "InternalError": "zmqruntime._errors",
    "InvalidEndpointError": "zmqruntime._errors",
    "InvalidRequestError": "zmqruntime._errors",
    "Item": "zmqruntime.data._item",
    "KeyFileError": "zmqruntime._errors",
    "LaneState": "zmqruntime.data._lane_state",
    "Lease": "zmqruntime.carriers",
    "LeaseInUseError": "zmqruntime._errors",
    "LeaseReleasedError": "zmqruntime._errors",
    "Limits": "zmqruntime.control._codec",
    "LinkState": "zmqruntime.data._publisher_state",
    "LinkStats": "zmqruntime.carriers",
    "Liveness": "zmqruntime.control._liveness",
    "LivenessState": "zmqruntime.control._liveness",
    "LoopStoppedError": "zmqruntime._errors",
    "Mode": "zmqruntime.data._stream_messages",
    "NotAttachedError": "zmqruntime._errors",
    "NotFoundError": "zmqruntime._errors",
    "PayloadTooLargeError": "zmqruntime._errors",
    "Peer": "zmqruntime.control._peer",
    "PeerError": "zmqruntime._errors",
    "PeerLostError": "zmqruntime._errors",
    "Ports": "zmqruntime.control._handshake",
    "ProcessInfo": "zmqruntime.control._handshake",
    "ProducerStatus": "zmqruntime.data._item",
    "PublishTimeoutError": "zmqruntime._errors",
    "Publisher": "zmqruntime.data._publisher",
    "PublisherPool": "zmqruntime.data._publisher_pool",
    "PublisherState": "zmqruntime.data._publisher_state",
    "Readiness": "zmqruntime.services._spawn",
    "Recovery": "zmqruntime.data._gaps",
    "Reply": "zmqruntime.control._messages",
    "Request": "zmqruntime.control._messages",
    "RequestError": "zmqruntime._errors",
    "SecurityError": "zmqruntime._errors",
    "ServerInfo": "zmqruntime.control._handshake",
    "ServiceError": "zmqruntime._errors",
    "ServiceManager": "zmqruntime.services._connect",
    "ServiceProcess": "zmqruntime.services._spawn",
    "ServiceRecord": "zmqruntime.services._discovery",
    "ServiceStartError": "zmqruntime._errors",
    "ServiceStopError": "zmqruntime._errors",
    "StaleSlotError": "zmqruntime._errors",
    "StreamError": "zmqruntime._errors",
    "Subscriber": "zmqruntime.data._subscriber",
    "Subscription": "zmqruntime.data._feed_lane",
    "TimerHandle": "zmqruntime.loop._timers",
    "TokenError": "zmqruntime._errors",
    "Transport": "zmqruntime._endpoints",
    "UnavailableError": "zmqruntime._errors",
    "Welcome": "zmqruntime.control._handshake",
    "Work": "zmqruntime.control._handshake",
    "ZMQClient": "zmqruntime._client",
    "ZMQServer": "zmqruntime._server",
    "ZMQServiceManager": "zmqruntime.services._connect",
    "ZmqRuntimeError": "zmqruntime._errors",
    "find_services": "zmqruntime.services._discovery",
    "launch_service": "zmqruntime.services._spawn",
    "start_service": "zmqruntime.services._spawn",
    "stop_service": "zmqruntime.services._discovery",
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
