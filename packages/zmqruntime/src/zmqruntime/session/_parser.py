"""Parser: bytes to an envelope, or an error by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from zmqruntime._typed import from_plain
from zmqruntime.session import protocol1
from zmqruntime.session._envelopes import MOST_BYTES, PROTOCOLS, types
from zmqruntime.session._errors import EnvelopeError
from zmqruntime.session._shapes import Auth, Body, Client, Envelope, Id

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EnvelopeLimits", "Hello", "Parsed", "parse", "parse_hello", "read_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopeLimits:
    """Caps on one envelope; they can be lowered, not raised.

    Parameters
    ----------
    stranger_bytes
        Longest text before the session is open.
    nbytes
        Longest text.
    depth
        Deepest nesting.
    items
        Most values, objects and arrays included.

    Raises
    ------
    ValueError
        If a cap is above its default or not positive.
    """

    stranger_bytes: int = 4 * 1024
    nbytes: int = MOST_BYTES
    depth: int = 32
    items: int = 100_000

    def __post_init__(self) -> None:
        for name in ("stranger_bytes", "nbytes", "depth", "items"):
            most = type(self).__dataclass_fields__[name].default
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 1 to {most}")


@dataclass(frozen=True, slots=True)
class Parsed:
    """An envelope, and which keys of its payload nobody here knows.

    Attributes
    ----------
    envelope
        The typed value.
    unknown
        Paths below ``payload``, for example ``meta.colour``.
    """

    envelope: Envelope
    unknown: tuple[str, ...] = ()


class HelloPayload(Body, frozen=True, kw_only=True):
    """What a hello of either form may say."""

    client: Client
    protocol: int | UnsetType = UNSET
    protocols: list[int] | UnsetType = UNSET
    auth: Auth | UnsetType = UNSET
    extras: protocol1.Extras | UnsetType = UNSET
    features: dict[str, bool] | UnsetType = UNSET
    resume_tokens: dict[str, str | None] | UnsetType = UNSET


class _HelloEnvelope(Envelope, frozen=True, kw_only=True, tag="session.hello"):
    payload: HelloPayload
    id: Id | UnsetType = UNSET
    frame_id: Id | UnsetType = UNSET
    version: int | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A hello of either form, read before it is known which protocol is spoken.

    Attributes
    ----------
    protocols
        What the client speaks.
    client
        What it is.
    auth
        What it shows, or None.
    features
        Topics it wants, by their names in protocol 2; those of protocol 1 are mapped.
    resume_tokens
        What it has of each topic.
    id, frame_id
        How it named the envelope; at most one is not None.
    form
        Protocol whose form the envelope has.
    """

    protocols: tuple[int, ...]
    client: Client
    auth: Auth | None
    features: dict[str, bool]
    resume_tokens: dict[str, str | None]
    id: str | None
    frame_id: str | None
    form: int

    def choose(self, spoken: Sequence[int] = PROTOCOLS) -> int | None:
        """Return the highest protocol that both sides speak, or None."""
        return max(set(self.protocols) & set(spoken), default=None)


def read_json(data: bytes | str, limits: EnvelopeLimits, *, most: int | None = None) -> Any:
    """Read one JSON value within the caps.

    Parameters
    ----------
    data
        UTF-8 text.
    limits
        The caps.
    most
        Cap on the length in bytes, instead of that of `limits`.

    Returns
    -------
    Any
        Plain values.

    Raises
    ------
    EnvelopeError
        With the code ``too_large`` or ``invalid_json``.
    """
    most = limits.nbytes if most is None else most
    if len(data) > most:
        raise EnvelopeError(
            "too_large", f"envelope of {len(data)} bytes: at most {most} are allowed"
        )
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EnvelopeError("invalid_json", f"not JSON: {error}") from error
    _check_counts(value, limits)
    return value


def parse(data: bytes | str, protocol: int, limits: EnvelopeLimits | None = None) -> Parsed:
    """Read an envelope of a protocol.

    Parameters
    ----------
    data
        UTF-8 text.
    protocol
        1 or 2.
    limits
        Caps; None are the default ones.

    Returns
    -------
    Parsed
        The envelope, and the keys of its payload that were ignored.

    Raises
    ------
    EnvelopeError
        With the code ``too_large``, ``invalid_json``, ``unknown_type`` or ``invalid_payload``.
    """
    value = read_json(data, limits or EnvelopeLimits())
    type_ = _type_of(value)
    shape = types(protocol).get(type_)
    if shape is None:
        raise EnvelopeError(
            "unknown_type", f"protocol {protocol} has no envelope of type {type_[:80]!r}", value
        )
    try:
        envelope = from_plain(value, shape)
    except (msgspec.ValidationError, RecursionError) as error:
        raise EnvelopeError("invalid_payload", f"{type_}: {error}", value) from error
    unknown: list[str] = []
    _find_unknown(value.get("payload"), getattr(envelope, "payload", None), "", unknown)
    return Parsed(envelope, tuple(unknown))


