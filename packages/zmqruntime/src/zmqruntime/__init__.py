"""ZeroMQ control and data channels, carriers and services."""

from __future__ import annotations

from zmqruntime._client import ZMQClient
from zmqruntime._codec import Encoding, Limits
from zmqruntime._connect import ServiceManager, ZMQServiceManager
from zmqruntime._control_client import ControlClient
from zmqruntime._control_server import ControlServer
from zmqruntime._discovery import ServiceRecord, find_services, stop_service
from zmqruntime._endpoints import Endpoint, Transport
from zmqruntime._errors import (
    BusyError,
    CancelledRequestError,
    ConflictError,
    ControlTimeout,
    DeadlineError,
    EndpointError,
    EndpointInUse,
    ForbiddenError,
    FrameError,
    FrameTooLargeError,
    HandshakeError,
    InsecureBindError,
    InternalError,
    InvalidEndpointError,
    InvalidRequestError,
    LoopStoppedError,
    NotFoundError,
    PeerError,
    PeerLostError,
    RequestError,
    ServiceError,
    ServiceStartError,
    ServiceStopError,
    UnavailableError,
    ZmqRuntimeError,
)
from zmqruntime._handshake import App, Hello, Ports, ProcessInfo, ServerInfo, Welcome, Work
from zmqruntime._loop import IOThread, TimerHandle
from zmqruntime._messages import Reply, Request
from zmqruntime._owner import Identity
from zmqruntime._peer import Peer
from zmqruntime._polling import Backoff, Deadline
from zmqruntime._server import ZMQServer
from zmqruntime._spawn import Readiness, ServiceProcess, launch_service, start_service

__all__ = [
    "App",
    "Backoff",
    "BusyError",
    "CancelledRequestError",
    "ConflictError",
    "ControlClient",
    "ControlServer",
    "ControlTimeout",
    "Deadline",
    "DeadlineError",
    "Encoding",
    "Endpoint",
    "EndpointError",
    "EndpointInUse",
    "ForbiddenError",
    "FrameError",
    "FrameTooLargeError",
    "HandshakeError",
    "Hello",
    "IOThread",
    "Identity",
    "InsecureBindError",
    "InternalError",
    "InvalidEndpointError",
    "InvalidRequestError",
    "Limits",
    "LoopStoppedError",
    "NotFoundError",
    "Peer",
    "PeerError",
    "PeerLostError",
    "Ports",
    "ProcessInfo",
    "Readiness",
    "Reply",
    "Request",
    "RequestError",
    "ServerInfo",
    "ServiceError",
    "ServiceManager",
    "ServiceProcess",
    "ServiceRecord",
    "ServiceStartError",
    "ServiceStopError",
    "TimerHandle",
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
