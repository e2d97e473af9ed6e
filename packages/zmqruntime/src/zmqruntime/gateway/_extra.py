"""The extra that the gateway needs; imported before anything that uses it."""

from __future__ import annotations

try:
    import websockets  # noqa: F401 - only to see whether it is there
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the gateway needs the package websockets: install 'zmqruntime[websocket]'",
        name="websockets",
    ) from error