def parse_hello(data: bytes | str, limits: EnvelopeLimits | None = None) -> Hello:
    """Read the first envelope of a client, in the form of either protocol.

    Parameters
    ----------
    data
        UTF-8 text.
    limits
        Caps; that for strangers is applied.

    Returns
    -------
    Hello
        What it says.

    Raises
    ------
    EnvelopeError
        With the code ``too_large``, ``invalid_json``, ``unexpected_message`` if it is another
        envelope, or ``invalid_payload``.
    """
    limits = limits or EnvelopeLimits()
    value = read_json(data, limits, most=limits.stranger_bytes)
    type_ = _type_of(value)
    if type_ != "session.hello":
        raise EnvelopeError(
            "unexpected_message", f"expected session.hello, got {type_[:80]!r}", value
        )
    try:
        envelope = from_plain(value, _HelloEnvelope)
        return _hello_of(envelope)
    except (msgspec.ValidationError, ValueError, RecursionError) as error:
        raise EnvelopeError("invalid_payload", f"session.hello: {error}", value) from error


def _hello_of(envelope: _HelloEnvelope) -> Hello:
    payload = envelope.payload
    if envelope.id is not UNSET and envelope.frame_id is not UNSET:
        raise ValueError("id and frame_id exclude each other")
    if payload.protocols is not UNSET:
        protocols = tuple(payload.protocols)
    elif payload.protocol is not UNSET:
        protocols = (payload.protocol,)
    else:
        raise ValueError("one of protocol and protocols is required")
    features = dict(payload.features) if payload.features is not UNSET else {}
    if payload.extras is not UNSET and payload.extras.features is not UNSET:
        for name in protocol1.FEATURES:
            features.setdefault(
                name.replace("_", ".", 1), bool(getattr(payload.extras.features, name))
            )
    tokens = payload.resume_tokens
    return Hello(
        protocols=protocols,
        client=payload.client,
        auth=payload.auth if payload.auth is not UNSET else None,
        features=features,
        resume_tokens=dict(tokens) if tokens is not UNSET else {},
        id=envelope.id if envelope.id is not UNSET else None,
        frame_id=envelope.frame_id if envelope.frame_id is not UNSET else None,
        form=2 if envelope.frame_id is not UNSET or envelope.version == 2 else 1,
    )


def _type_of(value: Any) -> str:
    """Read the type of whatever was sent, without trust."""
    if not isinstance(value, dict):
        raise EnvelopeError("invalid_payload", f"expected an object, got {type(value).__name__}")
    found = value.get("type")
    return found if isinstance(found, str) else ""


def _check_counts(value: Any, limits: EnvelopeLimits) -> None:
    count, level = 0, [value]
    for _ in range(limits.depth + 1):
        count += len(level)
        if count > limits.items:
            raise EnvelopeError("too_large", f"envelope holds more than {limits.items} values")
        deeper: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                deeper.extend(each.values())
            elif isinstance(each, list):
                deeper.extend(each)
        if not deeper:
            return
        level = deeper
    raise EnvelopeError("too_large", f"envelope nests deeper than {limits.depth}")


def _find_unknown(raw: Any, typed: Any, path: str, found: list[str]) -> None:
    """Compare what was sent with what was understood of it."""
    if isinstance(raw, dict) and isinstance(typed, msgspec.Struct):
        names = dict(zip(typed.__struct_encode_fields__, typed.__struct_fields__, strict=True))
        for key, value in raw.items():
            if key in names:
                _find_unknown(value, getattr(typed, names[key]), f"{path}{key}.", found)
            else:
                found.append(f"{path}{key}")
    elif isinstance(raw, dict) and isinstance(typed, dict):
        for key, value in raw.items():
            if isinstance(typed.get(key), msgspec.Struct):
                _find_unknown(value, typed[key], f"{path}{key}.", found)
