"""Sessions of interactive clients: JSON envelopes over the control socket or a WebSocket."""

from __future__ import annotations

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._admission import token_authenticator
from zmqruntime.session._application import Applied, Authenticator, Baseline, Grant, Reducer
from zmqruntime.session._calls import Call
from zmqruntime.session._carrier import Carrier, ZMQCarrier
from zmqruntime.session._client import SessionClient
from zmqruntime.session._commands import Command
from zmqruntime.session._envelopes import PROTOCOLS, canonical, encode, type_of
from zmqruntime.session._errors import (
    CommandError,
    EnvelopeError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
    StateRejectedError,
)
from zmqruntime.session._intents import StateAck
from zmqruntime.session._journal import JournalError
from zmqruntime.session._links import Link, LinkPeer
from zmqruntime.session._parser import EnvelopeLimits, Hello, Parsed, parse, parse_hello
from zmqruntime.session._resume import Retention
from zmqruntime.session._schema import json_schema
from zmqruntime.session._server import SessionServer
from zmqruntime.session._session import ServerSession, SessionRecord
from zmqruntime.session._shapes import Auth, Client, ClientMark, Envelope, Reference
from zmqruntime.session._state import Change

__all__ = [
    "PROTOCOLS",
    "Applied",
    "Auth",
    "Authenticator",
    "Baseline",
    "Call",
    "Carrier",
    "Change",
    "Client",
    "ClientMark",
    "Command",
    "CommandError",
    "Envelope",
    "EnvelopeError",
    "EnvelopeLimits",
    "Grant",
    "Hello",
    "JournalError",
    "Link",
    "LinkPeer",
    "Parsed",
    "Reducer",
    "Reference",
    "Retention",
    "ServerSession",
    "SessionClient",
    "SessionClosedError",
    "SessionError",
    "SessionRecord",
    "SessionRejectedError",
    "SessionServer",
    "StateAck",
    "StateRejectedError",
    "ZMQCarrier",
    "canonical",
    "encode",
    "json_schema",
    "parse",
    "parse_hello",
    "protocol1",
    "protocol2",
    "token_authenticator",
    "type_of",
]
