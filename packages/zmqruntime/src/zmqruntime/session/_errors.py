"""Errors of sessions, and the words by which both protocols name them.

::

    ZmqRuntimeError
    └── SessionError
        ├── EnvelopeError         ValueError         text that is no envelope
        ├── SessionRejectedError  PermissionError    the server does not let this client in
        ├── SessionClosedError    ConnectionError    the session has ended
        ├── StateRejectedError    ValueError         a change was refused
        └── CommandError          RuntimeError       a command was refused or failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zmqruntime._errors import ZmqRuntimeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CommandError",
    "EnvelopeError",
    "SessionClosedError",
    "SessionError",
    "SessionRejectedError",
    "StateRejectedError",
    "code_for",
]


class SessionError(ZmqRuntimeError):
    """Root of what goes wrong in a session.

    Attributes
    ----------
    code
        Word of protocol 2, for example ``state.locked``.
    message
        What happened, for people.
    details
        More, for programs.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})


class EnvelopeError(SessionError, ValueError):
    """Text that is no envelope of this protocol.

    Attributes
    ----------
    raw
        The JSON object that was sent, as far as it is one; untrusted.
    """

    def __init__(self, code: str, message: str, raw: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, message)
        self.raw = dict(raw or {})

    @property
    def type_(self) -> str:
        """Its `type`, or empty."""
        found = self.raw.get("type")
        return found if isinstance(found, str) else ""

    @property
    def id(self) -> str:
        """Its `frame_id` or `id`, or empty."""
        return self._name("frame_id") or self._name("id")

    @property
    def intent_id(self) -> str:
        """Its `intent_id`, or empty."""
        return self._name("intent_id")

    @property
    def payload(self) -> dict[str, Any]:
        """Its payload, or empty."""
        found = self.raw.get("payload")
        return found if isinstance(found, dict) else {}

    def _name(self, key: str) -> str:
        found = self.raw.get(key)
        return found if isinstance(found, str) and 0 < len(found) <= 128 else ""


class SessionRejectedError(SessionError, PermissionError):
    """The server does not let this client in; an authenticator raises it to refuse."""


class SessionClosedError(SessionError, ConnectionError):
    """The session has ended, or there is no connection."""


class StateRejectedError(SessionError, ValueError):
    """A change was refused; a reducer raises it to refuse, with a code such as ``state.bad_value``.

    Attributes
    ----------
    conflict_with
        Who changed or holds the property meanwhile, or None.
    """

    conflict_with: Mapping[str, Any] | None = None


class CommandError(SessionError, RuntimeError):
    """A command was refused or failed; a handler raises it with a code of the application."""


_PROTOCOL_1 = {
    "command.busy": "Busy",
    "command.cancelled": "Cancelled",
    "command.deadline": "Timeout",
    "command.forbidden": "Forbidden",
    "command.invalid": "InvalidArguments",
    "command.not_found": "NotImplemented",
    "command.retryable": "Retryable",
    "command.too_large": "TooLarge",
    "command.error": "Failed",
    "invalid_json": "InvalidJson",
    "invalid_payload": "InvalidPayload",
    "too_large": "TooLarge",
    "unexpected_message": "UnexpectedMessage",
    "unknown_type": "UnknownType",
    "state.bad_value": "InvalidValue",
    "state.conflict": "Conflict",
    "state.error": "Failed",
    "state.forbidden": "Forbidden",
    "state.invalid": "InvalidPayload",
    "state.locked": "Locked",
    "state.rejected": "Rejected",
    "state.unsupported": "Unsupported",
}


def code_for(protocol: int, code: str) -> str:
    """Say how a protocol spells a code; those of an application are the same in both.

    Parameters
    ----------
    protocol
        1 or 2.
    code
        As protocol 2 spells it.

    Examples
    --------
    >>> code_for(1, "command.not_found"), code_for(2, "command.not_found")
    ('NotImplemented', 'command.not_found')
    """
    return _PROTOCOL_1.get(code, code) if protocol == 1 else code
