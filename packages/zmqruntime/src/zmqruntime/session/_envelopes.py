"""Envelope: the types of both protocols by name, and their text."""

from __future__ import annotations

import json
import math
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime.session import protocol1, protocol2
from zmqruntime.session._errors import EnvelopeError

if TYPE_CHECKING:
    from zmqruntime.session._shapes import Envelope

__all__ = [
    "MOST_BYTES",
    "PROTOCOLS",
    "canonical",
    "check_fits",
    "check_plain",
    "encode",
    "plain",
    "type_of",
    "types",
    "union",
]

PROTOCOLS = (1, 2)
"""Session protocols that this version speaks."""

MOST_BYTES = 1024 * 1024
"""Longest envelope of either protocol."""

_AROUND_BYTES = 8 * 1024  # most that names, numbers and tokens around a payload take

_BY_TYPE: dict[int, dict[str, type[Envelope]]] = {
    1: {str(each.__struct_config__.tag): each for each in protocol1.ENVELOPES},
    2: {str(each.__struct_config__.tag): each for each in protocol2.ENVELOPES},
}


def types(protocol: int) -> dict[str, type[Envelope]]:
    """Return the envelopes of a protocol by the text of their `type`.

    Parameters
    ----------
    protocol
        1 or 2.
    """
    return dict(_BY_TYPE[protocol])


def union(protocol: int) -> Any:
    """Return the type that is any envelope of a protocol, for msgspec to decode or describe.

    Parameters
    ----------
    protocol
        1 or 2.
    """
    shapes: tuple[Any, ...] = tuple(_BY_TYPE[protocol].values())
    return reduce(or_, shapes)


def type_of(envelope: Envelope | type[Envelope]) -> str:
    """Say the `type` of an envelope, for example ``notify.state``."""
    return str(envelope.__struct_config__.tag)


def encode(envelope: Envelope) -> bytes:
    """Write an envelope as JSON text.

    Parameters
    ----------
    envelope
        What to write; fields that are UNSET are left out.

    Returns
    -------
    bytes
        UTF-8.

    Raises
    ------
    EnvelopeError
        With the code ``invalid_payload``, if it holds something that JSON cannot say: bytes, an
        object of another kind, NaN or an infinity.
    """
    try:
        return msgspec.json.encode(plain(envelope))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EnvelopeError(
            "invalid_payload", f"{type_of(envelope)} can only hold plain values: {error}"
        ) from error


def plain(value: object) -> Any:
    """Return a value as the maps, lists and scalars that JSON will say.

    Raises
    ------
    TypeError, ValueError
        As for `check_plain`.
    """
    # bytes are passed on for the check to refuse: msgspec would write them as base64
    found = msgspec.to_builtins(value, builtin_types=(bytes, bytearray, memoryview))
    check_plain(found)
    return found


def check_fits(value: object, what: str) -> None:
    """Check that an envelope can hold a value.

    Parameters
    ----------
    value
        One that is plain.
    what
        What it is, for people.

    Raises
    ------
    ValueError
        If it is too long.
    """
    nbytes, most = len(msgspec.json.encode(value)), MOST_BYTES - _AROUND_BYTES
    if nbytes > most:
        raise ValueError(
            f"{what} takes {nbytes} bytes and at most {most} reach a client: send a reference to "
            "what is large instead"
        )


def canonical(text: bytes | str) -> bytes:
    """Write JSON text in the one way that is the same for equal content.

    Parameters
    ----------
    text
        One JSON value.

    Returns
    -------
    bytes
        Keys sorted, no white space, no escapes that are not needed, and whole floats without
        their ``.0``, as in RFC 8785.

    Raises
    ------
    ValueError
        If the text is not JSON.
    """

    def whole(digits: str) -> float | int:
        value = float(digits)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value

    value = json.loads(text, parse_float=whole)
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def check_plain(value: object) -> None:
    """Check that a value is one that JSON can say.

    Raises
    ------
    TypeError
        If it holds an object of another kind, or a key that is no text.
    ValueError
        If it holds NaN, an infinity, or text that is not Unicode, such as the name of a file that
        cannot be decoded.
    """
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            for key in each:
                if not isinstance(key, str):
                    raise TypeError(f"a key is {key!r}, which is no text")
                if not key.isascii():
                    key.encode()
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
        elif isinstance(each, str):
            if not each.isascii():
                each.encode()  # a lone surrogate is an error here, and not on the way out
        elif isinstance(each, float):
            if not math.isfinite(each):
                raise ValueError(f"{each} is no number of JSON")
        elif each is not None and not isinstance(each, int):
            raise TypeError(f"a {type(each).__name__} is not plain")
