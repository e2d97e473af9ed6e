"""What remote objects and streams put on the wire, and the timestamp that comes with it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from zmqruntime.router._buffers import BufferEntry
from zmqruntime.router._errors import ExposeError, Raised

__all__ = [
    "MOST_HOPS",
    "PROTOCOL",
    "CallBody",
    "Done",
    "NamedCallBody",
    "RouteBody",
    "StreamHeader",
    "StreamName",
    "Timestamp",
    "check_stream_name",
]

PROTOCOL = 1
"""Version of the messages of this page."""

MOST_HOPS = 8
"""Most servers that a stream may pass through, its origin included."""

_MOST_NAME = 200

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=_MOST_NAME)]


@dataclass(frozen=True, slots=True)
class Timestamp:
    """When something was true, and by whose clocks.

    Attributes
    ----------
    wall_ns
        Nanoseconds since the epoch; comparable across computers as far as their clocks agree.
    mono_ns
        Nanoseconds of a clock that is never set, for intervals; means nothing beside another
        `server_id` or after a reboot.
    server_id
        Which server's clocks these are.
    """

    wall_ns: int
    mono_ns: int
    server_id: str

    @classmethod
    def now(cls, server_id: str) -> Timestamp:
        """Read both clocks."""
        return cls(time.time_ns(), time.monotonic_ns(), server_id)


class CallBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``call``."""

    obj: _Name
    attr: _Name
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    buffers: tuple[BufferEntry, ...] = ()
    encoding: _Name = "msgpack"


class NamedCallBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``call_named``; `args` is a list, or a map from an index in decimal to a value."""

    name: _Name
    args: list[Any] | dict[str, Any] = []
    kwargs: dict[str, Any] = {}
    buffers: tuple[BufferEntry, ...] = ()
    encoding: _Name = "msgpack"


class Done(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of the answer to a call.

    With msgpack the value stands here, its buffers in the attachments; with any other encoding
    the attachments are the value.
    """

    encoding: _Name = "msgpack"
    wall_ns: int
    mono_ns: int
    server: str
    value: Any = None
    buffers: tuple[BufferEntry, ...] = ()


class StreamName(msgspec.Struct, frozen=True, kw_only=True):
    """Body of what asks to change one stream."""

    name: _Name


class RouteBody(msgspec.Struct, frozen=True, kw_only=True):
    """Body of ``get_route``: through which servers a stream comes, and who wants to know."""

    name: _Name
    via: Annotated[tuple[_Name, ...], msgspec.Meta(max_length=MOST_HOPS)] = ()


class StreamHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header of every payload of a stream.

    Attributes
    ----------
    v
        `PROTOCOL`.
    encoding
        How the payload is written.
    wall_ns, mono_ns, server
        When it was true, by the clocks of the server it comes from.
    path
        Servers it came through, the origin first.
    raised
        What the function of the stream raised, instead of a payload.
    code
        ``exception``, or ``invalid`` when what the function returned cannot travel.
    """

    v: int = PROTOCOL
    encoding: _Name = "msgpack"
    wall_ns: int
    mono_ns: int
    server: Annotated[str, msgspec.Meta(max_length=128)]
    path: Annotated[tuple[str, ...], msgspec.Meta(max_length=MOST_HOPS)] = ()
    raised: Raised | None = None
    code: str = "exception"

    @property
    def timestamp(self) -> Timestamp:
        """When the payload was true."""
        return Timestamp(self.wall_ns, self.mono_ns, self.server)


def check_stream_name(name: str) -> str:
    """Return the name of a stream, if it can be one.

    Raises
    ------
    ExposeError
        If it is empty, longer than 200 bytes, or no text that UTF-8 can hold without NUL.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ExposeError(f"stream name {name!r} cannot be written in UTF-8") from error
    if not 1 <= size <= _MOST_NAME or "\0" in name:
        raise ExposeError(
            f"stream name {name!r} has to have 1 to {_MOST_NAME} bytes, none of them 0"
        )
    return name
