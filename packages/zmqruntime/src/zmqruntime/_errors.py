"""Errors of zmqruntime; each leaf is also the builtin exception that it stands for.

::

    ZmqRuntimeError
    ├── EndpointError
    │   ├── InvalidEndpointError    ValueError        no such address can exist
    │   ├── InsecureBindError       PermissionError   an open address without keys
    │   └── EndpointInUse           OSError           somebody else serves there
    ├── FrameError                  ValueError        bytes that are no message of ours
    │   └── FrameTooLargeError      ValueError        more bytes or frames than allowed
    ├── PeerError
    │   ├── ControlTimeout          TimeoutError      no answer before the deadline
    │   ├── PeerLostError           ConnectionError   the other process is gone
    │   ├── HandshakeError          ConnectionError   hello was refused or not understood
    │   └── LoopStoppedError        ConnectionError   our own I/O thread has ended
    ├── RequestError                                  the server refused, and said why
    │   ├── BusyError               RuntimeError      busy
    │   ├── CancelledRequestError   RuntimeError      cancelled
    │   ├── ConflictError           RuntimeError      conflict
    │   ├── DeadlineError           TimeoutError      deadline
    │   ├── ForbiddenError          PermissionError   forbidden, unauthenticated
    │   ├── InternalError           RuntimeError      internal
    │   ├── InvalidRequestError     ValueError        bad_frame, invalid, too_large, unknown_type
    │   ├── NotFoundError           LookupError       not_found
    │   └── UnavailableError        ConnectionError   unavailable, unsupported_version
    ├── SecurityError
    │   ├── ExposedKeyError         PermissionError   others can read a secret, or put one there
    │   ├── KeyFileError            ValueError        a key or its file is missing or damaged
    │   └── TokenError              PermissionError   a token or ticket that does not open this
    ├── ServiceError
    │   ├── ServiceStartError       RuntimeError      a service did not come up
    │   └── ServiceStopError        RuntimeError      a service did not go away
    └── StreamError
        ├── DescriptorError         ValueError        a peer describes data that cannot be
        ├── LeaseInUseError         BufferError       an array still refers to leased memory
        ├── LeaseReleasedError      ValueError        a lease was used after its end
        ├── NotAttachedError        ConnectionError   no receiver takes part in the stream
        ├── PayloadTooLargeError    ValueError        more bytes than a payload may have
        ├── PublishTimeoutError     TimeoutError      the receiver granted no room in time
        └── StaleSlotError          LookupError       leased memory was overwritten meanwhile
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BusyError",
    "CancelledRequestError",
    "ConflictError",
    "ControlTimeout",
    "DeadlineError",
    "DescriptorError",
    "EndpointError",
    "EndpointInUse",
    "ExposedKeyError",
    "ForbiddenError",
    "FrameError",
    "FrameTooLargeError",
    "HandshakeError",
    "InsecureBindError",
    "InternalError",
    "InvalidEndpointError",
    "InvalidRequestError",
    "KeyFileError",
    "LeaseInUseError",
    "LeaseReleasedError",
    "LoopStoppedError",
    "NotAttachedError",
    "NotFoundError",
    "PayloadTooLargeError",
    "PeerError",
    "PeerLostError",
    "PublishTimeoutError",
    "RequestError",
    "SecurityError",
    "ServiceError",
    "ServiceStartError",
    "ServiceStopError",
    "StaleSlotError",
    "StreamError",
    "TokenError",
    "UnavailableError",
    "ZmqRuntimeError",
    "request_error",
]


class ZmqRuntimeError(Exception):
    """Root of all errors that zmqruntime raises on purpose."""


class EndpointError(ZmqRuntimeError):
    """An address cannot be used."""


class InvalidEndpointError(EndpointError, ValueError):
    """A host, port or transport that cannot exist."""


class InsecureBindError(EndpointError, PermissionError):
    """A bind that anybody on the network could reach, without keys."""


class EndpointInUse(EndpointError, OSError):  # noqa: N818 - a state of the world, as errno says it
    """Somebody else already serves at this address; nothing was signalled or removed.

    Attributes
    ----------
    pid
        Process that holds the address, or None when it cannot be seen.
    app
        What it calls itself, or None when unknown.
    since
        When it took the address, seconds since the epoch, or None when unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        app: str | None = None,
        since: float | None = None,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.app = app
        self.since = since


class FrameError(ZmqRuntimeError, ValueError):
    """Bytes that are not a message of this protocol."""


class FrameTooLargeError(FrameError):
    """A message with more bytes, frames, items or depth than its kind may have."""


class PeerError(ZmqRuntimeError):
    """The other side cannot be talked to."""


class ControlTimeout(PeerError, TimeoutError):  # noqa: N818 - named by the protocol
    """No answer came before the deadline; the peer may still be alive."""


