"""Is it the session protocol? Cases, examples, schemas and recordings, for any implementation."""

from __future__ import annotations

from zmqruntime.testing.conformance._case import Case, Needs
from zmqruntime.testing.conformance._clients import CLIENT_CASES, ClientCase, run_client_cases
from zmqruntime.testing.conformance._connections import (
    Recording,
    WebSocketConnection,
    ZMQConnection,
    connector,
    replay,
)
from zmqruntime.testing.conformance._golden import golden_envelopes, golden_schema
from zmqruntime.testing.conformance._run import (
    CASES,
    REFERENCE_PROFILE,
    Finding,
    ReferenceScene,
    run_cases,
)
from zmqruntime.testing.conformance._subject import (
    ConformanceError,
    Connection,
    Profile,
    Subject,
)

__all__ = [
    "CASES",
    "CLIENT_CASES",
    "REFERENCE_PROFILE",
    "Case",
    "ClientCase",
    "ConformanceError",
    "Connection",
    "Finding",
    "Needs",
    "Profile",
    "Recording",
    "ReferenceScene",
    "Subject",
    "WebSocketConnection",
    "ZMQConnection",
    "connector",
    "golden_envelopes",
    "golden_schema",
    "replay",
    "run_cases",
    "run_client_cases",
]
