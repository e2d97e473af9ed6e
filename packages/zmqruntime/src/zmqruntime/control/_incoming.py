"""Incoming: what a server sends, read message by message, and who wants what nobody asked for."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from zmqruntime._errors import FrameError
from zmqruntime.control import _codec
from zmqruntime.loop._frames import receive_frames

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from zmqruntime.control._link import ControlLink
    from zmqruntime.control._messages import ReplyMessage
    from zmqruntime.loop._loop import IOThread

__all__ = ["Incoming"]

logger = logging.getLogger(__name__)


class Incoming:
    """Reads the messages of one server.

    Parameters
    ----------
    loop
        Thread on which callbacks are called.
    url
        Where the server is, for logs.
    link
        The connection.
    counters
        Where ``bad_frame`` is counted.

    Notes
    -----
    Whoever has the loop's sockets may read. Callbacks are called on the loop's own thread.
    """

    def __init__(self, loop: IOThread, url: str, link: ControlLink, counters: Counter[str]) -> None:
        self._loop = loop
        self._url = url
        self._link = link
        self._counters = counters
        self._pushes: defaultdict[str, list[Callable[[dict[str, Any]], object]]] = defaultdict(list)
        self._envelope_callbacks: list[Callable[[bytes], object]] = []

    def on_push(self, type_: str, callback: Callable[[dict[str, Any]], object]) -> None:
        """Call a function with the body of each push of a type."""
        self._pushes[type_].append(callback)

    def on_json(self, callback: Callable[[bytes], object]) -> None:
        """Call a function with each JSON message."""
        self._envelope_callbacks.append(callback)

    def read(self) -> list[bytes]:
        """Return the frames of one message; none when there is none."""
        socket = self._link.socket
        return [] if socket is None else receive_frames(socket)

    def decode(self, frames: Sequence[bytes]) -> ReplyMessage | None:
        """Read a message; those of another protocol go to whoever speaks it.

        Parameters
        ----------
        frames
            As `read` returns them.

        Returns
        -------
        ReplyMessage or None
            None when it is no reply and no push; what is no message at all is counted.
        """
        if self._envelope_callbacks and len(frames) == 2 and frames[1][:1] == b"{":
            self._loop.call_soon(self._tell_envelope, frames[1])  # another thread may read
            return None
        try:
            return _codec.decode_reply(frames[1] if len(frames) > 1 else b"")
        except FrameError as error:
            self._counters["bad_frame"] += 1
            logger.warning("%s sent what is no message: %s", self._url, error)
            return None

    def tell(self, message: ReplyMessage) -> None:
        """Call those who want a message that answers no request; on the loop."""
        if message.type == "error":
            self._counters["bad_frame"] += 1
            logger.warning("%s refused a frame of ours: %s", self._url, message.message)
            return
        for callback in self._pushes.get(message.type, ()):
            self._loop.guard(callback, message.body)

    def _tell_envelope(self, frame: bytes) -> None:
        for callback in self._envelope_callbacks:
            self._loop.guard(callback, frame)
