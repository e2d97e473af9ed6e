"""ZapHandler: who may complete a handshake, asked by libzmq for every connection of a context."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zmq

from zmqruntime.security._curve import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zmqruntime.loop._loop import IOThread

__all__ = ["ZapHandler", "ZapRequest", "answer"]

logger = logging.getLogger(__name__)

_ADDRESS = "inproc://zeromq.zap.01"  # fixed by ZeroMQ RFC 27
_VERSION = b"1.0"
_MOST_READ = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ZapRequest:
    """A connection that wants to be let in.

    Attributes
    ----------
    domain
        Which sockets of the context it is for.
    address
        Where it comes from, without its port.
    mechanism
        ``CURVE`` or ``NULL``.
    key
        Public key that the client has proved to own, 40 characters of Z85; empty with NULL.
    """

    domain: str
    address: str
    mechanism: str
    key: str


class ZapHandler:
    """Answers the one ZAP address of a loop's context, on the loop.

    Parameters
    ----------
    loop
        Whose context; the constructor runs on it.
    decide
        Returns the status, ``200``, ``300`` (try again) or ``400``, and a text.

    Raises
    ------
    zmq.ZMQError
        If the context has a handler already; there can only be one.
    """

    def __init__(self, loop: IOThread, decide: Callable[[ZapRequest], tuple[str, str]]) -> None:
        self._loop = loop
        self._decide = decide
        self._socket: zmq.Socket[bytes] | None = loop.context.socket(zmq.ROUTER)
        try:
            self._socket.setsockopt(zmq.LINGER, 0)
            self._socket.bind(_ADDRESS)
        except BaseException:
            self._socket.close()
            raise
        loop.register(self._socket, self._on_readable)

    def close(self) -> None:
        """Let nobody in any more; twice is harmless."""
        if self._socket is not None:
            self._loop.unregister(self._socket)
            self._socket.unbind(_ADDRESS)  # closing alone gives the address up a moment later
            self._socket.close()
            self._socket = None

    def _on_readable(self) -> None:
        for _ in range(_MOST_READ):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                self._socket.send_multipart([*frames[:2], *answer(frames[2:], self._decide)])
            except zmq.Again:
                return


def answer(frames: Sequence[bytes], decide: Callable[[ZapRequest], tuple[str, str]]) -> list[bytes]:
    """Compose the answer to a ZAP request.

    Parameters
    ----------
    frames
        Version, request id, domain, address, routing id, mechanism and credentials.
    decide
        As for `ZapHandler`. One that raises lets nobody in.

    Returns
    -------
    list[bytes]
        Version, request id, status, text, user id and metadata. The user id, which libzmq puts on
        every message of the connection, is the public key.
    """
    number = frames[1] if len(frames) > 1 else b""
    request = _read(frames)
    if request is None:
        return [_VERSION, number, b"500", b"not understood", b"", b""]
    try:
        status, text = decide(request)
    except Exception:
        logger.exception("nobody is let in: deciding about %s failed", request.address)
        return [_VERSION, number, b"500", b"internal error", b"", b""]
    user = request.key if status == "200" else ""
    return [_VERSION, number, status.encode(), text.encode(), user.encode(), b""]


def _read(frames: Sequence[bytes]) -> ZapRequest | None:
    if len(frames) < 6 or frames[0] != _VERSION:
        return None
    mechanism, credentials = frames[5], frames[6:]
    key = ""
    if mechanism == b"CURVE":
        if len(credentials) != 1 or len(credentials[0]) != 32:
            return None
        key = to_text(credentials[0])
    return ZapRequest(
        domain=frames[2].decode("utf-8", "replace"),
        address=frames[3].decode("utf-8", "replace"),
        mechanism=mechanism.decode("utf-8", "replace"),
        key=key,
    )