class PeerLostError(PeerError, ConnectionError):
    """The connection to the peer is gone."""


class HandshakeError(PeerError, ConnectionError):
    """A hello was refused, or its answer could not be understood."""


class LoopStoppedError(PeerError, ConnectionError):
    """The I/O thread that should have done this has ended."""


class RequestError(ZmqRuntimeError):
    """The server refused a request; a handler raises one to refuse.

    Attributes
    ----------
    code
        Word of the protocol, for example ``not_found``.
    details
        What the server added for a program to read.
    retryable
        Whether the same request may succeed later.
    """

    code = "internal"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.details = dict(details or {})
        self.retryable = retryable


class BusyError(RequestError, RuntimeError):
    """The server has too much to do at the moment."""

    code = "busy"


class CancelledRequestError(RequestError, RuntimeError):
    """The work was cancelled before it was done."""

    code = "cancelled"


class ConflictError(RequestError, RuntimeError):
    """The request contradicts what the server already holds."""

    code = "conflict"


class DeadlineError(RequestError, TimeoutError):
    """The deadline had passed before the server could begin."""

    code = "deadline"


class ForbiddenError(RequestError, PermissionError):
    """The peer may not do this."""

    code = "forbidden"


class InternalError(RequestError, RuntimeError):
    """A handler failed; the server's log has the traceback."""

    code = "internal"


class InvalidRequestError(RequestError, ValueError):
    """The request is not one that the server understands."""

    code = "invalid"


class NotFoundError(RequestError, LookupError):
    """What was asked for does not exist."""

    code = "not_found"


class UnavailableError(RequestError, ConnectionError):
    """The server cannot do this now, or not with this peer."""

    code = "unavailable"


class SecurityError(ZmqRuntimeError):
    """Something about keys, tokens or tickets."""


class ExposedKeyError(SecurityError, PermissionError):
    """A file or folder of secrets that other users can reach; it is not used."""


class KeyFileError(SecurityError, ValueError):
    """A key, or the file that should hold one, is missing or not what it should be."""


class TokenError(SecurityError, PermissionError):
    """A token or ticket does not open this, any more, or to this peer."""


class ServiceError(ZmqRuntimeError):
    """A service process did not do as told."""


class ServiceStartError(ServiceError, RuntimeError):
    """A service did not come up.

    Attributes
    ----------
    step
        What was being done, for example ``start``.
    command
        Command line of the process, empty when none was started.
    log_tail
        Last lines of its log, empty when there is none.
    """

    def __init__(
        self, message: str, *, step: str, command: tuple[str, ...] = (), log_tail: str = ""
    ) -> None:
        super().__init__(message)
        self.step = step
        self.command = command
        self.log_tail = log_tail


class ServiceStopError(ServiceError, RuntimeError):
    """A service is still there after it was asked to stop."""


class StreamError(ZmqRuntimeError):
    """Something about the data channel."""


class DescriptorError(StreamError, ValueError):
    """A peer describes data that cannot be, or that are not its own; nothing was opened."""


class LeaseInUseError(StreamError, BufferError):
    """An array still refers to leased memory; the lease goes on."""


class LeaseReleasedError(StreamError, ValueError):
    """A lease was used after its end."""


class NotAttachedError(StreamError, ConnectionError):
    """No receiver takes part in the stream; nothing was sent."""


class PayloadTooLargeError(StreamError, ValueError):
    """A payload or its header has more bytes than it may have; nothing was sent."""


class PublishTimeoutError(StreamError, TimeoutError):
    """The receiver granted no room before the time was over; nothing was sent."""


class StaleSlotError(StreamError, LookupError):
    """The sender has overwritten leased memory; the payload is lost, or torn."""


_BY_CODE: dict[str, type[RequestError]] = {
    "bad_frame": InvalidRequestError,
    "busy": BusyError,
    "cancelled": CancelledRequestError,
    "conflict": ConflictError,
    "deadline": DeadlineError,
    "forbidden": ForbiddenError,
    "internal": InternalError,
    "invalid": InvalidRequestError,
    "not_found": NotFoundError,
    "too_large": InvalidRequestError,
    "unauthenticated": ForbiddenError,
    "unavailable": UnavailableError,
    "unknown_type": InvalidRequestError,
    "unsupported_version": UnavailableError,
}


def request_error(
    code: str, message: str, *, details: Mapping[str, Any] | None = None, retryable: bool = False
) -> RequestError:
    """Make the error that a code of the protocol stands for.

    Parameters
    ----------
    code
        Word of the protocol; an unknown one gives a plain `RequestError`.
    message
        What the server wrote.
    details
        What it added.
    retryable
        Whether the same request may succeed later.

    Returns
    -------
    RequestError
        The leaf for the code, not raised.
    """
    kind = _BY_CODE.get(code, RequestError)
    return kind(message, code=code, details=details, retryable=retryable)
