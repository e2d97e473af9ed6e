"""What envelopes of both protocols are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

__all__ = [
    "Auth",
    "Body",
    "Client",
    "ClientMark",
    "Code",
    "Envelope",
    "Id",
    "Name",
    "Number",
    "Phase",
    "Reference",
    "Seq",
]

Number = int | float
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Code = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Seq = Annotated[int, msgspec.Meta(ge=0)]
Phase = Annotated[str, msgspec.Meta(pattern="^(start|update|commit)$")]


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Base of payloads and their parts.

    A field that is absent is `msgspec.UNSET`, never None: null is a value, and only where a
    field says so. Keys that are not known are ignored; the parser counts them.
    """


class Envelope(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """Base of envelopes; a key that is not known is refused.

    Attributes
    ----------
    timestamp
        Seconds since the epoch, by the sender's clock; for diagnostics.
    """

    timestamp: Number


class Client(Body, frozen=True, kw_only=True):
    """What program a client is."""

    name: Name
    version: Annotated[str, msgspec.Meta(max_length=128)]
    platform: Name | UnsetType = UNSET


class ClientMark(Body, frozen=True, kw_only=True):
    """Which change of which client a notification echoes; the client chose both."""

    id: Id
    seq: Seq


class Auth(Body, frozen=True, kw_only=True):
    """What a client shows to be let in.

    Attributes
    ----------
    type
        Kind of proof, ``bearer`` when absent.
    token
        The proof itself.
    """

    type: Name | UnsetType = UNSET
    token: Annotated[str, msgspec.Meta(max_length=2048)] | UnsetType = UNSET

    def __repr__(self) -> str:
        return "Auth(...)"  # tokens stay out of logs and tracebacks


class Reference(Body, frozen=True, kw_only=True):
    """Where something large is to be had; bytes never travel inside an envelope.

    Attributes
    ----------
    name
        What it is.
    uri
        Where it is, for example a presigned URL.
    media_type
        What its bytes are, for example ``image/png``.
    size_bytes
        How many there are.
    expires
        Seconds since the epoch after which the address is void.
    """

    name: Name
    uri: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    media_type: Name | UnsetType = UNSET
    size_bytes: Seq | UnsetType = UNSET
    expires: Number | UnsetType = UNSET
