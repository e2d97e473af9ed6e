"""How a value is written: msgpack with typed buffers, JSON, or bytes of the application's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import DescriptorError, FrameError
from zmqruntime._typed import from_msgpack
from zmqruntime.router._buffers import BufferEntry, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Buffer

    Serializer = Callable[[Any], Buffer]
    Deserializer = Callable[[bytes], Any]

__all__ = ["JSON", "MSGPACK", "RAW", "Serializers", "Written", "decode", "encode"]

MSGPACK = "msgpack"
JSON = "json"
RAW = "raw"


class _Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A msgpack payload: the plain part, and which of the following bytes belong where."""

    value: Any = None
    buffers: tuple[BufferEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A value as frames.

    Attributes
    ----------
    encoding
        ``msgpack``, ``json``, ``raw``, or the name of one of the application's serializers.
    frames
        The payload, then the bytes of its buffers. They may look at memory of the value.
    """

    encoding: str
    frames: tuple[Buffer, ...]


class Serializers:
    """The encodings that a server knows by name.

    Parameters
    ----------
    named
        The application's own: functions from a value to bytes. They may have any name but those
        of the built-in ones.

    Raises
    ------
    ValueError
        If a name is taken.
    """

    def __init__(self, named: Mapping[str, Serializer] | None = None) -> None:
        self._named = dict(named or {})
        for name in self._named:
            if name in (MSGPACK, JSON, RAW) or not name:
                raise ValueError(f"{name!r} is an encoding of the router itself: choose another")

    def resolve(self, encoding: str | Serializer | None) -> tuple[str, Serializer | None]:
        """Say what an encoding is called, and which function it has.

        Parameters
        ----------
        encoding
            A name, a function from a value to bytes, or None for bytes as they are.

        Raises
        ------
        ValueError
            If no encoding has this name.
        """
        if encoding is None:
            return RAW, None
        if not isinstance(encoding, str):
            return RAW, encoding
        if encoding in self._named:
            return encoding, self._named[encoding]
        if encoding not in (MSGPACK, JSON, RAW):
            known = ", ".join([MSGPACK, JSON, RAW, *self._named])
            raise ValueError(f"encoding {encoding!r} is not known here: use {known}")
        return encoding, None


def encode(value: object, encoding: str, serializer: Serializer | None = None) -> Written:
    """Write a value.

    Parameters
    ----------
    value
        What to write.
    encoding
        ``msgpack``: plain values and buffers. ``json``: plain values alone. Any other: bytes.
    serializer
        Turns the value into bytes first.

    Raises
    ------
    FrameError
        If the encoding cannot hold the value. What the serializer raises is passed on.
    """
    if serializer is not None:
        value = serializer(value)
    elif encoding == MSGPACK:
        packed = pack(value)
        try:
            payload = msgspec.msgpack.encode(_Payload(value=packed.plain, buffers=packed.table))
        except (ValueError, OverflowError) as error:  # a number of more than 64 bits, half a pair
            raise FrameError(f"msgpack cannot hold the value: {error}") from error
        return Written(encoding, (payload, *packed.views))
    elif encoding == JSON:
        return Written(encoding, (_to_json(value),))
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # found out by trying
    except TypeError as error:
        raise FrameError(
            f"encoding {encoding!r} sends bytes as they are, not a {type(value).__qualname__}: "
            "give it a serializer, or use msgpack"
        ) from error
    return Written(encoding, (view if view.c_contiguous else view.tobytes(),))


def decode(encoding: str, frames: Sequence[Buffer], deserializer: Deserializer | None) -> Any:
    """Read a value.

    Parameters
    ----------
    encoding
        As it came.
    frames
        As they came, cut anywhere but for the first of msgpack.
    deserializer
        Turns the bytes into a value; for encodings that are neither msgpack nor json. None gives
        the bytes.

    Raises
    ------
    DescriptorError
        If the frames are not what the encoding says. What the deserializer raises is passed on.
    """
    try:
        if encoding == MSGPACK:
            payload = from_msgpack(frames[0], _Payload)
            return unpack(payload.value, payload.buffers, frames[1:])
        if encoding == JSON:
            return msgspec.json.decode(_joined(frames))
    except (msgspec.MsgspecError, LookupError, UnicodeDecodeError, RecursionError) as error:
        raise DescriptorError(f"what came is not {encoding}: {error}") from error
    whole = _joined(frames)
    return whole if deserializer is None else deserializer(whole)


def _joined(frames: Sequence[Buffer]) -> bytes:
    if len(frames) == 1 and isinstance(frames[0], bytes):
        return frames[0]
    return b"".join(frames)


def _to_json(value: object) -> bytes:
    packed = pack(value)
    if packed.table:
        where = "".join(f"[{step!r}]" for step in packed.table[0].at)
        raise FrameError(f"json cannot hold the buffer at value{where}: use msgpack")
    try:
        # unlike msgspec, the standard library can refuse what JSON has no word for
        text = json.dumps(packed.plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except (ValueError, RecursionError) as error:
        raise FrameError(f"json cannot hold the value: {error}") from error
