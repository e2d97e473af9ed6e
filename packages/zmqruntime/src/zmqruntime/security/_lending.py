"""Lending: tokens for a short while, to who asks for no more than it may do itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from zmqruntime._errors import ForbiddenError, InvalidRequestError, UnavailableError
from zmqruntime.security._capabilities import covers

if TYPE_CHECKING:
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.security._gate import Gate

__all__ = ["Lending"]


class _TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    key: Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
    capabilities: Annotated[frozenset[str], msgspec.Meta(max_length=64)]
    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 600.0


class Lending:
    """Lends the tokens of one server with keys.

    Parameters
    ----------
    gate
        Has the mint, once the server serves.
    app
        What the server calls itself.
    """

    def __init__(self, gate: Gate, app: str) -> None:
        self._gate = gate
        self._app = app

    def lend(self, *, key: str, capabilities: frozenset[str], seconds: float) -> str:
        """Make a token for a key; as `ZMQServer.lend_token`.

        Raises
        ------
        UnavailableError
            If the server was not started.
        ValueError
            If the time or the capabilities are too many.
        """
        if self._gate.mint is None:
            raise UnavailableError(f"{self._app} lends tokens once it serves, with keys")
        return self._gate.mint.mint(key=key, capabilities=capabilities, seconds=seconds)

    def answer(self, request: Request, peer: Peer) -> dict[str, Any]:
        """Answer the request ``token``: never with more than the asker may do."""
        asked = request.parse(_TokenRequest)
        if not peer.owner and not all(covers(peer.grants, each) for each in asked.capabilities):
            raise ForbiddenError("what you may not do yourself you cannot lend")
        try:
            token = self.lend(key=asked.key, capabilities=asked.capabilities, seconds=asked.seconds)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        return {"token": token, "seconds": asked.seconds}
