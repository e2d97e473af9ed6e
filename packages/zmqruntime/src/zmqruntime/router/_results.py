"""Results of calls, as the caller reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import DescriptorError
from zmqruntime._typed import from_plain
from zmqruntime.router._buffers import unpack
from zmqruntime.router._codecs import JSON, MSGPACK, RAW, decode
from zmqruntime.router._errors import RPCException
from zmqruntime.router._messages import Done, Timestamp

if TYPE_CHECKING:
    from zmqruntime._errors import RequestError
    from zmqruntime.control._messages import Reply
    from zmqruntime.router._codecs import Deserializer

__all__ = ["choose_encoding", "read_result", "remote_error"]


def choose_encoding(deserializer: str | Deserializer | None) -> tuple[str, Deserializer | None]:
    """Say which encoding to ask for, and which function reads it.

    Parameters
    ----------
    deserializer
        As for `RouterClient.call`.

    Raises
    ------
    ValueError
        If it is a word that names no encoding.
    """
    if deserializer is None:
        return RAW, None
    if not isinstance(deserializer, str):
        return RAW, deserializer
    if deserializer not in (MSGPACK, JSON):
        raise ValueError(
            f"a deserializer is 'msgpack', 'json', None or a function, not {deserializer!r}"
        )
    return deserializer, None


def read_result(reply: Reply, function: Deserializer | None) -> tuple[Timestamp, Any]:
    """Read the answer to a call: when the result was there, and the result.

    Parameters
    ----------
    reply
        The answer.
    function
        Turns bytes into a value, for encodings of the application's own.

    Raises
    ------
    DescriptorError
        If it cannot be read. What the function raises is passed on.
    """
    try:
        done = from_plain(reply.body, Done)
    except msgspec.ValidationError as error:
        raise DescriptorError(f"the answer to a call cannot be read: {error}") from error
    at = Timestamp(done.wall_ns, done.mono_ns, done.server)
    if done.encoding == MSGPACK:
        return at, unpack(done.value, done.buffers, reply.attachments)
    return at, decode(done.encoding, reply.attachments, function)


def remote_error(error: RequestError) -> RPCException:
    """Make the exception that a function raised on the server out of how it was told."""
    return RPCException(
        error.code,
        str(error),
        str(error.details.get("traceback", "")),
        type_name=str(error.details.get("type", "")),
    )
