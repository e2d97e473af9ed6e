"""ZeroMQ control and data channels, carriers and services."""

from __future__ import annotations

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
from zmqruntime._item import Item, ProducerStatus
from zmqruntime._lane_state import LaneState
from zmqruntime._liveness import Liveness, LivenessState
from zmqruntime._loop import IOThread, TimerHandle
from zmqruntime._messages import Reply, Request
from zmqruntime._outbox import Ack
from zmqruntime._owner import Identity
from zmqruntime._peer import Peer
from zmqruntime._polling import Backoff, Deadline
from zmqruntime._publisher import Publisher
from zmqruntime._publisher_pool import PublisherPool
from zmqruntime._publisher_state import LinkState, PublisherState
from zmqruntime._server import ZMQServer
from zmqruntime._spawn import Readiness, ServiceProcess, launch_service, start_service
from zmqruntime._stream_messages import AckStatus, Mode
from zmqruntime._subscriber import Subscriber
from zmqruntime.carriers import Carrier, CarrierReason, InlineLimits, Lease

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
