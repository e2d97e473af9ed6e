"""Messages of the control channel, as they cross the socket and as handlers see them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from zmqruntime._errors import InvalidRequestError
from zmqruntime._typed import from_plain

if TYPE_CHECKING:
    import builtins

__all__ = [
    "V_MAX",
    "V_MIN",
    "Envelope",
    "Message",
    "PushMessage",
    "Reply",
    "ReplyMessage",
    "Request",
    "RequestMessage",
]

V_MIN = 1
V_MAX = 1
"""Lowest and highest control protocol that this version speaks."""

T = TypeVar("T")

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Label = Annotated[str, msgspec.Meta(max_length=64)]
_Secret = Annotated[str, msgspec.Meta(max_length=2048)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of what crosses the control socket; fields that are not known are ignored."""


class Envelope(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The two fields of a request that decide whether the rest is worth decoding."""

    type: _Word
    token: _Secret | None = None


class RequestMessage(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A request on the wire; an empty `id` asks for no reply."""

    v: int
    type: _Word
    id: _Label = ""
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    deadline_ms: Annotated[int, msgspec.Meta(ge=0)] = 5000
    token: _Secret | None = None
    key: _Word | None = None
    trace: _Label | None = None


class ReplyMessage(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A reply on the wire; an error has the type ``error`` and the last four fields.

    A client reads a push as a reply without `id`.
    """

    v: int
    type: _Word
    id: _Label = ""
    body: dict[str, Any] = msgspec.field(default_factory=dict)
    trace: _Label | None = None
    code: str = ""
    message: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    retryable: bool = False


class PushMessage(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A message that nobody asked for."""

    v: int
    type: _Word
    body: dict[str, Any] = msgspec.field(default_factory=dict)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its handler sees it.

    Attributes
    ----------
    type
        Which handler was meant.
    body
        Plain values: None, bool, int, float, str, bytes, lists and maps with str keys.
    attachments
        Frames that followed the message, undecoded.
    id
        Of the peer's choosing; empty when no reply is wanted.
    key
        Idempotency key, or None.
    trace
        Label for logs, or None.
    due
        Monotonic second at which the peer stops waiting.

    Notes
    -----
    One is made for each message: a Struct takes a fifth of the time of a frozen dataclass.
    """

    type: str
    body: dict[str, Any]
    attachments: tuple[bytes, ...] = ()
    id: str = ""
    key: str | None = None
    trace: str | None = None
    due: float = float("inf")

    @property
    def expired(self) -> bool:
        """Whether the peer has stopped waiting."""
        return time.monotonic() >= self.due

    def parse(self, shape: builtins.type[T]) -> T:
        """Read the body as a typed value.

        Parameters
        ----------
        shape
            A `msgspec.Struct`, dataclass or other type that msgspec can convert to.

        Returns
        -------
        T
            The checked value.

        Raises
        ------
        InvalidRequestError
            If the body does not fit; the message says where.
        """
        try:
            return from_plain(self.body, shape)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"body of {self.type!r}: {error}") from error


class Reply(msgspec.Struct, frozen=True):
    """What a handler answers when a body alone does not say it.

    Attributes
    ----------
    body
        Plain values.
    type
        Type of the reply.
    attachments
        Frames to send after the message, at most 62.
    """

    body: Mapping[str, Any] = msgspec.field(default_factory=dict)
    type: str = "ok"
    attachments: tuple[bytes, ...] = ()
