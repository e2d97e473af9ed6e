"""Remote objects: call what another process exposes, and follow its streams."""

from __future__ import annotations

from zmqruntime.router._client import RouterClient
from zmqruntime.router._errors import (
    ExposeError,
    RPCException,
    StreamEmpty,
    StreamException,
    UnknownStreamError,
)
from zmqruntime.router._inbox import Storage
from zmqruntime.router._messages import Timestamp
from zmqruntime.router._schedule import Schedule
from zmqruntime.router._server import RouterServer
from zmqruntime.router._streams import StreamFunction

__all__ = [
    "ExposeError",
    "RPCException",
    "RouterClient",
    "RouterServer",
    "Schedule",
    "Storage",
    "StreamEmpty",
    "StreamException",
    "StreamFunction",
    "Timestamp",
    "UnknownStreamError",
]
