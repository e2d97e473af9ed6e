"""Runs on another computer: a server next to the data, and who submits to it."""

from __future__ import annotations

from openhcs.server._client import RunClient
from openhcs.server._fetch import Fetched, fetch_results
from openhcs.server._messages import (
    FileEntry,
    PlanAnswer,
    PlanTask,
    Submission,
    Submitted,
    TextFile,
    ViewerAddress,
)
from openhcs.server._requests import as_submitted, ordered_request
from openhcs.server._server import RunServer
from openhcs.server._settings import ServerSettings

__all__ = [
    "Fetched",
    "FileEntry",
    "PlanAnswer",
    "PlanTask",
    "RunClient",
    "RunServer",
    "ServerSettings",
    "Submission",
    "Submitted",
    "TextFile",
    "ViewerAddress",
    "as_submitted",
    "fetch_results",
    "ordered_request",
]
