"""Frames to messages and back: msgpack or JSON, with every cap checked before it matters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import msgspec

from zmqruntime._errors import FrameError, FrameTooLargeError
from zmqruntime._typed import from_json, from_msgpack
from zmqruntime.control._messages import Envelope, ReplyMessage, RequestMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zmqruntime.control._messages import Message

__all__ = [
    "MOST_ATTACHMENTS",
    "Encoding",
    "Limits",
    "check_attachments",
    "check_counts",
    "check_lengths",
    "decode_envelope",
    "decode_reply",
    "decode_request",
    "encode",
    "encoding_of",
]

M = TypeVar("M", Envelope, RequestMessage, ReplyMessage)


MOST_ATTACHMENTS = 62

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})


class Encoding(StrEnum):
    """How a message is written; a reply uses that of its request."""

    MSGPACK = "msgpack"
    JSON = "json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Caps on what a peer may send; they can be lowered, not raised.

    Parameters
    ----------
    stranger_bytes
        Longest frame before the peer has shown a token.
    frame_bytes
        Longest message frame of a type that is not in `large_types`.
    request_bytes
        Longest message frame of a large type, and longest whole request.
    frames
        Most frames in one message, the message frame included.
    depth
        Deepest nesting of a body.
    items
        Most values in a body, maps and lists included.
    large_types
        Types whose bodies are text or configuration.

    Raises
    ------
    ValueError
        If a cap is above its default or not positive.
    """

    stranger_bytes: int = 4 * 1024
    frame_bytes: int = 64 * 1024
    request_bytes: int = 16 * 1024 * 1024
    frames: int = 63
    depth: int = 32
    items: int = 100_000
    large_types: frozenset[str] = frozenset({"command", "submit"})

    def __post_init__(self) -> None:
        for name in ("stranger_bytes", "frame_bytes", "request_bytes", "frames", "depth", "items"):
            most = type(self).__dataclass_fields__[name].default
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 to {most}")


def encoding_of(frame: bytes) -> Encoding:
    """Say how a frame is written.

    Parameters
    ----------
    frame
        Message frame.

    Returns
    -------
    Encoding
        JSON when the first byte is ``{``, which never begins a msgpack map.
    """
    return Encoding.JSON if frame[:1] == b"{" else Encoding.MSGPACK


def encode(message: Message, encoding: Encoding = Encoding.MSGPACK) -> bytes:
    """Write a message.

    Parameters
    ----------
    message
        What to write.
    encoding
        JSON writes bytes values as base64 text, and NaN and infinities as null.

    Returns
    -------
    bytes
        One message frame.

    Raises
    ------
    FrameError
        If the body holds something that is not plain.
    """
    try:
        if encoding is Encoding.JSON:
            return msgspec.json.encode(message)
        return msgspec.msgpack.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FrameError(f"a body can only hold plain values: {error}") from error


def decode_envelope(frame: bytes) -> Envelope:
    """Read type and token of a request and skip the rest without keeping it.

    Raises
    ------
    FrameError
        If the frame is not a request.
    """
    return _decode(frame, Envelope)


def decode_request(frame: bytes) -> RequestMessage:
    """Read a request.

    Raises
    ------
    FrameError
        If the frame is not a request; the message says where.
    """
    return _decode(frame, RequestMessage)


def decode_reply(frame: bytes) -> ReplyMessage:
    """Read a reply, or a push, which is a reply to no request.

    Raises
    ------
    FrameError
        If the frame is neither.
    """
    return _decode(frame, ReplyMessage)


def check_lengths(frames: Sequence[bytes], *, type_: str, limits: Limits) -> None:
    """Compare the frames of one message with the caps of its type.

    Parameters
    ----------
    frames
        Message frame and attachments.
    type_
        Type of the message.
    limits
        The caps.

    Raises
    ------
    FrameTooLargeError
        If there are too many, or too long ones.
    """
    if len(frames) > limits.frames:
        raise FrameTooLargeError(f"{len(frames)} frames: at most {limits.frames} are allowed")
    most = limits.request_bytes if type_ in limits.large_types else limits.frame_bytes
    if len(frames[0]) > most:
        raise FrameTooLargeError(
            f"message frame of {type_!r} is {len(frames[0])} bytes: at most {most} are allowed"
        )
    total = sum(map(len, frames))
    if total > limits.request_bytes:
        raise FrameTooLargeError(
            f"request of {total} bytes: at most {limits.request_bytes} are allowed"
        )


def check_attachments(attachments: Sequence[bytes]) -> None:
    """Check what is to follow a message, before its first frame is sent.

    Parameters
    ----------
    attachments
        Frames to send.

    Raises
    ------
    FrameError
        If there are too many, or one is not contiguous bytes. Found out halfway, it would leave a
        message without an end, and the next one, which may be for somebody else, would be its end.
    """
    if len(attachments) > MOST_ATTACHMENTS:
        raise FrameError(f"{len(attachments)} attachments: at most {MOST_ATTACHMENTS} are allowed")
    for number, frame in enumerate(attachments, 1):
        if type(frame) is bytes:
            continue
        try:
            whole = memoryview(frame).contiguous
        except TypeError:
            kind = type(frame).__name__
            raise FrameError(f"attachment {number} is a {kind}: expected bytes") from None
        if not whole:
            raise FrameError(f"attachment {number} is not contiguous: copy it first")


def check_counts(body: dict[str, object], limits: Limits) -> None:
    """Check that a decoded body is plain, and neither deep nor crowded.

    Parameters
    ----------
    body
        As decoded.
    limits
        The caps.

    Raises
    ------
    FrameTooLargeError
        If it nests too deep or holds too many values.
    FrameError
        If it holds a key that is not text, or an extension type.
    """
    count = 0
    level: list[object] = [body]
    for _ in range(limits.depth + 1):
        count += len(level)
        if count > limits.items:
            raise FrameTooLargeError(f"body holds more than {limits.items} values")
        deeper: list[object] = []
        for value in level:
            kind = type(value)  # decoders make no subclasses
            if kind in _PLAIN:
                continue
            if isinstance(value, dict):
                for key in value:
                    if type(key) is not str:
                        raise FrameError("a map in the body has a key that is not text")
                deeper.extend(value.values())
            elif isinstance(value, list):
                deeper.extend(value)
            else:
                raise FrameError(f"the body holds a {kind.__name__}, which is not plain")
        if not deeper:
            return
        level = deeper
    raise FrameTooLargeError(f"body nests deeper than {limits.depth}")


def _decode(frame: bytes, shape: type[M]) -> M:
    try:
        if frame[:1] == b"{":
            return from_json(frame, shape)
        return from_msgpack(frame, shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"not a message of this protocol: {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        # unhashable map keys, timestamps out of range, nesting beyond the interpreter's limit
        raise FrameError(f"not a message of this protocol: {error}") from error
