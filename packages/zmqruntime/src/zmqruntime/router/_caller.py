"""Caller: one call to an object of another process, packed, asked and read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import PeerLostError, RequestError
from zmqruntime.router._buffers import pack
from zmqruntime.router._calls import attachments
from zmqruntime.router._errors import RPCException
from zmqruntime.router._results import choose_encoding, read_result, remote_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zmqruntime._client import ZMQClient
    from zmqruntime.router._codecs import Deserializer

__all__ = ["Caller"]

_HEADROOM = 64 * 1024  # for the message itself


class Caller:
    """Makes calls on one connection; any thread.

    Parameters
    ----------
    connection
        To the server that has the objects.
    """

    def __init__(self, connection: ZMQClient) -> None:
        self._connection = connection

    def call(
        self,
        type_: str,
        body: dict[str, Any],
        args: list[Any] | dict[str, Any],
        kwargs: Mapping[str, Any] | None,
        *,
        get_timestamp: bool,
        deserializer: str | Deserializer | None,
        timeout: float,
    ) -> Any:
        """Ask for a call, and wait for what it returns.

        Parameters
        ----------
        type_, body
            Which kind of call, and of what.
        args, kwargs
            Its arguments.
        get_timestamp, deserializer, timeout
            As for `RouterClient.call`.

        Returns
        -------
        object
            As `RouterClient.call`.

        Raises
        ------
        ZmqRuntimeError
            As `RouterClient.call`.
        """
        encoding, function = choose_encoding(deserializer)
        packed = pack({"args": args, "kwargs": dict(kwargs or {})})
        body |= packed.plain
        body["buffers"] = msgspec.to_builtins(packed.table)
        body["encoding"] = encoding
        try:
            reply = self._connection.control.call(
                type_,
                body,
                attachments=attachments(packed.views, limit=self._most_bytes()),
                timeout=timeout,
            )
        except RequestError as error:
            if error.code != RPCException.code:
                raise
            raise remote_error(error) from None
        at, value = read_result(reply, function)
        return (at, value) if get_timestamp else value

    def _most_bytes(self) -> int:
        try:
            limits = self._connection.welcome.limits
        except PeerLostError:  # the call waits for the server, or fails by itself
            limits = {}
        return limits.get("request_bytes", 16 << 20) - _HEADROOM
