"""Errors of remote objects and their streams; each leaf is also the builtin that it stands for.

::

    RequestError
    └── RPCException        RuntimeError   the function that was called raised
    StreamError
    ├── ExposeError         ValueError     a name, function or stream that cannot be offered
    ├── StreamEmpty         zmq.Again      nothing has arrived, or not in time
    ├── StreamException     RuntimeError   the function of a stream raised; comes as data
    └── UnknownStreamError  LookupError    a stream that this client has not configured

Only text crosses a socket: the name of an exception's type, its message and its traceback. What
the server refuses (`ForbiddenError`, `NotFoundError`, `DeadlineError` and so on), and a server
that is gone (`PeerLostError`, `ControlTimeout`), are errors of zmqruntime itself.
"""

from __future__ import annotations

import traceback

import msgspec
import zmq

from zmqruntime._errors import RequestError, StreamError

__all__ = [
    "ExposeError",
    "RPCException",
    "Raised",
    "StreamEmpty",
    "StreamException",
    "UnknownStreamError",
]

_MOST_MESSAGE = 4 * 1024
_MOST_TRACEBACK = 24 * 1024


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """An exception as it crosses a socket: text.

    Attributes
    ----------
    type
        Name of its class, ``ValueError``; with its module where that is not the builtins.
    message
        What it said, at most 4 KiB.
    traceback
        Where it came from, the last 24 KiB; without the frames of zmqruntime that led there.
    """

    type: str
    message: str
    traceback: str = ""

    @classmethod
    def from_exception(cls, error: BaseException, *, skip: int = 0) -> Raised:
        """Describe an exception; whatever it does when asked for its text, this succeeds.

        Parameters
        ----------
        error
            The exception.
        skip
            Frames to leave out at the beginning of its traceback.
        """
        kind = type(error)
        module = kind.__module__
        name = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
        frames = error.__traceback__
        for _ in range(skip):
            if frames is not None and frames.tb_next is not None:
                frames = frames.tb_next
        try:
            message = str(error)
        except Exception as second:  # noqa: BLE001 - the exception belongs to the application
            message = f"(its text raised {type(second).__name__})"
        try:
            lines = traceback.format_exception(kind, error, frames)
        except Exception:  # noqa: BLE001 - as above
            lines = traceback.format_tb(frames)
        return cls(
            type=_clean(name, most=256),
            message=_clean(message, most=_MOST_MESSAGE),
            traceback=_clean("".join(lines), most=_MOST_TRACEBACK, end=True),
        )


class RPCException(RequestError, RuntimeError):  # noqa: N818 - named by the protocol
    """The function that was called raised, on the server.

    Parameters
    ----------
    code
        ``exception``, or the word with which a server of another make answered.
    message
        What the exception said.
    traceback_text
        Where it came from, for people.
    type_name
        Name of the exception's class, ``ValueError``.
    """

    code = "exception"

    def __init__(
        self, code: str, message: str, traceback_text: str = "", *, type_name: str = ""
    ) -> None:
        super().__init__(message, code=code)
        self.message = message
        self.traceback_text = traceback_text
        self.type_name = type_name

    def __str__(self) -> str:
        head = f"{self.type_name}: {self.message}" if self.type_name else self.message
        return f"{head}\n\nOn the server:\n{self.traceback_text}" if self.traceback_text else head


class StreamException(StreamError, RuntimeError):  # noqa: N818 - named by the protocol
    """The function of a stream raised; it takes the place of the data and the stream goes on.

    Parameters
    ----------
    code
        ``exception`` when the function raised, ``invalid`` when what it returned cannot travel.
    message
        What the exception said.
    traceback_text
        Where it came from, for people.
    type_name
        Name of the exception's class.
    """

    def __init__(
        self, code: str, message: str, traceback_text: str = "", *, type_name: str = ""
    ) -> None:
        super().__init__(f"{type_name}: {message}" if type_name else message)
        self.code = code
        self.message = message
        self.traceback_text = traceback_text
        self.type_name = type_name


class StreamEmpty(StreamError, zmq.Again):  # noqa: N818 - named by the protocol
    """Nothing has arrived, or not within the time that was given.

    Parameters
    ----------
    message
        Which stream, and how long was waited.
    """

    def __init__(self, message: str) -> None:
        zmq.Again.__init__(self)
        self.strerror = message


class ExposeError(StreamError, ValueError):
    """A name, function or stream that cannot be offered; nothing was changed."""


class UnknownStreamError(StreamError, LookupError):
    """A stream that this client has not configured."""


def _clean(text: str, *, most: int, end: bool = False) -> str:
    """Replace what UTF-8 cannot hold, and keep so many bytes of the beginning or the end."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= most:
        return data.decode()
    if end:
        return "..." + data[-most:].decode(errors="ignore")
    return data[:most].decode(errors="ignore") + "..."
